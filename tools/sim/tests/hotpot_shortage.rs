// SPDX-License-Identifier: GPL-2.0

//! Memory that is not there: each allocation of the core during a commit, while pages are acquired, names change, a
//! node mounts, and others take the place of one that is lost fails once, on whichever node it is. What was begun
//! succeeds or ends by an error and nothing of it has happened, the next attempt succeeds, and nothing is lost or left.

use hotpot_core::core::{
    format::Timestamp,
    msg::{Request, TakeCopies},
    names::{self, Change, NewDataset},
};
use kernel::{
    alloc::inject,
    error::{code::*, Result},
};
use sim::{
    hotpot::{
        host::SimHost,
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const LAST: [u8; 8] = *b"last....";

fn world(mrsw: bool) -> World {
    world_of(Plan {
        mrsw,
        ..Plan::quiet(3)
    })
}

fn world_of(plan: Plan) -> World {
    let world = cluster(plan);
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
    let injection = inject::fail_nth(nr);
    let result = commit(&mut world, 0, file(1), 1, &places, 2).result;
    let failed = injection.fired();
    drop(injection);
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

/// Does `run` in worlds of `plan` with allocation 0, 1, 2 and so on failing, until there is none to fail; what it
/// returns is checked by `check`.
fn each_fails<T>(
    plan: Plan,
    run: impl Fn(&mut World) -> T,
    check: impl Fn(&mut World, u64, T),
    prepare: impl Fn(&mut World),
) {
    let mut nr = 0;
    loop {
        let mut world = world_of(plan);
        prepare(&mut world);
        let injection = inject::fail_nth(nr);
        let result = run(&mut world);
        let fired = injection.fired();
        drop(injection);
        check(&mut world, nr, result);
        nothing_left(&mut world);
        if !fired {
            assert!(nr > 10, "{nr} allocations");
            return;
        }
        nr += 1;
    }
}

/// A place in a page of each node's.
fn one_of_each(world: &World) -> [u64; 3] {
    [1, 2, 3].map(|owner| page_of(world, 0, owner) * PAGE + 8)
}

fn put_and_commit(world: &mut World, node: usize, bytes: &[u8; 8], replicas: u32) {
    let places = one_of_each(world);
    for at in places {
        store(world, node, 1, at, bytes).expect("a store");
    }
    let committed = commit(world, node, file(1), 1, &places, replicas);
    assert_eq!(committed.result, Ok(()));
}

#[test]
fn pages_are_acquired_or_free_for_others_when_an_allocation_fails_meanwhile() {
    let plan = Plan {
        mrsw: true,
        ..Plan::quiet(3)
    };
    let take = |world: &mut World, node: usize| {
        let places = one_of_each(world);
        acquire(world, node, file(1), 1, &places, true)
    };
    each_fails(
        plan,
        |world| take(world, 0),
        |world, nr, result| {
            if result == Ok(()) {
                put_and_commit(world, 0, &NEW, 1);
            }
            assert_eq!(take(world, 1), Ok(()), "allocation {nr}: {result:?}");
            close(world, 0, file(1));
            close(world, 1, file(1));
        },
        |_| {},
    );
}

fn create(world: &mut World) -> Result<u64> {
    let until = world.now() + SEC;
    let new = NewDataset {
        chunk_size: 64 << 10,
        reserve: 1 << 30,
        ..new_dataset()
    };
    world.execute(1, move |host: SimHost| async move {
        names::create(&host, b"another", &new, until).await
    })
}

fn unlink(world: &mut World) -> Result {
    let until = world.now() + SEC;
    world.execute(2, move |host: SimHost| async move {
        names::unlink(&host, b"another", Timestamp::default(), until).await
    })
}

fn resize(world: &mut World, pages: u64) -> Result {
    let until = world.now() + SEC;
    let change = Change {
        size: Some(pages * PAGE),
        ..Change::default()
    };
    world.execute(1, move |host: SimHost| async move {
        names::change(&host, 1, &change, until).await
    })
}

#[test]
fn a_dataset_is_made_or_not_when_an_allocation_fails_meanwhile() {
    each_fails(
        Plan::quiet(3),
        create,
        |world, nr, result| {
            let again = create(world).map(|_| ());
            match result {
                Ok(_) => assert_eq!(again, Err(EEXIST), "allocation {nr}"),
                Err(_) => assert!(matches!(again, Ok(()) | Err(EEXIST)), "{nr}: {again:?}"),
            }
        },
        |_| {},
    );
}

#[test]
fn a_dataset_is_removed_or_not_when_an_allocation_fails_meanwhile() {
    each_fails(
        Plan::quiet(3),
        unlink,
        |world, nr, result| {
            let again = unlink(world);
            match result {
                Ok(()) => assert_eq!(again, Err(ENOENT), "allocation {nr}"),
                Err(_) => assert!(matches!(again, Ok(()) | Err(ENOENT)), "{nr}: {again:?}"),
            }
            assert!(create(world).is_ok(), "allocation {nr}");
        },
        |world| assert!(create(world).is_ok()),
    );
}

#[test]
fn what_is_cut_off_is_gone_and_the_rest_stays_when_an_allocation_fails_meanwhile() {
    each_fails(
        Plan::quiet(3),
        |world| resize(world, 20),
        |world, nr, result| {
            if result != Ok(()) {
                assert_eq!(resize(world, 20), Ok(()), "allocation {nr}: {result:?}");
            }
            assert_eq!(resize(world, 48), Ok(()), "allocation {nr}");
            for at in one_of_each(world) {
                let left = if at < 20 * PAGE { OLD } else { [0; 8] };
                for node in 0..3 {
                    assert_eq!(load(world, node, 1, at), Ok(left), "allocation {nr}");
                }
            }
        },
        |world| put_and_commit(world, 0, &OLD, 2),
    );
}

#[test]
fn a_mount_for_which_an_allocation_failed_loses_nothing_and_the_next_one_succeeds() {
    for time in [0, 150, 300, 450] {
        let told = Rc::new(RefCell::new(None));
        each_fails(
            Plan::quiet(3),
            |world| {
                world.crash_now(1);
                world.pass(200 * MS);
            },
            |world, nr, ()| {
                world.pass(2 * SEC);
                let places = one_of_each(world);
                let found = load(world, 1, 1, places[0]).expect("it can be read");
                for node in 1..3 {
                    for at in places {
                        assert_eq!(load(world, node, 1, at), Ok(found), "allocation {nr}");
                    }
                }
                match told.borrow_mut().take() {
                    Some(Ok(())) => assert_eq!(found, NEW, "allocation {nr}"),
                    Some(Err(EINPROGRESS)) | None => assert!([OLD, NEW].contains(&found)),
                    Some(Err(error)) => assert_eq!(found, OLD, "allocation {nr}: {error:?}"),
                }
            },
            |world| {
                put_and_commit(world, 0, &OLD, 1);
                let places = one_of_each(world);
                for at in places {
                    store(world, 0, 1, at, &NEW).expect("a store");
                }
                let told = told.clone();
                let until = world.now() + SEC;
                world.begin_result(0, told, move |host| async move {
                    let ranges = cells(&places);
                    let commit = hotpot_core::core::commit::commit;
                    commit(&host, file(1), 1, &ranges, 1, until).await.result
                });
                world.pass(time * US);
            },
        );
    }
}

#[test]
fn the_place_of_a_lost_owner_is_taken_and_its_copies_made_anew_though_an_allocation_fails() {
    let plan = Plan {
        loss: true,
        ..Plan::quiet(3)
    };
    each_fails(
        plan,
        |world| {
            world.lose(2);
            world.pass(100 * MS);
        },
        |world, nr, ()| {
            world.pass(3 * SEC);
            let places = [PAGE, 17 * PAGE, 33 * PAGE].map(|page| page + 8);
            for at in places {
                let copies = world.committed_copies(key(1, at / PAGE));
                assert!(copies >= 2, "allocation {nr}: {copies} copies of {at}");
                for node in 0..2 {
                    assert_eq!(load(world, node, 1, at), Ok(OLD), "allocation {nr}");
                }
                store(world, 1, 1, at, &NEW).expect("a store");
            }
            let committed = commit(world, 1, file(1), 1, &places, 2);
            assert_eq!(committed.result, Ok(()), "allocation {nr}");
        },
        |world| {
            for at in [PAGE, 17 * PAGE, 33 * PAGE].map(|page| page + 8) {
                store(world, 2, 1, at, &OLD).expect("a store");
                let committed = commit(world, 2, file(1), 1, &[at], 2);
                assert_eq!(committed.result, Ok(()));
            }
        },
    );
}

#[test]
fn a_new_owner_gets_all_pages_though_an_allocation_fails_while_it_fetches_them() {
    let plan = Plan {
        loss: true,
        ..Plan::quiet(3)
    };
    // The next owner has none of them before, the other node all.
    let (lost, next, other) = (1, 2, 0);
    let places =
        |world: &World| [0, 1, 2].map(|nr| (page_of(world, other, lost as u32 + 1) + nr) * PAGE);
    // Worlds in which it has asked for them while an allocation was to fail.
    let fetched = Cell::new(0);
    each_fails(
        plan,
        |world| {
            let first = page_of(world, other, lost as u32 + 1);
            world.lose(lost);
            world.pass(400 * MS);
            first
        },
        |world, nr, first| {
            let begun = world.traffic.arrived.contains_key(&TakeCopies::OPCODE);
            fetched.set(fetched.get() + u64::from(begun));
            for page in first..first + 3 {
                let found = load(world, next, 1, page * PAGE);
                assert_eq!(found, Ok(OLD), "allocation {nr}");
            }
        },
        |world| {
            for at in places(world) {
                store(world, lost, 1, at, &OLD).expect("a store");
                let committed = commit(world, lost, file(1), 1, &[at], 1);
                assert_eq!(committed.result, Ok(()));
                assert_eq!(load(world, other, 1, at), Ok(OLD));
            }
        },
    );
    assert!(fetched.get() > 10, "in {} worlds", fetched.get());
}
