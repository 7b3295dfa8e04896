// SPDX-License-Identifier: GPL-2.0

//! The crash table (Documentation/design/hotpot-recovery.md; Table 2.2 of chapter 2), row by row: a commit of
//! either mode runs, and the committing node (CN), an owner (ON) or a data node (DN) fails at each moment of it,
//! from before its first message until all is told and released; its PM is lost with it, or comes back.
//! Whenever that is: all or nothing on all nodes that are there, decided once, what was told is true, every
//! committed page has its copies again, others write the pages afterwards, and a node that is declared out then,
//! and has not heard of it, publishes nothing.

use hotpot_core::core::{cluster::State, commit::Committed};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Three own a chunk each, the fourth owns none and commits.
const NODES: usize = 4;
/// Places of the commit, in the first two chunks.
const PLACES: [u64; 2] = [8, 16 * PAGE + 8];
/// One in each chunk that no commit in flight has to do with, and nobody reads.
const ASIDE: [u64; 3] = [3 * PAGE + 8, 19 * PAGE + 8, 35 * PAGE + 8];
const KEPT: [u8; 8] = *b"kept....";
const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const COPIES: u32 = 2;

/// Who fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Committing,
    /// Of one of the two chunks.
    Owner,
    /// Of the third chunk: it has copies of the pages.
    Data,
}

/// The owner of a chunk, from 0.
fn owner_of(world: &World, chunk: u64) -> usize {
    let life = world.nodes[0].life.clone().expect("alive");
    let owner = life.node.borrow().owner(key(1, 16 * chunk));
    owner.expect("it has one") as usize - 1
}

