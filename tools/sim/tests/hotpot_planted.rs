// SPDX-License-Identifier: GPL-2.0

//! Bugs planted between the core and its world: the checkers find each of them. A checker
//! that finds nothing in a broken system proves nothing about a sound one.

use hotpot_core::core::cluster::State;
use sim::{
    hotpot::{
        campaign::{live, Campaign, CHUNKS_MOVE_BY_THEMSELVES, WHATEVER_HAPPENS},
        host::Bug,
        script::*,
        world::Plan,
    },
    schedule::{Rng, MS},
};
use std::{
    ops::Range,
    panic::{catch_unwind, AssertUnwindSafe},
};

/// How many worlds with the bug show nothing before one does.
fn first_that_shows(
    bug: Bug,
    seeds: Range<u64>,
    shape: impl Fn(&mut Rng) -> Plan,
) -> Option<usize> {
    std::panic::set_hook(Box::new(|_| {}));
    let found = seeds.into_iter().position(|seed| {
        let with_bug = |rng: &mut Rng| Plan { bug, ..shape(rng) };
        catch_unwind(AssertUnwindSafe(|| live(seed, with_bug))).is_err()
    });
    let _ = std::panic::take_hook();
    found
}

/// Whether one of `seeds` worlds with the bug shows it.
fn is_found(bug: Bug, seeds: u64, shape: impl Fn(&mut Rng) -> Plan) {
    let found = first_that_shows(bug, 0..seeds, shape);
    let seed = found.unwrap_or_else(|| panic!("{bug:?} is not found in {seeds} worlds"));
    println!("{bug:?} is found in world {seed}");
}

/// Whether one of the very worlds that `make test` runs shows the bug.
fn is_found_by(bug: Bug, of: &Campaign) {
    is_found(bug, of.seeds, of.plan);
}

fn with_crashes(rng: &mut Rng) -> Plan {
    Plan {
        crashes: 3,
        ..Plan::random(rng)
    }
}

/// Worlds whose power failures come right after a swing: what a missing fence leaves undone is
/// undone then, and a little later it is not any more.
fn that_fail_at_swings(rng: &mut Rng) -> Plan {
    Plan {
        nodes: rng.range(2..4) as usize,
        duration: 60 * MS,
        crashes: 12,
        at_swings: true,
        cuts: 0,
        ..Plan::random(rng)
    }
}

/// Numbers from which worlds are counted, so that no single lucky one matters.
const BASES: [u64; 8] = [
    0,
    1 << 8,
    1 << 16,
    1 << 24,
    1 << 32,
    1 << 40,
    1 << 48,
    1 << 56,
];

#[test]
fn a_missing_fence_is_found() {
    let mut found = Vec::new();
    for base in BASES {
        for seed in base..base + 4 {
            live(seed, that_fail_at_swings);
        }
        let bug = Bug::NoFenceBeforeSwing;
        found.push(first_that_shows(bug, base..base + 400, that_fail_at_swings));
    }
    println!("the first worlds that show it, from each base: {found:?}");
    assert!(found.iter().all(Option::is_some), "{found:?}");
}

#[test]
fn stores_that_are_never_written_back_are_found() {
    is_found_by(Bug::NoFlush, &WHATEVER_HAPPENS);
}

#[test]
fn a_lost_replica_is_found() {
    is_found_by(Bug::LostReplica, &WHATEVER_HAPPENS);
}

/// Whether a node that is out, and has not heard of it, publishes something.
fn publishes_when_out(bug: Bug) -> bool {
    let mut world = cluster(Plan {
        bug,
        ..Plan::quiet(3)
    });
    let at = page_of(&world, 0, 1) * PAGE + 8;
    store(&mut world, 2, 1, at, b"from out").expect("a store");
    world.nodes[2].deaf = true;
    world.declare(2, State::Out);
    world.pass(5 * MS);
    let committed = commit(&mut world, 2, file(1), 1, &[at], 1);
    let seen = load(&mut world, 0, 1, at) != Ok([0; 8]);
    assert_eq!(seen, committed.result.is_ok());
    seen
}

#[test]
fn a_skipped_epoch_check_is_found() {
    assert!(!publishes_when_out(Bug::None));
    assert!(publishes_when_out(Bug::NoEpochCheck));
    // Random worlds come to it, too: the first of WHATEVER_HAPPENS is 10,845, which takes minutes.
}

#[test]
fn a_wrong_order_of_phases_is_found() {
    is_found_by(Bug::EarlyPublish, &WHATEVER_HAPPENS);
}

#[test]
fn a_reused_commit_id_is_found() {
    is_found_by(Bug::ReusedCid, &WHATEVER_HAPPENS);
}

#[test]
fn a_page_that_stays_mapped_is_found() {
    is_found_by(Bug::NoUnmap, &WHATEVER_HAPPENS);
}

#[test]
fn a_silent_new_life_is_found() {
    is_found(Bug::NoHello, 5_000, |rng| Plan {
        duration: 60 * MS,
        ..with_crashes(rng)
    });
}

#[test]
fn a_wrong_outcome_is_found() {
    is_found(Bug::WrongOutcome, 5_000, |rng| Plan {
        loss_in: 20,
        ..with_crashes(rng)
    });
}

#[test]
fn an_owner_that_goes_on_with_a_chunk_that_it_has_handed_over_is_found() {
    is_found_by(Bug::EarlyHandOver, &CHUNKS_MOVE_BY_THEMSELVES);
}
