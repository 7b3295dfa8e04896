// SPDX-License-Identifier: GPL-2.0

//! N - 1 nodes are lost at once with their PM, N being the copies of each page: at each moment of a commit with
//! three copies and three owners, of either mode, two nodes are gone, the committing node among them or not.
//! Whoever is left: all or nothing, decided once, what was told is true and OUTCOME says the same, what was
//! committed before is there, and who is left goes on.

use hotpot_core::core::{
    commit::{self as core_commit, Committed},
    msg::{Outcome, Prepare, Request, Settle},
    outcome,
};
use kernel::error::{code::*, Error};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, Second, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Places of the commit, one in each of the three chunks.
const PLACES: [u64; 3] = [8, 16 * PAGE + 8, 32 * PAGE + 8];
/// The same, and no commit in flight has to do with them.
const ASIDE: [u64; 3] = [3 * PAGE + 8, 19 * PAGE + 8, 35 * PAGE + 8];
const KEPT: [u8; 8] = *b"kept....";
const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const AFTER: [u8; 8] = *b"after...";
const COPIES: u32 = 3;

fn world(nodes: usize, mrsw: bool) -> World {
    cluster(Plan {
        loss: true,
        second: Second::AtOnce,
        mrsw,
        ..Plan::quiet(nodes)
    })
}

/// Who owns no chunk of four nodes, from 0.
fn who_owns_nothing(world: &World) -> usize {
    let owners = PLACES.map(|at| owner_at(world, at));
    (0..4)
        .find(|node| !owners.contains(node))
        .expect("four nodes, three chunks")
}

fn put(world: &mut World, mrsw: bool, node: usize, nr: u64, places: &[u64], bytes: [u8; 8]) {
    if mrsw {
        assert_eq!(acquire(world, node, file(nr), 1, places, true), Ok(()));
    }
    for at in places {
        store(world, node, 1, *at, &bytes).expect("a store");
    }
}

/// What is there of a page when all is at rest.
fn found_at(world: &mut World, cn: usize, node: usize, at: u64) -> [u8; 8] {
    match node == cn {
        // What it stored and did not commit is private to it.
        true => committed_at(world, node, at),
        false => load(world, node, 1, at).expect("it is there"),
    }
}

/// How it ended at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// Undone: all nodes have what was before.
    Undone,
    /// Published by those who are left, and nobody was told.
    Redone,
    /// Published, and its user was told.
    Told,
}

/// A commit, and who is lost; nodes are counted from 0.
#[derive(Clone, Copy, Debug)]
struct Case {
    nodes: usize,
    mrsw: bool,
    cn: usize,
    places: &'static [u64],
    lost: [usize; 2],
}

