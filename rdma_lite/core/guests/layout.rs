// SPDX-License-Identifier: GPL-2.0

//! The header of memory that guests share, and where everything lies in it.
//!
//! Whoever finds nothing there (zeroes in the header and the table) makes the header. There is no
//! moment at which it is half made for good: each of its words is put there by compare-and-swap, and
//! whoever comes later puts those that are missing. Two who begin at once agree on each word.

use super::Memory;
use kernel::prelude::*;

/// First word of the memory.
pub const MAGIC: u64 = u64::from_le_bytes(*b"LITEGST\0");
/// Version of all that is in core/guests.
pub const VERSION: u16 = 1;
/// Nodes at most.
pub const MAX_SLOTS: usize = 16;
/// Bells of a lane.
pub const BELLS: usize = 4096;
/// Accesses of a lane at a time.
pub const ACCESSES: usize = 4;
/// Bytes that one of them moves at most.
pub const ACCESS_LEN: usize = 64 << 10;

const GEOMETRY_AT: usize = 8;
const SIZE_AT: usize = 16;
const UUID_AT: usize = 24;
/// Bytes of the header.
const HEADER_LEN: usize = 64;
const TABLE_AT: usize = 4096;
const SLOT_LEN: usize = 512;
const LANES_AT: usize = 64 << 10;

const TAIL_AT: usize = 256;
const RECORDS_AT: usize = 512;
const RECORD_LEN: usize = 128;
const BELLS_AT: usize = 4096;
const DATA_AT: usize = 64 << 10;
const RING_AT: usize = DATA_AT + ACCESSES * ACCESS_LEN;

/// What is there, and of which size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Names the memory: whoever reads the same has the same memory, or a copy of it.
    pub uuid: [u8; 16],
    /// Slots for nodes.
    pub slots: usize,
    /// Rings have `1 << ring_log2` bytes.
    pub ring_log2: u8,
}

/// Where a lane is: what one node writes for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    at: usize,
    ring: usize,
}

impl Lane {
    /// The control record, which the sender writes.
    pub fn control(self) -> usize {
        self.at
    }

    /// How many bells the receiver has heard.
    pub fn tail(self) -> usize {
        self.at + TAIL_AT
    }

    /// A bell.
    pub fn bell(self, nr: u64) -> usize {
        self.at + BELLS_AT + nr as usize % BELLS * 8
    }

    /// What the sender asks by access `nr`.
    pub fn request(self, nr: usize) -> usize {
        self.at + RECORDS_AT + nr % ACCESSES * RECORD_LEN
    }

    /// What the receiver answers to access `nr`.
    pub fn response(self, nr: usize) -> usize {
        self.request(nr) + RECORD_LEN / 2
    }

    /// The bytes that access `nr` moves.
    pub fn data(self, nr: usize) -> usize {
        self.at + DATA_AT + nr % ACCESSES * ACCESS_LEN
    }

    /// Where `len` bytes from `offset` of the ring on are; [`ERANGE`] when not all of them are there.
    pub fn ring(self, offset: usize, len: usize) -> Result<usize> {
        match offset.checked_add(len) {
            Some(end) if end <= self.ring => Ok(self.at + RING_AT + offset),
            _ => Err(ERANGE),
        }
    }
}

impl Layout {
    /// Bytes of a lane with such a ring.
    fn lane_len(ring_log2: u8) -> usize {
        RING_AT + (1 << ring_log2)
    }

    /// Slots that fit into `size` bytes.
    fn slots_of(size: usize, ring_log2: u8) -> usize {
        let lanes = size.saturating_sub(LANES_AT) / Self::lane_len(ring_log2);
        (0..=MAX_SLOTS)
            .take_while(|slots| slots * slots <= lanes)
            .last()
            .unwrap_or(0)
    }

    fn geometry(&self) -> u64 {
        u64::from(VERSION) | (u64::from(self.ring_log2) << 16) | ((self.slots as u64) << 24)
    }

