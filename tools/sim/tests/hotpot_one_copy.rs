// SPDX-License-Identifier: GPL-2.0

//! Commits that ask for one copy of each page, over several owners, one of which is lost with its PM: what it had is gone
//! with it. What the others have of the commit is all or nothing, as its user was told, and so is what a data node has of
//! the lost owner's part.

use hotpot_core::core::{
    commit::{self as core_commit, Committed},
    format::Timestamp,
    msg::{Forget, Request, Stage},
    names::{self, NewDataset},
};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        workload::CHUNK,
        world::{Plan, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const GONE: [u8; 8] = [0; 8];

/// A cluster with a dataset of one copy of each page, a chunk on each node.
fn world(nodes: usize) -> World {
    let mut world = cluster(Plan::quiet(nodes));
    let until = world.now() + SEC;
    let made = world.execute(0, move |host| async move {
        let new = NewDataset {
            chunk_size: CHUNK,
            reserve: 1 << 30,
            ..new_dataset()
        };
        let id = names::create(&host, b"one copy", &new, until).await?;
        let size = nodes as u64 * CHUNK;
        names::extend(&host, id, size, Timestamp::default(), until).await?;
        Ok::<_, kernel::error::Error>(id)
    });
    assert_eq!(made, Ok(2));
    world.pass(10 * MS);
    world
}

/// The first place of the chunk that a node (from 0) owns.
fn place_of(world: &World, node: usize) -> u64 {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let mut chunks = 0..world.nodes.len() as u64;
    let owned = chunks.find(|chunk| core.owner(key(2, chunk * CHUNK / PAGE)) == Ok(core.id()));
    owned.expect("it owns one") * CHUNK + 8
}

fn put(world: &mut World, node: usize, places: &[u64], bytes: [u8; 8]) {
    for at in places {
        store(world, node, 2, *at, &bytes).expect("a store");
    }
}

fn begin(world: &mut World, node: usize, places: &[u64]) -> Rc<RefCell<Option<Committed>>> {
    put(world, node, places, NEW);
    let told = Rc::default();
    let until = world.now() + 20 * MS;
    let ranges = cells(places);
    world.begin_result(node, Rc::clone(&told), move |host| async move {
        core_commit::commit(&host, file(1), 2, &ranges, 1, until).await
    });
    told
}

/// What all nodes that are left have there.
fn found(world: &mut World, at: u64, except: usize) -> [u8; 8] {
    let left: Vec<_> = (0..world.nodes.len())
        .filter(|node| world.nodes[*node].life.is_some() && *node != except)
        .collect();
    let found = load(world, left[0], 2, at).expect("it is there");
    for node in left {
        assert_eq!(load(world, node, 2, at), Ok(found), "n{}", node + 1);
    }
    found
}

/// A commit of a node to two pages of the first node, one of which the third has a copy of, and one of the second. Nodes
/// are lost `time` after it began. Whether it was published, as far as anything is left of it.
fn is_lost(cn: usize, lost: &[usize], time: Time) -> bool {
    let mut world = world(4);
    let (first, second) = (place_of(&world, 0), place_of(&world, 1));
    let places = [first, first + PAGE, second];
    put(&mut world, cn, &places, OLD);
    assert_eq!(
        commit(&mut world, cn, file(1), 2, &places, 1).result,
        Ok(())
    );
    assert_eq!(load(&mut world, 2, 2, first), Ok(OLD));
    world.pass(500 * MS);
    let told = begin(&mut world, cn, &places);
    world.pass(time);
    world.lose_at_once(lost);
    world.pass(3 * SEC);
    let case = format!("n{} commits, {lost:?} are lost after {time}", cn + 1);
    let told = told.borrow_mut().take().map(|of| of.result);
    assert!(told.is_some() || lost.contains(&cn), "{case}: not told");
    let [copied, alone, other] = places.map(|at| found(&mut world, at, cn));
    assert!(other == OLD || other == NEW, "{case}: {other:?}");
    assert!(copied == GONE || copied == other, "{case}: half of it");
    assert!(alone == GONE || alone == other, "{case}: half of it");
    match told {
        Some(Ok(())) => assert_eq!(other, NEW, "{case}: told, and lost"),
        None | Some(Err(EINPROGRESS)) => {}
        Some(Err(error)) => assert_eq!(other, OLD, "{case}: {error:?}, and published"),
    }
    nothing_left(&mut world);
    other == NEW
}

#[test]
fn what_is_left_of_a_commit_is_all_or_nothing_whenever_one_of_its_owners_is_lost() {
    // The owner commits itself; another owner does; one that owns nothing does, and is lost, too, or not.
    for (cn, lost) in [(0, &[0][..]), (1, &[0]), (3, &[0, 3]), (3, &[0])] {
        let published: Vec<_> = (0..60).map(|nr| is_lost(cn, lost, nr * 10 * US)).collect();
        assert!(published.contains(&false), "n{cn}, {lost:?}: never undone");
        assert!(published.contains(&true), "n{cn}, {lost:?}: never redone");
    }
}

/// One of two owners cannot promise, as a data node that has a copy does not answer in time; it undoes its part and is lost,
/// with the committing node. The other owner has promised its part and not heard of the end, but the data node has.
#[test]
fn an_owner_that_heard_nothing_learns_that_a_commit_was_given_up() {
    let mut world = world(4);
    let places = [0, 1].map(|node| place_of(&world, node));
    put(&mut world, 3, &places, OLD);
    let committed = commit(&mut world, 3, file(1), 2, &places, 1);
    assert_eq!(committed.result, Ok(()));
    assert_eq!(load(&mut world, 2, 2, places[0]), Ok(OLD));
    world.pass(500 * MS);
    world.hold(2, Stage::OPCODE);
    world.hold(1, Forget::OPCODE);
    let told = begin(&mut world, 3, &places);
    world.pass(40 * MS);
    let told = told.borrow_mut().take().expect("it ends").result;
    assert_eq!(told, Err(ETIMEDOUT));
    world.lose_at_once(&[0, 3]);
    world.lose_held(1, Forget::OPCODE);
    world.lose_held(2, Stage::OPCODE);
    world.pass(3 * SEC);
    for at in places {
        assert_eq!(found(&mut world, at, 3), OLD);
    }
    nothing_left(&mut world);
}