/// One life: the nodes are lost `time` after the commit began.
fn lost_at(case: Case, time: Time) -> End {
    let Case {
        nodes,
        mrsw,
        cn,
        places,
        lost,
    } = case;
    let mut world = world(nodes, mrsw);
    put(&mut world, mrsw, cn, 1, &ASIDE, KEPT);
    let committed = commit(&mut world, cn, file(1), 1, &ASIDE, COPIES);
    assert_eq!(committed.result, Ok(()));
    put(&mut world, mrsw, cn, 1, places, OLD);
    let committed = commit(&mut world, cn, file(1), 1, places, COPIES);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
    put(&mut world, mrsw, cn, 1, places, NEW);
    let told = Rc::new(RefCell::new(None));
    let begun = world.now();
    let until = begun + SEC;
    let ranges = cells(places);
    world.begin_result(cn, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, COPIES, until).await
    });
    world.pass(time);
    let was_told = told.borrow().is_some();
    world.lose_at_once(&lost);
    world.pass(3 * SEC);

    let case = format!("{case:?}, after {time} ns");
    let left: Vec<usize> = (0..world.nodes.len())
        .filter(|node| !lost.contains(node))
        .collect();
    let copies = COPIES.min(left.len() as u32);
    let told: Option<Committed> = told.borrow_mut().take();
    assert!(
        told.is_some() || lost.contains(&cn),
        "{case}: its user waits for ever"
    );
    let found = match left.iter().find(|node| **node != cn) {
        Some(other) => load(&mut world, *other, 1, places[0]).expect("it is there"),
        None => committed_at(&world, cn, places[0]),
    };
    let new = found == NEW;
    assert!(new || found == OLD, "{case}: {found:?}");
    for node in &left {
        for at in places.iter().copied() {
            let here = found_at(&mut world, cn, *node, at);
            assert_eq!(here, found, "{case}: {at} on n{}", node + 1);
        }
        for at in ASIDE {
            assert_eq!(load(&mut world, *node, 1, at), Ok(KEPT), "{case}");
        }
    }
    for at in places.iter().chain(&ASIDE) {
        let there = world.committed_copies(key(1, at / PAGE));
        assert!(there >= copies as usize, "{case}: {there} copies of {at}");
    }
    if let Some(Committed { cid, result }) = &told {
        match result {
            Ok(()) => assert!(new, "{case}: told, and lost"),
            Err(EINPROGRESS) => {}
            Err(error) => assert!(!new, "{case}: {error:?}, and published"),
        }
        for node in &left {
            let (cid, until) = (*cid, world.now() + SEC);
            let said = world.execute(*node, move |host| async move {
                outcome::outcome(&host, cid, until).await
            });
            let right = match new {
                true => said == Ok(Outcome::Committed),
                false => matches!(said, Ok(Outcome::Aborted | Outcome::Forgotten)),
            };
            assert!(right, "{case}: {said:?}, new {new}");
        }
    }
    let told = told.map(|of| of.result);
    if mrsw && told.is_some_and(|of| of.is_err()) && left.contains(&cn) {
        assert_eq!(abort(&mut world, cn, file(1), 1, &[]), Ok(()), "{case}");
    }
    // Who is left goes on: whatever was locked or acquired is released.
    let writer = left[0];
    put(&mut world, mrsw, writer, 2, places, AFTER);
    let after = commit(&mut world, writer, file(2), 1, places, copies);
    assert_eq!(after.result, Ok(()), "{case}");
    for node in &left {
        for at in places.iter().copied() {
            let here = found_at(&mut world, cn, *node, at);
            assert_eq!(here, AFTER, "{case}: {at} on n{}", node + 1);
        }
    }
    for node in &left {
        close(&mut world, *node, file(1));
    }
    nothing_left(&mut world);
    match (new, was_told) {
        (false, _) => End::Undone,
        (true, false) => End::Redone,
        (true, true) => End::Told,
    }
}

/// At as many moments, from the begin until all is over. Once it is decided it stays so, and it is not always
/// the same.
fn lost_whenever(case: Case, moments: u64) {
    let time = |nr| nr * 800 * US / moments;
    let ends: Vec<End> = (0..moments).map(|nr| lost_at(case, time(nr))).collect();
    assert!(
        ends.is_sorted(),
        "{case:?}: decided, and undone later: {ends:?}"
    );
    for end in [End::Undone, End::Told] {
        assert!(ends.contains(&end), "{case:?}: never {end:?}: {ends:?}");
    }
}

/// Three nodes, all owners: one is left.
fn one_is_left(mrsw: bool) {
    for lost in [[0, 2], [0, 1], [1, 2]] {
        lost_whenever(
            Case {
                nodes: 3,
                mrsw,
                cn: 1,
                places: &PLACES,
                lost,
            },
            80,
        );
    }
}

/// Four nodes, of which the one that commits owns nothing.
fn two_are_left(mrsw: bool) {
    let cn = who_owns_nothing(&world(4, mrsw));
    for one in 0..4 {
        for other in one + 1..4 {
            lost_whenever(
                Case {
                    nodes: 4,
                    mrsw,
                    cn,
                    places: &PLACES,
                    lost: [one, other],
                },
                40,
            );
        }
    }
}

