// SPDX-License-Identifier: GPL-2.0

//! Bugs planted between the core and its world: the checkers find each of them. A checker
//! that finds nothing in a broken system proves nothing about a sound one.

use hotpot_core::core::cluster::State;
use sim::{
    hotpot::{
        host::Bug,
        script::*,
        workload,
        world::{Plan, World},
    },
    schedule::MS,
};
use std::panic::{catch_unwind, AssertUnwindSafe};

/// Whether one of `seeds` worlds with the bug shows it.
fn is_found(bug: Bug, seeds: u64, shape: impl Fn(Plan) -> Plan) {
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..seeds).find(|seed| {
        catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::new(*seed, |rng| {
                shape(Plan {
                    bug,
                    ..Plan::random(rng)
                })
            });
            workload::prepare(&mut world);
            world.work();
            world.check_at_rest();
            workload::check_end(&mut world);
            world.check_at_rest();
        }))
        .is_err()
    });
    let _ = std::panic::take_hook();
    assert!(found.is_some(), "{bug:?} is not found in {seeds} worlds");
}

fn with_crashes(plan: Plan) -> Plan {
    Plan { crashes: 3, ..plan }
}

#[test]
fn a_missing_fence_is_found() {
    is_found(Bug::NoFenceBeforeSwing, 2_000, with_crashes);
}

#[test]
fn stores_that_are_never_written_back_are_found() {
    is_found(Bug::NoFlush, 2_000, with_crashes);
}

#[test]
fn a_lost_replica_is_found() {
    is_found(Bug::LostReplica, 2_000, |plan| plan);
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
}

#[test]
fn a_wrong_order_of_phases_is_found() {
    is_found(Bug::EarlyPublish, 2_000, |plan| plan);
}

#[test]
fn a_reused_commit_id_is_found() {
    is_found(Bug::ReusedCid, 5_000, with_crashes);
}

#[test]
fn a_page_that_stays_mapped_is_found() {
    is_found(Bug::NoUnmap, 2_000, |plan| plan);
}

#[test]
fn a_silent_new_life_is_found() {
    is_found(Bug::NoHello, 5_000, |plan| Plan {
        duration: 60 * MS,
        ..with_crashes(plan)
    });
}

#[test]
fn a_wrong_outcome_is_found() {
    is_found(Bug::WrongOutcome, 5_000, |plan| Plan {
        loss_in: 20,
        ..with_crashes(plan)
    });
}
