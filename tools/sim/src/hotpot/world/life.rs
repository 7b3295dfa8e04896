// SPDX-License-Identifier: GPL-2.0

//! Lives of nodes: mounts, power failures, losses.

use super::{
    eager,
    memory::{formatted, CLUSTER},
    node_of,
    operations::{Output, Role},
    Event, World,
};
use crate::{
    hotpot::{
        host::{Bug, Life, SimHost},
        workload::{self, Process},
    },
    pm::Pm,
    schedule::{tracing, Rng, Time, MS, US},
};
use hotpot_core::core::{
    background,
    cluster::{self, State},
    format::{Superblock, Timestamp, PAGE_SIZE},
    host::{Host, Sleep},
    node::{Config, Node},
    recovery,
};
use std::{cell::RefCell, rc::Rc};

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
    pub(super) incarnation: u64,
    pub(super) cut: bool,
    /// No map reaches it any more.
    pub deaf: bool,
    /// Lost for good, with its PM.
    pub gone: bool,
    /// When.
    pub(super) gone_at: Time,
    /// The last epoch in which the map did not have this life as up.
    pub away: u64,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Pages that it must not use.
    pub(super) reserved: Vec<u64>,
}

impl SimNode {
    /// A node with a new device, off.
    pub(super) fn new(id: u32) -> Self {
        Self {
            id,
            pm: Rc::new(RefCell::new(formatted(id))),
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
    }
}

impl World {
    /// A node begins a life and mounts.
    pub(super) fn start(&mut self, index: usize) {
        if self.plan.bug == Bug::ReusedCid {
            self.forget_used_cids(index);
        }
        let sim = &mut self.nodes[index];
        sim.incarnation += 1;
        sim.ready = false;
        let mut node = Node::new(Config {
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
        if let Some(policy) = self.plan.eager.policy(index) {
            node.migration.policy = policy;
        }
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
                let mounted = async {
                    cluster::new_map(&host, map).await?;
                    recovery::mount(&host, Timestamp::default()).await
                };
                Output::Mounted(mounted.await)
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

    /// A node serves: its worker begins, and its processes go on.
    pub(super) fn mounted(&mut self, index: usize) {
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
                    host.0.looks.set(host.0.looks.get() + 1);
                    let _ = host.wait(ticket, next, Sleep::Killable).await;
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

    /// A node's power fails; its PM keeps what it keeps.
    pub fn crash_now(&mut self, index: usize) {
        let Some(life) = self.nodes[index].life.take() else {
            return;
        };
        if tracing() {
            println!("{:>9} n{} crashes", self.now() / US, node_of(index));
        }
        life.dead.set(true);
        self.left += eager::left(&life);
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

    /// A node that lost power is up again.
    pub(super) fn restart(&mut self, index: usize) {
        if self.nodes[index].life.is_some() || self.nodes[index].gone {
            return;
        }
        let next = self.nodes[index].incarnation + 1;
        self.set_peer(index, State::Up, next);
        self.nodes[index].away = self.epoch;
        self.publish_map();
        self.start(index);
    }

    /// A node is lost for good, with its PM; the control plane finds out and says so.
    pub fn lose(&mut self, index: usize) {
        self.lose_at_once(&[index]);
    }

    /// Nodes are lost for good at once, with their PM; one map says so of all.
    pub fn lose_at_once(&mut self, nodes: &[usize]) {
        for index in nodes {
            self.take_away(*index);
        }
        let delay = self.rng.range(1..10) * MS;
        self.schedule.after(delay, Event::Out(nodes.to_vec()));
    }

    fn take_away(&mut self, index: usize) {
        self.trace(format_args!("n{} is lost", node_of(index)));
        self.nodes[index].gone = true;
        self.nodes[index].gone_at = self.now();
        if let Some(life) = self.nodes[index].life.take() {
            life.dead.set(true);
            self.left += eager::left(&life);
        }
        self.ops.retain(|_, op| op.node != index);
        let node = &mut self.nodes[index];
        node.ready = false;
        self.model.crashed(node.id);
        for process in &mut node.processes {
            process.crashed();
        }
    }

    /// Nothing fails any more, and processes are over.
    pub(super) fn come_back(&mut self) {
        for index in 0..self.nodes.len() {
            self.nodes[index].cut = false;
            if self.nodes[index].gone {
                continue;
            }
            let life = self.nodes[index].life.as_ref().expect("alive");
            life.swings.set(u64::MAX);
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
                let opener = workload::opener(process);
                life.node.borrow_mut().close_opener(opener);
            }
            self.schedule.after(0, Event::NewMap(sim.id as usize - 1));
        }
    }
}
