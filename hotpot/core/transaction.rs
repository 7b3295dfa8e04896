// SPDX-License-Identifier: GPL-2.0

//! The owner's part of one commit: it locks the pages, makes the new versions durable here
//! and where copies are wanted, and promises (or decides, as the only owner). Publishing and undoing is
//! [`ending`](super::ending)'s.

use super::{
    area::Area,
    data_node,
    ending::{finish, swing_log, undo},
    eviction,
    fault::PAUSE,
    format::{redo_log, slot, Cid, PageVersion, RedoRecord, BODY_SIZE, PAGE_SIZE},
    handler,
    host::{CallError, Host, PageKey, Piece, Sleep, Ticket},
    integrity,
    msg::{Request, Settle},
    node::{Holder, Node, Notice, NoticeKind, Txn, TxnPage, TxnState, GENERAL},
    pages::Staged,
    persist::{self, Batch, NewPage},
    replicate,
    resolve::DOUBT,
};
use kernel::{prelude::*, rbtree::RBTreeNodeReservation};

/// How long a commit waits at most for the end of one that has some of its bytes, before its
/// user is told of it, ns.
const CONFLICT: u64 = 1_000_000_000;

/// A commit to prepare.
pub(super) struct Prepare<'a> {
    pub(super) cid: Cid,
    /// [`Node::life_of`] the committing node when it asked.
    pub(super) life: u64,
    /// The committing node.
    pub(super) cn: Holder,
    pub(super) nr_owners: u32,
    /// Their ids when there are several.
    pub(super) owners: &'a [u16],
    /// MRSW: its pages have no writer afterwards.
    pub(super) release: bool,
    pub(super) replicas: u32,
    pub(super) wait: bool,
    /// In order, without overlaps, not empty.
    pub(super) areas: &'a [Area<'a>],
    pub(super) until: u64,
}

/// What came of taking the pages of a commit.
enum Lock {
    /// They are taken.
    Taken,
    /// Something is in the way that goes.
    Wait(Ticket),
    /// The data nodes of a commit that was undone have to say so: that waits for no other commit.
    Soon(Ticket),
    /// This commit has some of the bytes, in this page.
    Conflict(Cid, PageKey),
}

impl Node {
    /// Takes all pages of a commit, and room for it, or says what to wait for.
    fn lock(&mut self, prepare: &Prepare<'_>, now: u64) -> Result<Lock> {
        self.check_ready()?;
        let cn = u32::from(prepare.cid.node());
        if self.is_refused(prepare.cid) || self.life_of(cn) != prepare.life {
            return Err(ECANCELED);
        }
        if self.txns.get(&prepare.cid).is_some() {
            return Err(EALREADY);
        }
        if self.map.up().count() < prepare.replicas as usize {
            return Err(EHOSTDOWN);
        }
        let (mut wait_for, mut undone) = (None, None);
        for area in prepare.areas {
            match self.check_owned(area.key) {
                // Its pages are on their way to us.
                Err(EAGAIN) if self.is_arriving(area.key) => {
                    return Ok(Lock::Wait(self.ticket(GENERAL)))
                }
                owned => owned?,
            }
            self.check_writer(area.key, prepare.cn)?;
            let Some(other) = self.owned.get(&area.key).and_then(|owned| owned.txn) else {
                continue;
            };
            if !self.has_commit(area.key) {
                undone = Some(area.key);
                continue;
            }
            self.hurry(area.key, now);
            wait_for = Some(area.key);
            let span = area.span();
            if let Some(txn) = self.txns.get(&other) {
                if txn.spans.iter().any(|theirs| theirs.overlaps(&span)) {
                    return Ok(Lock::Conflict(other, area.key));
                }
            }
        }
        if let Some(key) = wait_for {
            return Ok(Lock::Wait(self.page_ticket(key)));
        }
        if let Some(key) = undone {
            return Ok(Lock::Soon(self.page_ticket(key)));
        }
        if !self.is_fenced() {
            return Ok(Lock::Wait(self.ticket(GENERAL)));
        }
        let mut txn = Txn {
            orphan: false,
            state: TxnState::Preparing,
            cancelled: false,
            nr_owners: prepare.nr_owners,
            owners: KVec::new(),
            release: prepare.release,
            replicas: prepare.replicas,
            epoch: self.map.epoch,
            pages: KVec::new(),
            spans: KVec::with_capacity(prepare.areas.len(), GFP_KERNEL)?,
            staged: KVec::new(),
            asked: KVec::new(),
            log: (0, 0),
            unfinished: None,
            since: now,
        };
        txn.owners.extend_from_slice(prepare.owners, GFP_KERNEL)?;
        let reservation = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let taken = self.take_room(prepare, &mut txn);
        if let Err(error) = taken {
            for page in &txn.pages {
                self.space.give(page.pm);
            }
            for area in prepare.areas {
                self.pages.prune(area.key);
            }
            self.log.give_run(txn.log.0, txn.log.1);
            return Err(error);
        }
        for area in prepare.areas {
            self.note_traffic(area.key, prepare.cn.node, area.bytes.len());
        }
        // Nothing can fail from here on.
        let generation = self.generation;
        for page in &txn.pages {
            if let Some(owned) = self.owned.get_mut(&page.key) {
                owned.txn = Some(prepare.cid);
            }
            if let Some(entry) = self.pages.get_mut(page.key) {
                let _ = entry.staged.push_within_capacity(Staged {
                    cid: prepare.cid,
                    version: page.base + 1,
                    pm: page.pm,
                    ready: false,
                    cancelled: false,
                    since: now,
                    generation,
                });
            }
        }
        self.txns.insert(reservation.into_node(prepare.cid, txn));
        Ok(Lock::Taken)
    }

