// SPDX-License-Identifier: GPL-2.0

//! The slow path: allocations, and the regions and address spaces that they are
//! in. One worker at a time has it, behind a mutex; it changes the board in short
//! steps, so that the fast path never waits for long.

mod allocations;

use super::{
    board::{Board, Config},
    control::{Descriptor, NodeStat, MAX_REGIONS, VA_BASE},
    home::{Home, Life},
    page_table::Shadow,
    ranges::{Allocation, Ranges},
    space::{region_of, FastRegion, RegionState, Space},
    wire::rights,
};
use kernel::{prelude::*, rbtree::RBTree};

/// The board, behind its lock.
pub trait Fast {
    /// Runs `f` with the lock held. Never nested; `f` does not allocate.
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R;
}

/// What a region is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is served.
    Live,
    /// It is being given to another node.
    Leaving,
    /// It is being taken over.
    Arriving {
        /// In this migration.
        token: u64,
        /// From here.
        from: Life,
    },
}

/// A region of ours.
#[derive(Clone, Copy, Debug)]
pub struct SlowRegion {
    /// Bytes that may be allocated in it.
    pub allowance: u64,
    /// Bytes that are.
    pub used: u64,
    /// What it is doing.
    pub stage: Stage,
}

/// An address space that has regions here.
pub struct SlowSpace {
    /// What the home said of it.
    pub descriptor: Descriptor,
    /// Its number in the page table.
    pub number: u32,
    pub(super) ranges: Ranges,
    pub(super) regions: RBTree<u32, SlowRegion>,
}

/// See the file's beginning.
pub struct Slow {
    page_shift: u8,
    pages: u64,
    limit: u64,
    shadow: Shadow,
    spaces: RBTree<u64, SlowSpace>,
    promised: u64,
    next_number: u32,
    /// Address spaces whose home this node is.
    pub home: Home,
    /// No new regions, and those there are go away.
    pub draining: bool,
}

impl SlowSpace {
    /// Regions there are.
    pub fn regions(&self) -> impl Iterator<Item = (u32, SlowRegion)> + '_ {
        self.regions.iter().map(|(index, region)| (*index, *region))
    }

    /// A region of ours.
    pub fn region(&self, index: u32) -> Option<SlowRegion> {
        self.regions.get(&index).copied()
    }
}

