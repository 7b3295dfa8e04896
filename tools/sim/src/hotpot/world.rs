// SPDX-License-Identifier: GPL-2.0

//! The cluster and its control plane: lives of nodes, operations, messages, maps.

use super::{
    host::{Answer, Ask, Bug, Life, Outgoing, SimHost},
    model::Model,
    workload::Process,
};
use crate::{
    pm::Pm,
    schedule::{tracing, Rng, Schedule, Time, MS, SEC, US},
};
use hotpot_core::core::{
    background,
    cluster::{self, Map, Peer, Sender, State},
    format::{
        geometry::Region, slot, superblock, Geometry, Superblock, Timestamp, Uuid, LINE_SIZE,
        PAGE_SIZE,
    },
    handler,
    host::{CallError, Host, Mapping, PageKey, Ticket},
    info,
    msg::{self, Request},
    node::{Config, Node, Phase},
    recovery,
};
use kernel::{
    alloc::{flags::GFP_KERNEL, KVec},
    error::{code::*, Result},
};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

const CLUSTER: Uuid = Uuid([7; 16]);
/// Data pages of each device: little, as its size is most of what a world costs.
const PAGES: u64 = 128;

/// First bytes of requests.
const STAGE: u8 = msg::Stage::OPCODE as u8;
const HELLO: u8 = msg::Hello::OPCODE as u8;
const ASK_OUTCOME: u8 = msg::AskOutcome::OPCODE as u8;
const PREPARE: u8 = msg::Prepare::OPCODE as u8;

/// What an operation ends with.
pub enum Output {
    /// A handler's reply.
    Reply(Result<Vec<u8>>),
    /// A process' operation.
    Done(super::workload::Done),
    /// A map was taken over, or the worker ended.
    Nothing,
    /// The mount is done.
    Mounted(Result),
}

/// An operation in flight.
pub type Operation = Pin<Box<dyn Future<Output = Output>>>;

enum Role {
    Handler {
        caller: u64,
        serial: u64,
        leg: usize,
    },
    Process(usize),
    Map,
    Mount,
    Worker,
}

struct Op {
    node: usize,
    incarnation: u64,
    future: Operation,
    role: Role,
    /// Changes each time it goes on: what comes for an earlier one is too late.
    serial: u64,
    ticket: Option<Ticket>,
    answers: Vec<Option<Answer>>,
}

enum Event {
    Poll(u64, u64),
    LegTimeout(u64, u64, usize),
    Request {
        caller: u64,
        serial: u64,
        leg: usize,
        src: usize,
        sender: Sender,
        /// Incarnation of the destination that the sender means.
        meant: u64,
        dst: usize,
        bytes: Vec<u8>,
        room: usize,
    },
    Answer(u64, u64, usize, Answer),
    NewMap(usize),
    Crash(usize),
    Restart(usize),
    Lose(usize),
    Declare(usize, State),
    Cut(usize),
    Heal(usize),
    Flip(usize),
    Move,
    Step(usize, usize, u64),
}

/// A node, over all its lives.
pub struct SimNode {
    /// Its id.
    pub id: u32,
    /// Its device.
    pub pm: Rc<RefCell<Pm>>,
    /// Its present life.
    pub life: Option<Rc<Life>>,
    /// Mounted.
    pub ready: bool,
    incarnation: u64,
    cut: bool,
    /// No map reaches it any more.
    pub deaf: bool,
    /// Lost for good, with its PM.
    pub gone: bool,
    /// When.
    gone_at: Time,
    /// The last epoch in which the map did not have this life as up.
    pub away: u64,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Pages that it must not use.
    reserved: Vec<u64>,
}

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Processes on each.
    pub processes: usize,
    /// How long processes work.
    pub duration: Time,
    /// A message is lost once in so many times; 0 for never.
    pub loss_in: u64,
    /// Takes long once in so many times.
    pub slow_in: u64,
    /// Crashes to come.
    pub crashes: u64,
    /// Cut links to come.
    pub cuts: u64,
    /// Free pages that nodes have; 0 is all.
    pub room: u64,
    /// Operations pause once in so many actions.
    pub pause_in: u64,
    /// A node will be lost with its PM.
    pub loss: bool,
    /// The dataset that is watched is MRSW.
    pub mrsw: bool,
    /// Bits of copies that flip.
    pub flips: u64,
    /// Chunks that are sent to other nodes.
    pub moves: u64,
    /// A planted bug.
    pub bug: Bug,
}

impl Plan {
    /// A cluster in which nothing fails.
    pub fn quiet(nodes: usize) -> Self {
        Self {
            nodes,
            processes: 1,
            duration: 0,
            loss_in: 0,
            slow_in: 0,
            crashes: 0,
            cuts: 0,
            room: 0,
            pause_in: 0,
            loss: false,
            mrsw: false,
            flips: 0,
            moves: 0,
            bug: Bug::None,
        }
    }

