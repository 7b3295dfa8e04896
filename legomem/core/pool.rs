// SPDX-License-Identifier: GPL-2.0

//! The pages that this node lends out, and which of them are free.

use kernel::prelude::*;

/// The bytes of the pages: DRAM, a pmem device, or a vector on the host.
///
/// All are called with the board's lock held, or for a page that nobody else
/// knows (one that is being cleaned). What lies beyond the end of a page is not
/// touched; callers do not ask for it.
pub trait Pool {
    /// Copies bytes of a page out.
    fn read(&self, frame: u32, offset: usize, to: &mut [u8]);
    /// Copies bytes into a page.
    fn write(&self, frame: u32, offset: usize, from: &[u8]);
    /// Makes bytes of a page zero.
    fn zero(&self, frame: u32, offset: usize, len: usize);

    /// Loads a word.
    fn load(&self, frame: u32, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        self.read(frame, offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Stores a word.
    fn store(&self, frame: u32, offset: usize, word: u64) {
        self.write(frame, offset, &word.to_le_bytes());
    }
}

/// A queue of page numbers that never needs more room than it was made with.
#[derive(Debug)]
struct Frames {
    slots: KVVec<u32>,
    head: usize,
    len: usize,
}

impl Frames {
    fn new(capacity: usize) -> Result<Self> {
        Ok(Self {
            slots: KVVec::from_elem(0, capacity.max(1), GFP_KERNEL)?,
            head: 0,
            len: 0,
        })
    }

    fn push(&mut self, frame: u32) {
        let capacity = self.slots.len().max(1);
        match self.slots.get_mut((self.head + self.len) % capacity) {
            Some(slot) if self.len < capacity => {
                *slot = frame;
                self.len += 1;
            }
            _ => {}
        }
    }

    fn pop(&mut self) -> Option<u32> {
        self.len = self.len.checked_sub(1)?;
        let frame = self.slots.get(self.head).copied();
        self.head = (self.head + 1) % self.slots.len().max(1);
        frame
    }
}

/// The free pages of the pool: the ring of prepared ones (the async buffer of
/// section 4.4.3), which are zero, and those that a worker has yet to clean.
#[derive(Debug)]
pub struct FreePages {
    prepared: Frames,
    dirty: Frames,
    /// Pages that a worker has in its hands.
    cleaning: usize,
}

impl FreePages {
    /// Of a pool of `pages` pages, all free; `clean` if they are known to be zero.
    pub fn new(pages: u32, clean: bool) -> Result<Self> {
        let mut free = Self {
            prepared: Frames::new(pages as usize)?,
            dirty: Frames::new(pages as usize)?,
            cleaning: 0,
        };
        for frame in 0..pages {
            if clean {
                free.prepared.push(frame);
            } else {
                free.dirty.push(frame);
            }
        }
        Ok(free)
    }

    /// A zeroed page, for a first touch.
    pub fn take(&mut self) -> Option<u32> {
        self.prepared.pop()
    }

    /// A page that is not used any more, whatever it holds.
    pub fn give_back(&mut self, frame: u32) {
        self.dirty.push(frame);
    }

    /// A page to be cleaned.
    pub fn start_cleaning(&mut self) -> Option<u32> {
        let frame = self.dirty.pop()?;
        self.cleaning += 1;
        Some(frame)
    }

    /// It is zero now.
    pub fn cleaned(&mut self, frame: u32) {
        self.cleaning = self.cleaning.saturating_sub(1);
        self.prepared.push(frame);
    }

    /// Pages ready for a first touch.
    pub fn prepared(&self) -> usize {
        self.prepared.len
    }

    /// Pages that wait to be cleaned.
    pub fn dirty(&self) -> usize {
        self.dirty.len
    }

    /// Pages that hold nothing.
    pub fn len(&self) -> usize {
        self.prepared.len + self.dirty.len + self.cleaning
    }

    /// Whether all pages are in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
