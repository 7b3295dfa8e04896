// SPDX-License-Identifier: GPL-2.0

//! What a process may rely on, one sentence each.

use hotpot_core::core::{
    area::ByteRange,
    barrier,
    cluster::{Sender, State},
    commit::{self, Committed},
    fault::{self, Access},
    format::Timestamp,
    grants::Opener,
    handler,
    host::{Host, Mapping, PageKey},
    msg,
    names::{self, Change, NewDataset},
};
use kernel::error::{code::*, Error, Result};
use sim::{
    hotpot::{
        host::SimHost,
        workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

const DATASET: u64 = 1;
/// An open file; the mount does not come to such numbers.
const OPENER: Opener = Opener(1 << 40);
/// A cell's place in the dataset.
const PAGE: u64 = 4096;

/// `nodes` nodes and a dataset of 48 pages, 16 in a chunk.
fn cluster(nodes: usize) -> World {
    let mut world = World::new(1, |_| Plan::quiet(nodes));
    workload::prepare(&mut world);
    world
}

/// A dataset's first page that node `owner` owns.
fn page_of(world: &World, owner: u32) -> u64 {
    let life = world.nodes[0].life.clone().unwrap();
    let node = life.node.borrow();
    (0..48)
        .find(|page| {
            node.owner(PageKey {
                dataset: DATASET,
                page: *page,
            }) == Ok(owner)
        })
        .expect("each node owns a chunk")
}

fn key(page: u64) -> PageKey {
    PageKey {
        dataset: DATASET,
        page,
    }
}

fn try_store(world: &mut World, node: usize, at: u64, bytes: &[u8]) -> Result {
    let until = world.now() + SEC;
    world.execute(node, |host| async move {
        fault::fault(&host, key(at / PAGE), Access::Write, until).await
    })?;
    let life = world.nodes[node].life.clone().unwrap();
    let Some(Mapping::Writable { offset }) = life.mapped.borrow().get(&key(at / PAGE)).copied()
    else {
        panic!("not writable");
    };
    world.nodes[node]
        .pm
        .borrow_mut()
        .store((offset + at % PAGE) as usize, bytes);
    Ok(())
}

/// A process' store.
fn store(world: &mut World, node: usize, at: u64, bytes: &[u8]) {
    try_store(world, node, at, bytes).expect("a store");
}

/// What a process of the node finds there.
fn load(world: &mut World, node: usize, at: u64) -> [u8; 8] {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let mut bytes = [0; 8];
        let read = fault::read(&host, DATASET, at, &mut bytes, until).await;
        assert_eq!(read, Ok(8));
        bytes
    })
}

fn commit(world: &mut World, node: usize, ranges: &[(u64, u64)], replicas: u32) -> Committed {
    let until = world.now() + SEC;
    let ranges: Vec<ByteRange> = ranges
        .iter()
        .map(|(offset, len)| ByteRange {
            offset: *offset,
            len: *len,
        })
        .collect();
    world.execute(node, |host| async move {
        commit::commit(&host, OPENER, DATASET, &ranges, replicas, until).await
    })
}

fn nothing_left(world: &mut World) {
    let end = world.now() + 3 * SEC;
    world.run_until(end, World::is_at_rest);
    world.check_at_rest();
}

#[test]
fn what_is_committed_is_read_on_every_node() {
    let mut world = cluster(3);
    for page in [0, 16, 32] {
        store(&mut world, 0, page * PAGE + 8, b"Figure25");
    }
    assert_eq!(load(&mut world, 1, 8), [0; 8], "stores are private");
    let ranges = [(8, 8), (16 * PAGE + 8, 8), (32 * PAGE + 8, 8)];
    assert_eq!(commit(&mut world, 0, &ranges, 3).result, Ok(()));
    for node in 0..3 {
        for (at, _) in ranges {
            assert_eq!(&load(&mut world, node, at), b"Figure25");
        }
    }
    nothing_left(&mut world);
}

#[test]
fn exactly_the_committed_bytes_are_published_and_the_rest_stays_private() {
    let mut world = cluster(2);
    store(&mut world, 0, 100, b"publishd");
    store(&mut world, 0, 108, b"private!");
    assert_eq!(commit(&mut world, 0, &[(100, 8)], 2).result, Ok(()));
    assert_eq!(&load(&mut world, 1, 100), b"publishd");
    assert_eq!(load(&mut world, 1, 108), [0; 8]);
    assert_eq!(&load(&mut world, 0, 108), b"private!");
    // A later commit of the neighbour still finds them.
    store(&mut world, 1, 200, b"neighbor");
    assert_eq!(commit(&mut world, 1, &[(200, 8)], 2).result, Ok(()));
    assert_eq!(commit(&mut world, 0, &[(108, 8)], 2).result, Ok(()));
    assert_eq!(&load(&mut world, 1, 108), b"private!");
    assert_eq!(&load(&mut world, 0, 200), b"neighbor");
    nothing_left(&mut world);
}

