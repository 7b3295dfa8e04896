// SPDX-License-Identifier: GPL-2.0

//! Bugs planted between the core and its world: the checkers find each of them. A checker
//! that finds nothing in a broken system proves nothing about a sound one.

use sim::{
    hotpot::{
        host::Bug,
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

#[test]
fn a_skipped_epoch_check_is_found() {
    is_found(Bug::NoEpochCheck, 20_000, |plan| Plan {
        nodes: 4,
        cuts: 3,
        loss_in: 20,
        slow_in: 20,
        ..plan
    });
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
