// SPDX-License-Identifier: GPL-2.0

//! Random processes on a random cluster with crashes, lost messages, cut links and
//! little room: whatever happens, what was promised is kept and nothing is left over.

use sim::{
    hotpot::campaign::{self, live, Campaign},
    schedule::for_each_seed,
};

fn run(test: &str, of: &Campaign) {
    for_each_seed(&format!("--test hotpot_random {test}"), of.seeds, |seed| {
        live(seed, of.plan);
    });
}

#[test]
fn promises_are_kept_whatever_happens() {
    run(
        "promises_are_kept_whatever_happens",
        &campaign::WHATEVER_HAPPENS,
    );
}

#[test]
fn promises_are_kept_in_short_lives() {
    run("promises_are_kept_in_short_lives", &campaign::SHORT_LIVES);
}

#[test]
fn promises_are_kept_when_a_node_is_lost_with_its_pm() {
    run(
        "promises_are_kept_when_a_node_is_lost_with_its_pm",
        &campaign::A_NODE_IS_LOST,
    );
}

#[test]
fn flipped_bits_are_healed_or_told_and_never_read() {
    run(
        "flipped_bits_are_healed_or_told_and_never_read",
        &campaign::BITS_FLIP,
    );
}

#[test]
fn promises_are_kept_while_chunks_move() {
    run(
        "promises_are_kept_while_chunks_move",
        &campaign::CHUNKS_MOVE,
    );
}

#[test]
fn promises_are_kept_when_a_node_is_lost_while_chunks_move() {
    run(
        "promises_are_kept_when_a_node_is_lost_while_chunks_move",
        &campaign::A_NODE_IS_LOST_WHILE_CHUNKS_MOVE,
    );
}
