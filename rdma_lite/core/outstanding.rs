// SPDX-License-Identifier: GPL-2.0

//! Asynchronous operations of one open file: how many may be outstanding, which are over and wait to be
//! told of, in the order in which they ended.
//!
//! An operation counts, with its bytes, from its begin until it was told of: what was read waits in the
//! kernel until then.

use super::receive::Bounds;
use kernel::prelude::*;

/// See the module. `T` is an operation that is over.
#[derive(Debug)]
pub struct Outstanding<T> {
    bounds: Bounds,
    running: usize,
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
        if self.running + self.over >= self.bounds.requests
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

    /// The next one that is over, which is told of and does not count any more.
    pub fn reap(&mut self) -> Option<T> {
        let (operation, bytes) = self.ring.get_mut(self.first)?.take()?;
        self.first = (self.first + 1) % self.ring.len();
        self.over -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        Some(operation)
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

    /// The file is closed: nobody asks any more. [`Self::reap`] what was over.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