    fn take_room(&mut self, prepare: &Prepare<'_>, txn: &mut Txn) -> Result {
        for area in prepare.areas {
            txn.spans.push(area.span(), GFP_KERNEL)?;
            if txn.pages.last().is_some_and(|page| page.key == area.key) {
                continue;
            }
            txn.pages.reserve(1, GFP_KERNEL)?;
            self.owned_entry(area.key)?;
            let entry = self.pages.entry(area.key)?;
            entry.staged.reserve(1, GFP_KERNEL)?;
            let (base, before) = entry
                .clean
                .map_or((0, Cid(0)), |clean| (clean.version, clean.cid));
            let pm = self.space.take().ok_or(ENOSPC)?;
            txn.pages.push(
                TxnPage {
                    key: area.key,
                    base,
                    before,
                    pm,
                },
                GFP_KERNEL,
            )?;
        }
        // A commit of one page at its own node needs no record: the word of the
        // page's slot decides.
        let local = u32::from(prepare.cid.node()) == self.id();
        if !(local && prepare.nr_owners == 1 && txn.pages.len() == 1) {
            let blocks = record_of(prepare.cid, txn).nr_blocks();
            let first = self.log.take_run(blocks).ok_or(ENOSPC)?;
            txn.log = (first, blocks);
        }
        Ok(())
    }
}

/// The log record of a commit.
pub(super) fn record_of(cid: Cid, txn: &Txn) -> RedoRecord {
    RedoRecord {
        cid,
        epoch: txn.epoch,
        nr_owners: txn.nr_owners,
        replicas: txn.replicas,
        nr_entries: txn.pages.len() as u32,
        data_len: (txn.owners.len() * 2) as u32,
    }
}

