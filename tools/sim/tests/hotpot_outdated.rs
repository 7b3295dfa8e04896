// SPDX-License-Identifier: GPL-2.0

//! A PM device from yesterday: a node comes back with a copy of its device of an earlier time. What it had
//! promised since is not on it, so nothing of it may count.

use hotpot_core::core::{cluster::State, format::Timestamp, node::Phase, recovery};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    pm::Pm,
    schedule::{MS, SEC},
};

/// Node 3, from 1.
const OLD: usize = 2;

fn world() -> World {
    let world = cluster(Plan {
        loss: true,
        ..Plan::quiet(3)
    });
    for node in &world.nodes {
        // It says so in its log, and the others too.
        node.life.as_ref().expect("alive").flipped.set(true);
    }
    world
}

fn put(world: &mut World, node: usize, at: u64, bytes: &[u8; 8]) {
    store(world, node, 1, at, bytes).expect("a store");
    let committed = commit(world, node, file(1), 1, &[at], 2);
    assert_eq!(committed.result, Ok(()));
}

/// The power of a node fails, and its device is as it was then.
fn comes_back_with(world: &mut World, device: &Pm) {
    world.crash_now(OLD);
    *world.device(OLD) = device.clone();
    // What is said of it is not a surprise, in its next life either.
    world.damaged.insert(key(1, 0));
    world.pass(500 * MS);
}

fn phase(world: &World) -> Phase {
    let life = world.nodes[OLD].life.clone().expect("alive");
    let phase = life.node.borrow().phase;
    phase
}

/// It serves nothing, and others go on without it once the map has it out.
fn is_refused(world: &mut World, at: u64, bytes: &[u8; 8]) {
    assert_eq!(phase(world), Phase::Outdated);
    assert_eq!(load(world, OLD, 1, at), Err(ESTALE));
    assert_eq!(store(world, OLD, 1, at, b"too late"), Err(ESTALE));
    // Each mount makes the device a life younger, and one of them would come to what others know.
    let again = world.execute(OLD, |host| async move {
        recovery::mount(&host, Timestamp::default()).await
    });
    assert_eq!(again, Err(ESTALE), "the device says what it is");
    world.declare(OLD, State::Out);
    world.pass(SEC);
    for node in 0..2 {
        assert_eq!(load(world, node, 1, at), Ok(*bytes), "nothing is lost");
    }
    put(world, 0, at, b"goes on.");
    assert_eq!(load(world, 1, 1, at), Ok(*b"goes on."));
}

/// Node 1 commits a page of the old node, before and after the copy is taken; the node had `lives` since.
fn is_refused_after(lives: usize) {
    let mut world = world();
    let at = page_of(&world, 0, OLD as u32 + 1) * PAGE + 8;
    put(&mut world, 0, at, b"of then.");
    let yesterday = world.device(OLD).clone();
    for _ in 0..lives {
        world.crash_now(OLD);
        world.pass(500 * MS);
    }
    put(&mut world, 0, at, b"of today");
    comes_back_with(&mut world, &yesterday);
    is_refused(&mut world, at, b"of today");
}

#[test]
fn a_device_of_an_earlier_life_is_refused_by_who_knows_a_later_one() {
    is_refused_after(2);
}

#[test]
fn a_device_of_the_life_before_is_refused_though_it_counts_the_same_mounts() {
    is_refused_after(1);
}

#[test]
fn a_device_that_forgot_commits_of_which_others_have_copies_is_refused_after_all_lost_power() {
    let mut world = world();
    let at = page_of(&world, 0, 1) * PAGE + 8;
    put(&mut world, OLD, at, b"of then.");
    let yesterday = world.device(OLD).clone();
    world.crash_now(OLD);
    world.pass(500 * MS);
    put(&mut world, OLD, at, b"of today");
    // Nobody remembers its lives.
    for node in 0..2 {
        world.crash_now(node);
    }
    comes_back_with(&mut world, &yesterday);
    is_refused(&mut world, at, b"of today");
}

#[test]
fn the_device_as_it_was_when_its_power_failed_is_taken() {
    let mut world = world();
    let at = page_of(&world, 0, OLD as u32 + 1) * PAGE + 8;
    for round in 0..3 {
        put(&mut world, OLD, at, b"of today");
        for node in 0..=round % 3 {
            world.crash_now(OLD - node);
        }
        world.pass(500 * MS);
        assert_eq!(phase(&world), Phase::Ready);
        assert_eq!(load(&mut world, OLD, 1, at), Ok(*b"of today"));
    }
    nothing_left(&mut world);
}
