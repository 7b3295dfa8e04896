// SPDX-License-Identifier: GPL-2.0

//! Locks, barriers and memory regions of rdma_lite while nodes crash, come back and are dropped.

use sim::{
    lite::{Chaos, SyncSummary, SyncWorld},
    schedule::{for_each_seed, MS},
};
use std::sync::Mutex;

#[test]
fn locks_and_barriers_keep_their_promises_when_everything_fails() {
    let total = Mutex::new(SyncSummary::default());
    for_each_seed(
        "--test lite locks_and_barriers_keep_their_promises_when_everything_fails",
        2_000,
        |seed| {
            let chaos = Chaos {
                nodes: 2 + (seed % 3) as u16,
                users: 3,
                time: 1000 * MS,
                fault_every: 20 * MS,
            };
            let mut total = total.lock().unwrap();
            *total += SyncWorld::new(seed, chaos).run();
        },
    );
    println!("{:?}", total.into_inner().unwrap());
}
