// SPDX-License-Identifier: GPL-2.0

//! At-most-once execution, model-checked: a caller and a callee, two calls, and
//! every order of deliveries, executions, repetitions, breaks, new maps and a
//! restart of the callee. The state of the model is the state of the real core,
//! reached by replaying what happened.

use kernel::error::{code::*, Error};
use rdma_lite_core::core::{
    session::CallRef, Action as Do, Class, Config, Local, MapNode, Membership, NewCall,
    NodeAddress, NodeState, Payload, Peer, Received, ReplyBuffer,
};
use stateright::{Checker, Expectation, Model, Property};
use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

const STALE: &str = "a call of an old epoch is refused";
const MS: u64 = 1_000_000;
const DEADLINE: u64 = 10_000 * MS;

/// One thing that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Submit,
    /// The oldest message to this node arrives.
    Deliver(usize),
    /// The handler of the oldest running call returns.
    Return,
    /// Long silence: the caller repeats what was not answered.
    Repeat,
    /// The connection breaks, all that is in flight is lost, a new one is made.
    Break,
    /// This node learns the next map.
    Map(usize),
    /// The callee crashes and comes back under a new map.
    Restart,
    /// All deadlines pass.
    Expire,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    calls: usize,
    repeats: usize,
    breaks: usize,
    maps: usize,
    restarts: usize,
}

struct Flying {
    imm: u32,
    header: [u8; 80],
    payload: Option<u64>,
}

