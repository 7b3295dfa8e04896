// SPDX-License-Identifier: GPL-2.0

//! The life of a link: its attachment notes what the peer said, and the link's work item acts on it.

use super::{Attachment, GuestLink, Noted, Place};
use crate::{
    core::{
        guests::control::{Kind, Session},
        wire::RingAddress,
    },
    transport::{Down, LinkUser, NodeLink},
};
use kernel::{
    prelude::*,
    random::get_random_u64,
    sync::Arc,
    workqueue::{self, WorkItem},
};

impl<U: LinkUser> GuestLink<U> {
    /// Starts to connect to the node at this place. Ends in `up` or `down` of the user.
    pub(crate) fn connect(
        user: Arc<U>,
        tag: u32,
        attachment: &Arc<Attachment<U>>,
        to: Place,
    ) -> Result<Arc<Self>> {
        let session = Session {
            id: get_random_u64(),
            from: attachment.life(),
            to: to.life,
        };
        let this = Self::new(user, tag, attachment, to.slot, session)?;
        let said = this
            .own_hello()
            .and_then(|hello| attachment.say(&this, Kind::Request, &hello));
        said.inspect_err(|_| this.shutdown())?;
        Ok(this)
    }

    /// The node of a slot asks for a link of this session.
    pub(super) fn requested(
        user: Arc<U>,
        attachment: &Arc<Attachment<U>>,
        slot: usize,
        session: Session,
        hello: KVec<u8>,
    ) -> Result {
        let this = Self::new(user, 0, attachment, slot, session)?;
        this.note(|noted| noted.requested = Some(hello));
        Ok(())
    }

    /// The peer said something about our session.
    pub(super) fn heard(self: &Arc<Self>, kind: Kind, bytes: &[u8]) -> Result {
        let mut copy = KVec::new();
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        match kind {
            Kind::Accept => self.note(|noted| noted.accepted = Some(copy)),
            Kind::Confirm => self.note(|noted| noted.confirmed = true),
            Kind::Reject => self.note_down(Down::Rejected(copy)),
            Kind::Close => self.note_down(Down::Failed(ECONNRESET)),
            // Answered when it came.
            Kind::Request => {}
        }
        Ok(())
    }

    /// Another link has the lanes from now on, or none.
    pub(super) fn silence(self: &Arc<Self>) {
        self.set_ready(false);
        self.tx.lock().silent = true;
        self.note_down(Down::Failed(ECONNRESET));
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
        let name = self.own_ring().ok_or(ENOTCONN)?;
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

    /// The peer says that this is its ring: the lane has room for it.
    fn check_ring(&self, ring: RingAddress) -> Result {
        self.outbound
            .ring(0, ring.size() as usize)
            .map_err(|_| EPROTO)?;
        Ok(())
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
        let link = NodeLink::Guests(self.clone());
        if let Some(hello) = noted.requested {
            let answer = self.user.requested(&link, &hello);
            let attachment = self.attachment()?;
            match answer {
                Ok(ring) => self.check_ring(ring)?,
                Err(why) => {
                    attachment.say(self, Kind::Reject, &why)?;
                    return Err(ECONNREFUSED);
                }
            }
            let hello = self.own_hello()?;
            attachment.say(self, Kind::Accept, &hello)?;
        }
        if let Some(hello) = noted.accepted {
            let ring = self.user.greeted(&link, &hello)?;
            self.check_ring(ring)?;
            self.attachment()?.say(self, Kind::Confirm, &[])?;
            return Ok(true);
        }
        Ok(noted.confirmed)
    }

    fn dismantle(self: &Arc<Self>) {
        self.set_ready(false);
        let attachment = {
            let mut tx = self.tx.lock();
            tx.attachment.take()
        };
        if let Some(attachment) = attachment {
            attachment.leave(self);
            // What is being handled of this link is over then, and nothing is afterwards.
            attachment.between_rounds();
        }
        loop {
            let waiter = self.tx.lock().accesses.give_up();
            let Some(waiter) = waiter else { break };
            waiter.finish(Err(ECONNRESET));
        }
        let inbox = core::mem::take(&mut self.rx.lock().inbox);
        drop(inbox);
        workqueue::cancel_work_sync::<Self, 1>(self);
        self.windows.close();
    }
}

impl<U: LinkUser> WorkItem for GuestLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let link = NodeLink::Guests(this.clone());
        let result = this.advance();
        if let Ok(true) = result {
            this.user.up(&link);
            this.set_ready(true);
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
