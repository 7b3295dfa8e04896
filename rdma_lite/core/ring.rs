// SPDX-License-Identifier: GPL-2.0

//! Accounting of a ring: who may write where, and when.
//!
//! A ring is memory of its receiver. The sender hands out contiguous slots in
//! order; a message that does not fit before the end starts at offset 0 and the
//! rest is padding. The receiver consumes messages in order, at once, and tells
//! the sender how far it is; the count is absolute, so it can be told twice or
//! late without harm. Positions count units ([`UNIT`] bytes) since the
//! connection began; a new connection starts with new rings.
//!
//! A message takes at most a quarter of the ring, and the receiver tells after
//! at most a quarter: together with padding that is less than the ring, so a
//! sender that waits for room always gets it.

use super::wire::UNIT;
use kernel::prelude::*;

/// The wire carries positions modulo this.
const MODULUS: u64 = 1 << 24;

/// What the other side says about a ring cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingViolation;

/// A place for one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSlot {
    /// Bytes from the start of the ring.
    pub offset: u32,
    /// Bytes, a multiple of [`UNIT`].
    pub len: u32,
}

/// Largest message (header and payload) of a ring of `size` bytes.
pub const fn max_message(size: u32) -> u32 {
    size / 4
}

fn units(bytes: u32) -> u64 {
    u64::from(bytes.div_ceil(UNIT))
}

/// The sender's side.
///
/// # Invariants
///
/// `tail <= head <= tail + size`; `ends[..]` from `first`, `count` of them,
/// are the positions behind each message in flight, in order; the last is
/// `head`.
#[derive(Debug)]
pub struct TxRing {
    size: u64,
    head: u64,
    tail: u64,
    ends: KVec<u64>,
    first: usize,
    count: usize,
    depth: usize,
}

impl TxRing {
    /// For rings of up to `max_depth` messages; closed until [`Self::open`].
    pub fn new(max_depth: usize) -> Result<Self> {
        Ok(Self {
            size: 0,
            head: 0,
            tail: 0,
            ends: KVec::from_elem(0, max_depth, GFP_KERNEL)?,
            first: 0,
            count: 0,
            depth: 0,
        })
    }

    /// A new connection: an empty ring of `size` bytes and `depth` messages.
    pub fn open(&mut self, size: u32, depth: usize) {
        self.size = u64::from(size / UNIT);
        self.head = 0;
        self.tail = 0;
        self.first = 0;
        self.count = 0;
        self.depth = depth.min(self.ends.len());
    }

    /// No connection: no room.
    pub fn close(&mut self) {
        self.open(0, 0);
    }

    /// A slot for `len` bytes; `None` when there is no room now.
    pub fn alloc(&mut self, len: u32) -> Option<RingSlot> {
        let units = units(len);
        if self.count >= self.depth || units * 4 > self.size {
            return None;
        }
        let mut at = self.head % self.size;
        let mut need = units;
        if at + units > self.size {
            need += self.size - at;
            at = 0;
        }
        if self.head + need - self.tail > self.size {
            return None;
        }
        self.head += need;
        let last = (self.first + self.count) % self.ends.len();
        self.ends[last] = self.head;
        self.count += 1;
        Some(RingSlot {
            offset: at as u32 * UNIT,
            len: units as u32 * UNIT,
        })
    }

    /// The receiver says that it consumed `consumed` units, modulo 2^24.
    pub fn credit(&mut self, consumed: u32) -> Result<(), RingViolation> {
        let delta = u64::from(consumed).wrapping_sub(self.tail) % MODULUS;
        if delta >= MODULUS / 2 {
            // Told before; a later one overtook it.
            return Ok(());
        }
        let tail = self.tail + delta;
        let (mut first, mut count, mut reached) = (self.first, self.count, self.tail);
        while count > 0 && self.ends[first] <= tail {
            reached = self.ends[first];
            first = (first + 1) % self.ends.len();
            count -= 1;
        }
        if reached != tail {
            return Err(RingViolation);
        }
        (self.first, self.count, self.tail) = (first, count, tail);
        Ok(())
    }

    /// Messages that the receiver has not consumed as far as we know.
    pub fn in_flight(&self) -> usize {
        self.count
    }

    /// Units handed out since the connection began.
    pub fn sent(&self) -> u64 {
        self.head
    }

    /// Units handed out and not credited.
    pub fn used(&self) -> u64 {
        self.head - self.tail
    }
}

/// The receiver's side.
#[derive(Debug, Default)]
pub struct RxRing {
    size: u64,
    depth: u64,
    consumed: u64,
    told: u64,
    messages: u64,
}

impl RxRing {
    /// A new connection: our ring of `size` bytes and `depth` messages.
    pub fn open(&mut self, size: u32, depth: usize) {
        *self = Self {
            size: u64::from(size / UNIT),
            depth: depth as u64,
            ..Self::default()
        };
    }

    /// No connection: nothing can come.
    pub fn close(&mut self) {
        *self = Self::default();
    }

    /// Whether there is a connection.
    pub fn is_open(&self) -> bool {
        self.size != 0
    }

    /// Whether a message may start at `offset` bytes.
    pub fn expects(&self, offset: u32) -> bool {
        self.size != 0 && (offset == 0 || u64::from(offset / UNIT) == self.consumed % self.size)
    }

    /// Consumes the message of `len` bytes at `offset`.
    pub fn consume(&mut self, offset: u32, len: u32) -> Result<(), RingViolation> {
        let units = units(len);
        if self.size == 0 || units * 4 > self.size {
            return Err(RingViolation);
        }
        let at = self.consumed % self.size;
        let fits = at + units <= self.size;
        let (expected, padding) = if fits { (at, 0) } else { (0, self.size - at) };
        if u64::from(offset) != expected * u64::from(UNIT) {
            return Err(RingViolation);
        }
        self.consumed += padding + units;
        self.messages += 1;
        Ok(())
    }

    /// Whether the sender should be told without waiting for a message that
    /// carries the count along.
    pub fn credit_due(&self) -> bool {
        (self.consumed - self.told) * 4 >= self.size.max(1)
            || self.messages * 4 >= self.depth.max(1)
    }

    /// The count to tell, which is told by this.
    pub fn tell(&mut self) -> u32 {
        self.told = self.consumed;
        self.messages = 0;
        (self.consumed % MODULUS) as u32
    }

    /// Units that the sender was told of.
    pub fn told(&self) -> u64 {
        self.told
    }

    /// Units consumed since the connection began.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }
}
