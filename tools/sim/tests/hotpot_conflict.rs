// SPDX-License-Identifier: GPL-2.0

//! Commits of the same bytes at the same time: one is published, the others are told EAGAIN, when
//! trying again makes sense.

use hotpot_core::core::{
    area::ByteRange,
    commit::{self, Committed},
};
use kernel::error::code::EAGAIN;
use sim::{
    hotpot::{
        script::{cells, cluster, file, load, nothing_left, page_of, store, PAGE},
        world::{Plan, World},
    },
    schedule::{Time, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

const DATASET: u64 = 1;

/// Attempts after which a commit is given up.
const MOST: u32 = 50;

/// A commit that is tried again as soon as it is told EAGAIN: how often, and when it was published.
struct Published {
    attempts: u32,
    committed: Committed,
}

type Promise = Rc<RefCell<Option<Published>>>;

/// Nodes store their names in all places, and begin to commit them one after the other.
fn commit_all(world: &mut World, nodes: usize, places: &[u64], delay: Time) -> Vec<Promise> {
    for node in 0..nodes {
        for at in places {
            store(world, node, DATASET, *at, &name_of(node)).expect("a store");
        }
    }
    let mut promises = Vec::new();
    for node in 0..nodes {
        promises.push(commit_until_published(world, node, cells(places)));
        world.pass(delay);
    }
    promises
}

fn commit_until_published(world: &mut World, node: usize, ranges: Vec<ByteRange>) -> Promise {
    let promise = Rc::new(RefCell::new(None));
    let until = world.now() + 20 * SEC;
    world.begin_result(node, promise.clone(), move |host| async move {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let committed = commit::commit(&host, file(0), DATASET, &ranges, 2, until).await;
            if committed.result != Err(EAGAIN) || attempts == MOST {
                return Published {
                    attempts,
                    committed,
                };
            }
        }
    });
    promise
}

fn name_of(node: usize) -> [u8; 8] {
    [b"of node1", b"of node2", b"of node3"][node].to_owned()
}

/// A page of each of these owners.
fn places(world: &World, owners: &[u32]) -> Vec<u64> {
    owners
        .iter()
        .map(|owner| page_of(world, 0, *owner) * PAGE)
        .collect()
}

/// All have come to their end; how often each was tried.
fn ends(world: &mut World, promises: &[Promise]) -> Vec<u32> {
    let end = world.now() + 20 * SEC;
    world.run_until(end, |_| promises.iter().all(|p| p.borrow().is_some()));
    let mut attempts = Vec::new();
    for promise in promises {
        let promise = promise.borrow();
        let published = promise.as_ref().expect("it has an end");
        assert_eq!(published.committed.result, Ok(()));
        attempts.push(published.attempts);
    }
    attempts
}

/// All nodes see the same name in all places.
fn all_see_one(world: &mut World, places: &[u64]) {
    let first = load(world, 0, DATASET, places[0]).expect("it can be read");
    for node in 0..3 {
        for at in places {
            assert_eq!(load(world, node, DATASET, *at), Ok(first));
        }
    }
}

#[test]
fn who_meets_a_commit_of_the_same_bytes_is_told_when_that_has_ended() {
    let mut met = 0;
    for delay in 0..40 {
        let mut world = cluster(Plan::quiet(3));
        // The second node is the owner: it hears at once what there is to hear.
        let places = places(&world, &[2]);
        let promises = commit_all(&mut world, 2, &places, delay * 5 * US);
        let attempts: u32 = ends(&mut world, &promises).iter().sum();
        assert!(attempts <= 3, "{delay}: {attempts} attempts of two commits");
        met += attempts - 2;
        all_see_one(&mut world, &places);
        nothing_left(&mut world);
    }
    assert!(met > 0, "no two commits met");
}

#[test]
fn nodes_that_commit_the_same_bytes_of_all_owners_at_once_need_few_attempts() {
    let (mut most, mut sum) = (0, 0);
    let (mut time, mut messages) = (0, 0);
    let worlds = 40;
    for delay in 0..worlds {
        let mut world = cluster(Plan::quiet(3));
        let places = places(&world, &[1, 2, 3]);
        let before = (world.now(), world.traffic.arrived.values().sum::<u64>());
        let promises = commit_all(&mut world, 3, &places, delay * US);
        let attempts = ends(&mut world, &promises);
        time += world.now() - before.0;
        messages += world.traffic.arrived.values().sum::<u64>() - before.1;
        most = most.max(attempts.iter().copied().max().unwrap_or(0));
        sum += attempts.iter().sum::<u32>();
        all_see_one(&mut world, &places);
        nothing_left(&mut world);
    }
    println!(
        "{sum} attempts of {} commits, {most} at most; {} us and {} messages of three commits",
        3 * worlds,
        time / worlds / US,
        messages / worlds
    );
    assert!(most <= 5, "{most} attempts of a commit");
}
