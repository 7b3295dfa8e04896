// SPDX-License-Identifier: GPL-2.0

//! The life of a link: each end notes what the other did, and its work item acts on it.
//!
//! Whoever connects makes both ends. The other node is asked by its end's work item, and sees what a
//! connection manager would have brought it: a hello, to agree to or not.

use super::{inbound::Inbound, Noted, ShmLink};
use crate::{
    core::wire::RingAddress,
    host::Queues,
    transport::{Down, LinkUser, NodeLink, RingSize},
};
use kernel::{
    prelude::*,
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
        let this = Self::new(user, size, queues, &ours, &theirs)?;
        let other = Self::new(to, to_size, queues, &theirs, &ours)?;
        this.set_tag(tag);
        let hello = this.own_hello()?;
        // From here on each end is there until it was told that the link has ended.
        ours.set_owner(&this);
        theirs.set_owner(&other);
        other.note(|noted| noted.requested = Some(hello));
        Ok(this)
    }

    /// Ends the link without telling the user, and waits until nothing of it is left.
    ///
    /// Not to be called by the user's callbacks.
    pub(crate) fn shutdown(self: &Arc<Self>) {
        self.state.lock().over = true;
        workqueue::cancel_work_sync::<Self, 0>(self);
        self.dismantle();
    }

    fn own_hello(&self) -> Result<KVec<u8>> {
        let name = self.ours.name();
        self.user.hello(RingAddress {
            addr: name.addr,
            rkey: name.rkey,
            size_log2: self.size.size_log2,
            depth_log2: self.size.depth_log2,
            slots_log2: self.size.slots_log2,
        })
    }

    fn note(self: &Arc<Self>, f: impl FnOnce(&mut Noted)) {
        f(&mut self.state.lock().noted);
        // Queued already: it will see what was noted.
        let _ = self.queues.links.enqueue::<_, 0>(self.clone());
    }

    pub(super) fn note_down(self: &Arc<Self>, why: Down) {
        self.note(|noted| {
            noted.down.get_or_insert(why);
        });
    }

    /// The peer says that this is its ring: it is the one that we have.
    fn check_ring(&self, ring: RingAddress) -> Result {
        if ring.size() as usize == self.theirs.ring().len() {
            Ok(())
        } else {
            Err(EPROTO)
        }
    }

    /// Acts on what was noted. `Ok(true)`: the link has just come up.
    fn advance(self: &Arc<Self>) -> Result<bool> {
        let noted = {
            let mut state = self.state.lock();
            if state.over {
                return Ok(false);
            }
            if state.noted.down.is_some() {
                return Err(ENOTCONN);
            }
            core::mem::take(&mut state.noted)
        };
        let link = NodeLink::Shm(self.clone());
        if let Some(hello) = noted.requested {
            match self.user.requested(&link, &hello) {
                Ok(ring) => self.check_ring(ring)?,
                Err(why) => {
                    let why = Down::Rejected(why);
                    // It may have given up itself.
                    let _ = self.theirs.tell(|peer| peer.note_down(why));
                    return Err(ECONNREFUSED);
                }
            }
            let hello = self.own_hello()?;
            self.theirs
                .tell(|peer| peer.note(|noted| noted.accepted = Some(hello)))?;
        }
        if let Some(hello) = noted.accepted {
            let ring = self.user.greeted(&link, &hello)?;
            self.check_ring(ring)?;
            self.theirs
                .tell(|peer| peer.note(|noted| noted.confirmed = true))?;
            return Ok(true);
        }
        Ok(noted.confirmed)
    }

    fn dismantle(self: &Arc<Self>) {
        self.ours.close();
        // It may have ended before.
        let _ = self
            .theirs
            .tell(|peer| peer.note_down(Down::Failed(ECONNRESET)));
        // Nothing queues them any more.
        workqueue::cancel_work_sync::<Self, 2>(self);
        workqueue::cancel_work_sync::<Self, 1>(self);
        self.ours.windows.close();
    }
}

impl<U: LinkUser> WorkItem for ShmLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let link = NodeLink::Shm(this.clone());
        let result = this.advance();
        if let Ok(true) = result {
            this.user.up(&link);
        }
        let why = {
            let mut state = this.state.lock();
            let noted = state.noted.down.take();
            match (state.over, noted, result) {
                (true, ..) | (_, None, Ok(_)) => return,
                (_, Some(why), _) => {
                    state.over = true;
                    why
                }
                (_, None, Err(e)) => {
                    state.over = true;
                    Down::Failed(e)
                }
            }
        };
        this.dismantle();
        this.user.down(&link, why);
    }
}
