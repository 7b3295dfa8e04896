// SPDX-License-Identifier: GPL-2.0

//! What the protocol asks of the world around it.
//!
//! The module's edge implements [`Host`] with real memory, threads and RPCs; the
//! simulator implements it with simulated ones.

use super::node::Node;
use core::future::Future;
use kernel::prelude::*;

/// A page of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageKey {
    /// The dataset.
    pub dataset: u64,
    /// Its page, from 0.
    pub page: u64,
}

/// Bytes that an action or a message refers to.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// Bytes on the PM device. They do not change until the action or call is done.
    Pm {
        /// Offset on the device.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// As many zeros.
    Zeros(usize),
}

impl<'a> Piece<'a> {
    /// Bytes of it.
    pub fn len(&self) -> usize {
        match *self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Pm { len, .. } | Piece::Zeros(len) => len,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes `at .. at + len` of it, as far as they exist.
    pub fn part(&self, at: usize, len: usize) -> Piece<'a> {
        let at = at.min(self.len());
        let len = len.min(self.len() - at);
        match *self {
            Piece::Bytes(bytes) => Piece::Bytes(bytes.get(at..at + len).unwrap_or(&[])),
            Piece::Pm { offset, .. } => Piece::Pm {
                offset: offset + at as u64,
                len,
            },
            Piece::Zeros(_) => Piece::Zeros(len),
        }
    }
}

/// A step on the PM device or in the page tables; offsets are those of the device.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    /// Stores bytes. Volatile until flushed and fenced; may become durable in
    /// any order, cache line by cache line.
    Write {
        /// Where to.
        offset: u64,
        /// What.
        data: Piece<'a>,
    },
    /// Stores one aligned word, little-endian, by one instruction: after a crash
    /// it is there as a whole or not at all.
    Swing {
        /// Where to, a multiple of 8.
        offset: u64,
        /// What.
        word: u64,
    },
    /// Writes the cache lines of a range back (clwb).
    Flush {
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Waits until what was flushed before is durable (sfence).
    Fence,
    /// Takes pages of a dataset out of the page tables of all processes of this
    /// node. When it is done no process can load from or store to what was mapped.
    Unmap {
        /// First page.
        first: PageKey,
        /// Pages; may reach beyond the end of the dataset.
        count: u64,
    },
    /// The same for all pages of all datasets.
    UnmapAll,
}

/// What a fault maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// A shared page of zeros, read-only.
    Zeros,
    /// A page of the PM device, read-only.
    ReadOnly {
        /// Offset of the page on the device.
        offset: u64,
    },
    /// A page of the PM device, private to this node: loads and stores.
    Writable {
        /// Offset of the page on the device.
        offset: u64,
    },
}

/// A request to another node, or one leg of a multicast.
#[derive(Debug)]
pub struct Call<'a> {
    /// Id of the node; never our own.
    pub dst: u32,
    /// The request is their concatenation.
    pub request: KVec<Piece<'a>>,
    /// Where the reply goes.
    pub reply: KVec<u8>,
    /// Deadline, ns on the host's clock.
    pub until: u64,
    /// Set by the host: length of the reply in `reply`, or an error of the
    /// handler, or of the RPC layer (ETIMEDOUT: may have been executed).
    pub answer: Result<usize, CallError>,
}

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The handler at the other node returned this errno.
    Handler(Error),
    /// There is no answer by the deadline, or we cannot tell what it says, which this errno says: it may have
    /// been executed, or will be.
    Lost(Error),
    /// It was not executed and will not be: the map says down or out, an older
    /// epoch, another incarnation, no hotpot there (no such port), or we are off.
    NotExecuted(Error),
}

/// What to wait for. Taken from the [`Node`] under its mutex, so that no wake is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub(super) queue: u8,
    pub(super) seen: u32,
}

impl Ticket {
    /// Wait queue, below [`NR_QUEUES`].
    pub fn queue(self) -> usize {
        usize::from(self.queue) % NR_QUEUES
    }
}

/// How to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sleep {
    /// A fatal signal ends it.
    Killable,
    /// Only what is waited for ends it, which other steps on this node will bring soon.
    Uninterruptible,
}

/// Wait queues of a mount.
pub const NR_QUEUES: usize = 16;

/// How urgent a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Data or copies are at stake.
    Error,
    /// An operator should look.
    Warning,
    /// Good to know.
    Info,
}

/// The world, as one operation sees it.
///
/// `with`, `now`, `read` and `log` return at once. `run`, `call`, `map` and `wait` may
/// sleep; the state's mutex is never held over them.
pub trait Host {
    /// Runs `f` on the state of the mount, with its one mutex held, and then wakes
    /// who sleeps on the queues that [`Node::take_wakes`] names. Never nested.
    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R;

    /// Monotonic time in ns.
    fn now(&self) -> u64;

    /// Loads bytes from the PM device; `EIO` for a bad line. May be called in `with`.
    fn read(&self, offset: u64, to: &mut [u8]) -> Result;

    /// Executes actions in order.
    fn run(&self, actions: &[Action<'_>]) -> impl Future<Output = Result>;

    /// Sends all requests at once and returns when each has its answer.
    fn call(&self, calls: &mut [Call<'_>]) -> impl Future<Output = ()>;

    /// Maps a page where the process faulted. Only in an operation begun with
    /// [`fault`](super::fault::fault).
    fn map(&self, key: PageKey, to: Mapping) -> impl Future<Output = Result>;

    /// Sleeps until `ticket` is due ([`Node::is_due`]) or the time is `until`.
    /// `EINTR` when a fatal signal is pending, but only for [`Sleep::Killable`].
    fn wait(&self, ticket: Ticket, until: u64, sleep: Sleep) -> impl Future<Output = Result>;

    /// Prints a line for the operator (the host adds which mount it is).
    fn log(&self, level: Level, line: core::fmt::Arguments<'_>);
}
