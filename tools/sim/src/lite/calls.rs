// SPDX-License-Identifier: GPL-2.0

//! Nodes, their maps, and calls between them.

use super::Chaos;
use crate::schedule::{Rng, Schedule, Time, MS, US};
use kernel::prelude::{Error, Result, EHOSTDOWN, ESTALE, ETIMEDOUT};
use rdma_lite_core::core::holder::Life;
use std::collections::BTreeMap;

/// A map: which life of each node is a member that is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    pub epoch: u64,
    pub up: BTreeMap<u16, u64>,
}

impl Map {
    pub fn has(&self, life: Life) -> bool {
        self.up.get(&life.node) == Some(&life.incarnation)
    }
}

/// A node, and what it knows of the others.
#[derive(Clone, Debug)]
pub struct Member {
    pub life: Life,
    pub running: bool,
    pub map: Map,
}

/// A call under way.
#[derive(Clone, Debug)]
pub struct Call<Q> {
    pub from: Life,
    pub to: u16,
    pub request: Q,
    epoch: u64,
    /// The life that executes it.
    callee: u64,
    /// Who waits for it, while it has not ended.
    pub user: Option<u64>,
}

/// What happens.
pub enum Event<P> {
    Arrive(u64),
    Execute(u64),
    Answer(u64, P),
    Timeout(u64),
    /// A map reaches a node.
    Publish(u16, Map),
    Fault,
    /// Something of the world's own.
    User(u64),
}

/// A cluster whose calls ask `Q` and answer `P`.
pub struct Cluster<Q, P> {
    pub rng: Rng,
    pub schedule: Schedule<Event<Result<Result<P>>>>,
    pub members: BTreeMap<u16, Member>,
    pub calls: BTreeMap<u64, Call<Q>>,
    pub chaos: Chaos,
    /// The newest map of the control plane.
    pub map: Map,
    next: u64,
    lossy: bool,
}

impl<Q: Clone, P: Clone> Cluster<Q, P> {
    pub fn new(seed: u64, chaos: Chaos) -> Self {
        let mut map = Map {
            epoch: 1,
            up: BTreeMap::new(),
        };
        for node in 1..=chaos.nodes {
            map.up.insert(node, 1);
        }
        let member = |node| Member {
            life: Life {
                node,
                incarnation: 1,
            },
            running: true,
            map: map.clone(),
        };
        let members = (1..=chaos.nodes).map(|node| (node, member(node))).collect();
        let mut this = Self {
            rng: Rng::new(seed),
            schedule: Schedule::new(),
            members,
            calls: BTreeMap::new(),
            chaos,
            map,
            next: 1,
            lossy: chaos.fault_every != 0,
        };
        if chaos.fault_every != 0 {
            this.schedule.after(chaos.fault_every, Event::Fault);
        }
        this
    }

    pub fn now(&self) -> Time {
        self.schedule.now()
    }

    /// Nothing fails from now on.
    pub fn mend(&mut self) {
        self.lossy = false;
    }

    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn delay(&mut self) -> Time {
        let slow = self.lossy && self.rng.one_in(20);
        self.rng.range(2 * US..if slow { 30 * MS } else { 50 * US })
    }

    fn lost(&mut self) -> bool {
        self.lossy && self.rng.one_in(30)
    }

    /// Makes a call for `user`.
    pub fn call(&mut self, from: Life, to: u16, request: Q, timeout: Time, user: u64) {
        let id = self.number();
        let member = &self.members[&from.node];
        let known = member.map.up.contains_key(&to);
        let call = Call {
            from,
            to,
            request,
            epoch: member.map.epoch,
            callee: 0,
            user: Some(user),
        };
        self.calls.insert(id, call);
        if !known {
            let delay = self.delay();
            self.schedule
                .after(delay, Event::Answer(id, Err(EHOSTDOWN)));
            return;
        }
        self.schedule.after(timeout, Event::Timeout(id));
        if !self.lost() {
            let delay = self.delay();
            self.schedule.after(delay, Event::Arrive(id));
        }
    }

    /// A call reaches its callee.
    pub fn arrive(&mut self, id: u64) {
        let delay = self.delay();
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let callee = &self.members[&call.to];
        let caller = &self.members[&call.from.node];
        if !callee.running || caller.life != call.from {
            return;
        }
        if callee.map.epoch != call.epoch || !callee.map.has(call.from) {
            self.schedule.after(delay, Event::Answer(id, Err(ESTALE)));
            return;
        }
        call.callee = callee.life.incarnation;
        self.schedule.after(delay, Event::Execute(id));
    }

    /// The call to execute now, if its callee still lives.
    pub fn execute(&mut self, id: u64) -> Option<(Call<Q>, bool)> {
        let call = self.calls.get(&id)?.clone();
        let callee = &self.members[&call.to];
        if !callee.running || callee.life.incarnation != call.callee {
            return None;
        }
        let alive = callee.map.has(call.from);
        Some((call, alive))
    }

    /// The handler returned.
    pub fn reply(&mut self, id: u64, result: Result<P>) {
        if !self.lost() {
            let delay = self.delay();
            self.schedule.after(delay, Event::Answer(id, Ok(result)));
        }
    }

    /// The call has ended for its caller; who waited for it.
    pub fn end(&mut self, id: u64) -> Option<(Call<Q>, u64)> {
        let call = self.calls.get_mut(&id)?;
        let user = call.user.take()?;
        let call = call.clone();
        let caller = &self.members[&call.from.node];
        (caller.running && caller.life == call.from).then_some((call, user))
    }

    /// A map takes effect at a node; false when it had a newer one. Returns the calls that end.
    pub fn publish(&mut self, node: u16, map: Map) -> Option<Vec<(u64, Error)>> {
        let member = self.members.get_mut(&node)?;
        if !member.running || map.epoch <= member.map.epoch {
            return None;
        }
        let other_life = map
            .up
            .get(&node)
            .is_some_and(|i| *i != member.life.incarnation);
        if other_life {
            return None;
        }
        let old = std::mem::replace(&mut member.map, map.clone());
        let life = member.life;
        let ended = self.calls.iter().filter_map(|(id, call)| {
            if call.from != life || call.user.is_none() {
                return None;
            }
            match (map.up.get(&call.to), old.up.get(&call.to)) {
                (None, _) => Some((*id, EHOSTDOWN)),
                (new, old) if new != old => Some((*id, ETIMEDOUT)),
                _ => None,
            }
        });
        Some(ended.collect())
    }

    /// The control plane publishes what is true now.
    pub fn publish_everywhere(&mut self) {
        self.map.epoch += 1;
        self.map.up = self
            .members
            .values()
            .filter(|member| member.running)
            .map(|member| (member.life.node, member.life.incarnation))
            .collect();
        let nodes: Vec<u16> = self.members.keys().copied().collect();
        for node in nodes {
            let delay = self.delay();
            self.schedule
                .after(delay, Event::Publish(node, self.map.clone()));
        }
    }

    /// The node stops; what it knew is lost.
    pub fn crash(&mut self, node: u16) {
        if let Some(member) = self.members.get_mut(&node) {
            member.running = false;
        }
    }

    /// It comes back in a new life that knows no map.
    pub fn restart(&mut self, node: u16) {
        if let Some(member) = self.members.get_mut(&node) {
            member.running = true;
            member.life.incarnation += 1;
            member.map = Map::default();
        }
    }
}
