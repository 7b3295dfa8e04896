// SPDX-License-Identifier: GPL-2.0

//! Address spaces and their regions, as the fast path needs them. All room is
//! made beforehand: nothing here allocates once a board exists.

use super::control::{Descriptor, MAX_REGIONS, VA_BASE};
use kernel::{prelude::*, siphash::Key};

/// What the fast path does with requests for a region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RegionState {
    /// Not ours: the home knows whose.
    #[default]
    Elsewhere,
    /// Ours.
    Live,
    /// It is leaving, or arriving: try again soon.
    Paused,
}

/// A region, as the fast path needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastRegion {
    /// What to do with requests.
    pub state: RegionState,
    /// Requests since somebody looked: how warm it is.
    pub hits: u32,
}

/// An address space that has regions here.
#[derive(Debug)]
pub struct Space {
    /// Its id.
    pub ras: u64,
    /// Its number in the page table, never given again.
    pub number: u32,
    /// Its key.
    pub key: Key,
    region_shift: u8,
    regions: KVVec<FastRegion>,
    /// Requests that workers have not finished.
    pub pending: u32,
}

impl Space {
    /// Without regions. `EINVAL` for sizes that regions cannot have.
    pub fn new(descriptor: &Descriptor, number: u32) -> Result<Self> {
        if !super::control::REGION_SHIFT.contains(&descriptor.region_shift) {
            return Err(EINVAL);
        }
        Ok(Self {
            ras: descriptor.ras,
            number,
            key: descriptor.key.key(),
            region_shift: descriptor.region_shift,
            regions: KVVec::new(),
            pending: 0,
        })
    }

    /// Bytes of a region.
    pub fn region_size(&self) -> u64 {
        1 << self.region_shift
    }

    /// The region that has all of `len` bytes at `addr`, and where it is in it.
    pub fn region_of(&self, addr: u64, len: u64) -> Option<u32> {
        region_of(self.region_shift, addr, len)
    }

    /// State of a region.
    pub fn region(&self, index: u32) -> FastRegion {
        self.regions
            .get(index as usize)
            .copied()
            .unwrap_or_default()
    }

    /// The same, to be changed; none beyond the room there is.
    pub fn region_mut(&mut self, index: u32) -> Option<&mut FastRegion> {
        self.regions.get_mut(index as usize)
    }

    /// Makes room, which takes the place of what there was. What is returned is to
    /// be dropped without the board's lock.
    pub fn make_room(&mut self, mut room: KVVec<FastRegion>) -> KVVec<FastRegion> {
        if room.len() > self.regions.len() {
            for (to, from) in room.iter_mut().zip(self.regions.iter()) {
                *to = *from;
            }
            ::core::mem::swap(&mut room, &mut self.regions);
        }
        room
    }
}

/// The region that has all of `len` bytes at `addr`, and no other.
pub fn region_of(region_shift: u8, addr: u64, len: u64) -> Option<u32> {
    let start = addr.checked_sub(VA_BASE)?;
    let last = start.checked_add(len.max(1) - 1)?;
    let index = start >> region_shift;
    (index == last >> region_shift && index < u64::from(MAX_REGIONS)).then_some(index as u32)
}

/// All address spaces of a board, by their ids.
#[derive(Debug)]
pub struct Spaces {
    sorted: KVVec<Space>,
}

impl Spaces {
    /// None yet, of at most `capacity`.
    pub fn new(capacity: usize) -> Result<Self> {
        Ok(Self {
            sorted: KVVec::with_capacity(capacity, GFP_KERNEL)?,
        })
    }

    fn find(&self, ras: u64) -> Result<usize, usize> {
        self.sorted.binary_search_by_key(&ras, |space| space.ras)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The one of this id.
    pub fn get(&self, ras: u64) -> Option<&Space> {
        self.sorted.get(self.find(ras).ok()?)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, ras: u64) -> Option<&mut Space> {
        let at = self.find(ras).ok()?;
        self.sorted.get_mut(at)
    }

    /// Adds one. `EEXIST`, or `ENOSPC` when there is room for no more.
    pub fn insert(&mut self, space: Space) -> Result {
        match self.find(space.ras) {
            Ok(_) => Err(EEXIST),
            Err(at) => self
                .sorted
                .insert_within_capacity(at, space)
                .map_err(|_| ENOSPC),
        }
    }

    /// Takes one out; it is to be dropped without the board's lock.
    pub fn remove(&mut self, ras: u64) -> Option<Space> {
        let at = self.find(ras).ok()?;
        self.sorted.remove(at).ok()
    }
}