#[test]
fn two_commits_of_different_bytes_of_a_page_both_succeed() {
    let mut world = cluster(3);
    store(&mut world, 0, 0, b"of node1");
    store(&mut world, 1, 8, b"of node2");
    let until = world.now() + SEC;
    let results: Vec<_> = (0..2)
        .map(|node| {
            let result = Rc::new(RefCell::new(None));
            world.begin_result(node, result.clone(), |host| async move {
                let range = ByteRange {
                    offset: 8 * node as u64,
                    len: 8,
                };
                commit::commit(&host, OPENER, DATASET, &[range], 2, until)
                    .await
                    .result
            });
            result
        })
        .collect();
    world.pass(500 * MS);
    for result in results {
        assert_eq!(*result.borrow(), Some(Ok(())));
    }
    assert_eq!(&load(&mut world, 2, 0), b"of node1");
    assert_eq!(&load(&mut world, 2, 8), b"of node2");
    nothing_left(&mut world);
}

#[test]
fn of_two_commits_of_the_same_bytes_at_once_one_is_told_eagain() {
    let mut world = cluster(3);
    store(&mut world, 0, 0, b"of node1");
    store(&mut world, 1, 4, b"of node2");
    let until = world.now() + SEC;
    let results: Vec<_> = (0..2)
        .map(|node| {
            let result = Rc::new(RefCell::new(None));
            world.begin_result(node, result.clone(), |host| async move {
                let range = ByteRange {
                    offset: 4 * node as u64,
                    len: 8,
                };
                commit::commit(&host, OPENER, DATASET, &[range], 3, until)
                    .await
                    .result
            });
            result
        })
        .collect();
    world.pass(500 * MS);
    let mut results: Vec<Option<Result>> =
        results.into_iter().map(|result| *result.borrow()).collect();
    results.sort_by_key(|result| *result != Some(Ok(())));
    assert_eq!(results, [Some(Ok(())), Some(Err(EAGAIN))]);
    nothing_left(&mut world);
}

#[test]
fn more_replicas_than_live_nodes_is_ehostdown_and_publishes_nothing() {
    let mut world = cluster(3);
    store(&mut world, 0, 0, b"too many");
    assert_eq!(commit(&mut world, 0, &[(0, 8)], 4).result, Err(EHOSTDOWN));
    world.declare(2, State::Down);
    world.pass(5 * MS);
    assert_eq!(commit(&mut world, 0, &[(0, 8)], 3).result, Err(EHOSTDOWN));
    assert_eq!(load(&mut world, 1, 0), [0; 8]);
    assert_eq!(
        &load(&mut world, 0, 0),
        b"too many",
        "the stores are still there"
    );
}

#[test]
fn areas_outside_overlapping_empty_or_too_many_are_refused() {
    let mut world = cluster(2);
    store(&mut world, 0, 0, b"whatever");
    let end = 48 * PAGE;
    let refused: [(&[(u64, u64)], Error); 6] = [
        (&[], EINVAL),
        (&[(0, 0)], EINVAL),
        (&[(0, 8), (4, 8)], EINVAL),
        (&[(end - 4, 8)], EFAULT),
        (&[(end, 1)], EFAULT),
        (&[(u64::MAX, 2)], EFAULT),
    ];
    for (ranges, error) in refused {
        assert_eq!(
            commit(&mut world, 0, ranges, 1).result,
            Err(error),
            "{ranges:?}"
        );
    }
    let many: Vec<(u64, u64)> = (0..65_537).map(|nr| (nr * 2, 1)).collect();
    assert_eq!(commit(&mut world, 0, &many, 1).result, Err(EINVAL));
    nothing_left(&mut world);
}

/// Leaves no free page on a node.
fn fill(world: &World, node: usize) -> Vec<u64> {
    let life = world.nodes[node].life.clone().unwrap();
    let mut core = life.node.borrow_mut();
    std::iter::from_fn(|| core.space.take()).collect()
}

fn empty(world: &World, node: usize, pages: Vec<u64>) {
    let life = world.nodes[node].life.clone().unwrap();
    for page in pages {
        life.node.borrow_mut().space.give(page);
    }
}

