// SPDX-License-Identifier: GPL-2.0

//! A cluster: what happens in it, one event after the other.

use self::{
    network::{Leg, Request},
    operations::Op,
    twin::Twin,
};
use crate::{
    hotpot::{host::Answer, model::Model, workload},
    schedule::{tracing, Rng, Schedule, Time, MS, SEC, US},
};
use hotpot_core::core::{
    cluster::{Peer, State},
    host::{CallError, PageKey},
};
use kernel::error::code::ETIMEDOUT;
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

mod checks;
mod control;
mod eager;
mod life;
mod memory;
mod network;
mod operations;
mod plan;
mod planted;
mod twin;

pub use eager::Eager;
pub use life::SimNode;
pub use network::Traffic;
pub use operations::{Operation, Output};
pub use plan::{Plan, Second};

enum Event {
    Poll(u64, u64),
    LegTimeout(Leg),
    Request(Request),
    Answer(Leg, Answer),
    NewMap(usize),
    Crash(usize),
    Restart(usize),
    Lose(Vec<usize>),
    LoseAnother(usize),
    Out(Vec<usize>),
    CrashNow(usize),
    Declare(usize, State),
    Cut(usize),
    Heal(usize),
    Flip(usize),
    Move,
    Step(usize, usize, u64),
}

/// The cluster.
pub struct World {
    /// All randomness.
    pub rng: Rng,
    schedule: Schedule<Event>,
    clock: Rc<Cell<u64>>,
    /// Nodes.
    pub nodes: Vec<SimNode>,
    ops: BTreeMap<u64, Op>,
    next_op: u64,
    epoch: u64,
    peers: BTreeMap<u32, Peer>,
    /// What the world is like.
    pub plan: Plan,
    /// What was promised.
    pub model: Model,
    /// Processes still begin new work.
    pub working: bool,
    /// Counted for the report.
    pub events: u64,
    /// Chunks that have left nodes in lives that are over.
    left: u64,
    /// Pages of which a copy was damaged.
    pub damaged: BTreeSet<PageKey>,
    /// Another machine that is one of the nodes, too: the last one.
    twin: Option<Twin>,
    /// Nodes, and whose requests do not come to them.
    deaf_to: Vec<(usize, usize)>,
    /// What went over the network.
    pub traffic: Traffic,
    /// Nodes, and opcodes of requests that are held up on their way to them.
    held: Vec<(usize, u8)>,
    /// Those requests.
    waiting: Vec<Request>,
}

fn node_of(index: usize) -> u32 {
    index as u32 + 1
}

impl World {
    /// All nodes are mounted with empty devices.
    pub fn new(seed: u64, plan: impl FnOnce(&mut Rng) -> Plan) -> Self {
        let mut rng = Rng::new(seed);
        let plan = plan(&mut rng);
        if tracing() {
            println!("{plan:?}");
        }
        let nodes = (0..plan.nodes)
            .map(|index| SimNode::new(node_of(index)))
            .collect();
        let mut world = Self {
            rng,
            schedule: Schedule::new(),
            clock: Rc::new(Cell::new(0)),
            nodes,
            ops: BTreeMap::new(),
            next_op: 0,
            epoch: 0,
            peers: BTreeMap::new(),
            plan,
            model: Model::default(),
            working: false,
            events: 0,
            left: 0,
            twin: None,
            deaf_to: Vec::new(),
            traffic: Traffic::default(),
            held: Vec::new(),
            waiting: Vec::new(),
            damaged: BTreeSet::new(),
        };
        for index in 0..plan.nodes {
            world.set_peer(index, State::Up, 1);
        }
        world.epoch = 1;
        for index in 0..plan.nodes {
            world.start(index);
        }
        world.run_until(SEC / 2, |world| world.nodes.iter().all(|node| node.ready));
        assert!(world.nodes.iter().all(|node| node.ready), "mounted");
        world
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.schedule.now()
    }

    /// Lets processes work, with failures, and then brings everything to rest.
    pub fn work(&mut self) {
        self.working = true;
        for index in 0..self.nodes.len() {
            self.reserve_room(index);
            for process in 0..self.nodes[index].processes.len() {
                self.next_step(index, process);
            }
        }
        self.schedule_failures();
        let end = self.now() + self.plan.duration;
        self.run_until(end, |_| false);
        self.working = false;
        // Crashes that are still to come, come; everybody comes back.
        self.run_until(end + 300 * MS, |_| false);
        if self
            .nodes
            .iter()
            .any(|node| !node.gone && node.life.is_none())
        {
            // At an action that came late.
            self.run_until(end + 340 * MS, |_| false);
        }
        self.come_back();
        let end = end + 8 * SEC;
        self.run_until(end, World::is_at_rest);
    }

    /// Runs until `end` or until `done`.
    pub fn run_until(&mut self, end: Time, done: impl Fn(&World) -> bool) {
        let mut look = 0;
        while let Some(event) = self.schedule.next_until(end) {
            self.clock.set(self.schedule.now());
            self.events += 1;
            assert!(self.events < 3_000_000, "the world never comes to rest");
            self.handle(event);
            if self.plan.has_moves() {
                self.check_owners();
            }
            look += 1;
            if look % 64 == 0 && done(self) {
                return;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Poll(id, serial) => {
                if self.ops.get(&id).is_some_and(|op| op.serial == serial) {
                    self.poll(id);
                }
            }
            Event::LegTimeout(leg) => self.answer(leg, Err(CallError::Lost(ETIMEDOUT))),
            Event::Answer(leg, answer) => self.answer(leg, answer),
            Event::Request(request) => self.deliver(request),
            Event::NewMap(index) => self.take_map(index),
            Event::Crash(index) => self.crash_at_an_action(index),
            Event::Restart(index) => self.restart(index),
            Event::Lose(nodes) => self.lose_at_once(&nodes),
            Event::LoseAnother(index) => self.lose_another(index),
            Event::CrashNow(index) => self.crash_now(index),
            Event::Out(nodes) => self.declare_out(&nodes),
            Event::Declare(index, state) => self.declare(index, state),
            Event::Cut(index) => self.nodes[index].cut = true,
            Event::Heal(index) => self.nodes[index].cut = false,
            Event::Flip(index) => self.flip_somewhere(index),
            Event::Move => self.move_some_chunk(),
            Event::Step(node, process, incarnation) => {
                let sim = &self.nodes[node];
                if self.working && sim.ready && sim.incarnation == incarnation {
                    workload::step(self, node, process);
                }
            }
        }
    }

    /// Lets time go by.
    pub fn pass(&mut self, time: Time) {
        let end = self.now() + time;
        self.run_until(end, |_| false);
        self.schedule.idle_until(end);
        self.clock.set(self.schedule.now());
    }

    /// Prints when worlds are to be watched.
    pub fn trace(&self, line: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("{:>9} {line}", self.now() / US);
        }
    }
}
