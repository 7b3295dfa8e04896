// SPDX-License-Identifier: GPL-2.0

//! Chunk migration [2.5.5]: a chunk goes to the node that reads and commits most of it.
//!
//! The owner counts what each node moves to and from a chunk in a window of time. When another node
//! would save enough (benefit) for what has to be copied to it (cost), the owner has that node fetch
//! the pages it lacks, while everything goes on. Then the CD writes into the dataset's record who the
//! new owner is. A node that has the new record drops the validity of its copies of the chunk, takes them out of its page
//! tables, and asks the new owner from then on. The new owner takes the chunk over like that
//! of a node that is lost ([`takeover`](super::takeover)), but does not begin before the owner before has told
//! what it has: which it does once it knows the record, and its last commits on the chunk have ended.
//! So there is one owner at most at any time, whoever fails: nothing but the record decides.
//! At last the CD takes the owner before out of the record.

use super::{
    format::{
        dataset::{DatasetRecord, Moved, NOBODY},
        PAGE_SIZE,
    },
    handler,
    host::{Action, Host, Level, PageKey},
    msg::{Copied, MovedChunk},
    names::{self, pages_of, NameChange},
    node::{Holder, Node, GENERAL, WORKER},
    persist,
    spread::{Adopt, Adoption},
    takeover::{self, Best},
    writers,
};
use kernel::{prelude::*, rbtree::RBTree};

/// When chunks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether they do.
    pub enabled: bool,
    /// Over how long traffic is counted, ns.
    pub window: u64,
    /// Bytes that a node must save in a window.
    pub min_benefit: u64,
    /// Bytes that may be copied for the moves of a window; no move costs more than it saves in four
    /// windows.
    pub max_cost: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            // Not before it has been shown in guests.
            enabled: false,
            window: 2_000_000_000,
            min_benefit: 256 << 10,
            max_cost: 64 << 20,
        }
    }
}

/// What has moved since the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks that have left this node.
    pub left: u64,
    /// Chunks that have come.
    pub came: u64,
    /// Moves that were given up: no room there, or the CD refused.
    pub refused: u64,
}

/// A dataset and the number of one of its chunks.
type Chunk = (u64, u64);

/// A chunk of ours that is to go.
struct Leaving {
    of: Chunk,
    to: u16,
    /// Pages before are copied.
    at: PageKey,
}

/// Chunks that move, at one node.
#[derive(Default)]
pub struct Migration {
    /// When.
    pub policy: Policy,
    /// How many.
    pub counts: Counts,
    /// Bytes that nodes have moved in this window, by chunk of ours.
    traffic: RBTree<Chunk, KVec<(u32, u64)>>,
    /// When the window ends, ns.
    window_end: u64,
    leaving: KVec<Leaving>,
    /// Chunks that have come to us, all of whose pages are here: in this life.
    arrived: KVec<Chunk>,
    /// Chunks with another owner than before, which are still in page tables, and when we learnt that.
    unmap: KVec<(Chunk, u64)>,
    serial: u64,
}

/// Most chunks whose traffic is counted in a window.
const MAX_COUNTED: usize = 4096;
/// Pages that the new owner is asked to fetch at once.
const BATCH: usize = 16;
/// How many such requests there are in one round of the worker.
const ROUNDS: usize = 8;

impl Node {
    /// A node reads or commits bytes of a page of ours.
    pub(super) fn note_traffic(&mut self, key: PageKey, node: u32, bytes: usize) {
        if !self.migration.policy.enabled {
            return;
        }
        let Ok(chunk) = self.names.chunk(key) else {
            return;
        };
        let traffic = &mut self.migration.traffic;
        if traffic.get(&chunk).is_none() {
            // What is not counted does not move.
            let full = traffic.values().count() >= MAX_COUNTED;
            let counted = KVec::new();
            if full
                || traffic
                    .try_create_and_insert(chunk, counted, GFP_KERNEL)
                    .is_err()
            {
                return;
            }
        }
        if let Some(nodes) = traffic.get_mut(&chunk) {
            match nodes.iter_mut().find(|(id, _)| *id == node) {
                Some((_, sum)) => *sum = sum.saturating_add(bytes as u64),
                None => {
                    let _ = nodes.push((node, bytes as u64), GFP_KERNEL);
                }
            }
        }
    }