#[test]
fn a_full_pm_at_writer_owner_or_replica_is_enospc_and_loses_nothing() {
    // Node 0 writes, node 1 owns, node 2 has the third copy.
    for full in 0..3 {
        let mut world = cluster(3);
        let at = page_of(&world, 2) * PAGE;
        store(&mut world, 0, at, b"  before");
        assert_eq!(commit(&mut world, 0, &[(at, 8)], 3).result, Ok(()));
        store(&mut world, 0, at, b"   after");
        let taken = fill(&world, full);
        let committed = commit(&mut world, 0, &[(at, 8)], 3);
        assert_eq!(committed.result, Err(ENOSPC), "node {full} is full");
        assert_eq!(&load(&mut world, 1, at), b"  before");
        assert_eq!(&load(&mut world, 2, at), b"  before");
        assert_eq!(&load(&mut world, 0, at), b"   after");
        empty(&world, full, taken);
        assert_eq!(commit(&mut world, 0, &[(at, 8)], 3).result, Ok(()));
        assert_eq!(&load(&mut world, 2, at), b"   after");
        nothing_left(&mut world);
    }
}

#[test]
fn a_full_node_without_duty_just_loses_its_copy() {
    let mut world = cluster(3);
    let at = page_of(&world, 2) * PAGE;
    store(&mut world, 0, at, b"  before");
    assert_eq!(commit(&mut world, 0, &[(at, 8)], 1).result, Ok(()));
    assert_eq!(&load(&mut world, 2, at), b"  before");
    let taken = fill(&world, 2);
    store(&mut world, 0, at, b"   after");
    assert_eq!(commit(&mut world, 0, &[(at, 8)], 1).result, Ok(()));
    empty(&world, 2, taken);
    assert_eq!(&load(&mut world, 2, at), b"   after");
    nothing_left(&mut world);
}

#[test]
fn a_store_without_room_for_the_copy_is_enospc() {
    let mut world = cluster(2);
    let taken = fill(&world, 0);
    assert_eq!(try_store(&mut world, 0, 0, b"no room!"), Err(ENOSPC));
    empty(&world, 0, taken);
    store(&mut world, 0, 0, b"now room");
    nothing_left(&mut world);
}

#[test]
fn what_was_committed_survives_the_power_failure_of_all_nodes() {
    let mut world = cluster(3);
    for node in 0..3 {
        let at = node as u64 * 16 * PAGE;
        store(&mut world, node, at, b"survivor");
        store(&mut world, node, at + 64, b"volatile");
        assert_eq!(commit(&mut world, node, &[(at, 8)], 2).result, Ok(()));
    }
    for node in 0..3 {
        world.crash_now(node);
    }
    world.pass(SEC);
    for node in 0..3 {
        for owner in 0..3 {
            let at = owner * 16 * PAGE;
            assert_eq!(&load(&mut world, node, at), b"survivor");
            assert_eq!(load(&mut world, node, at + 64), [0; 8]);
        }
    }
    nothing_left(&mut world);
}

#[test]
fn a_cut_link_gives_one_answer_before_the_deadline() {
    let mut world = cluster(2);
    let at = page_of(&world, 2) * PAGE;
    store(&mut world, 0, at, b"cut off!");
    world.set_cut(1, true);
    let begun = world.now();
    let result = commit(&mut world, 0, &[(at, 8)], 1).result;
    assert!(matches!(result, Err(EINPROGRESS | ETIMEDOUT)), "{result:?}");
    assert!(
        world.now() <= begun + SEC + 100 * MS,
        "not beyond the deadline"
    );
    world.set_cut(1, false);
    world.pass(SEC);
    assert_eq!(commit(&mut world, 0, &[(at, 8)], 2).result, Ok(()));
    assert_eq!(&load(&mut world, 1, at), b"cut off!");
    nothing_left(&mut world);
}

#[test]
fn msync_publishes_all_dirty_bytes_of_its_range_at_once() {
    let mut world = cluster(2);
    for page in [0, 1, 17] {
        store(&mut world, 0, page * PAGE + 40, b"snapshot");
    }
    let until = world.now() + SEC;
    let range = ByteRange {
        offset: 0,
        len: 2 * PAGE,
    };
    let committed = world.execute(0, move |host| async move {
        commit::sync(&host, OPENER, DATASET, range, until).await
    });
    assert_eq!(committed.result, Ok(()));
    assert_eq!(&load(&mut world, 1, 40), b"snapshot");
    assert_eq!(&load(&mut world, 1, PAGE + 40), b"snapshot");
    assert_eq!(load(&mut world, 1, 17 * PAGE + 40), [0; 8]);
    nothing_left(&mut world);
}

