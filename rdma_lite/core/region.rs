// SPDX-License-Identifier: GPL-2.0

//! Memory regions (LITE's LMRs): who may do what to which bytes.
//!
//! A region lies at its *owner* node, in chunks of one size. Whoever uses it *maps* it first, also at
//! the owner itself; a mapping has rights and belongs to a life of a node. The owner executes what is
//! asked for under a mapping, or *opens* a chunk for it: then the holder reads and writes that chunk
//! by RDMA, under a key of its own, until the owner *recalls* the mapping.
//!
//! A recall is what makes a revocation or a free safe without breaking connections: the owner first
//! takes the mapping away, so that nothing more is opened or executed; tells the holder, who stops
//! using its keys and answers when no access of its own is under way; and only then invalidates the
//! keys and lets go of the memory. A holder that does not answer loses its keys all the same.

pub mod keys;
pub mod registry;
pub mod shares;
pub mod steps;
pub mod windows;
pub mod wire;

use kernel::prelude::*;

/// What a mapping may do: a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(1);
    /// Write, and atomics together with `READ`.
    pub const WRITE: Self = Self(2);
    /// Free, grant and revoke.
    pub const ADMIN: Self = Self(4);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// `EINVAL` when a bit has no meaning.
    pub fn new(bits: u32) -> Result<Self> {
        if bits & !Self::ALL.0 != 0 {
            return Err(EINVAL);
        }
        Ok(Self(bits))
    }

    /// As a number.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `other` is in it.
    pub fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in either.
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is nothing.
    pub fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Where the bytes of a region lie: `len` of them in chunks of `1 << chunk_log2`, the last of which
/// may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes; not 0.
    pub len: u64,
    /// Size of a chunk.
    pub chunk_log2: u8,
}

/// Consecutive bytes of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which chunk.
    pub chunk: u32,
    /// First byte, in the chunk.
    pub start: u32,
    /// Bytes; not 0.
    pub len: u32,
    /// How far the first byte is from that of the whole range.
    pub at: u64,
}

impl Geometry {
    /// Sizes that a chunk may have: a page to what one memory region of common devices covers.
    pub const CHUNK_LOG2: ::core::ops::RangeInclusive<u8> = 12..=21;

    /// `EINVAL` for no bytes, or a size of chunks out of range; `EFBIG` for more chunks than can be
    /// counted.
    pub fn new(len: u64, chunk_log2: u8) -> Result<Self> {
        if len == 0 || !Self::CHUNK_LOG2.contains(&chunk_log2) {
            return Err(EINVAL);
        }
        if (len - 1) >> chunk_log2 >= u64::from(u32::MAX) {
            return Err(EFBIG);
        }
        Ok(Self { len, chunk_log2 })
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u32 {
        ((self.len - 1) >> self.chunk_log2) as u32 + 1
    }

    /// Bytes of the region that lie in a chunk; 0 beyond the last.
    pub fn chunk_len(&self, chunk: u32) -> u32 {
        let start = u64::from(chunk) << self.chunk_log2;
        let left = self.len.saturating_sub(start);
        left.min(1 << self.chunk_log2) as u32
    }

    /// `EINVAL` for a range of no bytes, `ERANGE` for one that is not in the region. Nothing wraps.
    pub fn check(&self, offset: u64, len: u64) -> Result {
        if len == 0 {
            return Err(EINVAL);
        }
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(ERANGE),
        }
    }

    /// As [`Self::check`], for an aligned 64-bit word (`EINVAL` when it is not aligned).
    pub fn check_word(&self, offset: u64) -> Result {
        self.check(offset, 8)?;
        if offset % 8 != 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// The pieces of a range, from its beginning to its end.
    pub fn pieces(&self, offset: u64, len: u64) -> Result<Pieces> {
        self.check(offset, len)?;
        Ok(Pieces {
            chunk_log2: self.chunk_log2,
            offset,
            len,
            done: 0,
        })
    }
}

/// See [`Geometry::pieces`].
#[derive(Clone, Debug)]
pub struct Pieces {
    chunk_log2: u8,
    offset: u64,
    len: u64,
    done: u64,
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let left = self.len - self.done;
        if left == 0 {
            return None;
        }
        let at = self.offset + self.done;
        let size = 1u64 << self.chunk_log2;
        let start = at & (size - 1);
        let len = left.min(size - start);
        let piece = Piece {
            chunk: (at >> self.chunk_log2) as u32,
            start: start as u32,
            len: len as u32,
            at: self.done,
        };
        self.done += len;
        Some(piece)
    }
}