/// Four nodes, of which two own what is committed, one of these commits, and both are lost.
fn no_owner_is_left(mrsw: bool) {
    let world = world(4, mrsw);
    let [first, second, _] = PLACES.map(|at| owner_at(&world, at));
    for (cn, other) in [(first, second), (second, first)] {
        lost_whenever(
            Case {
                nodes: 4,
                mrsw,
                cn,
                places: &PLACES[..2],
                lost: [cn, other],
            },
            80,
        );
    }
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_all_nodes_but_one_are_lost() {
    one_is_left(false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_whenever_all_nodes_but_one_are_lost() {
    one_is_left(true);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_two_of_its_nodes_are_lost() {
    two_are_left(false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_whenever_two_of_its_nodes_are_lost() {
    two_are_left(true);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_all_of_its_owners_are_lost() {
    no_owner_is_left(false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_whenever_all_of_its_owners_are_lost() {
    no_owner_is_left(true);
}

/// A commit of two owners fails as one of them is cut off `time` after it began. Its user is told; at once the
/// other owner and the committing node are lost, and a data node is left, which has not heard of the end. What the
/// user was told.
fn fails_and_is_lost(time: Time) -> Result<(), Error> {
    let mut world = world(4, false);
    let cn = who_owns_nothing(&world);
    let [one, cut, data] = PLACES.map(|at| owner_at(&world, at));
    let places = &PLACES[..2];
    put(&mut world, false, cn, 1, places, OLD);
    let committed = commit(&mut world, cn, file(1), 1, places, COPIES);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
    put(&mut world, false, cn, 1, places, NEW);
    world.hold(data, Settle::OPCODE);
    let told: Rc<RefCell<Option<Committed>>> = Rc::default();
    let until = world.now() + 20 * MS;
    let ranges = cells(places);
    world.begin_result(cn, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, COPIES, until).await
    });
    world.pass(time);
    world.set_cut(cut, true);
    for _ in 0..100_000 {
        if told.borrow().is_some() {
            break;
        }
        world.pass(US);
    }
    world.lose_at_once(&[one, cn]);
    world.set_cut(cut, false);
    world.lose_held(data, Settle::OPCODE);
    world.pass(3 * SEC);
    let told = told.borrow_mut().take().expect("it ends").result;
    let found = load(&mut world, data, 1, places[0]).expect("it is there");
    for node in [cut, data] {
        for at in places {
            assert_eq!(load(&mut world, node, 1, *at), Ok(found), "after {time}");
        }
    }
    match told {
        Ok(()) => assert_eq!(found, NEW, "after {time}: told, and lost"),
        Err(EINPROGRESS) => {}
        Err(error) => assert_eq!(found, OLD, "after {time}: {error:?}, and published"),
    }
    nothing_left(&mut world);
    told
}

#[test]
fn what_was_told_not_to_be_published_stays_so_when_who_knew_it_is_lost() {
    let told: Vec<_> = (0..60)
        .map(|step| fails_and_is_lost(step * 10 * US))
        .collect();
    for end in [Ok(()), Err(EINPROGRESS)] {
        assert!(told.contains(&end), "never {end:?}: {told:?}");
    }
}

/// A commit fails as one of its owners never hears of it but that it is given up. The other owner and the committing
/// node are lost, and the data node that is left restarts: that is the owner that has heard, or a node that has not.
fn is_given_up_and_a_data_node_restarts(which_has_heard: bool) {
    let mut world = world(4, false);
    let cn = who_owns_nothing(&world);
    let lost = owner_at(&world, 0);
    put(&mut world, false, cn, 1, &PLACES, OLD);
    let committed = commit(&mut world, cn, file(1), 1, &PLACES, COPIES);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
    let has_copy = |node: &usize| {
        let life = world.nodes[*node].life.clone().expect("alive");
        let core = life.node.borrow();
        let page = core.pages.get(key(1, 0));
        page.is_some_and(|page| page.clean.is_some())
    };
    let mut others = (0..4).filter(|node| ![cn, lost].contains(node));
    let restarts = others.find(has_copy).expect("the third copy");
    let heard = match which_has_heard {
        true => restarts,
        false => 6 - cn - lost - restarts,
    };
    let of = |at: &&u64| owner_at(&world, **at) == heard;
    let second = *PLACES.iter().find(of).expect("it owns a chunk");
    let places = [PLACES[0], second];
    put(&mut world, false, cn, 1, &places, NEW);
    world.hold(heard, Prepare::OPCODE);
    world.hold(restarts, Settle::OPCODE);
    let told: Rc<RefCell<Option<Committed>>> = Rc::default();
    let until = world.now() + 20 * MS;
    let ranges = cells(&places);
    world.begin_result(cn, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, COPIES, until).await
    });
    for _ in 0..100_000 {
        if told.borrow().is_some() {
            break;
        }
        world.pass(US);
    }
    world.lose_at_once(&[lost, cn]);
    world.crash_now(restarts);
    world.lose_held(heard, Prepare::OPCODE);
    world.lose_held(restarts, Settle::OPCODE);
    world.pass(3 * SEC);
    let told = told.borrow_mut().take().expect("it ends").result;
    assert_eq!(told, Err(ETIMEDOUT));
    for node in (0..4).filter(|node| ![cn, lost].contains(node)) {
        for at in places {
            assert_eq!(load(&mut world, node, 1, at), Ok(OLD), "n{}", node + 1);
        }
    }
    nothing_left(&mut world);
}

#[test]
fn what_was_told_not_to_be_published_stays_so_when_who_heard_it_restarts() {
    is_given_up_and_a_data_node_restarts(true);
}

#[test]
fn what_was_told_not_to_be_published_stays_so_when_who_did_not_hear_it_restarts() {
    is_given_up_and_a_data_node_restarts(false);
}