    /// Whether a page has come to us, but not all that its owner before has of its chunk.
    pub(super) fn is_arriving(&self, key: PageKey) -> bool {
        let us = self.id();
        let ours = |moved: &Moved| u32::from(moved.node) == us;
        self.names.arriving(key).as_ref().is_some_and(ours)
            && !self
                .names
                .chunk(key)
                .is_ok_and(|chunk| self.migration.arrived.contains(&chunk))
    }

    /// Chunks on their way to us, as the records say.
    fn arriving(&self) -> Result<KVec<(MovedChunk, Moved)>> {
        let mut arriving = KVec::new();
        let us = self.id();
        for (id, entry) in self.names.entries.iter() {
            let record = &entry.record;
            let moved = record
                .moved
                .iter()
                .filter(|of| !record.tombstone && of.from != NOBODY && u32::from(of.node) == us);
            for of in moved {
                let chunk = MovedChunk {
                    dataset: *id,
                    chunk: u64::from(of.chunk),
                    generation: record.generation,
                };
                arriving.push((chunk, *of), GFP_KERNEL)?;
            }
        }
        Ok(arriving)
    }

    /// Whether a chunk was on its way to a node that is out, and who had it before is expected back: it may
    /// be the only one that has some pages.
    pub(super) fn waits_for_old_owner(&self) -> bool {
        let records = self.names.entries.values().map(|entry| &entry.record);
        let mut moved = records.flat_map(|record| record.moved.iter());
        moved.any(|of| {
            let from = u32::from(of.from);
            of.from != NOBODY
                && self.is_out(u32::from(of.node))
                && !self.is_out(from)
                && !self.is_up(from)
        })
    }

    /// Whether chunks are on their way, from us or to us.
    pub(super) fn has_moves(&self) -> bool {
        !self.migration.leaving.is_empty()
            || !self.migration.unmap.is_empty()
            || self.arriving().map_or(true, |all| !all.is_empty())
    }

    /// Before a new record is taken over: who owns the chunks that it, or the old one, says moved.
    pub(super) fn owners_before(&mut self, new: &DatasetRecord) -> Result<KVec<(u64, u32)>> {
        let mut before = KVec::new();
        let Ok(old) = self.names.get(new.id) else {
            return Ok(before);
        };
        if new.tombstone {
            return Ok(before);
        }
        for of in Iterator::chain(old.moved.iter(), new.moved.iter()) {
            let chunk = u64::from(of.chunk);
            let owner = self.names.owner(pages_of(old, chunk).0).unwrap_or(u32::MAX);
            if !before.contains(&(chunk, owner)) {
                before.push((chunk, owner), GFP_KERNEL)?;
            }
        }
        self.migration.unmap.reserve(before.len(), GFP_KERNEL)?;
        Ok(before)
    }

    /// A new record was taken over: of chunks that have another owner now than `before`, nothing that was
    /// known counts.
    pub(super) fn note_moved(&mut self, dataset: u64, before: &[(u64, u32)]) {
        for (chunk, owner) in before {
            let Ok(record) = self.names.get(dataset) else {
                return;
            };
            let (first, count) = pages_of(record, *chunk);
            let moved = self.names.owner(first) != Ok(*owner);
            let open = self.names.arriving(first).is_some();
            let within = |key: &PageKey| {
                key.dataset == dataset && key.page >= first.page && key.page - first.page < count
            };
            let waits = open && *owner == self.id();
            if !(self.owns(first) || waits) {
                // The next owner has asked who writes it, or will not ask us.
                self.writers.free(|key, _| within(key));
            }
            if !moved {
                continue;
            }
            self.generation += 1;
            for (_, page) in self.pages.iter_mut().filter(|(key, _)| within(key)) {
                page.sequence = page.sequence.wrapping_add(1);
                page.mapped = false;
                if let Some(clean) = &mut page.clean {
                    clean.valid = false;
                }
            }
            for (_, owned) in self.owned.iter_mut().filter(|(key, _)| within(key)) {
                owned.holders.clear();
                owned.kept.clear();
            }
            let migration = &mut self.migration;
            migration.arrived.retain(|of| *of != (dataset, *chunk));
            migration.leaving.retain(|of| of.of != (dataset, *chunk));
            migration.traffic.remove(&(dataset, *chunk));
            migration.serial += 1;
            let note = ((dataset, *chunk), migration.serial);
            let _ = migration.unmap.push_within_capacity(note);
            if *owner == self.id() {
                self.migration.counts.left += 1;
            }
        }
        if !before.is_empty() {
            for queue in WORKER..=GENERAL {
                self.wake(queue);
            }
        }
    }

