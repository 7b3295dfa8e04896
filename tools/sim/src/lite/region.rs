// SPDX-License-Identifier: GPL-2.0

//! Users of regions on a few nodes. An access by RDMA takes a while to arrive, and is of no use, or
//! harm, when its window was shut meanwhile: it breaks the connection. The protocol sees to it that
//! this happens to nobody who could be told.

use super::{
    calls::{Cluster, Event},
    Chaos,
};
use crate::schedule::{tracing, Time, MS, SEC};
use kernel::prelude::{Result, EACCES, EAGAIN, EHOSTDOWN, EINVAL, ENOENT, ESTALE, ETIMEDOUT};
use rdma_lite_core::core::{
    holder::{Holder, Life, Name},
    region::{
        keys::{Begun, Key, Keys},
        registry::{NewRegion, Placed, Recall, Registry},
        shares::Payer,
        wire::{Head, Reply, Request},
        Geometry, Rights,
    },
};
use std::collections::BTreeMap;

const CALL: Time = 20 * MS;
const RECALL: Time = 10 * MS;
const LEN: u64 = 3 << 12;
/// Bytes that a user may have at a node.
const SHARE: u64 = 2 * LEN;

type Said = (Head, Request);
/// Names a connection: those who live at both ends.
type Connection = (Life, Life);

struct Window {
    holder: Holder,
    owner: Life,
    memory: u64,
    rights: Rights,
    open: bool,
    /// Its holder did not answer a recall: what it does now is its own fault.
    excused: bool,
}

/// What a user is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Making,
    /// Nothing, for a while.
    Idle,
    Opening,
    Accessing,
    /// It asked the owner to free, or to change rights.
    Ruling,
    Leaving,
    Over,
}

struct User {
    who: Holder,
    owner: u16,
    /// Of the owner.
    life: u64,
    stage: Stage,
    keys: Keys<Connection>,
    admin: bool,
    begun: Option<Begun>,
    need: Rights,
    chunk: u32,
    accesses: u64,
    /// Recalls that wait for the access.
    recalled: Vec<u64>,
}

/// A free or revocation that waits for holders to answer.
struct Teardown {
    owner: Life,
    /// To be answered.
    call: u64,
    open: u64,
    windows: Vec<u64>,
    memories: Vec<u64>,
    /// Whose rights are gone once it is answered, but for whoever asked.
    memory: Option<u64>,
}

/// What came of it all.
#[derive(Clone, Copy, Debug, Default)]
pub struct RegionSummary {
    pub made: u64,
    pub accesses: u64,
    pub recalls: u64,
    pub refused: u64,
}

impl std::ops::AddAssign for RegionSummary {
    fn add_assign(&mut self, other: Self) {
        self.made += other.made;
        self.accesses += other.accesses;
        self.recalls += other.recalls;
        self.refused += other.refused;
    }
}

/// See the module.
pub struct RegionWorld {
    cluster: Cluster<Said, Reply>,
    registries: BTreeMap<u16, Registry<u64, u64>>,
    users: BTreeMap<u64, User>,
    windows: BTreeMap<u64, Window>,
    /// Whether a memory is there.
    memories: BTreeMap<u64, bool>,
    /// Who memory that is there is charged to.
    payers: BTreeMap<u64, Payer>,
    teardowns: BTreeMap<u64, Teardown>,
    /// Accesses under way, by user: through which window.
    recalls: BTreeMap<u64, (u64, u64)>,
    summary: RegionSummary,
    stopping: bool,
}

