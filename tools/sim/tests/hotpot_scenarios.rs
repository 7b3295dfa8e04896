// SPDX-License-Identifier: GPL-2.0

//! What a process may rely on, one sentence each.

use hotpot_core::core::{
    area::ByteRange,
    cluster::{Sender, State},
    commit::{self, Committed},
    format::Timestamp,
    handler,
    host::Host,
    msg,
};
use kernel::error::{
    code::{EAGAIN, EFAULT, EHOSTDOWN, EINPROGRESS, EINVAL, ENOSPC, ESTALE, ETIMEDOUT},
    Error, Result,
};
use sim::{
    hotpot::{
        script::{self, cluster, file, nothing_left, page_of, PAGE},
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

const DATASET: u64 = 1;

/// A process' store.
fn store(world: &mut World, node: usize, at: u64, bytes: &[u8]) {
    try_store(world, node, at, bytes).expect("a store");
}

fn try_store(world: &mut World, node: usize, at: u64, bytes: &[u8]) -> Result {
    script::store(world, node, DATASET, at, bytes)
}

/// What a process of the node finds there.
fn load(world: &mut World, node: usize, at: u64) -> [u8; 8] {
    script::load(world, node, DATASET, at).expect("it can be read")
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
        commit::commit(&host, file(0), DATASET, &ranges, replicas, until).await
    })
}

#[test]
fn what_is_committed_is_read_on_every_node() {
    let mut world = cluster(Plan::quiet(3));
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
    let mut world = cluster(Plan::quiet(2));
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
    let mut world = cluster(Plan::quiet(3));
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
                commit::commit(&host, file(0), DATASET, &[range], 2, until)
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
    let mut world = cluster(Plan::quiet(3));
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
                commit::commit(&host, file(0), DATASET, &[range], 3, until)
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
    let mut world = cluster(Plan::quiet(3));
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
    let mut world = cluster(Plan::quiet(2));
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
        let mut world = cluster(Plan::quiet(3));
        let at = page_of(&world, 0, 2) * PAGE;
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
    let mut world = cluster(Plan::quiet(3));
    let at = page_of(&world, 0, 2) * PAGE;
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
    let mut world = cluster(Plan::quiet(2));
    let taken = fill(&world, 0);
    assert_eq!(try_store(&mut world, 0, 0, b"no room!"), Err(ENOSPC));
    empty(&world, 0, taken);
    store(&mut world, 0, 0, b"now room");
    nothing_left(&mut world);
}

#[test]
fn what_was_committed_survives_the_power_failure_of_all_nodes() {
    let mut world = cluster(Plan::quiet(3));
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
    let mut world = cluster(Plan::quiet(2));
    let at = page_of(&world, 0, 2) * PAGE;
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
    let mut world = cluster(Plan::quiet(2));
    for page in [0, 1, 17] {
        store(&mut world, 0, page * PAGE + 40, b"snapshot");
    }
    let until = world.now() + SEC;
    let range = ByteRange {
        offset: 0,
        len: 2 * PAGE,
    };
    let committed = world.execute(0, move |host| async move {
        commit::sync(&host, file(0), DATASET, range, until).await
    });
    assert_eq!(committed.result, Ok(()));
    assert_eq!(&load(&mut world, 1, 40), b"snapshot");
    assert_eq!(&load(&mut world, 1, PAGE + 40), b"snapshot");
    assert_eq!(load(&mut world, 1, 17 * PAGE + 40), [0; 8]);
    nothing_left(&mut world);
}

#[test]
fn a_large_commit_travels_in_several_messages_and_stays_one() {
    let mut world = cluster(Plan::quiet(2));
    let until = world.now() + SEC;
    let result = world.execute(0, move |host| async move {
        let bytes = vec![0x5a; 40 * PAGE as usize];
        let time = Timestamp::default();
        commit::write(&host, file(0), DATASET, 100, &bytes, time, until).await
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

#[test]
fn a_request_from_an_older_epoch_is_refused() {
    let mut world = cluster(Plan::quiet(2));
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
    let mut world = cluster(Plan::quiet(2));
    for round in 0..3000u64 {
        let len = rng.index(120);
        let mut request = vec![0; len];
        rng.fill(&mut request);
        // Most get past the first fields.
        let head = [
            (round % 40) as u8,
            0,
            msg::request::VERSION as u8,
            0,
            0,
            0,
            0,
            0,
        ];
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