    /// What we have of a chunk that has moved to who asks, in order of its pages.
    pub(super) fn copies_of_moved(
        &mut self,
        moved: &MovedChunk,
        from: PageKey,
        most: usize,
    ) -> Result<KVec<Copied>> {
        let known = self.names.entries.get(&moved.dataset);
        if known.is_none_or(|entry| entry.record.generation < moved.generation) {
            self.names.stale = true;
            self.wake(WORKER);
            return Err(EAGAIN);
        }
        let chunk = (moved.dataset, moved.chunk);
        if self.migration.unmap.iter().any(|(of, _)| *of == chunk) {
            return Err(EAGAIN);
        }
        let (first, count) = pages_of(self.names.get(moved.dataset)?, moved.chunk);
        let end = first.page.saturating_add(count);
        let within = |key: &PageKey| {
            key.dataset == moved.dataset && key.page >= first.page && key.page < end
        };
        let mut owned = self.owned.iter();
        if owned.any(|(key, owned)| within(key) && owned.txn.is_some()) {
            return Err(EAGAIN);
        }
        let mut copies = KVec::new();
        let mut at = first.max(from);
        while let Some((key, page)) = self.pages.next(at).filter(|(key, _)| within(key)) {
            at.page = key.page + 1;
            if copies.len() >= most {
                break;
            }
            // What became of what it had staged its owner before tells, unless it is lost.
            let orphan = self.is_orphan(key);
            let staged = page.staged.iter().filter(|of| of.ready && !of.cancelled);
            for of in staged.filter(|_| orphan) {
                let copy = Copied {
                    key,
                    version: of.version,
                    cid: of.cid,
                    staged: true,
                };
                copies.push(copy, GFP_KERNEL)?;
            }
            let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) else {
                continue;
            };
            let copy = Copied {
                key,
                version: clean.version,
                cid: clean.cid,
                staged: false,
            };
            copies.push(copy, GFP_KERNEL)?;
        }
        Ok(copies)
    }

    /// Bytes of a chunk of ours that a node would have to fetch.
    fn cost(&self, of: Chunk, to: u32) -> u64 {
        let Ok(record) = self.names.get(of.0) else {
            return u64::MAX;
        };
        let (first, count) = pages_of(record, of.1);
        let mut at = first;
        let mut pages = 0;
        while let Some((key, page)) = self.pages.next(at) {
            if key.dataset != first.dataset || key.page >= first.page.saturating_add(count) {
                break;
            }
            at.page = key.page + 1;
            let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) else {
                continue;
            };
            let kept = self.owned.get(&key).is_some_and(|owned| {
                let mut kept = owned.kept.iter();
                kept.any(|(id, version)| *id == to && *version == clean.version)
            });
            pages += u64::from(!kept);
        }
        pages * PAGE_SIZE as u64
    }

    /// At the end of a window: chooses what is to move, the greatest benefit first.
    fn choose_moves(&mut self, now: u64) -> Result {
        let policy = self.migration.policy;
        if now < self.migration.window_end {
            return Ok(());
        }
        let first = self.migration.window_end == 0;
        self.migration.window_end = now.saturating_add(policy.window);
        let traffic = core::mem::take(&mut self.migration.traffic);
        if first || !policy.enabled || !self.is_fenced() {
            return Ok(());
        }
        let us = self.id();
        let mut chosen: KVec<(u64, Chunk, u32)> = KVec::new();
        for (chunk, nodes) in traffic.iter() {
            let of = |id: u32| {
                nodes
                    .iter()
                    .find(|(node, _)| *node == id)
                    .map_or(0, |of| of.1)
            };
            let others = nodes.iter().filter(|(id, _)| *id != us && self.is_up(*id));
            let Some((to, theirs)) = others.max_by_key(|(_, bytes)| *bytes) else {
                continue;
            };
            // What is local now goes over the network afterwards.
            let benefit = theirs.saturating_sub(of(us));
            let Ok(record) = self.names.get(chunk.0) else {
                continue;
            };
            let (page, _) = pages_of(record, chunk.1);
            let settled = self.owns(page)
                && !self.names.is_inherited(page)
                && self.names.arriving(page).is_none()
                && (record.has_room_to_move() || record.moved(chunk.1).is_some());
            if settled && benefit >= policy.min_benefit.max(1) {
                chosen.push((benefit, *chunk, *to), GFP_KERNEL)?;
            }
        }
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = policy.max_cost;
        for (benefit, chunk, to) in &chosen {
            let cost = self.cost(*chunk, *to);
            if cost <= left && cost <= benefit.saturating_mul(4) {
                left -= cost;
                self.send_away(*chunk, *to)?;
            }
        }
        Ok(())
    }

    fn send_away(&mut self, of: Chunk, to: u32) -> Result {
        let (at, _) = pages_of(self.names.get(of.0)?, of.1);
        if self.migration.leaving.iter().any(|other| other.of == of) {
            return Ok(());
        }
        let leaving = Leaving {
            of,
            to: u16::try_from(to)?,
            at,
        };
        self.migration.leaving.push(leaving, GFP_KERNEL)?;
        self.wake(WORKER);
        Ok(())
    }

    /// Has a chunk of ours go to another node, by the worker. ESTALE when it is not ours.
    pub fn move_chunk(&mut self, dataset: u64, chunk: u64, to: u32) -> Result {
        self.check_ready()?;
        let (first, _) = pages_of(self.names.get(dataset)?, chunk);
        self.check_owned(first)?;
        match to == self.id() {
            true => Err(EINVAL),
            false => self.send_away((dataset, chunk), to),
        }
    }

    /// Whether we serve a page as its owner. Two nodes never do, of those that the map has up.
    pub fn serves(&self, key: PageKey) -> bool {
        self.check_ready().is_ok() && self.check_owned(key).is_ok()
    }

    /// Some pages of a chunk that its next owner does not have, and where to go on.
    fn lacking(&self, leaving: &Leaving) -> Result<(KVec<PageKey>, PageKey)> {
        let mut keys = KVec::new();
        let mut at = leaving.at;
        let (first, count) = pages_of(self.names.get(leaving.of.0)?, leaving.of.1);
        while let Some((key, page)) = self.pages.next(at) {
            if key.dataset != first.dataset
                || key.page >= first.page.saturating_add(count)
                || keys.len() == BATCH
            {
                break;
            }
            at.page = key.page + 1;
            let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) else {
                continue;
            };
            let has = (u32::from(leaving.to), clean.version);
            let owned = self.owned.get(&key);
            if !owned.is_some_and(|owned| owned.kept.contains(&has)) {
                keys.push(key, GFP_KERNEL)?;
            }
        }
        Ok((keys, at))
    }
}

