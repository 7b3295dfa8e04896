// SPDX-License-Identifier: GPL-2.0

//! A disk of several copies, each in the memory of another node.
//!
//! - A write is acknowledged when all copies that count have it. A read is served by
//!   any copy in sync; one that fails goes to another.
//! - A copy at which an operation failed is left out: before anything is acknowledged
//!   that it missed, all other copies have a [record](record) that says so. The last copy
//!   in sync is never left out; what fails there fails for the user.
//! - Requests that overlap are done one after the other unless they only read, so the
//!   copies never disagree about the order of writes, and no read sees a write that
//!   a later one does not.
//! - Before a region is written its bit is set in the records of all copies. After a crash
//!   the copies are made equal there, from one of them, before the region is used
//!   again: a write that was never acknowledged may be on some of them only.
//! - A new copy gets all writes at once, and in the background what was written
//!   before.
//!
//! # How to drive it
//!
//! The edge has one [`Disk`] under a lock. After each event ([`Disk::submit`],
//! [`Disk::done`], [`Disk::tick`] and what else takes `now`), still under the lock, it calls
//! [`Disk::poll`] until that gives nothing, and does what the [`Action`]s say. `T` names a
//! request for the edge, which has its data. Operations end in any order, each with a
//! deadline of the edge's; none needs memory that was not there before. A flush waits for
//! nothing: what was acknowledged is at the memory nodes, which the fence orders.
//!
//! Each operation has its bytes to itself: a request, the buffer for copying, and the record of
//! each copy have one operation that reads into them or several that write from them at a time,
//! and they are not used for anything else before these are over, also at copies that were left
//! out.

pub mod assemble;
pub mod bits;
mod copier;
mod copies;
mod ledger;
pub mod record;
mod requests;
mod slots;

pub use self::{copies::Copy, slots::Key};

use self::{
    assemble::Assembly,
    bits::Bits,
    copier::Copier,
    copies::Copies,
    ledger::Ledger,
    record::{Head, DATA, MAX_COPIES},
    requests::Request,
    slots::Slots,
};
use kernel::prelude::*;

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most requests at a time.
    pub depth: usize,
    /// Bytes that are copied at once, for which the edge has a buffer.
    pub chunk: u32,
    /// A region that was not written for this long is not dirty any more, ns.
    pub settle: u64,
    /// After a failure of the last copy that counts, records and copying are tried again after
    /// this, ns.
    pub again: u64,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// Its bytes.
    Read,
    /// Its bytes go to all copies.
    Write,
    /// Its bytes become zeroes.
    Zero,
    /// What was acknowledged before is ordered before what comes.
    Flush,
}

/// What an operation does at one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<T> {
    /// Reads into the data of a request.
    Read(T),
    /// Writes the data of a request.
    Write(T),
    /// Makes zeroes.
    Zero,
    /// Orders what was done before it.
    Fence,
    /// Reads into the buffer for copying.
    Fetch,
    /// Writes the buffer for copying.
    Store,
    /// Writes the record: [`Disk::encode`] it.
    Record,
}

/// What the edge is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<T> {
    /// Begin an operation; its end is [`Disk::done`].
    Start {
        /// Which.
        op: Key,
        /// At this one of the copies.
        slot: usize,
        /// What it does.
        what: What<T>,
        /// Where, from the beginning of the copy on.
        at: u64,
        /// Bytes.
        len: u64,
    },
    /// A request is over.
    Complete {
        /// Which.
        token: T,
        /// How it went.
        result: Result,
    },
    /// A copy was left out. Its memory is not needed any more once its operations are over;
    /// another copy can take its place ([`Disk::add`]).
    Lost {
        /// Which of the copies it was.
        slot: usize,
        /// What it was.
        copy: Copy,
        /// Why.
        error: Error,
    },
    /// A copy is in sync now.
    Filled {
        /// Which.
        slot: usize,
    },
    /// All that was begun is over, and the records say that nothing is dirty, unless there is an
    /// error.
    Stopped(Result),
}

/// Whom an operation is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Request(Key),
    Record(u64),
    Copy(u64),
}

#[derive(Clone, Copy, Debug)]
struct Op {
    slot: usize,
    copy: u64,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    On,
    Stopping,
    Stopped,
}

/// Figures of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Copies in sync.
    pub in_sync: usize,
    /// Copies that are being filled.
    pub filling: usize,
    /// Bytes that the one furthest behind has.
    pub filled: u64,
    /// Regions in which the copies are still made equal.
    pub unsynced: usize,
    /// Regions that the records call dirty.
    pub dirty: usize,
    /// Requests that are not over.
    pub requests: usize,
}

