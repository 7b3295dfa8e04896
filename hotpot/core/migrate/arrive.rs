// SPDX-License-Identifier: GPL-2.0

//! A chunk that has come to us: we ask all nodes what they have of it, the owner before first, and fetch
//! what is newer than ours. Then we serve it.

use super::super::{
    format::dataset::{DatasetRecord, Moved, NOBODY},
    handler,
    host::{Host, Level, PageKey},
    msg::{Copied, MovedChunk},
    names::{self, pages_of, NameChange},
    node::{Node, GENERAL, WORKER},
    survey, take,
    takeover::{self, Best},
    unreadable, writers,
};
use kernel::{prelude::*, rbtree::RBTree};

impl Node {
    /// Whether a page has come to us, but not all that its owner before has of its chunk.
    pub(in super::super) fn is_arriving(&self, key: PageKey) -> bool {
        let us = self.id();
        let ours = |moved: &Moved| u32::from(moved.node) == us;
        self.names.arriving(key).as_ref().is_some_and(ours)
            && !self
                .names
                .chunk(key)
                .is_ok_and(|chunk| self.migration.arrived.contains(&chunk))
    }

    /// Chunks on their way to us, as the records say.
    pub(super) fn arriving(&self) -> Result<KVec<(MovedChunk, Moved)>> {
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
    pub(in super::super) fn waits_for_old_owner(&self) -> bool {
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

    /// What we have of a chunk that has moved to who asks, in order of its pages.
    pub(in super::super) fn copies_of_moved(
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
            let staged = page.staged.iter().filter(|of| of.ready && !of.cancelled);
            for of in staged.filter(|of| self.is_remains(key, of.cid)) {
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
}

/// Takes over chunks that have come to us, and tells the CD of those that are here.
pub(super) async fn arrive<H: Host>(host: &H) -> Result {
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

/// Has the CD give a chunk back to its owner before, which has served it with a page of which all
/// copies are damaged, and goes on doing so: the move is given up. As in any move it asks us what
/// we have before it serves.
async fn give_back<H: Host>(
    host: &H,
    chunk: &MovedChunk,
    moved: &Moved,
    damaged: PageKey,
) -> Result {
    let change = NameChange::Move {
        dataset: chunk.dataset,
        chunk: moved.chunk,
        from: moved.node,
        to: moved.from,
    };
    let until = handler::call_until(host, u64::MAX);
    names::send(host, &change, until).await?;
    host.log(
        Level::Warning,
        format_args!(
            "chunk {} of dataset {} goes back to node {}: all copies of its page {} are damaged \
             (see potluck scrub)",
            chunk.chunk, chunk.dataset, moved.from, damaged.page
        ),
    );
    Ok(())
}

/// Learns from all nodes what they have of a chunk that has come to us, and fetches what is newer than ours.
/// EIO when it goes back, since a page of it cannot be read.
async fn gather<H: Host>(host: &H, chunk: &MovedChunk, moved: &Moved) -> Result {
    let mut best: RBTree<PageKey, Best> = RBTree::new();
    let mut staged = KVec::new();
    let from = u32::from(moved.from);
    let (epoch, us, others) = host.with(|node| {
        let us = node.us();
        for copy in node.copies_of_moved(chunk, survey::FIRST, usize::MAX)? {
            takeover::note(&mut best, &mut staged, us, &copy)?;
        }
        let others = node.others()?;
        if !node.is_out(from) && !others.contains(&from) {
            // It may still own the chunk, as far as it knows.
            return Err(EAGAIN);
        }
        Ok::<_, Error>((node.map.epoch, us, others))
    })?;
    // Some nodes may not know yet that a commit of theirs has released a page.
    let hints = match others.contains(&from) {
        true => {
            let until = handler::call_until(host, u64::MAX);
            writers::ask_writers(host, from, chunk, until).await?
        }
        false => KVec::new(),
    };
    let of = Some(*chunk);
    let here = takeover::ask_copies(host, &others, of, &mut best, &mut staged, u64::MAX).await?;
    // Where nothing is mounted nothing that is there is valid when something is; but the owner before knows more.
    if others.contains(&from) && !here.contains(&from) {
        return Err(EHOSTDOWN);
    }
    writers::rebuild(host, &here, &hints, u64::MAX).await?;
    host.with(|node| node.claim_own_writes(&hints))?;
    let until = handler::call_until(host, u64::MAX);
    takeover::settle_staged(host, &best, &staged, until).await?;
    let pages = best.iter().count();
    // However many they are: each message has a deadline of its own.
    let taken = take::take_all(host, us.node, &best, u64::MAX).await?;
    if let Some(page) = taken.unreadable.first() {
        let has = |key: &PageKey| {
            let of = best.get(key).map_or(&[][..], |of| &of.holders);
            of.iter().any(|holder| holder.node == from)
        };
        if taken.unreadable.iter().all(|page| has(&page.key)) {
            give_back(host, chunk, moved, page.key).await?;
            return Err(EIO);
        }
        // Who had the chunk before is out, with the page: there is no way back.
        unreadable::keep_all(host, &taken.unreadable, u64::MAX).await?;
    }
    let fetched = taken.fetched;
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
        node.migration.count(chunk.dataset, |of| &mut of.came);
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