    /// Drawn at random.
    pub fn random(rng: &mut Rng) -> Self {
        let rare = |rng: &mut Rng, most: u64| match rng.range(0..2) {
            0 => 0,
            _ => rng.range(8..most),
        };
        Self {
            nodes: rng.range(2..5) as usize,
            processes: rng.range(1..3) as usize,
            duration: rng.range(20..80) * MS,
            loss_in: rare(rng, 60),
            slow_in: rare(rng, 60),
            crashes: rng.range(0..4),
            cuts: rng.range(0..2),
            room: match rng.range(0..4) {
                0 => rng.range(4..40),
                _ => 0,
            },
            pause_in: rng.range(2..20),
            loss: false,
            mrsw: rng.one_in(3),
            flips: 0,
            moves: 0,
            bug: Bug::None,
        }
    }
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
    /// Pages of which a copy was damaged.
    pub damaged: BTreeSet<PageKey>,
    /// Nodes, and whose requests do not come to them.
    deaf_to: Vec<(usize, usize)>,
}

/// As mkfs makes it, but smaller than it would.
fn small_geometry() -> Geometry {
    let mut end = superblock::REGION;
    let mut next = |blocks: u64| {
        let region = Region {
            offset: end,
            len: blocks * PAGE_SIZE as u64,
        };
        end = region.end();
        region
    };
    Geometry {
        records: next(2 * 8),
        commit_descriptors: next(1),
        commit_blocks: next(8),
        log_descriptors: next(1),
        log_blocks: next(24),
        slots: next(PAGES / 64),
        pages: next(PAGES),
    }
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
        let geometry = small_geometry();
        let nodes = (0..plan.nodes)
            .map(|index| {
                let id = node_of(index);
                let superblock = Superblock::new(
                    geometry,
                    CLUSTER,
                    Uuid([id as u8; 16]),
                    id as u16,
                    Timestamp::default(),
                );
                let mut block = [0; PAGE_SIZE];
                superblock.encode(&mut block);
                let mut pm = Pm::new(geometry.size() as usize);
                pm.persist(0, &block);
                pm.persist(PAGE_SIZE, &block);
                SimNode {
                    id,
                    pm: Rc::new(RefCell::new(pm)),
                    life: None,
                    ready: false,
                    incarnation: 0,
                    cut: false,
                    deaf: false,
                    gone: false,
                    gone_at: 0,
                    away: 0,
                    processes: Vec::new(),
                    reserved: Vec::new(),
                }
            })
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
            deaf_to: Vec::new(),
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

    fn set_peer(&mut self, index: usize, state: State, incarnation: u64) {
        let id = node_of(index);
        let peer = Peer {
            id,
            state,
            incarnation,
            // The first that is not lost.
            dispatcher: self.nodes.iter().position(|node| !node.gone) == Some(index),
        };
        self.peers.insert(id, peer);
    }

    fn choose_dispatcher(&mut self) {
        if let Some(first) = self.nodes.iter().position(|node| !node.gone) {
            if let Some(peer) = self.peers.get(&node_of(first)).copied() {
                self.set_peer(first, peer.state, peer.incarnation);
            }
        }
    }

    fn map(&self) -> Map {
        let mut map = Map {
            epoch: self.epoch,
            peers: KVec::new(),
        };
        for peer in self.peers.values() {
            map.peers.push(*peer, GFP_KERNEL).unwrap();
        }
        map
    }

    fn publish_map(&mut self) {
        self.epoch += 1;
        for index in 0..self.nodes.len() {
            if self.peers[&node_of(index)].state != State::Up {
                self.nodes[index].away = self.epoch;
                self.model.left(node_of(index));
            }
            let delay = self.rng.range(10..500) * US;
            self.schedule.after(delay, Event::NewMap(index));
        }
    }

    /// A node begins a life and mounts.
    fn start(&mut self, index: usize) {
        if self.plan.bug == Bug::ReusedCid {
            self.forget_used_cids(index);
        }
        let sim = &mut self.nodes[index];
        sim.incarnation += 1;
        sim.ready = false;
        let node = Node::new(Config {
            node: sim.id,
            cluster: CLUSTER,
            device_len: sim.pm.borrow().len() as u64,
            max_msg: if self.plan.room % 2 == 0 {
                64 << 10
            } else {
                8192
            },
            timeout: 5 * MS,
        });
        let rng = Rng::new(self.rng.u64());
        let life = Life::new(
            sim.id,
            sim.incarnation,
            node,
            sim.pm.clone(),
            self.clock.clone(),
            rng,
            self.plan.pause_in,
            self.plan.bug,
        );
        life.flipped.set(!self.damaged.is_empty());
        sim.life = Some(life.clone());
        let map = self.map();
        let host = SimHost(life);
        self.begin(
            index,
            Role::Mount,
            Box::pin(async move {
                cluster::new_map(&host, map).await.unwrap();
                Output::Mounted(recovery::mount(&host, Timestamp::default()).await)
            }),
        );
    }

    /// A planted bug: the superblock says that no id of a commit was ever used.
    fn forget_used_cids(&mut self, index: usize) {
        let mut pm = self.nodes[index].pm.borrow_mut();
        for copy in [0, PAGE_SIZE] {
            let Ok(mut superblock) = Superblock::decode(pm.read(copy, PAGE_SIZE)) else {
                continue;
            };
            superblock.cid_limit = 1;
            let mut block = [0; PAGE_SIZE];
            superblock.encode(&mut block);
            pm.persist(copy, &block);
        }
    }

    /// A node's power fails; its PM keeps what it keeps.
    fn crash(&mut self, index: usize) {
        let Some(life) = self.nodes[index].life.take() else {
            return;
        };
        if tracing() {
            println!("{:>9} n{} crashes", self.now() / US, node_of(index));
        }
        life.dead.set(true);
        self.ops.retain(|_, op| op.node != index);
        let node = &mut self.nodes[index];
        node.ready = false;
        self.model.crashed(node.id);
        node.pm.borrow_mut().crash(&mut self.rng);
        node.reserved.clear();
        for process in &mut node.processes {
            process.crashed();
        }
        // The control plane notices, or the node is back before it does.
        if self.rng.one_in(2) {
            let delay = self.rng.range(1..10) * MS;
            self.schedule
                .after(delay, Event::Declare(index, State::Down));
        }
        let delay = self.rng.range(1..30) * MS;
        self.schedule.after(delay, Event::Restart(index));
    }

    /// A node is lost for good, with its PM; the control plane finds out and says so.
    pub fn lose(&mut self, index: usize) {
        self.trace(format_args!("n{} is lost", node_of(index)));
        self.nodes[index].gone = true;
        self.nodes[index].gone_at = self.now();
        if let Some(life) = self.nodes[index].life.take() {
            life.dead.set(true);
        }
        self.ops.retain(|_, op| op.node != index);
        let node = &mut self.nodes[index];
        node.ready = false;
        self.model.crashed(node.id);
        for process in &mut node.processes {
            process.crashed();
        }
        let delay = self.rng.range(1..10) * MS;
        self.schedule
            .after(delay, Event::Declare(index, State::Out));
    }

    fn begin(&mut self, node: usize, role: Role, future: Operation) -> u64 {
        self.next_op += 1;
        let id = self.next_op;
        let op = Op {
            node,
            incarnation: self.nodes[node].incarnation,
            future,
            role,
            serial: 0,
            ticket: None,
            answers: Vec::new(),
        };
        self.ops.insert(id, op);
        self.schedule.after(0, Event::Poll(id, 0));
        id
    }

    /// Begins an operation of a process.
    pub fn begin_process(
        &mut self,
        node: usize,
        process: usize,
        future: impl Future<Output = super::workload::Done> + 'static,
    ) {
        self.begin(
            node,
            Role::Process(process),
            Box::pin(async move { Output::Done(future.await) }),
        );
    }

    /// The process goes on after a while.
    pub fn next_step(&mut self, node: usize, process: usize) {
        let delay = self.rng.range(10..1500) * US;
        let incarnation = self.nodes[node].incarnation;
        self.schedule
            .after(delay, Event::Step(node, process, incarnation));
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
        let duration = self.plan.duration;
        for _ in 0..self.plan.crashes {
            let at = self.rng.range(0..duration);
            let node = self.rng.index(self.nodes.len());
            self.schedule.after(at, Event::Crash(node));
            if self.rng.one_in(6) {
                // All at once.
                for node in 0..self.nodes.len() {
                    let delay = at + self.rng.range(0..MS);
                    self.schedule.after(delay, Event::Crash(node));
                }
            }
        }
        if self.plan.loss {
            let at = self.rng.range(0..duration);
            let node = self.rng.index(self.nodes.len());
            self.schedule.after(at, Event::Lose(node));
        }
        for _ in 0..self.plan.cuts {
            let at = self.rng.range(0..duration);
            let node = self.rng.index(self.nodes.len());
            let for_long = self.rng.range(1..20) * MS;
            self.schedule.after(at, Event::Cut(node));
            self.schedule.after(at + for_long, Event::Heal(node));
            if self.rng.one_in(2) {
                // It is taken for dead.
                self.schedule
                    .after(at + for_long / 2, Event::Declare(node, State::Down));
                let delay = at + for_long + self.rng.range(1..10) * MS;
                self.schedule.after(delay, Event::Declare(node, State::Up));
            }
        }
        for _ in 0..self.plan.flips {
            let at = self.rng.range(0..duration);
            let node = self.rng.index(self.nodes.len());
            self.schedule.after(at, Event::Flip(node));
        }
        for _ in 0..self.plan.moves {
            let at = self.rng.range(0..duration);
            self.schedule.after(at, Event::Move);
        }
        let end = self.now() + duration;
        self.run_until(end, |_| false);
        self.working = false;
        // Crashes that are still to come, come; everybody comes back.
        self.run_until(end + 300 * MS, |_| false);
        for index in 0..self.nodes.len() {
            self.nodes[index].cut = false;
            if self.nodes[index].gone {
                continue;
            }
            assert!(self.nodes[index].life.is_some());
            if self.peers[&node_of(index)].state != State::Up {
                let incarnation = self.nodes[index].incarnation;
                self.set_peer(index, State::Up, incarnation);
                self.publish_map();
            }
        }
        self.give_room_back();
        for sim in self.nodes.iter().filter(|sim| !sim.gone) {
            let life = sim.life.as_ref().expect("alive");
            for process in 0..sim.processes.len() {
                let opener = super::workload::opener(process);
                life.node.borrow_mut().close_opener(opener);
            }
            self.schedule.after(0, Event::NewMap(sim.id as usize - 1));
        }
        let end = end + 8 * SEC;
        self.run_until(end, World::is_at_rest);
    }

    /// Whether nothing is in flight or in doubt.
    pub fn is_at_rest(&self) -> bool {
        let quiet = self
            .ops
            .values()
            .all(|op| matches!(op.role, Role::Worker) && op.ticket.is_some());
        quiet
            && self
                .nodes
                .iter()
                .all(|node| node.gone || node.ready && node.leaks().is_none())
    }

    /// Runs until `end` or until `done`.
    pub fn run_until(&mut self, end: Time, done: impl Fn(&World) -> bool) {
        let mut look = 0;
        while let Some(event) = self.schedule.next_until(end) {
            self.clock.set(self.schedule.now());
            self.events += 1;
            assert!(self.events < 3_000_000, "the world never comes to rest");
            self.handle(event);
            if self.plan.moves != 0 {
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
            Event::LegTimeout(id, serial, leg) => {
                self.answer(id, serial, leg, Err(CallError::Lost));
            }
            Event::Answer(id, serial, leg, answer) => self.answer(id, serial, leg, answer),
            Event::Request {
                caller,
                serial,
                leg,
                src,
                sender,
                meant,
                dst,
                bytes,
                room,
            } => self.deliver(caller, serial, leg, src, sender, meant, dst, bytes, room),
            Event::NewMap(index) => {
                let map = self.map();
                if self.nodes[index].deaf {
                    return;
                }
                if let Some(life) = self.nodes[index].life.clone() {
                    let host = SimHost(life);
                    self.begin(
                        index,
                        Role::Map,
                        Box::pin(async move {
                            cluster::new_map(&host, map).await.unwrap();
                            Output::Nothing
                        }),
                    );
                }
            }
            Event::Crash(index) => {
                // At a random action, or now when there is none.
                match self.nodes[index].life.clone() {
                    Some(life) if self.rng.one_in(4) => life.fuse.set(self.rng.range(0..6)),
                    Some(life) if !self.rng.one_in(4) => life.fuse.set(self.rng.range(0..60)),
                    _ => self.crash(index),
                }
            }
            Event::Restart(index) => {
                if self.nodes[index].life.is_none() && !self.nodes[index].gone {
                    let next = self.nodes[index].incarnation + 1;
                    self.set_peer(index, State::Up, next);
                    self.nodes[index].away = self.epoch;
                    self.publish_map();
                    self.start(index);
                }
            }
            Event::Lose(index) => self.lose(index),
            Event::Declare(index, state) => {
                let alive = self.nodes[index].life.is_some();
                if (state == State::Up) == alive || state != State::Up {
                    let peer = self.peers[&node_of(index)];
                    if peer.state != state && peer.state != State::Out {
                        let incarnation = peer.incarnation.max(self.nodes[index].incarnation);
                        self.set_peer(index, state, incarnation);
                        self.choose_dispatcher();
                        self.publish_map();
                        if state == State::Down {
                            let delay = self.rng.range(1..20) * MS;
                            self.schedule.after(delay, Event::Declare(index, State::Up));
                        }
                    }
                }
            }
            Event::Cut(index) => self.nodes[index].cut = true,
            Event::Heal(index) => self.nodes[index].cut = false,
            Event::Flip(index) => self.flip_somewhere(index),
            Event::Move => {
                let chunk = self
                    .rng
                    .range(0..super::workload::PAGES * PAGE_SIZE as u64 / super::workload::CHUNK);
                let to = self.rng.index(self.nodes.len());
                self.move_chunk(chunk, to);
            }
            Event::Step(node, process, incarnation) => {
                let sim = &self.nodes[node];
                if self.working && sim.ready && sim.incarnation == incarnation {
                    super::workload::step(self, node, process);
                }
            }
        }
    }

    fn poll(&mut self, id: u64) {
        let Some(mut op) = self.ops.remove(&id) else {
            return;
        };
        let index = op.node;
        let Some(life) = self.nodes[index].life.clone() else {
            return;
        };
        assert_eq!(life.incarnation, op.incarnation);
        op.serial += 1;
        op.ticket = None;
        let answers: Vec<Answer> = std::mem::take(&mut op.answers)
            .into_iter()
            .map(|answer| answer.expect("all legs are answered"))
            .collect();
        *life.answers.borrow_mut() = answers;
        let polled = op
            .future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(output) => self.finish(op, output),
            Poll::Pending => {
                let ask = life.ask.borrow_mut().take().expect("an operation asks");
                match ask {
                    Ask::PowerFails => return self.crash(index),
                    Ask::Pause => {
                        let delay = self.rng.range(0..20) * US;
                        self.schedule.after(delay, Event::Poll(id, op.serial));
                    }
                    Ask::Wait(ticket, until) => {
                        op.ticket = Some(ticket);
                        self.schedule.at(until, Event::Poll(id, op.serial));
                    }
                    Ask::Call(requests) => {
                        op.answers = vec![None; requests.len()];
                        self.send(id, &op, requests);
                    }
                }
                self.ops.insert(id, op);
            }
        }
        super::workload::look_at_copies(self, index);
        self.wake(index);
    }

    /// Lets those go on whose wake has come.
    fn wake(&mut self, index: usize) {
        let Some(life) = &self.nodes[index].life else {
            return;
        };
        let node = life.node.borrow();
        for (id, op) in self.ops.iter_mut().filter(|(_, op)| op.node == index) {
            if op.ticket.is_some_and(|ticket| node.is_due(ticket)) {
                op.ticket = None;
                let delay = self.rng.range(0..5) * US;
                self.schedule.after(delay, Event::Poll(*id, op.serial));
            }
        }
    }

    fn send(&mut self, caller: u64, op: &Op, requests: Vec<Outgoing>) {
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
        for (leg, request) in requests.into_iter().enumerate() {
            assert_ne!(request.dst, life.id, "a call to oneself");
            let max = life.node.borrow().config.max_msg;
            assert!(request.bytes.len() <= max, "{} bytes", request.bytes.len());
            let until = request.until;
            self.schedule
                .at(until, Event::LegTimeout(caller, op.serial, leg));
            let peer = peers.get(&request.dst).copied();
            let Some(peer) = peer.filter(|peer| peer.state == State::Up) else {
                let down = Err(CallError::NotExecuted(EHOSTDOWN));
                self.schedule
                    .after(US, Event::Answer(caller, op.serial, leg, down));
                continue;
            };
            let dst = request.dst as usize - 1;
            let lost = self.working && self.rng.one_in(self.plan.loss_in);
            let deaf = self.deaf_to.contains(&(dst, src));
            if lost || deaf || self.nodes[src].cut || self.nodes[dst].cut {
                continue;
            }
            let delay = self.delay();
            self.schedule.after(
                delay,
                Event::Request {
                    caller,
                    serial: op.serial,
                    leg,
                    src,
                    sender,
                    meant: peer.incarnation,
                    dst,
                    bytes: request.bytes,
                    room: request.room,
                },
            );
        }
    }

    fn delay(&mut self) -> Time {
        match self.working && self.rng.one_in(self.plan.slow_in) {
            true => self.rng.range(100..20_000) * US,
            false => self.rng.range(5..100) * US,
        }
    }

    #[expect(clippy::too_many_arguments)]
    fn deliver(
        &mut self,
        caller: u64,
        serial: u64,
        leg: usize,
        src: usize,
        sender: Sender,
        meant: u64,
        dst: usize,
        bytes: Vec<u8>,
        room: usize,
    ) {
        let _ = src;
        let Some(life) = self.nodes[dst].life.clone() else {
            return;
        };
        let refused = match () {
            // Epochs are left to the core, which must not rely on others to check them.
            _ if meant != life.incarnation => Some(ESTALE),
            // The RPC layer knows that an older life is over.
            _ if self.nodes[sender.node as usize - 1].incarnation != sender.incarnation => return,
            _ if life.node.borrow().phase == Phase::Gone => Some(ENOENT),
            _ => None,
        };
        if let Some(error) = refused {
            let answer = Err(CallError::NotExecuted(error));
            let delay = self.delay();
            self.schedule
                .after(delay, Event::Answer(caller, serial, leg, answer));
            return;
        }
        let (mut sender, mut bytes) = (sender, bytes);
        match (self.plan.bug, bytes[0]) {
            (Bug::LostReplica, STAGE) if self.rng.one_in(3) => {
                // Every page is durable, it says.
                let mut body = msg::Reader::new(&bytes);
                let stage = msg::Head::get(&mut body)
                    .and_then(|_| <msg::Stage as msg::Wire<'_>>::get(&mut body))
                    .expect("a Stage");
                let count = stage.pages.len();
                let mut reply = (count as u32).to_le_bytes().to_vec();
                reply.resize(4 + count, msg::Staging::Durable as u8);
                let delay = self.delay();
                self.schedule
                    .after(delay, Event::Answer(caller, serial, leg, Ok(reply)));
                return;
            }
            (Bug::NoHello, HELLO) => {
                let delay = self.delay();
                self.schedule
                    .after(delay, Event::Answer(caller, serial, leg, Ok(vec![0; 8])));
                return;
            }
            (Bug::NoEpochCheck, _) => {
                let epoch = life.node.borrow().map.epoch;
                sender.epoch = epoch;
                bytes[8..16].copy_from_slice(&epoch.to_le_bytes());
            }
            _ => {}
        }
        if tracing() {
            println!(
                "{:>9} n{} <- n{} opcode {}",
                self.now() / US,
                life.id,
                sender.node,
                bytes[0]
            );
        }
        let host = SimHost(life);
        let bug = self.plan.bug;
        self.begin(
            dst,
            Role::Handler {
                caller,
                serial,
                leg,
            },
            Box::pin(async move {
                let mut reply = vec![0; room];
                let len = handler::handle(&host, sender, &bytes, &mut reply).await;
                match (bug, bytes[0]) {
                    (Bug::WrongOutcome, ASK_OUTCOME) => {
                        if reply[0] == msg::Outcome::Committed as u8 {
                            reply[0] = msg::Outcome::Aborted as u8;
                        }
                    }
                    (Bug::EarlyPublish, PREPARE) if len.is_ok() => {
                        let mut body = msg::Reader::new(&bytes);
                        let prepare = msg::Head::get(&mut body)
                            .and_then(|_| <msg::Prepare as msg::Wire<'_>>::get(&mut body))
                            .expect("a Prepare");
                        let epoch = host.with(|node| node.map.epoch);
                        let publish = msg::Publish { cid: prepare.cid };
                        let publish = publish.encode(epoch).expect("memory");
                        let _ = handler::handle(&host, sender, &publish, &mut [0; 64]).await;
                    }
                    _ => {}
                }
                Output::Reply(len.map(|len| {
                    reply.truncate(len);
                    reply
                }))
            }),
        );
    }

    fn answer(&mut self, id: u64, serial: u64, leg: usize, answer: Answer) {
        let Some(op) = self.ops.get_mut(&id) else {
            return;
        };
        if op.serial != serial {
            return;
        }
        let Some(place) = op.answers.get_mut(leg) else {
            return;
        };
        if place.is_none() {
            *place = Some(answer);
            if op.answers.iter().all(Option::is_some) {
                self.schedule.after(0, Event::Poll(id, serial));
            }
        }
    }

    fn finish(&mut self, op: Op, output: Output) {
        match (op.role, output) {
            (
                Role::Handler {
                    caller,
                    serial,
                    leg,
                },
                Output::Reply(reply),
            ) => {
                if tracing() {
                    if let Err(error) = &reply {
                        println!(
                            "{:>9} n{} answers {error:?}",
                            self.now() / US,
                            node_of(op.node)
                        );
                    }
                }
                let reply = reply.map_err(CallError::Handler);
                let back = self
                    .ops
                    .get(&caller)
                    .is_some_and(|caller| self.nodes[caller.node].cut);
                let lost = self.working && self.rng.one_in(self.plan.loss_in);
                if !lost && !self.nodes[op.node].cut && !back {
                    let delay = self.delay();
                    self.schedule
                        .after(delay, Event::Answer(caller, serial, leg, reply));
                }
            }
            (Role::Process(process), Output::Done(done)) => {
                super::workload::done(self, op.node, process, done);
            }
            (Role::Mount, Output::Mounted(result)) => {
                result.expect("mounts");
                let index = op.node;
                let life = self.nodes[index].life.clone().expect("alive");
                self.nodes[index].ready = true;
                let host = SimHost(life);
                self.begin(
                    index,
                    Role::Worker,
                    Box::pin(async move {
                        loop {
                            let ticket = host.with(|node| node.worker_ticket());
                            let next = background::run(&host).await;
                            let _ = host
                                .wait(ticket, next, hotpot_core::core::host::Sleep::Killable)
                                .await;
                        }
                    }),
                );
                if self.working {
                    self.reserve_room(index);
                    for process in 0..self.nodes[index].processes.len() {
                        self.next_step(index, process);
                    }
                }
            }
            _ => {}
        }
    }

    /// Runs one operation on a node to its end, whatever else happens meanwhile.
    pub fn execute<T: 'static, F>(&mut self, node: usize, operation: impl FnOnce(SimHost) -> F) -> T
    where
        F: Future<Output = T> + 'static,
    {
        let result = Rc::new(RefCell::new(None));
        self.begin_result(node, result.clone(), operation);
        let end = self.now() + 10 * SEC;
        while result.borrow().is_none() {
            let event = self.schedule.next_until(end).expect("the operation ends");
            self.clock.set(self.schedule.now());
            self.handle(event);
        }
        let result = result.borrow_mut().take();
        result.expect("it has just been there")
    }

    /// Begins an operation; its result will be in `result`.
    pub fn begin_result<T: 'static, F>(
        &mut self,
        node: usize,
        result: Rc<RefCell<Option<T>>>,
        operation: impl FnOnce(SimHost) -> F,
    ) where
        F: Future<Output = T> + 'static,
    {
        let life = self.nodes[node].life.clone().expect("alive");
        let future = operation(SimHost(life));
        self.begin_process(node, 0, async move {
            let value = future.await;
            *result.borrow_mut() = Some(value);
            super::workload::Done::Other("test", Ok(()))
        });
    }

    /// Has the owner of a chunk of dataset 1 send it to node `to`; whether it is willing.
    pub fn move_chunk(&mut self, chunk: u64, to: usize) -> bool {
        let to = node_of(to);
        let mut moves = false;
        for index in 0..self.nodes.len() {
            if let Some(life) = self.nodes[index].life.clone() {
                let result = life.node.borrow_mut().move_chunk(1, chunk, to);
                self.trace(format_args!(
                    "n{} sends chunk {chunk} to n{to}: {result:?}",
                    index + 1
                ));
                moves |= result.is_ok();
                self.wake(index);
            }
        }
        moves
    }

    /// A page has one owner at most that serves it.
    pub fn check_owners(&self) {
        for page in (0..super::workload::PAGES).step_by(16) {
            let key = PageKey { dataset: 1, page };
            let serves = |sim: &&SimNode| {
                sim.life.as_ref().is_some_and(|life| {
                    let core = life.node.borrow();
                    // Who is cut off the epoch stops.
                    core.map.epoch > sim.away && core.map.epoch == self.epoch && core.serves(key)
                })
            };
            let owners: Vec<u32> = self.nodes.iter().filter(serves).map(|sim| sim.id).collect();
            assert!(owners.len() <= 1, "{key:?} has owners {owners:?}");
        }
    }

    /// Takes a copy of a node's device, or puts one in its place while the node is off.
    pub fn device(&self, node: usize) -> std::cell::RefMut<'_, Pm> {
        self.nodes[node].pm.borrow_mut()
    }

    /// Crashes a node now.
    pub fn crash_now(&mut self, node: usize) {
        self.crash(node);
    }

    /// Leaves each node so many free pages.
    pub fn leave_room(&mut self, room: u64) {
        self.plan.room = room;
        for index in 0..self.nodes.len() {
            self.reserve_room(index);
        }
    }

    /// Leaves one node so many free pages.
    pub fn leave_room_on(&mut self, node: usize, room: u64) {
        let life = self.nodes[node].life.clone().expect("alive");
        let mut core = life.node.borrow_mut();
        while core.space.free() > room {
            let page = core.space.take();
            self.nodes[node].reserved.extend(page);
        }
    }

    /// A store of a process that has the page mapped for it.
    pub fn store(&mut self, node: usize, key: PageKey, bytes: &[u8]) {
        let life = self.nodes[node].life.clone().expect("alive");
        let mapping = life.mapped.borrow().get(&key).copied();
        let Some(Mapping::Writable { offset }) = mapping else {
            panic!("{key:?} is not writable");
        };
        life.pm.borrow_mut().store(offset as usize, bytes);
    }

    /// Has the control plane say that a node is gone for good.
    pub fn set_gone(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation;
        self.set_peer(node, State::Out, incarnation);
        self.publish_map();
    }

    /// Cuts a node off, or joins it again.
    pub fn set_cut(&mut self, node: usize, cut: bool) {
        self.nodes[node].cut = cut;
    }

    /// Requests of `other` do not come to a node any more, or do so again.
    pub fn set_deaf_to(&mut self, node: usize, other: usize, deaf: bool) {
        self.deaf_to.retain(|pair| *pair != (node, other));
        if deaf {
            self.deaf_to.push((node, other));
        }
    }

    /// Has the control plane say that a node is in a state.
    pub fn declare(&mut self, node: usize, state: State) {
        self.handle(Event::Declare(node, state));
    }

    /// Lets time go by.
    pub fn pass(&mut self, time: Time) {
        let end = self.now() + time;
        self.run_until(end, |_| false);
    }

    /// Flips a bit of a node's clean copy of a page: of its slot, or of its data.
    pub fn flip(&mut self, node: usize, key: PageKey, slot: bool) {
        let life = self.nodes[node].life.clone().expect("alive");
        let core = life.node.borrow();
        let clean = core.pages.get(key).and_then(|page| page.clean);
        let pm = clean.and_then(|clean| clean.pm).expect("a copy");
        // In the data where somebody looks: in the first bytes, or in a cell.
        let (at, bytes) = match (slot, self.rng.range(0..4)) {
            (true, _) => (core.geometry().slot(pm), 64),
            (false, 0) => (core.geometry().page(pm) + 2048, 8),
            (false, 1) => (core.geometry().page(pm) + 4088, 8),
            (false, _) => (core.geometry().page(pm), 16),
        };
        let bit = self.rng.range(0..8 * bytes);
        let mut device = self.nodes[node].pm.borrow_mut();
        device.flip((at + bit / 8) as usize, 1 << (bit % 8));
        self.damaged.insert(key);
        for life in self.nodes.iter().filter_map(|node| node.life.as_ref()) {
            life.flipped.set(true);
        }
    }

    /// Damages a copy that nobody just uses: no checksum finds what is flipped under a
    /// process that has it mapped.
    fn flip_somewhere(&mut self, index: usize) {
        let Some(life) = self.nodes[index].life.clone() else {
            return;
        };
        let keys: Vec<PageKey> = {
            let core = life.node.borrow();
            let mapped = life.mapped.borrow();
            let idle = core.pages.iter().filter(|(key, page)| {
                let copy = page.clean.is_some_and(|clean| clean.pm.is_some());
                copy && page.dirty.is_none() && !page.is_blocked() && !mapped.contains_key(key)
            });
            idle.map(|(key, _)| *key).collect()
        };
        if !keys.is_empty() {
            let key = *self.rng.pick(&keys);
            self.flip(index, key, false);
        }
    }

    /// Leaves a node with little room.
    fn reserve_room(&mut self, index: usize) {
        let (room, sim) = (self.plan.room, &mut self.nodes[index]);
        let Some(life) = &sim.life else {
            return;
        };
        sim.reserved.clear();
        if room != 0 {
            let mut node = life.node.borrow_mut();
            while node.space.free() > room {
                sim.reserved.extend(node.space.take());
            }
        }
    }

    fn give_room_back(&mut self) {
        for sim in self.nodes.iter_mut().filter(|sim| !sim.gone) {
            let life = sim.life.as_ref().expect("alive");
            for page in sim.reserved.drain(..) {
                life.node.borrow_mut().space.give(page);
            }
        }
    }

    /// Prints when worlds are to be watched.
    pub fn trace(&self, line: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("{:>9} {line}", self.now() / US);
        }
    }

    /// How many nodes hold durably what a commit made of `key`, or held it when they were lost
    /// while it ran, which was from `begun`; `None` when newer versions have taken its place.
    pub fn durable_copies(&self, key: PageKey, cid: u64, begun: Time) -> Option<usize> {
        let mut versions = Vec::new();
        let counts = |node: &&SimNode| !node.gone || node.gone_at >= begun;
        for node in self.nodes.iter().filter(counts) {
            let pm = node.pm.borrow();
            let image = pm.image();
            let geometry = Superblock::decode(&image[..PAGE_SIZE])
                .or_else(|_| Superblock::decode(&image[PAGE_SIZE..2 * PAGE_SIZE]))
                .expect("a superblock")
                .geometry;
            let mut best = None;
            // Allocation is from the front: behind a long row of free slots is nothing.
            let mut free = 0;
            for pm_page in 0..geometry.nr_pages() {
                let at = geometry.slot(pm_page) as usize;
                match slot::Slot::decode(pm_page, &image[at..at + LINE_SIZE]) {
                    Ok(Some((_, slot)))
                        if (slot.of.dataset, slot.of.page) == (key.dataset, key.page) =>
                    {
                        let data = geometry.page(pm_page) as usize;
                        let data = &image[data..data + PAGE_SIZE];
                        let good = hotpot_core::core::format::crc32c(data) == slot.data_crc;
                        assert!(
                            good || self.damaged.contains(&key),
                            "a torn copy of {key:?}"
                        );
                        best = best.max(Some((slot.of.version, slot.of.cid.0)));
                        free = 0;
                    }
                    Ok(None) => free += 1,
                    _ => free = 0,
                }
                if self.plan.room == 0 && free > 256 {
                    break;
                }
            }
            versions.extend(best);
        }
        let version = versions
            .iter()
            .find(|(_, of)| *of == cid)
            .map(|(version, _)| *version)?;
        Some(versions.iter().filter(|(v, _)| *v >= version).count())
    }

    /// How many nodes have the newest committed version of a page on their PM.
    pub fn committed_copies(&self, key: PageKey) -> usize {
        let mut versions = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.gone) {
            let life = node.life.as_ref().expect("alive");
            let geometry = life.node.borrow().geometry();
            let device = node.pm.borrow();
            let slots = (0..geometry.nr_pages()).filter_map(|pm| {
                let line = device.read(geometry.slot(pm) as usize, LINE_SIZE);
                match slot::Slot::decode(pm, line) {
                    Ok(Some((slot::State::Committed, found))) => Some(found.of),
                    _ => None,
                }
            });
            let theirs = slots.filter(|of| (of.dataset, of.page) == (key.dataset, key.page));
            versions.extend(theirs.map(|of| of.version).max());
        }
        let newest = versions.iter().max().copied();
        versions.iter().filter(|of| Some(**of) == newest).count()
    }

    /// Panics when something is left over, or nodes do not agree about names.
    pub fn check_at_rest(&self) {
        for (id, op) in &self.ops {
            let role = match op.role {
                Role::Worker => continue,
                Role::Handler { .. } => "a handler",
                Role::Process(_) => "a process",
                Role::Map | Role::Mount => "a map or mount",
            };
            panic!(
                "operation {id} on n{} never ended: {role}",
                node_of(op.node)
            );
        }
        let mut names = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| !node.gone) {
            if let Some(leak) = node.leaks() {
                panic!("n{}: {leak}", node.id);
            }
            node.check_space();
            let life = node.life.as_ref().expect("alive");
            let core = life.node.borrow();
            let mut id = 0;
            let mut all = Vec::new();
            while let Some(record) = core.names.after(id) {
                id = record.id;
                all.push((id, record.size, record.generation, record.name));
            }
            names.insert(all);
            assert!(core.grants.is_empty(), "n{} holds grants", node.id);
            let writers: Vec<_> = core.writers.iter().collect();
            assert!(writers.is_empty(), "n{} has writers: {writers:?}", node.id);
        }
        assert_eq!(names.len(), 1, "nodes disagree about names: {names:?}");
    }
}