/// One round of the worker. `true`, or an error: something is on its way.
pub(super) async fn run<H: Host>(host: &H) -> Result<bool> {
    unmap_moved(host).await?;
    arrive(host).await?;
    let now = host.now();
    host.with(|node| node.choose_moves(now))?;
    for _ in 0..ROUNDS {
        let next = host.with(|node| node.migration.leaving.remove(0));
        let Ok(leaving) = next else {
            break;
        };
        match send_off(host, leaving).await {
            Ok(None) => {}
            Ok(Some(again)) => {
                host.with(|node| Ok::<_, Error>(node.migration.leaving.push(again, GFP_KERNEL)?))?
            }
            Err(_) => host.with(|node| node.migration.counts.refused += 1),
        }
    }
    Ok(host.with(|node| node.has_moves()))
}

/// Takes chunks that have another owner now out of all page tables. Whoever has just found a copy valid
/// has mapped it before.
pub(super) async fn unmap_moved<H: Host>(host: &H) -> Result {
    loop {
        let next = host.with(|node| {
            let Some((chunk, serial)) = node.migration.unmap.first().copied() else {
                return Ok(None);
            };
            let Ok(record) = node.names.get(chunk.0) else {
                node.migration.unmap.retain(|(of, _)| *of != chunk);
                return Ok(Some(None));
            };
            let (first, count) = pages_of(record, chunk.1);
            let mut busy = KVec::new();
            for (key, page) in node.pages.iter() {
                let within = key.dataset == first.dataset
                    && key.page >= first.page
                    && key.page - first.page < count;
                if within && page.busy != 0 {
                    busy.push(*key, GFP_KERNEL)?;
                }
            }
            Ok::<_, Error>(Some(Some((chunk, serial, first, count, busy))))
        })?;
        let (chunk, serial, first, count, busy) = match next {
            None => return Ok(()),
            Some(None) => continue,
            Some(Some(next)) => next,
        };
        let until = handler::call_until(host, u64::MAX);
        for key in &busy {
            persist::wait_idle(host, *key, until).await?;
        }
        host.run(&[Action::Unmap { first, count }]).await?;
        host.with(|node| {
            node.migration
                .unmap
                .retain(|(of, nr)| *of != chunk || *nr > serial);
        });
    }
}

