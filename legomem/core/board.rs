// SPDX-License-Identifier: GPL-2.0

//! The board: all that the fast path knows. It is behind one lock, which is held
//! for bounded, short times; nothing in it allocates after it was made.
//!
//! It has no state of clients. What it has grows with the pool (page table, free
//! pages), with the link (the dedup ring), with address spaces and with the nodes
//! of the map.

use super::{
    dedup::{Dedup, Effect, Place, Record},
    members::Members,
    page_table::{Entry, Hash, PageId, PageTable},
    pool::{FreePages, Pool},
    space::{RegionState, Space, Spaces},
    stats::Stats,
    wire::{flags, Header, Op, Remedy, Status},
};
use kernel::{prelude::*, siphash::Key};

/// Sizes of a board.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Pages of the pool.
    pub pages: u32,
    /// `1 << page_shift` bytes to a page: 16 to 22.
    pub page_shift: u8,
    /// The pool is known to be zero.
    pub clean: bool,
    /// Percent of the pool that may be promised: 100 never promises a page that is
    /// not there.
    pub overcommit: u32,
    /// Effects that are remembered.
    pub dedup: usize,
    /// Address spaces that can have regions here.
    pub spaces: usize,
    /// A random key, for the hash tables.
    pub key: [u64; 2],
}

impl Config {
    /// Page sizes: 64 KiB to 4 MiB. No request is larger than a page, so none
    /// meets more than two.
    pub const PAGE_SHIFT: ::core::ops::RangeInclusive<u8> = 16..=22;

    /// Pages that may be promised.
    pub fn limit(&self) -> u64 {
        u64::from(self.pages) * u64::from(self.overcommit.max(1)) / 100
    }

    /// Where pages go in the page table, which has slots for all that may be promised.
    pub fn hash(&self) -> Hash {
        Hash::new(Key::new(self.key), self.limit() as usize)
    }
}

/// See the file's beginning.
#[derive(Debug)]
pub struct Board {
    pub(super) page_shift: u8,
    pub(super) table: PageTable,
    pub(super) free: FreePages,
    pub(super) spaces: Spaces,
    pub(super) dedup: Dedup,
    pub(super) members: Members,
    /// Hints that may be sent before [`Self::allow_hints`] is called again.
    hints: u32,
    /// What was counted.
    pub stats: Stats,
}

/// Whether a request that changes something is to be executed.
pub(super) enum Novelty {
    /// It was not executed before.
    New,
    /// It was: this was the answer.
    Done(Status, u64),
    /// It is being executed, or nobody knows.
    Refuse(Status),
}

impl Board {
    /// A board without address spaces, which knows no nodes.
    pub fn new(config: &Config) -> Result<Self> {
        if !Config::PAGE_SHIFT.contains(&config.page_shift) || config.pages == 0 {
            return Err(EINVAL);
        }
        let [one, two] = config.key;
        Ok(Self {
            page_shift: config.page_shift,
            table: PageTable::new(config.hash())?,
            free: FreePages::new(config.pages, config.clean)?,
            spaces: Spaces::new(config.spaces)?,
            // Another key than the page table's, from the same randomness.
            dedup: Dedup::new(Key::new([two, !one]), config.dedup)?,
            members: Members::default(),
            hints: 0,
            stats: Stats::default(),
        })
    }

    /// The key that a request for this address space is to be verified with.
    pub fn key(&self, ras: u64) -> Option<Key> {
        Some(self.spaces.get(ras)?.key)
    }

    /// A packet for an address space that is not here came: whether its sender gets a
    /// hint. Only so many do, as anybody can send such packets.
    pub fn unknown_space(&mut self) -> bool {
        self.stats.unknown_space += 1;
        let left = self.hints.checked_sub(1);
        self.hints = left.unwrap_or(0);
        self.stats.hints += u64::from(left.is_some());
        left.is_some()
    }

    /// Allows so many hints from now on.
    pub fn allow_hints(&mut self, count: u32) {
        self.hints = count;
    }

    /// Low bits of the epoch of our map.
    pub fn epoch(&self) -> u32 {
        self.members.epoch
    }

    /// Bytes of a page.
    pub fn page_size(&self) -> usize {
        1 << self.page_shift
    }

    /// The free pages.
    pub fn free_pages(&mut self) -> &mut FreePages {
        &mut self.free
    }

    /// The page table.
    pub fn table(&self) -> &PageTable {
        &self.table
    }

    /// Bytes of the dedup ring.
    pub fn dedup_bytes(&self) -> usize {
        self.dedup.bytes()
    }

    /// Address spaces.
    pub fn spaces(&self) -> &Spaces {
        &self.spaces
    }

    /// Adds an address space.
    pub fn add_space(&mut self, space: Space) -> Result {
        self.spaces.insert(space)
    }

