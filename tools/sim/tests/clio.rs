// SPDX-License-Identifier: GPL-2.0

//! Compute nodes and memory nodes under simulated faults: each word behaves as
//! one word, whatever is lost, repeated, reordered, moved or crashes; locks
//! exclude; what was written is read; nothing hangs past its deadline.

use sim::{
    clio::{Bug, Chaos, Summary, World},
    schedule::{for_each_seed, MS},
};
use std::{
    panic::{catch_unwind, AssertUnwindSafe},
    sync::Mutex,
};

fn chaos(seed: u64) -> Chaos {
    Chaos {
        nodes: (1 + (seed % 3) as u16, 1 + (seed / 3 % 3) as u16),
        clients: 2,
        time: 150 * MS,
        fault_every: 8 * MS,
        crashes: seed % 2 == 0,
        legomem: false,
        bug: None,
    }
}

#[test]
fn words_locks_and_ranges_keep_their_promises_when_everything_fails() {
    let total = Mutex::new(Summary::default());
    for_each_seed(
        "--test clio words_locks_and_ranges_keep_their_promises_when_everything_fails",
        1_500,
        |seed| *total.lock().unwrap() += World::new(seed, chaos(seed)).run(),
    );
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn legomem_keeps_its_promises_when_everything_fails() {
    let total = Mutex::new(Summary::default());
    for_each_seed(
        "--test clio legomem_keeps_its_promises_when_everything_fails",
        600,
        |seed| {
            let chaos = Chaos {
                legomem: true,
                ..chaos(seed)
            };
            *total.lock().unwrap() += World::new(seed, chaos).run();
        },
    );
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn nothing_fails_when_the_network_is_good() {
    for_each_seed(
        "--test clio nothing_fails_when_the_network_is_good",
        200,
        |seed| {
            let chaos = Chaos {
                fault_every: 0,
                ..chaos(seed)
            };
            let summary = World::new(seed, chaos).run();
            assert!(summary.done > 50, "{summary:?}");
            assert_eq!(summary.retries, 0, "{summary:?}");
        },
    );
}

/// A world with a bug is found out by one of so many seeds.
fn is_found(bug: Bug, seeds: u64) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found = (0..seeds).find(|seed| {
        let chaos = Chaos {
            bug: Some(bug),
            ..chaos(*seed)
        };
        catch_unwind(AssertUnwindSafe(|| World::new(*seed, chaos).run())).is_err()
    });
    std::panic::set_hook(hook);
    assert!(found.is_some(), "{seeds} seeds do not show {bug:?}");
}

#[test]
fn memory_nodes_that_forget_what_they_did_are_found() {
    is_found(Bug::NoDeeds, 2_000);
}

#[test]
fn migrations_that_forget_what_was_done_are_found() {
    is_found(Bug::MigrationForgetsDeeds, 10_000);
}

#[test]
fn locks_that_two_can_have_are_found() {
    is_found(Bug::LocksAreShared, 2_000);
}

#[test]
fn lost_memory_that_reads_as_zeros_is_found() {
    is_found(Bug::ServesZeros, 2_000);
}

#[test]
fn retries_that_do_not_say_so_are_found() {
    is_found(Bug::RetriesAsNew, 2_000);
}

#[test]
fn operations_that_do_not_wait_for_each_other_are_found() {
    is_found(Bug::NoOrder, 2_000);
}
