// SPDX-License-Identifier: GPL-2.0

//! Asynchronous operations of one open file: how many may be outstanding, which are over and wait to be
//! told of, in the order in which they ended.
//!
//! An operation counts, with its bytes, from its begin until it was told of: what was read waits in the
//! kernel until then. Who tells of one takes it out first, and puts it back when it could not be told.

use super::receive::Bounds;
use kernel::prelude::*;

/// See the module. `T` is an operation that is over.
#[derive(Debug)]
pub struct Outstanding<T> {
    bounds: Bounds,
    running: usize,
    /// Taken out to be told of.
    telling: usize,
    bytes: usize,
    /// Of what is over; has room for all that is outstanding, once there is anything.
    ring: KVec<Option<(T, usize)>>,
    first: usize,
    over: usize,
    closed: bool,
}

impl<T> Outstanding<T> {
    /// None, and so many at most.
    pub const fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            running: 0,
            telling: 0,
            bytes: 0,
            ring: KVec::new(),
            first: 0,
            over: 0,
            closed: false,
        }
    }

    /// One begins. `EAGAIN` when too many, or too many bytes, are outstanding; `EMSGSIZE` when it alone
    /// has too many; `ESHUTDOWN` when the file was closed.
    pub fn begin(&mut self, bytes: usize) -> Result {
        if self.closed {
            return Err(ESHUTDOWN);
        }
        if bytes > self.bounds.bytes {
            return Err(EMSGSIZE);
        }
        if self.running + self.over + self.telling >= self.bounds.requests
            || bytes > self.bounds.bytes - self.bytes
        {
            return Err(EAGAIN);
        }
        while self.ring.len() < self.bounds.requests {
            self.ring.push(None, GFP_KERNEL)?;
        }
        self.running += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// One that began did not, after all.
    pub fn cancel(&mut self, bytes: usize) {
        self.running = self.running.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// One that began with so many bytes is over. It comes back when nobody will ask for it.
    pub fn end(&mut self, operation: T, bytes: usize) -> Option<T> {
        self.running = self.running.saturating_sub(1);
        let at = self.first + self.over;
        let at = at.checked_rem(self.ring.len()).unwrap_or(0);
        match self.ring.get_mut(at) {
            Some(place) if !self.closed => {
                *place = Some((operation, bytes));
                self.over += 1;
                None
            }
            _ => {
                self.bytes = self.bytes.saturating_sub(bytes);
                Some(operation)
            }
        }
    }

    /// The next one that is over, to be told of, and its bytes. It counts until [`Self::told`].
    pub fn take(&mut self) -> Option<(T, usize)> {
        let taken = self.ring.get_mut(self.first)?.take()?;
        self.first = (self.first + 1) % self.ring.len();
        self.over -= 1;
        self.telling += 1;
        Some(taken)
    }

    /// One that was taken, with so many bytes, was told of.
    pub fn told(&mut self, bytes: usize) {
        self.telling = self.telling.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// One that was taken could not be told of: it is the next again. It comes back when nobody will ask
    /// for it.
    pub fn put_back(&mut self, operation: T, bytes: usize) -> Option<T> {
        self.telling = self.telling.saturating_sub(1);
        // What was taken counted, so there is a place before the first.
        let at = self
            .first
            .checked_sub(1)
            .unwrap_or(self.ring.len().saturating_sub(1));
        match self.ring.get_mut(at) {
            Some(place) if !self.closed && place.is_none() => {
                *place = Some((operation, bytes));
                self.first = at;
                self.over += 1;
                None
            }
            _ => {
                self.bytes = self.bytes.saturating_sub(bytes);
                Some(operation)
            }
        }
    }

    /// Whether so many are over, or all that there are.
    pub fn is_enough(&self, wanted: usize) -> bool {
        self.over >= wanted || self.running == 0
    }

    /// Whether any is over.
    pub fn is_ready(&self) -> bool {
        self.over != 0
    }

    /// Whether the file was closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The file is closed: nobody asks any more. [`Self::take`] what was over.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