/// Who that is, and who commits.
fn cast(world: &World, role: Role) -> (usize, usize) {
    let owners = [0, 1, 2].map(|chunk| owner_of(world, chunk));
    let cn = (0..NODES)
        .find(|node| !owners.contains(node))
        .expect("four nodes, three chunks");
    let failed = match role {
        Role::Committing => cn,
        Role::Owner => owners[0],
        Role::Data => owners[2],
    };
    (cn, failed)
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

fn take(world: &mut World, mrsw: bool, node: usize, nr: u64, places: &[u64]) {
    if mrsw {
        assert_eq!(acquire(world, node, file(nr), 1, places, true), Ok(()));
    }
}

fn put(world: &mut World, mrsw: bool, node: usize, nr: u64, places: &[u64], bytes: [u8; 8]) {
    take(world, mrsw, node, nr, places);
    for at in places {
        store(world, node, 1, *at, &bytes).expect("a store");
    }
}

/// A node is declared down, and out, and does not hear of it: whatever it has to publish at owners and data nodes of
/// the new epoch is refused, of its own chunks, too, then and when others have taken its place.
fn publishes_nothing_when_out(world: &mut World, mrsw: bool, node: usize, case: &str) {
    let reader = (0..NODES)
        .find(|other| *other != node && !world.nodes[*other].gone)
        .expect("others are left");
    put(world, mrsw, node, 3, &ASIDE, *b"from out");
    world.nodes[node].deaf = true;
    for (state, wait) in [(State::Down, 0), (State::Out, 0), (State::Out, SEC)] {
        world.declare(node, state);
        world.pass(wait + MS);
        let each = ASIDE.iter().map(std::slice::from_ref);
        for places in each.chain([&ASIDE[..]]) {
            let committed = commit(world, node, file(3), 1, places, COPIES);
            assert!(
                committed.result.is_err(),
                "{case}: n{} is {state:?}",
                node + 1
            );
        }
    }
    for at in ASIDE {
        assert_eq!(load(world, reader, 1, at), Ok(KEPT), "{case}");
    }
}

/// One life: `role` fails `time` after the commit began.
fn fails_at(mrsw: bool, role: Role, kept: bool, time: Time) -> End {
    let mut world = cluster(Plan {
        loss: true,
        mrsw,
        ..Plan::quiet(NODES)
    });
    let places = PLACES;
    let (cn, failed) = cast(&world, role);
    // By their owners, so that nobody has copies but those who must.
    for (chunk, at) in (0..).zip(ASIDE) {
        let owner = owner_of(&world, chunk);
        put(&mut world, mrsw, owner, 1, &[at], KEPT);
        let committed = commit(&mut world, owner, file(1), 1, &[at], COPIES);
        assert_eq!(committed.result, Ok(()));
    }
    put(&mut world, mrsw, cn, 1, &places, OLD);
    let committed = commit(&mut world, cn, file(1), 1, &places, COPIES);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
    // All have a copy: all are data nodes.
    for node in 0..NODES {
        for at in places {
            assert_eq!(load(&mut world, node, 1, at), Ok(OLD));
        }
    }
    put(&mut world, mrsw, cn, 1, &places, NEW);
    let told = Rc::new(RefCell::new(None));
    let begun = world.now();
    let until = begun + SEC;
    let ranges = cells(&places);
    world.begin_result(cn, told.clone(), move |host| async move {
        hotpot_core::core::commit::commit(&host, file(1), 1, &ranges, COPIES, until).await
    });
    world.pass(time);
    let was_told = told.borrow().is_some();
    match kept {
        true => world.crash_now(failed),
        false => world.lose(failed),
    }
    world.pass(3 * SEC);

    let case = format!("mrsw {mrsw}, {role:?}, PM kept {kept}, after {time} ns");
    let told = told.borrow_mut().take();
    if let Some(Committed {
        cid,
        result: Ok(()),
    }) = told
    {
        check_durable(&world, 1, &places, cid, begun, COPIES);
    }
    let told = told.map(|of| of.result);
    for at in places.iter().chain(&ASIDE) {
        let copies = world.committed_copies(key(1, at / PAGE));
        assert!(copies >= COPIES as usize, "{case}: {copies} copies of {at}");
    }
    let there: Vec<usize> = (0..NODES).filter(|node| kept || *node != failed).collect();
    // What the committing node stored and did not commit is private to it.
    let readers: Vec<usize> = there.iter().copied().filter(|node| *node != cn).collect();
    let found = load(&mut world, readers[0], 1, places[0]).expect("it is there");
    for node in &readers {
        for at in places {
            assert_eq!(load(&mut world, *node, 1, at), Ok(found), "{case}");
        }
    }
    let new = found == NEW;
    assert!(new || found == OLD, "{case}: {found:?}");
    match told {
        Some(Ok(())) => assert!(new, "{case}: told, and lost"),
        Some(Err(EINPROGRESS)) | None => {}
        Some(Err(error)) => assert!(!new, "{case}: {error:?}, and published"),
    }
    if role != Role::Committing {
        assert!(told.is_some(), "{case}: its user waits for ever");
        if told != Some(Ok(())) {
            // [2.6.4]: the user commits again.
            if mrsw {
                assert_eq!(abort(&mut world, cn, file(1), 1, &[]), Ok(()), "{case}");
            }
            put(&mut world, mrsw, cn, 1, &places, NEW);
            let again = commit(&mut world, cn, file(1), 1, &places, COPIES);
            assert_eq!(again.result, Ok(()), "{case}");
        }
    }
    let other = readers[0];
    // Others write them: whatever the failed node had of them is released.
    put(&mut world, mrsw, other, 2, &places, *b"after...");
    let committed = commit(&mut world, other, file(2), 1, &places, COPIES);
    assert_eq!(committed.result, Ok(()), "{case}");
    for node in &there {
        for at in places {
            assert_eq!(load(&mut world, *node, 1, at), Ok(*b"after..."), "{case}");
        }
    }
    if kept {
        close(&mut world, cn, file(1));
    }
    nothing_left(&mut world);
    for at in ASIDE {
        assert_eq!(load(&mut world, other, 1, at), Ok(KEPT), "{case}");
    }
    let outsider = match kept {
        true => failed,
        false => *there.last().expect("three are left"),
    };
    publishes_nothing_when_out(&mut world, mrsw, outsider, &case);
    match (new, was_told) {
        (false, _) => End::Undone,
        (true, false) => End::Redone,
        (true, true) => End::Told,
    }
}

/// At each moment. Once it is decided it stays so; and each end is seen.
fn fails_whenever(mrsw: bool, role: Role, kept: bool) {
    let ends: Vec<End> = (0..100)
        .map(|step| fails_at(mrsw, role, kept, step * 6 * US))
        .collect();
    assert!(ends.is_sorted(), "decided, and undone later: {ends:?}");
    for end in [End::Undone, End::Redone, End::Told] {
        assert!(ends.contains(&end), "never {end:?}: {ends:?}");
    }
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_its_committing_node_is_lost() {
    fails_whenever(false, Role::Committing, false);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_one_of_its_owners_is_lost() {
    fails_whenever(false, Role::Owner, false);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_a_data_node_is_lost() {
    fails_whenever(false, Role::Data, false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_its_committing_node_is_lost() {
    fails_whenever(true, Role::Committing, false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_one_of_its_owners_is_lost() {
    fails_whenever(true, Role::Owner, false);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_a_data_node_is_lost() {
    fails_whenever(true, Role::Data, false);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_its_committing_node_loses_power() {
    fails_whenever(false, Role::Committing, true);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_one_of_its_owners_loses_power() {
    fails_whenever(false, Role::Owner, true);
}

#[test]
fn an_mrmw_commit_is_all_or_nothing_whenever_a_data_node_loses_power() {
    fails_whenever(false, Role::Data, true);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_its_committing_node_loses_power() {
    fails_whenever(true, Role::Committing, true);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_one_of_its_owners_loses_power() {
    fails_whenever(true, Role::Owner, true);
}

#[test]
fn an_mrsw_commit_is_all_or_nothing_and_released_whenever_a_data_node_loses_power() {
    fails_whenever(true, Role::Data, true);
}
