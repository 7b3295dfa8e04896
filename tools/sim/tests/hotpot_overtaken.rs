// SPDX-License-Identifier: GPL-2.0

//! A data node publishes a page of a commit, and then a newer version of it: nothing of the earlier one is left there.
//! It says that it has published it all the same, in a later life, too. Otherwise what others have yet to publish of it
//! looks like a part of a commit that nobody was told of, once its owner is lost.

use hotpot_core::core::{
    commit::{self as core_commit, Committed},
    msg::{Request, Settle},
};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

const OLD: [u8; 8] = *b"old.....";
const TOLD: [u8; 8] = *b"told....";
const NEXT: [u8; 8] = *b"next....";

/// Three nodes, and two pages of the first of them, which commits to both; nodes are counted from 0.
struct Cluster {
    world: World,
    /// Will be lost.
    owner: usize,
    /// Has the second copy of the first page.
    forgets: usize,
    /// Has that of the second page, and hears nothing of the end of commits.
    waits: usize,
    places: [u64; 2],
}

impl Cluster {
    /// Both pages are committed and told, and published where the first one is.
    fn new() -> Self {
        let mut world = cluster(Plan {
            loss: true,
            ..Plan::quiet(3)
        });
        let places = [8, PAGE + 8];
        let owner = chunk_owner(&world, 0, 0) as usize - 1;
        let [forgets, waits] = [1, 2].map(|nr| (owner + nr) % 3);
        for at in places {
            store(&mut world, owner, 1, at, &OLD).expect("a store");
        }
        let committed = commit(&mut world, owner, file(1), 1, &places, 1);
        assert_eq!(committed.result, Ok(()));
        assert_eq!(load(&mut world, forgets, 1, places[0]), Ok(OLD));
        assert_eq!(load(&mut world, waits, 1, places[1]), Ok(OLD));
        world.pass(500 * MS);
        // Nor can it ask.
        world.hold(waits, Settle::OPCODE);
        world.set_deaf_to(owner, waits, true);
        for at in places {
            store(&mut world, owner, 1, at, &TOLD).expect("a store");
        }
        let committed = commit(&mut world, owner, file(1), 1, &places, 2);
        assert_eq!(committed.result, Ok(()));
        world.pass(200 * MS);
        let cluster = Self {
            world,
            owner,
            forgets,
            waits,
            places,
        };
        assert_eq!(cluster.staged_at(forgets, 0), 0, "published");
        assert_eq!(cluster.staged_at(waits, 1), 1, "in doubt");
        cluster
    }

    /// Versions of one of the pages that are staged at a node.
    fn staged_at(&self, node: usize, page: u64) -> usize {
        let life = self.world.nodes[node].life.clone().expect("alive");
        let core = life.node.borrow();
        core.pages.get(key(1, page)).expect("a copy").staged.len()
    }

    /// The owner begins to commit the first page anew.
    fn begin_next(&mut self) -> Rc<RefCell<Option<Committed>>> {
        let at = self.places[0];
        store(&mut self.world, self.owner, 1, at, &NEXT).expect("a store");
        let told = Rc::default();
        let until = self.world.now() + SEC;
        let ranges = cells(&[at]);
        self.world
            .begin_result(self.owner, Rc::clone(&told), move |host| async move {
                core_commit::commit(&host, file(1), 1, &ranges, 2, until).await
            });
        told
    }

    fn restart(&mut self, node: usize) {
        self.world.crash_now(node);
        self.world.pass(100 * MS);
    }

    /// The next version is published where the first page is; then the owner is lost, and what was told is there.
    fn lose_owner(mut self) {
        assert_eq!(self.staged_at(self.forgets, 0), 0, "published");
        assert_eq!(self.staged_at(self.waits, 1), 1, "in doubt");
        let world = &mut self.world;
        world.lose(self.owner);
        world.lose_held(self.waits, Settle::OPCODE);
        world.pass(3 * SEC);
        for node in [self.forgets, self.waits] {
            let found = self.places.map(|at| load(world, node, 1, at));
            assert_eq!(found, [Ok(NEXT), Ok(TOLD)], "at n{}", node + 1);
        }
        nothing_left(world);
    }
}

#[test]
fn who_publishes_a_version_knows_that_it_published_the_one_before_in_an_earlier_life() {
    let mut cluster = Cluster::new();
    cluster.restart(cluster.forgets);
    let (node, at) = (cluster.forgets, cluster.places[0]);
    // It has a copy again.
    assert_eq!(load(&mut cluster.world, node, 1, at), Ok(TOLD));
    let next = cluster.begin_next();
    cluster.world.pass(500 * MS);
    let next = next.borrow_mut().take().expect("it ends");
    assert_eq!(next.result, Ok(()));
    cluster.lose_owner();
}

#[test]
fn who_restarts_with_a_staged_version_knows_that_it_published_the_one_before() {
    let mut cluster = Cluster::new();
    let node = cluster.forgets;
    cluster.world.hold(node, Settle::OPCODE);
    let next = cluster.begin_next();
    cluster.world.pass(2 * MS);
    let next = next.borrow_mut().take().expect("it ends");
    assert_eq!(next.result, Ok(()));
    assert_eq!(cluster.staged_at(node, 0), 1, "not heard of");
    // In its next life it asks.
    cluster.restart(node);
    cluster.world.lose_held(node, Settle::OPCODE);
    cluster.world.pass(500 * MS);
    cluster.lose_owner();
}
