// SPDX-License-Identifier: GPL-2.0

//! The world: nodes, network, control plane, workload and chaos, from one seed.

use super::{
    board::Cluster,
    history::{check, Call, Event as Deed, Outcome},
    memory::Memory,
};
use crate::{
    net::{Faults, Network},
    schedule::{tracing, Rng, Schedule, Time, MS, SEC, US},
};
use clio_cn_core::core::{
    control::{Region, VA_BASE},
    engine::{Action, Config, Engine, Packet},
    op::{Data, Kind, NewOp},
    peer::MapNode,
    rtt,
    table::Key,
    window,
    wire::{flags, rights, Header},
};
use kernel::{error::code::*, error::Error, siphash};
use std::{collections::BTreeMap, rc::Rc};

const SECRET: [u64; 2] = [0x0123_4567_89ab_cdef, 0x0f1e_2d3c_4b5a_6978];
const KEY: siphash::Key = siphash::Key::new(SECRET);
const RAS: u64 = (1 << 48) | 1;
const SHIFT: u8 = 24;
/// Ids of memory nodes are above this.
const MEMORY: u16 = 100;
/// Operations recorded for a word.
const WORD_OPS: usize = 60;
/// Bytes allocated from the beginning: at both ends of each region.
const PREPARED: u64 = 1 << 20;

/// What is wrong with this world on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Memory nodes do not remember what they executed.
    NoDeeds,
    /// What is remembered does not go with the region.
    MigrationForgetsDeeds,
    /// A lock can be had twice.
    LocksAreShared,
    /// A memory node that lost its memory serves zeros.
    ServesZeros,
    /// A retry does not say that it is one.
    RetriesAsNew,
    /// Operations do not wait for those that they depend on.
    NoOrder,
}

/// What happens to a world besides its workload.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// Compute nodes, memory nodes.
    pub nodes: (u16, u16),
    /// Clients of each compute node.
    pub clients: usize,
    /// For how long.
    pub time: Time,
    /// Mean time between two faults; 0 for a good network without faults.
    pub fault_every: Time,
    /// Whether nodes crash.
    pub crashes: bool,
    /// Memory nodes are legomem's own; else a model of what they should be.
    pub legomem: bool,
    /// What is wrong on purpose.
    pub bug: Option<Bug>,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Operations that succeeded, and that did not.
    pub done: u64,
    /// Operations of which nobody knows, or that failed.
    pub failed: u64,
    /// Packets, and those sent again.
    pub packets: u64,
    /// Packets sent again.
    pub retries: u64,
    /// Requests that a memory node knew already.
    pub repeated: u64,
    /// Requests that went elsewhere.
    pub moved: u64,
    /// Lock sections that were completed.
    pub sections: u64,
    /// Whether memory was lost.
    pub lost: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.packets += other.packets;
        self.retries += other.retries;
        self.repeated += other.repeated;
        self.moved += other.moved;
        self.sections += other.sections;
        self.lost += other.lost;
    }
}

/// The edge's half of an operation.
#[derive(Debug)]
struct Half {
    ticket: usize,
    bytes: Rc<Vec<u8>>,
    read: Vec<u8>,
}

impl Data for Half {
    type Bytes = Rc<Vec<u8>>;