struct Side {
    membership: Membership,
    peer: Peer<u64, u64>,
    generation: u32,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fate {
    executions: u64,
    /// Execution whose reply came.
    replied: Option<u64>,
    error: Option<i32>,
}

struct Cluster {
    now: u64,
    epoch: u64,
    lives: [u64; 2],
    sides: [Side; 2],
    flying: [VecDeque<Flying>; 2],
    running: VecDeque<(CallRef, u64, u64)>,
    fates: Vec<Fate>,
    executions: u64,
}

fn config() -> Config {
    Config {
        ring_log2: 14,
        depth_log2: 4,
        slots_log2: 1,
        heartbeat: 100_000 * MS,
        retransmit: 100 * MS,
        ..Config::DEFAULT
    }
}

fn map(epoch: u64, lives: [u64; 2]) -> (u64, [MapNode; 2]) {
    let node = |id: u16| {
        let mut name = [0; 64];
        name[0] = b'a' + id as u8;
        MapNode {
            id,
            state: NodeState::Up,
            roles: 0,
            incarnation: lives[usize::from(id) - 1],
            address: NodeAddress {
                ipv6: false,
                addr: [0; 16],
                port: 0,
            },
            name,
        }
    };
    (epoch, [node(1), node(2)])
}

fn side(at: usize, life: u64) -> Side {
    let local = Local {
        id: at as u16 + 1,
        incarnation: life,
        cluster: [0; 16],
    };
    Side {
        membership: Membership::new(local),
        peer: Peer::new(config(), local, 2 - at as u16).unwrap(),
        generation: 0,
    }
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            now: 0,
            epoch: 1,
            lives: [1, 2],
            sides: [side(0, 1), side(1, 2)],
            flying: Default::default(),
            running: VecDeque::new(),
            fates: Vec::new(),
            executions: 0,
        };
        cluster.publish(0);
        cluster.publish(1);
        cluster.connect();
        cluster
    }

    fn publish(&mut self, at: usize) {
        let (epoch, nodes) = map(self.epoch, self.lives);
        let side = &mut self.sides[at];
        side.membership.publish(epoch, &nodes).unwrap();
        let view = side.membership.view(2 - at as u16);
        side.peer.set_view(self.now, view);
        self.pump(at);
    }

    fn connect(&mut self) {
        self.now += config().backoff_max;
        let now = self.now;
        let [a, b] = &mut self.sides;
        a.peer.tick(now);
        let generation = loop {
            match a.peer.poll(now) {
                Some(Do::Connect(generation)) => break generation,
                Some(Do::Complete { token, error }) => {
                    self.fates[token as usize].error = Some(error.to_errno());
                }
                Some(_) => {}
                None => panic!("the caller does not connect"),
            }
        };
        let hello = a.peer.hello(0, 0);
        let view = b.membership.admit(&hello).unwrap();
        let (theirs, _) = b.peer.connect_request(now, &hello, view).unwrap();
        let hello = b.peer.hello(0, 0);
        let view = a.membership.admit(&hello).unwrap();
        a.peer.connect_reply(now, generation, &hello, view);
        a.generation = generation;
        b.generation = theirs;
        a.peer.established(now, generation);
        b.peer.established(now, theirs);
        self.pump(0);
        self.pump(1);
    }

    fn lose(&mut self, at: usize) {
        let side = &mut self.sides[at];
        side.peer.lost(self.now, side.generation, None);
        self.flying = Default::default();
    }

    fn pump(&mut self, at: usize) {
        while let Some(action) = self.sides[at].peer.poll(self.now) {
            match action {
                Do::Transmit {
                    imm,
                    header,
                    payload,
                    ..
                } => {
                    let payload = match payload {
                        Payload::None => None,
                        Payload::Request(tag) => Some(*tag),
                        Payload::Reply(number) => Some(*number),
                    };
                    self.flying[1 - at].push_back(Flying {
                        imm,
                        header,
                        payload,
                    });
                }
                Do::Complete { token, error } => {
                    self.fates[token as usize].error = Some(error.to_errno());
                }
                _ => {}
            }
        }
    }

    fn deliver(&mut self, at: usize) {
        let Some(flying) = self.flying[at].pop_front() else {
            return;
        };
        let side = &mut self.sides[at];
        let peer = &mut side.peer;
        let offset = peer
            .immediate(self.now, side.generation, flying.imm)
            .unwrap();
        if let Some(offset) = offset {
            match peer
                .message(self.now, side.generation, offset, &flying.header)
                .unwrap()
            {
                Received::Nothing => {}
                Received::Execute(request) => {
                    let tag = flying.payload.unwrap();
                    self.executions += 1;
                    self.fates[tag as usize].executions += 1;
                    self.running.push_back((request.call, tag, self.executions));
                }
                Received::Reply { token, .. } => {
                    self.fates[token as usize].replied = flying.payload;
                }
                Received::Failed { .. } => panic!("replies are small"),
            }
        }
        self.pump(at);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Submit => {
                let tag = self.fates.len() as u64;
                let call = NewCall {
                    port: 1,
                    len: 8,
                    reply: ReplyBuffer {
                        cap: 64,
                        ..ReplyBuffer::default()
                    },
                    deadline: DEADLINE,
                    nowait: false,
                    notify: false,
                    class: Class::Normal,
                };
                self.fates.push(Fate::default());
                self.sides[0].peer.submit(call, tag).unwrap();
                self.pump(0);
            }
            Step::Deliver(at) => self.deliver(at),
            Step::Return => {
                if let Some((call, tag, number)) = self.running.pop_front() {
                    let reply = (tag << 32) | number;
                    self.sides[1].peer.executed(call, 0, 8, Some(reply));
                    self.pump(1);
                }
            }
            Step::Repeat => {
                self.now += 500 * MS;
                self.sides[0].peer.tick(self.now);
                self.pump(0);
            }
            Step::Break => {
                self.lose(0);
                self.lose(1);
                self.connect();
            }
            Step::Map(at) => {
                let newest = self.sides.iter().map(|side| side.membership.epoch());
                let newest = newest.max().unwrap();
                if self.sides[at].membership.epoch() == newest {
                    self.epoch += 1;
                }
                self.publish(at);
            }
            Step::Restart => {
                self.epoch += 1;
                self.lives[1] += 1;
                self.running.clear();
                self.lose(0);
                self.sides[1] = side(1, self.lives[1]);
                self.publish(1);
                self.publish(0);
                self.connect();
            }
            Step::Expire => {
                self.now = DEADLINE;
                self.sides[0].peer.tick(self.now);
                self.pump(0);
            }
        }
    }

    fn digest(&self) -> String {
        let flying: Vec<_> = self
            .flying
            .iter()
            .flatten()
            .map(|flying| (flying.imm, flying.header, flying.payload))
            .collect();
        format!(
            "{:?} {:?} {:?} {flying:?} {:?} {:?} {} {}",
            self.sides[0].peer,
            self.sides[1].peer,
            self.fates,
            self.running,
            self.lives,
            self.epoch,
            self.now
        )
    }
}

#[derive(Clone, Debug)]
struct State {
    history: Vec<Step>,
    fates: Vec<Fate>,
    flying: [usize; 2],
    running: usize,
    epochs: [u64; 2],
    digest: String,
}

impl State {
    fn reach(history: Vec<Step>) -> Self {
        let mut cluster = Cluster::new();
        for step in &history {
            cluster.step(*step);
        }
        Self {
            history,
            flying: [cluster.flying[0].len(), cluster.flying[1].len()],
            running: cluster.running.len(),
            epochs: [0, 1].map(|at| cluster.sides[at].membership.epoch()),
            digest: cluster.digest(),
            fates: cluster.fates,
        }
    }

