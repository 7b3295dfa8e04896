// SPDX-License-Identifier: GPL-2.0

//! A model of a memory node: what the protocol says of one, in the simplest way.
//! The compute node is tested against it; legomem's own core has tests of its own.

use super::world::Bug;
use clio_cn_core::core::{
    control::VA_BASE,
    wire::{self, flags, lock_word, Header, Op, Status},
};
use kernel::siphash::Key;
use std::collections::{BTreeMap, HashMap, VecDeque};

const PAGE: u64 = 4096;

/// Names a request that changes something: requester, life, first id, fragment.
type Deed = (u32, u64, u64, u32);

/// A region of the one address space.
#[derive(Clone, Default)]
pub(super) struct Region {
    pub(super) paused: bool,
    pages: HashMap<u64, Vec<u8>>,
    /// Begin and length of allocations.
    pub(super) allocated: BTreeMap<u64, u64>,
    /// What is remembered of what was done in it (T4), with the result.
    deeds: VecDeque<(Deed, Status, u64)>,
}

/// A memory node in one life.
pub(super) struct Memory {
    pub(super) key: Key,
    pub(super) ras: u64,
    pub(super) shift: u8,
    pub(super) regions: BTreeMap<u32, Region>,
    /// Serves what it never had, as zeros.
    pub(super) forgetful: bool,
    /// Words that were executed, for the record.
    pub(super) executed: u64,
    pub(super) repeated: u64,
    /// Its map: number, and nodes in their lives.
    map: usize,
    lives: Vec<(u32, u64)>,
    bug: Option<Bug>,
}

impl Memory {
    pub(super) fn new(key: Key, ras: u64, shift: u8, bug: Option<Bug>) -> Self {
        Self {
            key,
            ras,
            shift,
            regions: BTreeMap::new(),
            forgetful: false,
            executed: 0,
            repeated: 0,
            map: 0,
            lives: Vec::new(),
            bug,
        }
    }

    /// A new map, unless it is an older one. Locks of lives that it does not have
    /// any more are free.
    pub(super) fn know(&mut self, map: usize, lives: Vec<(u32, u64)>, lock: u64) {
        if map >= self.map {
            self.free_locks(lock, &lives);
            (self.map, self.lives) = (map, lives);
        }
    }

    /// A region goes to another node.
    pub(super) fn take(&mut self, index: u32) -> Option<Region> {
        let mut region = self.regions.remove(&index)?;
        region.paused = false;
        if self.bug == Some(Bug::MigrationForgetsDeeds) {
            region.deeds.clear();
        }
        Some(region)
    }

    /// The answers to a packet.
    pub(super) fn packet(&mut self, epoch: u32, packet: &[u8]) -> Vec<Vec<u8>> {
        let Ok((header, payload)) = Header::parse(packet) else {
            return Vec::new();
        };
        if header.is_response() || Header::verify(packet, &self.key).is_err() {
            return Vec::new();
        }
        assert_eq!(header.ras, self.ras);
        let mut answer = header.answer(Status::Ok, epoch);
        let bytes = match self.execute(&header, payload) {
            Ok((value, bytes)) => {
                answer.operand = value;
                bytes
            }
            Err(status) => {
                answer.status = status;
                Vec::new()
            }
        };
        let unit = match header.op {
            Op::Read => header.argument as usize,
            _ => usize::MAX,
        };
        let pieces: Vec<&[u8]> = match bytes.len() {
            0 => vec![&[]],
            _ => bytes.chunks(unit).collect(),
        };
        pieces
            .into_iter()
            .enumerate()
            .map(|(at, piece)| {
                answer.offset = header.offset + (at * unit.min(bytes.len())) as u32;
                let mut packet = answer.seal(&self.key, piece).to_vec();
                packet.extend_from_slice(piece);
                packet
            })
            .collect()
    }

    fn index(&self, addr: u64) -> Result<u32, Status> {
        let index = addr.checked_sub(VA_BASE).ok_or(Status::Fault)? >> self.shift;
        Ok(index as u32)
    }

    /// The region of an address, if we have it and it is not paused.
    fn region(&mut self, addr: u64, len: u64) -> Result<&mut Region, Status> {
        let index = self.index(addr)?;
        if self.index(addr + len.max(1) - 1)? != index {
            return Err(Status::Fault);
        }
        if self.forgetful && !self.regions.contains_key(&index) {
            let whole = [(VA_BASE + (u64::from(index) << self.shift), 1 << self.shift)];
            let region = Region {
                allocated: whole.into(),
                ..Region::default()
            };
            self.regions.insert(index, region);
        }
        let region = self.regions.get_mut(&index).ok_or(Status::Moved)?;
        if region.paused {
            return Err(Status::Paused);
        }
        Ok(region)
    }

    fn execute(&mut self, header: &Header, payload: &[u8]) -> Result<(u64, Vec<u8>), Status> {
        let at = header.addr + u64::from(header.offset);
        let deed = (header.node, header.incarnation, header.first, header.offset);
        let bug = self.bug;
        if !self.lives.contains(&(header.node, header.incarnation)) {
            return Err(Status::Stale);
        }
        let home = match header.op {
            Op::FlushFetch => header.operand,
            _ => header.addr,
        };
        if header.op == Op::Fence {
            return Ok((0, Vec::new()));
        }
        let region = self.region(home, 1)?;
        if header.op.is_remembered() && bug != Some(Bug::NoDeeds) {
            let known = region.deeds.iter().find(|known| known.0 == deed);
            if let Some(&(_, status, value)) = known {
                self.repeated += 1;
                let again = match (header.op, status) {
                    (Op::FlushFetch, _) => self.region(at, 1)?.read(at, payload.len()),
                    (_, Status::Ok) => Vec::new(),
                    (_, status) => return Err(status),
                };
                return Ok((value, again));
            }
        }
        let result = self.first_time(header, payload, at);
        let (status, value) = match &result {
            Ok((value, _)) => (Status::Ok, *value),
            Err(status) => (*status, 0),
        };
        if header.op.is_remembered() && !matches!(status, Status::Moved | Status::Paused) {
            self.executed += 1;
            let deeds = &mut self.region(home, 1)?.deeds;
            deeds.push_back((deed, status, value));
            if deeds.len() > 4096 {
                deeds.pop_front();
            }
        }
        result
    }

