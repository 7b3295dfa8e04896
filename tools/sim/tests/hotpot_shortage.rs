// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: each allocation of the core during a commit fails once, on whichever node it is. The
//! commit succeeds or ends by an error and nothing was published, and the next attempt succeeds.

use kernel::{alloc::inject, error::code::*};
use sim::hotpot::{
    script::*,
    world::{Plan, World},
};

const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const LAST: [u8; 8] = *b"last....";

fn world(mrsw: bool) -> World {
    let world = cluster(Plan {
        mrsw,
        ..Plan::quiet(3)
    });
    for node in &world.nodes {
        // What there was no memory for may be in the log.
        node.life.as_ref().expect("alive").flipped.set(true);
    }
    world
}

/// A commit in which allocation `nr` fails; whether there was one.
fn survives(mrsw: bool, owners: &[u32], nr: u64) -> bool {
    let mut world = world(mrsw);
    let place = |owner: &u32| page_of(&world, 0, *owner) * PAGE + 8;
    let places: Vec<u64> = owners.iter().map(place).collect();
    let put = |world: &mut World, bytes: &[u8; 8]| {
        if mrsw {
            assert_eq!(acquire(world, 0, file(1), 1, &places, true), Ok(()));
        }
        for at in &places {
            store(world, 0, 1, *at, bytes).expect("a store");
        }
    };
    put(&mut world, &OLD);
    assert_eq!(commit(&mut world, 0, file(1), 1, &places, 2).result, Ok(()));
    put(&mut world, &NEW);
    let begin = inject::seen();
    let injection = inject::fail_nth(nr);
    let result = commit(&mut world, 0, file(1), 1, &places, 2).result;
    drop(injection);
    let failed = inject::seen() > begin + nr;
    let found = load(&mut world, 1, 1, places[0]).expect("it can be read");
    for at in &places {
        assert_eq!(load(&mut world, 1, 1, *at), Ok(found), "allocation {nr}");
    }
    match result {
        Ok(()) => assert_eq!(found, NEW, "allocation {nr}"),
        Err(EINPROGRESS) => {}
        Err(error) => assert_eq!((error, found), (ENOMEM, OLD), "allocation {nr}"),
    }
    if result != Ok(()) {
        if mrsw {
            assert_eq!(abort(&mut world, 0, file(1), 1, &[]), Ok(()));
            put(&mut world, &NEW);
        }
        let again = commit(&mut world, 0, file(1), 1, &places, 2).result;
        assert_eq!(again, Ok(()), "after {result:?} of allocation {nr}");
    }
    for bytes in [NEW, LAST] {
        if bytes == LAST {
            // Whatever became of the one before: what it acquired, wrote and kept dirty is no obstacle.
            put(&mut world, &bytes);
            let last = commit(&mut world, 0, file(1), 1, &places, 2).result;
            assert_eq!(last, Ok(()), "after allocation {nr}");
        }
        for node in 0..3 {
            for at in &places {
                assert_eq!(load(&mut world, node, 1, *at), Ok(bytes), "allocation {nr}");
            }
        }
    }
    close(&mut world, 0, file(1));
    nothing_left(&mut world);
    failed
}

fn survives_each(mrsw: bool, owners: &[u32]) {
    let count = (0..).take_while(|nr| survives(mrsw, owners, *nr)).count();
    assert!(count > 10, "{count} allocations");
}

#[test]
fn a_commit_to_the_own_pages_survives_each_allocation_that_fails() {
    survives_each(false, &[1]);
}

#[test]
fn a_commit_to_pages_of_another_survives_each_allocation_that_fails() {
    survives_each(false, &[2]);
}

#[test]
fn a_commit_to_three_owners_survives_each_allocation_that_fails() {
    survives_each(false, &[1, 2, 3]);
}

#[test]
fn an_mrsw_commit_survives_each_allocation_that_fails() {
    survives_each(true, &[1, 2, 3]);
}
