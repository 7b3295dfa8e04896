// SPDX-License-Identifier: GPL-2.0

//! An older version of a page that was told stays until there are enough copies of what comes after it, which nobody
//! may have been told of.

use hotpot_core::core::{
    commit, eviction,
    msg::{Request, Stage},
    spread::Adopt,
};
use kernel::error::Result;
use sim::{
    hotpot::{
        script::*,
        world::{Plan, Second, World},
    },
    schedule::{Time, MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

const TOLD: [u8; 8] = *b"was told";
const IN_DOUBT: [u8; 8] = *b"in doubt";

/// Nodes, counted from 0, of a cluster that has lost the owner of a page.
struct Cluster {
    world: World,
    /// Has staged the last version.
    hears: usize,
    /// Has the one before.
    other: usize,
}

/// Three copies of a page. Its owner is lost while it commits the page again, which one of the
/// others has not heard of.
fn lost_while_it_commits_again(nodes: usize, hears_first: bool) -> Cluster {
    let mut world = cluster(Plan {
        loss: true,
        second: Second::AtOnce,
        ..Plan::quiet(nodes)
    });
    let owner = chunk_owner(&world, 0, 0) as usize - 1;
    store(&mut world, owner, 1, 8, &TOLD).expect("a store");
    let committed = commit(&mut world, owner, file(1), 1, &[8], 3);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
    let others = (0..nodes).filter(|node| *node != owner && has_copy(&world, *node));
    let others: Vec<usize> = others.collect();
    let [first, second] = others[..] else {
        panic!("{others:?} have copies");
    };
    let (hears, other) = match hears_first {
        true => (first, second),
        false => (second, first),
    };
    store(&mut world, owner, 1, 8, &IN_DOUBT).expect("a store");
    world.hold(other, Stage::OPCODE);
    let until = world.now() + 10 * SEC;
    let told = Rc::new(RefCell::new(None));
    world.begin_result(owner, told.clone(), move |host| async move {
        commit::commit(&host, file(1), 1, &cells(&[8]), 3, until).await
    });
    world.pass(2 * MS);
    let told = told.borrow_mut().take();
    assert!(told.is_none(), "{told:?}");
    world.lose(owner);
    world.lose_held(other, Stage::OPCODE);
    Cluster {
        world,
        hears,
        other,
    }
}

fn has_copy(world: &World, node: usize) -> bool {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let clean = core.pages.get(key(1, 0)).and_then(|page| page.clean);
    clean.is_some_and(|clean| clean.pm.is_some())
}

/// The node that has heard of the last version is lost before others have it: there is the one before.
fn lose_who_heard(cluster: Cluster) {
    let Cluster {
        mut world,
        hears,
        other,
    } = cluster;
    world.lose(hears);
    world.pass(SEC);
    let found = load(&mut world, other, 1, 8);
    assert!(found == Ok(TOLD) || found == Ok(IN_DOUBT), "{found:?}");
    nothing_left(&mut world);
}

#[test]
fn what_was_committed_stays_until_what_comes_after_it_has_its_copies() {
    for hears_first in [true, false] {
        let mut cluster = lost_while_it_commits_again(3, hears_first);
        // Before the repair.
        cluster.world.pass(1500 * MS);
        lose_who_heard(cluster);
    }
}

#[test]
fn what_was_committed_goes_when_what_comes_after_it_has_its_copies() {
    for hears_first in [true, false] {
        let Cluster {
            mut world,
            hears,
            other,
        } = lost_while_it_commits_again(3, hears_first);
        world.pass(6 * SEC);
        let found = load(&mut world, hears, 1, 8);
        assert_eq!(found, load(&mut world, other, 1, 8));
        assert_eq!(world.committed_copies(key(1, 0)), 2);
        nothing_left(&mut world);
    }
}

/// Has a node drop copies until it has room for one page more; whether it has.
fn make_room(world: &mut World, node: usize, time: Time) -> Result<bool> {
    let life = world.nodes[node].life.clone().expect("alive");
    let want = life.node.borrow().space.free() + 1;
    let until = world.now() + time;
    world.execute(node, move |host| async move {
        eviction::make_room(&host, want, until).await
    })
}

/// Four nodes: who has heard of the last version takes over and is to have one of the others, which
/// does not hear it, take a copy. The node with the version before is short of room.
fn short_of_room_after_the_loss() -> (Cluster, usize) {
    let lost = [true, false].map(|hears_first| lost_while_it_commits_again(4, hears_first));
    let mut clusters = lost.into_iter().map(|mut cluster| {
        // Before the repair.
        cluster.world.pass(SEC);
        cluster
    });
    let takes_over = |cluster: &Cluster| {
        let owner = chunk_owner(&cluster.world, cluster.other, 0) as usize - 1;
        owner == cluster.hears
    };
    let mut cluster = clusters.find(takes_over).expect("one of them does");
    let is_gone = |node: &usize| cluster.world.nodes[*node].gone;
    let mut left = (0..4).filter(|node| !is_gone(node));
    let fourth = left.find(|node| ![cluster.hears, cluster.other].contains(node));
    let fourth = fourth.expect("four, and one is lost");
    cluster.world.hold(fourth, Adopt::OPCODE);
    assert_eq!(make_room(&mut cluster.world, cluster.other, 0), Ok(false));
    cluster.world.pass(20 * MS);
    assert!(has_copy(&cluster.world, cluster.other), "it stays");
    (cluster, fourth)
}

#[test]
fn who_is_short_of_room_keeps_it_until_then() {
    let (mut cluster, fourth) = short_of_room_after_the_loss();
    cluster.world.lose_held(fourth, Adopt::OPCODE);
    lose_who_heard(cluster);
}

#[test]
fn who_is_short_of_room_drops_it_then() {
    let (cluster, fourth) = short_of_room_after_the_loss();
    let Cluster {
        mut world, other, ..
    } = cluster;
    assert!(world.release(fourth, Adopt::OPCODE) > 0);
    assert_eq!(make_room(&mut world, other, SEC), Ok(true));
    assert!(!has_copy(&world, other));
    assert_eq!(world.committed_copies(key(1, 0)), 2);
    assert_eq!(load(&mut world, other, 1, 8), Ok(IN_DOUBT));
    nothing_left(&mut world);
}
