// SPDX-License-Identifier: GPL-2.0

//! MRSW [2.6.3]: what writers may rely on, one sentence each.

use hotpot_core::core::{
    cluster::State,
    format::Timestamp,
    names::{self, Change},
};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

fn mrsw(nodes: usize) -> World {
    cluster(Plan {
        mrsw: true,
        ..Plan::quiet(nodes)
    })
}

/// A place in a chunk of each of the three nodes.
const PLACES: [u64; 3] = [8, 16 * PAGE + 8, 32 * PAGE + 8];

#[test]
fn a_store_to_a_page_that_was_not_acquired_is_refused() {
    let mut world = mrsw(2);
    assert_eq!(store(&mut world, 0, 1, 8, b"unasked!"), Err(EACCES));
    assert_eq!(
        write(&mut world, 0, file(1), 1, 8, *b"unasked!"),
        Err(EACCES)
    );
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[8], false), Ok(()));
    assert_eq!(store(&mut world, 0, 1, 8, b"allowed!"), Ok(()));
    let other = commit(&mut world, 0, file(2), 1, &[8], 1);
    assert_eq!(other.result, Err(EACCES), "through another open file");
    assert_eq!(store(&mut world, 0, 1, PAGE + 8, b"unasked!"), Err(EACCES));
    assert_eq!(commit(&mut world, 0, file(1), 1, &[8], 2).result, Ok(()));
    assert_eq!(
        store(&mut world, 0, 1, 8, b"again..."),
        Err(EACCES),
        "given back"
    );
    assert_eq!(load(&mut world, 1, 1, 8), Ok(*b"allowed!"));
    nothing_left(&mut world);
}

#[test]
fn a_page_has_one_writer_in_the_cluster_at_a_time() {
    let mut world = mrsw(3);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    for node in 0..3 {
        let refused = acquire(&mut world, node, file(2), 1, &PLACES[2..], false);
        assert_eq!(refused, Err(EAGAIN), "node {node}");
    }
    assert_eq!(
        acquire(&mut world, 1, file(1), 1, &PLACES[..1], true),
        Err(ETIMEDOUT)
    );
    for at in PLACES {
        store(&mut world, 0, 1, at, b"of node1").expect("acquired");
    }
    assert_eq!(commit(&mut world, 0, file(1), 1, &PLACES, 3).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &PLACES, true), Ok(()));
    for at in PLACES {
        assert_eq!(load(&mut world, 1, 1, at), Ok(*b"of node1"));
    }
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

#[test]
fn who_waits_gets_the_page_when_its_writer_commits() {
    let mut world = mrsw(3);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    let result = Rc::new(RefCell::new(None));
    let until = world.now() + SEC;
    world.begin_result(2, result.clone(), move |host| async move {
        hotpot_core::core::grants::acquire(&host, file(1), 1, &cells(&PLACES), true, until).await
    });
    world.pass(100 * MS);
    assert_eq!(*result.borrow(), None);
    assert_eq!(commit(&mut world, 0, file(1), 1, &PLACES, 1).result, Ok(()));
    world.pass(200 * MS);
    assert_eq!(*result.borrow(), Some(Ok(())));
    close(&mut world, 2, file(1));
    nothing_left(&mut world);
}

#[test]
fn pages_are_acquired_all_or_none() {
    let mut world = mrsw(3);
    assert_eq!(
        acquire(&mut world, 0, file(1), 1, &PLACES[1..2], false),
        Ok(())
    );
    assert_eq!(
        acquire(&mut world, 1, file(1), 1, &PLACES, false),
        Err(EAGAIN)
    );
    world.pass(200 * MS);
    let rest = [PLACES[0], PLACES[2]];
    assert_eq!(acquire(&mut world, 2, file(1), 1, &rest, false), Ok(()));
    close(&mut world, 0, file(1));
    close(&mut world, 2, file(1));
    nothing_left(&mut world);
}

