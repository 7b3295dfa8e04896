// SPDX-License-Identifier: GPL-2.0

//! The RPC layer under simulated faults: whatever happens, each call is
//! executed at most once, gets the reply of that execution or an error that
//! tells the truth, and ends by its deadline; nothing is left over.

use sim::{
    rpc::{Chaos, Summary, World},
    schedule::{for_each_seed, MS},
};
use std::sync::Mutex;

#[test]
fn calls_keep_their_promises_when_everything_fails() {
    let total = Mutex::new(Summary::default());
    for_each_seed(
        "--test rpc calls_keep_their_promises_when_everything_fails",
        20_000,
        |seed| {
            let chaos = Chaos {
                nodes: 2 + (seed % 3) as u16,
                calls: 30,
                time: 600 * MS,
                fault_every: 15 * MS,
                alloc_fails_in: 40,
            };
            *total.lock().unwrap() += World::new(seed, chaos).run();
        },
    );
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn all_calls_are_answered_when_nothing_fails() {
    for_each_seed(
        "--test rpc all_calls_are_answered_when_nothing_fails",
        500,
        |seed| {
            let chaos = Chaos {
                nodes: 3,
                calls: 0,
                time: 100 * MS,
                fault_every: 0,
                alloc_fails_in: 0,
            };
            let summary = World::new(seed, chaos).run();
            assert_eq!((summary.answered, summary.failed), (6, 0));
        },
    );
}
