// SPDX-License-Identifier: GPL-2.0

//! A world of nodes that call each other, from one seed: what happens in it, one event after the other.

use self::control::Map;
use crate::{
    net::{Faults, Network},
    rpc::{
        ledger::{Ledger, Summary, Tag},
        node::Node,
        wire::{Conn, Frame},
    },
    schedule::{tracing, Rng, Schedule, Time, MS},
};
use rdma_lite_core::core::{
    session::CallRef,
    wire::{Hello, Reject},
    CallId, Config, NodeState, Share,
};
use std::collections::HashMap;

mod calls;
mod chaos;
mod connections;
mod control;
mod drive;
mod execution;
mod messages;

pub use chaos::Chaos;

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

/// Rings, slots and times of all nodes, drawn at random.
fn config(rng: &mut Rng) -> Config {
    Config {
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
    }
}

impl World {
    /// A world from a seed.
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng);
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

    pub(super) fn remote(&mut self, id: u16, peer: u16) -> &mut super::node::Remote {
        self.nodes
            .get_mut(&id)
            .and_then(|node| node.remotes.get_mut(&peer))
            .expect("the node is there")
    }

    /// Prints when worlds are to be watched.
    fn trace(&self, line: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("{:>12} {line}", self.schedule.now());
        }
    }

    fn is_alive(&self, id: u16, life: u64) -> bool {
        self.nodes.get(&id).is_some_and(|node| node.life() == life)
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::ConnectArrives { conn } => self.connect_arrives(conn),
            Event::AnswerArrives { conn, hello } => self.answer_arrives(conn, hello),
            Event::ReadyArrives { conn } => self.ready_arrives(conn),
            Event::Arrives { conn, from, frame } => self.arrives(conn, from, frame),
            Event::Lost { conn, end } => self.lost(conn, end),
            Event::Timer { node, life, peer } => {
                if self.is_alive(node, life) {
                    self.tick(node, peer);
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
                    self.cancel(node, peer, id);
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
