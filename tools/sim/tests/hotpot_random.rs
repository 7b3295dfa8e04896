// SPDX-License-Identifier: GPL-2.0

//! Random processes on a random cluster with crashes, lost messages, cut links and
//! little room: whatever happens, what was promised is kept and nothing is left over.

use sim::{
    hotpot::campaign::{self, live, Campaign},
    schedule::for_each_seed,
};
use std::sync::atomic::{AtomicU64, Ordering};

fn run(test: &str, of: &Campaign) -> Moves {
    let (worlds, chunks) = (AtomicU64::new(0), AtomicU64::new(0));
    for_each_seed(&format!("--test hotpot_random {test}"), of.seeds, |seed| {
        chunks.fetch_add(live(seed, of.plan), Ordering::Relaxed);
        worlds.fetch_add(1, Ordering::Relaxed);
    });
    println!("{test}: {chunks:?} chunks moved in {worlds:?} worlds");
    Moves {
        worlds: worlds.into_inner(),
        chunks: chunks.into_inner(),
    }
}

/// Chunks that moved in worlds.
struct Moves {
    worlds: u64,
    chunks: u64,
}

impl Moves {
    /// One in `worlds` worlds at least, on the average of many.
    fn are_one_in(&self, worlds: u64) {
        let many = self.worlds >= 500;
        assert!(
            !many || self.chunks * worlds >= self.worlds,
            "only {} chunks moved in {} worlds",
            self.chunks,
            self.worlds
        );
    }
}

#[test]
fn promises_are_kept_whatever_happens() {
    run(
        "promises_are_kept_whatever_happens",
        &campaign::WHATEVER_HAPPENS,
    )
    .are_one_in(6);
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
fn promises_are_kept_when_two_nodes_are_lost_at_once() {
    run(
        "promises_are_kept_when_two_nodes_are_lost_at_once",
        &campaign::TWO_NODES_ARE_LOST_AT_ONCE,
    );
}

#[test]
fn promises_are_kept_when_a_second_node_is_lost_meanwhile() {
    run(
        "promises_are_kept_when_a_second_node_is_lost_meanwhile",
        &campaign::A_SECOND_NODE_IS_LOST_MEANWHILE,
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

#[test]
fn promises_are_kept_while_chunks_move_by_themselves() {
    run(
        "promises_are_kept_while_chunks_move_by_themselves",
        &campaign::CHUNKS_MOVE_BY_THEMSELVES,
    )
    .are_one_in(2);
}

#[test]
fn promises_are_kept_when_a_node_is_lost_while_chunks_move_by_themselves() {
    run(
        "promises_are_kept_when_a_node_is_lost_while_chunks_move_by_themselves",
        &campaign::A_NODE_IS_LOST_WHILE_CHUNKS_MOVE_BY_THEMSELVES,
    )
    .are_one_in(2);
}
