// SPDX-License-Identifier: GPL-2.0

//! A disk core in a world of memory nodes that fail: from one seed, replayable.
//!
//! Every write puts a number of its own into its blocks, zeroes put 0. For each block the
//! world knows in which order its writes were submitted, and which of them must be there.

use clio_cn_core::core::disk::{
    assemble::{assemble, Assembly, Found},
    record::{Head, Member, Record, Trust, DATA, MAX_COPIES, RECORD_LEN},
    Action, Config, Copy, Disk, Io, Key, What,
};
use kernel::error::{code::*, Result};
use std::collections::BTreeMap;

pub const BLOCK: u64 = 4096;
const CHUNK: u64 = 2 * BLOCK;
const REGION_SHIFT: u8 = 14;
const SETTLE: u64 = 40;

/// Small and good enough, the same everywhere.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A copy in the memory of a node.
struct Store {
    blocks: Vec<u64>,
    records: [Vec<u8>; 2],
}

#[derive(Default)]
struct Node {
    reachable: bool,
    /// By the id of the copy.
    stores: BTreeMap<u64, Store>,
}

#[derive(Clone)]
enum Effect {
    Read { first: usize, count: usize },
    Write { first: usize, blocks: Vec<u64> },
    Record { parity: usize, bytes: Vec<u8> },
    None,
}

struct Flight {
    op: Key,
    slot: usize,
    node: u32,
    copy: u64,
    what: What<u64>,
    effect: Effect,
    /// Executed, with what was read.
    executed: Option<Vec<u64>>,
}

struct Request {
    io: Io,
    first: usize,
    count: usize,
    /// Of each block: the write that had to be there when this was submitted.
    floors: Vec<usize>,
    /// What a write writes.
    value: u64,
    /// What a read read.
    data: Vec<u64>,
}

/// What was written to a block, in the order of submission; before all else it was 0.
struct History {
    values: Vec<u64>,
    /// The last one that must be there.
    floor: usize,
}

/// What may happen.
#[derive(Clone, Copy)]
pub struct Weather {
    pub replicas: usize,
    pub nodes: u32,
    pub blocks: u64,
    /// Once in so many steps; 0 for never.
    pub node_fails: u64,
    pub node_is_wiped: u64,
    pub spurious: u64,
    /// The map drops a node, though it may be there.
    pub maps: u64,
    pub crash: u64,
    pub restart: u64,
    pub refuses: u64,
    /// The last copy in sync does not fail.
    pub mercy: bool,
}

pub struct World {
    pub dice: Dice,
    weather: Weather,
    now: u64,
    nodes: BTreeMap<u32, Node>,
    disk: Option<Disk<u64>>,
    flights: Vec<Flight>,
    requests: BTreeMap<u64, Request>,
    history: Vec<History>,
    buffer: Vec<u64>,
    next_token: u64,
    next_copy: u64,
    stopped: Option<Result>,
    pub completed: u64,
    pub failed: u64,
    pub losses: u64,
    pub fills: u64,
    pub attaches: u64,
    /// It cannot be found any more: a copy that may be newer is gone.
    pub gone: bool,
}

