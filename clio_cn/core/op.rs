// SPDX-License-Identifier: GPL-2.0

//! Operations, as users know them, and which of them wait for which.
//!
//! Operations of one stream (an open file, a disk, a cache) are ordered as
//! section 4.3.1 says: none that depend on each other (write after read, read
//! after write, write after write on a page) are outstanding together; a release
//! ends after all that came before it, and releases end in their order; a fence
//! is a release that what comes behind it waits for. Streams do not wait for each
//! other.

use super::{
    request::OF_OP,
    table::{Key, Queue},
};
use kernel::prelude::*;

/// Dependencies are tracked in pages of this many bits.
pub const PAGE_SHIFT: u32 = 12;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads `len` bytes at `addr`.
    Read,
    /// Writes `len` bytes at `addr`.
    Write,
    /// Sets the word at `addr` to 1; the result is what it was.
    TestAndSet,
    /// Sets the word at `addr` to what a write would send (8 bytes) if it is
    /// `expected`; the result is what it was.
    CompareAndSwap {
        /// What it must be.
        expected: u64,
    },
    /// Adds to the word at `addr`; the result is what it was.
    FetchAndAdd {
        /// What is added, modulo 2^64.
        value: u64,
    },
    /// Waits until the lock word at `addr` is ours.
    Lock {
        /// Who of this node takes it, 24 bits.
        who: u32,
    },
    /// Gives the lock word at `addr` back.
    Unlock {
        /// Who took it.
        who: u32,
    },
    /// Waits for all operations before it.
    Release,
    /// Waits for all operations before it, at the memory nodes too; those behind
    /// it wait for it.
    Fence,
    /// Allocates `len` bytes; the result is their address.
    Alloc {
        /// Bits of `wire::rights`.
        rights: u32,
    },
    /// Frees the allocations that are the `len` bytes at `addr`.
    Free,
    /// Makes `len` bytes at `addr` zeros.
    Zero,
    /// Gives the allocations that are the `len` bytes at `addr` other rights.
    Protect {
        /// Bits of `wire::rights`.
        rights: u32,
    },
    /// Writes `len` bytes at `write` and then reads `len` bytes at `addr`, in one
    /// message where one memory node has both.
    FlushFetch {
        /// Where the bytes are written.
        write: u64,
    },
    /// Calls an offload at the memory node that has `addr`. What a write would
    /// send is its input, `len` bytes; what a read would bring is its output. The
    /// result is the offload's.
    Offload {
        /// Which.
        id: u16,
        /// Which of its functions.
        function: u16,
        /// Most bytes of output.
        output: u32,
    },
}

impl Kind {
    /// Whether it works on one 8-byte word.
    pub fn is_word(self) -> bool {
        matches!(
            self,
            Self::TestAndSet
                | Self::CompareAndSwap { .. }
                | Self::FetchAndAdd { .. }
                | Self::Lock { .. }
                | Self::Unlock { .. }
        )
    }

    fn is_barrier(self) -> bool {
        matches!(self, Self::Release | Self::Fence)
    }
}

/// An operation to be done.
#[derive(Debug)]
pub struct NewOp<D> {
    /// The stream it belongs to.
    pub stream: Key,
    /// The address space.
    pub space: Key,
    /// What to do.
    pub kind: Kind,
    /// Where.
    pub addr: u64,
    /// Bytes; 8 for words.
    pub len: u64,
    /// When to give up, ns.
    pub until: u64,
    /// The edge's half: the bytes, and whom to tell.
    pub data: D,
}

/// The edge's half of an operation.
pub trait Data {
    /// Bytes that are sent; shared, so that no lock is held over sending them.
    type Bytes: Clone;

    /// What a write sends. Does not change until the operation is done.
    fn bytes(&self) -> Self::Bytes;

    /// A part of what was read came; never beyond what was asked for.
    fn store(&mut self, offset: usize, bytes: &[u8]);

    /// The output of an offload has so many bytes.
    fn output(&mut self, _len: usize) {}
}

