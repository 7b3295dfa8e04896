// SPDX-License-Identifier: GPL-2.0

//! The life of a link: each end tells the other's what it did.
//!
//! Whoever connects makes both ends. The other node is asked by its end's work item, and sees what a
//! connection manager would have brought it: a hello, to agree to or not.

use super::{inbound::Inbound, ShmLink};
use crate::{
    core::wire::RingAddress,
    host::Queues,
    transport::{
        handshake::{self, End, Party, Progress, Word},
        Down, LinkUser, NodeLink, RingSize,
    },
};
use kernel::{
    prelude::*,
    rdma::RemoteAddr,
    sync::Arc,
    workqueue::{self, WorkItem},
};

impl<U: LinkUser> ShmLink<U> {
    /// Starts to connect to `to`, which is what stands for us at the peer's node. Ends in `up` or
    /// `down` of the user.
    pub(crate) fn connect(
        user: Arc<U>,
        tag: u32,
        size: RingSize,
        queues: &Arc<Queues>,
        to: Arc<U>,
        to_size: RingSize,
    ) -> Result<Arc<Self>> {
        let ours = Inbound::new(size)?;
        let theirs = Inbound::new(to_size)?;
        let this = Self::new(user, tag, size, queues, &ours, &theirs, Progress::ask())?;
        let other = Self::new(to, 0, to_size, queues, &theirs, &ours, Progress::listen())?;
        let hello = this.hello()?;
        // From here on each end is there until it was told that the link has ended.
        ours.set_owner(&this);
        theirs.set_owner(&other);
        other.note(|progress| progress.requested(hello));
        Ok(this)
    }
}

impl<U: LinkUser> End for ShmLink<U> {
    type User = U;

    fn party(&self) -> &Party<U> {
        &self.party
    }

    fn link(self: &Arc<Self>) -> NodeLink<U> {
        NodeLink::Shm(self.clone())
    }

    fn ring(&self) -> RemoteAddr {
        self.ours.name()
    }

    /// It is the one that we have.
    fn check_ring(&self, ring: RingAddress) -> Result {
        if ring.size() as usize == self.theirs.ring().len() {
            Ok(())
        } else {
            Err(EPROTO)
        }
    }

    fn say(self: &Arc<Self>, word: Word) -> Result {
        self.theirs.tell(|peer| match word {
            Word::Accept(hello) => peer.note(|progress| progress.accepted(hello)),
            Word::Reject(why) => peer.end(Down::Rejected(why)),
            Word::Confirm => peer.note(|progress| progress.confirmed()),
        })
    }

    fn dismantle(self: &Arc<Self>) {
        self.ours.close();
        // It may have ended before.
        let _ = self.theirs.tell(|peer| peer.end(Down::Failed(ECONNRESET)));
        // Nothing queues them any more.
        workqueue::cancel_work_sync::<Self, 2>(self);
        workqueue::cancel_work_sync::<Self, 1>(self);
        self.ours.windows.close();
    }
}

impl<U: LinkUser> WorkItem for ShmLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        handshake::run(&this);
    }
}
