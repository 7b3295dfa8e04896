// SPDX-License-Identifier: GPL-2.0

//! The overflow-free page table of section 4.4.2: one hash table for all address
//! spaces, as large as the pool asks for (or what is promised of it), in which every lookup reads exactly one
//! bucket.
//!
//! Nothing here ever looks for another place for an entry. That there is room in
//! its bucket was made sure when the address was allocated, by [`Shadow`], which
//! the slow path keeps to itself.

use kernel::{prelude::*, siphash::Key};

/// Slots of a bucket (`K` of the paper).
pub const SLOTS: usize = 16;

/// Slots for each page that may be promised.
pub const SLACK: usize = 2;

/// A page of an address space, as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageId {
    /// The address space: a number that this node never gives again.
    pub space: u32,
    /// Pages from [`VA_BASE`](super::control::VA_BASE) on.
    pub page: u32,
}

/// What is allocated there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    id: PageId,
    /// Number of the pool's page, plus 1; 0 before the first touch.
    frame: u32,
    bits: u32,
}

impl Entry {
    const EMPTY: Self = Self {
        id: PageId { space: 0, page: 0 },
        frame: 0,
        bits: 0,
    };

    const RIGHTS: u32 = super::wire::rights::ALL;
    const FIRST: u32 = 1 << 31;

    /// A page that nobody touched yet. `first`: an allocation begins with it.
    pub fn new(id: PageId, rights: u32, first: bool) -> Self {
        Self {
            id,
            frame: 0,
            bits: rights & Self::RIGHTS | if first { Self::FIRST } else { 0 },
        }
    }

    /// Page of the pool that has the bytes; none before the first touch.
    pub fn frame(&self) -> Option<u32> {
        self.frame.checked_sub(1)
    }

    /// It has bytes now, or has none any more. Frames are below `u32::MAX`.
    pub fn set_frame(&mut self, frame: Option<u32>) {
        self.frame = frame.map_or(0, |frame| frame.saturating_add(1));
    }

    /// Bits of [`rights`](super::wire::rights).
    pub fn rights(&self) -> u32 {
        self.bits & Self::RIGHTS
    }

    /// Changes them.
    pub fn set_rights(&mut self, rights: u32) {
        self.bits = self.bits & !Self::RIGHTS | rights & Self::RIGHTS;
    }

    /// An allocation begins with this page.
    pub fn is_first(&self) -> bool {
        self.bits & Self::FIRST != 0
    }

    fn is_empty(&self) -> bool {
        self.id.space == 0
    }
}

/// Where pages go: the same for table and shadow.
#[derive(Clone, Copy, Debug)]
pub struct Hash {
    key: Key,
    mask: usize,
}

impl Hash {
    /// For so many pages. The key is random, so that nobody can choose
    /// addresses that meet in one bucket.
    pub fn new(key: Key, pages: usize) -> Self {
        let buckets = pages.saturating_mul(SLACK).div_ceil(SLOTS);
        Self {
            key,
            mask: buckets.max(1).checked_next_power_of_two().unwrap_or(1) - 1,
        }
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.mask + 1
    }

    /// Which bucket.
    pub fn bucket(&self, id: PageId) -> usize {
        let word = (u64::from(id.space) << 32) | u64::from(id.page);
        self.key.hash(&[&word.to_le_bytes()]) as usize & self.mask
    }
}

/// The table. Space numbers begin with 1.
#[derive(Debug)]
pub struct PageTable {
    hash: Hash,
    buckets: KVVec<[Entry; SLOTS]>,
    len: usize,
}

impl PageTable {
    /// An empty table.
    pub fn new(hash: Hash) -> Result<Self> {
        Ok(Self {
            hash,
            buckets: KVVec::from_elem([Entry::EMPTY; SLOTS], hash.buckets(), GFP_KERNEL)?,
            len: 0,
        })
    }

    /// Entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<[Entry; SLOTS]>()
    }

    fn slot(&mut self, id: PageId) -> Option<&mut Entry> {
        let bucket = self.hash.bucket(id);
        self.buckets
            .get_mut(bucket)?
            .iter_mut()
            .find(|entry| entry.id == id)
    }

    /// What is allocated at a page.
    pub fn get(&self, id: PageId) -> Option<Entry> {
        self.buckets
            .get(self.hash.bucket(id))?
            .iter()
            .find(|entry| entry.id == id)
            .copied()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: PageId) -> Option<&mut Entry> {
        self.slot(id)
    }

    /// Puts an entry in. `ENOSPC` when its bucket is full, `EEXIST` when the page is
    /// there: both say that the shadow was not asked.
    pub fn insert(&mut self, entry: Entry) -> Result {
        let bucket = self
            .buckets
            .get_mut(self.hash.bucket(entry.id))
            .ok_or(ENOSPC)?;
        if bucket.iter().any(|other| other.id == entry.id) {
            return Err(EEXIST);
        }
        let slot = bucket
            .iter_mut()
            .find(|slot| slot.is_empty())
            .ok_or(ENOSPC)?;
        *slot = entry;
        self.len += 1;
        Ok(())
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: PageId) -> Option<Entry> {
        let entry = ::core::mem::replace(self.slot(id)?, Entry::EMPTY);
        self.len -= 1;
        Some(entry)
    }
}

/// How full each bucket is, for the slow path to look ahead (section 4.5). It
/// counts what is in the table, and what is about to be.
#[derive(Debug)]
pub struct Shadow {
    hash: Hash,
    used: KVVec<u8>,
}

impl Shadow {
    /// Of an empty table.
    pub fn new(hash: Hash) -> Result<Self> {
        Ok(Self {
            hash,
            used: KVVec::from_elem(0, hash.buckets(), GFP_KERNEL)?,
        })
    }

    /// Reserves a slot; false when the bucket has none left.
    pub fn reserve(&mut self, id: PageId) -> bool {
        match self.used.get_mut(self.hash.bucket(id)) {
            Some(used) if usize::from(*used) < SLOTS => {
                *used += 1;
                true
            }
            _ => false,
        }
    }

    /// Gives a slot back.
    pub fn release(&mut self, id: PageId) {
        if let Some(used) = self.used.get_mut(self.hash.bucket(id)) {
            *used = used.saturating_sub(1);
        }
    }

    /// Reserves a slot for each of `pages` pages from `first` on, or none: the error
    /// is the first page that found its bucket full.
    pub fn reserve_range(&mut self, space: u32, first: u32, pages: u32) -> Result<(), u32> {
        for page in first..first.saturating_add(pages) {
            if !self.reserve(PageId { space, page }) {
                self.release_range(space, first, page - first);
                return Err(page);
            }
        }
        Ok(())
    }

    /// Gives them back.
    pub fn release_range(&mut self, space: u32, first: u32, pages: u32) {
        for page in first..first.saturating_add(pages) {
            self.release(PageId { space, page });
        }
    }
}