    /// Takes one away, to be dropped without the lock.
    pub fn remove_space(&mut self, ras: u64) -> Option<Space> {
        self.spaces.remove(ras)
    }

    /// An address space, to be changed.
    pub fn space_mut(&mut self, ras: u64) -> Option<&mut Space> {
        self.spaces.get_mut(ras)
    }

    /// A new map is in force. What is returned is to be dropped without the lock.
    pub fn set_members(&mut self, mut members: Members) -> Members {
        members.inherit(&self.members);
        ::core::mem::replace(&mut self.members, members)
    }

    /// The nodes of the map that are up.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// Page that an address is in.
    pub(super) fn page_of(&self, number: u32, addr: u64) -> PageId {
        PageId {
            space: number,
            page: (addr.wrapping_sub(super::control::VA_BASE) >> self.page_shift) as u32,
        }
    }

    /// Whether the map has the requester, and it has the map.
    pub(super) fn check_requester(&self, request: &Header) -> Result<(), Status> {
        let ahead = request.epoch.wrapping_sub(self.members.epoch) as i32;
        if self.members.has(request.node, request.incarnation) {
            if ahead < 0 {
                return Err(Status::Stale);
            }
            return Ok(());
        }
        // A node that joined by a map that is not here yet.
        Err(if ahead > 0 {
            Status::Busy
        } else {
            Status::Stale
        })
    }

    fn effect(request: &Header) -> Effect {
        Effect {
            node: request.node,
            incarnation: request.incarnation,
            first: request.first,
            offset: request.offset,
        }
    }

    pub(super) fn novelty(&mut self, request: &Header) -> Novelty {
        match self.dedup.get(&Self::effect(request)) {
            Some(Record::Done { status, operand }) => {
                self.stats.duplicates += 1;
                Novelty::Done(status, operand)
            }
            Some(Record::Running) => Novelty::Refuse(Status::Busy),
            None if self.members.is_beyond_memory(request.node, request.first) => {
                Novelty::Refuse(Status::Forgotten)
            }
            None => Novelty::New,
        }
    }

    /// Remembers that a request is executed.
    pub(super) fn remember(&mut self, request: &Header, record: Record) {
        let addr = match request.op {
            Op::FlushFetch => request.operand,
            _ => request.addr,
        };
        let place = self
            .spaces
            .get(request.ras)
            .map_or(Place::default(), |space| Place {
                space: space.number,
                region: space.region_of(addr, 1).unwrap_or(0),
            });
        self.import_effect(Self::effect(request), place, record);
    }

    /// Remembers an effect, be it of this node or of one that a region came from.
    pub fn import_effect(&mut self, effect: Effect, place: Place, record: Record) {
        if let Some(gone) = self.dedup.insert(effect, place, record) {
            self.members.forgot(gone.node, gone.incarnation, gone.first);
        }
    }

    /// What was executed lately.
    pub fn effects(&self) -> &Dedup {
        &self.dedup
    }

    /// Up to where effects of a node were forgotten, here or where a region came from.
    pub fn import_horizon(&mut self, node: u32, incarnation: u64, first: u64) {
        self.members.forgot(node, incarnation, first);
    }

    /// A worker is done with a request: see [`Outcome::Slow`](super::fast::Outcome).
    pub fn finish(&mut self, request: &Header, status: Status, operand: u64) -> Header {
        if let Some(space) = self.spaces.get_mut(request.ras) {
            space.pending = space.pending.saturating_sub(1);
        }
        let effect = Self::effect(request);
        // What was not executed may be tried again.
        if status.remedy() == Remedy::None {
            self.dedup.finish(&effect, Record::Done { status, operand });
        } else {
            self.dedup.forget(&effect);
        }
        self.answer(request, status, operand)
    }

    /// The answer to a request, counted.
    pub(super) fn answer(&mut self, request: &Header, status: Status, operand: u64) -> Header {
        self.stats.answer(request.op, status);
        Header {
            operand,
            ..request.answer(status, self.members.epoch)
        }
    }

    /// What a request of `len` bytes at `addr` meets: see [`Self::span`].
    pub(super) fn translate(
        &mut self,
        request: &Header,
        addr: u64,
        len: u64,
        rights: u32,
    ) -> Result<Span, Status> {
        let caller = match request.flags & flags::CONTINUED {
            0 => Caller::Packet,
            _ => Caller::Continued,
        };
        self.span(request.ras, caller, addr, len, rights)
    }