/// A disk of several copies.
#[derive(Debug)]
pub struct Disk<T> {
    config: Config,
    head: Head,
    copies: Copies,
    requests: Slots<Request<T>>,
    ops: Slots<Op>,
    ledger: Ledger,
    copier: Copier,
    /// Regions in which copies in sync may differ.
    unsynced: Bits,
    /// Grows with each request.
    order: u64,
    /// Something changed that requests may have waited for.
    stirred: bool,
    /// The edge takes no operations for now.
    full: bool,
    phase: Phase,
}

impl<T: ::core::marker::Copy> Disk<T> {
    /// A disk as it was found, or a new one. It can be used at once.
    pub fn new(config: Config, found: &Assembly) -> Result<Self> {
        let chunk = u64::from(config.chunk);
        if chunk == 0 || (1_u64 << found.head.region_shift) % chunk != 0 {
            return Err(EINVAL);
        }
        let copies = Copies::new(&found.head.members, &found.places);
        if copies.in_sync() == 0 {
            return Err(EHOSTDOWN);
        }
        let mut unsynced = Bits::new(found.dirty.len())?;
        if copies.in_sync().count_ones() > 1 {
            unsynced.copy_from(&found.dirty);
        }
        Ok(Self {
            head: Head {
                clean: false,
                ..found.head
            },
            ledger: Ledger::new(&found.dirty)?,
            copier: Copier::default(),
            requests: Slots::new(config.depth)?,
            // Those of copies that were left out may take a while to end.
            ops: Slots::new((config.depth + 2) * (MAX_COPIES + 1))?,
            copies,
            unsynced,
            order: 0,
            stirred: true,
            full: false,
            phase: Phase::On,
            config,
        })
    }

    /// Takes a request. `EAGAIN`: there are too many; `ESHUTDOWN`: the disk is being switched off;
    /// `EINVAL`: it is not within the disk.
    pub fn submit(&mut self, io: Io, offset: u64, len: u64, token: T) -> Result {
        if self.phase != Phase::On {
            return Err(ESHUTDOWN);
        }
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if end > self.head.size || (len == 0) != (io == Io::Flush) {
            return Err(EINVAL);
        }
        self.order += 1;
        let request = Request::new(io, offset, len, token, self.order);
        self.requests.insert(request).map_err(|_| EAGAIN)?;
        self.stirred = true;
        Ok(())
    }

    /// An operation is over. `EAGAIN`: the edge could not begin it; it will be asked to again,
    /// after another one is over or in the next [`Disk::tick`].
    pub fn done(&mut self, now: u64, op: Key, result: Result) {
        let Some(op) = self.ops.remove(op) else {
            return;
        };
        self.stirred = true;
        self.full = result == Err(EAGAIN);
        // What happens at a copy that was left out does not matter: from now on, or before.
        if let (true, Err(error), false) = (self.counts(&op), result, self.full) {
            self.lose(op.slot, error);
        }
        let counts = self.counts(&op);
        match op.purpose {
            Purpose::Request(key) => self.request_done(key, op.slot, counts.then_some(result)),
            Purpose::Record(seq) if counts => self.record_done(seq, op.slot, result),
            Purpose::Record(_) => {}
            Purpose::Copy(job) => self.copy_done(now, job, op.slot, counts.then_some(result)),
        }
    }

    /// Whether the copy of an operation is still one of the disk.
    fn counts(&self, op: &Op) -> bool {
        self.copies
            .get(op.slot)
            .is_some_and(|copy| copy.id == op.copy)
    }

    /// Time has passed. To be called a few times in each [`Config::settle`].
    pub fn tick(&mut self, now: u64) {
        self.settle(now);
        self.full = false;
        self.stirred = true;
    }

    /// The control plane says that a memory node is not there: its copies are left out.
    pub fn node_down(&mut self, node: u32) {
        for slot in 0..MAX_COPIES {
            if self.copies.get(slot).is_some_and(|copy| copy.node == node) {
                self.lose(slot, EHOSTDOWN);
            }
        }
        self.stirred = true;
    }

