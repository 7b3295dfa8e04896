// SPDX-License-Identifier: GPL-2.0

//! The random worlds of `hotpot_random`: what each is like, how many `make test` runs, and what is checked.
//! `hotpot_planted` runs the same ones with bugs in them.

use super::{
    workload,
    world::{Eager, Plan, Second, World},
};
use crate::schedule::{Rng, MS};

/// A kind of random world.
pub struct Campaign {
    /// Seeds that `make test` runs; `make test-all` times `POTLUCK_SEEDS`.
    pub seeds: u64,
    /// What such a world is like.
    pub plan: fn(&mut Rng) -> Plan,
}

/// Crashes, lost messages, cut links, little room.
pub const WHATEVER_HAPPENS: Campaign = Campaign {
    seeds: 12_000,
    plan: Plan::random,
};

/// Few nodes that crash soon, at any action.
pub const SHORT_LIVES: Campaign = Campaign {
    seeds: 30_000,
    plan: |rng| Plan {
        nodes: rng.range(2..4) as usize,
        duration: rng.range(4..12) * MS,
        crashes: rng.range(1..4),
        pause_in: rng.range(1..5),
        ..Plan::random(rng)
    },
};

fn with_a_loss(rng: &mut Rng) -> Plan {
    Plan {
        nodes: rng.range(3..5) as usize,
        crashes: 0,
        cuts: 0,
        room: 0,
        loss: true,
        wide: rng.one_in(2),
        ..Plan::random(rng)
    }
}

/// A node is lost with its PM.
pub const A_NODE_IS_LOST: Campaign = Campaign {
    seeds: 3_000,
    plan: with_a_loss,
};

/// Three copies, and two of the nodes are lost with their PM: all nodes of the dataset's row among them.
fn with_two_losses(rng: &mut Rng, second: Second) -> Plan {
    let nodes = rng.range(3..6) as usize;
    Plan {
        nodes,
        row: match nodes > 3 && rng.one_in(3) {
            true => 2,
            false => 0,
        },
        moves: match rng.one_in(3) {
            true => rng.range(1..8),
            false => 0,
        },
        second,
        // So that there are not more values than a byte has: of two stores of more in one cell, commits of what
        // differs could make a third.
        duration: rng.range(20..50) * MS,
        ..with_a_loss(rng)
    }
}

/// Two nodes are lost at once.
pub const TWO_NODES_ARE_LOST_AT_ONCE: Campaign = Campaign {
    seeds: 600,
    plan: |rng| with_two_losses(rng, Second::AtOnce),
};

/// The second node is lost before the first one's successors have taken over and the copies that it took with
/// it are made anew; in half of the worlds a node restarts in between.
pub const A_SECOND_NODE_IS_LOST_MEANWHILE: Campaign = Campaign {
    seeds: 400,
    plan: |rng| Plan {
        restart_between: rng.one_in(2),
        second: Second::After(rng.range(1..30 * MS)),
        ..with_two_losses(rng, Second::AtOnce)
    },
};

/// Bits flip.
pub const BITS_FLIP: Campaign = Campaign {
    seeds: 5_000,
    plan: |rng| Plan {
        flips: rng.range(1..12),
        ..Plan::random(rng)
    },
};

/// Chunks move.
pub const CHUNKS_MOVE: Campaign = Campaign {
    seeds: 3_000,
    plan: |rng| Plan {
        moves: rng.range(1..8),
        ..Plan::random(rng)
    },
};

/// Chunks move, and a node is lost with its PM.
pub const A_NODE_IS_LOST_WHILE_CHUNKS_MOVE: Campaign = Campaign {
    seeds: 3_000,
    plan: |rng| Plan {
        moves: rng.range(1..8),
        ..with_a_loss(rng)
    },
};

/// Chunks move by themselves, whatever happens beside: often several times in a world.
pub const CHUNKS_MOVE_BY_THEMSELVES: Campaign = Campaign {
    seeds: 1_000,
    plan: |rng| Plan {
        duration: rng.range(40..80) * MS,
        eager: Eager::some(rng),
        ..Plan::random(rng)
    },
};

/// The same, and a node is lost with its PM.
pub const A_NODE_IS_LOST_WHILE_CHUNKS_MOVE_BY_THEMSELVES: Campaign = Campaign {
    seeds: 1_000,
    plan: |rng| Plan {
        duration: rng.range(40..80) * MS,
        eager: Eager::some(rng),
        ..with_a_loss(rng)
    },
};

/// One world, from its begin until all is at rest, with all that is checked of it. How many chunks
/// moved.
pub fn live(seed: u64, plan: impl FnOnce(&mut Rng) -> Plan) -> u64 {
    let mut world = World::new(seed, plan);
    workload::prepare(&mut world);
    world.work();
    world.check_at_rest();
    workload::check_end(&mut world);
    workload::check_outcomes(&mut world);
    world.check_at_rest();
    workload::check_degree(&mut world);
    world.chunks_moved()
}