fn config() -> Config {
    Config {
        depth: 16,
        chunk: CHUNK as u32,
        settle: SETTLE,
        again: 10,
    }
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut this = Self {
            dice: Dice::new(seed),
            weather,
            now: 1,
            nodes: BTreeMap::new(),
            disk: None,
            flights: Vec::new(),
            requests: BTreeMap::new(),
            history: (0..weather.blocks)
                .map(|_| History {
                    values: vec![0],
                    floor: 0,
                })
                .collect(),
            buffer: Vec::new(),
            next_token: 1,
            next_copy: 1,
            stopped: None,
            completed: 0,
            failed: 0,
            losses: 0,
            fills: 0,
            attaches: 0,
            gone: false,
        };
        for node in 1..=weather.nodes {
            let reachable = true;
            this.nodes.insert(
                node,
                Node {
                    reachable,
                    ..Node::default()
                },
            );
        }
        let mut members = [Member::default(); MAX_COPIES];
        for (slot, member) in members.iter_mut().enumerate().take(weather.replicas) {
            let node = slot as u32 + 1;
            *member = Member {
                id: this.make_copy(node),
                node,
                trust: Trust::InSync,
            };
        }
        let made = Assembly::create([7; 16], weather.blocks * BLOCK, &[(1, 1)]).unwrap();
        let head = Head {
            region_shift: REGION_SHIFT,
            replicas: weather.replicas as u8,
            members,
            ..made.head
        };
        let size = weather.blocks * BLOCK;
        let regions = size.div_ceil(1 << REGION_SHIFT) as usize;
        let dirty = clio_cn_core::core::disk::bits::Bits::new(regions).unwrap();
        let assembly = Assembly {
            head,
            dirty,
            places: made.places,
            stale: 0,
        };
        this.disk = Some(Disk::new(config(), &assembly).unwrap());
        this.drive();
        // A disk is there when all copies have their first record.
        while !this.flights.is_empty() {
            this.execute(0);
            this.hear(0, Ok(()));
        }
        this
    }

    fn make_copy(&mut self, node: u32) -> u64 {
        let id = self.next_copy;
        self.next_copy += 1;
        let store = Store {
            blocks: vec![0; self.weather.blocks as usize],
            records: [vec![0; RECORD_LEN], vec![0; RECORD_LEN]],
        };
        let node = self.nodes.get_mut(&node).unwrap();
        // What was there of this disk before makes room.
        node.stores.clear();
        node.stores.insert(id, store);
        id
    }

    fn happens(&mut self, once_in: u64) -> bool {
        once_in != 0 && self.dice.once_in(once_in)
    }

    /// Something happens.
    pub fn step(&mut self) {
        self.now += 1;
        let weather = self.weather;
        if self.happens(weather.node_fails) {
            let node = 1 + self.dice.below(weather.nodes.into()) as u32;
            let node = self.nodes.get_mut(&node).unwrap();
            node.reachable = !node.reachable;
        }
        if self.happens(weather.node_is_wiped) {
            let node = 1 + self.dice.below(weather.nodes.into()) as u32;
            self.nodes.get_mut(&node).unwrap().stores.clear();
        }
        if self.disk.is_none() {
            return self.attach(false);
        }
        if self.happens(weather.crash) {
            return self.crash();
        }
        if self.happens(weather.restart) {
            self.disk.as_mut().unwrap().stop();
            self.drive();
        }
        if self.disk.is_some() && self.happens(weather.maps) {
            let node = 1 + self.dice.below(weather.nodes.into()) as u32;
            let disk = self.disk.as_mut().unwrap();
            disk.node_down(node);
            let there = disk.copies().any(|(_, copy)| copy.node == node);
            assert!(
                !there || disk.status().in_sync == 1,
                "it is not left at once"
            );
            self.drive();
        }
        // What was to be stopped may have come to its end by that.
        if self.disk.is_none() {
            return;
        }
        match self.dice.below(8) {
            0 | 1 => self.submit(),
            2..=5 => self.fly(),
            6 => self.place_copies(),
            _ => {
                let now = self.now;
                self.disk.as_mut().unwrap().tick(now);
                self.drive();
            }
        }
    }

    fn submit(&mut self) {
        let blocks = self.weather.blocks;
        let (io, first, count) = match self.dice.below(10) {
            0 => (Io::Flush, 0, 0),
            dice => {
                let count = 1 + self.dice.below(6.min(blocks));
                let first = self.dice.below(blocks - count + 1);
                let io = match dice {
                    1..=4 => Io::Read,
                    5..=8 => Io::Write,
                    _ => Io::Zero,
                };
                (io, first as usize, count as usize)
            }
        };
        let token = self.next_token;
        let disk = self.disk.as_mut().unwrap();
        let submitted = disk.submit(io, first as u64 * BLOCK, count as u64 * BLOCK, token);
        match submitted {
            Err(e) => assert!(e == EAGAIN || e == ESHUTDOWN, "{e:?}"),
            Ok(()) => {
                self.next_token += 1;
                let value = if io == Io::Write { token } else { 0 };
                let range = first..first + count;
                if matches!(io, Io::Write | Io::Zero) {
                    for block in &mut self.history[range.clone()] {
                        block.values.push(value);
                    }
                }
                let at = |block: &History| match io {
                    Io::Read => block.floor,
                    _ => block.values.len() - 1,
                };
                let floors = self.history[range].iter().map(at).collect();
                let request = Request {
                    io,
                    first,
                    count,
                    floors,
                    value,
                    data: vec![u64::MAX; count],
                };
                self.requests.insert(token, request);
                self.drive();
            }
        }
    }

    /// An operation is executed, or its end is heard of.
    fn fly(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.dice.below(self.flights.len() as u64) as usize;
        let last = {
            let disk = self.disk.as_ref().unwrap();
            let mut copies = disk.copies();
            let in_sync =
                copies.any(|(_, copy)| copy.id == self.flights[at].copy && copy.is_in_sync());
            in_sync && disk.status().in_sync == 1
        };
        let spurious = self.happens(self.weather.spurious) && !(last && self.weather.mercy);
        if self.flights[at].executed.is_none() {
            let (node, copy) = (self.flights[at].node, self.flights[at].copy);
            let node = &self.nodes[&node];
            let error = match (node.reachable && !spurious, node.stores.contains_key(&copy)) {
                (true, true) => return self.execute(at),
                (true, false) => EIO,
                (false, _) => ETIMEDOUT,
            };
            // An operation that timed out may have been executed all the same.
            if error == ETIMEDOUT && node.stores.contains_key(&copy) && self.dice.once_in(2) {
                self.execute(at);
            }
            return self.hear(at, Err(error));
        }
        let result = if spurious { Err(ETIMEDOUT) } else { Ok(()) };
        self.hear(at, result);
    }

    fn execute(&mut self, at: usize) {
        let flight = &mut self.flights[at];
        let node = self.nodes.get_mut(&flight.node).unwrap();
        let store = node.stores.get_mut(&flight.copy).unwrap();
        let mut read = Vec::new();
        match &flight.effect {
            Effect::Read { first, count } => {
                read.extend_from_slice(&store.blocks[*first..first + count]);
            }
            Effect::Write { first, blocks } => {
                store.blocks[*first..first + blocks.len()].copy_from_slice(blocks);
            }
            Effect::Record { parity, bytes } => store.records[*parity].copy_from_slice(bytes),
            Effect::None => {}
        }
        flight.executed = Some(read);
    }

    fn hear(&mut self, at: usize, result: Result) {
        let flight = self.flights.swap_remove(at);
        if result.is_ok() {
            let read = flight.executed.unwrap();
            match flight.what {
                What::Read(token) => self.requests.get_mut(&token).unwrap().data = read,
                What::Fetch => self.buffer = read,
                _ => {}
            }
        }
        self.disk
            .as_mut()
            .unwrap()
            .done(self.now, flight.op, result);
        self.drive();
    }

    /// Does what the disk says.
    fn drive(&mut self) {
        let now = self.now;
        while let Some(action) = self.disk.as_mut().unwrap().poll(now) {
            match action {
                Action::Start {
                    op,
                    slot,
                    what,
                    at,
                    len,
                } => self.start(op, slot, what, at, len),
                Action::Complete { token, result } => self.complete(token, result),
                Action::Lost { .. } => self.losses += 1,
                Action::Filled { .. } => self.fills += 1,
                Action::Stopped(result) => self.stopped = Some(result),
            }
        }
        if let Some(result) = self.stopped.take() {
            assert!(self.requests.is_empty(), "stopped with requests under way");
            let status = self.disk.as_ref().unwrap().status();
            if result.is_ok() && status.unsynced == 0 {
                self.check_copies_are_equal();
            }
            self.disk = None;
            self.flights.clear();
        }
    }

    fn start(&mut self, op: Key, slot: usize, what: What<u64>, at: u64, len: u64) {
        if self.happens(self.weather.refuses) {
            let now = self.now;
            self.disk.as_mut().unwrap().done(now, op, Err(EAGAIN));
            return;
        }
        let disk = self.disk.as_ref().unwrap();
        let (_, copy) = disk.copies().find(|(there, _)| *there == slot).unwrap();
        let (copy, node) = (copy.id, copy.node);
        let first = (at.saturating_sub(DATA) / BLOCK) as usize;
        let count = (len / BLOCK) as usize;
        let users = |what: fn(&What<u64>) -> bool| {
            let mut flights = self.flights.iter();
            flights.any(|flight| what(&flight.what))
        };
        let effect = match what {
            What::Read(token) => {
                let again = self.flights.iter().any(|flight| flight.what == what);
                assert!(!again, "two reads into request {token} at a time");
                Effect::Read { first, count }
            }
            What::Write(token) => Effect::Write {
                first,
                blocks: vec![self.requests[&token].value; count],
            },
            What::Zero => Effect::Write {
                first,
                blocks: vec![0; count],
            },
            What::Fetch => {
                let busy = users(|what| matches!(what, What::Fetch | What::Store));
                assert!(!busy, "the buffer is in use");
                Effect::Read { first, count }
            }
            What::Store => {
                assert!(!users(|what| *what == What::Fetch), "the buffer is in use");
                Effect::Write {
                    first,
                    blocks: self.buffer.clone(),
                }
            }
            What::Record => {
                let mut records = self.flights.iter();
                let busy = records.any(|other| other.what == What::Record && other.slot == slot);
                assert!(!busy, "the record of copy {slot} is in use");
                let mut bytes = vec![0; RECORD_LEN];
                disk.encode(slot, &mut bytes).unwrap();
                let parity = (at / RECORD_LEN as u64 - 1) as usize;
                Effect::Record { parity, bytes }
            }
            What::Fence => Effect::None,
        };
        self.flights.push(Flight {
            op,
            slot,
            node,
            copy,
            what,
            effect,
            executed: None,
        });
    }

    fn complete(&mut self, token: u64, result: Result) {
        let used =
            |flight: &Flight| matches!(flight.what, What::Read(t) | What::Write(t) if t == token);
        assert!(
            !self.flights.iter().any(used),
            "over, but its data are in use"
        );
        let request = self.requests.remove(&token).expect("completed once");
        self.completed += 1;
        if result.is_err() {
            self.failed += 1;
            return;
        }
        for (index, at) in (request.first..request.first + request.count).enumerate() {
            let block = &mut self.history[at];
            let floor = request.floors[index];
            let there = match request.io {
                Io::Read => {
                    let value = request.data[index];
                    let found = block.values.iter().skip(floor).position(|v| *v == value);
                    let found = found.unwrap_or_else(|| {
                        let must = block.values[floor];
                        panic!("block {at}: read {value}, but {must} or newer must be there")
                    });
                    floor + found
                }
                _ => floor,
            };
            block.floor = block.floor.max(there);
        }
    }

    /// The compute node dies. What it had sent may still arrive, or part of it.
    fn crash(&mut self) {
        self.disk = None;
        self.requests.clear();
        for at in 0..self.flights.len() {
            let flight = &mut self.flights[at];
            if flight.executed.is_some() || self.dice.once_in(2) {
                continue;
            }
            match &mut flight.effect {
                Effect::Write { blocks, .. } => {
                    blocks.truncate(self.dice.below(blocks.len() as u64 + 1) as usize);
                }
                Effect::Record { bytes, .. } if self.dice.once_in(2) => {
                    let cut = self.dice.below(RECORD_LEN as u64) as usize;
                    bytes[cut..].fill(0xa5);
                }
                _ => {}
            }
            if self.nodes[&flight.node].stores.contains_key(&flight.copy) {
                self.execute(at);
            }
        }
        self.flights.clear();
    }

    fn look(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (number, node) in &self.nodes {
            for store in node.stores.values().filter(|_| node.reachable) {
                let record = Record::newer(
                    Record::decode(&store.records[0]),
                    Record::decode(&store.records[1]),
                );
                if let Ok((place, record)) = record {
                    let node = *number;
                    found.push(Found {
                        node,
                        record,
                        place,
                    });
                }
            }
        }
        found
    }

    fn attach(&mut self, force: bool) {
        let found = self.look();
        match assemble(&found, force) {
            Ok(assembly) => {
                self.attaches += 1;
                self.disk = Some(Disk::new(config(), &assembly).unwrap());
                self.drive();
            }
            Err(e) => {
                assert!(e == ENODEV || e == EHOSTDOWN, "{e:?}");
                // When all that there is can be looked at and that does not do, nothing will.
                self.gone = self.nodes.values().all(|node| node.reachable);
            }
        }
    }

    /// New copies take the place of those that were left out.
    fn place_copies(&mut self) {
        let disk = self.disk.as_ref().unwrap();
        let Some(slot) = disk.vacancy() else {
            return;
        };
        let used: Vec<u32> = disk.copies().map(|(_, copy)| copy.node).collect();
        let free = |(number, node): (&u32, &Node)| {
            (node.reachable && !used.contains(number)).then_some(*number)
        };
        let Some(node) = self.nodes.iter().find_map(free) else {
            return;
        };
        // Its memory goes only when nothing is under way there.
        if self.flights.iter().any(|flight| flight.node == node) {
            return;
        }
        let id = self.make_copy(node);
        match self.disk.as_mut().unwrap().add(slot, id, node) {
            Ok(()) => self.drive(),
            Err(e) => assert!(e == EBUSY || e == ESHUTDOWN, "{e:?}"),
        }
    }

    /// Everything works from now on; all requests end, all copies are filled.
    pub fn calm_down(&mut self) {
        self.weather = Weather {
            node_fails: 0,
            node_is_wiped: 0,
            spurious: 0,
            maps: 0,
            crash: 0,
            restart: 0,
            refuses: 0,
            mercy: true,
            ..self.weather
        };
        for node in self.nodes.values_mut() {
            node.reachable = true;
        }
        for _ in 0..20_000 {
            self.now += 1;
            let now = self.now;
            if self.gone {
                return;
            }
            if self.disk.is_none() {
                self.attach(false);
                continue;
            }
            self.place_copies();
            self.disk.as_mut().unwrap().tick(now);
            self.drive();
            while !self.flights.is_empty() {
                self.fly();
            }
            let Some(disk) = &self.disk else { continue };
            if !disk
                .copies()
                .any(|(_, copy)| copy.is_in_sync() && self.has(copy))
            {
                self.gone = true;
                return;
            }
            let status = disk.status();
            let whole = status.in_sync == self.weather.replicas && status.unsynced == 0;
            if whole && status.requests == 0 && disk.is_idle() && status.dirty == 0 {
                self.check_copies_are_equal();
                return self.read_all();
            }
        }
        panic!("it does not calm down: {:?}", self.disk);
    }

    fn has(&self, copy: &Copy) -> bool {
        self.nodes[&copy.node].stores.contains_key(&copy.id)
    }

    fn check_copies_are_equal(&self) {
        let disk = self.disk.as_ref().unwrap();
        let mut first: Option<&Store> = None;
        for (_, copy) in disk.copies().filter(|(_, copy)| copy.is_in_sync()) {
            let Some(store) = self.nodes[&copy.node].stores.get(&copy.id) else {
                // Nobody noticed yet that it was wiped.
                continue;
            };
            if let Some(first) = first {
                assert_eq!(first.blocks, store.blocks, "copies in sync differ");
            }
            first = Some(store);
        }
    }

    fn read_all(&mut self) {
        for first in 0..self.weather.blocks {
            let token = self.next_token;
            self.next_token += 1;
            let disk = self.disk.as_mut().unwrap();
            disk.submit(Io::Read, first * BLOCK, BLOCK, token).unwrap();
            let request = Request {
                io: Io::Read,
                first: first as usize,
                count: 1,
                floors: vec![self.history[first as usize].floor],
                value: 0,
                data: vec![u64::MAX],
            };
            self.requests.insert(token, request);
            self.drive();
            while !self.flights.is_empty() {
                self.fly();
            }
        }
        assert!(self.requests.is_empty(), "reads do not end");
    }
}
