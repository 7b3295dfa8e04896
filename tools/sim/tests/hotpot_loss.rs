// SPDX-License-Identifier: GPL-2.0

//! Nodes that are lost with their PM (the rows "no PM" of Table 2.2), one sentence each.

use hotpot_core::core::{
    cluster::State,
    format::Timestamp,
    names::{self, NewDataset},
};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};

/// Three nodes, two copies of each page.
fn world(mrsw: bool) -> World {
    cluster(Plan {
        loss: true,
        mrsw,
        ..Plan::quiet(3)
    })
}

/// A place in a chunk of each of the three nodes.
const PLACES: [u64; 3] = [8, 16 * PAGE + 8, 32 * PAGE + 8];

#[test]
fn a_data_node_is_promoted_when_an_owner_is_lost() {
    for lost in 0..3 {
        let mut world = world(false);
        let writer = (lost + 1) % 3;
        let other = (lost + 2) % 3;
        for at in PLACES {
            store(&mut world, writer, 1, at, b"two copy").expect("a store");
        }
        let committed = commit(&mut world, writer, file(1), 1, &PLACES, 2);
        assert_eq!(committed.result, Ok(()));
        world.pass(500 * MS);
        world.lose(lost);
        world.pass(SEC);
        for node in [writer, other] {
            for at in PLACES {
                assert_eq!(
                    load(&mut world, node, 1, at),
                    Ok(*b"two copy"),
                    "lost {lost}"
                );
            }
        }
        for at in PLACES {
            store(&mut world, other, 1, at, b"go on...").expect("a store");
        }
        let committed = commit(&mut world, other, file(1), 1, &PLACES, 2);
        assert_eq!(committed.result, Ok(()));
        for at in PLACES {
            assert_eq!(load(&mut world, writer, 1, at), Ok(*b"go on..."));
        }
        nothing_left(&mut world);
    }
}

#[test]
fn a_commit_that_was_told_just_before_the_loss_is_not_lost() {
    for lost in 0..3 {
        let mut world = world(false);
        let at = page_of(&world, 0, lost as u32 + 1) * PAGE + 8;
        // The committing node is the owner, and nobody else knows how it ended.
        store(&mut world, lost, 1, at, b"promised").expect("a store");
        let committed = commit(&mut world, lost, file(1), 1, &[at], 2);
        assert_eq!(committed.result, Ok(()));
        world.lose(lost);
        world.pass(2 * SEC);
        for node in (0..3).filter(|node| *node != lost) {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"promised"));
        }
        nothing_left(&mut world);
    }
}

#[test]
fn names_and_datasets_survive_the_loss_of_the_dispatcher() {
    let mut world = world(false);
    store(&mut world, 1, 1, 8, b"survives").expect("a store");
    assert_eq!(commit(&mut world, 1, file(1), 1, &[8], 2).result, Ok(()));
    world.pass(500 * MS);
    world.lose(0);
    world.pass(SEC);
    let until = world.now() + SEC;
    let new = NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas: 1,
        mode: 1,
        chunk_size: 0,
        reserve: 0,
        time: Timestamp::default(),
    };
    let made = world.execute(2, move |host| async move {
        names::create(&host, b"afterwards", &new, until).await
    });
    assert_eq!(made, Ok(2), "the ids go on");
    for node in 1..3 {
        let life = world.nodes[node].life.clone().expect("alive");
        assert!(life.node.borrow().names.lookup(b"cells").is_some());
        assert!(life.node.borrow().names.lookup(b"afterwards").is_some());
    }
    assert_eq!(load(&mut world, 2, 1, 8), Ok(*b"survives"));
    nothing_left(&mut world);
}

#[test]
fn a_node_that_is_declared_out_publishes_nothing_and_its_users_get_errors() {
    let mut world = world(false);
    let at = page_of(&world, 0, 3) * PAGE + 8;
    store(&mut world, 2, 1, at, b"before..").expect("a store");
    assert_eq!(commit(&mut world, 2, file(1), 1, &[at], 2).result, Ok(()));
    world.pass(500 * MS);
    world.set_cut(2, true);
    world.declare(2, State::Out);
    world.pass(SEC);
    // Its successor goes on.
    store(&mut world, 0, 1, at, b"after...").expect("a store");
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 2).result, Ok(()));
    world.set_cut(2, false);
    // It has learnt that it is out: nothing of its own old bytes is read or published.
    assert_eq!(load(&mut world, 2, 1, at), Err(ESTALE));
    assert_eq!(store(&mut world, 2, 1, at, b"never..."), Err(ESTALE));
    assert_eq!(
        commit(&mut world, 2, file(1), 1, &[at], 1).result,
        Err(ESTALE)
    );
    for node in 0..2 {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"after..."));
    }
}

#[test]
fn writers_of_lost_owners_pages_stay_writers() {
    let mut world = world(true);
    let at = page_of(&world, 0, 3) * PAGE + 8;
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[at], false), Ok(()));
    store(&mut world, 0, 1, at, b"of node1").expect("acquired");
    world.lose(2);
    world.pass(SEC);
    assert_eq!(
        acquire(&mut world, 1, file(1), 1, &[at], false),
        Err(EAGAIN)
    );
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 2).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[at], true), Ok(()));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}
