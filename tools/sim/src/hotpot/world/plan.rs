// SPDX-License-Identifier: GPL-2.0

//! What a world is like, and what fails in it and when.

use super::{eager::Eager, Event, World};
use crate::{
    hotpot::{host::Bug, workload},
    schedule::{Rng, Time, MS},
};
use hotpot_core::core::{cluster::State, format::PAGE_SIZE};

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
            mrsw: rng.one_in(3),
            flips: 0,
            moves: 0,
            bug: Bug::None,
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
        let chunks = workload::PAGES * PAGE_SIZE as u64 / workload::CHUNK;
        let chunk = self.rng.range(0..chunks);
        let to = self.rng.index(self.nodes.len());
        self.move_chunk(chunk, to);
    }
}