impl SimNode {
    /// What is left in flight or in doubt in the core.
    pub fn leaks(&self) -> Option<String> {
        self.life
            .as_ref()?
            .node
            .borrow()
            .left_over()
            .map(|(what, cid)| format!("{what} ({cid:#x})"))
    }

    /// Every used PM page belongs to somebody, and slots on the device say the same.
    fn check_space(&self) {
        let life = self.life.as_ref().expect("alive");
        let node = life.node.borrow();
        let mut used = BTreeSet::new();
        let mut clean = BTreeSet::new();
        for (key, page) in node.pages.iter() {
            let dirty = page
                .dirty
                .iter()
                .flat_map(|dirty| [Some(dirty.pm), dirty.base.filter(|_| dirty.owns_base)]);
            let copies = page.clean.and_then(|clean| clean.pm);
            for pm in dirty.flatten().chain(copies) {
                assert!(used.insert(pm), "PM page {pm} is used twice, by {key:?}");
            }
            clean.extend(copies);
        }
        let room = info::room(&node);
        let lost: Vec<u64> = (0..room.pages)
            .filter(|pm| node.space.is_used(*pm) != used.contains(pm))
            .collect();
        assert!(lost.is_empty(), "n{}: PM pages {lost:?} are lost", self.id);
        let geometry = node.geometry();
        let pm = self.pm.borrow();
        for pm_page in 0..room.pages {
            let at = geometry.slot(pm_page) as usize;
            let found = slot::Slot::decode(pm_page, pm.read(at, LINE_SIZE)).expect("intact");
            assert_eq!(
                found.is_some(),
                clean.contains(&pm_page),
                "n{}: slot of PM page {pm_page}: {found:?}",
                self.id
            );
        }
    }
}
