// SPDX-License-Identifier: GPL-2.0

//! A link between two nodes of one kernel, over memory that both have: no device, no network.
//!
//! Each end has an [`Inbound`]: the ring that the other writes its messages to, a queue of bells, and
//! the windows that it opened. A message is copied once, from its sender's memory into the ring of its
//! receiver, and its bell wakes a softirq of the sender's processor. That runs as soon as the sender has
//! let go of its locks, so that a short call and its reply are often over before the sender looks for
//! the answer. What may have to sleep is left to a work item, as with verbs.
//!
//! Locks: the sender's peer, then the receiver's `Inbound`, then the receiver's link. The first is never
//! held when the receiver's peer is locked, as that is left to the softirq.

mod inbound;
mod life;
mod ring;
mod windows;

pub(crate) use self::windows::Window;
pub(super) use self::windows::Windows;

use self::{inbound::Inbound, ring::Ring};
use super::{
    access::Way,
    chunk::Chunk,
    handshake::{End, Party, Progress},
    Down, Link, LinkUser, NodeLink, Piece, RingSize,
};
use crate::{
    core::{wire::ReplyBuffer, Allowed, Turn},
    host::Queues,
};
use kernel::{
    impl_has_work, new_work,
    prelude::*,
    rdma::{DmaBuffer, RemoteAddr},
    sync::Arc,
    workqueue::{self, Work, WorkItem},
};

/// Messages that a softirq handles before others get their turn.
const BUDGET: usize = 64;

/// One end of a link over shared memory.
#[pin_data]
pub(crate) struct ShmLink<U: LinkUser> {
    #[pin]
    party: Party<U>,
    ours: Arc<Inbound<U>>,
    theirs: Arc<Inbound<U>>,
    /// The life of the link.
    #[pin]
    work: Work<ShmLink<U>>,
    /// Messages that may have to sleep, and those behind them.
    #[pin]
    backlog: Work<ShmLink<U>, 1>,
    /// Messages.
    #[pin]
    bell: Work<ShmLink<U>, 2>,
}

impl_has_work! {
    impl{U: LinkUser} HasWork<Self> for ShmLink<U> { self.work }
}
impl_has_work! {
    impl{U: LinkUser} HasWork<Self, 1> for ShmLink<U> { self.backlog }
}
impl_has_work! {
    impl{U: LinkUser} HasWork<Self, 2> for ShmLink<U> { self.bell }
}

impl<U: LinkUser> ShmLink<U> {
    fn new(
        user: Arc<U>,
        tag: u32,
        size: RingSize,
        queues: &Arc<Queues>,
        ours: &Arc<Inbound<U>>,
        theirs: &Arc<Inbound<U>>,
        progress: Progress,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                party <- Party::new(user, tag, size, queues, progress),
                ours: ours.clone(),
                theirs: theirs.clone(),
                work <- new_work!("ShmLink::work"),
                backlog <- new_work!("ShmLink::backlog"),
                bell <- new_work!("ShmLink::bell"),
            }),
            GFP_KERNEL,
        )
    }

    /// The ring that the peer writes to: names this connection, on both sides.
    pub(crate) fn own_ring(&self) -> Option<RemoteAddr> {
        Some(self.ours.name())
    }

    /// The ring of the peer that we write to.
    pub(crate) fn peer_ring(&self) -> Option<RemoteAddr> {
        Some(self.theirs.name())
    }

    /// Lets the peer into a chunk, until the window is given to [`Link::hide`].
    pub(crate) fn open(&self, chunk: &Chunk, allowed: Allowed) -> Result<Window> {
        self.ours.open(chunk, allowed)
    }

    /// Copies between the beginning of `buffer` and the peer's memory at `remote`, and says how that
    /// went.
    pub(crate) fn access(
        &self,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        len: usize,
        remote: RemoteAddr,
    ) -> Result {
        self.theirs.access(way, buffer, len, remote)
    }
}

impl<U: LinkUser> Link for ShmLink<U> {
    type Window = Window;
    type Buffer = Arc<DmaBuffer>;

    unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result {
        let ring: &Ring = self.theirs.ring();
        let mut at = offset as usize;
        ring.write(at, header)?;
        at += header.len();
        for piece in payload {
            // SAFETY: Readable, as the caller promises.
            unsafe { ring.write_raw(at, piece.ptr, piece.len)? };
            at += piece.len;
        }
        self.theirs.ring_bell(imm)
    }

    fn ring_bell(&self, imm: u32) -> Result {
        self.theirs.ring_bell(imm)
    }

    fn read(&self, offset: u32, into: &mut [u8]) -> Result {
        self.ours.ring().read(offset as usize, into)
    }

    /// Large replies come through the ring: they are copied from there by the receiver, and nobody has
    /// to be kept out of the caller's memory.
    unsafe fn expose(self: &Arc<Self>, _ptr: *mut u8, _len: usize) -> Result<Window> {
        Err(EOPNOTSUPP)
    }

    fn hide(self: &Arc<Self>, window: Window) {
        self.ours.hide(window);
    }

    fn buffer(&self, _len: usize) -> Result<Arc<DmaBuffer>> {
        Err(EOPNOTSUPP)
    }

    fn put(&self, _buffer: &Arc<DmaBuffer>, _len: usize, _to: &ReplyBuffer) -> Result {
        Err(EOPNOTSUPP)
    }

    fn fail(self: &Arc<Self>, why: Error) {
        self.end(Down::Failed(why));
    }
}

impl<U: LinkUser> WorkItem<2> for ShmLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let link = NodeLink::Shm(this.clone());
        for _ in 0..BUDGET {
            let Some(imm) = this.ours.next(Turn::Softirq) else {
                return;
            };
            if !this.party.user.message(&link, imm, false) {
                this.ours.defer();
                let _ = this.party.queues.links.enqueue::<_, 1>(this.clone());
                return;
            }
            this.ours.handled();
        }
        let _ = workqueue::system_bh().enqueue::<_, 2>(this);
    }
}

impl<U: LinkUser> WorkItem<1> for ShmLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let link = NodeLink::Shm(this.clone());
        while let Some(imm) = this.ours.next(Turn::Task) {
            this.party.user.message(&link, imm, true);
            this.ours.handled();
        }
    }
}