    /// Reads the header, and makes it when nothing is there: then rings have `1 << ring_log2` bytes and
    /// `fresh` names the memory.
    ///
    /// `EMEDIUMTYPE`: something else is there. `EPROTONOSUPPORT`: another version is. `EBADMSG`: the header
    /// cannot be. `ENOSPC`: too small for two nodes. `EMSGSIZE`: the rings there are smaller than ours.
    pub fn open(memory: &impl Memory, ring_log2: u8, fresh: [u8; 16]) -> Result<Self> {
        let size = memory.size();
        if !super::super::wire::RingAddress::SIZE_LOG2.contains(&ring_log2) {
            return Err(EINVAL);
        }
        let made = Self {
            uuid: fresh,
            slots: Self::slots_of(size, ring_log2),
            ring_log2,
        };
        match memory.load(0)? {
            MAGIC => {}
            0 if made.slots < 2 => return Err(ENOSPC),
            0 => Self::check_empty(memory)?,
            _ => return Err(EMEDIUMTYPE),
        }
        if agree(memory, 0, MAGIC)? != MAGIC {
            return Err(EMEDIUMTYPE);
        }
        let geometry = agree(memory, GEOMETRY_AT, made.geometry())?;
        if geometry as u16 != VERSION {
            return Err(EPROTONOSUPPORT);
        }
        // Of the smallest of devices that show the same bytes, as these do.
        let whole = agree(memory, SIZE_AT, size as u64)?;
        let halves = [0, 8].map(|half| u64::from_le_bytes(super::field(&fresh, half)));
        let mut uuid = [0; 16];
        super::put(
            &mut uuid,
            0,
            agree(memory, UUID_AT, halves[0].max(1))?.to_le_bytes(),
        );
        super::put(
            &mut uuid,
            8,
            agree(memory, UUID_AT + 8, halves[1].max(1))?.to_le_bytes(),
        );
        let there = Self {
            uuid,
            slots: (geometry >> 24) as usize,
            ring_log2: (geometry >> 16) as u8,
        };
        let sound = super::super::wire::RingAddress::SIZE_LOG2.contains(&there.ring_log2)
            && there.geometry() == geometry
            && whole <= size as u64
            && (2..=Self::slots_of(whole as usize, there.ring_log2)).contains(&there.slots);
        if !sound {
            return Err(EBADMSG);
        }
        if there.ring_log2 < ring_log2 {
            return Err(EMSGSIZE);
        }
        Ok(there)
    }

    /// Nobody's data is overwritten: `EMEDIUMTYPE` when there are any.
    fn check_empty(memory: &impl Memory) -> Result {
        // The header's own words may be there as another begins at the same time.
        let table = TABLE_AT..TABLE_AT + MAX_SLOTS * SLOT_LEN;
        for at in Iterator::chain(HEADER_LEN..TABLE_AT, table).step_by(8) {
            if memory.load(at)? != 0 && memory.load(0)? != MAGIC {
                return Err(EMEDIUMTYPE);
            }
        }
        Ok(())
    }

    /// What says whose slot this is.
    pub fn life(&self, slot: usize) -> usize {
        TABLE_AT + slot % MAX_SLOTS * SLOT_LEN
    }

    /// What moves while its node lives.
    pub fn beat(&self, slot: usize) -> usize {
        self.life(slot) + 64
    }

    /// Who its node is.
    pub fn identity(&self, slot: usize) -> usize {
        self.life(slot) + 128
    }

    /// What one node writes for another.
    pub fn lane(&self, from: usize, to: usize) -> Lane {
        let nr = from % self.slots * self.slots + to % self.slots;
        Lane {
            at: LANES_AT + nr * Self::lane_len(self.ring_log2),
            ring: 1 << self.ring_log2,
        }
    }
}

/// Puts a word where there is none; the word that is there then.
fn agree(memory: &impl Memory, at: usize, word: u64) -> Result<u64> {
    Ok(match memory.compare_exchange(at, 0, word)? {
        Ok(()) => word,
        Err(there) => there,
    })
}
