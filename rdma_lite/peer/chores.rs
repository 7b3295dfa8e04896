// SPDX-License-Identifier: GPL-2.0

//! What is done for a peer by work items: its timer, and making and ending links.

use super::{complaint, Peer, PeerLink};
use crate::{
    core::{Policy, Transport},
    events::now,
    transport::{shm::ShmLink, verbs::VerbsLink},
};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};

impl WorkItem<0> for Peer {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.with(|state| {
            state.armed = u64::MAX;
            state.protocol.tick(now());
        });
    }
}

impl Peer {
    /// Starts to connect, over memory if the peer lives in this kernel and both nodes let that be used.
    fn connect(self: &Arc<Self>, generation: u32) -> Result<PeerLink> {
        let host = &self.host;
        let neighbour = match host.policy {
            Policy::Auto => host.neighbour(self.id),
            Policy::Verbs => None,
        };
        let theirs = neighbour.as_ref().map(|there| there.host.policy);
        let transport = self.state.lock().choice.next(host.policy, theirs);
        match (transport, neighbour) {
            (Transport::Shm, Some(there)) => {
                let their_size = there.host.ring_size();
                let (size, queues) = (host.ring_size(), host.queues());
                let this = self.clone();
                ShmLink::connect(this, generation, size, queues, there, their_size)
                    .map(PeerLink::Shm)
            }
            _ => VerbsLink::connect(
                self.clone(),
                generation,
                host.ring_size(),
                host.queues(),
                host.node.net(),
                &host.source(),
                &host.address_of(self.id).ok_or(EHOSTDOWN)?,
            )
            .map(PeerLink::Verbs),
        }
    }
}

impl WorkItem<1> for Peer {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let chores = core::mem::take(&mut this.state.lock().chores);
        for link in &chores.end {
            link.shutdown();
        }
        if let Some(incarnation) = chores.met {
            this.meet(incarnation);
        }
        let Some(generation) = chores.connect else {
            return;
        };
        match this.connect(generation) {
            Ok(link) => {
                let mut state = this.state.lock();
                let unwanted = state.stopped || state.torn_down == Some(generation);
                if !unwanted && !link.is_over() {
                    state.link = Some(link);
                    return;
                }
                drop(state);
                if unwanted {
                    link.shutdown();
                }
            }
            Err(e) => this.with(|state| {
                let code = complaint::CONNECT | e.to_errno().unsigned_abs();
                this.complain(state, code, fmt!("cannot connect: {e:?}"));
                state.protocol.lost(now(), generation, None);
            }),
        }
    }
}
