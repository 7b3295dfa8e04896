// SPDX-License-Identifier: GPL-2.0

//! Locks, barriers and memory regions of rdma_lite while nodes crash, come back and are dropped.

use sim::{
    lite::{Chaos, RegionSummary, RegionWorld, SyncSummary, SyncWorld},
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
            let summary = SyncWorld::new(seed, chaos).run();
            *total.lock().unwrap() += summary;
        },
    );
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn regions_keep_their_promises_when_everything_fails() {
    let total = Mutex::new(RegionSummary::default());
    for_each_seed(
        "--test lite regions_keep_their_promises_when_everything_fails",
        2_000,
        |seed| {
            let chaos = Chaos {
                nodes: 2 + (seed % 3) as u16,
                users: 3,
                time: 500 * MS,
                fault_every: 20 * MS,
            };
            let summary = RegionWorld::new(seed, chaos).run();
            *total.lock().unwrap() += summary;
        },
    );
    println!("{:?}", total.into_inner().unwrap());
}

#[test]
fn all_get_what_they_want_when_nothing_fails() {
    let total = Mutex::new((SyncSummary::default(), RegionSummary::default()));
    for_each_seed(
        "--test lite all_get_what_they_want_when_nothing_fails",
        100,
        |seed| {
            let chaos = Chaos {
                nodes: 3,
                users: 2,
                time: 200 * MS,
                fault_every: 0,
            };
            let sync = SyncWorld::new(seed, chaos).run();
            let regions = RegionWorld::new(seed, chaos).run();
            let mut total = total.lock().unwrap();
            total.0 += sync;
            total.1 += regions;
        },
    );
    let (sync, regions) = total.into_inner().unwrap();
    println!("{sync:?} {regions:?}");
    assert!(sync.locked > 0 && sync.met > 0);
    assert!(regions.accesses > 0 && regions.recalls > 0 && regions.refused > 0);
}
