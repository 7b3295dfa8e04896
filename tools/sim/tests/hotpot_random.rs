// SPDX-License-Identifier: GPL-2.0

//! Random processes on a random cluster with crashes, lost messages, cut links and
//! little room: whatever happens, what was promised is kept and nothing is left over.

use sim::{
    hotpot::{
        workload,
        world::{Plan, World},
    },
    schedule::{for_each_seed, Rng, MS},
};

fn live(seed: u64, plan: impl FnOnce(&mut Rng) -> Plan) {
    let mut world = World::new(seed, plan);
    workload::prepare(&mut world);
    world.work();
    world.check_at_rest();
    workload::check_end(&mut world);
    world.check_at_rest();
    workload::check_degree(&mut world);
}

#[test]
fn promises_are_kept_whatever_happens() {
    for_each_seed(
        "--test hotpot_random promises_are_kept_whatever_happens",
        12_000,
        |seed| {
            live(seed, Plan::random);
        },
    );
}

#[test]
fn promises_are_kept_in_short_lives() {
    for_each_seed(
        "--test hotpot_random promises_are_kept_in_short_lives",
        30_000,
        |seed| {
            live(seed, |rng| Plan {
                nodes: rng.range(2..4) as usize,
                duration: rng.range(4..12) * MS,
                crashes: rng.range(1..4),
                pause_in: rng.range(1..5),
                ..Plan::random(rng)
            });
        },
    );
}

#[test]
fn promises_are_kept_when_a_node_is_lost_with_its_pm() {
    for_each_seed(
        "--test hotpot_random promises_are_kept_when_a_node_is_lost_with_its_pm",
        3_000,
        |seed| {
            live(seed, |rng| Plan {
                nodes: rng.range(3..5) as usize,
                crashes: 0,
                cuts: 0,
                room: 0,
                loss: true,
                ..Plan::random(rng)
            });
        },
    );
}

#[test]
fn flipped_bits_are_healed_or_told_and_never_read() {
    for_each_seed(
        "--test hotpot_random flipped_bits_are_healed_or_told_and_never_read",
        5_000,
        |seed| {
            live(seed, |rng| Plan {
                flips: rng.range(1..12),
                ..Plan::random(rng)
            });
        },
    );
}

#[test]
fn promises_are_kept_while_chunks_move() {
    for_each_seed(
        "--test hotpot_random promises_are_kept_while_chunks_move",
        3_000,
        |seed| {
            live(seed, |rng| Plan {
                moves: rng.range(1..8),
                ..Plan::random(rng)
            });
        },
    );
}

#[test]
fn promises_are_kept_when_a_node_is_lost_while_chunks_move() {
    for_each_seed(
        "--test hotpot_random promises_are_kept_when_a_node_is_lost_while_chunks_move",
        3_000,
        |seed| {
            live(seed, |rng| Plan {
                nodes: rng.range(3..5) as usize,
                crashes: 0,
                cuts: 0,
                room: 0,
                loss: true,
                moves: rng.range(1..8),
                ..Plan::random(rng)
            });
        },
    );
}
