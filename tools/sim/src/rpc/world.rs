// SPDX-License-Identifier: GPL-2.0

//! The world: nodes, network, control plane, workload and chaos, from one seed.

use super::{
    ledger::{Called, Executed, Ledger, Summary, Tag},
    node::{Node, Token, Window},
    receive::Arrived,
    wire::{Conn, End, Frame},
};
use crate::{
    net::{Faults, Network},
    schedule::{tracing, Rng, Schedule, Time, MS, US},
};
use kernel::{
    alloc::inject,
    error::{code::ESTALE, Error},
};
use rdma_lite_core::core::{
    session::CallRef,
    wire::{Header, Hello, Reject, HEADER_LEN},
    Action, CallId, Class, Config, Generation, Local, MapNode, NewCall, NodeAddress, NodeState,
    Payload, Published, Received, Refusal, ReplyBuffer, Share,
};
use std::collections::HashMap;

const CLUSTER: [u8; 16] = *b"sixteen byte id.";
/// A port that nobody registers.
const NO_PORT: u16 = 99;
const PORT: u16 = 1;
/// A port whose calls processes receive.
const QUEUED: u16 = 2;
/// More than the largest reply of the workload.
const REPLY_CAP: u32 = 12 * 1024;

/// What happens to a world besides its workload.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// Nodes, from 2.
    pub nodes: u16,
    /// Calls made while there is chaos.
    pub calls: u64,
    /// For how long.
    pub time: Time,
    /// Mean time between two faults; 0 for none.
    pub fault_every: Time,
    /// Once in so many events an allocation of the core fails; 0 for never.
    pub alloc_fails_in: u64,
}

pub(super) enum Event {
    ConnectArrives {
        conn: usize,
    },
    AnswerArrives {
        conn: usize,
        hello: Result<Hello, Option<Reject>>,
    },
    ReadyArrives {
        conn: usize,
    },
    Arrives {
        conn: usize,
        from: usize,
        frame: Frame,
    },
    Lost {
        conn: usize,
        end: usize,
    },
    Timer {
        node: u16,
        life: u64,
        peer: u16,
    },
    Submit,
    Returned {
        node: u16,
        life: u64,
        peer: u16,
        call: CallRef,
        tag: Tag,
        number: u64,
    },
    /// A process receives at a node.
    Receive {
        node: u16,
        life: u64,
    },
    /// It replies to what it received under this token.
    Reply {
        node: u16,
        life: u64,
        token: rdma_lite_core::core::Token,
    },
    Cancel {
        node: u16,
        life: u64,
        peer: u16,
        id: CallId,
    },
    Fault,
    Publish {
        node: u16,
        map: usize,
    },
    Start {
        node: u16,
    },
}

struct Map {
    epoch: u64,
    nodes: Vec<MapNode>,
}

/// Nodes of rdma_lite, and all around them.
pub struct World {
    chaos: Chaos,
    config: Config,
    pub(super) rng: Rng,
    pub(super) schedule: Schedule<Event>,
    net: Network,
    pub(super) nodes: HashMap<u16, Node>,
    lives: u64,
    conns: Vec<Conn>,
    maps: Vec<Map>,
    states: Vec<NodeState>,
    pub(super) ledger: Ledger,
    next_tag: Tag,
    next_rkey: u32,
    pub(super) calm: bool,
}

macro_rules! trace {
    ($self:ident, $($arg:tt)*) => {
        if tracing() {
            println!("{:>12} {}", $self.schedule.now(), format_args!($($arg)*));
        }
    };
}