    fn bytes(&self) -> Rc<Vec<u8>> {
        self.bytes.clone()
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.read[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}

/// What an operation is for.
#[derive(Clone, Copy, Debug)]
enum What {
    Word { word: usize, call: Call },
    Lock { who: u32 },
    Unlock,
    BulkWrite,
    BulkRead { pattern: u64, len: usize },
    Release,
    Alloc { len: u64 },
    Fill,
    Free,
}

#[derive(Debug)]
struct Ticket {
    client: usize,
    what: What,
    from: Time,
    until: Time,
    /// Position in the history of its word.
    at: usize,
    /// Of a release: what it has to wait for.
    before: Vec<usize>,
    over: bool,
}

/// A client's critical section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    None,
    Locking,
    Reading,
    Writing,
    Unlocking,
}

struct Client {
    node: u16,
    stream: Key,
    outstanding: usize,
    section: Section,
    who: u32,
    /// What of its range may still change by packets that are late.
    tainted: bool,
    /// What the last write put into its range, while that is known.
    bulk: Option<(u64, usize)>,
    allocation: Option<(u64, u64)>,
}

struct Compute {
    life: u64,
    engine: Engine<Half>,
    space: Key,
    armed: Time,
    map: usize,
}

enum Event {
    Packet {
        from: u16,
        to: u16,
        bytes: Vec<u8>,
    },
    Tick {
        node: u16,
        life: u64,
    },
    Client(usize),
    Told {
        node: u16,
        life: u64,
        table: Option<Vec<Region>>,
    },
    Granted {
        node: u16,
        life: u64,
        op: Key,
        first: Option<u32>,
    },
    Fault,
    Publish {
        node: u16,
        map: usize,
    },
    Start(u16),
    Swing {
        index: u32,
        from: (u16, u64),
        to: (u16, u64),
    },
    /// Migrations go on.
    Step,
    Resume {
        index: u32,
        at: (u16, u64),
    },
}

/// Compute nodes, memory nodes, and all around them.
pub struct World {
    chaos: Chaos,
    rng: Rng,
    schedule: Schedule<Event>,
    net: Network,
    payload: u32,
    computes: BTreeMap<u16, Compute>,
    memories: BTreeMap<u16, (u64, Memory)>,
    real: Option<Cluster>,
    ras: u64,
    lives: u64,
    /// Life of each node, and whether it is up.
    maps: Vec<Vec<(u16, u64, bool)>>,
    current: BTreeMap<u16, (u64, bool)>,
    /// Which node, in which life, has each region; `None`: lost.
    table: Vec<Option<(u16, u64)>>,
    lost_at: Vec<Time>,
    clients: Vec<Client>,
    tickets: Vec<Ticket>,
    words: Vec<u64>,
    histories: Vec<Vec<Deed>>,
    lock: u64,
    holder: Option<(usize, u32)>,
    allocations: Vec<(u64, u64)>,
    calm: bool,
    summary: Summary,
}

macro_rules! trace {
    ($self:ident, $($arg:tt)*) => {
        if tracing() {
            println!("{:>12} {}", $self.schedule.now(), format_args!($($arg)*));
        }
    };
}

fn start_of(index: u32) -> u64 {
    VA_BASE + (u64::from(index) << SHIFT)
}

fn pattern(pattern: u64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| {
            (pattern
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(at as u32 / 7)
                >> 13) as u8
                ^ at as u8
        })
        .collect()
}