#[test]
fn an_abort_drops_what_was_stored_and_gives_the_pages_back() {
    let mut world = mrsw(2);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    store(&mut world, 0, 1, 8, b"dropped!").expect("acquired");
    assert_eq!(
        abort(&mut world, 0, file(2), 1, &[8]),
        Err(EACCES),
        "not theirs"
    );
    assert_eq!(abort(&mut world, 0, file(1), 1, &[8]), Ok(()));
    assert_eq!(load(&mut world, 0, 1, 8), Ok([0; 8]));
    assert_eq!(store(&mut world, 0, 1, 8, b"too late"), Err(EACCES));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[8], true), Ok(()));
    assert_eq!(abort(&mut world, 0, file(1), 1, &[]), Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &PLACES, true), Ok(()));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

#[test]
fn a_closed_file_leaves_nothing_behind() {
    let mut world = mrsw(3);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    store(&mut world, 0, 1, PLACES[1], b"dropped!").expect("acquired");
    close(&mut world, 0, file(1));
    world.pass(200 * MS);
    assert_eq!(acquire(&mut world, 1, file(1), 1, &PLACES, false), Ok(()));
    assert_eq!(load(&mut world, 0, 1, PLACES[1]), Ok([0; 8]));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

#[test]
fn bytes_that_stay_dirty_keep_their_page() {
    let mut world = mrsw(2);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[8], false), Ok(()));
    store(&mut world, 0, 1, 8, b"publishd").expect("acquired");
    store(&mut world, 0, 1, 16, b"private!").expect("acquired");
    assert_eq!(commit(&mut world, 0, file(1), 1, &[8], 2).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[8], false), Err(EAGAIN));
    assert_eq!(load(&mut world, 1, 1, 16), Ok([0; 8]));
    assert_eq!(commit(&mut world, 0, file(1), 1, &[16], 2).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[8], true), Ok(()));
    assert_eq!(load(&mut world, 1, 1, 16), Ok(*b"private!"));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

#[test]
fn what_was_acquired_may_be_written_by_write() {
    let mut world = mrsw(2);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    assert_eq!(write(&mut world, 0, file(1), 1, 8, *b"written1"), Ok(()));
    assert_eq!(load(&mut world, 1, 1, 8), Ok(*b"written1"));
    assert_eq!(
        write(&mut world, 0, file(1), 1, 8, *b"written2"),
        Ok(()),
        "still ours"
    );
    close(&mut world, 0, file(1));
    nothing_left(&mut world);
}

#[test]
fn the_pages_of_a_node_that_the_map_drops_are_free_again() {
    let mut world = mrsw(3);
    let at = page_of(&world, 1, 2) * PAGE;
    assert_eq!(acquire(&mut world, 2, file(1), 1, &[at], false), Ok(()));
    store(&mut world, 2, 1, at, b"cut off!").expect("acquired");
    world.set_cut(2, true);
    assert_eq!(
        acquire(&mut world, 0, file(1), 1, &[at], false),
        Err(EAGAIN)
    );
    world.declare(2, State::Down);
    world.pass(5 * MS);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[at], false), Ok(()));
    store(&mut world, 0, 1, at, b"of node1").expect("acquired");
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 1).result, Ok(()));
    // Its own user gets errors, and never publishes.
    let late = commit(&mut world, 2, file(1), 1, &[at], 1);
    assert_eq!(late.result, Err(ESTALE));
    world.set_cut(2, false);
    world.declare(2, State::Up);
    world.pass(SEC);
    assert_eq!(load(&mut world, 2, 1, at), Err(ESTALE), "never stale data");
    assert_eq!(store(&mut world, 2, 1, at, b"cut off!"), Err(ESTALE));
    assert_eq!(abort(&mut world, 2, file(1), 1, &[]), Ok(()));
    assert_eq!(load(&mut world, 2, 1, at), Ok(*b"of node1"));
    nothing_left(&mut world);
}

#[test]
fn an_owner_learns_after_a_restart_who_writes_its_pages() {
    let mut world = mrsw(3);
    let at = page_of(&world, 0, 3) * PAGE;
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[at], false), Ok(()));
    store(&mut world, 0, 1, at, b"of node1").expect("acquired");
    world.crash_now(2);
    world.pass(SEC);
    assert_eq!(
        acquire(&mut world, 1, file(1), 1, &[at], false),
        Err(EAGAIN)
    );
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 2).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[at], true), Ok(()));
    assert_eq!(load(&mut world, 1, 1, at), Ok(*b"of node1"));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

