// SPDX-License-Identifier: GPL-2.0

//! Datasets whose first nodes are all out (section 2.6.4), one sentence each.

use hotpot_core::core::{
    cluster::State,
    commit::commit as commit_areas,
    format::Timestamp,
    names::{self, Change, NewDataset},
};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        workload::CHUNK,
        world::{Plan, World},
    },
    schedule::{SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// The dataset whose chunks began on nodes 1 and 2 only.
const LATE: u64 = 2;
/// Places in four of its chunks.
const PLACES: [u64; 4] = [8, CHUNK + 8, 2 * CHUNK + PAGE, 3 * CHUNK];
/// Its size.
const SIZE: u64 = 4 * CHUNK;

/// Four nodes; two come when the dataset is there.
fn world(replicas: u32, mode: u32) -> World {
    let mut world = cluster(Plan {
        loss: true,
        // The checker of owners looks after each event.
        moves: 1,
        ..Plan::quiet(4)
    });
    world.have_first_only(2);
    let until = world.now() + SEC;
    let new = NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas,
        mode,
        chunk_size: CHUNK,
        reserve: 1 << 20,
        time: Timestamp::default(),
    };
    let made = world.execute(0, move |host| async move {
        let id = names::create(&host, b"late", &new, until).await?;
        names::extend(&host, id, SIZE, Timestamp::default(), until).await?;
        Ok::<_, kernel::error::Error>(id)
    });
    assert_eq!(made, Ok(LATE));
    {
        let life = world.nodes[0].life.clone().expect("alive");
        let core = life.node.borrow();
        let record = core.names.get(LATE).expect("it was made");
        assert!(record.nodes.iter().all(|id| *id < 3), "{:?}", record.nodes);
    }
    for node in [2, 3] {
        world.declare(node, State::Up);
    }
    world.pass(SEC);
    world
}

fn put(world: &mut World, node: usize, places: &[u64], bytes: &[u8; 8]) {
    for at in places {
        store(world, node, LATE, *at, bytes).expect("a store");
    }
    let committed = commit(world, node, file(1), LATE, places, 0);
    assert_eq!(committed.result, Ok(()));
}

fn all_have(world: &mut World, nodes: &[usize], places: &[u64], bytes: &[u8; 8]) {
    for node in nodes {
        for at in places {
            assert_eq!(
                load(world, *node, LATE, *at),
                Ok(*bytes),
                "at {at} as n{}",
                node + 1
            );
        }
    }
}

#[test]
fn a_dataset_goes_on_when_all_nodes_of_its_row_are_out_one_after_the_other() {
    let mut world = world(2, 1);
    put(&mut world, 2, &PLACES, b"first...");
    for lost in [1, 0] {
        world.pass(8 * SEC);
        world.lose(lost);
        world.pass(2 * SEC);
        all_have(&mut world, &[2, 3], &PLACES, b"first...");
    }
    put(&mut world, 3, &PLACES, b"second..");
    all_have(&mut world, &[2, 3], &PLACES, b"second..");
    nothing_left(&mut world);
    // A new owner is lost too.
    world.pass(8 * SEC);
    world.lose(3);
    world.pass(2 * SEC);
    all_have(&mut world, &[2], &PLACES, b"second..");
    nothing_left(&mut world);
}

#[test]
fn a_dataset_goes_on_when_all_nodes_of_its_row_are_lost_at_once() {
    let mut world = world(3, 1);
    put(&mut world, 2, &PLACES, b"in three");
    world.pass(SEC);
    world.lose(0);
    world.lose(1);
    world.pass(3 * SEC);
    all_have(&mut world, &[2, 3], &PLACES, b"in three");
    nothing_left(&mut world);
}

#[test]
fn new_owners_are_there_after_they_lost_power() {
    let mut world = world(2, 1);
    put(&mut world, 2, &PLACES, b"kept....");
    for lost in [0, 1] {
        world.pass(8 * SEC);
        world.lose(lost);
    }
    world.pass(2 * SEC);
    for node in [2, 3] {
        world.crash_now(node);
    }
    world.pass(3 * SEC);
    all_have(&mut world, &[2, 3], &PLACES, b"kept....");
    nothing_left(&mut world);
}

