// SPDX-License-Identifier: GPL-2.0

//! Bugs that tests plant in messages between the core and its world.

use super::{network::Request, World};
use crate::hotpot::host::{Bug, Life, SimHost};
use hotpot_core::core::{
    cluster::Sender,
    handler,
    host::Host,
    msg::{self, Request as _, Wire as _},
};

/// First bytes of requests.
const STAGE: u8 = msg::Stage::OPCODE as u8;
const HELLO: u8 = msg::Hello::OPCODE as u8;
const ASK_OUTCOME: u8 = msg::AskOutcome::OPCODE as u8;
const PREPARE: u8 = msg::Prepare::OPCODE as u8;
const ASK_COPIES: u8 = msg::AskCopies::OPCODE as u8;
const ASK_WRITERS: u8 = msg::AskWriters::OPCODE as u8;

/// As if the record that says that a chunk has moved were known to whoever is asked what he has of
/// it.
fn of_any_generation(request: &[u8]) -> Vec<u8> {
    let mut body = msg::Reader::new(request);
    let epoch = msg::Head::get(&mut body).expect("a head").epoch;
    let encoded = match request[0] {
        ASK_WRITERS => {
            let mut ask = msg::AskWriters::get(&mut body).expect("an AskWriters");
            ask.moved.generation = 0;
            ask.encode(epoch)
        }
        _ => {
            let mut ask = msg::AskCopies::get(&mut body).expect("an AskCopies");
            if let Some(moved) = &mut ask.moved {
                moved.generation = 0;
            }
            ask.encode(epoch)
        }
    };
    encoded.expect("memory").to_vec()
}

impl World {
    /// Planted bugs in a request that arrives; a reply of somebody who never executed it.
    pub(super) fn forge(&mut self, request: &mut Request, life: &Life) -> Option<Vec<u8>> {
        match (self.plan.bug, request.bytes[0]) {
            (Bug::LostReplica, STAGE) if self.rng.one_in(3) => {
                // Every page is durable, it says.
                let mut body = msg::Reader::new(&request.bytes);
                let stage = msg::Head::get(&mut body)
                    .and_then(|_| <msg::Stage as msg::Wire<'_>>::get(&mut body))
                    .expect("a Stage");
                let count = stage.pages.len();
                let mut reply = (count as u32).to_le_bytes().to_vec();
                reply.resize(4 + count, msg::Staging::Durable as u8);
                Some(reply)
            }
            (Bug::NoHello, HELLO) => Some(vec![0; 8]),
            (Bug::NoEpochCheck, _) => {
                let epoch = life.node.borrow().map.epoch;
                request.sender.epoch = epoch;
                request.bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
                None
            }
            (Bug::EarlyHandOver, ASK_COPIES | ASK_WRITERS) => {
                request.bytes = of_any_generation(&request.bytes);
                None
            }
            _ => None,
        }
    }
}

/// Planted bugs in what a handler did: its reply, or what it does besides.
pub(super) async fn forge_reply(
    bug: Bug,
    host: &SimHost,
    sender: Sender,
    bytes: &[u8],
    reply: &mut [u8],
) {
    match (bug, bytes[0]) {
        (Bug::WrongOutcome, ASK_OUTCOME) => {
            if reply[0] == msg::Outcome::Committed as u8 {
                reply[0] = msg::Outcome::Aborted as u8;
            }
        }
        (Bug::EarlyPublish, PREPARE) => {
            let mut body = msg::Reader::new(bytes);
            let prepare = msg::Head::get(&mut body)
                .and_then(|_| <msg::Prepare as msg::Wire<'_>>::get(&mut body))
                .expect("a Prepare");
            let epoch = host.with(|node| node.map.epoch);
            let publish = msg::Publish { cid: prepare.cid };
            let publish = publish.encode(epoch).expect("memory");
            let _ = handler::handle(host, sender, &publish, &mut [0; 64]).await;
        }
        _ => {}
    }
}
