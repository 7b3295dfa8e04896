// SPDX-License-Identifier: GPL-2.0

//! The life of a link: what the ends say to each other goes through the memory, by their attachments.

use super::{Attachment, GuestLink, Place};
use crate::{
    core::{
        guests::control::{Kind, Session},
        wire::RingAddress,
    },
    transport::{
        handshake::{self, End, Party, Progress, Word},
        Down, LinkUser, NodeLink,
    },
};
use kernel::{
    prelude::*,
    random::get_random_u64,
    rdma::RemoteAddr,
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
        let this = Self::new(user, tag, attachment, to.slot, session, Progress::ask())?;
        let said = this
            .hello()
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
        let this = Self::new(user, 0, attachment, slot, session, Progress::listen())?;
        this.note(|progress| progress.requested(hello));
        Ok(())
    }

    /// The peer said something about our session.
    pub(super) fn heard(self: &Arc<Self>, kind: Kind, bytes: &[u8]) -> Result {
        let mut copy = KVec::new();
        copy.extend_from_slice(bytes, GFP_KERNEL)?;
        match kind {
            Kind::Accept => self.note(|progress| progress.accepted(copy)),
            Kind::Confirm => self.note(|progress| progress.confirmed()),
            Kind::Reject => self.end(Down::Rejected(copy)),
            Kind::Close => self.end(Down::Failed(ECONNRESET)),
            // Answered when it came.
            Kind::Request => {}
        }
        Ok(())
    }

    /// Another link has the lanes from now on, or none.
    pub(super) fn silence(self: &Arc<Self>) {
        self.set_ready(false);
        self.tx.lock().silent = true;
        self.end(Down::Failed(ECONNRESET));
    }
}

impl<U: LinkUser> End for GuestLink<U> {
    type User = U;

    fn party(&self) -> &Party<U> {
        &self.party
    }

    fn link(self: &Arc<Self>) -> NodeLink<U> {
        NodeLink::Guests(self.clone())
    }

    fn ring(&self) -> RemoteAddr {
        self.name(self.theirs, self.ours)
    }

    /// The lane has room for it.
    fn check_ring(&self, ring: RingAddress) -> Result {
        self.outbound
            .ring(0, ring.size() as usize)
            .map_err(|_| EPROTO)?;
        Ok(())
    }

    fn say(self: &Arc<Self>, word: Word) -> Result {
        let attachment = self.attachment()?;
        match word {
            Word::Accept(hello) => attachment.say(self, Kind::Accept, &hello),
            Word::Reject(why) => attachment.say(self, Kind::Reject, &why),
            Word::Confirm => attachment.say(self, Kind::Confirm, &[]),
        }
    }

    fn opened(&self) {
        self.set_ready(true);
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
        loop {
            let waiter = self.tx.lock().accesses.turn_away();
            let Some(waiter) = waiter else { break };
            waiter.admit(Err(ECONNRESET));
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
        handshake::run(&this);
    }
}
