// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there while a process touches pages, gives them up, or others need their room: each allocation
//! fails once. What was begun succeeds or ends by ENOMEM, and no page stays in use by what has failed.

use hotpot_core::core::{
    commit,
    fault::{self, Access},
    format::Timestamp,
    msg::{Request, Stage},
    names,
};
use kernel::{
    alloc::inject,
    error::{code::*, Result},
};
use sim::{
    hotpot::{
        script::*,
        workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};

const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";

/// Does `once` with each of its allocations failing, and then again until it succeeds, which must be at once.
fn survives_each(
    mrsw: bool,
    prepare: impl Fn(&mut World, u64),
    once: impl Fn(&mut World, u64) -> Result,
    check: impl Fn(&mut World, u64),
) {
    for nr in 0.. {
        let mut world = cluster(Plan {
            mrsw,
            ..Plan::quiet(3)
        });
        let at = page_of(&world, 0, 2) * PAGE + 8;
        prepare(&mut world, at);
        let injection = inject::fail_nth(nr);
        let result = once(&mut world, at);
        let failed = injection.fired();
        drop(injection);
        if result != Ok(()) {
            assert_eq!(result, Err(ENOMEM), "allocation {nr}");
            assert_eq!(once(&mut world, at), Ok(()), "after allocation {nr}");
        }
        check(&mut world, at);
        close(&mut world, 0, file(1));
        nothing_left(&mut world);
        if !failed {
            assert!(nr > 0, "{nr} allocations");
            return;
        }
    }
}

fn touch(world: &mut World, at: u64, access: Access) -> Result {
    let until = world.now() + SEC;
    world.execute(0, move |host| async move {
        fault::fault(&host, key(1, at / PAGE), access, until).await
    })
}

/// Node 1 has a copy of a page of node 2, from which nobody has read since it came.
fn kept(world: &mut World, at: u64) {
    assert_eq!(write(world, 1, file(1), 1, at, OLD), Ok(()));
    assert_eq!(load(world, 0, 1, at), Ok(OLD));
}

/// All nodes can write to it, and read it.
fn usable(world: &mut World, at: u64) {
    for node in [1, 0, 2] {
        let bytes = [node as u8; 8];
        assert_eq!(write(world, node, file(1), 1, at, bytes), Ok(()));
        assert_eq!(load(world, 1, 1, at), Ok(bytes));
    }
}

#[test]
fn a_page_is_free_for_all_when_memory_failed_who_loaded_from_it() {
    survives_each(
        false,
        kept,
        |world, at| touch(world, at, Access::Read),
        usable,
    );
}

#[test]
fn a_page_is_free_for_all_when_memory_failed_who_stored_to_it() {
    survives_each(
        false,
        kept,
        |world, at| touch(world, at, Access::Write),
        |world, at| {
            assert_eq!(commit(world, 0, file(1), 1, &[at], 1).result, Ok(()));
            usable(world, at);
        },
    );
}

#[test]
fn who_had_no_memory_to_abort_can_abort_again() {
    survives_each(
        true,
        |world, at| {
            assert_eq!(acquire(world, 0, file(1), 1, &[at], true), Ok(()));
            store(world, 0, 1, at, &NEW).expect("a store");
        },
        |world, at| match abort(world, 0, file(1), 1, &[at]) {
            // It has given the page back already.
            Err(EACCES) => Ok(()),
            aborted => aborted,
        },
        |world, at| {
            assert_eq!(load(world, 0, 1, at), Ok([0; 8]));
            assert_eq!(acquire(world, 1, file(1), 1, &[at], true), Ok(()));
            close(world, 1, file(1));
        },
    );
}

/// Does `run` in worlds that `prepare` makes with allocation 0, 1, 2 and so on failing, until there
/// is none to fail; what it says is for `check`. How many there were.
fn each_fails<T>(
    prepare: impl Fn() -> World,
    run: impl Fn(&mut World) -> T,
    check: impl Fn(&mut World, u64, T),
) -> u64 {
    for nr in 0.. {
        let mut world = prepare();
        let injection = inject::fail_nth(nr);
        let result = run(&mut world);
        let failed = injection.fired();
        drop(injection);
        check(&mut world, nr, result);
        if !failed {
            return nr;
        }
    }
    unreachable!("there is an end to it")
}

/// Pages of its own that node 3 has: those of two chunks, and some of a third. With one more it
/// begins to look for room.
const OWN: usize = 36;
/// Bytes of the dataset: three chunks of each node.
const SIZE: u64 = 9 * workload::CHUNK;

/// Places in the pages that a node owns, one in each.
fn pages_of(world: &World, owner: u32) -> Vec<u64> {
    let places = (0..SIZE).step_by(PAGE as usize);
    let theirs = places.filter(|at| chunk_owner(world, 0, at / workload::CHUNK) == owner);
    theirs.collect()
}

/// A pool in which node 3 is full of its own pages, and the others have room; places in pages that
/// it owns by the row of the dataset, of which the first [`OWN`] are written.
fn full_owner() -> (World, Vec<u64>) {
    let mut world = cluster(Plan::quiet(3));
    let until = world.now() + SEC;
    world.execute(0, move |host| async move {
        let time = Timestamp::default();
        names::extend(&host, 1, SIZE, time, until)
            .await
            .expect("there is room for addresses");
    });
    let places = pages_of(&world, 3);
    // The others have counted what is theirs when they are asked.
    world.pass(3 * SEC);
    world.leave_room_on(2, OWN as u64 + 4);
    for at in &places[..OWN] {
        assert_eq!(write(&mut world, 2, file(1), 1, *at, OLD), Ok(()));
    }
    world.pass(SEC);
    (world, places)
}

/// Whether a chunk of these places has gone from its owner. It may not be counted, for want of
/// memory.
fn has_left(world: &World, places: &[u64]) -> bool {
    let chunk = |at: &u64| at / workload::CHUNK;
    places
        .iter()
        .any(|at| chunk_owner(world, 0, chunk(at)) != 3)
}

#[test]
fn a_full_owner_gives_a_chunk_away_though_an_allocation_fails_meanwhile() {
    let places = full_owner().1;
    let count = each_fails(
        || full_owner().0,
        |world| {
            assert!(!has_left(world, &places));
            let written = [0, 1].map(|nr| write(world, 2, file(1), 1, places[OWN + nr], NEW));
            world.pass(100 * MS);
            written
        },
        |world, nr, result| {
            let told = [Ok(()), Err(ENOMEM), Err(ENOSPC), Err(EINPROGRESS)];
            let known = result.iter().all(|result| told.contains(result));
            assert!(known, "allocation {nr}: {result:?}");
            // A node that had no room is asked again after a while.
            world.pass(3 * SEC);
            // Again, and what comes after it.
            for at in &places[OWN..OWN + 8] {
                let written = write(world, 2, file(1), 1, *at, NEW);
                assert_eq!(written, Ok(()), "{at} after {result:?} of allocation {nr}");
            }
            assert!(has_left(world, &places), "allocation {nr}");
            for node in 0..3 {
                for (page, at) in places[..OWN + 8].iter().enumerate() {
                    let bytes = if page < OWN { OLD } else { NEW };
                    let found = load(world, node, 1, *at);
                    assert_eq!(found, Ok(bytes), "allocation {nr}, page {page}");
                }
            }
            world.pass(3 * SEC);
            // The room that it is not to use is not there for who looks for lost pages.
            for node in &world.nodes {
                assert_eq!(node.leaks(), None, "allocation {nr}");
            }
        },
    );
    assert!(count > 100, "{count} allocations");
}

#[test]
fn a_write_is_told_to_those_who_have_its_bytes_though_an_allocation_fails_meanwhile() {
    let places = |world: &World| [0, 1].map(|nr| (page_of(world, 0, 2) + nr) * PAGE + PAGE - 8);
    let count = each_fails(
        || {
            let mut world = cluster(Plan::quiet(3));
            for at in places(&world) {
                kept(&mut world, at);
            }
            world
        },
        // Over the edge of two pages: the bytes are in memory, and go to their owner. That leaves
        // them out of what it stages at the writer, which has copies.
        |world| {
            let at = places(world)[0];
            let until = world.now() + SEC;
            world.execute(0, move |host| async move {
                let (time, bytes) = (Timestamp::default(), [NEW, NEW].concat());
                commit::write(&host, file(1), 1, at, &bytes, time, until).await
            })
        },
        |world, nr, result| {
            assert!(
                matches!(result, Ok(()) | Err(ENOMEM | EINPROGRESS)),
                "{nr}: {result:?}"
            );
            assert!(world.traffic.arrived.contains_key(&Stage::OPCODE) || result.is_err());
            let at = places(world)[0];
            let found = load(world, 1, 1, at);
            for node in 0..3 {
                assert_eq!(load(world, node, 1, at), found, "allocation {nr}");
                let behind = load(world, node, 1, at + 8);
                // What is behind was zeros.
                assert_eq!(behind == Ok(NEW), found == Ok(NEW), "allocation {nr}");
            }
            match result {
                Ok(()) => assert_eq!(found, Ok(NEW), "allocation {nr}"),
                Err(ENOMEM) => assert_eq!(found, Ok(OLD), "allocation {nr}"),
                _ => {}
            }
            usable(world, at);
            nothing_left(world);
        },
    );
    assert!(count > 10, "{count} allocations");
}
