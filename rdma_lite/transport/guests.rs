// SPDX-License-Identifier: GPL-2.0

//! A link between two nodes whose kernels share memory (a pmem device that several guests map): no
//! network, and no interrupt.
//!
//! What lies in the memory, and how little of it is believed, is [`core::guests`](crate::core::guests).
//! A node that uses such memory has an [`Attachment`] to it: its slot, and a work item that looks, over
//! and over, whether the nodes of the other slots have something for it. A message is copied into the
//! ring of its receiver, and a bell is put behind those before it; the receiver's work item finds that,
//! and handles the message, or leaves it to another work item when it may have to sleep.
//!
//! Memory of a region that lies in the other kernel is read and written by its owner's work item, through
//! a part of the lane.
//!
//! Locks: the sender's peer, then `GuestLink::tx`, a leaf. `Attachment::table` before `tx`, not under the
//! peer's. `Attachment::round` is held while messages are handled, so before the peer's.

mod access;
mod attachment;
mod life;
mod memory;
mod poll;

pub(crate) use self::attachment::{Attachment, Place};
pub(crate) use self::memory::DEVICES;

use self::memory::SharedMemory;
use super::{
    access::Access,
    chunk::Chunk,
    handshake::{End, Party, Progress},
    shm, Down, Link, LinkUser, Piece,
};
use crate::core::{
    guests::{
        access::Accesses,
        bells::{self, Bell},
        control::Session,
        layout::Lane,
        Memory,
    },
    wire::ReplyBuffer,
    Allowed, Bells,
};
use kernel::{
    impl_has_work, new_spinlock_bh, new_work,
    prelude::*,
    rdma::{DmaBuffer, RemoteAddr},
    sync::{
        atomic::{Acquire, Atomic, Release},
        Arc,
        SpinLockBh, //
    },
    workqueue::Work,
};

/// What we write to the memory by.
struct Tx<U: LinkUser> {
    /// `None` once the link is dismantled.
    attachment: Option<Arc<Attachment<U>>>,
    /// Another link has taken over the lanes, or this one has ended.
    silent: bool,
    bells: bells::Sender,
    accesses: Accesses<Arc<Access>>,
}

/// What comes in.
struct Rx {
    bells: bells::Receiver,
    /// Messages that were not handled yet.
    inbox: Bells,
}

/// One end of a link over memory that kernels share.
#[pin_data]
pub(crate) struct GuestLink<U: LinkUser> {
    #[pin]
    party: Party<U>,
    /// Slot of the peer.
    peer_slot: usize,
    /// What we say to the peer, from our life to its, is of this session.
    session: Session,
    /// What we write, and what the peer writes.
    outbound: Lane,
    inbound: Lane,
    /// Slots of the sender and the receiver, for names.
    ours: u32,
    theirs: u32,
    /// 1 once messages are handled.
    ready: Atomic<u32>,
    #[pin]
    tx: SpinLockBh<Tx<U>>,
    #[pin]
    rx: SpinLockBh<Rx>,
    #[pin]
    windows: shm::Windows,
    /// The life of the link.
    #[pin]
    work: Work<GuestLink<U>>,
    /// Messages that may have to sleep, and those behind them.
    #[pin]
    backlog: Work<GuestLink<U>, 1>,
}

impl_has_work! {
    impl{U: LinkUser} HasWork<Self> for GuestLink<U> { self.work }
}
impl_has_work! {
    impl{U: LinkUser} HasWork<Self, 1> for GuestLink<U> { self.backlog }
}

