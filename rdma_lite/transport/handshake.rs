// SPDX-License-Identifier: GPL-2.0

//! The life of a link whose ends greet each other themselves, without a connection manager: what either
//! did is noted, and the link's work item acts on it, as [`core::handshake`](crate::core::handshake) says.

use super::{Down, LinkUser, NodeLink, RingSize};
use crate::{
    core::{
        handshake::{Handshake, OutOfTurn, Step},
        wire::RingAddress,
    },
    host::Queues,
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    rdma::RemoteAddr,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        SpinLockBh, //
    },
    workqueue::{self, HasWork, WorkItem},
};

/// Where the handshake of a link stands.
pub(super) type Progress = Handshake<KVec<u8>, Down>;

/// What one end says to the other.
pub(super) enum Word {
    /// We agree, with this hello.
    Accept(KVec<u8>),
    /// We do not, for this reason.
    Reject(KVec<u8>),
    /// We have heard that you agree.
    Confirm,
}

/// What either end of such a link has, whatever carries its messages.
#[pin_data]
pub(super) struct Party<U: LinkUser> {
    /// Who uses the link.
    pub(super) user: Arc<U>,
    /// Where work of the link is done.
    pub(super) queues: Arc<Queues>,
    /// The shape of our ring.
    size: RingSize,
    /// What the user knows the link by.
    tag: Atomic<u32>,
    #[pin]
    progress: SpinLockBh<Progress>,
}

impl<U: LinkUser> Party<U> {
    /// Of a link that the user knows by this tag, whose handshake stands there.
    pub(super) fn new(
        user: Arc<U>,
        tag: u32,
        size: RingSize,
        queues: &Arc<Queues>,
        progress: Progress,
    ) -> impl PinInit<Self> {
        let queues = queues.clone();
        pin_init!(Self {
            user,
            queues,
            size,
            tag: Atomic::new(tag),
            progress <- new_spinlock_bh!(progress, "lite_handshake"),
        })
    }
}

/// One end of such a link.
pub(super) trait End:
    WorkItem<Pointer = Arc<Self>> + HasWork<Self> + Send + Sync + Sized + 'static
{
    /// Who uses the link.
    type User: LinkUser;

    /// What it has as the other end has.
    fn party(&self) -> &Party<Self::User>;

    /// The link as its user knows it.
    fn link(self: &Arc<Self>) -> NodeLink<Self::User>;

    /// Names our ring.
    fn ring(&self) -> RemoteAddr;

    /// The peer says that this is its ring: it is one that we can write to.
    fn check_ring(&self, ring: RingAddress) -> Result;

    /// Says something to the peer.
    fn say(self: &Arc<Self>, word: Word) -> Result;

    /// The user has heard that the link is up.
    fn opened(&self) {}

    /// Ends all that the link does, and tells the peer if it is there.
    fn dismantle(self: &Arc<Self>);

    /// What the user knows the link by.
    fn tag(&self) -> u32 {
        self.party().tag.load(Relaxed)
    }

    /// Sets what the user knows the link by.
    fn set_tag(&self, tag: u32) {
        self.party().tag.store(tag, Relaxed);
    }

    /// Whether it has ended.
    fn is_over(&self) -> bool {
        self.party().progress.lock().is_over()
    }

    /// Has [`run`] run once more.
    fn wake(self: &Arc<Self>) {
        // Queued already: it will see what was noted.
        let _ = self.party().queues.links.enqueue::<_, 0>(self.clone());
    }

    /// What we say first.
    fn hello(&self) -> Result<KVec<u8>> {
        let (name, size) = (self.ring(), self.party().size);
        self.party().user.hello(RingAddress {
            addr: name.addr,
            rkey: name.rkey,
            size_log2: size.size_log2,
            depth_log2: size.depth_log2,
            slots_log2: size.slots_log2,
        })
    }

    /// Notes what the peer said. [`EPROTO`] ends the link when it could not say that now.
    fn note(self: &Arc<Self>, said: impl FnOnce(&mut Progress) -> Result<(), OutOfTurn>) {
        {
            let mut progress = self.party().progress.lock();
            if let Err(OutOfTurn) = said(&mut progress) {
                progress.end(Down::Failed(EPROTO));
            }
        }
        self.wake();
    }

    /// Ends the link, for this reason if it is the first.
    fn end(self: &Arc<Self>, why: Down) {
        self.party().progress.lock().end(why);
        self.wake();
    }

    /// Ends the link without telling the user, and waits until nothing of it is left.
    ///
    /// Not to be called by the user's callbacks.
    fn shutdown(self: &Arc<Self>) {
        self.party().progress.lock().abandon();
        workqueue::cancel_work_sync::<Self, 0>(self);
        self.dismantle();
    }
}

/// Takes one step of the handshake. `Ok(true)`: the link has just come up.
fn take<E: End>(this: &Arc<E>, step: Step<KVec<u8>>) -> Result<bool> {
    match step {
        Step::Answer(hello) => {
            match this.party().user.requested(&this.link(), &hello) {
                Ok(ring) => this.check_ring(ring)?,
                Err(why) => {
                    // It may have given up itself.
                    let _ = this.say(Word::Reject(why));
                    return Err(ECONNREFUSED);
                }
            }
            this.say(Word::Accept(this.hello()?))?;
            Ok(false)
        }
        Step::Confirm(hello) => {
            let ring = this.party().user.greeted(&this.link(), &hello)?;
            this.check_ring(ring)?;
            this.say(Word::Confirm)?;
            Ok(true)
        }
        Step::Up => Ok(true),
    }
}

/// Acts on what was noted: what the work item of a link does.
pub(super) fn run<E: End>(this: &Arc<E>) {
    loop {
        // Not held while the step is taken.
        let Some(step) = this.party().progress.lock().step() else {
            break;
        };
        match take(this, step) {
            Ok(true) => {
                this.party().user.up(&this.link());
                this.opened();
            }
            Ok(false) => {}
            Err(e) => this.party().progress.lock().end(Down::Failed(e)),
        }
    }
    let ended = this.party().progress.lock().ended();
    if let Some(why) = ended {
        this.dismantle();
        this.party().user.down(&this.link(), why);
    }
}