impl World {
    /// A world from a seed.
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let mut rng = Rng::new(seed);
        let config = Config {
            ring_log2: 14,
            depth_log2: rng.range(3..7) as u8,
            slots_log2: rng.range(1..5) as u8,
            direct_min: 1500,
            reply_cache: 6000,
            heartbeat: 20 * MS,
            misses: 3,
            retransmit: rng.range(1..40) * MS,
            retry: MS,
            backoff_min: 2 * MS,
            backoff_max: 30 * MS,
            connect_timeout: 30 * MS,
            poll: 0,
            share: Share::new(rng.range(50..96) as u8).expect("it is in the range"),
            lanes: 1,
        };
        let net = Network::new(Faults::random(&mut rng));
        let mut world = Self {
            chaos,
            config,
            rng,
            schedule: Schedule::new(),
            net,
            nodes: HashMap::new(),
            lives: 0,
            conns: Vec::new(),
            maps: Vec::new(),
            states: vec![NodeState::Up; usize::from(chaos.nodes)],
            ledger: Ledger::default(),
            next_tag: 0,
            next_rkey: 0,
            calm: false,
        };
        for id in world.ids() {
            world.start(id);
        }
        world.new_map();
        for _ in 0..chaos.calls {
            let at = world.rng.range(0..chaos.time);
            world.schedule.at(at, Event::Submit);
        }
        if chaos.fault_every != 0 {
            world.schedule.after(chaos.fault_every, Event::Fault);
        }
        world
    }

    fn ids(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.chaos.nodes
    }

    /// Runs the chaos, then calms down: all nodes up, all links whole. Then all
    /// calls must have ended as promised, nothing may be left over, and each
    /// node must reach each other.
    pub fn run(mut self) -> Summary {
        while let Some(event) = self.schedule.next_until(self.chaos.time) {
            self.step(event);
        }
        self.calm_down();
        self.run_for(300 * MS);
        let before = self.ledger.summary.answered;
        self.call_everyone();
        self.run_for(300 * MS);
        let pairs = u64::from(self.chaos.nodes) * u64::from(self.chaos.nodes - 1);
        assert_eq!(
            self.ledger.summary.answered - before,
            pairs,
            "a node cannot reach another one although all is well"
        );
        self.ledger.close();
        while self.conns.iter().any(Conn::is_busy) {
            let event = self.schedule.next().expect("what was sent arrives");
            self.step(event);
        }
        self.check_nothing_is_left();
        self.ledger.summary
    }

    fn run_for(&mut self, time: Time) {
        let end = self.schedule.now() + time;
        while let Some(event) = self.schedule.next_until(end) {
            self.step(event);
        }
    }

    fn calm_down(&mut self) {
        trace!(self, "calm");
        self.calm = true;
        self.net.heal();
        self.net.set_faults(Faults::NONE);
        for id in self.ids() {
            if !self.nodes.contains_key(&id) {
                self.start(id);
            }
        }
        self.states.fill(NodeState::Up);
        self.new_map();
    }

    fn check_nothing_is_left(&self) {
        for (id, node) in &self.nodes {
            assert_eq!(node.running, 0);
            assert!(node.queue.is_empty(), "a request was left in the queue");
            assert!(node.buffers.is_empty(), "a reply buffer was not taken back");
            for (peer, remote) in &node.remotes {
                let core = &remote.core;
                assert_eq!(core.calls(), 0, "node {id} still calls {peer}");
                assert_eq!(core.executions(), 0, "node {id} still executes for {peer}");
                assert_eq!(core.cached(), 0, "node {id} keeps replies for {peer}");
                assert!(!core.is_suspect(), "node {id} suspects {peer}");
                assert_eq!(remote.conns.len(), 1, "connections of {id} to {peer}");
                let ours = core.rings();
                let theirs = self.nodes[peer].remotes[id].core.rings();
                assert_eq!(ours.sent, theirs.received, "the rings disagree");
                assert_eq!(ours.credited, theirs.told, "credits went astray");
            }
        }
    }

    // Control plane.

    fn start(&mut self, id: u16) {
        self.lives += 1;
        let local = Local {
            id,
            incarnation: self.lives,
            cluster: CLUSTER,
        };
        trace!(self, "{id}: starts as {}", self.lives);
        let others = self.ids().filter(|other| *other != id);
        self.nodes
            .insert(id, Node::new(&self.config, local, others));
    }

    /// Makes a map of the present states, and sends it to all nodes.
    fn new_map(&mut self) {
        let mut name = [0; 64];
        name[0] = b'n';
        let epoch = self.maps.len() as u64 + 1;
        let mut nodes = Vec::new();
        for id in self.ids() {
            name[1] = id as u8;
            let known = self.nodes.get(&id).map_or(0, Node::life);
            nodes.push(MapNode {
                id,
                state: self.states[usize::from(id) - 1],
                roles: 0,
                incarnation: if self.rng.one_in(2) { known } else { 0 },
                address: NodeAddress {
                    ipv6: false,
                    addr: [0; 16],
                    port: 0,
                },
                name,
            });
        }
        trace!(self, "map {epoch}: {:?}", self.states);
        self.maps.push(Map { epoch, nodes });
        let map = self.maps.len() - 1;
        for node in self.ids() {
            let delay = if self.calm || self.rng.one_in(3) {
                0
            } else {
                self.rng.range(0..20 * MS)
            };
            self.schedule.after(delay, Event::Publish { node, map });
        }
    }

    fn publish(&mut self, id: u16, map: usize) {
        let now = self.schedule.now();
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let Map { epoch, nodes } = &self.maps[map];
        let before = node.membership.epoch();
        match node.membership.publish(*epoch, nodes) {
            Ok(Published::New) => assert!(*epoch > before, "the epoch must grow"),
            Ok(Published::Same) => assert_eq!(*epoch, before),
            Err(e) => {
                // Overtaken, or about another life of this node.
                assert_eq!(e, ESTALE);
                return;
            }
        }
        let views: Vec<_> = node
            .remotes
            .keys()
            .map(|peer| (*peer, node.membership.view(*peer)))
            .collect();
        for (peer, view) in views {
            if let Some(remote) = node.remotes.get_mut(&peer) {
                remote.core.set_view(now, view);
            }
        }
        self.pump_all(id);
    }

    // Chaos.

    fn fault(&mut self) {
        if self.calm {
            return;
        }
        let every = self.chaos.fault_every;
        let next = self.rng.range(every / 2..every * 2);
        self.schedule.after(next, Event::Fault);
        let id = self.rng.range(1..u64::from(self.chaos.nodes) + 1) as u16;
        let state = usize::from(id) - 1;
        match self.rng.range(0..12) {
            0 | 1 => self.crash(id),
            2 => {
                let all: Vec<_> = self.ids().collect();
                trace!(self, "partition: {id} alone");
                self.net.partition(&[id], &all);
            }
            3 => {
                let other = self.rng.range(1..u64::from(self.chaos.nodes) + 1) as u16;
                trace!(self, "cut: {id} to {other}");
                self.net.cut(id, other);
            }
            4 | 5 => self.net.heal(),
            6 | 7 => self.break_any(),
            8 => {
                self.states[state] =
                    *self
                        .rng
                        .pick(&[NodeState::Up, NodeState::Down, NodeState::Out]);
                self.new_map();
            }
            9 | 10 => {
                self.states.fill(NodeState::Up);
                self.new_map();
            }
            _ => {
                let faults = Faults::random(&mut self.rng);
                self.net.set_faults(faults);
            }
        }
    }

    fn crash(&mut self, id: u16) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        trace!(self, "{id}: crashes");
        let mut tags = Vec::new();
        for (_, mut remote) in node.remotes {
            remote.core.shut_down(self.schedule.now());
            while let Some(action) = remote.core.poll(self.schedule.now()) {
                if let Action::Complete { token, .. } = action {
                    tags.push(token.tag);
                }
            }
        }
        for tag in tags {
            self.ledger.moot(tag);
        }
        for index in 0..self.conns.len() {
            let conn = &mut self.conns[index];
            let Some(end) = conn.nodes.iter().position(|node| *node == id) else {
                continue;
            };
            if conn.ends[end].as_ref().is_some_and(|end| end.open) {
                self.close_end(index, end);
            }
        }
        let delay = self.rng.range(0..60 * MS);
        self.schedule.after(delay, Event::Start { node: id });
    }

    fn break_any(&mut self) {
        let live: Vec<_> = (0..self.conns.len())
            .filter(|index| !self.conns[*index].broken)
            .collect();
        if !live.is_empty() {
            let conn = *self.rng.pick(&live);
            self.break_conn(conn);
        }
    }

    // Connections.

    /// Nothing arrives any more; the ends learn of it sooner or later.
    fn break_conn(&mut self, conn: usize) {
        if self.conns[conn].broken {
            return;
        }
        trace!(self, "connection {conn} breaks");
        self.ledger.summary.breaks += 1;
        self.conns[conn].broken = true;
        for end in 0..2 {
            let delay = self.rng.range(0..20 * MS);
            self.schedule.after(delay, Event::Lost { conn, end });
        }
    }

    fn close_end(&mut self, conn: usize, end: usize) {
        if let Some(end) = &mut self.conns[conn].ends[end] {
            end.open = false;
        }
        self.break_conn(conn);
    }

    /// The end's node, if this end is of its present life and still open.
    fn owner(&mut self, conn: usize, end: usize) -> Option<(u16, u16, Generation)> {
        let Conn { ends, nodes, .. } = &self.conns[conn];
        let (end, peer) = (ends[end].as_ref()?, nodes[1 - end]);
        let node = self.nodes.get(&end.node)?;
        (end.open && node.life() == end.life).then_some((end.node, peer, end.generation))
    }

    fn connect(&mut self, id: u16, peer: u16, generation: Generation) {
        let node = &self.nodes[&id];
        let end = End::new(id, node.life(), generation);
        self.conns.push(Conn {
            ends: [Some(end), None],
            nodes: [id, peer],
            broken: false,
        });
        let conn = self.conns.len() - 1;
        trace!(self, "{id}: connects to {peer} ({conn})");
        self.remember(id, peer, generation, conn, 0);
        let delay = self.net.delay(&mut self.rng);
        if self.net.connects(id, peer) {
            self.schedule.after(delay, Event::ConnectArrives { conn });
        }
    }

    fn remember(&mut self, id: u16, peer: u16, generation: Generation, conn: usize, end: usize) {
        if let Some(remote) = self.nodes.get_mut(&id).unwrap().remotes.get_mut(&peer) {
            remote.conns.insert(generation, (conn, end));
            remote.conn = Some(conn);
        }
    }

    fn hello(&self, conn: usize, end: usize) -> Option<Hello> {
        let Conn { nodes, .. } = &self.conns[conn];
        let remote = self.nodes.get(&nodes[end])?.remotes.get(&nodes[1 - end])?;
        Some(remote.core.hello(0, 0))
    }

    fn connect_arrives(&mut self, conn: usize) {
        let now = self.schedule.now();
        let [active, passive] = self.conns[conn].nodes;
        // What was said when the request was sent; the active end may be gone.
        let Some(hello) = self.owner(conn, 0).and_then(|_| self.hello(conn, 0)) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&passive) else {
            return;
        };
        let (life, epoch) = (node.life(), node.membership.epoch());
        let hello = Hello::decode(&hello.encode()).expect("a hello of ours");
        let remote = node.remotes.get_mut(&active).unwrap();
        let answer = match node.membership.admit(&hello) {
            Ok(view) => remote.core.connect_request(now, &hello, view),
            Err(reason) => Err(Reject { reason, epoch }),
        };
        let answer = match answer {
            Ok((generation, old)) => {
                self.conns[conn].ends[1] = Some(End::new(passive, life, generation));
                if let Some(old) = old {
                    self.disconnect(passive, active, old);
                }
                self.remember(passive, active, generation, conn, 1);
                Ok(self.hello(conn, 1).unwrap())
            }
            Err(reject) => {
                trace!(self, "{passive}: rejects {active}: {:?}", reject.reason);
                Err(Some(Reject::decode(&reject.encode()).unwrap()))
            }
        };
        self.pump(passive, active);
        let delay = self.net.delay(&mut self.rng);
        if self.net.connects(passive, active) {
            let hello = answer;
            self.schedule
                .after(delay, Event::AnswerArrives { conn, hello });
        }
    }

    fn answer_arrives(&mut self, conn: usize, hello: Result<Hello, Option<Reject>>) {
        let now = self.schedule.now();
        let Some((id, peer, generation)) = self.owner(conn, 0) else {
            return;
        };
        let node = self.nodes.get_mut(&id).unwrap();
        let remote = node.remotes.get_mut(&peer).unwrap();
        let admitted = hello.and_then(|hello| match node.membership.admit(&hello) {
            Ok(view) => Ok((hello, view)),
            Err(_) => Err(None),
        });
        match admitted {
            Ok((hello, view)) => {
                remote.core.connect_reply(now, generation, &hello, view);
                remote.core.established(now, generation);
                let delay = self.net.delay(&mut self.rng);
                self.schedule.after(delay, Event::ReadyArrives { conn });
            }
            Err(reject) => {
                remote.conns.remove(&generation);
                remote.core.lost(now, generation, reject);
                self.close_end(conn, 0);
            }
        }
        self.pump(id, peer);
    }

    fn ready_arrives(&mut self, conn: usize) {
        if self.conns[conn].broken {
            return;
        }
        if let Some((id, peer, generation)) = self.owner(conn, 1) {
            let now = self.schedule.now();
            let remote = self.remote(id, peer);
            remote.core.established(now, generation);
            self.pump(id, peer);
        }
    }

    pub(super) fn remote(&mut self, id: u16, peer: u16) -> &mut super::node::Remote {
        self.nodes
            .get_mut(&id)
            .and_then(|node| node.remotes.get_mut(&peer))
            .expect("the node is there")
    }

    fn disconnect(&mut self, id: u16, peer: u16, generation: Generation) {
        if let Some((conn, end)) = self.remote(id, peer).conns.remove(&generation) {
            trace!(self, "{id}: disconnects {peer} ({conn})");
            self.close_end(conn, end);
        }
    }

    fn lost(&mut self, conn: usize, end: usize) {
        let now = self.schedule.now();
        if let Some((id, peer, generation)) = self.owner(conn, end) {
            self.close_end(conn, end);
            let remote = self.remote(id, peer);
            remote.conns.remove(&generation);
            remote.core.lost(now, generation, None);
            self.pump(id, peer);
        }
    }

    // Messages.

    fn send(&mut self, conn: usize, from: usize, frame: Frame) {
        let now = self.schedule.now();
        let Conn {
            ends,
            nodes,
            broken,
        } = &mut self.conns[conn];
        let Some(end) = &mut ends[from] else { return };
        match &frame {
            Frame::Message { offset, bytes, .. } => {
                let slot = (bytes.len() as u32).next_multiple_of(64);
                end.write(&self.config, *offset, slot);
            }
            Frame::Imm(_) => end.write_nothing(&self.config),
            Frame::Direct { .. } => {}
        }
        if *broken {
            return;
        }
        let (id, to) = (nodes[from], nodes[1 - from]);
        match self.net.through(&mut self.rng, now, id, to, &mut end.pipe) {
            Some(at) => self.schedule.at(at, Event::Arrives { conn, from, frame }),
            None => self.break_conn(conn),
        }
    }

    fn arrives(&mut self, conn: usize, from: usize, frame: Frame) {
        let now = self.schedule.now();
        if self.conns[conn].broken {
            // A late completion of an old connection must change nothing.
            if let (Frame::Message { imm, .. }, Some(end)) =
                (&frame, &self.conns[conn].ends[1 - from])
            {
                let (id, life, peer, generation) = (
                    end.node,
                    end.life,
                    self.conns[conn].nodes[from],
                    end.generation,
                );
                let closed = !end.open;
                if let Some(node) = self.nodes.get_mut(&id) {
                    if closed && node.life() == life {
                        let remote = node.remotes.get_mut(&peer).unwrap();
                        let imm = *imm;
                        assert_eq!(remote.core.immediate(now, generation, imm), Ok(None));
                    }
                }
            }
            return;
        }
        let Some((id, peer, generation)) = self.owner(conn, 1 - from) else {
            return self.break_conn(conn);
        };
        let sender = self.conns[conn].ends[from].as_mut().unwrap();
        match frame {
            Frame::Direct { rkey, bytes } => {
                match self.nodes.get_mut(&id).unwrap().buffers.get_mut(&rkey) {
                    Some(window) => {
                        assert_eq!(window.conn, Some(conn), "a window of another connection");
                        window.bytes[..bytes.len()].copy_from_slice(&bytes);
                    }
                    // The key was revoked: remote access error.
                    None => self.break_conn(conn),
                }
            }
            Frame::Imm(imm) => {
                sender.took_nothing();
                let remote = self.remote(id, peer);
                let got = remote.core.immediate(now, generation, imm);
                assert_eq!(got, Ok(None), "a credit of a sound peer");
                self.pump(id, peer);
            }
            Frame::Message { imm, offset, bytes } => {
                sender.consumed();
                self.message(id, peer, generation, imm, offset, bytes);
            }
        }
    }

    fn message(
        &mut self,
        id: u16,
        peer: u16,
        generation: Generation,
        imm: u32,
        offset: u32,
        bytes: Vec<u8>,
    ) {
        let now = self.schedule.now();
        let fails = !self.calm && self.rng.one_in(self.chaos.alloc_fails_in);
        let remote = self.remote(id, peer);
        let at = offset as usize;
        remote.ring[at..at + bytes.len()].copy_from_slice(&bytes);
        let found = remote.core.immediate(now, generation, imm);
        let Some(found) = found.expect("a message of a sound peer") else {
            return;
        };
        assert_eq!(found, offset);
        let header: [u8; HEADER_LEN] = remote.ring[at..at + HEADER_LEN].try_into().unwrap();
        let injection = fails.then(|| inject::fail_nth(0));
        let received = remote.core.message(now, generation, found, &header);
        drop(injection);
        match received.expect("a message of a sound peer") {
            Received::Nothing => {}
            Received::Execute(request) => {
                let from = request.offset as usize;
                let payload = remote.ring[from..from + request.len as usize].to_vec();
                self.execute(id, peer, request, &payload);
            }
            Received::Reply {
                token,
                status,
                offset,
                len,
            } => {
                let len = len as usize;
                let ring = offset.map(|at| remote.ring[at as usize..at as usize + len].to_vec());
                let node = self.nodes.get_mut(&id).unwrap();
                let window = node.buffers.remove(&token.rkey);
                let reply = ring.unwrap_or_else(|| {
                    let mut bytes = window.expect("a reply went there").bytes;
                    bytes.truncate(len);
                    bytes
                });
                self.replied(&token, status, &reply);
            }
            Received::Failed { token, error } => self.failed(id, &token, error),
        }
        self.pump(id, peer);
    }

    fn failed(&mut self, id: u16, token: &Token, error: Error) {
        trace!(self, "{id}: call {} ends: {error:?}", token.tag);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.buffers.remove(&token.rkey);
        }
        self.ledger.failed(self.schedule.now(), token.tag, error);
    }

    fn replied(&mut self, token: &Token, status: i32, reply: &[u8]) {
        trace!(self, "call {} is answered by {status}", token.tag);
        let now = self.schedule.now();
        if status < 0 {
            let is_its = |number| status == Self::status(number);
            return self.ledger.answered(now, token.tag, is_its);
        }
        let (number, rest) = reply.split_first_chunk().expect("a reply of ours");
        assert!(rest.iter().all(|byte| *byte == number[0]), "a torn reply");
        let number = u64::from_le_bytes(*number);
        self.ledger.answered(now, token.tag, |n| n == number);
    }

    /// What a failing handler returns.
    pub(super) fn status(number: u64) -> i32 {
        -1 - (number % 1000) as i32
    }

    // Execution.

    fn execute(
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
        trace!(self, "{id}: executes call {tag} of {peer} ({number})");
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
        node.running += 1;
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

    pub(super) fn execution_time(&mut self) -> Time {
        if self.rng.one_in(10) {
            self.rng.range(0..150 * MS)
        } else {
            self.rng.range(0..500 * US)
        }
    }

    pub(super) fn returned(&mut self, id: u16, peer: u16, call: CallRef, tag: Tag, number: u64) {
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

    // Workload.

    fn submit(&mut self) {
        let mut ids: Vec<_> = self.nodes.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        ids.sort_unstable();
        let src = *self.rng.pick(&ids);
        let others: Vec<_> = self.ids().filter(|id| *id != src).collect();
        let dst = *self.rng.pick(&others);
        for _ in 0..self.rng.range(1..5) {
            self.call(src, dst);
        }
        self.pump(src, dst);
    }

    fn call_everyone(&mut self) {
        for src in self.ids() {
            for dst in self.ids().filter(|dst| *dst != src) {
                self.call(src, dst);
                self.pump(src, dst);
            }
        }
    }

    fn call(&mut self, id: u16, peer: u16) {
        let now = self.schedule.now();
        self.next_tag += 1;
        let tag = self.next_tag;
        let deadline = now
            + match self.rng.range(0..4) {
                _ if self.calm => 250 * MS,
                0 => self.rng.range(MS..5 * MS),
                _ => self.rng.range(10 * MS..200 * MS),
            };
        let len = match self.rng.range(0..10) {
            _ if self.calm => 8,
            0 => self.rng.range(8..self.config.max_payload().into()),
            1 => u64::from(self.config.max_payload()) + 1,
            _ => self.rng.range(8..200),
        };
        let mut request = vec![tag.to_le_bytes()[0]; len as usize];
        request[..8].copy_from_slice(&tag.to_le_bytes());
        let mut reply = ReplyBuffer {
            cap: REPLY_CAP,
            ..ReplyBuffer::default()
        };
        let node = self.nodes.get_mut(&id).unwrap();
        if self.rng.one_in(2) || self.calm {
            self.next_rkey += 1;
            reply.rkey = self.next_rkey;
            let window = Window {
                bytes: vec![0; REPLY_CAP as usize],
                conn: node.remotes[&peer].conn,
            };
            node.buffers.insert(reply.rkey, window);
        }
        let port = if self.rng.one_in(30) && !self.calm {
            NO_PORT
        } else if self.rng.one_in(3) {
            QUEUED
        } else {
            PORT
        };
        let call = NewCall {
            port,
            len: len as u32,
            reply,
            deadline,
            nowait: !self.calm && self.rng.one_in(10),
            notify: false,
            class: match self.rng.one_in(3) {
                true => Class::High,
                false => Class::Normal,
            },
        };
        let token = Token {
            tag,
            request,
            rkey: reply.rkey,
        };
        let src_life = node.life();
        let core = &mut node.remotes.get_mut(&peer).unwrap().core;
        let view = *core.view();
        let called = Called {
            src_life,
            dst: peer,
            dst_life: if view.pinned { view.incarnation } else { 0 },
            epoch: view.epoch,
            deadline,
        };
        self.ledger.called(tag, called);
        trace!(self, "{id}: call {tag} to {peer}, {len} bytes");
        let fails = !self.calm && self.rng.one_in(self.chaos.alloc_fails_in);
        let injection = fails.then(|| inject::fail_nth(0));
        let submitted = core.submit(call, token);
        drop(injection);
        match submitted {
            Err((error, token)) => self.failed(id, &token, error),
            Ok(call) if self.rng.one_in(30) && !self.calm => {
                let event = Event::Cancel {
                    node: id,
                    life: src_life,
                    peer,
                    id: call,
                };
                self.schedule.after(2 * MS, event);
            }
            Ok(_) => {}
        }
    }

    // Driving the core.

    fn pump_all(&mut self, id: u16) {
        for peer in self.ids().filter(|peer| *peer != id) {
            self.pump(id, peer);
        }
    }

    /// Carries out what the core wants.
    pub(super) fn pump(&mut self, id: u16, peer: u16) {
        let now = self.schedule.now();
        loop {
            let Some(remote) = self
                .nodes
                .get_mut(&id)
                .and_then(|n| n.remotes.get_mut(&peer))
            else {
                return;
            };
            let Some(action) = remote.core.poll(now) else {
                break;
            };
            match action {
                Action::Connect(generation) => self.connect(id, peer, generation),
                Action::Disconnect(generation) => self.disconnect(id, peer, generation),
                Action::Transmit {
                    generation,
                    slot,
                    imm,
                    header,
                    payload,
                    len,
                    direct,
                } => {
                    let (conn, end) = remote.conns[&generation];
                    let mut bytes = header.to_vec();
                    let mut key = 0;
                    let payload = match payload {
                        Payload::None => Vec::new(),
                        Payload::Request(token) => {
                            key = token.rkey;
                            token.request.clone()
                        }
                        Payload::Reply(bytes) => bytes.clone(),
                    };
                    assert_eq!(payload.len(), len as usize);
                    let window = self.nodes[&id].buffers.get(&key);
                    if window.is_some_and(|window| window.conn != Some(conn)) {
                        let mut header = Header::decode(&header, u32::MAX).unwrap();
                        header.reply.rkey = 0;
                        bytes = header.encode().to_vec();
                    }
                    match direct {
                        Some(ReplyBuffer { rkey, .. }) => {
                            let bytes = payload;
                            self.send(conn, end, Frame::Direct { rkey, bytes });
                        }
                        None => bytes.extend_from_slice(&payload),
                    }
                    assert_eq!(slot.len, (bytes.len() as u32).next_multiple_of(64));
                    let offset = slot.offset;
                    self.send(conn, end, Frame::Message { imm, offset, bytes });
                }
                Action::Credit { generation, imm } => {
                    let (conn, end) = remote.conns[&generation];
                    self.send(conn, end, Frame::Imm(imm));
                }
                Action::Complete { token, error } => self.failed(id, &token, error),
                Action::Health(health) => trace!(self, "{id}: {peer} is {health:?}"),
                Action::Fenced(epoch) => {
                    assert!(epoch > remote.core.view().epoch);
                    trace!(self, "{id}: fenced by {epoch}");
                }
                Action::Met(incarnation) => {
                    let node = self.nodes.get_mut(&id).unwrap();
                    if let Ok(view) = node.membership.met(peer, incarnation) {
                        let remote = node.remotes.get_mut(&peer).unwrap();
                        remote.core.set_view(now, view);
                    }
                }
            }
        }
        let remote = self.remote(id, peer);
        let next = remote.core.next_tick();
        if next < remote.armed {
            remote.armed = next;
            let life = self.nodes[&id].life();
            let event = Event::Timer {
                node: id,
                life,
                peer,
            };
            self.schedule.at(next, event);
        }
    }

    fn is_alive(&self, id: u16, life: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.life() == life)
    }

    fn step(&mut self, event: Event) {
        let now = self.schedule.now();
        match event {
            Event::ConnectArrives { conn } => self.connect_arrives(conn),
            Event::AnswerArrives { conn, hello } => self.answer_arrives(conn, hello),
            Event::ReadyArrives { conn } => self.ready_arrives(conn),
            Event::Arrives { conn, from, frame } => self.arrives(conn, from, frame),
            Event::Lost { conn, end } => self.lost(conn, end),
            Event::Timer { node, life, peer } => {
                if self.is_alive(node, life) {
                    let remote = self.remote(node, peer);
                    if now >= remote.armed {
                        remote.armed = Time::MAX;
                        remote.core.tick(now);
                        remote.ticks = if remote.ticks.0 == now {
                            (now, remote.ticks.1 + 1)
                        } else {
                            (now, 0)
                        };
                        assert!(remote.ticks.1 < 10, "the timer spins");
                        self.pump(node, peer);
                    }
                }
            }
            Event::Submit => self.submit(),
            Event::Returned {
                node,
                life,
                peer,
                call,
                tag,
                number,
            } => {
                if self.is_alive(node, life) {
                    self.returned(node, peer, call, tag, number);
                }
            }
            Event::Receive { node, life } => {
                if self.is_alive(node, life) {
                    self.receive(node);
                }
            }
            Event::Reply { node, life, token } => {
                if self.is_alive(node, life) {
                    self.reply(node, token);
                }
            }
            Event::Cancel {
                node,
                life,
                peer,
                id,
            } => {
                if self.is_alive(node, life) {
                    if let Some(token) = self.remote(node, peer).core.cancel(id) {
                        trace!(self, "{node}: cancels call {}", token.tag);
                        self.ledger.moot(token.tag);
                        let node = self.nodes.get_mut(&node).unwrap();
                        node.buffers.remove(&token.rkey);
                    }
                    self.pump(node, peer);
                }
            }
            Event::Fault => self.fault(),
            Event::Publish { node, map } => self.publish(node, map),
            Event::Start { node } => {
                if !self.nodes.contains_key(&node) {
                    self.start(node);
                    self.new_map();
                }
            }
        }
    }
}