impl RegionWorld {
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let registry = |node| (node, Registry::new(1 << 30));
        Self {
            cluster: Cluster::new(seed, chaos),
            registries: (1..=chaos.nodes).map(registry).collect(),
            users: BTreeMap::new(),
            windows: BTreeMap::new(),
            memories: BTreeMap::new(),
            payers: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            recalls: BTreeMap::new(),
            summary: RegionSummary::default(),
            stopping: false,
        }
    }

    fn trace(&self, text: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("{:>12} {text}", self.cluster.now());
        }
    }

    /// Runs until nothing happens any more.
    pub fn run(mut self) -> RegionSummary {
        for node in 1..=self.cluster.chaos.nodes {
            for _ in 0..self.cluster.chaos.users {
                self.begin(node);
            }
        }
        let end = self.cluster.chaos.time;
        while let Some(event) = self.cluster.schedule.next_until(end) {
            self.event(event);
        }
        self.stopping = true;
        self.cluster.mend();
        for node in 1..=self.cluster.chaos.nodes {
            if !self.cluster.members[&node].running {
                self.restart(node);
            }
        }
        self.cluster.publish_everywhere();
        while let Some(event) = self.cluster.schedule.next_until(end + 100 * SEC) {
            self.event(event);
        }
        self.check_end();
        self.summary
    }

    fn restart(&mut self, node: u16) {
        self.trace(format_args!("node {node} comes back"));
        self.cluster.restart(node);
        // Its memory is not that of before.
        let registry = self.registries.insert(node, Registry::new(1 << 30));
        let mut registry = registry.unwrap();
        while let Some(memory) = registry.drop_region() {
            self.memories.insert(memory, false);
            self.payers.remove(&memory);
        }
        for window in self.windows.values_mut() {
            if window.owner.node == node {
                window.open = false;
            }
        }
    }

    fn begin(&mut self, node: u16) {
        let life = self.cluster.members[&node].life;
        let tag = self.cluster.number();
        let owner = 1 + self.cluster.rng.index(2) as u16;
        let rng = &mut self.cluster.rng;
        let names: [&[u8]; 2] = [b"one", b"two"];
        let name = Name::new(names[rng.index(2)]).unwrap();
        let rights = [
            Rights::READ,
            Rights::WRITE,
            Rights::READ.or(Rights::WRITE),
            Rights::ALL,
        ];
        let admin = rng.one_in(3);
        let request = match admin {
            true => Request::Alloc {
                len: LEN,
                others: *rng.pick(&rights),
                keep: rng.one_in(4),
                payer: Payer(rng.index(3) as u32),
                name,
            },
            false => Request::Map {
                want: *rng.pick(&rights),
                name,
            },
        };
        let user = User {
            who: Holder { life, tag },
            owner,
            life: 0,
            stage: Stage::Making,
            keys: Keys::new(Rights::NONE),
            admin,
            begun: None,
            need: Rights::NONE,
            chunk: 0,
            accesses: rng.range(1..20),
            recalled: Vec::new(),
        };
        self.users.insert(tag, user);
        self.ask(tag, request);
    }

    fn ask(&mut self, tag: u64, request: Request) {
        let user = &self.users[&tag];
        let head = Head {
            tag,
            life: user.life,
        };
        let (from, owner) = (user.who.life, user.owner);
        self.trace(format_args!("{:?}: {request:?} at {owner}", user.who));
        self.cluster.call(from, owner, (head, request), CALL, tag);
    }

    fn event(&mut self, event: Event<Result<Result<Reply>>>) {
        match event {
            Event::Arrive(id) => self.cluster.arrive(id),
            Event::Execute(id) => self.execute(id),
            Event::Answer(id, answer) => self.answer(id, answer),
            Event::Timeout(id) => self.answer(id, Err(ETIMEDOUT)),
            Event::Publish(node, map) => {
                if let Some(ended) = self.cluster.publish(node, map) {
                    self.drop_lives(node);
                    for (id, error) in ended {
                        self.answer(id, Err(error));
                    }
                }
            }
            Event::Fault => self.fault(),
            Event::User(tag) => self.user(tag),
        }
    }

    fn shut(&mut self, windows: impl IntoIterator<Item = (u32, u64)>) {
        for (_, window) in windows {
            self.windows.get_mut(&window).unwrap().open = false;
        }
    }

    fn drop_lives(&mut self, node: u16) {
        let map = self.cluster.members[&node].map.clone();
        let gone = |life| !map.has(life);
        while let Some(detached) = self.registries.get_mut(&node).unwrap().drop_life(gone) {
            self.shut(detached.windows);
            if let Some(memory) = detached.memory {
                self.free(node, memory);
            }
        }
        // A connection that the map ends takes all of its windows with it.
        for window in self.windows.values_mut() {
            let owner = window.owner.node == node;
            if owner && !map.has(window.holder.life) {
                window.open = false;
                window.excused = true;
            }
        }
    }

    fn free(&mut self, node: u16, memory: u64) {
        let there = self.memories.insert(memory, false);
        assert_eq!(there, Some(true), "freed twice");
        let registry = self.registries.get_mut(&node).unwrap();
        registry.released(LEN, self.payers.remove(&memory).unwrap());
        let shares: u64 = registry.shares().iter().map(|(_, bytes)| bytes).sum();
        assert_eq!(shares, registry.used(), "users have what there is");
    }

    fn execute(&mut self, id: u64) {
        let Some((call, alive)) = self.cluster.execute(id) else {
            return;
        };
        let (head, request) = call.request;
        let bytes = request.encode(head);
        assert_eq!(Request::decode(&bytes).unwrap(), (head, request, &[][..]));
        let own = self.cluster.members[&call.to].life;
        if let Request::Recall { rights, freed } = request {
            return self.recalled(id, own, head, call.from, rights, freed);
        }
        let who = Holder {
            life: call.from,
            tag: head.tag,
        };
        let result = match head.life == 0 || head.life == own.incarnation {
            true => self.request(id, own, who, alive, request),
            false => Err(ESTALE),
        };
        self.trace(format_args!("{who:?} {request:?}: {result:?}"));
        if let Some(reply) = result.transpose() {
            self.cluster.reply(id, reply);
        }
    }

    /// `None`: it is answered later.
    fn request(
        &mut self,
        id: u64,
        own: Life,
        who: Holder,
        alive: bool,
        request: Request,
    ) -> Result<Option<Reply>> {
        let number = self.cluster.number();
        let registry = self.registries.get_mut(&own.node).unwrap();
        let mut reply = Reply {
            life: own.incarnation,
            ..Reply::default()
        };
        match request {
            Request::Alloc {
                len,
                others,
                keep,
                payer,
                name,
            } => {
                let new = NewRegion {
                    name,
                    geometry: Geometry::new(len, 12)?,
                    others,
                    keep,
                    lender: None,
                };
                registry.reserve(len, payer, SHARE)?;
                let made = registry.create(who, alive, new, 0, number);
                let mapped = made.map_err(|(e, _)| {
                    registry.released(len, payer);
                    e
                })?;
                self.memories.insert(number, true);
                self.payers.insert(number, payer);
                reply.rights = mapped.rights.bits();
            }
            Request::Map { want, name } => {
                reply.rights = registry.map(who, alive, &name, want, 0)?.rights.bits();
            }
            Request::Unmap => {
                if let Some(detached) = registry.unmap(who)? {
                    self.shut(detached.windows);
                    if let Some(memory) = detached.memory {
                        self.free(own.node, memory);
                    }
                }
            }
            Request::Free | Request::Grant { .. } => {
                let memory = registry.access(who, Rights::ADMIN).ok().map(|a| *a.memory);
                let down = match request {
                    Request::Grant { node, rights } => registry.grant(who, node, rights)?,
                    _ => registry.free(who)?,
                };
                let all = matches!(request, Request::Free)
                    || matches!(request, Request::Grant { node: 0, rights } if rights.is_none());
                let mut teardown = Teardown {
                    owner: own,
                    call: id,
                    open: 1,
                    windows: Vec::new(),
                    memories: down.memories.iter().copied().collect(),
                    memory: memory.filter(|_| all),
                };
                for Recall {
                    holder,
                    rights,
                    freed,
                    windows,
                } in down.recalls
                {
                    self.summary.recalls += 1;
                    teardown.open += 1;
                    teardown
                        .windows
                        .extend(windows.iter().map(|(_, window)| *window));
                    let user = self.cluster.number();
                    self.recalls.insert(user, (number, holder.tag));
                    let head = Head {
                        tag: holder.tag,
                        life: holder.life.incarnation,
                    };
                    let recall = (head, Request::Recall { rights, freed });
                    let to = holder.life.node;
                    self.cluster.call(own, to, recall, RECALL, user);
                }
                self.teardowns.insert(number, teardown);
                self.torn_down(number);
                return Ok(None);
            }
            Request::Open { chunk, rights } => {
                let access = registry.access(who, Rights::NONE)?;
                if chunk >= access.geometry.chunks() {
                    return Err(EINVAL);
                }
                if !access.rights.includes(rights) {
                    return Err(EAGAIN);
                }
                let window = Window {
                    holder: who,
                    owner: own,
                    memory: *access.memory,
                    rights: access.rights,
                    open: true,
                    excused: false,
                };
                let rights = access.rights;
                let windows = &self.windows;
                let good = |old: &u64| windows[old].open;
                let opened = registry.opened(who, rights, chunk, number, good);
                reply.value = *registry.window(who, chunk).unwrap_or(&0);
                self.windows.insert(number, window);
                match opened {
                    Ok(Placed::First) => {}
                    Ok(Placed::Instead(shut) | Placed::Known(shut)) => self.shut([(chunk, shut)]),
                    Err((e, shut)) => {
                        self.shut([(chunk, shut)]);
                        return Err(e);
                    }
                }
            }
            _ => return Err(EINVAL),
        }
        Ok(Some(reply))
    }

    /// One thing less to wait for.
    fn torn_down(&mut self, number: u64) {
        let Some(teardown) = self.teardowns.get_mut(&number) else {
            return;
        };
        teardown.open -= 1;
        if teardown.open > 0 {
            return;
        }
        let teardown = self.teardowns.remove(&number).unwrap();
        if self.cluster.members[&teardown.owner.node].life != teardown.owner {
            return;
        }
        self.shut(teardown.windows.iter().map(|window| (0, *window)));
        for memory in teardown.memories {
            self.free(teardown.owner.node, memory);
        }
        // Whoever revoked has rights still; nobody else has a way in.
        if let Some(memory) = teardown.memory {
            let caller = self.cluster.calls[&teardown.call].request.0.tag;
            let registry = &self.registries[&teardown.owner.node];
            let later = self.windows.iter().find(|(number, window)| {
                let in_question = window.memory == memory
                    && window.open
                    && window.owner == teardown.owner
                    && window.holder.tag != caller;
                // Mapped again under a later grant, which may be torn down again.
                let later = registry.access(window.holder, Rights::NONE).is_ok() || {
                    self.teardowns.values()
                }
                .any(|other| other.windows.contains(number));
                in_question && !later
            });
            assert!(later.is_none(), "a window stayed open");
        }
        self.cluster.reply(teardown.call, Ok(Reply::default()));
    }

    /// A holder is told that it lost rights.
    fn recalled(
        &mut self,
        id: u64,
        own: Life,
        head: Head,
        from: Life,
        rights: Rights,
        freed: bool,
    ) {
        let user = self.users.get_mut(&head.tag);
        let user = user.filter(|user| {
            user.who.life == own && head.life == own.incarnation && user.owner == from.node
        });
        if let Some(user) = user {
            user.keys.recall(rights, freed);
            if !user.keys.is_recalled() {
                user.recalled.push(id);
                return;
            }
        }
        self.cluster.reply(id, Ok(Reply::default()));
    }

    fn end_access(&mut self, tag: u64) {
        let user = self.users.get_mut(&tag).unwrap();
        let Some(begun) = user.begun.take() else {
            return;
        };
        if user.keys.end(begun) {
            for id in std::mem::take(&mut user.recalled) {
                self.cluster.reply(id, Ok(Reply::default()));
            }
        }
    }

    /// A user's time has come.
    fn user(&mut self, tag: u64) {
        let user = self.users.get_mut(&tag).unwrap();
        let life = user.who.life;
        let member = &self.cluster.members[&life.node];
        if !member.running || member.life != life {
            return;
        }
        match user.stage {
            Stage::Idle => {
                if user.accesses == 0 || self.stopping {
                    return self.leave(tag);
                }
                user.accesses -= 1;
                let rng = &mut self.cluster.rng;
                if user.admin && rng.one_in(6) {
                    user.stage = Stage::Ruling;
                    let request = match rng.range(0..3) {
                        0 => Request::Free,
                        1 => Request::Grant {
                            node: 0,
                            rights: Rights::NONE,
                        },
                        _ => Request::Grant {
                            node: 1 + rng.index(self.cluster.chaos.nodes.into()) as u16,
                            rights: Rights::READ,
                        },
                    };
                    return self.ask(tag, request);
                }
                user.need = match rng.one_in(2) {
                    true => Rights::READ,
                    false => Rights::WRITE,
                };
                user.chunk = rng.index(3) as u32;
                match user.keys.begin(user.need) {
                    Ok(begun) => {
                        user.begun = Some(begun);
                        self.access(tag);
                    }
                    Err(e) => {
                        assert!(e == EACCES || e == ESTALE);
                        self.summary.refused += 1;
                        self.rest(tag);
                    }
                }
            }
            Stage::Accessing => self.arrived(tag),
            Stage::Leaving => self.ask(tag, Request::Unmap),
            _ => {}
        }
    }

    fn rest(&mut self, tag: u64) {
        self.users.get_mut(&tag).unwrap().stage = Stage::Idle;
        let at = self.cluster.now() + self.cluster.rng.range(0..2 * MS);
        self.cluster.schedule.at(at, Event::User(tag));
    }

    fn leave(&mut self, tag: u64) {
        let user = self.users.get_mut(&tag).unwrap();
        user.keys.recall(Rights::NONE, true);
        assert!(user.keys.is_recalled());
        user.stage = Stage::Leaving;
        let node = user.who.life.node;
        if !self.stopping {
            self.begin(node);
        }
        self.ask(tag, Request::Unmap);
    }

    fn connection(&self, user: &User) -> Connection {
        let life = Life {
            node: user.owner,
            incarnation: user.life,
        };
        (user.who.life, life)
    }

    /// Uses a key, or asks for one.
    fn access(&mut self, tag: u64) {
        let user = &self.users[&tag];
        let connection = self.connection(user);
        let begun = user.begun.as_ref().unwrap();
        match user.keys.key(begun, user.chunk, connection) {
            Some(key) => {
                let delay = self.cluster.delay();
                let user = self.users.get_mut(&tag).unwrap();
                user.stage = Stage::Accessing;
                user.life = connection.1.incarnation;
                // The window stands where an address would.
                user.recalled.reserve(1);
                self.recalls.insert(tag, (key.addr, 0));
                self.cluster.schedule.after(delay, Event::User(tag));
            }
            None => {
                let chunk = user.chunk;
                let rights = user.keys.rights().and(Rights::READ.or(Rights::WRITE));
                self.users.get_mut(&tag).unwrap().stage = Stage::Opening;
                self.ask(tag, Request::Open { chunk, rights });
            }
        }
    }

    /// An access is at the owner's device.
    fn arrived(&mut self, tag: u64) {
        let (number, _) = self.recalls.remove(&tag).unwrap();
        let user = &self.users[&tag];
        let window = &self.windows[&number];
        let owner = &self.cluster.members[&user.owner];
        let connected = owner.running && owner.life == window.owner;
        if connected && window.open {
            assert_eq!(window.holder, user.who, "another's window");
            assert!(window.rights.includes(user.need), "beyond its rights");
            // A window keeps its memory. It may be the last to have it while a recall is under way.
            let recalled = { self.teardowns.values() }.any(|t| t.windows.contains(&number));
            assert!(self.memories[&window.memory] || recalled, "stale memory");
            self.summary.accesses += 1;
        } else if connected {
            assert!(window.excused, "{:?} broke its connection", user.who);
            let chunk = user.chunk;
            self.users.get_mut(&tag).unwrap().keys.forget(chunk);
        }
        self.end_access(tag);
        self.rest(tag);
    }

    fn answer(&mut self, id: u64, answer: Result<Result<Reply>>) {
        let Some((call, number)) = self.cluster.end(id) else {
            return;
        };
        if let Request::Recall { .. } = call.request.1 {
            let (teardown, tag) = self.recalls.remove(&number).unwrap();
            if answer.is_err() {
                for window in self.windows.values_mut() {
                    if window.holder.tag == tag {
                        window.excused = true;
                    }
                }
            }
            return self.torn_down(teardown);
        }
        let tag = number;
        let Some(user) = self.users.get_mut(&tag) else {
            return;
        };
        match (user.stage, answer) {
            (Stage::Making, Ok(Ok(reply))) => {
                user.life = reply.life;
                user.keys.mapped(Rights::new(reply.rights).unwrap());
                self.summary.made += 1;
                self.rest(tag);
            }
            (Stage::Making, Ok(Err(_))) => {
                user.stage = Stage::Over;
                let node = user.who.life.node;
                if !self.stopping && self.cluster.now() < self.cluster.chaos.time {
                    self.begin(node);
                }
            }
            (Stage::Making, Err(_)) => self.leave(tag),
            (Stage::Opening, Ok(Ok(reply))) => {
                let connection = self.connection(&self.users[&tag]);
                let key = Key {
                    addr: reply.value,
                    rkey: 0,
                    connection,
                };
                let user = self.users.get_mut(&tag).unwrap();
                let chunk = user.chunk;
                match user.keys.learned(user.begun.as_ref().unwrap(), chunk, key) {
                    true => self.access(tag),
                    false => {
                        self.end_access(tag);
                        self.rest(tag);
                    }
                }
            }
            (Stage::Opening, _) => {
                self.end_access(tag);
                self.rest(tag);
            }
            (Stage::Ruling, _) => self.rest(tag),
            (Stage::Leaving, answer) => {
                let owner = self.cluster.members[&call.from.node].map.up.get(&call.to);
                let over = user.life != 0 && owner.is_some_and(|life| *life != user.life);
                match answer {
                    Ok(Ok(_)) | Ok(Err(ESTALE | ENOENT)) => user.stage = Stage::Over,
                    _ if over => user.stage = Stage::Over,
                    Ok(Err(_)) | Err(EHOSTDOWN) | Err(_) => {
                        self.cluster.schedule.after(50 * MS, Event::User(tag));
                    }
                }
            }
            _ => {}
        }
    }

    fn fault(&mut self) {
        if self.stopping {
            return;
        }
        let nodes = self.cluster.chaos.nodes;
        let node = 1 + self.cluster.rng.index(nodes.into()) as u16;
        let running = self.cluster.members[&node].running;
        match self.cluster.rng.range(0..5) {
            0 if running => {
                self.trace(format_args!("node {node} crashes"));
                self.cluster.crash(node);
            }
            1 if !running => {
                self.restart(node);
                for _ in 0..self.cluster.chaos.users {
                    self.begin(node);
                }
            }
            _ => self.cluster.publish_everywhere(),
        }
        let every = self.cluster.chaos.fault_every;
        let next = self.cluster.rng.range(1..2 * every);
        self.cluster.schedule.after(next, Event::Fault);
    }

    /// Everybody is done, and only what is kept is left.
    fn check_end(&mut self) {
        for user in self.users.values() {
            let member = &self.cluster.members[&user.who.life.node];
            if member.life == user.who.life {
                assert_eq!(user.stage, Stage::Over, "{:?}", user.who);
            }
        }
        for (node, registry) in &mut self.registries {
            let mut left = 0;
            assert!(
                registry.drop_life(|_| true).is_none(),
                "node {node} has mappings left"
            );
            let used = registry.used();
            while registry.drop_region().is_some() {
                left += LEN;
            }
            assert_eq!(used, left, "node {node} has lost count");
        }
        let lives: Vec<Life> = self.cluster.members.values().map(|m| m.life).collect();
        let open = |window: &Window| window.open && lives.contains(&window.owner);
        assert!(!self.windows.values().any(open));
    }
}