/// Takes over chunks that have come to us, and tells the CD of those that are here.
async fn arrive<H: Host>(host: &H) -> Result {
    let arriving = host.with(|node| node.arriving())?;
    let mut result = Ok(());
    for (chunk, moved) in &arriving {
        let here = host.with(|node| {
            let arrived = &node.migration.arrived;
            arrived.contains(&(chunk.dataset, chunk.chunk))
        });
        let gathered = match here {
            true => Ok(()),
            false => gather(host, chunk, moved).await,
        };
        if gathered.is_err() {
            result = gathered;
            continue;
        }
        let change = NameChange::Arrived {
            dataset: chunk.dataset,
            chunk: moved.chunk,
            node: moved.node,
        };
        let until = handler::call_until(host, u64::MAX);
        result = result.and(names::send(host, &change, until).await.map(|_| ()));
    }
    result
}

/// Learns from all nodes what they have of a chunk that has come to us, and fetches what is newer than ours.
async fn gather<H: Host>(host: &H, chunk: &MovedChunk, moved: &Moved) -> Result {
    let mut best: RBTree<PageKey, Best> = RBTree::new();
    let mut staged = KVec::new();
    let from = u32::from(moved.from);
    let (epoch, us, peers) = host.with(|node| {
        let us = node.us();
        let start = takeover::first_page();
        for copy in node.copies_of_moved(chunk, start, usize::MAX)? {
            takeover::note(&mut best, &mut staged, us, &copy)?;
        }
        let mut peers = KVec::new();
        for peer in node.map.up().filter(|peer| peer.id != us.node) {
            let holder = Holder {
                node: peer.id,
                incarnation: peer.incarnation,
            };
            peers.push(holder, GFP_KERNEL)?;
        }
        if !node.is_out(from) && !peers.iter().any(|peer| peer.node == from) {
            // It may still own the chunk, as far as it knows.
            return Err(EAGAIN);
        }
        Ok::<_, Error>((node.map.epoch, us, peers))
    })?;
    // Some nodes may not know yet that a commit of theirs has released a page.
    let hints = match peers.iter().any(|peer| peer.node == from) {
        true => {
            let until = handler::call_until(host, u64::MAX);
            writers::ask_writers(host, from, chunk, until).await?
        }
        false => KVec::new(),
    };
    for peer in &peers {
        let until = handler::call_until(host, u64::MAX);
        let asked = takeover::ask_copies(host, *peer, Some(*chunk), &mut best, &mut staged, until);
        match asked.await {
            Ok(()) => writers::rebuild(host, peer.node, &hints, until)
                .await
                .map_err(handler::errno)?,
            // Nothing is mounted there, and nothing that it has is valid when it is.
            Err(EHOSTDOWN) if peer.node != from => {}
            Err(error) => return Err(error),
        }
    }
    host.with(|node| node.claim_own_writes(&hints))?;
    let until = handler::call_until(host, u64::MAX);
    takeover::settle_staged(host, &best, &staged, until).await?;
    let (mut pages, mut fetched) = (0u64, 0u64);
    for (key, of) in best.iter() {
        let until = handler::call_until(host, u64::MAX);
        pages += 1;
        fetched += u64::from(takeover::take(host, us.node, *key, of, until).await?);
    }
    host.with(|node| {
        let same =
            |known: &DatasetRecord| known.moved(chunk.chunk) == Some(*moved) && !known.tombstone;
        if node.map.epoch != epoch || !node.names.get(chunk.dataset).is_ok_and(same) {
            return Err(EAGAIN);
        }
        for (key, of) in best.iter() {
            let clean = node.pages.get(*key).and_then(|page| page.clean);
            let version = clean.map_or(0, |clean| clean.version);
            let owned = node.owned_entry(*key)?;
            owned.holders.clear();
            owned.kept.clear();
            let holders = of.holders.iter().filter(|of| of.node != us.node);
            for holder in holders.filter(|_| of.version == version) {
                owned.holders.push(*holder, GFP_KERNEL)?;
                owned.kept.push((holder.node, version), GFP_KERNEL)?;
            }
            if let Some(page) = node.pages.get_mut(*key) {
                if let Some(clean) = &mut page.clean {
                    clean.valid = true;
                }
                page.sequence = page.sequence.wrapping_add(1);
            }
        }
        node.migration
            .arrived
            .push((chunk.dataset, chunk.chunk), GFP_KERNEL)?;
        node.migration.counts.came += 1;
        for queue in WORKER..=GENERAL {
            node.wake(queue);
        }
        Ok(())
    })?;
    host.log(
        Level::Info,
        format_args!(
            "chunk {} of dataset {} has come from node {from}: {pages} pages, {fetched} of them fetched now",
            chunk.chunk, chunk.dataset
        ),
    );
    Ok(())
}