    /// What `len` bytes at `addr` meet, at most two pages, if all of it is allocated,
    /// in one allocation, here, and with these rights.
    pub(super) fn span(
        &mut self,
        ras: u64,
        caller: Caller,
        addr: u64,
        len: u64,
        rights: u32,
    ) -> Result<Span, Status> {
        let page_size = self.page_size() as u64;
        let space = self.spaces.get_mut(ras).ok_or(Status::Moved)?;
        let (number, region_size) = (space.number, space.region_size());
        let index = space.region_of(addr, len).ok_or(Status::Fault)?;
        let region = space.region_mut(index).ok_or(Status::Moved)?;
        match region.state {
            RegionState::Live => region.hits = region.hits.saturating_add(1),
            // The region waits for its workers before it goes.
            RegionState::Paused if caller == Caller::Worker => {}
            RegionState::Paused => return Err(Status::Paused),
            RegionState::Elsewhere => return Err(Status::Moved),
        }
        let first = self.page_of(number, addr);
        let offset = addr & (page_size - 1);
        let head = len.min(page_size - offset);
        let tail = len - head;
        if tail > page_size {
            return Err(Status::TooLarge);
        }
        let table = &self.table;
        let part = |page: u32, offset: u64, len: u64, may_begin: bool| {
            let page = PageId { page, ..first };
            let entry = table.get(page).ok_or(Status::Fault)?;
            if entry.is_first() && !may_begin {
                Err(Status::Fault)
            } else if entry.rights() & rights != rights {
                Err(Status::Denied)
            } else {
                Ok(Part {
                    page,
                    frame: entry.frame(),
                    offset: offset as usize,
                    len: len as usize,
                })
            }
        };
        // An access that goes on from another region does not begin an allocation here.
        let goes_on = caller == Caller::Continued && addr & (region_size - 1) == 0;
        let head = part(first.page, offset, head, !goes_on)?;
        let tail = match tail {
            0 => None,
            len => Some(part(first.page.wrapping_add(1), 0, len, false)?),
        };
        Ok(Span { head, tail })
    }

    /// Gives pages to those parts of a span that nobody touched yet (section 4.4.3).
    /// All or none: a request that finds too few changes nothing.
    pub(super) fn touch(&mut self, span: &mut Span) -> Result<(), Status> {
        let missing = span.parts().filter(|part| part.frame.is_none()).count();
        if missing > self.free.prepared() {
            self.stats.dry_touches += 1;
            return Err(Status::Busy);
        }
        for part in Iterator::chain([&mut span.head].into_iter(), span.tail.as_mut()) {
            if part.frame.is_none() {
                let frame = self.free.take();
                if let Some(entry) = self.table.get_mut(part.page) {
                    entry.set_frame(frame);
                }
                part.frame = frame;
                self.stats.first_touches += 1;
            }
        }
        Ok(())
    }

    /// The allocation's pages come and go with these. Only the slow path calls them.
    pub fn insert_page(&mut self, entry: Entry) -> Result {
        self.table.insert(entry)
    }

    /// Takes a page out; its frame is free.
    pub fn remove_page(&mut self, id: PageId) {
        if let Some(frame) = self.table.remove(id).and_then(|entry| entry.frame()) {
            self.free.give_back(frame);
        }
    }

    /// Takes the frame of a page away, so that it reads as zeroes.
    pub fn empty_page(&mut self, id: PageId) {
        if let Some(entry) = self.table.get_mut(id) {
            let frame = entry.frame();
            entry.set_frame(None);
            if let Some(frame) = frame {
                self.free.give_back(frame);
            }
        }
    }

    /// Copies bytes into a page that is not served yet, touching it if need be.
    pub(super) fn fill(
        &mut self,
        pool: &impl Pool,
        id: PageId,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), Status> {
        let entry = self.table.get_mut(id).ok_or(Status::Fault)?;
        let frame = match entry.frame() {
            Some(frame) => frame,
            None => {
                let frame = self.free.take().ok_or(Status::Busy)?;
                entry.set_frame(Some(frame));
                frame
            }
        };
        pool.write(frame, offset, bytes);
        Ok(())
    }

    /// Changes the rights of a page.
    pub fn set_rights(&mut self, id: PageId, rights: u32) {
        if let Some(entry) = self.table.get_mut(id) {
            entry.set_rights(rights);
        }
    }

    /// Marks a request as one that a worker executes.
    pub(super) fn hand_over(&mut self, request: &Header) {
        if Self::is_remembered(request) {
            self.remember(request, Record::Running);
        }
        if let Some(space) = self.spaces.get_mut(request.ras) {
            space.pending = space.pending.saturating_add(1);
        }
    }

    /// Whether a worker has requests of this address space.
    pub(super) fn is_pending(&self, request: &Header) -> bool {
        self.spaces
            .get(request.ras)
            .is_some_and(|space| space.pending != 0)
    }
}

/// On whose behalf memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A packet's.
    Packet,
    /// A packet's, whose access began in the region before.
    Continued,
    /// A worker's, who executes a request that was accepted before.
    Worker,
}

/// A piece of a request, in one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) page: PageId,
    pub(super) frame: Option<u32>,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// All of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) head: Part,
    pub(super) tail: Option<Part>,
}

impl Span {
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        Iterator::chain([&self.head].into_iter(), self.tail.as_ref())
    }
}