impl<D> NewOp<D> {
    /// The ranges of pages it touches, first and last, and whether it only reads
    /// them.
    fn pages(&self) -> impl Iterator<Item = (u64, u64)> {
        let range = |addr: u64| {
            let last = addr.saturating_add(self.len.max(1) - 1);
            (addr >> PAGE_SHIFT, last >> PAGE_SHIFT)
        };
        let (first, second) = match self.kind {
            Kind::Alloc { .. } | Kind::Release | Kind::Fence => (None, None),
            // What else it touches only the offload knows.
            Kind::Offload { .. } => (Some((0, u64::MAX)), None),
            Kind::FlushFetch { write } => (Some(range(self.addr)), Some(range(write))),
            _ => (Some(range(self.addr)), None),
        };
        Iterator::chain(first.into_iter(), second)
    }

    /// Whether the two must not be outstanding together.
    fn depends_on(&self, other: &Self) -> bool {
        let meet = |one: (u64, u64), two: (u64, u64)| one.0 <= two.1 && two.0 <= one.1;
        self.space == other.space
            && !(self.kind == Kind::Read && other.kind == Kind::Read)
            && self
                .pages()
                .any(|one| other.pages().any(|two| meet(one, two)))
    }
}

/// Where an operation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for so many others of its stream.
    Blocked(u32),
    /// Has requests to make, or waits for them.
    Running,
    /// A lock that somebody else has: tries again then.
    Waiting(u64),
    /// Waits for the table of regions.
    Asking,
    /// Waits for new regions.
    Growing,
    /// Over; the edge has not heard yet.
    Done,
}

/// Links of an operation: among those of its stream.
pub(super) const IN_STREAM: usize = 0;
/// Links of an operation: among those that can go on, that ask, or that are done.
pub(super) const IN_QUEUE: usize = 1;

#[derive(Debug)]
pub(super) struct Op<D> {
    pub(super) new: NewOp<D>,
    pub(super) stage: Stage,
    /// When it was submitted, and when it was last begun, in the engine's order.
    pub(super) birth: u64,
    pub(super) entry: u64,
    /// How far it is: bytes for which requests were made; for a fence, nodes; for
    /// an allocation, regions.
    pub(super) cursor: u64,
    /// Its requests.
    pub(super) requests: Queue<OF_OP>,
    pub(super) outstanding: u32,
    /// Attempts at a lock; regions asked for.
    pub(super) attempts: u32,
    /// The last region that had no room for an allocation, plus 1.
    pub(super) not: u32,
    /// Address of an allocation over several regions.
    pub(super) base: u64,
    /// An allocation that failed gives back what it got. A flush-and-fetch is
    /// done in two steps.
    pub(super) fallback: bool,
    /// The version of the table of regions that it found wanting.
    pub(super) missed: Option<u32>,
    pub(super) result: Result<u64>,
}

impl<D> Op<D> {
    pub(super) fn new(new: NewOp<D>, order: u64) -> Self {
        Self {
            stage: Stage::Running,
            birth: order,
            entry: order,
            cursor: 0,
            requests: Queue::default(),
            outstanding: 0,
            attempts: 0,
            not: 0,
            base: 0,
            fallback: false,
            missed: None,
            result: Ok(0),
            new,
        }
    }

    /// Whether it has to wait for `other`, of the same stream.
    ///
    /// A lock that somebody else has holds nobody up but releases and fences: who
    /// gives it back may well be behind it.
    pub(super) fn waits_for(&self, other: &Self) -> bool {
        if other.stage == Stage::Done {
            return false;
        }
        if self.new.kind.is_barrier() {
            return other.birth < self.birth;
        }
        match other.new.kind {
            Kind::Release => false,
            Kind::Fence => other.birth < self.birth,
            _ => {
                other.entry < self.entry
                    && !matches!(other.stage, Stage::Waiting(_))
                    && self.new.depends_on(&other.new)
            }
        }
    }
}

/// Operations that are ordered among themselves.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) ops: Queue<IN_STREAM>,
    pub(super) closed: bool,
}
