// SPDX-License-Identifier: GPL-2.0

//! What is done for a peer by work items: its timer, and making and ending links.

use super::{complaint, Peer, PeerLink};
use crate::events::now;
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
        let host = &this.host;
        let made = host.address_of(this.id).ok_or(EHOSTDOWN).and_then(|to| {
            PeerLink::connect(
                this.clone(),
                generation,
                host.ring_size(),
                host.queues(),
                host.node.net(),
                &host.source(),
                &to,
            )
        });
        match made {
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
