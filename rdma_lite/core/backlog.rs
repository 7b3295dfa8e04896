// SPDX-License-Identifier: GPL-2.0

//! Messages that have come and were not handled yet, in their order.

use kernel::prelude::*;

/// A queue of immediates. Each has its receive taken, so there are never more of them than receives.
#[derive(Debug, Default)]
pub struct Backlog {
    ring: KVec<u32>,
    first: usize,
    count: usize,
}

impl Backlog {
    /// For up to `capacity` messages.
    pub fn new(capacity: usize) -> Result<Self> {
        Ok(Self {
            ring: KVec::from_elem(0, capacity, GFP_KERNEL)?,
            first: 0,
            count: 0,
        })
    }

    /// Whether all messages were handled.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// A message has come; `ENOSPC` when there are more than there can be.
    pub fn push(&mut self, imm: u32) -> Result {
        if self.count == self.ring.len() {
            return Err(ENOSPC);
        }
        let at = (self.first + self.count) % self.ring.len();
        self.ring[at] = imm;
        self.count += 1;
        Ok(())
    }

    /// The one to handle next. It stays, so that later ones queue up behind it, until [`Self::pop`].
    pub fn front(&self) -> Option<u32> {
        (self.count != 0).then(|| self.ring[self.first])
    }

    /// The first one was handled.
    pub fn pop(&mut self) {
        if self.count != 0 {
            self.first = (self.first + 1) % self.ring.len();
            self.count -= 1;
        }
    }
}