#[test]
fn a_dataset_whose_row_is_out_grows_and_shrinks() {
    let mut world = world(2, 1);
    put(&mut world, 2, &PLACES, b"stays...");
    for lost in [0, 1] {
        world.pass(8 * SEC);
        world.lose(lost);
    }
    world.pass(2 * SEC);
    let resize = |world: &mut World, size: u64| {
        let until = world.now() + SEC;
        let change = Change {
            size: Some(size),
            ..Change::default()
        };
        world.execute(3, move |host| async move {
            names::change(&host, LATE, &change, until).await
        })
    };
    assert_eq!(resize(&mut world, 6 * CHUNK), Ok(()));
    assert_eq!(load(&mut world, 2, LATE, 5 * CHUNK), Ok([0; 8]));
    put(&mut world, 2, &[5 * CHUNK], b"new end.");
    all_have(&mut world, &[2, 3], &[5 * CHUNK], b"new end.");
    assert_eq!(resize(&mut world, 2 * CHUNK), Ok(()));
    assert_eq!(
        store(&mut world, 3, LATE, 5 * CHUNK, b"beyond.."),
        Err(EFAULT)
    );
    all_have(&mut world, &[2, 3], &PLACES[..2], b"stays...");
    nothing_left(&mut world);
}

#[test]
fn writers_of_pages_whose_row_is_out_stay_writers() {
    let mut world = world(2, 2);
    let at = PLACES[1];
    assert_eq!(acquire(&mut world, 2, file(1), LATE, &[at], false), Ok(()));
    store(&mut world, 2, LATE, at, b"of node3").expect("acquired");
    for lost in [0, 1] {
        world.lose(lost);
        world.pass(2 * SEC);
    }
    assert_eq!(
        acquire(&mut world, 3, file(1), LATE, &[at], false),
        Err(EAGAIN)
    );
    assert_eq!(
        commit(&mut world, 2, file(1), LATE, &[at], 2).result,
        Ok(())
    );
    assert_eq!(acquire(&mut world, 3, file(1), LATE, &[at], true), Ok(()));
    assert_eq!(load(&mut world, 3, LATE, at), Ok(*b"of node3"));
    close(&mut world, 3, file(1));
    nothing_left(&mut world);
}

#[test]
fn a_commit_is_all_or_nothing_whenever_the_last_node_of_the_row_is_lost() {
    let mut ends = [0; 3];
    for time in 0..60 {
        let mut world = world(2, 1);
        put(&mut world, 2, &PLACES, b"old.....");
        world.pass(8 * SEC);
        world.lose(0);
        world.pass(8 * SEC);
        for at in PLACES {
            store(&mut world, 2, LATE, at, b"new.....").expect("a store");
        }
        let told = Rc::new(RefCell::new(None));
        let until = world.now() + SEC;
        let ranges = cells(&PLACES);
        world.begin_result(2, told.clone(), move |host| async move {
            commit_areas(&host, file(1), LATE, &ranges, 2, until).await
        });
        world.pass(time * 10 * US);
        world.lose(1);
        world.pass(4 * SEC);
        let found = load(&mut world, 3, LATE, PLACES[0]).expect("it is there");
        let new = found == *b"new.....";
        assert!(new || found == *b"old.....");
        all_have(&mut world, &[3], &PLACES, &found);
        match told.borrow_mut().take().map(|of| of.result) {
            Some(Ok(())) => {
                assert!(new, "lost at {time}");
                ends[2] += 1;
            }
            Some(Err(EINPROGRESS)) => ends[usize::from(new)] += 1,
            Some(Err(_)) => {
                assert!(!new, "lost at {time}");
                ends[0] += 1;
            }
            None => panic!("it has an end"),
        }
        nothing_left(&mut world);
    }
    assert!(ends[0] > 0 && ends[2] > 0, "not all happens: {ends:?}");
}
