// SPDX-License-Identifier: GPL-2.0

//! The life of a link whose ends greet each other themselves, without a connection manager: what either
//! did is noted, and the link's work item acts on it, as [`core::handshake`](crate::core::handshake) says.

use super::{Down, LinkUser, NodeLink, RingSize};
use crate::core::{
    handshake::{Handshake, OutOfTurn, Step},
    wire::RingAddress,
};
use kernel::{
    prelude::*,
    rdma::RemoteAddr,
    sync::{Arc, SpinLockBh},
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

/// One end of such a link.
pub(super) trait End: WorkItem<Pointer = Arc<Self>> + HasWork<Self> + Sized {
    /// Who uses the link.
    type User: LinkUser;

    /// Who uses the link.
    fn user(&self) -> &Arc<Self::User>;

    /// Where the handshake stands.
    fn progress(&self) -> &SpinLockBh<Progress>;

    /// The link as its user knows it.
    fn link(self: &Arc<Self>) -> NodeLink<Self::User>;

    /// Has [`run`] run once more.
    fn wake(self: &Arc<Self>);

    /// The shape of our ring.
    fn size(&self) -> RingSize;

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

    /// What we say first.
    fn hello(&self) -> Result<KVec<u8>> {
        let (name, size) = (self.ring(), self.size());
        self.user().hello(RingAddress {
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
            let mut progress = self.progress().lock();
            if let Err(OutOfTurn) = said(&mut progress) {
                progress.end(Down::Failed(EPROTO));
            }
        }
        self.wake();
    }

    /// Ends the link, for this reason if it is the first.
    fn end(self: &Arc<Self>, why: Down) {
        self.progress().lock().end(why);
        self.wake();
    }

    /// Ends the link without telling the user, and waits until nothing of it is left.
    ///
    /// Not to be called by the user's callbacks.
    fn abandon(self: &Arc<Self>) {
        self.progress().lock().abandon();
        workqueue::cancel_work_sync::<Self, 0>(self);
        self.dismantle();
    }
}

/// Takes one step of the handshake. `Ok(true)`: the link has just come up.
fn take<E: End>(this: &Arc<E>, step: Step<KVec<u8>>) -> Result<bool> {
    match step {
        Step::Answer(hello) => {
            match this.user().requested(&this.link(), &hello) {
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
            let ring = this.user().greeted(&this.link(), &hello)?;
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
        let Some(step) = this.progress().lock().step() else {
            break;
        };
        match take(this, step) {
            Ok(true) => {
                this.user().up(&this.link());
                this.opened();
            }
            Ok(false) => {}
            Err(e) => this.progress().lock().end(Down::Failed(e)),
        }
    }
    let ended = this.progress().lock().ended();
    if let Some(why) = ended {
        this.dismantle();
        this.user().down(&this.link(), why);
    }
}
