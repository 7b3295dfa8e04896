// SPDX-License-Identifier: GPL-2.0

//! What fails: crashes, partitions, cuts, connections that break, wrong maps; and the calm after it.

use super::{Event, World};
use crate::{
    net::Faults,
    schedule::{Time, MS},
};
use rdma_lite_core::core::{Action, NodeState};

/// What happens to a world besides its workload.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// Nodes, from 2.
    pub nodes: u16,
    /// Calls made while there is chaos.
    pub calls: u64,
    /// For how long.
    pub time: Time,
    /// Mean time between two faults; 0 for none.
    pub fault_every: Time,
    /// Once in so many events an allocation of the core fails; 0 for never.
    pub alloc_fails_in: u64,
}

impl World {
    pub(super) fn fault(&mut self) {
        if self.calm {
            return;
        }
        let every = self.chaos.fault_every;
        let next = self.rng.range(every / 2..every * 2);
        self.schedule.after(next, Event::Fault);
        let id = self.rng.range(1..u64::from(self.chaos.nodes) + 1) as u16;
        let state = usize::from(id) - 1;
        match self.rng.range(0..12) {
            0 | 1 => self.crash(id),
            2 => {
                let all: Vec<_> = self.ids().collect();
                self.trace(format_args!("partition: {id} alone"));
                self.net.partition(&[id], &all);
            }
            3 => {
                let other = self.rng.range(1..u64::from(self.chaos.nodes) + 1) as u16;
                self.trace(format_args!("cut: {id} to {other}"));
                self.net.cut(id, other);
            }
            4 | 5 => self.net.heal(),
            6 | 7 => self.break_any(),
            8 => {
                self.states[state] =
                    *self
                        .rng
                        .pick(&[NodeState::Up, NodeState::Down, NodeState::Out]);
                self.new_map();
            }
            9 | 10 => {
                self.states.fill(NodeState::Up);
                self.new_map();
            }
            _ => {
                let faults = Faults::random(&mut self.rng);
                self.net.set_faults(faults);
            }
        }
    }

    fn crash(&mut self, id: u16) {
        let Some(node) = self.nodes.remove(&id) else {
            return;
        };
        self.trace(format_args!("{id}: crashes"));
        let mut tags = Vec::new();
        for (_, mut remote) in node.remotes {
            remote.core.shut_down(self.schedule.now());
            while let Some(action) = remote.core.poll(self.schedule.now()) {
                if let Action::Complete { token, .. } = action {
                    tags.push(token.tag);
                }
            }
        }
        for tag in tags {
            self.ledger.moot(tag);
        }
        for index in 0..self.conns.len() {
            let conn = &mut self.conns[index];
            let Some(end) = conn.nodes.iter().position(|node| *node == id) else {
                continue;
            };
            if conn.ends[end].as_ref().is_some_and(|end| end.open) {
                self.close_end(index, end);
            }
        }
        let delay = self.rng.range(0..60 * MS);
        self.schedule.after(delay, Event::Start { node: id });
    }

    fn break_any(&mut self) {
        let live: Vec<_> = (0..self.conns.len())
            .filter(|index| !self.conns[*index].broken)
            .collect();
        if !live.is_empty() {
            let conn = *self.rng.pick(&live);
            self.break_conn(conn);
        }
    }

    pub(super) fn calm_down(&mut self) {
        self.trace(format_args!("calm"));
        self.calm = true;
        self.net.heal();
        self.net.set_faults(Faults::NONE);
        for id in self.ids() {
            if !self.nodes.contains_key(&id) {
                self.start(id);
            }
        }
        self.states.fill(NodeState::Up);
        self.new_map();
    }
}
