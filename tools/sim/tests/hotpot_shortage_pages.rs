// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there while a process touches pages, gives them up, or others need their room: each allocation
//! fails once. What was begun succeeds or ends by ENOMEM, and no page stays in use by what has failed.

use hotpot_core::core::fault::{self, Access};
use kernel::{
    alloc::inject,
    error::{code::*, Result},
};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::SEC,
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