#[test]
fn a_large_commit_travels_in_several_messages_and_stays_one() {
    let mut world = cluster(2);
    let until = world.now() + SEC;
    let result = world.execute(0, move |host| async move {
        let bytes = vec![0x5a; 40 * PAGE as usize];
        let time = Timestamp::default();
        commit::write(&host, OPENER, DATASET, 100, &bytes, time, until).await
    });
    assert_eq!(result, Ok(()));
    for node in 0..2 {
        assert_eq!(load(&mut world, node, 39 * PAGE), [0x5a; 8]);
        assert_eq!(
            load(&mut world, node, 96)[..],
            [0, 0, 0, 0, 0x5a, 0x5a, 0x5a, 0x5a]
        );
    }
    nothing_left(&mut world);
}

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
    let mut world = cluster(3);
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
    let mut world = cluster(3);
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
    let mut world = cluster(3);
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
    let mut world = cluster(3);
    for page in [0, 5, 20] {
        store(&mut world, 0, page * PAGE + 100, b"cut away");
    }
    let until = world.now() + 5 * SEC;
    let everything = ByteRange {
        offset: 0,
        len: u64::MAX,
    };
    let synced = world.execute(0, move |host| async move {
        commit::sync(&host, OPENER, DATASET, everything, until).await
    });
    assert_eq!(synced.result, Ok(()));
    assert_eq!(&load(&mut world, 1, 5 * PAGE + 100), b"cut away");
    for size in [50, 48 * PAGE] {
        let changed = world.execute(2, move |host| async move {
            let change = Change {
                size: Some(size),
                ..Change::default()
            };
            names::change(&host, DATASET, &change, until).await
        });
        assert_eq!(changed, Ok(()));
    }
    for node in 0..3 {
        for page in [0, 5, 20] {
            assert_eq!(load(&mut world, node, page * PAGE + 100), [0; 8]);
        }
    }
    nothing_left(&mut world);
}

fn meet(world: &mut World, counts: &[u32], wait: u64) -> Vec<Option<Result>> {
    let until = world.now() + wait;
    let results: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(node, count)| {
            let result = Rc::new(RefCell::new(None));
            let count = *count;
            world.begin_result(node, result.clone(), move |host| async move {
                barrier::meet(&host, b"gate", count, until).await
            });
            result
        })
        .collect();
    world.pass(2 * wait);
    results.into_iter().map(|result| *result.borrow()).collect()
}

#[test]
fn a_barrier_opens_when_all_have_come_and_not_before() {
    let mut world = cluster(3);
    assert_eq!(meet(&mut world, &[3, 3, 3], SEC), [Some(Ok(())); 3]);
    assert_eq!(
        meet(&mut world, &[3, 3], 100 * MS),
        [Some(Err(ETIMEDOUT)); 2]
    );
    // Who gave up does not count.
    assert_eq!(
        meet(&mut world, &[3, 3], 100 * MS),
        [Some(Err(ETIMEDOUT)); 2]
    );
    assert_eq!(meet(&mut world, &[3, 3, 3], SEC), [Some(Ok(())); 3]);
    let mixed = meet(&mut world, &[2, 3], 100 * MS);
    assert!(mixed.contains(&Some(Err(EINVAL))), "{mixed:?}");
    nothing_left(&mut world);
}

#[test]
fn a_request_from_an_older_epoch_is_refused() {
    let mut world = cluster(2);
    world.declare(1, State::Down);
    world.pass(5 * MS);
    let refused = world.execute(0, |host| async move {
        let old = Sender {
            node: 2,
            incarnation: 1,
            epoch: 1,
        };
        // A `Forget` of nothing, of epoch 1.
        let mut request = vec![6, 0, msg::request::VERSION as u8, 0, 0, 0, 0, 0];
        request.extend(1u64.to_le_bytes());
        request.extend([0; 8]);
        handler::handle(&host, old, &request, &mut [0; 64]).await
    });
    assert_eq!(refused, Err(ESTALE));
}

#[test]
fn no_bytes_from_another_node_do_harm() {
    let mut rng = sim::schedule::Rng::new(7);
    let mut world = cluster(2);
    for round in 0..3000u64 {
        let len = rng.index(120);
        let mut request = vec![0; len];
        rng.fill(&mut request);
        // Most get past the first fields.
        let head = [(round % 40) as u8, 0, msg::request::VERSION as u8, 0, 0, 0, 0, 0];
        for (to, from) in request.iter_mut().zip(head) {
            *to = from;
        }
        if len >= 16 && round % 3 != 0 {
            for byte in &mut request[16..] {
                *byte &= 1;
            }
        }
        let result = world.execute(0, move |host| async move {
            let epoch = host.with(|node| node.map.epoch);
            let from = Sender {
                node: 2,
                incarnation: 1,
                epoch,
            };
            let mut reply = vec![0; 8192];
            handler::handle(&host, from, &request, &mut reply).await
        });
        assert!(result.is_err() || result.unwrap() <= 8192);
    }
    store(&mut world, 0, 0, b"unharmed");
    assert_eq!(commit(&mut world, 0, &[(0, 8)], 1).result, Ok(()));
}
