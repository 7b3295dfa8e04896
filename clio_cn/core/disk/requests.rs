// SPDX-License-Identifier: GPL-2.0

//! Requests: when they may begin, at which copies, and when they are over.

use super::{data_at, slots::Key, Action, Disk, Io, Purpose, What};
use kernel::prelude::*;

/// A request.
#[derive(Debug)]
pub(super) struct Request<T> {
    io: Io,
    offset: u64,
    len: u64,
    token: T,
    order: u64,
    running: bool,
    /// Copies that it is to go to; that it is at; a read: that it was at.
    todo: u32,
    out: u32,
    tried: u32,
    /// Copies that have done it.
    did: u32,
    /// One that counts may not have done it, since it is the last.
    missed: bool,
    error: Option<Error>,
    /// Failures to write records that there were when it began to wait for one.
    failures: Option<u64>,
}

impl<T> Request<T> {
    pub(super) fn new(io: Io, offset: u64, len: u64, token: T, order: u64) -> Self {
        Self {
            io,
            offset,
            len,
            token,
            order,
            running: false,
            todo: 0,
            out: 0,
            tried: 0,
            did: 0,
            missed: false,
            error: None,
            failures: None,
        }
    }

    fn writes(&self) -> bool {
        matches!(self.io, Io::Write | Io::Zero)
    }

    /// Regions that it writes.
    pub(super) fn regions(&self, shift: u8) -> ::core::ops::Range<usize> {
        if self.writes() {
            let last = (self.offset + self.len - 1) >> shift;
            (self.offset >> shift) as usize..last as usize + 1
        } else {
            0..0
        }
    }

    fn overlaps(&self, offset: u64, len: u64) -> bool {
        self.offset < offset + len && offset < self.offset + self.len
    }

    /// Whether it is at a copy, and changes bytes of this range there.
    pub(super) fn is_writing(&self, offset: u64, len: u64) -> bool {
        self.running && self.writes() && self.overlaps(offset, len)
    }

    /// A copy was left out. What was begun there is still waited for.
    pub(super) fn forget(&mut self, slot: usize) {
        self.todo &= !(1 << slot);
        self.did &= !(1 << slot);
    }

    /// Nothing is under way for it.
    fn is_settled(&self) -> bool {
        self.running && self.todo | self.out == 0
    }
}

impl<T: ::core::marker::Copy> Disk<T> {
    /// Begins what can begin.
    pub(super) fn stir(&mut self) {
        let mut at = 0;
        while let Some((index, key)) = self.requests.at_or_after(at) {
            at = index + 1;
            self.try_begin(key);
        }
    }

    fn try_begin(&mut self, key: Key) -> Option<()> {
        let request = self.requests.get(key).filter(|request| !request.running)?;
        let (io, offset, len) = (request.io, request.offset, request.len);
        let writes = request.writes();
        if io != Io::Flush {
            let blocks = |other: &super::requests::Request<T>| {
                other.order < request.order
                    && (writes || other.writes())
                    && other.overlaps(offset, len)
            };
            if self.requests.iter().any(blocks) || self.copier.excludes(writes, offset, len) {
                return None;
            }
            // The copies are made equal first.
            let mut regions = self.regions(offset, len);
            if let Some(region) = regions.find(|region| self.unsynced.has(*region)) {
                self.copier.want(region);
                return None;
            }
        }
        let mut ready = true;
        if writes {
            for region in self.regions(offset, len) {
                ready &= self.ledger.mark(region);
            }
        }
        let failures = self.ledger.failures();
        let todo = match io {
            Io::Read => 0,
            Io::Flush => self.copies.in_sync(),
            Io::Write | Io::Zero => self.copies.all(),
        };
        let request = self.requests.get_mut(key)?;
        if !ready {
            // A record that cannot be written fails those who wait for it.
            if *request.failures.get_or_insert(failures) != failures {
                request.error = Some(EIO);
                request.running = true;
            }
            return None;
        }
        request.failures = None;
        request.running = true;
        request.todo = todo;
        if io == Io::Read {
            self.choose_reader(key);
        }
        Some(())
    }

    /// Lets a read go to a copy where it was not yet.
    fn choose_reader(&mut self, key: Key) -> Option<()> {
        let request = self.requests.get_mut(key)?;
        let slot = self.copies.reader(request.tried)?;
        request.tried |= 1 << slot;
        request.todo = 1 << slot;
        Some(())
    }

    /// What the next request wants of the edge.
    pub(super) fn next_of_requests(&mut self) -> Option<Action<T>> {
        let mut at = 0;
        while let Some((index, key)) = self.requests.at_or_after(at) {
            at = index + 1;
            let request = self.requests.get(key).filter(|request| request.running);
            let action = match request {
                Some(request) if request.todo != 0 => self.go_to_copy(key),
                Some(request) if request.is_settled() => self.conclude(key),
                _ => None,
            };
            if action.is_some() {
                return action;
            }
        }
        None
    }

    fn go_to_copy(&mut self, key: Key) -> Option<Action<T>> {
        let request = self.requests.get(key)?;
        let slot = request.todo.trailing_zeros() as usize;
        let what = match request.io {
            Io::Read => What::Read(request.token),
            Io::Write => What::Write(request.token),
            Io::Zero => What::Zero,
            Io::Flush => What::Fence,
        };
        let (at, len) = (data_at(request.offset), request.len);
        let action = self.start(slot, Purpose::Request(key), what, at, len)?;
        let request = self.requests.get_mut(key)?;
        request.todo &= !(1 << slot);
        request.out |= 1 << slot;
        Some(action)
    }

    /// A copy has done its part of a request, or could not; none when it was left out.
    pub(super) fn request_done(&mut self, key: Key, slot: usize, result: Option<Result>) {
        let in_sync = (self.copies.in_sync() >> slot) & 1 != 0;
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        request.out &= !(1 << slot);
        match result {
            Some(Ok(())) => request.did |= 1 << slot,
            Some(Err(EAGAIN)) => request.todo |= 1 << slot,
            Some(Err(error)) => {
                request.error = Some(error);
                if in_sync && request.io != Io::Read {
                    // It still counts, and may not have done it; others may.
                    request.missed = true;
                    self.copies.refill_from(request.offset);
                }
            }
            None => {}
        }
    }

    /// All copies have done their parts. The request is over, or goes on elsewhere, or waits until
    /// all copies know who missed it.
    fn conclude(&mut self, key: Key) -> Option<Action<T>> {
        let request = self.requests.get(key)?;
        let result = if request.did & self.copies.in_sync() != 0 && !request.missed {
            Ok(())
        } else if request.io == Io::Read && self.copies.in_sync() & !request.tried != 0 {
            self.choose_reader(key);
            return self.go_to_copy(key);
        } else {
            Err(request.error.unwrap_or(EIO))
        };
        // A read too: it may have seen a write that failed, and that only this copy has.
        if result.is_ok() && !self.ledger.is_told() {
            let failures = self.ledger.failures();
            let request = self.requests.get_mut(key)?;
            if *request.failures.get_or_insert(failures) == failures {
                return None;
            }
            // Nobody may rely on it.
            request.did = 0;
            request.error = Some(EIO);
            return self.conclude(key);
        }
        let request = self.requests.remove(key)?;
        self.stirred = true;
        Some(Action::Complete {
            token: request.token,
            result,
        })
    }
}
