// SPDX-License-Identifier: GPL-2.0

//! Execution of calls by handlers, which take their time.

use super::{
    calls::{NO_PORT, QUEUED},
    Event, World,
};
use crate::{
    rpc::{
        ledger::{Executed, Tag},
        receive::Arrived,
    },
    schedule::{Time, MS, US},
};
use rdma_lite_core::core::{session::CallRef, Refusal};

impl World {
    pub(super) fn execute(
        &mut self,
        id: u16,
        peer: u16,
        request: rdma_lite_core::core::Request,
        payload: &[u8],
    ) {
        let now = self.schedule.now();
        if request.port == NO_PORT || self.rng.one_in(50) {
            let refusal = if request.port == NO_PORT {
                Refusal::NoPort
            } else {
                Refusal::Busy
            };
            self.remote(id, peer).core.refuse(request.call, refusal);
            return;
        }
        let (tag, rest) = payload.split_first_chunk().expect("a request of ours");
        assert!(rest.iter().all(|byte| *byte == tag[0]), "a torn request");
        let tag = u64::from_le_bytes(*tag);
        let node = self.nodes.get_mut(&id).unwrap();
        let number = self.ledger.executed(
            tag,
            Executed {
                node: id,
                life: node.life(),
                src_life: request.src_incarnation,
                epoch: request.epoch,
                callee_epoch: node.remotes[&peer].core.view().epoch,
                number: 0,
            },
        );
        let life = node.life();
        self.trace(format_args!(
            "{id}: executes call {tag} of {peer} ({number})"
        ));
        if request.port == QUEUED {
            let arrived = Arrived {
                class: request.class,
                peer,
                call: request.call,
                tag,
                number,
            };
            return self.enqueue(id, arrived, payload.len(), request.expires);
        }
        self.nodes.get_mut(&id).unwrap().running += 1;
        let time = self.execution_time();
        let event = Event::Returned {
            node: id,
            life,
            peer,
            call: request.call,
            tag,
            number,
        };
        self.schedule.at(now + time, event);
    }

    pub(in crate::rpc) fn execution_time(&mut self) -> Time {
        if self.rng.one_in(10) {
            self.rng.range(0..150 * MS)
        } else {
            self.rng.range(0..500 * US)
        }
    }

    pub(in crate::rpc) fn returned(
        &mut self,
        id: u16,
        peer: u16,
        call: CallRef,
        tag: Tag,
        number: u64,
    ) {
        self.nodes.get_mut(&id).unwrap().running -= 1;
        if tag % 16 == 3 {
            let status = Self::status(number);
            self.remote(id, peer).core.executed(call, status, 0, None);
        } else {
            let len = 8 + (tag * 37 % 97 * (tag % 5)) as usize * if tag % 7 == 0 { 30 } else { 4 };
            let mut reply = vec![number.to_le_bytes()[0]; len];
            reply[..8].copy_from_slice(&number.to_le_bytes());
            let core = &mut self.remote(id, peer).core;
            core.executed(call, 0, len as u32, Some(reply));
        }
        self.pump(id, peer);
    }
}