impl<U: LinkUser> GuestLink<U> {
    /// A link of this session to the node of this slot, which has its lanes from now on.
    fn new(
        user: Arc<U>,
        tag: u32,
        attachment: &Arc<Attachment<U>>,
        peer_slot: usize,
        session: Session,
        progress: Progress,
    ) -> Result<Arc<Self>> {
        let (layout, own) = (attachment.layout(), attachment.slot());
        let (outbound, inbound) = (layout.lane(own, peer_slot), layout.lane(peer_slot, own));
        let size = attachment.ring_size();
        let (ours, theirs) = (own as u32, peer_slot as u32);
        // Whoever had the lanes does not write to them any more.
        attachment.vacate(peer_slot);
        let receiver = bells::Receiver::new(attachment.memory(), inbound, session.id)?;
        let inbox = Bells::new(2 << size.depth_log2)?;
        let this = Arc::pin_init(
            pin_init!(Self {
                party <- Party::new(user, tag, size, attachment.queues(), progress),
                peer_slot,
                session,
                outbound,
                inbound,
                ours,
                theirs,
                ready: Atomic::new(0),
                tx <- new_spinlock_bh!(Tx {
                    attachment: Some(attachment.clone()),
                    silent: false,
                    bells: bells::Sender::new(session.id),
                    accesses: Accesses::new(size.share),
                }, "lite_guest_tx"),
                rx <- new_spinlock_bh!(Rx { bells: receiver, inbox }, "lite_guest_rx"),
                windows <- shm::Windows::new(),
                work <- new_work!("GuestLink::work"),
                backlog <- new_work!("GuestLink::backlog"),
            }),
            GFP_KERNEL,
        )?;
        attachment.occupy(peer_slot, &this)?;
        Ok(this)
    }

    /// Of the node that we talk to: another life in its slot is not.
    fn their_life(&self) -> u64 {
        self.session.to
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Acquire) != 0
    }

    fn set_ready(&self, ready: bool) {
        self.ready.store(ready.into(), Release);
    }

    /// The ring that the peer writes to: names this connection, on both sides.
    pub(crate) fn own_ring(&self) -> Option<RemoteAddr> {
        Some(self.ring())
    }

    /// The ring of the peer that we write to.
    pub(crate) fn peer_ring(&self) -> Option<RemoteAddr> {
        Some(self.name(self.ours, self.theirs))
    }

    fn name(&self, from: u32, to: u32) -> RemoteAddr {
        RemoteAddr {
            addr: self.session.id,
            rkey: 1 << 16 | from << 8 | to,
        }
    }

    /// Lets the peer into a chunk, until the window is given to [`Link::hide`].
    pub(crate) fn open(&self, chunk: &Chunk, allowed: Allowed) -> Result<shm::Window> {
        self.windows.open(chunk, allowed)
    }

    /// What we are attached to; [`ECONNRESET`] when the link has ended.
    fn attachment(&self) -> Result<Arc<Attachment<U>>> {
        let tx = self.tx.lock();
        let open = tx.attachment.as_ref().filter(|_| !tx.silent);
        open.cloned().ok_or(ECONNRESET)
    }

    /// Writes to the outbound lane, while it is ours to write to.
    fn with_lane<T>(
        &self,
        write: impl FnOnce(&SharedMemory, Lane, &mut bells::Sender) -> Result<T>,
    ) -> Result<T> {
        let mut tx = self.tx.lock();
        let tx = &mut *tx;
        match &tx.attachment {
            Some(attachment) if !tx.silent => {
                write(attachment.memory(), self.outbound, &mut tx.bells)
            }
            _ => Err(ECONNRESET),
        }
    }
}

impl<U: LinkUser> Link for GuestLink<U> {
    type Window = shm::Window;
    type Buffer = Arc<DmaBuffer>;

    unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result {
        self.with_lane(|memory, lane, bells| {
            let mut at = offset as usize;
            memory.write(lane.ring(at, header.len())?, header)?;
            at += header.len();
            for piece in payload {
                let to = lane.ring(at, piece.len)?;
                // SAFETY: Readable, as the caller promises, and nobody has a pointer into the memory.
                unsafe { memory.write_raw(to, piece.ptr, piece.len)? };
                at += piece.len;
            }
            bells.ring(memory, lane, Bell::Message(imm))
        })
    }

    fn ring_bell(&self, imm: u32) -> Result {
        self.with_lane(|memory, lane, bells| bells.ring(memory, lane, Bell::Message(imm)))
    }

    fn read(&self, offset: u32, into: &mut [u8]) -> Result {
        let at = self.inbound.ring(offset as usize, into.len())?;
        self.with_lane(|memory, _, _| memory.read(at, into))
    }

    /// Large replies come through the ring, as between nodes of one kernel.
    unsafe fn expose(self: &Arc<Self>, _ptr: *mut u8, _len: usize) -> Result<shm::Window> {
        Err(EOPNOTSUPP)
    }

    fn hide(self: &Arc<Self>, window: shm::Window) {
        self.windows.hide(window);
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