#[test]
fn a_commit_to_several_owners_is_durable_when_it_is_told_and_survives_everybodys_crash() {
    let mut world = mrsw(3);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &PLACES, false), Ok(()));
    for at in PLACES {
        store(&mut world, 0, 1, at, b"survivor").expect("acquired");
    }
    assert_eq!(commit(&mut world, 0, file(1), 1, &PLACES, 2).result, Ok(()));
    // At once: the owners have promised, and most have not published.
    for node in 0..3 {
        world.crash_now(node);
    }
    world.pass(2 * SEC);
    for node in 0..3 {
        for at in PLACES {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"survivor"));
        }
    }
    nothing_left(&mut world);
}

#[test]
fn both_modes_live_side_by_side_in_different_datasets() {
    let mut world = mrsw(2);
    let until = world.now() + SEC;
    let new = new_dataset();
    let other = world.execute(1, move |host| async move {
        let id = names::create(&host, b"many writers", &new, until).await?;
        let time = Timestamp::default();
        names::extend(&host, id, PAGE, time, until)
            .await
            .map(|()| id)
    });
    let other = other.expect("made");
    assert_eq!(
        acquire(&mut world, 0, file(1), other, &[8], false),
        Err(EINVAL)
    );
    assert_eq!(acquire(&mut world, 0, file(2), 1, &[8], false), Ok(()));
    for node in 0..2 {
        assert_eq!(
            store(&mut world, node, other, 8 * node as u64, b"anybody!"),
            Ok(())
        );
    }
    assert_eq!(store(&mut world, 0, 1, 8, b"one only"), Ok(()));
    assert_eq!(store(&mut world, 1, 1, 8, b"one only"), Err(EACCES));
    assert_eq!(
        commit(&mut world, 0, file(1), other, &[0], 2).result,
        Ok(())
    );
    assert_eq!(
        commit(&mut world, 1, file(1), other, &[8], 2).result,
        Ok(())
    );
    assert_eq!(commit(&mut world, 0, file(2), 1, &[8], 2).result, Ok(()));
    assert_eq!(load(&mut world, 0, other, 8), Ok(*b"anybody!"));
    assert_eq!(load(&mut world, 1, 1, 8), Ok(*b"one only"));
    nothing_left(&mut world);
}

#[test]
fn a_dataset_is_cut_off_only_where_nobody_writes_the_last_page() {
    let mut world = mrsw(2);
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[8], false), Ok(()));
    let shrink = |world: &mut World| {
        let until = world.now() + SEC;
        world.execute(1, move |host| async move {
            let change = Change {
                size: Some(100),
                ..Change::default()
            };
            names::change(&host, 1, &change, until).await
        })
    };
    assert_eq!(shrink(&mut world), Err(ETIMEDOUT));
    close(&mut world, 0, file(1));
    world.pass(100 * MS);
    assert_eq!(shrink(&mut world), Ok(()));
    nothing_left(&mut world);
}

#[test]
fn an_owner_that_missed_the_move_of_its_chunk_learns_who_writes_it() {
    let mut world = cluster(Plan {
        mrsw: true,
        moves: 1,
        ..Plan::quiet(2)
    });
    let page = page_of(&world, 0, 2);
    let at = page * PAGE + 8;
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[at], false), Ok(()));
    // The record comes to node 1 only, then node 2 begins a new life with the old one.
    world.set_deaf_to(1, 0, true);
    assert!(world.move_chunk(page / 16, 0));
    world.pass(MS);
    world.crash_now(1);
    world.pass(40 * MS);
    for _ in 0..20 {
        let taken = acquire(&mut world, 1, file(2), 1, &[at], false);
        assert!(taken.is_err(), "two writers");
        world.pass(MS);
    }
    world.set_deaf_to(1, 0, false);
    world.pass(2 * SEC);
    assert_eq!(
        acquire(&mut world, 1, file(2), 1, &[at], false),
        Err(EAGAIN)
    );
    close(&mut world, 0, file(1));
    world.pass(SEC);
    assert_eq!(acquire(&mut world, 1, file(2), 1, &[at], false), Ok(()));
    close(&mut world, 1, file(2));
    nothing_left(&mut world);
}