    /// Puts a new copy, which is all zeroes, in the place of one that there is not. It will be
    /// filled. `EEXIST`: there is one, or the node has one. `EBUSY`: operations of the one that
    /// was there before are not over yet.
    pub fn add(&mut self, slot: usize, id: u64, node: u32) -> Result {
        if self.phase != Phase::On {
            return Err(ESHUTDOWN);
        }
        if self.ops.iter().any(|op| op.slot == slot) && self.copies.get(slot).is_none() {
            return Err(EBUSY);
        }
        self.copies.add(slot, id, node)?;
        self.ledger.change();
        self.stirred = true;
        Ok(())
    }

    /// A place that has no copy, once all copies know that: what was there before may be given up
    /// for a new one then.
    pub fn vacancy(&self) -> Option<usize> {
        if !self.is_told() {
            return None;
        }
        (0..usize::from(self.head.replicas)).find(|slot| self.copies.get(*slot).is_none())
    }

    /// Ends the disk's use once all requests are over.
    pub fn stop(&mut self) {
        if self.phase == Phase::On {
            self.phase = Phase::Stopping;
            self.ledger.change();
            self.stirred = true;
        }
    }

    /// The copies.
    pub fn copies(&self) -> impl Iterator<Item = (usize, &Copy)> {
        (0..MAX_COPIES).filter_map(|slot| Some((slot, self.copies.get(slot)?)))
    }

    /// Figures.
    pub fn status(&self) -> Status {
        Status {
            in_sync: self.copies.in_sync().count_ones() as usize,
            filling: self.copies.filling().count_ones() as usize,
            filled: self
                .copies
                .least_filled()
                .map_or(self.head.size, |(_, at)| at),
            unsynced: self.unsynced.count(),
            dirty: self.ledger.dirty().count(),
            requests: self.requests.iter().count(),
        }
    }

    /// The next thing to do. After every event, until it returns `None`.
    pub fn poll(&mut self, now: u64) -> Option<Action<T>> {
        loop {
            if ::core::mem::take(&mut self.stirred) {
                self.stir();
            }
            let action = self
                .next_news()
                .or_else(|| self.next_record(now))
                .or_else(|| self.next_of_requests())
                .or_else(|| self.next_copy(now));
            if action.is_some() {
                return action;
            }
            if !self.stirred {
                return self.next_end();
            }
        }
    }

    fn next_news(&mut self) -> Option<Action<T>> {
        if let Some((slot, copy, error)) = self.copies.take_lost() {
            return Some(Action::Lost { slot, copy, error });
        }
        let slot = self.copies.take_filled()?;
        Some(Action::Filled { slot })
    }

    fn next_end(&mut self) -> Option<Action<T>> {
        let idle = self.phase == Phase::Stopping && self.requests.is_empty();
        let result = self
            .ledger
            .closed()
            .filter(|_| idle && !self.copier.is_busy())?;
        self.phase = Phase::Stopped;
        Some(Action::Stopped(result))
    }

    /// Whether all copies know which of them count.
    pub fn is_told(&self) -> bool {
        self.ledger.is_told()
    }

    /// Whether all operations that were begun are over.
    pub fn is_idle(&self) -> bool {
        self.ops.is_empty()
    }

    /// A region of the disk.
    fn region(&self, offset: u64) -> usize {
        (offset >> self.head.region_shift) as usize
    }

    /// The regions that a range is in.
    fn regions(&self, offset: u64, len: u64) -> ::core::ops::RangeInclusive<usize> {
        self.region(offset)..=self.region(offset + len.max(1) - 1)
    }

    /// Begins an operation, if there is room for it.
    fn start(
        &mut self,
        slot: usize,
        purpose: Purpose,
        what: What<T>,
        at: u64,
        len: u64,
    ) -> Option<Action<T>> {
        let copy = self.copies.get(slot).filter(|_| !self.full)?.id;
        let op = Op {
            slot,
            copy,
            purpose,
        };
        Some(Action::Start {
            op: self.ops.insert(op).ok()?,
            slot,
            what,
            at,
            len,
        })
    }

    /// A copy cannot be relied on any more, unless it is the last.
    fn lose(&mut self, slot: usize, error: Error) {
        if self.copies.lose(slot, error) {
            self.ledger.change();
            self.ledger.forget(slot);
            self.copier.forget(slot);
            for request in self.requests.iter_mut() {
                request.forget(slot);
            }
            if self.copies.in_sync().count_ones() == 1 {
                // Nothing is left that it could differ from.
                self.unsynced.clear();
            }
        }
    }
}

/// Where the disk's byte is in a copy.
fn data_at(offset: u64) -> u64 {
    DATA + offset
}