impl Slow {
    /// Of an empty board of this configuration.
    pub fn new(config: &Config) -> Result<Self> {
        Ok(Self {
            page_shift: config.page_shift,
            pages: config.pages.into(),
            limit: config.limit(),
            shadow: Shadow::new(config.hash())?,
            spaces: RBTree::new(),
            promised: 0,
            next_number: 1,
            home: Home::default(),
            draining: false,
        })
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> u64 {
        1 << self.page_shift
    }

    /// Pages that so many bytes take.
    fn pages_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.page_size())
    }

    /// The page that an address is in; addresses below [`VA_BASE`] are none.
    fn page_at(&self, addr: u64) -> Option<u32> {
        u32::try_from(addr.checked_sub(VA_BASE)? >> self.page_shift).ok()
    }

    fn addr_of(&self, page: u32) -> u64 {
        VA_BASE + (u64::from(page) << self.page_shift)
    }

    /// First page of a region, and the first behind it.
    pub(super) fn pages_of_region(&self, region_shift: u8, index: u32) -> (u32, u32) {
        let shift = region_shift.saturating_sub(self.page_shift);
        (index << shift, (index + 1) << shift)
    }

    /// An address space that has regions here.
    pub fn space(&self, ras: u64) -> Option<&SlowSpace> {
        self.spaces.get(&ras)
    }

    /// All that have.
    pub fn spaces(&self) -> impl Iterator<Item = &SlowSpace> {
        self.spaces.values()
    }

    pub(super) fn region_mut(&mut self, ras: u64, index: u32) -> Option<&mut SlowRegion> {
        self.spaces.get_mut(&ras)?.regions.get_mut(&index)
    }

    /// A region is ours now, or its allowance changed: to `allowance`, or to what is
    /// used if that is more. Returns the allowance and what is used of it.
    ///
    /// `EINVAL`: no such region can be; `EACCES`: the address space is here with
    /// another key; `ENOSPC`: too many address spaces; `EBUSY`: it is moving.
    pub fn grant(
        &mut self,
        host: &impl Fast,
        descriptor: &Descriptor,
        index: u32,
        allowance: u64,
        stage: Stage,
    ) -> Result<(u64, u64)> {
        if index >= MAX_REGIONS
            || descriptor.ras == 0
            || allowance > 1 << descriptor.region_shift.min(63)
            || descriptor.region_shift < self.page_shift
        {
            return Err(EINVAL);
        }
        self.ensure_space(host, descriptor)?;
        if let Some(region) = self.region_mut(descriptor.ras, index) {
            if region.stage != Stage::Live || stage != Stage::Live {
                return Err(EBUSY);
            }
            region.allowance = allowance.max(region.used);
            return Ok((region.allowance, region.used));
        }
        let room = {
            let mut room = KVVec::new();
            room.resize(
                (index as usize + 1).next_power_of_two(),
                FastRegion::default(),
                GFP_KERNEL,
            )?;
            room
        };
        let region = SlowRegion {
            allowance,
            used: 0,
            stage,
        };
        let space = self.spaces.get_mut(&descriptor.ras).ok_or(ENOENT)?;
        space
            .regions
            .try_create_and_insert(index, region, GFP_KERNEL)?;
        let old = host.fast(|board| {
            let old = board
                .space_mut(descriptor.ras)
                .map(|space| space.make_room(room));
            board.stats.regions_received += u64::from(stage != Stage::Live);
            old
        });
        drop(old);
        self.set_state(host, descriptor.ras, index, fast_state(stage));
        Ok((allowance, 0))
    }

    fn ensure_space(&mut self, host: &impl Fast, descriptor: &Descriptor) -> Result {
        if let Some(space) = self.spaces.get(&descriptor.ras) {
            return if space.descriptor == *descriptor {
                Ok(())
            } else {
                Err(EACCES)
            };
        }
        let number = self.next_number;
        let space = Space::new(descriptor, number)?;
        let next_number = number.checked_add(1).ok_or(ENOSPC)?;
        self.spaces.try_create_and_insert(
            descriptor.ras,
            SlowSpace {
                descriptor: *descriptor,
                number,
                ranges: Ranges::default(),
                regions: RBTree::new(),
            },
            GFP_KERNEL,
        )?;
        // A space that does not fit is dropped outside of the lock.
        if let Err(error) = host.fast(|board| board.add_space(space)) {
            self.spaces.remove(&descriptor.ras);
            return Err(error);
        }
        self.next_number = next_number;
        Ok(())
    }

    pub(super) fn set_state(&mut self, host: &impl Fast, ras: u64, index: u32, state: RegionState) {
        host.fast(|board| {
            if let Some(region) = board.space_mut(ras).and_then(|s| s.region_mut(index)) {
                region.state = state;
            }
        });
    }

    /// A region is not ours any more: its memory is free. No error if it was not.
    pub fn revoke(&mut self, host: &impl Fast, ras: u64, index: u32) {
        let Some(space) = self.spaces.get(&ras) else {
            return;
        };
        let region_shift = space.descriptor.region_shift;
        self.set_state(host, ras, index, RegionState::Elsewhere);
        let (mut at, end) = self.pages_of_region(region_shift, index);
        while let Some(next) = self.next_allocation(ras, at, end) {
            self.take(host, ras, index, next.first);
            at = next.end();
        }
        let is_empty = match self.spaces.get_mut(&ras) {
            Some(space) => {
                space.regions.remove(&index);
                space.regions.is_empty()
            }
            None => false,
        };
        if is_empty {
            self.spaces.remove(&ras);
            // Dropped here, without the lock.
            drop(host.fast(|board| board.remove_space(ras)));
        }
    }

    /// An address space is gone. No error if it was not here.
    pub fn drop_space(&mut self, host: &impl Fast, ras: u64) {
        while let Some(index) = self
            .spaces
            .get(&ras)
            .and_then(|space| space.regions.keys().next().copied())
        {
            self.revoke(host, ras, index);
        }
    }

    /// An allocation of a region that arrives. `ENOSPC` when its pages do not fit:
    /// in pool, page table or allowance; `EINVAL` when it cannot be one.
    pub(super) fn adopt(
        &mut self,
        host: &impl Fast,
        ras: u64,
        index: u32,
        addr: u64,
        len: u64,
        rights: u32,
    ) -> Result {
        let space = self.spaces.get(&ras).ok_or(ENOENT)?;
        let number = space.number;
        let whole = (addr | len) & (self.page_size() - 1) == 0 && len != 0;
        if region_of(space.descriptor.region_shift, addr, len) != Some(index)
            || !whole
            || rights & !(rights::ALL | rights::CONTINUES) != 0
        {
            return Err(EINVAL);
        }
        let first = self.page_at(addr).ok_or(EINVAL)?;
        let pages = u32::try_from(self.pages_of(len))?;
        if self.promised + u64::from(pages) > self.limit {
            return Err(ENOSPC);
        }
        if space.ranges.gap(first, pages, first + pages) != Some(first) {
            return Err(EINVAL);
        }
        self.shadow
            .reserve_range(number, first, pages)
            .map_err(|_| ENOSPC)?;
        let allocation = Allocation {
            first,
            pages,
            rights,
        };
        self.add(host, ras, index, allocation)
            .inspect_err(|_| self.shadow.release_range(number, first, pages))
    }

    /// Where an allocation stands, and its bytes.
    pub(super) fn bytes_of(&self, allocation: &Allocation) -> (u64, u64) {
        (
            self.addr_of(allocation.first),
            u64::from(allocation.pages) << self.page_shift,
        )
    }

    /// Whether more pages are promised than there are.
    pub(super) fn promises_too_much(&self) -> bool {
        self.promised > self.pages
    }

    /// What others place regions by. The caller fills in what it knows of the node.
    pub fn stat(&self, host: &impl Fast) -> NodeStat {
        let free = host.fast(|board| board.free_pages().len() as u64);
        let regions = || self.spaces.values().flat_map(SlowSpace::regions);
        NodeStat {
            node: 0,
            port: 0,
            page_shift: self.page_shift,
            draining: self.draining,
            incarnation: 0,
            pages: self.pages,
            free,
            promised: self.promised,
            limit: self.limit,
            allowance: regions().map(|(_, region)| region.allowance).sum(),
            regions: regions().count() as u32,
            spaces: self.spaces.values().count() as u32,
            load: 0,
        }
    }
}

/// What the fast path does in a stage.
pub(super) fn fast_state(stage: Stage) -> RegionState {
    match stage {
        Stage::Live => RegionState::Live,
        Stage::Leaving | Stage::Arriving { .. } => RegionState::Paused,
    }
}
