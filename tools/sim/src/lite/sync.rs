// SPDX-License-Identifier: GPL-2.0

//! Users of locks and barriers on a few nodes, some of which own them.

use super::{
    calls::{Cluster, Event},
    Chaos,
};
use crate::schedule::{tracing, Time, MS, SEC, US};
use kernel::prelude::{Result, EINTR, ENOENT, ESTALE, ETIMEDOUT};
use rdma_lite_core::core::{
    holder::{Holder, Life, Name},
    sync::{
        service::Service,
        waiter::{Outcome, Step, Waiter},
        wire::{Ask, Reply, Request, What},
        Verdict, Wake,
    },
    Class,
};
use std::collections::BTreeMap;

const CALL_MS: u32 = 20;
/// Whoever is woken, and calls that give something back, have these users.
const NOBODY: u64 = 0;

/// How a user stands.
enum Stage {
    Entering,
    /// Until it gives the lock back.
    Holding,
    /// The owner has to hear it.
    Leaving,
    Over,
}

struct User {
    who: Holder,
    owner: u16,
    name: Name,
    what: What,
    waiter: Waiter,
    asked: Ask,
    stage: Stage,
    calling: bool,
    began: Time,
    ended: Option<Time>,
}

impl User {
    fn over(&mut self, now: Time) {
        self.stage = Stage::Over;
        self.ended = Some(now);
    }
}

/// What came of it all.
#[derive(Clone, Copy, Debug, Default)]
pub struct SyncSummary {
    pub locked: u64,
    pub met: u64,
    pub failed: u64,
}

impl std::ops::AddAssign for SyncSummary {
    fn add_assign(&mut self, other: Self) {
        self.locked += other.locked;
        self.met += other.met;
        self.failed += other.failed;
    }
}

/// See the module.
pub struct SyncWorld {
    cluster: Cluster<Request, Reply>,
    services: BTreeMap<u16, Service>,
    users: BTreeMap<u64, User>,
    /// Wakes that are being told.
    wakes: BTreeMap<u64, (Life, Wake)>,
    /// The newest grant of each owner's life, by lock.
    grants: BTreeMap<(Life, Name), u64>,
    summary: SyncSummary,
    stopping: bool,
}

