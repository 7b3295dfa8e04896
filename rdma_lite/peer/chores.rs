// SPDX-License-Identifier: GPL-2.0

//! What is done for a peer by work items: its timer, and making and ending links.

use super::{complaint, Peer, PeerLink};
use crate::{
    core::{Transport, Ways},
    events::now,
    host::Host,
    transport::{
        guests::{Attachment, GuestLink, Place},
        shm::ShmLink,
        verbs::{Route, VerbsLink},
    },
};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};

/// Where a peer is in memory that kernels share.
type Found = (Arc<Attachment<Peer>>, Place);

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
    /// Starts to connect, over memory if both nodes have some in common and let it be used.
    fn connect(self: &Arc<Self>, generation: u32) -> Result<PeerLink> {
        let host = &self.host;
        let (size, queues) = (host.ring_size(), host.queues());
        let there = host.neighbour(self.id);
        let (ways, guests) = self.ways(there.as_deref());
        let (transport, patience) = {
            let mut state = self.state.lock();
            (
                state.choice.next(host.policy, ways),
                state.protocol.patience(),
            )
        };
        if let (Transport::Guests, Some((attachment, place))) = (transport, guests) {
            return GuestLink::connect(self.clone(), generation, &attachment, place)
                .map(PeerLink::Guests);
        }
        if let (Transport::Shm, Some(there)) = (transport, there) {
            let Some(to) = there.peer(host.local.id) else {
                // No map of its own named us yet.
                self.state.lock().choice.refused();
                return Err(ECONNREFUSED);
            };
            let this = self.clone();
            ShmLink::connect(this, generation, size, queues, to, there.ring_size())
                .map(PeerLink::Shm)
        } else {
            let to = host.address_of(self.id).ok_or(EHOSTDOWN)?;
            let route = Route::new(host.node.net(), &host.source(), &to, patience);
            VerbsLink::connect(self.clone(), generation, size, queues, route).map(PeerLink::Verbs)
        }
    }

    /// What there is to reach the peer by, and where it is in memory that kernels share.
    fn ways(&self, there: Option<&Host>) -> (Ways, Option<Found>) {
        let attachment = self.host.guests();
        let guests = attachment.and_then(|attachment| {
            let place = attachment.find(self.id)?;
            Some((attachment, place))
        });
        let ways = Ways {
            neighbour: there.map(|there| there.policy),
            region: guests.is_some(),
        };
        (ways, guests)
    }

    /// Whether a connection that we asked for over this link is not to be had any more, as there is a
    /// better way now.
    pub(super) fn is_second_best(&self, link: &PeerLink) -> bool {
        let there = self.host.neighbour(self.id);
        let (ways, _) = self.ways(there.as_deref());
        let best = self.state.lock().choice.best(self.host.policy, ways);
        link.transport() == Transport::Verbs && best != Transport::Verbs
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
