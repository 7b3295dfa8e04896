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
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Whether one of `seeds` worlds with the bug shows it.
fn is_found(bug: Bug, seeds: u64, shape: impl Fn(&mut Rng) -> Plan) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..seeds).find(|seed| {
        let with_bug = |rng: &mut Rng| Plan { bug, ..shape(rng) };
        catch_unwind(AssertUnwindSafe(|| live(*seed, with_bug))).is_err()
    });
    let _ = std::panic::take_hook();
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

#[test]
fn a_missing_fence_is_found() {
    is_found_by(Bug::NoFenceBeforeSwing, &WHATEVER_HAPPENS);
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