impl World {
    /// A world from a seed.
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let mut rng = Rng::new(seed);
        let bad = chaos.fault_every != 0;
        let faults = if bad {
            Faults::random(&mut rng)
        } else {
            Faults::NONE
        };
        let regions = rng.range(2..5) as u32;
        let mut this = Self {
            payload: *rng.pick(&[1344, 4096, 8192]),
            net: Network::new(faults),
            schedule: Schedule::new(),
            computes: BTreeMap::new(),
            memories: BTreeMap::new(),
            real: None,
            ras: RAS,
            lives: 1,
            maps: Vec::new(),
            current: BTreeMap::new(),
            table: Vec::new(),
            lost_at: Vec::new(),
            clients: Vec::new(),
            tickets: Vec::new(),
            words: Vec::new(),
            histories: Vec::new(),
            lock: 0,
            holder: None,
            allocations: Vec::new(),
            calm: false,
            summary: Summary::default(),
            rng,
            chaos,
        };
        if chaos.legomem {
            // The home, which has no regions and does not crash.
            let cluster = Cluster::new(MEMORY, 1, SECRET, SHIFT);
            this.ras = cluster.ras;
            this.real = Some(cluster);
            this.current.insert(MEMORY, (1, true));
        }
        for at in 0..chaos.nodes.1 {
            this.start_memory(MEMORY + 1 + at);
        }
        for index in 0..regions {
            this.add_region(MEMORY + 1 + (index as u16 % chaos.nodes.1));
        }
        // Words: some on a page together, some on nodes of their own. The last is the one
        // that the lock protects.
        for at in 0..5u64 {
            this.words
                .push(start_of(at as u32 % regions) + PREPARED / 2 + 8 * at + 4096 * (at / 3));
        }
        this.histories = vec![Vec::new(); this.words.len()];
        this.lock = start_of(regions - 1) + PREPARED / 2 + 3 * 4096;
        for node in 1..=chaos.nodes.0 {
            this.start_compute(node);
            for _ in 0..chaos.clients {
                this.add_client(node);
            }
        }
        let map = this.new_map();
        for node in this.current.keys().copied().collect::<Vec<_>>() {
            this.publish(node, map);
        }
        if bad {
            this.schedule.after(chaos.fault_every, Event::Fault);
        }
        this
    }

    fn start_memory(&mut self, node: u16) {
        self.lives += 1;
        if let Some(real) = &mut self.real {
            real.start(node, self.lives);
            self.current.insert(node, (self.lives, true));
            self.know_all();
            return;
        }
        let mut memory = Memory::new(KEY, RAS, SHIFT, self.chaos.bug);
        memory.forgetful = self.chaos.bug == Some(Bug::ServesZeros);
        self.memories.insert(node, (self.lives, memory));
        self.current.insert(node, (self.lives, true));
    }

    /// At the beginning: all memory nodes know each other.
    fn know_all(&self) {
        if let (Some(real), true) = (&self.real, self.maps.is_empty()) {
            let up: Vec<_> = self
                .current
                .iter()
                .map(|(id, (life, _))| (*id, *life))
                .collect();
            up.iter().for_each(|(id, _)| real.know(*id, 1, &up));
        }
    }

    fn add_region(&mut self, node: u16) -> u32 {
        let index = self.table.len() as u32;
        if let Some(real) = &mut self.real {
            real.prepare(index, SHIFT, PREPARED);
            self.table.push(None);
            self.lost_at.push(Time::MAX);
            return index;
        }
        let (life, memory) = self.memories.get_mut(&node).expect("it is there");
        let mut region = super::memory::Region::default();
        let start = start_of(index);
        region.allocated.insert(start, PREPARED);
        region
            .allocated
            .insert(start + (1 << SHIFT) - PREPARED, PREPARED);
        memory.regions.insert(index, region);
        self.table.push(Some((node, *life)));
        self.lost_at.push(Time::MAX);
        index
    }

    fn start_compute(&mut self, node: u16) {
        self.lives += 1;
        let life = self.lives;
        let mut engine = Engine::new(Config {
            node: node.into(),
            incarnation: life,
            payload: self.payload,
            ops: 64,
            requests: 24,
            users: 64,
            rtt: rtt::Config {
                initial: 3 * MS,
                timeout_min: 500 * US,
                timeout_max: 40 * MS,
                memory: SEC,
            },
            window: window::Config {
                initial: 4,
                max: 64,
                slack: 20 * US,
                incast: 128 << 10,
            },
            pause: 100 * US..5 * MS,
        })
        .expect("a sound configuration");
        let space = engine
            .add_space(self.ras, KEY, SHIFT)
            .expect("there is room");
        self.current.insert(node, (life, true));
        self.computes.insert(
            node,
            Compute {
                life,
                engine,
                space,
                armed: Time::MAX,
                map: usize::MAX,
            },
        );
    }

    fn add_client(&mut self, node: u16) {
        let compute = self.computes.get_mut(&node).expect("it is there");
        let stream = compute.engine.add_stream().expect("there is room");
        self.clients.push(Client {
            node,
            stream,
            outstanding: 0,
            section: Section::None,
            who: 0,
            tainted: false,
            bulk: None,
            allocation: None,
        });
        let delay = self.rng.range(0..MS);
        self.schedule
            .after(delay, Event::Client(self.clients.len() - 1));
    }

    fn new_map(&mut self) -> usize {
        let map = self
            .current
            .iter()
            .map(|(node, (life, up))| (*node, *life, *up))
            .collect();
        self.maps.push(map);
        self.maps.len() - 1
    }

    /// Everybody hears of the present state, some later than others.
    fn announce(&mut self) {
        let map = self.new_map();
        for node in self.current.keys().copied().collect::<Vec<_>>() {
            let delay = self.rng.range(0..10 * MS);
            self.schedule.after(delay, Event::Publish { node, map });
        }
    }

    fn publish(&mut self, node: u16, map: usize) {
        let nodes = self.maps[map].clone();
        let lives: Vec<_> = nodes
            .iter()
            .map(|(id, life, _)| (u32::from(*id), *life))
            .collect();
        let now = self.schedule.now();
        if let Some(compute) = self.computes.get_mut(&node) {
            if compute.map != usize::MAX && compute.map >= map {
                return;
            }
            compute.map = map;
            let peers: Vec<_> = nodes
                .iter()
                .filter(|(id, ..)| *id > MEMORY)
                .map(|(id, incarnation, up)| MapNode {
                    id: (*id).into(),
                    up: *up,
                    incarnation: *incarnation,
                })
                .collect();
            compute
                .engine
                .set_map(now, map as u64 + 2, &peers)
                .expect("no allocation fails");
            self.work(node);
        } else if let Some(real) = &self.real {
            let up: Vec<_> = nodes
                .iter()
                .filter(|(.., up)| *up)
                .map(|(id, life, _)| (*id, *life))
                .collect();
            real.know(node, map as u32 + 2, &up);
        } else if let Some((_, memory)) = self.memories.get_mut(&node) {
            memory.know(map, lives, self.lock);
        }
    }

    /// Carries out what the engine of a node wants.
    fn work(&mut self, node: u16) {
        let now = self.schedule.now();
        while let Some(action) = self
            .computes
            .get_mut(&node)
            .and_then(|compute| compute.engine.poll(now))
        {
            match action {
                Action::Send(packet) => self.send(node, packet),
                Action::Done { data, result, .. } => self.done(data, result),
                Action::Ask { .. } => {
                    let table = self.rng.one_in(8).then_some(());
                    let table = (table.is_none() || self.calm).then(|| self.rows());
                    let delay = self.rng.range(20 * US..2 * MS);
                    let life = self.computes[&node].life;
                    self.schedule
                        .after(delay, Event::Told { node, life, table });
                }
                Action::Grow { op, len, not, .. } => {
                    let first = match &self.real {
                        Some(real) => real.grow(len, not).ok(),
                        None => self.grow(),
                    };
                    let delay = self.rng.range(20 * US..2 * MS);
                    let life = self.computes[&node].life;
                    self.schedule.after(
                        delay,
                        Event::Granted {
                            node,
                            life,
                            op,
                            first,
                        },
                    );
                }
            }
        }
        if let Some(compute) = self.computes.get_mut(&node) {
            let next = compute.engine.next_tick();
            if next < compute.armed {
                compute.armed = next;
                let life = compute.life;
                self.schedule.at(next, Event::Tick { node, life });
            }
        }
    }

    fn grow(&mut self) -> Option<u32> {
        let up: Vec<_> = self.memories.keys().copied().collect();
        let room = self.table.len() < 6 && !up.is_empty();
        room.then(|| {
            let node = *self.rng.pick(&up);
            self.add_region(node)
        })
    }

    fn rows(&self) -> Vec<Region> {
        if let Some(real) = &self.real {
            let row = |region: &legomem_core::core::control::Region| Region {
                index: region.index,
                node: region.node,
                port: region.port,
                allowance: region.allowance,
                incarnation: region.incarnation,
            };
            return real.rows().iter().map(row).collect();
        }
        self.table
            .iter()
            .enumerate()
            .map(|(index, place)| Region {
                index: index as u32,
                node: place.map_or(0, |(node, _)| node),
                port: 1,
                allowance: 1 << SHIFT,
                incarnation: place.map_or(0, |(_, life)| life),
            })
            .collect()
    }

    fn send(&mut self, node: u16, packet: Packet<Rc<Vec<u8>>>) {
        let mut header = packet.header;
        if self.chaos.bug == Some(Bug::RetriesAsNew) {
            header.flags &= !flags::RETRY;
            header.first = header.id;
        }
        let payload = packet
            .payload
            .as_ref()
            .map_or(&[][..], |(bytes, range)| &bytes[range.clone()]);
        assert!(payload.len() <= self.payload as usize);
        let mut bytes = header.seal(&packet.key, payload).to_vec();
        bytes.extend_from_slice(payload);
        trace!(
            self,
            "{node} -> {}: {:?} {:x} id {:x} first {:x} at {}",
            packet.to.0,
            header.op,
            header.addr,
            header.id,
            header.first,
            header.offset
        );
        self.transmit(node, packet.to.0 as u16, bytes);
    }

    fn transmit(&mut self, from: u16, to: u16, bytes: Vec<u8>) {
        let now = self.schedule.now();
        let times: Vec<_> = self.net.datagram(&mut self.rng, now, from, to).collect();
        for at in times {
            let bytes = bytes.clone();
            self.schedule.at(at, Event::Packet { from, to, bytes });
        }
    }

    fn submit(
        &mut self,
        client: usize,
        what: What,
        kind: Kind,
        addr: u64,
        len: u64,
        bytes: Vec<u8>,
    ) -> bool {
        let now = self.schedule.now();
        let patience = if self.calm {
            2 * SEC
        } else {
            self.rng.range(5 * MS..150 * MS)
        };
        let node = self.clients[client].node;
        let Some(compute) = self.computes.get_mut(&node) else {
            return false;
        };
        let mut stream = self.clients[client].stream;
        if self.chaos.bug == Some(Bug::NoOrder) {
            stream = compute.engine.add_stream().unwrap_or(stream);
        }
        let read = match kind {
            Kind::Read | Kind::FlushFetch { .. } => vec![0; len as usize],
            _ => Vec::new(),
        };
        let ticket = self.tickets.len();
        let new = NewOp {
            stream,
            space: compute.space,
            kind,
            addr,
            len,
            until: now + patience,
            data: Half {
                ticket,
                bytes: Rc::new(bytes),
                read,
            },
        };
        match compute.engine.submit(new) {
            Ok(_) => {}
            Err((EAGAIN, _)) => return false,
            Err((error, _)) => panic!("{what:?} is refused: {error:?}"),
        }
        trace!(
            self,
            "client {client} submits {ticket}: {what:?} until {}",
            now + patience
        );
        let mut at = 0;
        if let What::Word { word, call } = what {
            at = self.histories[word].len();
            self.histories[word].push(Deed {
                stream: client as u32,
                call,
                from: now,
                to: Time::MAX,
                outcome: Outcome::Unknown,
            });
        }
        let ticket = Ticket {
            client,
            what,
            from: now,
            until: now + patience,
            at,
            before: match what {
                What::Release => self.unfinished(client),
                _ => Vec::new(),
            },
            over: false,
        };
        self.tickets.push(ticket);
        self.clients[client].outstanding += 1;
        self.work(node);
        true
    }

    fn unfinished(&self, client: usize) -> Vec<usize> {
        let mine = |ticket: &Ticket| ticket.client == client && !ticket.over;
        let tickets = self.tickets.iter().enumerate();
        tickets
            .filter(|(_, ticket)| mine(ticket))
            .map(|(at, _)| at)
            .collect()
    }

    fn region_of(addr: u64) -> usize {
        ((addr - VA_BASE) >> SHIFT) as usize
    }

    fn done(&mut self, half: Half, result: Result<u64, Error>) {
        let now = self.schedule.now();
        let ticket = &mut self.tickets[half.ticket];
        let (client, what, from, at) = (ticket.client, ticket.what, ticket.from, ticket.at);
        assert!(!ticket.over, "{what:?} ends twice");
        ticket.over = true;
        assert!(now <= ticket.until + MS, "{what:?} hangs past its deadline");
        trace!(
            self,
            "client {client} hears of {}: {what:?} {result:?}",
            half.ticket
        );
        match result {
            Ok(_) => self.summary.done += 1,
            Err(error) => {
                self.summary.failed += 1;
                let fair = [ETIMEDOUT, EIO, EHOSTDOWN].contains(&error)
                    || matches!((what, error), (What::Alloc { .. }, ENOSPC))
                    // It may have been given back by a try whose answer is lost.
                    || matches!((what, error), (What::Unlock, EPERM) | (What::Free, EINVAL))
                    || matches!(what, What::Fill) && error == EFAULT;
                assert!(fair, "{what:?} fails with {error:?}");
                if self.calm
                    && self.chaos.bug.is_none()
                    && error == ETIMEDOUT
                    && from > self.chaos.time + SEC
                {
                    assert!(
                        matches!(what, What::Lock { .. }),
                        "{what:?} times out in a good network"
                    );
                }
            }
        }
        self.clients[client].outstanding -= 1;
        match what {
            What::Word { word, call } => {
                let value = match (call, half.read.len()) {
                    (Call::Read, 8) => {
                        u64::from_le_bytes(half.read[..].try_into().expect("8 bytes"))
                    }
                    _ => result.unwrap_or(0),
                };
                let region = Self::region_of(self.words[word]);
                assert!(
                    result.is_err() || from <= self.lost_at[region],
                    "{what:?} works on memory that was lost"
                );
                let deed = &mut self.histories[word][at];
                deed.to = now;
                deed.outcome = result.map_or(Outcome::Unknown, |_| Outcome::Done(value));
                if word + 1 == self.words.len() {
                    self.next_step(client, result.map(|_| value));
                }
            }
            What::Lock { who } => self.locked(client, who, result),
            What::Unlock => {
                self.clients[client].section = Section::None;
                self.summary.sections += u64::from(result.is_ok());
            }
            What::BulkWrite => {
                let bulk = &mut self.clients[client].bulk;
                if result.is_err() {
                    *bulk = None;
                    // Late packets of it may still arrive: its bytes are never known again.
                    self.clients[client].tainted = true;
                }
            }
            What::BulkRead {
                pattern: number,
                len,
            } => {
                if result.is_ok() && !self.clients[client].tainted {
                    assert!(
                        half.read == pattern(number, len),
                        "a range reads as it was not written"
                    );
                }
            }
            What::Release => {
                let all = self.tickets[half.ticket]
                    .before
                    .iter()
                    .all(|ticket| self.tickets[*ticket].over);
                assert!(
                    all || result.is_err() || self.chaos.bug == Some(Bug::NoOrder),
                    "a release overtakes"
                );
            }
            What::Alloc { len } => {
                if let Ok(addr) = result {
                    let clash = self
                        .allocations
                        .iter()
                        .any(|(begin, size)| addr < begin + size && *begin < addr + len);
                    assert!(!clash, "{addr:x} is allocated twice");
                    self.allocations.push((addr, len));
                    self.clients[client].allocation = Some((addr, len));
                }
            }
            What::Fill => {}
            What::Free => {}
        }
    }

    fn locked(&mut self, client: usize, who: u32, result: Result<u64, Error>) {
        if result.is_ok() {
            let region = Self::region_of(self.lock);
            assert!(self.lost_at[region] == Time::MAX || self.tickets.iter().any(|_| true));
            if let Some((other, _)) = self.holder {
                assert!(
                    self.lost_at[region] != Time::MAX,
                    "{client} and {other} have the lock"
                );
            }
            self.holder = Some((client, who));
            self.clients[client].section = Section::Reading;
            let word = self.words.len() - 1;
            self.word_op(client, word, Call::Read);
        } else {
            // It may be ours, without our knowing.
            self.clients[client].section = Section::Unlocking;
            let kind = Kind::Unlock { who };
            if !self.submit(client, What::Unlock, kind, self.lock, 8, Vec::new()) {
                self.clients[client].section = Section::None;
            }
        }
    }

    /// The name by which a client has the lock, unlike any other of its node.
    fn who(&self, client: usize) -> u32 {
        ((client as u32) << 16) | self.clients[client].who
    }

    /// A critical section goes on.
    fn next_step(&mut self, client: usize, result: Result<u64, Error>) {
        let word = self.words.len() - 1;
        match (self.clients[client].section, result) {
            (Section::Reading, Ok(value)) if self.histories[word].len() < WORD_OPS => {
                self.clients[client].section = Section::Writing;
                if self.word_op(client, word, Call::Write(value + 1)) {
                    return;
                }
            }
            (Section::Reading | Section::Writing, _) => {}
            _ => return,
        }
        let who = self.who(client);
        if self.holder.is_some_and(|holder| holder.0 == client) {
            self.holder = None;
        }
        self.clients[client].section = Section::Unlocking;
        if !self.submit(
            client,
            What::Unlock,
            Kind::Unlock { who },
            self.lock,
            8,
            Vec::new(),
        ) {
            self.clients[client].section = Section::None;
        }
    }

    fn word_op(&mut self, client: usize, word: usize, call: Call) -> bool {
        let addr = self.words[word];
        let what = What::Word { word, call };
        let (kind, bytes) = match call {
            Call::Read => (Kind::Read, Vec::new()),
            Call::Write(value) => (Kind::Write, value.to_le_bytes().to_vec()),
            Call::TestAndSet => (Kind::TestAndSet, Vec::new()),
            Call::CompareAndSwap(expected, desired) => (
                Kind::CompareAndSwap { expected },
                desired.to_le_bytes().to_vec(),
            ),
            Call::FetchAndAdd(value) => (Kind::FetchAndAdd { value }, Vec::new()),
        };
        self.submit(client, what, kind, addr, 8, bytes)
    }

    /// A client does something.
    fn step(&mut self, client: usize) {
        if !self.calm {
            let delay = self.rng.range(50 * US..3 * MS);
            self.schedule.after(delay, Event::Client(client));
        }
        if self.clients[client].outstanding > 6 || self.calm {
            return;
        }
        let fresh = self.tickets.len() as u64 + 10;
        match self.rng.range(0..20) {
            0..12 => {
                let word = self.rng.index(self.words.len() - 1);
                if self.histories[word].len() >= WORD_OPS {
                    return;
                }
                let call = match self.rng.range(0..8) {
                    0..3 => Call::Read,
                    3..5 => Call::Write(fresh),
                    5 => Call::TestAndSet,
                    6 => Call::CompareAndSwap(*self.rng.pick(&[0, 1, fresh - 1]), fresh),
                    _ => Call::FetchAndAdd(1 << 32),
                };
                self.word_op(client, word, call);
            }
            12..14 => {
                let word = self.words.len() - 1;
                if self.clients[client].section == Section::None
                    && self.histories[word].len() < WORD_OPS
                {
                    self.clients[client].section = Section::Locking;
                    self.clients[client].who += 1;
                    let who = self.who(client);
                    let what = What::Lock { who };
                    if !self.submit(client, what, Kind::Lock { who }, self.lock, 8, Vec::new()) {
                        self.clients[client].section = Section::None;
                    }
                }
            }
            14..17 => self.bulk(client, fresh),
            17 => {
                let kind = *self.rng.pick(&[Kind::Release, Kind::Fence]);
                self.submit(client, What::Release, kind, 0, 0, Vec::new());
            }
            _ => self.allocation(client),
        }
    }

    /// Reads or writes the client's own range, which may cross regions.
    fn bulk(&mut self, client: usize, number: u64) {
        let addr = start_of(1) - (client as u64) * 128 * 1024 - 40_000;
        if let (Some((number, len)), true) = (self.clients[client].bulk, self.rng.one_in(2)) {
            let what = What::BulkRead {
                pattern: number,
                len,
            };
            self.submit(client, what, Kind::Read, addr, len as u64, Vec::new());
            return;
        }
        let len = self.rng.range(1..120_000) as usize;
        let before = self.clients[client].bulk;
        self.clients[client].bulk = Some((number, len));
        let what = What::BulkWrite;
        if !self.submit(
            client,
            what,
            Kind::Write,
            addr,
            len as u64,
            pattern(number, len),
        ) {
            self.clients[client].bulk = before;
        }
    }

    /// Allocates, or uses and frees what it has.
    fn allocation(&mut self, client: usize) {
        match self.clients[client].allocation.take() {
            Some((addr, len)) => {
                let (from, to) = (addr, addr + len / 2);
                self.submit(
                    client,
                    What::Fill,
                    Kind::FlushFetch { write: to },
                    from,
                    len / 2,
                    vec![7; len as usize / 2],
                );
                if self.submit(client, What::Free, Kind::Free, addr, len, Vec::new()) {
                    self.allocations.retain(|known| known.0 != addr);
                }
            }
            None => {
                let len = self.rng.range(1..5) << 14;
                let rights = rights::ALL;
                self.submit(
                    client,
                    What::Alloc { len },
                    Kind::Alloc { rights },
                    0,
                    len,
                    Vec::new(),
                );
            }
        }
    }

    fn fault(&mut self) {
        let delay = self.rng.range(1..2 * self.chaos.fault_every);
        self.schedule.after(delay, Event::Fault);
        let all: Vec<_> = self.current.keys().copied().collect();
        match self.rng.range(0..10) {
            0..2 => {
                let faults = Faults::random(&mut self.rng);
                self.net.set_faults(faults);
            }
            2 => {
                let (one, two) = (*self.rng.pick(&all), *self.rng.pick(&all));
                self.net.cut(one, two);
            }
            3 => {
                let alone = [*self.rng.pick(&all)];
                self.net.partition(&alone, &all);
            }
            4..6 => self.net.heal(),
            6..9 => self.migrate(),
            _ if self.chaos.crashes => {
                let node = *self.rng.pick(&all);
                self.crash(node);
            }
            _ => {}
        }
    }

    /// A region begins to move.
    fn migrate(&mut self) {
        let index = self.rng.index(self.table.len());
        if let Some(real) = &mut self.real {
            let to = MEMORY + 1 + self.rng.range(0..self.chaos.nodes.1.into()) as u16;
            trace!(self, "region {index} shall move to {to}");
            real.migrate(index as u32, to);
            self.schedule.after(0, Event::Step);
            return;
        }
        let up: Vec<_> = self
            .memories
            .iter()
            .map(|(node, (life, _))| (*node, *life))
            .collect();
        let (Some(from), false) = (self.table[index], up.is_empty()) else {
            return;
        };
        let to = *self.rng.pick(&up);
        let Some((life, memory)) = self.memories.get_mut(&from.0) else {
            return;
        };
        let region = memory.regions.get_mut(&(index as u32));
        let Some(region) = region.filter(|region| !region.paused) else {
            return;
        };
        if to.0 == from.0 || *life != from.1 {
            return;
        }
        region.paused = true;
        trace!(self, "region {index} moves from {from:?} to {to:?}");
        let delay = self.rng.range(100 * US..8 * MS);
        let index = index as u32;
        self.schedule.after(delay, Event::Swing { index, from, to });
    }

    fn swing(&mut self, index: u32, from: (u16, u64), to: (u16, u64)) {
        let there = self
            .memories
            .get(&to.0)
            .is_some_and(|(life, _)| *life == to.1);
        let Some((life, memory)) = self.memories.get_mut(&from.0) else {
            return;
        };
        if *life != from.1 {
            return;
        }
        if !there {
            self.schedule.after(MS, Event::Resume { index, at: from });
            return;
        }
        let Some(region) = memory.take(index) else {
            return;
        };
        if let Some((_, memory)) = self.memories.get_mut(&to.0) {
            memory.regions.insert(index, region);
        }
        self.table[index as usize] = Some(to);
    }

    fn crash(&mut self, node: u16) {
        let now = self.schedule.now();
        trace!(self, "{node} crashes");
        if let Some(compute) = self.computes.remove(&node) {
            self.count(&compute.engine);
            for ticket in self.tickets.iter_mut() {
                ticket.over |= self.clients[ticket.client].node == node;
            }
            for (at, client) in self.clients.iter_mut().enumerate() {
                if client.node == node {
                    client.outstanding = 0;
                    client.section = Section::None;
                    client.bulk = None;
                    client.tainted = true;
                    client.allocation = None;
                    if self.holder.is_some_and(|holder| holder.0 == at) {
                        self.holder = None;
                    }
                }
            }
        } else if let Some(real) = self.real.as_mut().filter(|real| real.has(node)) {
            if node == MEMORY {
                return;
            }
            self.summary.lost += 1;
            for region in real.rows().iter().filter(|region| region.node == node) {
                if let Some(lost) = self.lost_at.get_mut(region.index as usize) {
                    *lost = now;
                }
            }
            real.crash(node);
        } else if let Some((life, memory)) = self.memories.remove(&node) {
            self.summary.repeated += memory.repeated;
            self.summary.lost += 1;
            for (index, place) in self.table.iter_mut().enumerate() {
                if *place == Some((node, life)) {
                    self.lost_at[index] = now;
                    *place = None;
                    if self.chaos.bug == Some(Bug::ServesZeros) {
                        *place = Some((node, 0));
                    }
                }
            }
        } else {
            return;
        }
        self.current.insert(node, (0, false));
        self.announce();
        let delay = self.rng.range(5 * MS..60 * MS);
        self.schedule.after(delay, Event::Start(node));
    }

    fn start(&mut self, node: u16) {
        if node > MEMORY {
            self.start_memory(node);
        } else {
            self.start_compute(node);
            let map = self.maps.len() - 1;
            let compute = self.computes.get_mut(&node).expect("just made");
            for client in self.clients.iter_mut().filter(|client| client.node == node) {
                client.stream = compute.engine.add_stream().expect("there is room");
            }
            self.publish(node, map);
        }
        trace!(self, "{node} starts");
        self.announce();
    }

    fn count(&mut self, engine: &Engine<Half>) {
        let stats = engine.stats();
        self.summary.packets += stats.packets;
        self.summary.retries += stats.retries;
        self.summary.moved += stats.moved;
    }

    fn receive(&mut self, from: u16, to: u16, bytes: &[u8]) {
        let now = self.schedule.now();
        if let Some(compute) = self.computes.get_mut(&to) {
            let Ok((header, payload)) = Header::parse(bytes) else {
                return;
            };
            trace!(
                self,
                "{from} -> {to}: {:?} of {:?} id {:x}",
                header.status,
                header.op,
                header.id
            );
            let Some(key) = compute.engine.key_for(&header) else {
                return;
            };
            if Header::verify(bytes, &key).is_ok() || header.flags & flags::UNSIGNED != 0 {
                compute.engine.answer(now, &header, payload);
            }
            self.work(to);
        } else if let Some(real) = &self.real {
            for answer in real.packet(to, bytes) {
                self.transmit(to, from, answer);
            }
        } else if let Some((_, memory)) = self.memories.get_mut(&to) {
            for answer in memory.packet(self.maps.len() as u32, bytes) {
                self.transmit(to, from, answer);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        let now = self.schedule.now();
        match event {
            Event::Packet { from, to, bytes } => self.receive(from, to, &bytes),
            Event::Tick { node, life } => {
                if let Some(compute) = self.computes.get_mut(&node) {
                    if compute.life == life && compute.armed <= now {
                        compute.armed = Time::MAX;
                        compute.engine.tick(now);
                        self.work(node);
                    }
                }
            }
            Event::Client(client) => self.step(client),
            Event::Told { node, life, table } => {
                let Some(compute) = self.computes.get_mut(&node) else {
                    return;
                };
                if compute.life == life {
                    let space = compute.space;
                    match table {
                        Some(rows) => {
                            let learned = compute.engine.learn(now, space, &rows, true);
                            learned.expect("no allocation fails");
                        }
                        None => compute.engine.no_regions(now, space, ETIMEDOUT),
                    }
                    self.work(node);
                }
            }
            Event::Granted {
                node,
                life,
                op,
                first,
            } => {
                let rows = self.rows();
                let Some(compute) = self.computes.get_mut(&node) else {
                    return;
                };
                if compute.life == life {
                    let learned = compute.engine.learn(now, compute.space, &rows, false);
                    learned.expect("no allocation fails");
                    compute.engine.grown(op, first.ok_or(ENOSPC));
                    self.work(node);
                }
            }
            Event::Fault if self.calm => {}
            Event::Fault => self.fault(),
            Event::Publish { node, map } => self.publish(node, map),
            Event::Start(node) => self.start(node),
            Event::Step => {
                if self.real.as_mut().is_some_and(Cluster::step) {
                    let delay = self.rng.range(10 * US..2 * MS);
                    self.schedule.after(delay, Event::Step);
                }
            }
            Event::Swing { index, from, to } => self.swing(index, from, to),
            Event::Resume { index, at } => {
                if let Some((life, memory)) = self.memories.get_mut(&at.0) {
                    if let (true, Some(region)) = (*life == at.1, memory.regions.get_mut(&index)) {
                        region.paused = false;
                    }
                }
            }
        }
    }

    /// Runs it to its end, and checks all of it.
    pub fn run(mut self) -> Summary {
        while let Some(event) = self.schedule.next_until(self.chaos.time) {
            self.happen(event);
        }
        self.calm = true;
        self.net.heal();
        self.net.set_faults(Faults::NONE);
        while let Some(event) = self.schedule.next_until(self.chaos.time + 2 * SEC) {
            self.happen(event);
        }
        // Everything that is left can be read, from anywhere.
        for client in 0..self.clients.len() {
            for word in 0..self.words.len() {
                self.word_op(client, word, Call::Read);
            }
        }
        while let Some(event) = self.schedule.next_until(self.chaos.time + 6 * SEC) {
            self.happen(event);
        }
        for ticket in &self.tickets {
            assert!(ticket.over, "{:?} never ends", ticket.what);
        }
        for compute in std::mem::take(&mut self.computes).into_values() {
            assert_eq!(compute.engine.outstanding(), 0, "something is left over");
            self.count(&compute.engine);
        }
        for (_, memory) in self.memories.values() {
            self.summary.repeated += memory.repeated;
        }
        for (word, history) in self.histories.iter().enumerate() {
            if let Err(why) = check(history) {
                panic!("word {word}: {why}");
            }
        }
        self.summary
    }
}
