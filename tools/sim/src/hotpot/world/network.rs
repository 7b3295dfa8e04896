// SPDX-License-Identifier: GPL-2.0

//! The network: requests and answers on their way, which get lost or take long.

use super::{
    node_of,
    operations::{Op, Output, Role},
    planted::forge_reply,
    Event, World,
};
use crate::{
    hotpot::host::{Answer, Outgoing, SimHost},
    schedule::{Time, US},
};
use hotpot_core::core::{
    cluster::{Peer, Sender, State},
    handler,
    host::CallError,
    node::Phase,
};
use kernel::error::{
    code::{EHOSTDOWN, ENOENT, ESTALE},
    Result,
};
use std::collections::BTreeMap;

/// One of the requests that an operation made at once, and waits for.
#[derive(Clone, Copy)]
pub(super) struct Leg {
    /// The operation.
    pub(super) caller: u64,
    /// How far it had come.
    pub(super) serial: u64,
    /// Which of the requests.
    pub(super) nr: usize,
}

/// A request on its way.
pub(super) struct Request {
    pub(super) leg: Leg,
    pub(super) sender: Sender,
    /// Incarnation of the destination that the sender means.
    pub(super) meant: u64,
    pub(super) dst: usize,
    pub(super) bytes: Vec<u8>,
    /// Bytes for the reply.
    pub(super) room: usize,
}

/// What went over the network, lost or not.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// Bytes of requests, by destination (from 0) and opcode.
    pub requests: BTreeMap<(usize, u8), usize>,
    /// Requests that came to their nodes, by opcode.
    pub arrived: BTreeMap<u16, u64>,
    /// Bytes of replies.
    pub replies: usize,
}

impl Traffic {
    /// All bytes.
    pub fn bytes(&self) -> usize {
        self.replies + self.requests.values().sum::<usize>()
    }
}

impl World {
    pub(super) fn send(&mut self, caller: u64, op: &Op, requests: Vec<Outgoing>) {
        let src = op.node;
        let life = self.nodes[src].life.clone().expect("alive");
        let (sender, peers) = {
            let node = life.node.borrow();
            let sender = Sender {
                node: life.id,
                incarnation: life.incarnation,
                epoch: node.map.epoch,
            };
            let peers: BTreeMap<u32, Peer> =
                node.map.peers.iter().map(|peer| (peer.id, *peer)).collect();
            (sender, peers)
        };
        for (nr, request) in requests.into_iter().enumerate() {
            assert_ne!(
                request.dst, life.id,
                "opcode {}: a call to oneself",
                request.bytes[0]
            );
            let max = life.node.borrow().config.max_msg;
            assert!(request.bytes.len() <= max, "{} bytes", request.bytes.len());
            let leg = Leg {
                caller,
                serial: op.serial,
                nr,
            };
            self.schedule.at(request.until, Event::LegTimeout(leg));
            let peer = peers.get(&request.dst).copied();
            let Some(peer) = peer.filter(|peer| peer.state == State::Up) else {
                let down = Err(CallError::NotExecuted(EHOSTDOWN));
                self.schedule.after(US, Event::Answer(leg, down));
                continue;
            };
            let dst = self.machine(src, request.dst);
            let of = (dst, request.bytes[0]);
            *self.traffic.requests.entry(of).or_default() += request.bytes.len();
            let lost = self.working && self.rng.one_in(self.plan.loss_in);
            let deaf = self.deaf_to.contains(&(dst, src));
            if lost || deaf || self.nodes[src].cut || self.nodes[dst].cut {
                continue;
            }
            let delay = self.delay();
            let request = Request {
                leg,
                sender,
                meant: match dst == request.dst as usize - 1 {
                    true => peer.incarnation,
                    false => self.nodes[dst].incarnation,
                },
                dst,
                bytes: request.bytes,
                room: request.room,
            };
            self.schedule.after(delay, Event::Request(request));
        }
    }

    pub(super) fn delay(&mut self) -> Time {
        match self.working && self.rng.one_in(self.plan.slow_in) {
            true => self.rng.range(100..20_000) * US,
            false => self.rng.range(5..100) * US,
        }
    }

