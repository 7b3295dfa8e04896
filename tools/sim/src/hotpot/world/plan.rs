// SPDX-License-Identifier: GPL-2.0

//! What a world is like, and what fails in it and when.

use super::{eager::Eager, life::SimNode, Event, World};
use crate::{
    hotpot::{host::Bug, workload},
    schedule::{Rng, Time, MS},
};
use hotpot_core::core::{cluster::State, format::PAGE_SIZE};

/// A second node that is lost with its PM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Second {
    /// None is.
    #[default]
    Stays,
    /// At the same time as the first; one map tells of both.
    AtOnce,
    /// So long after the first, ns: mostly while that one's successors take over.
    After(Time),
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
    /// They come right after a swing that a fence is in front of.
    pub at_swings: bool,
    /// Cut links to come.
    pub cuts: u64,
    /// Free pages that nodes have; 0 is all.
    pub room: u64,
    /// Operations pause once in so many actions.
    pub pause_in: u64,
    /// A node will be lost with its PM.
    pub loss: bool,
    /// And another one. Each page has a copy more then.
    pub second: Second,
    /// Between the two losses a node restarts; the second waits until that is done.
    pub restart_between: bool,
    /// The first nodes, over which alone the dataset's chunks go; 0 is all.
    pub row: usize,
    /// The dataset is so large that nodes own several of its chunks: these have several successors.
    pub wide: bool,
    /// The dataset that is watched is MRSW.
    pub mrsw: bool,
    /// Bits of copies that flip.
    pub flips: u64,
    /// Chunks that are sent to other nodes.
    pub moves: u64,
    /// Nodes whose chunks move by themselves at little traffic.
    pub eager: Eager,
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
            at_swings: false,
            cuts: 0,
            room: 0,
            pause_in: 0,
            loss: false,
            second: Second::Stays,
            restart_between: false,
            row: 0,
            wide: false,
            mrsw: false,
            flips: 0,
            moves: 0,
            eager: Eager::default(),
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
            eager: Eager::sometimes(rng),
            nodes: rng.range(2..5) as usize,
            processes: rng.range(1..3) as usize,
            duration: rng.range(20..80) * MS,
            loss_in: rare(rng, 60),
            slow_in: rare(rng, 60),
            crashes: rng.range(0..4),
            at_swings: false,
            cuts: rng.range(0..2),
            room: match rng.range(0..4) {
                0 => rng.range(4..40),
                _ => 0,
            },
            pause_in: rng.range(2..20),
            loss: false,
            second: Second::Stays,
            restart_between: false,
            row: 0,
            wide: false,
            mrsw: rng.one_in(3),
            flips: 0,
            moves: 0,
            bug: Bug::None,
        }
    }

    /// Copies that a page must have so that the losses to come leave one.
    pub fn copies(&self) -> u32 {
        match (self.loss, self.second) {
            (false, _) => 1,
            (true, Second::Stays) => 2,
            (true, _) => 3,
        }
    }

    /// Whether chunks may have other owners than their dataset's row says.
    pub(super) fn has_moves(&self) -> bool {
        self.moves != 0 || !self.eager.is_nobody()
    }
}

impl World {
    /// What the plan has in store, each at some time of the work.
    pub(super) fn schedule_failures(&mut self) {
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
            self.schedule_losses(at, node);
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
    }

    fn schedule_losses(&mut self, at: Time, first: usize) {
        if self.plan.second == Second::Stays {
            return self.schedule.after(at, Event::Lose(vec![first]));
        }
        let second = match self.plan.row {
            // All that there is of it.
            2 if first < 2 => 1 - first,
            _ => (first + 1 + self.rng.index(self.nodes.len() - 1)) % self.nodes.len(),
        };
        match self.plan.second {
            Second::After(wait) => {
                self.schedule.after(at, Event::Lose(vec![first]));
                let mut then = at + wait;
                if self.plan.restart_between {
                    let next = self.rng.index(self.nodes.len());
                    let soon = at + self.rng.range(0..wait);
                    self.schedule.after(soon, Event::CrashNow(next));
                    // The control plane has noticed by then, if it does.
                    then = then.max(soon + 11 * MS);
                }
                self.schedule.after(then, Event::LoseAnother(second));
            }
            _ => self.schedule.after(at, Event::Lose(vec![first, second])),
        }
    }

    /// When nobody else is just away: with three copies no more than two nodes may be at a time.
    pub(super) fn lose_another(&mut self, index: usize) {
        let is_there = |sim: &SimNode| sim.gone || sim.ready && self.is_up(sim.id);
        match self.nodes.iter().all(is_there) {
            true => self.lose(index),
            false => self.schedule.after(MS, Event::LoseAnother(index)),
        }
    }

    /// At a random action, or now when there is none; or right after a swing.
    pub(super) fn crash_at_an_action(&mut self, index: usize) {
        match self.nodes[index].life.clone() {
            Some(life) if self.plan.at_swings => life.swings.set(self.rng.range(0..4)),
            Some(life) if self.rng.one_in(4) => life.fuse.set(self.rng.range(0..6)),
            Some(life) if !self.rng.one_in(4) => life.fuse.set(self.rng.range(0..60)),
            _ => self.crash_now(index),
        }
    }

    pub(super) fn move_some_chunk(&mut self) {
        let chunks = workload::pages(&self.plan) * PAGE_SIZE as u64 / workload::CHUNK;
        let chunk = self.rng.range(0..chunks);
        let to = self.rng.index(self.nodes.len());
        self.move_chunk(chunk, to);
    }
}