    fn count(&self, wanted: impl Fn(&Step) -> bool) -> usize {
        self.history.iter().filter(|step| wanted(step)).count()
    }

    fn expired(&self) -> bool {
        self.history.contains(&Step::Expire)
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl Model for Bounds {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::reach(Vec::new())]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let expired = state.expired();
        if !expired && state.fates.len() < self.calls {
            actions.push(Step::Submit);
        }
        for at in 0..2 {
            if state.flying[at] != 0 {
                actions.push(Step::Deliver(at));
            }
        }
        if state.running != 0 {
            actions.push(Step::Return);
        }
        if expired || state.fates.is_empty() {
            return;
        }
        if state.count(|step| *step == Step::Repeat) < self.repeats {
            actions.push(Step::Repeat);
        }
        if state.count(|step| *step == Step::Break) < self.breaks && state.epochs[0] != 0 {
            actions.push(Step::Break);
        }
        let maps = state.count(|step| matches!(step, Step::Map(_)));
        for at in 0..2 {
            let behind = state.epochs[at] < state.epochs[1 - at];
            if behind || maps < self.maps {
                actions.push(Step::Map(at));
            }
        }
        if state.count(|step| *step == Step::Restart) < self.restarts {
            actions.push(Step::Restart);
        }
        actions.push(Step::Expire);
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut history = last.history.clone();
        history.push(step);
        Some(State::reach(history))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a call is executed at most once", |_, state: &State| {
                state.fates.iter().all(|fate| fate.executions <= 1)
            }),
            Property::always(
                "a reply is of the call's own execution",
                |_, state: &State| {
                    let own = |(tag, fate): (usize, &Fate)| {
                        fate.replied
                            .is_none_or(|reply| reply >> 32 == tag as u64 && fate.executions == 1)
                    };
                    state.fates.iter().enumerate().all(own)
                },
            ),
            Property::always(
                "ESTALE says that it was not executed",
                |_, state: &State| {
                    let stale = |fate: &Fate| fate.error.map(Error::from_errno) == Some(ESTALE);
                    state
                        .fates
                        .iter()
                        .all(|fate| !stale(fate) || fate.executions == 0)
                },
            ),
            Property::always("a call ends once", |_, state: &State| {
                let twice = |fate: &Fate| fate.replied.is_some() && fate.error.is_some();
                !state.fates.iter().any(twice)
            }),
            Property::always("a call ends by its deadline", |_, state: &State| {
                let ended = |fate: &Fate| fate.replied.is_some() || fate.error.is_some();
                !state.expired() || state.fates.iter().all(ended)
            }),
            Property::sometimes("calls are answered", |_, state: &State| {
                !state.fates.is_empty() && state.fates.iter().all(|fate| fate.replied.is_some())
            }),
            Property::sometimes("a call that was executed times out", |_, state: &State| {
                let lost = |fate: &Fate| {
                    fate.executions == 1 && fate.error.map(Error::from_errno) == Some(ETIMEDOUT)
                };
                state.fates.iter().any(lost)
            }),
            Property::sometimes(STALE, |_, state: &State| {
                let stale = |fate: &Fate| fate.error.map(Error::from_errno) == Some(ESTALE);
                state.fates.iter().any(stale)
            }),
        ]
    }
}

fn check(bounds: Bounds) {
    let checker = bounds
        .checker()
        .threads(std::thread::available_parallelism().map_or(1, usize::from))
        .spawn_bfs()
        .join();
    println!("{bounds:?}: {} states", checker.unique_state_count());
    for property in checker.model().properties() {
        match property.expectation {
            Expectation::Always => checker.assert_no_discovery(property.name),
            // Without new maps and restarts no call gets stale.
            _ if property.name == STALE && bounds.maps + bounds.restarts == 0 => {}
            _ => {
                checker.assert_any_discovery(property.name);
            }
        }
    }
}

#[test]
fn repetitions_and_breaks_never_execute_a_call_twice() {
    check(Bounds {
        calls: 2,
        repeats: 1,
        breaks: 1,
        maps: 0,
        restarts: 0,
    });
}

#[test]
fn new_maps_never_execute_a_call_twice() {
    check(Bounds {
        calls: 2,
        repeats: 0,
        breaks: 1,
        maps: 1,
        restarts: 0,
    });
}

#[test]
fn a_restart_of_the_callee_never_executes_a_call_twice() {
    check(Bounds {
        calls: 1,
        repeats: 2,
        breaks: 2,
        maps: 1,
        restarts: 1,
    });
}