/// How many pages areas (in order) are in.
fn pages_of(areas: &[Area<'_>]) -> u64 {
    let next = areas.iter().skip(1);
    let changes = areas.iter().zip(next).filter(|(a, b)| a.key != b.key);
    1 + changes.count() as u64
}

/// Phase 1 at the owner; all phases when it is the only one. On an error nothing
/// is left of the commit here, nor, where this owner alone can say so, at its data nodes;
/// EINPROGRESS when one of them did not confirm that in time: a successor of ours
/// would publish what it finds there.
pub(super) async fn prepare<H: Host>(host: &H, prepare: &Prepare<'_>) -> Result {
    let begun = host.now();
    loop {
        let now = host.now();
        let mut soon = false;
        let ticket = match host.with(|node| node.lock(prepare, now)) {
            Ok(Lock::Taken) => break,
            Ok(Lock::Wait(ticket)) => ticket,
            Ok(Lock::Soon(ticket)) => {
                soon = now < begun.saturating_add(DOUBT);
                ticket
            }
            Ok(Lock::Conflict(other, key)) => {
                // Whoever is told tries again: not before that can succeed.
                if prepare.wait {
                    let half = prepare.until.saturating_sub(now) / 2;
                    outlast(host, other, key, now + half.min(CONFLICT)).await?;
                }
                return Err(EAGAIN);
            }
            // Of the log there is no more to be had.
            Err(ENOSPC) if host.with(|node| node.space.free() >= pages_of(prepare.areas)) => {
                return Err(ENOSPC)
            }
            Err(ENOSPC) => {
                let want = pages_of(prepare.areas);
                let half = now + prepare.until.saturating_sub(now) / 2;
                match eviction::make_room(host, want, half).await? {
                    true if host.now() < prepare.until => continue,
                    _ => return Err(ENOSPC),
                }
            }
            Err(error) => return Err(error),
        };
        if now >= prepare.until {
            return Err(ETIMEDOUT);
        }
        let fenced = host.with(|node| node.is_fenced());
        if fenced && !prepare.wait && !soon {
            return Err(EBUSY);
        }
        let a_while = prepare.until.min(now.saturating_add(DOUBT));
        host.wait(ticket, a_while, Sleep::Uninterruptible).await?;
    }
    match try_prepare(host, prepare).await {
        // What fails from here on may have been decided before.
        Ok(()) if prepare.nr_owners == 1 => finish(host, prepare.cid).await.map_err(in_doubt),
        Ok(()) => Ok(()),
        Err(error) => {
            undo(host, prepare.cid).await.map_err(in_doubt)?;
            let local = prepare.cn.node == host.with(|node| node.id());
            if prepare.nr_owners != 1 && !local {
                // The committing node knows that we have not promised it.
                return Err(error);
            }
            let grace = prepare.until.saturating_sub(begun) / 3;
            let until = prepare.until.saturating_add(grace);
            match confirm_undone(host, prepare.cid, until).await {
                Ok(true) => Err(error),
                _ => Err(EINPROGRESS),
            }
        }
    }
}

/// Waits until a commit that has a page is published or undone.
async fn outlast<H: Host>(host: &H, cid: Cid, key: PageKey, until: u64) -> Result {
    loop {
        let now = host.now();
        let ticket = host.with(|node| {
            let has = node.owned.get(&key).and_then(|owned| owned.txn) == Some(cid);
            let has = has && node.has_commit(key);
            node.hurry(key, now);
            has.then(|| node.page_ticket(key))
        });
        let Some(ticket) = ticket.filter(|_| now < until) else {
            return Ok(());
        };
        let a_while = until.min(now.saturating_add(DOUBT));
        host.wait(ticket, a_while, Sleep::Uninterruptible).await?;
    }
}

fn in_doubt(_: Error) -> Error {
    EINPROGRESS
}

/// Has the data nodes of a commit that is undone here confirm that they have nothing of it any
/// more, and will not; whether all have, until `until` or a moment from now. The worker goes
/// on with those that have not.
pub(super) async fn confirm_undone<H: Host>(host: &H, cid: Cid, until: u64) -> Result<bool> {
    let until = until.max(host.now().saturating_add(PAUSE));
    loop {
        let (epoch, left) = host.with(|node| {
            let mut left = KVec::new();
            let of = |n: &&Notice| n.cid == cid && n.kind == NoticeKind::Aborted;
            for notice in node.notices.iter().filter(of) {
                left.push(notice.node, GFP_KERNEL)?;
            }
            Ok::<_, Error>((node.map.epoch, left))
        })?;
        if left.is_empty() {
            return Ok(true);
        }
        let mut aborted = KVec::new();
        aborted.push(cid, GFP_KERNEL)?;
        let settle = Settle {
            committed: KVec::new(),
            aborted,
        };
        let header = settle.encode(epoch)?;
        let call_until = handler::call_until(host, until);
        let mut calls = KVec::with_capacity(left.len(), GFP_KERNEL)?;
        for dst in &left {
            let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
            request.push(Piece::Bytes(&header), GFP_KERNEL)?;
            calls.push(handler::call(*dst, request, 64, call_until)?, GFP_KERNEL)?;
        }
        host.call(&mut calls).await;
        let mut all = true;
        for call in &calls {
            let told = handler::reply_of::<Settle>(call);
            host.with(|node| match told {
                Ok(()) => node.confirmed(call.dst, cid),
                Err(error) => {
                    all = false;
                    if is_away(error) {
                        node.expect_no_more(call.dst, cid);
                    }
                }
            });
        }
        if all {
            return Ok(true);
        }
        let now = host.now();
        if now >= until {
            return Ok(false);
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        host.wait(ticket, until.min(now + PAUSE), Sleep::Uninterruptible)
            .await?;
    }
}

/// Whether nothing is mounted at who was to be told that a commit is undone.
pub(super) fn is_away(error: CallError) -> bool {
    matches!(error, CallError::NotExecuted(EHOSTDOWN | ENOENT))
}

/// Builds, replicates and promises (or decides, with one owner).
async fn try_prepare<H: Host>(host: &H, prepare: &Prepare<'_>) -> Result {
    build(host, prepare).await?;
    replicate::replicate(host, prepare).await?;
    let single = prepare.nr_owners == 1;
    if !single {
        swing_log(host, prepare.cid, Some(redo_log::State::Prepared)).await?;
    }
    host.with(|node| match node.txns.get_mut(&prepare.cid) {
        Some(txn) if txn.cancelled => Err(ECANCELED),
        Some(txn) if single => {
            txn.state = TxnState::Finishing;
            Ok(())
        }
        Some(txn) => {
            txn.state = TxnState::Prepared;
            Ok(())
        }
        None => Err(ECANCELED),
    })?;
    node_tick(host, prepare.cid);
    Ok(())
}

fn node_tick<H: Host>(host: &H, cid: Cid) {
    let now = host.now();
    host.with(|node| {
        if let Some(txn) = node.txns.get_mut(&cid) {
            txn.since = now;
        }
    });
}

/// Makes the new versions and the log record durable, and blocks readers here.
async fn build<H: Host>(host: &H, prepare: &Prepare<'_>) -> Result {
    let (geometry, pages, log, record) = host.with(|node| {
        let txn = node.txns.get(&prepare.cid).ok_or(ECANCELED)?;
        let mut pages = KVec::with_capacity(txn.pages.len(), GFP_KERNEL)?;
        for page in &txn.pages {
            let clean = node.pages.get(page.key).and_then(|entry| entry.clean);
            pages.push((*page, clean.and_then(|clean| clean.pm)), GFP_KERNEL)?;
        }
        Ok::<_, Error>((node.geometry(), pages, txn.log, record_of(prepare.cid, txn)))
    })?;
    for (page, _) in &pages {
        // Of a chunk that has moved to us its owner before may not have told us all.
        data_node::publish_known(host, page.before).await?;
    }
    let us = host.with(|node| node.id());
    let stager = slot::Stager::new(
        us as u16,
        pages.len() as u32,
        prepare.owners,
        prepare.replicas == 1,
    );
    let mut new = KVec::with_capacity(pages.len(), GFP_KERNEL)?;
    let mut entries = KVec::with_capacity(pages.len() * redo_log::ENTRY_SIZE, GFP_KERNEL)?;
    let mut areas = prepare.areas;
    for (page, base) in &pages {
        let count = areas.iter().take_while(|a| a.key == page.key).count();
        let (these, rest) = areas.split_at(count);
        areas = rest;
        let bytes: usize = these.iter().map(|area| area.bytes.len()).sum();
        if base.is_some() && bytes < PAGE_SIZE {
            // What is damaged must not become part of a new version.
            integrity::ensure(host, page.key, prepare.until).await?;
        }
        let entry = redo_log::Entry {
            dataset: page.key.dataset,
            page: page.key.page,
            base_version: page.base,
            staged: page.pm,
            offset: these.first().map_or(0, |area| area.offset),
            len: these.first().map_or(1, |area| area.span().len),
        };
        entries.extend_from_slice(&entry.encode(), GFP_KERNEL)?;
        new.push(
            NewPage {
                pm: page.pm,
                of: PageVersion {
                    dataset: page.key.dataset,
                    page: page.key.page,
                    version: page.base + 1,
                    cid: prepare.cid,
                },
                stager: Some(stager),
                base: match base {
                    Some(pm) => Piece::Pm {
                        offset: geometry.page(*pm),
                        len: PAGE_SIZE,
                    },
                    None => Piece::Zeros(PAGE_SIZE),
                },
                areas: these,
            },
            GFP_KERNEL,
        )?;
    }
    let mut owners = KVec::with_capacity(2 * prepare.owners.len(), GFP_KERNEL)?;
    for owner in prepare.owners {
        owners.extend_from_slice(&owner.to_le_bytes(), GFP_KERNEL)?;
    }
    if log.1 != 0 {
        // Durable with the first fence of the pages; its word is EMPTY until then.
        let body = redo_log::Descriptor {
            of: record,
            entries_crc: super::format::crc32c(&entries),
            data_crc: super::format::crc32c(&owners),
        }
        .encode(log.0);
        let mut batch = Batch::default();
        let (block, descriptor) = (geometry.log_block(log.0), geometry.log_descriptor(log.0));
        batch.write(block, Piece::Bytes(&entries))?;
        if !owners.is_empty() {
            batch.write(block + entries.len() as u64, Piece::Bytes(&owners))?;
        }
        batch.flush(block, (entries.len() + owners.len()) as u64)?;
        batch.write(descriptor + 8, Piece::Bytes(&body))?;
        batch.flush(descriptor + 8, BODY_SIZE as u64)?;
        batch.run(host).await?;
    }
    persist::write_versions(host, &geometry, &new, slot::State::Staged).await?;
    for (page, _) in &pages {
        data_node::block_readers(host, page.key, prepare.until).await?;
    }
    Ok(())
}