    /// A request arrives, and is refused, or a handler begins.
    pub(super) fn deliver(&mut self, mut request: Request) {
        let (dst, leg) = (request.dst, request.leg);
        if self.held.contains(&(dst, request.bytes[0])) {
            return self.waiting.push(request);
        }
        let Some(life) = self.nodes.get(dst).and_then(|node| node.life.clone()) else {
            return;
        };
        let sender = request.sender;
        let refused = match () {
            // Epochs are left to the core, which must not rely on others to check them.
            _ if request.meant != life.incarnation => Some(ESTALE),
            // The RPC layer knows that an older life is over.
            _ if self.nodes[self.machine(dst, sender.node)].incarnation != sender.incarnation => {
                return
            }
            _ if life.node.borrow().phase == Phase::Gone => Some(ENOENT),
            _ => None,
        };
        if let Some(error) = refused {
            return self.answer_later(leg, Err(CallError::NotExecuted(error)));
        }
        if let Some(reply) = self.forge(&mut request, &life) {
            return self.answer_later(leg, Ok(reply));
        }
        self.trace(format_args!(
            "n{} <- n{} opcode {}",
            life.id, sender.node, request.bytes[0]
        ));
        let opcode = u16::from_le_bytes([request.bytes[0], request.bytes[1]]);
        *self.traffic.arrived.entry(opcode).or_default() += 1;
        let (host, bug) = (SimHost(life), self.plan.bug);
        let Request {
            sender,
            bytes,
            room,
            ..
        } = request;
        self.begin(
            dst,
            Role::Handler(leg),
            Box::pin(async move {
                let mut reply = vec![0; room];
                let len = handler::handle(&host, sender, &bytes, &mut reply).await;
                if len.is_ok() {
                    forge_reply(bug, &host, sender, &bytes, &mut reply).await;
                }
                Output::Reply(len.map(|len| {
                    reply.truncate(len);
                    reply
                }))
            }),
        );
    }

    /// An answer sets out, unless it gets lost.
    pub(super) fn reply(&mut self, from: usize, leg: Leg, reply: Result<Vec<u8>>) {
        if let Err(error) = &reply {
            self.trace(format_args!("n{} answers {error:?}", node_of(from)));
        }
        self.traffic.replies += reply.as_ref().map_or(0, Vec::len);
        let caller = self.ops.get(&leg.caller);
        let back = caller.is_some_and(|caller| self.nodes[caller.node].cut);
        let lost = self.working && self.rng.one_in(self.plan.loss_in);
        if !lost && !self.nodes[from].cut && !back {
            self.answer_later(leg, reply.map_err(CallError::Handler));
        }
    }

    pub(super) fn answer_later(&mut self, leg: Leg, answer: Answer) {
        let delay = self.delay();
        self.schedule.after(delay, Event::Answer(leg, answer));
    }

    pub(super) fn answer(&mut self, leg: Leg, answer: Answer) {
        let Some(op) = self.ops.get_mut(&leg.caller) else {
            return;
        };
        if op.serial != leg.serial {
            return;
        }
        let Some(place) = op.answers.get_mut(leg.nr) else {
            return;
        };
        if place.is_none() {
            *place = Some(answer);
            if op.answers.iter().all(Option::is_some) {
                self.schedule.after(0, Event::Poll(leg.caller, leg.serial));
            }
        }
    }

    /// Cuts a node off, or joins it again.
    pub fn set_cut(&mut self, node: usize, cut: bool) {
        self.nodes[node].cut = cut;
    }

    /// Requests of this opcode to a node are held up on their way.
    pub fn hold(&mut self, node: usize, opcode: u16) {
        self.held.push((node, opcode as u8));
    }

    /// They are lost, and the next ones arrive again.
    pub fn lose_held(&mut self, node: usize, opcode: u16) {
        let of = (node, opcode as u8);
        self.held.retain(|held| *held != of);
        self.waiting
            .retain(|request| (request.dst, request.bytes[0]) != of);
    }

    /// They arrive after all; how many they are.
    pub fn release(&mut self, node: usize, opcode: u16) -> usize {
        let of = (node, opcode as u8);
        self.held.retain(|held| *held != of);
        let all = std::mem::take(&mut self.waiting);
        let theirs = |request: &Request| (request.dst, request.bytes[0]) == of;
        let (arrive, wait): (Vec<_>, Vec<_>) = all.into_iter().partition(theirs);
        self.waiting = wait;
        let count = arrive.len();
        for request in arrive {
            self.schedule.after(US, Event::Request(request));
        }
        count
    }

    /// Requests of `other` do not come to a node any more, or do so again.
    pub fn set_deaf_to(&mut self, node: usize, other: usize, deaf: bool) {
        self.deaf_to.retain(|pair| *pair != (node, other));
        if deaf {
            self.deaf_to.push((node, other));
        }
    }
}
