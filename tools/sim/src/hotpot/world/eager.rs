// SPDX-License-Identifier: GPL-2.0

//! Nodes whose chunks move by themselves [2.5.5]: random worlds have far too little traffic for the
//! policy of a mount that says nothing about it.

use super::World;
use crate::{
    hotpot::host::Life,
    schedule::{Rng, MS},
};
use hotpot_core::core::migrate::Policy;

/// Which nodes have an eager policy of migration, and which one. The default: none.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eager {
    /// A bit for each node, from the first.
    nodes: u64,
    policy: Policy,
}

/// So that the numbers of [`Eager::sometimes`] are others than those that the world goes on with.
const APART: u64 = 0x6561_6765_726e_6f64;

impl Eager {
    /// Some nodes, with a window of some milliseconds and so little to gain that a few commits will
    /// do.
    pub fn some(rng: &mut Rng) -> Self {
        Self {
            // One of the first two at least, which each world has.
            nodes: rng.range(1..4) | (rng.range(0..4) << 2),
            policy: Policy {
                enabled: true,
                window: rng.range(1..20) * MS,
                min_benefit: rng.range(8..4096),
                max_cost: 1 << rng.range(13..20),
            },
        }
    }

    /// In one world of three. Nothing is drawn from `rng`: the other two are as if there were no
    /// such thing.
    pub fn sometimes(rng: &Rng) -> Self {
        let mut apart = Rng::new(rng.clone().u64() ^ APART);
        match apart.one_in(3) {
            true => Self::some(&mut apart),
            false => Self::default(),
        }
    }

    /// Whether no node has one.
    pub(super) fn is_nobody(&self) -> bool {
        self.nodes == 0
    }

    /// That of a node, from 0; `None` for the default one.
    pub(super) fn policy(&self, index: usize) -> Option<Policy> {
        ((self.nodes >> index) & 1 != 0).then_some(self.policy)
    }
}

/// Chunks that have left a node in a life.
pub(super) fn left(life: &Life) -> u64 {
    life.node.borrow().migration.counts(1).left
}

impl World {
    /// Chunks of dataset 1 that have another owner than before since a record says so, as far as
    /// the owners before lived to see it.
    pub fn chunks_moved(&self) -> u64 {
        let lives = self.nodes.iter().filter_map(|sim| sim.life.as_deref());
        self.left + lives.map(left).sum::<u64>()
    }
}