/// Users are of either class.
fn class_of(tag: u64) -> Class {
    Class::ALL[tag as usize % Class::COUNT]
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

impl SyncWorld {
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let cluster = Cluster::new(seed, chaos);
        let services = (1..=chaos.nodes)
            .map(|node| (node, Service::new()))
            .collect();
        Self {
            cluster,
            services,
            users: BTreeMap::new(),
            wakes: BTreeMap::new(),
            grants: BTreeMap::new(),
            summary: SyncSummary::default(),
            stopping: false,
        }
    }

    fn trace(&self, text: std::fmt::Arguments<'_>) {
        if tracing() {
            println!("{:>12} {text}", self.cluster.now());
        }
    }

    /// Runs until nothing happens any more.
    pub fn run(mut self) -> SyncSummary {
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
                self.cluster.restart(node);
                self.services.insert(node, Service::new());
            }
        }
        self.cluster.publish_everywhere();
        let limit = end + 300 * SEC;
        while let Some(event) = self.cluster.schedule.next_until(limit) {
            self.event(event);
        }
        self.check_end();
        self.summary
    }

    fn begin(&mut self, node: u16) {
        let life = self.cluster.members[&node].life;
        let tag = self.cluster.number();
        let barrier = self.cluster.rng.one_in(3);
        let chaos = self.cluster.chaos;
        let owner = 1 + self.cluster.rng.index(2.min(chaos.nodes.into())) as u16;
        let what = match barrier {
            true => What::Barrier { count: 2 },
            false => What::Lock,
        };
        let name = match (barrier, self.cluster.rng.one_in(2)) {
            (true, _) => name("gate"),
            (false, true) => name("one"),
            (false, false) => name("two"),
        };
        let now = self.cluster.now();
        let patience = self.cluster.rng.range(5 * MS..4 * SEC);
        let never = self.cluster.rng.one_in(10) && !barrier;
        let user = User {
            who: Holder { life, tag },
            owner,
            name,
            what,
            waiter: Waiter::new(now, now + patience, CALL_MS, never),
            asked: Ask::State,
            stage: Stage::Entering,
            calling: false,
            began: now,
            ended: None,
        };
        self.users.insert(tag, user);
        self.advance(tag);
    }

    fn request(&self, tag: u64, ask: Ask) -> Request {
        let user = &self.users[&tag];
        Request {
            what: user.what,
            ask,
            class: class_of(tag),
            tag,
            life: user.waiter.life(),
            name: user.name,
        }
    }

    /// Drives a user as the kernel edge does.
    fn advance(&mut self, tag: u64) {
        let now = self.cluster.now();
        let Some(user) = self.users.get_mut(&tag) else {
            return;
        };
        let member = &self.cluster.members[&user.who.life.node];
        if user.calling || !member.running || member.life != user.who.life {
            return;
        }
        let (from, owner) = (user.who.life, user.owner);
        match user.stage {
            Stage::Over | Stage::Holding => {}
            Stage::Leaving => {
                user.calling = true;
                let leave = user.waiter.leave();
                let request = self.request(tag, leave);
                self.cluster
                    .call(from, owner, request, u64::from(CALL_MS) * MS, tag);
            }
            Stage::Entering => match user.waiter.next(now) {
                Step::Call(ask, ms) => {
                    user.calling = true;
                    user.asked = ask;
                    let request = self.request(tag, ask);
                    let timeout = u64::from(ms.max(1)) * MS;
                    self.cluster.call(from, owner, request, timeout, tag);
                }
                Step::Wait(until) => self.cluster.schedule.at(until, Event::User(tag)),
                Step::Done(outcome) => self.done(tag, outcome),
            },
        }
    }

    fn done(&mut self, tag: u64, outcome: Outcome) {
        let now = self.cluster.now();
        let user = &self.users[&tag];
        self.trace(format_args!("{:?} {:?}: {outcome:?}", user.who, user.name));
        let is_lock = user.what == What::Lock;
        let node = user.who.life.node;
        let hold = match (outcome.result, is_lock) {
            (Ok(grant), true) => {
                self.check_lock(tag, grant);
                self.summary.locked += 1;
                let until = now + self.cluster.rng.range(US..5 * MS);
                self.cluster.schedule.at(until, Event::User(tag));
                Stage::Holding
            }
            (Ok(_), false) => {
                self.check_barrier(tag);
                self.summary.met += 1;
                match outcome.leave {
                    true => Stage::Leaving,
                    false => Stage::Over,
                }
            }
            (Err(_), _) => {
                self.summary.failed += 1;
                match outcome.leave {
                    true => Stage::Leaving,
                    false => Stage::Over,
                }
            }
        };
        let over = !matches!(hold, Stage::Holding);
        let leaving = matches!(hold, Stage::Leaving);
        let user = self.users.get_mut(&tag).unwrap();
        user.stage = hold;
        if over {
            if !leaving {
                user.ended = Some(now);
            }
            if !self.stopping {
                self.begin(node);
            }
        }
        if leaving {
            self.advance(tag);
        }
    }

    /// Nobody else has the lock whom the owner's map has, and grants are in order.
    fn check_lock(&mut self, tag: u64, grant: u64) {
        let user = &self.users[&tag];
        let owner = &self.cluster.members[&user.owner];
        let incarnation = user.waiter.life();
        if !owner.running || owner.life.incarnation != incarnation || !owner.map.has(user.who.life)
        {
            return;
        }
        for other in self.users.values() {
            let same = other.who != user.who
                && (other.owner, other.name, other.what) == (user.owner, user.name, user.what)
                && other.waiter.life() == incarnation;
            let holding = matches!(other.stage, Stage::Holding);
            let member = &self.cluster.members[&other.who.life.node];
            let there =
                member.running && member.life == other.who.life && owner.map.has(other.who.life);
            assert!(
                !(same && holding && there),
                "{:?} and {:?} both hold {:?}",
                user.who,
                other.who,
                user.name
            );
        }
        let newest = self.grants.entry((owner.life, user.name)).or_default();
        assert!(grant > *newest, "grant {grant} after {newest}");
        *newest = grant;
    }

    /// There were two at once at the barrier.
    fn check_barrier(&mut self, tag: u64) {
        let user = &self.users[&tag];
        let with = self.users.values().any(|other| {
            (other.owner, other.name, other.what) == (user.owner, user.name, user.what)
                && other.who != user.who
                && other.ended.is_none_or(|ended| ended >= user.began)
        });
        assert!(with, "{:?} met nobody", user.who);
    }

    fn event(&mut self, event: Event<Result<Result<Reply>>>) {
        match event {
            Event::Arrive(id) => self.cluster.arrive(id),
            Event::Execute(id) => self.execute(id),
            Event::Answer(id, answer) => self.answer(id, answer),
            Event::Timeout(id) => self.answer(id, Err(ETIMEDOUT)),
            Event::Publish(node, map) => {
                if let Some(ended) = self.cluster.publish(node, map) {
                    let map = self.cluster.members[&node].map.clone();
                    let now = self.cluster.now();
                    self.trace(format_args!("node {node}: epoch {}", map.epoch));
                    let service = self.services.get_mut(&node).unwrap();
                    service.drop_lives(now, |life| !map.has(life));
                    self.tell(node);
                    for (id, error) in ended {
                        self.answer(id, Err(error));
                    }
                }
            }
            Event::Fault => self.fault(),
            Event::User(tag) => {
                let user = self.users.get_mut(&tag).unwrap();
                if matches!(user.stage, Stage::Holding) {
                    user.stage = Stage::Leaving;
                    let life = user.who.life;
                    let member = &self.cluster.members[&life.node];
                    if !self.stopping && member.running && member.life == life {
                        self.begin(life.node);
                    }
                }
                self.advance(tag);
            }
        }
    }

    fn execute(&mut self, id: u64) {
        let Some((call, alive)) = self.cluster.execute(id) else {
            return;
        };
        let request = Request::decode(&call.request.encode()).unwrap();
        assert_eq!(request, call.request);
        let now = self.cluster.now();
        let life = self.cluster.members[&call.to].life;
        if let Ask::Wake(verdict) = request.ask {
            let here = self.users.get_mut(&request.tag);
            let wanted = here.is_some_and(|user| {
                user.who.life == life
                    && matches!(user.stage, Stage::Entering | Stage::Holding)
                    && user.waiter.woken(verdict)
            });
            let result = match wanted {
                true => Ok(Reply {
                    verdict,
                    life: life.incarnation,
                }),
                false => Err(ENOENT),
            };
            self.cluster.reply(id, result);
            self.advance(request.tag);
            return;
        }
        let who = Holder {
            life: call.from,
            tag: request.tag,
        };
        let service = self.services.get_mut(&call.to).unwrap();
        let result = match request.life {
            0 => service.execute(now, who, alive, &request),
            other if other == life.incarnation => service.execute(now, who, alive, &request),
            _ => Err(ESTALE),
        };
        self.trace(format_args!("{who:?} {request:?}: {result:?}"));
        let result = result.map(|verdict| Reply {
            verdict,
            life: life.incarnation,
        });
        self.cluster.reply(id, result);
        self.tell(call.to);
    }

    /// Wakes whom a service wants woken.
    fn tell(&mut self, node: u16) {
        let life = self.cluster.members[&node].life;
        while let Some(wake) = self.services.get_mut(&node).unwrap().poll() {
            assert_eq!(wake.class, class_of(wake.who.tag));
            let number = self.cluster.number();
            self.wakes.insert(number, (life, wake));
            let request = Request {
                what: match wake.verdict {
                    Verdict::Granted(n) if n != 0 => What::Lock,
                    _ => What::Barrier { count: 0 },
                },
                ask: Ask::Wake(wake.verdict),
                class: wake.class,
                tag: wake.who.tag,
                life: life.incarnation,
                name: wake.name,
            };
            let to = wake.who.life.node;
            let timeout = u64::from(CALL_MS) * MS;
            self.cluster.call(life, to, request, timeout, number);
        }
    }

    fn answer(&mut self, id: u64, answer: Result<Result<Reply>>) {
        let Some((call, number)) = self.cluster.end(id) else {
            return;
        };
        let now = self.cluster.now();
        if let Some((life, wake)) = self.wakes.remove(&number) {
            if let (true, Ok(result)) = (self.cluster.members[&call.from.node].life == life, answer)
            {
                let service = self.services.get_mut(&life.node).unwrap();
                service.woken(&wake, result.is_ok());
                self.tell(life.node);
            }
            return;
        }
        let Some(user) = self.users.get_mut(&number) else {
            assert_eq!(number, NOBODY);
            return;
        };
        user.calling = false;
        match user.stage {
            Stage::Entering => {
                let asked = user.asked;
                user.waiter.answered(now, asked, answer);
                self.advance(number);
            }
            Stage::Leaving => {
                let owner = self.cluster.members[&call.from.node].map.up.get(&call.to);
                let known = user.waiter.life();
                let other_life = known != 0 && owner.is_some_and(|life| *life != known);
                match answer {
                    Ok(Ok(_)) | Ok(Err(ESTALE)) => user.over(now),
                    _ if other_life => user.over(now),
                    _ => self.cluster.schedule.after(50 * MS, Event::User(number)),
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
        match self.cluster.rng.range(0..6) {
            0 if running => {
                self.trace(format_args!("node {node} crashes"));
                self.cluster.crash(node);
            }
            1 if !running => {
                self.trace(format_args!("node {node} comes back"));
                self.cluster.restart(node);
                self.services.insert(node, Service::new());
                for _ in 0..self.cluster.chaos.users {
                    self.begin(node);
                }
            }
            2 | 3 => {
                // Somebody is killed.
                let tags: Vec<u64> = self.users.keys().copied().collect();
                let tag = *self.cluster.rng.pick(&tags);
                let user = self.users.get_mut(&tag).unwrap();
                if matches!(user.stage, Stage::Entering) {
                    user.waiter.give_up(EINTR);
                    self.advance(tag);
                }
            }
            _ => self.cluster.publish_everywhere(),
        }
        let every = self.cluster.chaos.fault_every;
        let next = self.cluster.rng.range(1..2 * every);
        self.cluster.schedule.after(next, Event::Fault);
    }

    /// Everybody got an answer, and nothing is left over.
    fn check_end(&mut self) {
        for user in self.users.values() {
            let member = &self.cluster.members[&user.who.life.node];
            if member.life == user.who.life {
                assert!(
                    matches!(user.stage, Stage::Over),
                    "{:?} still wants {:?}",
                    user.who,
                    user.name
                );
            }
        }
        let now = self.cluster.now();
        for (node, service) in &mut self.services {
            let left = service.locks().find_gone(|_| true);
            assert_eq!(left, None, "node {node} has locks left");
            service.drop_lives(now + 1000 * SEC, |_| true);
            assert!(service.barriers().is_empty());
        }
    }
}
