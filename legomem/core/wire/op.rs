// SPDX-License-Identifier: GPL-2.0

//! Operations, and the bits that go with them.

use super::WireError;

/// What a packet asks for. What the fields mean to each stands at [`Header`](super::Header).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    /// Reads `len` bytes at `addr`.
    Read = 1,
    /// Writes the payload at `addr + offset`.
    Write = 2,
    /// Test and set: the word at `addr` becomes 1. The result is what it was.
    Tas = 3,
    /// Compare and swap: the word at `addr` becomes the payload's if it is
    /// `operand`. The result is what it was.
    Cas = 4,
    /// Fetch and add: `operand` is added to the word at `addr`, modulo 2^64. The
    /// result is what it was.
    Faa = 5,
    /// Takes the lock word at `addr`; [`Status::Held`](super::Status::Held) while somebody has it.
    Lock = 6,
    /// Gives the lock word at `addr` back.
    Unlock = 7,
    /// Answered when all that arrived before it was executed.
    Fence = 8,
    /// Writes the payload at `operand + offset`, then reads as many bytes at
    /// `addr + offset`. The two ranges of the whole request must not overlap.
    FlushFetch = 9,
    /// Allocates `operand` bytes in the region at `addr`. The result is the
    /// address. Slow path.
    Alloc = 16,
    /// Frees `operand` bytes of allocations at `addr`, whole allocations only.
    /// Slow path.
    Free = 17,
    /// Makes `operand` bytes at `addr` read as zeroes; whole pages go back to
    /// the pool, and their promise stays. Slow path.
    Zero = 18,
    /// Gives the allocations that `operand` bytes at `addr` are in other rights.
    /// Slow path.
    Protect = 19,
    /// Calls an offload. Extend path.
    Offload = 32,
}

impl Op {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Read,
        Self::Write,
        Self::Tas,
        Self::Cas,
        Self::Faa,
        Self::Lock,
        Self::Unlock,
        Self::Fence,
        Self::FlushFetch,
        Self::Alloc,
        Self::Free,
        Self::Zero,
        Self::Protect,
        Self::Offload,
    ];

    pub(super) fn from_code(code: u8) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|op| *op as u8 == code)
            .ok_or(WireError::Op(code))
    }

    /// Which path of the memory node takes it.
    pub fn path(self) -> Path {
        match self {
            Self::Alloc | Self::Free | Self::Zero | Self::Protect => Path::Slow,
            Self::Offload => Path::Extend,
            _ => Path::Fast,
        }
    }

    /// Whether it works on one word.
    pub fn is_word(self) -> bool {
        matches!(
            self,
            Self::Tas | Self::Cas | Self::Faa | Self::Lock | Self::Unlock
        )
    }

    /// Whether executing it twice could differ from executing it once, so that
    /// the memory node remembers it (T4 of section 4.4.5).
    pub fn is_remembered(self) -> bool {
        !matches!(self, Self::Read | Self::Fence)
    }

    /// Whether its request carries bytes that belong to `len`.
    pub(super) fn carries(self) -> bool {
        matches!(self, Self::Write | Self::FlushFetch | Self::Offload)
    }
}

/// The three paths of section 4.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Where the packet arrives.
    Fast,
    /// By a worker, the requests in their order.
    Slow,
    /// By a worker of offloads.
    Extend,
}

/// Bits of [`Header::flags`](super::Header::flags).
pub mod flags {
    /// An answer.
    pub const RESPONSE: u8 = 1;
    /// A request that was sent before: `first` is the id it had then.
    pub const RETRY: u8 = 2;
    /// A request whose access began below `addr`: `addr` may not be the first
    /// byte of an allocation. Compute nodes set it on the parts of an access that
    /// they split at the border of a region.
    pub const CONTINUED: u8 = 4;
    /// An answer without a tag, whose receiver can only take it for a hint.
    pub const UNSIGNED: u8 = 8;

    /// All of them.
    pub const ALL: u8 = RESPONSE | RETRY | CONTINUED | UNSIGNED;
}

/// Bits of [`Header::argument`](super::Header::argument) of [`Op::Alloc`] and [`Op::Protect`].
pub mod rights {
    /// The bytes may be read.
    pub const READ: u32 = 1;
    /// The bytes may be written, atomics included.
    pub const WRITE: u32 = 2;
    /// Both.
    pub const ALL: u32 = READ | WRITE;

    /// Allocate at `addr` itself or not at all, else anywhere in the region.
    pub const FIXED: u32 = 0x100;
    /// The allocation goes on from that which ends at `addr`, in another region:
    /// accesses may cross from the one to the other. Only with `FIXED`.
    pub const CONTINUES: u32 = 0x200;
}
