// SPDX-License-Identifier: GPL-2.0

//! Allocations: made, freed, emptied, and given other rights.

use super::{Fast, Slow, SlowRegion, Stage};
use crate::core::{
    board::Board,
    page_table::{Entry, PageId},
    pool::Pool,
    ranges::{Allocation, Ranges},
    space::region_of,
    wire::{flags, rights, Header, Op, Status},
};
use kernel::prelude::*;

/// Pages that are changed in one step, with the board's lock held.
const STEP: u32 = 64;

impl Slow {
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
    pub(super) fn add(&mut self, host: &impl Fast, ras: u64, index: u32, allocation: Allocation) -> Result {
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
    pub(super) fn take(&mut self, host: &impl Fast, ras: u64, index: u32, first: u32) {
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

    pub(in crate::core) fn next_allocation(&self, ras: u64, from: u32, end: u32) -> Option<Allocation> {
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
