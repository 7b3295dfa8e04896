// SPDX-License-Identifier: GPL-2.0

//! What the checkers of random worlds must know of a commit, one sentence each.

use sim::{
    hotpot::{
        model::{Cell, End},
        script::*,
        workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};

fn owner_of(world: &World, page: u64) -> usize {
    let life = world.nodes[0].life.clone().expect("alive");
    let owner = life.node.borrow().owner(key(1, page));
    owner.expect("it exists") as usize - 1
}

/// A process' store of a new value.
fn put(world: &mut World, node: usize, cell: Cell) -> [u8; 8] {
    let bytes = world.model.value().to_le_bytes();
    let at = cell.key.page * PAGE + u64::from(cell.offset);
    store(world, node, 1, at, &bytes).expect("a store");
    bytes
}

fn wait_for(world: &mut World, what: &str, is: impl Fn(&World) -> bool) {
    let begun = world.now();
    for end in (begun..begun + SEC / 2).step_by(US as usize) {
        world.run_until(end, |_| false);
        if is(world) {
            return;
        }
    }
    panic!("{what} never happens");
}

fn wait_for_commit(world: &mut World, attempt: usize) {
    wait_for(world, "the end of a commit", |world| {
        !world.model.attempts[attempt].running
    });
    let end = world.model.attempts[attempt].end;
    assert!(matches!(end, End::Acked(_)), "{end:?}");
}

/// Version of a node's clean copy, and whether another is staged.
fn version(world: &World, node: usize, cell: Cell) -> (u64, bool) {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    core.pages.get(cell.key).map_or((0, false), |page| {
        let version = page.clean.map_or(0, |clean| clean.version);
        (version, !page.staged.is_empty())
    })
}

#[test]
fn bytes_that_a_commit_names_and_nobody_stored_are_published_as_the_commit_before_left_them() {
    let mut world = cluster(Plan {
        processes: 2,
        ..Plan::quiet(4)
    });
    let cell = |page, offset| Cell {
        key: key(1, page),
        offset,
    };
    let [a, b, c] = [8, 2048, 4088].map(|offset| cell(33, offset));
    let far = cell(17, 8);
    let (owner, slow) = (owner_of(&world, 33), owner_of(&world, 17));
    let node = (0..4).find(|node| ![owner, slow].contains(node)).unwrap();
    let other = (0..4).rfind(|other| ![node, slow].contains(other)).unwrap();
    let until = world.now() + 2 * SEC;

    // A commit with two owners: one has published it, the other does not hear of that.
    for cell in [b, c, far] {
        put(&mut world, node, cell);
    }
    let first = workload::commit_cells(&mut world, node, 0, &[b, far], until);
    wait_for(&mut world, "the promise", |world| {
        let life = world.nodes[slow].life.clone().expect("alive");
        let core = life.node.borrow();
        core.left_over().is_some()
    });
    world.set_deaf_to(slow, node, true);
    wait_for(&mut world, "the publishing", |world| {
        version(world, owner, b) == (1, false)
    });
    // One that waits for it: of `a` too, which nobody has stored here.
    let second = workload::commit_cells(&mut world, node, 1, &[a, c], until);

    // Two commits of `a` elsewhere; the node only hears how the first of them ended.
    let older = put(&mut world, other, a);
    let commit = workload::commit_cells(&mut world, other, 0, &[a], until);
    wait_for_commit(&mut world, commit);
    wait_for(&mut world, "the older value", |world| {
        version(world, node, a) == (2, false)
    });
    put(&mut world, other, a);
    let commit = workload::commit_cells(&mut world, other, 0, &[a], until);
    wait_for(&mut world, "the staging", |world| version(world, node, a).1);
    world.set_deaf_to(node, owner, true);
    wait_for_commit(&mut world, commit);

    // The first commit ends, and leaves the older value below what is dirty still.
    assert!(world.model.attempts[first].running && world.model.attempts[second].running);
    world.set_deaf_to(slow, node, false);
    wait_for_commit(&mut world, first);
    // Until the second has begun to publish that.
    world.pass(6 * US);
    world.set_deaf_to(node, owner, false);
    wait_for_commit(&mut world, second);
    let at = a.key.page * PAGE + u64::from(a.offset);
    assert_eq!(load(&mut world, other, 1, at), Ok(older));

    // Which is no stale read.
    workload::read_cell(&mut world, other, 0, a, until);
    world.pass(10 * MS);
    nothing_left(&mut world);
    workload::check_end(&mut world);
}
