// SPDX-License-Identifier: GPL-2.0

//! Names of datasets, made, removed and changed on one node and seen on all, one sentence each.

use hotpot_core::core::{
    area::ByteRange,
    commit,
    format::Timestamp,
    names::{self, Change, NewDataset},
};
use kernel::error::code::{EEXIST, EINVAL, ENAMETOOLONG, ETIMEDOUT};
use sim::{
    hotpot::{
        host::SimHost,
        script::{cluster, file, load, nothing_left, store, PAGE},
        world::{Plan, World},
    },
    schedule::SEC,
};

fn new(replicas: u32, mode: u32) -> NewDataset {
    NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas,
        mode,
        chunk_size: 0,
        reserve: 0,
        time: Timestamp::default(),
    }
}

#[test]
fn names_are_made_on_one_node_and_seen_on_all() {
    let mut world = cluster(Plan::quiet(3));
    let until = world.now() + 5 * SEC;
    let create = |world: &mut World, node, name: Vec<u8>, mode| {
        world.execute(node, move |host: SimHost| async move {
            names::create(&host, &name, &new(1, mode), until).await
        })
    };
    let id = create(&mut world, 2, b"from node 3".to_vec(), 1).unwrap();
    let mut bases = Vec::new();
    for node in 0..3 {
        let life = world.nodes[node].life.clone().unwrap();
        let core = life.node.borrow();
        let record = core.names.lookup(b"from node 3").expect("seen");
        assert_eq!(record.id, id);
        bases.push(record.base);
    }
    assert!(bases.iter().all(|base| *base == bases[0]), "one address");
    assert_eq!(
        create(&mut world, 1, b"from node 3".to_vec(), 1),
        Err(EEXIST)
    );
    assert_eq!(create(&mut world, 1, b"a/b".to_vec(), 1), Err(EINVAL));
    assert_eq!(create(&mut world, 1, vec![b'x'; 256], 1), Err(ENAMETOOLONG));
    assert_eq!(create(&mut world, 1, b"no mode".to_vec(), 3), Err(EINVAL));
    let unlinked = world.execute(1, move |host| async move {
        names::unlink(&host, b"from node 3", Timestamp::default(), until).await
    });
    assert_eq!(unlinked, Ok(()));
    for node in &world.nodes {
        let life = node.life.clone().unwrap();
        assert!(life.node.borrow().names.lookup(b"from node 3").is_none());
    }
    nothing_left(&mut world);
}

/// Makes a dataset on one node and removes it on another.
fn come_and_go(world: &mut World, nr: usize) {
    let name: &'static [u8] = format!("short-lived {nr}").leak().as_bytes();
    let until = world.now() + 5 * SEC;
    let made = world.execute(nr % 3, move |host: SimHost| async move {
        names::create(&host, name, &new(1, 1), until).await
    });
    assert!(made.is_ok(), "{nr}: {made:?}");
    let removed = world.execute((nr + 1) % 3, move |host: SimHost| async move {
        names::unlink(&host, name, Timestamp::default(), until).await
    });
    assert_eq!(removed, Ok(()), "{nr}");
}

fn names_of(world: &World, node: usize) -> Vec<String> {
    let life = world.nodes[node].life.clone().unwrap();
    let core = life.node.borrow();
    let mut names = Vec::new();
    let mut last = 0;
    while let Some(record) = core.names.after(last) {
        names.push(String::from_utf8_lossy(record.name.as_bytes()).into_owned());
        last = record.id;
    }
    names
}

#[test]
fn more_datasets_can_come_and_go_than_there_is_room_for_records() {
    let mut world = cluster(Plan::quiet(3));
    let kept = names_of(&world, 0);
    for nr in 0..200 {
        come_and_go(&mut world, nr);
    }
    for node in 0..3 {
        world.crash_now(node);
    }
    world.pass(SEC);
    for nr in 200..210 {
        come_and_go(&mut world, nr);
    }
    for node in 0..3 {
        assert_eq!(names_of(&world, node), kept, "nothing removed comes back");
    }
    nothing_left(&mut world);
}

#[test]
fn a_removed_dataset_is_remembered_for_a_node_that_is_away() {
    let mut world = cluster(Plan::quiet(3));
    let kept = names_of(&world, 0);
    let until = world.now() + 5 * SEC;
    let made = world.execute(0, move |host: SimHost| async move {
        names::create(&host, b"removed while away", &new(1, 1), until).await
    });
    assert!(made.is_ok());
    world.set_cut(2, true);
    let until = world.now() + 5 * SEC;
    let removed = world.execute(0, move |host: SimHost| async move {
        names::unlink(&host, b"removed while away", Timestamp::default(), until).await
    });
    assert_eq!(removed, Err(ETIMEDOUT), "not all nodes know");
    for nr in 0..5 {
        let name: &'static [u8] = format!("meanwhile {nr}").leak().as_bytes();
        let until = world.now() + SEC;
        let _ = world.execute(0, move |host: SimHost| async move {
            let _ = names::create(&host, name, &new(1, 1), until).await;
            names::unlink(&host, name, Timestamp::default(), until).await
        });
    }
    world.set_cut(2, false);
    world.pass(10 * SEC);
    for node in 0..3 {
        assert_eq!(names_of(&world, node), kept, "node {}", node + 1);
    }
    nothing_left(&mut world);
}

#[test]
fn what_was_cut_off_is_zero_when_the_dataset_grows_again() {
    let mut world = cluster(Plan::quiet(3));
    for page in [0, 5, 20] {
        store(&mut world, 0, 1, page * PAGE + 100, b"cut away").expect("a store");
    }
    let until = world.now() + 5 * SEC;
    let everything = ByteRange {
        offset: 0,
        len: u64::MAX,
    };
    let synced = world.execute(0, move |host| async move {
        commit::sync(&host, file(0), 1, everything, until).await
    });
    assert_eq!(synced.result, Ok(()));
    assert_eq!(load(&mut world, 1, 1, 5 * PAGE + 100), Ok(*b"cut away"));
    for size in [50, 48 * PAGE] {
        let changed = world.execute(2, move |host| async move {
            let change = Change {
                size: Some(size),
                ..Change::default()
            };
            names::change(&host, 1, &change, until).await
        });
        assert_eq!(changed, Ok(()));
    }
    for node in 0..3 {
        for page in [0, 5, 20] {
            assert_eq!(load(&mut world, node, 1, page * PAGE + 100), Ok([0; 8]));
        }
    }
    nothing_left(&mut world);
}
