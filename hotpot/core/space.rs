// SPDX-License-Identifier: GPL-2.0

//! Which of a row of things on PM are free: data pages, blocks of the redo log,
//! blocks of commit records. In memory only; mount rebuilds it from what is in use.

use kernel::prelude::*;

const BITS: u64 = u64::BITS as u64;

/// Free and used things, by number.
pub struct Space {
    // A set bit is a thing in use. Bits from `len` on are set.
    words: KVVec<u64>,
    len: u64,
    free: u64,
    next: u64,
}

impl Space {
    /// `len` free things.
    pub fn new(len: u64) -> Result<Self> {
        let words = usize::try_from(len.div_ceil(BITS))?;
        let mut words = KVVec::from_elem(0u64, words, GFP_KERNEL)?;
        if let Some(last) = words.last_mut() {
            if len % BITS != 0 {
                *last = !0 << (len % BITS);
            }
        }
        Ok(Self {
            words,
            len,
            free: len,
            next: 0,
        })
    }

    /// Things in all.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Free things.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Whether thing `nr` is in use (what does not exist is).
    pub fn is_used(&self, nr: u64) -> bool {
        self.words
            .get((nr / BITS) as usize)
            .is_none_or(|word| (word >> (nr % BITS)) & 1 != 0)
    }

    /// Marks a thing as used; `false` when it was.
    pub fn mark(&mut self, nr: u64) -> bool {
        let fresh = !self.is_used(nr);
        if fresh {
            if let Some(word) = self.words.get_mut((nr / BITS) as usize) {
                *word |= 1 << (nr % BITS);
                self.free -= 1;
            }
        }
        fresh
    }

    /// Takes a free thing.
    pub fn take(&mut self) -> Option<u64> {
        if self.free == 0 {
            return None;
        }
        let count = self.words.len();
        let from = (self.next / BITS) as usize;
        for step in 0..=count {
            let at = (from + step) % count.max(1);
            if let Some(word) = self.words.get_mut(at) {
                if *word != !0 {
                    let bit = u64::from(word.trailing_ones());
                    *word |= 1 << bit;
                    self.free -= 1;
                    self.next = at as u64 * BITS + bit;
                    return Some(self.next);
                }
            }
        }
        None
    }

    /// Takes `count` consecutive things, first fit; the first of them.
    pub fn take_run(&mut self, count: u64) -> Option<u64> {
        let mut found = 0;
        for nr in 0..self.len {
            found = if self.is_used(nr) { 0 } else { found + 1 };
            if found == count {
                let first = nr + 1 - count;
                for nr in first..first + count {
                    self.mark(nr);
                }
                return Some(first);
            }
        }
        None
    }

    /// Gives one back.
    pub fn give(&mut self, nr: u64) {
        if nr < self.len && self.is_used(nr) {
            if let Some(word) = self.words.get_mut((nr / BITS) as usize) {
                *word &= !(1 << (nr % BITS));
                self.free += 1;
            }
        }
    }

    /// Gives `count` consecutive things back.
    pub fn give_run(&mut self, first: u64, count: u64) {
        for nr in first..first.saturating_add(count) {
            self.give(nr);
        }
    }
}

impl Default for Space {
    fn default() -> Self {
        Self {
            words: KVVec::new(),
            len: 0,
            free: 0,
            next: 0,
        }
    }
}
