// SPDX-License-Identifier: GPL-2.0

//! Two machines that are configured as the same node, both mounted at once: one with the node's device, one with a
//! copy of it from an earlier life or with one that was just formatted. The second one is refused and reads and publishes nothing, whoever
//! takes it for the node meanwhile reads nothing old, and nothing is lost.

use hotpot_core::core::{cluster::State, node::Phase};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::SEC,
};

/// Node 3, from 1.
const NODE: usize = 2;

fn world() -> World {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(3)
    });
    for node in &world.nodes {
        // They say so in their logs.
        node.life.as_ref().expect("alive").flipped.set(true);
    }
    world.damaged.insert(key(1, 0));
    world
}

/// In a page of each node's.
fn places(world: &World) -> [u64; 3] {
    [1, 2, 3].map(|owner| page_of(world, 0, owner) * PAGE + 8)
}

fn put(world: &mut World, node: usize, bytes: &[u8; 8]) {
    let places = places(world);
    for at in places {
        store(world, node, 1, at, bytes).expect("a store");
    }
    let committed = commit(world, node, file(1), 1, &places, 2);
    assert_eq!(committed.result, Ok(()));
}

fn phase(world: &World, node: usize) -> Phase {
    let life = world.nodes[node].life.clone().expect("alive");
    let phase = life.node.borrow().phase;
    phase
}

/// The node's power fails, and comes back.
fn begins_a_life(world: &mut World) {
    world.crash_now(NODE);
    world.pass(SEC);
    assert_eq!(phase(world, NODE), Phase::Ready);
}

/// The second machine has nothing for its users.
fn is_of_no_use(world: &mut World, twin: usize, case: &str) {
    for at in places(world) {
        let found = load(world, twin, 1, at);
        assert!(
            found.is_err(),
            "{case}: {found:?} is read of the second one"
        );
        let stored = store(world, twin, 1, at, b"by twin.");
        if stored.is_ok() {
            let committed = commit(world, twin, file(2), 1, &[at], 1);
            assert!(committed.result.is_err(), "{case}: it publishes");
        }
    }
}

/// Two machines, of which the nodes `met_by` take the second one for the node.
fn one_is_refused(copy: bool, met_by: &[usize]) {
    let case = format!("a copy {copy}, met by {met_by:?}");
    let mut world = world();
    put(&mut world, NODE, b"of then.");
    let device = match copy {
        true => world.device(NODE).clone(),
        false => world.new_device(NODE),
    };
    begins_a_life(&mut world);
    put(&mut world, 0, b"of today");
    let twin = world.add_twin(NODE, device, met_by);
    is_of_no_use(&mut world, twin, &case);
    if !met_by.is_empty() {
        assert_eq!(phase(&world, twin), Phase::Outdated, "{case}");
    }
    for node in 0..3 {
        assert_eq!(phase(&world, node), Phase::Ready, "{case}");
        for at in places(&world) {
            // Whom it cannot reach it waits for.
            let found = load(&mut world, node, 1, at);
            assert!(
                found.is_err() || found == Ok(*b"of today"),
                "{case}: {found:?}"
            );
        }
    }
    world.remove_twin();
    world.pass(SEC);
    for node in 0..3 {
        for at in places(&world) {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"of today"), "{case}");
        }
        put(&mut world, node, b"of today");
    }
    nothing_left(&mut world);
}

#[test]
fn a_second_machine_with_a_copy_of_the_device_is_refused_and_harms_nobody() {
    for met_by in [&[][..], &[0], &[1], &[0, 1]] {
        one_is_refused(true, met_by);
    }
}

#[test]
fn a_second_machine_with_a_new_device_is_refused_and_harms_nobody() {
    for met_by in [&[][..], &[0], &[1], &[0, 1]] {
        one_is_refused(false, met_by);
    }
}

#[test]
fn nodes_that_began_a_life_after_it_know_the_life_of_a_node() {
    let mut world = world();
    put(&mut world, NODE, b"of then.");
    let device = world.device(NODE).clone();
    begins_a_life(&mut world);
    put(&mut world, 0, b"of today");
    for node in 0..2 {
        world.crash_now(node);
    }
    world.pass(SEC);
    let twin = world.add_twin(NODE, device, &[0, 1]);
    is_of_no_use(&mut world, twin, "a copy");
    assert_eq!(phase(&world, twin), Phase::Outdated);
}

#[test]
fn an_empty_device_is_not_taken_for_that_of_a_node_of_whose_pages_there_are_copies() {
    let mut world = world();
    put(&mut world, 0, b"of today");
    // Nobody remembers its lives, and it cannot tell.
    world.set_cut(NODE, true);
    for node in 0..2 {
        world.crash_now(node);
    }
    world.pass(SEC);
    let device = world.new_device(NODE);
    let twin = world.add_twin(NODE, device, &[0, 1]);
    is_of_no_use(&mut world, twin, "empty");
    assert_eq!(phase(&world, twin), Phase::Outdated);
    world.remove_twin();
    world.set_cut(NODE, false);
    world.declare(NODE, State::Down);
    world.pass(SEC);
    for node in 0..3 {
        for at in places(&world) {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"of today"));
        }
    }
    nothing_left(&mut world);
}
