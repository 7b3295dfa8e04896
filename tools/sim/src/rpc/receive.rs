// SPDX-License-Identifier: GPL-2.0

//! A port whose calls processes receive: slowly, and now and then they exit.

use super::{
    ledger::Tag,
    world::{Event, World},
};
use crate::schedule::{Time, MS};
use rdma_lite_core::core::{
    session::CallRef, Bounds, Class, ReceiveQueue, Refusal, Refused, Share, Token,
};

/// A request in the queue of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) peer: u16,
    pub(super) call: CallRef,
    pub(super) class: Class,
    pub(super) tag: Tag,
    pub(super) number: u64,
}

/// A queue so small that it is often full.
pub(super) fn queue() -> ReceiveQueue<Arrived> {
    let bounds = Bounds {
        requests: 3,
        bytes: 3000,
    };
    ReceiveQueue::new(bounds, Share::DEFAULT)
}

impl World {
    fn queue(&mut self, id: u16) -> &mut ReceiveQueue<Arrived> {
        &mut self.nodes.get_mut(&id).expect("it lives").queue
    }

    /// A request that the ledger takes for executed, unless there is no room for it.
    pub(super) fn enqueue(&mut self, id: u16, arrived: Arrived, len: usize, expires: Time) {
        let now = self.schedule.now();
        match self
            .queue(id)
            .offer(now, arrived.class, arrived, len, expires)
        {
            Ok(()) => {
                let life = self.nodes[&id].life();
                let delay = self.rng.range(0..2 * MS);
                self.schedule
                    .after(delay, Event::Receive { node: id, life });
            }
            Err((why, arrived)) => {
                let refusal = match why {
                    Refused::Full => Refusal::Busy,
                    Refused::TooLarge => Refusal::TooLarge,
                    Refused::Closed => Refusal::NoPort,
                };
                self.ledger.not_executed(arrived.tag);
                let core = &mut self.remote(id, arrived.peer).core;
                core.refuse(arrived.call, refusal);
            }
        }
        self.forget_expired(id);
    }

    fn forget_expired(&mut self, id: u16) {
        while let Some(arrived) = self.queue(id).pop_expired() {
            let core = &mut self.remote(id, arrived.peer).core;
            core.refuse(arrived.call, Refusal::Forgotten);
            self.pump(id, arrived.peer);
        }
    }

    pub(super) fn receive(&mut self, id: u16) {
        if !self.calm && self.rng.one_in(60) {
            return self.exit(id);
        }
        let now = self.schedule.now();
        let got = self.queue(id).receive(now);
        self.forget_expired(id);
        let Some((token, _)) = got else { return };
        let life = self.nodes[&id].life();
        if self.rng.one_in(20) {
            // Its buffer is bad: it receives again.
            self.queue(id).put_back(token);
            return self.schedule.after(MS, Event::Receive { node: id, life });
        }
        let time = self.execution_time();
        self.schedule.after(
            time,
            Event::Reply {
                node: id,
                life,
                token,
            },
        );
    }

    pub(super) fn reply(&mut self, id: u16, token: Token) {
        // The call may have expired, or the process exited.
        if let Some(arrived) = self.queue(id).reply(token) {
            self.nodes.get_mut(&id).expect("it lives").running += 1;
            self.returned(id, arrived.peer, arrived.call, arrived.tag, arrived.number);
        }
    }

    /// The process exits, and another one takes over the port.
    fn exit(&mut self, id: u16) {
        self.queue(id).close();
        while let Some((arrived, received)) = self.queue(id).drain() {
            let core = &mut self.remote(id, arrived.peer).core;
            if received {
                let status = Self::status(arrived.number);
                core.executed(arrived.call, status, 0, None);
            } else {
                core.refuse(arrived.call, Refusal::NoPort);
                self.ledger.not_executed(arrived.tag);
            }
            self.pump(id, arrived.peer);
        }
        *self.queue(id) = queue();
    }
}
