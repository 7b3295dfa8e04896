// SPDX-License-Identifier: GPL-2.0

//! What carries messages between two nodes.
//!
//! A [`Link`] is one connection to one peer: a ring in our memory that the peer writes its messages
//! to, a ring of the peer's that we write to, and windows through which a peer may write a large
//! reply straight into the memory of the caller. There are three transports: [`verbs`], memory of the
//! kernel that both nodes live in ([`shm`]), and memory that their kernels share ([`guests`]); a
//! [`NodeLink`] is a link of any.

pub(crate) mod access;
pub(crate) mod chunk;
pub(crate) mod guests;
mod handshake;
pub(crate) mod listener;
mod node_link;
pub(crate) mod shm;
pub(crate) mod verbs;
pub(crate) mod window;

pub(crate) use self::node_link::{NodeLink, NodeWindow};

use crate::core::{
    wire::{ReplyBuffer, RingAddress},
    Share,
};
use kernel::{prelude::*, sync::Arc};

/// The shape of our own ring.
#[derive(Copy, Clone)]
pub(crate) struct RingSize {
    pub(crate) size_log2: u8,
    pub(crate) depth_log2: u8,
    pub(crate) slots_log2: u8,
    /// What the high class gets of what the link can do.
    pub(crate) share: Share,
    /// Queue pairs of a connection.
    pub(crate) lanes: u8,
    /// Peers get the key over all memory, not one for each chunk (see [`verbs::domain`]).
    pub(crate) global_rkey: bool,
}

/// Why a link ended.
pub(crate) enum Down {
    /// It could not be made, or broke.
    Failed(Error),
    /// The peer said no, with these bytes.
    Rejected(KVec<u8>),
}

/// Who uses a link, and gets what comes out of it.
///
/// All but `message` are called one at a time for a link, by work of the link's queue, without
/// locks held. `message` is called in the order in which messages came, mostly in softirq context.
pub(crate) trait LinkUser: Send + Sync + Sized + 'static {
    /// Who knows all users of a node.
    type Home: Send + Sync;

    /// Who stands for the node of this id, which wants to connect; else what to say to it.
    fn called(home: &Arc<Self::Home>, node: u16) -> Result<Arc<Self>, KVec<u8>>;

    /// What to say first to the peer, given the ring that it may write to.
    fn hello(&self, ring: RingAddress) -> Result<KVec<u8>>;

    /// The peer wants to connect, and said this first. Returns the ring that we may write to, or
    /// what to say when we do not want to.
    fn requested(
        self: &Arc<Self>,
        link: &NodeLink<Self>,
        hello: &[u8],
    ) -> Result<RingAddress, KVec<u8>>;

    /// The peer agrees to connect, and said this first. Returns the ring that we may write to.
    fn greeted(self: &Arc<Self>, link: &NodeLink<Self>, hello: &[u8]) -> Result<RingAddress>;

    /// Messages can be sent from now on.
    fn up(self: &Arc<Self>, link: &NodeLink<Self>);

    /// The peer wrote to our ring (or did not) and sent `imm` along. False when that is to be
    /// handed in again, before all that follows, where it may sleep.
    fn message(self: &Arc<Self>, link: &NodeLink<Self>, imm: u32, may_sleep: bool) -> bool;

    /// The link is gone for good, and all of its messages were handed in.
    fn down(self: &Arc<Self>, link: &NodeLink<Self>, why: Down);
}

/// Some bytes of somebody's memory (`struct lite_buf`).
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Piece {
    pub(crate) ptr: *const u8,
    pub(crate) len: usize,
}

/// One connection to one peer.
pub(crate) trait Link {
    /// Memory of ours that the peer is let into.
    type Window: Send;
    /// Memory for a large reply.
    type Buffer;

    /// Puts a message at `offset` of the peer's ring and rings its bell with `imm`.
    ///
    /// # Safety
    ///
    /// The pieces must be readable. They may change meanwhile.
    unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result;

    /// Rings the peer's bell with `imm` alone.
    fn ring_bell(&self, imm: u32) -> Result;

    /// Copies out of our ring.
    fn read(&self, offset: u32, into: &mut [u8]) -> Result;

    /// Lets the peer write to `len` bytes at `ptr`.
    ///
    /// # Safety
    ///
    /// The memory must be of the linear map, and stay allocated and out of use until the window
    /// was given to [`Self::hide`].
    unsafe fn expose(self: &Arc<Self>, ptr: *mut u8, len: usize) -> Result<Self::Window>;

    /// Shuts a window. Afterwards the peer cannot reach the memory, come what may.
    fn hide(self: &Arc<Self>, window: Self::Window);

    /// Memory to write a large reply from.
    fn buffer(&self, len: usize) -> Result<Self::Buffer>;

    /// Writes the first `len` bytes of `buffer` to a window of the peer, before later messages.
    fn put(&self, buffer: &Self::Buffer, len: usize, to: &ReplyBuffer) -> Result;

    /// Ends the link: `down` follows.
    fn fail(self: &Arc<Self>, why: Error);
}
