// SPDX-License-Identifier: GPL-2.0

//! The slow path: allocations, and the regions and address spaces that they are
//! in. One worker at a time has it, behind a mutex; it changes the board in short
//! steps, so that the fast path never waits for long.

use super::{
    board::{Board, Config},
    control::{Descriptor, NodeStat, MAX_REGIONS, VA_BASE},
    home::{Home, Life},
    page_table::{Entry, PageId, Shadow},
    pool::Pool,
    ranges::{Allocation, Ranges},
    space::{region_of, FastRegion, RegionState, Space},
    wire::{flags, rights, Header, Op, Status},
};
use kernel::{prelude::*, rbtree::RBTree};

/// Pages that are changed in one step, with the board's lock held.
const STEP: u32 = 64;

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

    /// Executes a request that the fast path handed over. The caller answers with
    /// [`Board::finish`].
    pub fn execute(
        &mut self,
        host: &impl Fast,
        pool: &impl Pool,
        request: &Header,
    ) -> (Status, u64) {
        let result = match request.op {
            Op::Alloc => self.alloc(host, request),
            Op::Free => self.free(host, request).map(|()| 0),
            Op::Zero => self.zero(host, pool, request).map(|()| 0),
            Op::Protect => self.protect(host, request).map(|()| 0),
            _ => Err(Status::NotSupported),
        };
        match result {
            Ok(operand) => (Status::Ok, operand),
            Err(status) => (status, 0),
        }
    }

    /// The region at an address, if it is ours and at rest.
    fn live(&self, request: &Header, len: u64) -> Result<(u32, SlowRegion), Status> {
        let space = self.spaces.get(&request.ras).ok_or(Status::Moved)?;
        let index =
            region_of(space.descriptor.region_shift, request.addr, len).ok_or(Status::Fault)?;
        let region = space.regions.get(&index).ok_or(Status::Moved)?;
        match region.stage {
            Stage::Live => Ok((index, *region)),
            Stage::Leaving | Stage::Arriving { .. } => Err(Status::Paused),
        }
    }

    fn alloc(&mut self, host: &impl Fast, request: &Header) -> Result<u64, Status> {
        const KNOWN: u32 = rights::ALL | rights::FIXED | rights::CONTINUES;
        let wanted = request.argument;
        let fixed = wanted & rights::FIXED != 0;
        let continues = wanted & rights::CONTINUES != 0;
        if wanted & !KNOWN != 0 || wanted & rights::ALL == 0 || continues && !fixed {
            return Err(Status::Invalid);
        }
        if request.operand == 0 || fixed && request.addr & (self.page_size() - 1) != 0 {
            return Err(Status::Invalid);
        }
        let (index, region) = self.live(request, 1)?;
        let space = self.spaces.get(&request.ras).ok_or(Status::Moved)?;
        let (number, region_shift) = (space.number, space.descriptor.region_shift);
        if request.operand > 1 << region_shift {
            return Err(Status::TooLarge);
        }
        let pages = self.pages_of(request.operand);
        let bytes = pages << self.page_shift;
        if region.used + bytes > region.allowance {
            return Err(Status::Quota);
        }
        if self.promised + pages > self.limit {
            return Err(Status::NoSpace);
        }
        let pages = pages as u32;
        let (start, end) = self.pages_of_region(region_shift, index);
        let place = match self.page_at(request.addr) {
            Some(page) if fixed => self.place(host, request.ras, number, page, page, pages, end),
            _ => self.place(host, request.ras, number, start, end, pages, end),
        }?;
        let allocation = Allocation {
            first: place,
            pages,
            rights: wanted & (rights::ALL | rights::CONTINUES),
        };
        self.add(host, request.ras, index, allocation)
            .map_err(|_| {
                self.shadow.release_range(number, place, pages);
                Status::Busy
            })?;
        host.fast(|board| board.stats.allocations += 1);
        Ok(self.addr_of(place))
    }

    /// An address for `pages` pages before `end`, beginning with one of
    /// `from..=last`, where no bucket of the page table overflows. Their slots are
    /// reserved then.
    #[allow(clippy::too_many_arguments, reason = "all are numbers of pages")]
    fn place(
        &mut self,
        host: &impl Fast,
        ras: u64,
        number: u32,
        from: u32,
        last: u32,
        pages: u32,
        end: u32,
    ) -> Result<u32, Status> {
        let ranges = &self.spaces.get(&ras).ok_or(Status::Moved)?.ranges;
        let mut at = from;
        let mut retries = 0;
        let found = loop {
            match ranges.gap(at, pages, end) {
                Some(gap) if gap <= last => {
                    match self.shadow.reserve_range(number, gap, pages) {
                        Ok(()) => break Ok(gap),
                        // Every place that has this page in it overflows as well.
                        Err(full) => {
                            retries += 1;
                            at = full + 1;
                        }
                    }
                }
                _ => break Err(Status::NoSpace),
            }
        };
        host.fast(|board| {
            board.stats.allocation_retries += retries;
            let most = &mut board.stats.most_allocation_retries;
            *most = retries.max(*most);
        });
        found
    }

    /// Puts an allocation, whose slots are reserved, into tree and page table.
    fn add(&mut self, host: &impl Fast, ras: u64, index: u32, allocation: Allocation) -> Result {
        let node = Ranges::node(allocation)?;
        let page_shift = self.page_shift;
        let space = self.spaces.get_mut(&ras).ok_or(ENOENT)?;
        space.ranges.insert(node);
        if let Some(region) = space.regions.get_mut(&index) {
            region.used += u64::from(allocation.pages) << page_shift;
        }
        let number = space.number;
        self.promised += u64::from(allocation.pages);
        let begins = allocation.rights & rights::CONTINUES == 0;
        in_steps(host, allocation.first, allocation.pages, |board, page| {
            let first = begins && page == allocation.first;
            let id = PageId {
                space: number,
                page,
            };
            // There is room, the shadow says, and nothing is there, the tree says.
            if board
                .insert_page(Entry::new(id, allocation.rights, first))
                .is_err()
            {
                pr_err!("legomem: page table and its shadow differ: page is lost\n");
            }
        });
        Ok(())
    }

    /// Takes an allocation out of both. Its frames are free then.
    fn take(&mut self, host: &impl Fast, ras: u64, index: u32, first: u32) {
        let Some(space) = self.spaces.get_mut(&ras) else {
            return;
        };
        let Some(gone) = space.ranges.remove(first) else {
            return;
        };
        if let Some(region) = space.regions.get_mut(&index) {
            region.used = region
                .used
                .saturating_sub(u64::from(gone.pages) << self.page_shift);
        }
        let number = space.number;
        self.promised = self.promised.saturating_sub(gone.pages.into());
        in_steps(host, gone.first, gone.pages, |board, page| {
            board.remove_page(PageId {
                space: number,
                page,
            });
        });
        self.shadow.release_range(number, gone.first, gone.pages);
    }

    /// The pages of a request about whole allocations.
    fn whole(&self, request: &Header) -> Result<(u32, u32, u32), Status> {
        if request.operand == 0 {
            return Err(Status::Invalid);
        }
        if request.addr & (self.page_size() - 1) != 0 {
            return Err(Status::Fault);
        }
        let (index, _) = self.live(request, request.operand)?;
        let first = self.page_at(request.addr).ok_or(Status::Fault)?;
        let pages = u32::try_from(self.pages_of(request.operand)).map_err(|_| Status::Fault)?;
        let space = self.spaces.get(&request.ras).ok_or(Status::Moved)?;
        if space.ranges.are_whole(first, pages) {
            Ok((index, first, first + pages))
        } else {
            Err(Status::Fault)
        }
    }

    fn free(&mut self, host: &impl Fast, request: &Header) -> Result<(), Status> {
        let (index, mut at, end) = self.whole(request)?;
        while let Some(next) = self.next_allocation(request.ras, at, end) {
            self.take(host, request.ras, index, next.first);
            at = next.end();
        }
        Ok(())
    }

    fn protect(&mut self, host: &impl Fast, request: &Header) -> Result<(), Status> {
        let wanted = request.argument;
        if wanted & !rights::ALL != 0 {
            return Err(Status::Invalid);
        }
        let (_, mut at, end) = self.whole(request)?;
        while let Some(next) = self.next_allocation(request.ras, at, end) {
            let Some(space) = self.spaces.get_mut(&request.ras) else {
                return Err(Status::Moved);
            };
            space
                .ranges
                .set_rights(next.first, wanted | next.rights & rights::CONTINUES);
            let number = space.number;
            in_steps(host, next.first, next.pages, |board, page| {
                let id = PageId {
                    space: number,
                    page,
                };
                board.set_rights(id, wanted);
            });
            at = next.end();
        }
        Ok(())
    }

    pub(super) fn next_allocation(&self, ras: u64, from: u32, end: u32) -> Option<Allocation> {
        self.spaces.get(&ras)?.ranges.next(from, end)
    }

    fn zero(&mut self, host: &impl Fast, pool: &impl Pool, request: &Header) -> Result<(), Status> {
        let len = request.operand;
        if len == 0 {
            return Err(Status::Invalid);
        }
        self.live(request, len)?;
        let space = self.spaces.get(&request.ras).ok_or(Status::Moved)?;
        let number = space.number;
        let first = self.page_at(request.addr).ok_or(Status::Fault)?;
        let last = self
            .page_at(request.addr + (len - 1))
            .ok_or(Status::Fault)?;
        let inside = space.ranges.containing(first).ok_or(Status::Fault)?;
        let begins = first == inside.first && inside.rights & rights::CONTINUES == 0;
        if last >= inside.end() || begins && request.flags & flags::CONTINUED != 0 {
            return Err(Status::Fault);
        }
        if inside.rights & rights::WRITE == 0 {
            return Err(Status::Denied);
        }
        let page_size = self.page_size();
        let end = request.addr + len;
        let base = self.addr_of(0);
        in_steps(host, first, last - first + 1, |board, page| {
            let start = base + u64::from(page) * page_size;
            let from = request.addr.max(start);
            let to = end.min(start + page_size);
            let id = PageId {
                space: number,
                page,
            };
            if to - from == page_size {
                board.empty_page(id);
            } else if let Some(frame) = board.table().get(id).and_then(|entry| entry.frame()) {
                pool.zero(frame, (from - start) as usize, (to - from) as usize);
            }
        });
        Ok(())
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

/// Changes pages, some at a time, so that the lock is never held for long.
fn in_steps(host: &impl Fast, first: u32, pages: u32, mut f: impl FnMut(&mut Board, u32)) {
    let end = first.saturating_add(pages);
    let mut at = first;
    while at < end {
        let to = end.min(at.saturating_add(STEP));
        host.fast(|board| (at..to).for_each(|page| f(board, page)));
        at = to;
    }
}