/// Has the next owner of a chunk fetch some of what it lacks; when that is all, has the CD give it the chunk.
/// `Some`: there is more. An error: it stays here.
async fn send_off<H: Host>(host: &H, mut leaving: Leaving) -> Result<Option<Leaving>> {
    let (dataset, chunk) = leaving.of;
    let (keys, at) = host.with(|node| {
        let (first, _) = pages_of(node.names.get(dataset)?, chunk);
        node.check_owned(first)?;
        node.lacking(&leaving)
    })?;
    let until = handler::call_until(host, u64::MAX);
    if !keys.is_empty() {
        let to = u32::from(leaving.to);
        let adopt = Adopt { keys };
        let answers = handler::ask(host, to, &adopt, until)
            .await
            .map_err(handler::errno)?;
        for (key, answer) in adopt.keys.iter().zip(&answers) {
            match answer.adoption {
                Adoption::Kept => host.with(|node| node.adopted(*key, to, answer.version))?,
                Adoption::NoSpace => return Err(ENOSPC),
                // It fetches it when the chunk is there.
                Adoption::Later => {}
            }
        }
        leaving.at = at;
        return Ok(Some(leaving));
    }
    let change = NameChange::Move {
        dataset,
        chunk: u32::try_from(chunk)?,
        from: host.with(|node| node.id() as u16),
        to: leaving.to,
    };
    // Whether it moves when nobody answers the record tells.
    names::send(host, &change, until).await?;
    Ok(None)
}