    fn first_time(
        &mut self,
        header: &Header,
        payload: &[u8],
        at: u64,
    ) -> Result<(u64, Vec<u8>), Status> {
        let addr = header.addr;
        let bug = self.bug;
        let none = |value| Ok((value, Vec::new()));
        match header.op {
            Op::Read => {
                let region = self.region(addr, header.len.into())?;
                region.covers(addr, header.len.into())?;
                Ok((0, region.read(addr, header.len as usize)))
            }
            Op::Write => {
                let region = self.region(at, payload.len() as u64)?;
                region.covers(at, payload.len() as u64)?;
                region.write(at, payload);
                none(0)
            }
            Op::FlushFetch => {
                let (to, len) = (header.operand + u64::from(header.offset), payload.len());
                self.region(at, len as u64)?.covers(at, len as u64)?;
                let region = self.region(to, len as u64)?;
                region.covers(to, len as u64)?;
                region.write(to, payload);
                Ok((0, self.region(at, len as u64)?.read(at, len)))
            }
            Op::Alloc => {
                let start = VA_BASE + (u64::from(self.index(addr)?) << self.shift);
                let size = 1u64 << self.shift;
                let region = self.region(addr, 1)?;
                let mut from = start;
                let len = header.operand.next_multiple_of(PAGE);
                for (begin, taken) in &region.allocated {
                    if begin - from >= len {
                        break;
                    }
                    from = begin + taken;
                }
                if header.argument & wire::rights::FIXED != 0 && from != addr {
                    return Err(Status::NoSpace);
                }
                if from + len > start + size {
                    return Err(Status::NoSpace);
                }
                region.allocated.insert(from, len);
                none(from)
            }
            Op::Free => {
                let region = self.region(addr, 1)?;
                match region.allocated.get(&addr) {
                    Some(len) if *len == header.operand.next_multiple_of(PAGE) => {
                        for page in addr / PAGE..(addr + len) / PAGE {
                            region.pages.remove(&page);
                        }
                        region.allocated.remove(&addr);
                        none(0)
                    }
                    _ => Err(Status::Invalid),
                }
            }
            op if op.is_word() => {
                let region = self.region(addr, 8)?;
                region.covers(addr, 8)?;
                let was = region.word(addr);
                let ours = lock_word(header.node, header.incarnation, header.argument);
                let becomes = match op {
                    Op::Tas => 1,
                    Op::Faa => was.wrapping_add(header.operand),
                    Op::Cas if was == header.operand => {
                        u64::from_le_bytes(payload.try_into().expect("8 bytes"))
                    }
                    Op::Cas => was,
                    Op::Lock if was == 0 || bug == Some(Bug::LocksAreShared) => ours,
                    Op::Lock => return Err(Status::Held),
                    Op::Unlock if was == ours => 0,
                    _ => return Err(Status::NotHolder),
                };
                region.write(addr, &becomes.to_le_bytes());
                none(was)
            }
            _ => Err(Status::NotSupported),
        }
        .inspect(|_| {
            debug_assert!(header.flags & flags::RESPONSE == 0);
        })
    }

    fn free_locks(&mut self, addr: u64, lives: &[(u32, u64)]) {
        let Ok(index) = self.index(addr) else { return };
        if let Some(region) = self.regions.get_mut(&index) {
            let word = region.word(addr);
            let (node, life, _) = wire::lock_holder(word);
            let alive = lives
                .iter()
                .any(|(id, incarnation)| *id == node && wire::fold(*incarnation) == life);
            if word != 0 && !alive {
                region.write(addr, &[0; 8]);
            }
        }
    }
}

impl Region {
    fn covers(&self, addr: u64, len: u64) -> Result<(), Status> {
        let allocation = self.allocated.range(..=addr).next_back();
        match allocation {
            Some((begin, size)) if addr + len <= begin + size => Ok(()),
            _ => Err(Status::Fault),
        }
    }

    fn read(&self, addr: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (page, from, piece) in pieces(addr, len) {
            if let Some(page) = self.pages.get(&page) {
                bytes[piece.clone()].copy_from_slice(&page[from..from + piece.len()]);
            }
        }
        bytes
    }

    fn word(&self, addr: u64) -> u64 {
        u64::from_le_bytes(self.read(addr, 8).try_into().expect("8 bytes"))
    }

    fn write(&mut self, addr: u64, bytes: &[u8]) {
        for (page, from, piece) in pieces(addr, bytes.len()) {
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| vec![0; PAGE as usize]);
            page[from..from + piece.len()].copy_from_slice(&bytes[piece]);
        }
    }
}

/// The parts of a range on each page: page, offset in it, and which bytes.
fn pieces(addr: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = addr + at as u64;
        let piece = (len - at).min((PAGE - from % PAGE) as usize);
        let range = at..at + piece;
        at += piece;
        (piece != 0).then_some((from / PAGE, (from % PAGE) as usize, range))
    })
}
