// SPDX-License-Identifier: GPL-2.0

//! Chunks that go to another owner [2.5.5], one sentence each.

use hotpot_core::core::{
    commit::commit as commit_areas,
    fault::{self, Access},
    host::{Host, Mapping, Sleep},
    migrate::Policy,
};
use kernel::error::{code::*, Result};
use sim::{
    hotpot::{
        host::SimHost,
        script::*,
        workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// Three nodes, two copies of each page; `page_of` says where chunks are.
fn world(loss: bool) -> World {
    cluster(Plan {
        loss,
        // The checker of owners looks after each event.
        moves: 1,
        ..Plan::quiet(3)
    })
}

/// Node `node` commits 8 bytes.
fn put(world: &mut World, node: usize, at: u64, bytes: &[u8; 8]) {
    store(world, node, 1, at, bytes).expect("a store");
    let committed = commit(world, node, file(1), 1, &[at], 2);
    assert_eq!(committed.result, Ok(()));
}

/// Has all nodes look after each fifth of a second, and a few bytes decide.
fn choose_moves(world: &mut World, enabled: bool) {
    for sim in &world.nodes {
        let life = sim.life.clone().expect("alive");
        life.node.borrow_mut().migration.policy = Policy {
            enabled,
            window: 200 * MS,
            min_benefit: 64,
            max_cost: 1 << 20,
        };
    }
}

#[test]
fn a_chunk_goes_to_the_node_that_commits_most_to_it() {
    let mut world = world(false);
    choose_moves(&mut world, true);
    let (chunk, at) = chunk_of(&world, 0);
    put(&mut world, 0, at + PAGE, b"by owner");
    world.pass(SEC);
    for _ in 0..600 {
        put(&mut world, 2, at, b"by node3");
        world.pass(MS);
    }
    world.pass(2 * SEC);
    for node in 0..3 {
        assert_eq!(
            chunk_owner(&world, node, chunk),
            3,
            "as node {node} sees it"
        );
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"by node3"));
        assert_eq!(load(&mut world, node, 1, at + PAGE), Ok(*b"by owner"));
    }
    let counts = |world: &World, node: usize| {
        let life = world.nodes[node].life.clone().expect("alive");
        let counts = life.node.borrow().migration.counts(1);
        (counts.left, counts.came)
    };
    assert_eq!(counts(&world, 0), (1, 0));
    assert_eq!(counts(&world, 2), (0, 1));
    nothing_left(&mut world);
}

#[test]
fn a_chunk_that_all_nodes_like_alike_stays() {
    let mut world = world(false);
    choose_moves(&mut world, true);
    let (chunk, at) = chunk_of(&world, 0);
    for round in 0..800 {
        put(&mut world, 2, at, b"by node3");
        if round % 6 != 0 {
            put(&mut world, 0, at + PAGE, b"by owner");
        }
        world.pass(MS);
    }
    world.pass(2 * SEC);
    assert_eq!(chunk_owner(&world, 1, chunk), 1);
}

#[test]
fn nothing_moves_when_that_is_switched_off() {
    let mut world = world(false);
    choose_moves(&mut world, false);
    let (chunk, at) = chunk_of(&world, 0);
    for _ in 0..600 {
        put(&mut world, 2, at, b"by node3");
        world.pass(MS);
    }
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 1, chunk), 1);
}

#[test]
fn a_chunk_that_moved_is_there_after_all_nodes_lost_power() {
    let mut world = world(false);
    let (chunk, at) = chunk_of(&world, 0);
    put(&mut world, 1, at, b"moved...");
    assert!(world.move_chunk(chunk, 1));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 2, chunk), 2);
    for node in 0..3 {
        world.crash_now(node);
    }
    world.pass(2 * SEC);
    for node in 0..3 {
        assert_eq!(chunk_owner(&world, node, chunk), 2);
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"moved..."));
    }
    // Home again: its record is as before.
    assert!(world.move_chunk(chunk, 0));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 2, chunk), 1);
    assert_eq!(load(&mut world, 2, 1, at), Ok(*b"moved..."));
    nothing_left(&mut world);
}

/// The owner commits to a chunk of its own while it learns that the chunk is not its own any more: who
/// does not know that yet, and has the page mapped, is told of the new bytes all the same.
#[test]
fn the_last_commits_of_the_owner_before_reach_all_who_have_the_page_mapped() {
    for time in 0..150 {
        let mut world = world(false);
        let (chunk, at) = chunk_of(&world, 2);
        put(&mut world, 2, at, b"before..");
        let page = key(1, at / PAGE);
        let until = world.now() + SEC;
        let mapped = world.execute(1, move |host| async move {
            fault::fault(&host, page, Access::Read, until).await
        });
        assert_eq!(mapped, Ok(()));
        store(&mut world, 2, 1, at, b"after...").expect("a store");
        // Node 2 hears nothing of the dispatcher.
        world.set_deaf_to(1, 0, true);
        assert!(world.move_chunk(chunk, 1));
        world.pass(time * 2 * US);
        let committed = commit(&mut world, 2, file(1), 1, &[at], 1);
        if committed.result == Ok(()) {
            let life = world.nodes[1].life.clone().expect("alive");
            let mapped = life.mapped.borrow().get(&page).copied();
            if let Some(Mapping::ReadOnly { offset }) = mapped {
                let pm = world.nodes[1].pm.borrow();
                let found = pm.read((offset + at % PAGE) as usize, 8);
                assert_eq!(found, b"after...", "at {time}");
            }
        }
        world.set_deaf_to(1, 0, false);
        world.pass(2 * SEC);
        nothing_left(&mut world);
    }
}

#[test]
fn a_chunk_with_a_page_that_nobody_can_read_stays_and_its_other_pages_are_read() {
    let mut world = world(true);
    let (chunk, at) = chunk_of(&world, 0);
    put(&mut world, 0, at, b"damaged.");
    put(&mut world, 0, at + PAGE, b"beside..");
    world.pass(SEC);
    let page = key(1, at / PAGE);
    let has_copy = |world: &World, node: usize| {
        let life = world.nodes[node].life.clone().expect("alive");
        let core = life.node.borrow();
        let clean = core.pages.get(page).and_then(|page| page.clean);
        clean.is_some_and(|clean| clean.pm.is_some())
    };
    let (with, without): (Vec<_>, Vec<_>) = (0..3).partition(|node| has_copy(&world, *node));
    assert_eq!((with.len(), without.len()), (2, 1));
    for node in with {
        world.flip(node, page, false);
    }
    assert!(world.move_chunk(chunk, without[0]));
    world.pass(2 * SEC);
    for node in 0..3 {
        assert_eq!(chunk_owner(&world, node, chunk), 1);
        assert_eq!(load(&mut world, node, 1, at), Err(EIO));
        let beside = load(&mut world, node, 1, at + PAGE);
        assert_eq!(beside, Ok(*b"beside.."), "at node {node}");
    }
    nothing_left(&mut world);
}

/// How long a commit of [`count_up`] took at most, and how many there were.
type Pace = Rc<Cell<(u64, u64)>>;

/// Counts up in 8 bytes of a page at `at`, committing each number, until it is told to end.
async fn count_up(
    host: SimHost,
    nr: u64,
    at: u64,
    stop: Rc<Cell<bool>>,
    pace: Pace,
) -> Result<u64> {
    let page = key(1, at / PAGE);
    let mut number = 0u64;
    while !stop.get() {
        number += 1;
        let begun = host.now();
        let until = begun + 20 * SEC;
        loop {
            // The devices are small, and old versions are not dropped at once.
            match fault::fault(&host, page, Access::Write, until).await {
                Err(ENOSPC) if host.now() < until => {
                    let ticket = host.with(|node| node.worker_ticket());
                    host.wait(ticket, host.now() + MS, Sleep::Killable).await?;
                    continue;
                }
                done => done?,
            }
            let mapped = host.0.mapped.borrow().get(&page).copied();
            if let Some(Mapping::Writable { offset }) = mapped {
                let mut pm = host.0.pm.borrow_mut();
                pm.store((offset + at % PAGE) as usize, &number.to_le_bytes());
                break;
            }
        }
        loop {
            let committed = commit_areas(&host, file(nr), 1, &cells(&[at]), 0, until).await;
            match committed.result {
                Err(EAGAIN | ENOSPC) => {}
                result => break result?,
            }
            let ticket = host.with(|node| node.worker_ticket());
            host.wait(ticket, host.now() + MS, Sleep::Killable).await?;
        }
        let (worst, count) = pace.get();
        pace.set((worst.max(host.now() - begun), count + 1));
        let ticket = host.with(|node| node.worker_ticket());
        host.wait(ticket, host.now() + 5 * MS, Sleep::Killable)
            .await?;
    }
    Ok(number)
}

/// Deadlines are those of a mount, not the short ones of other tests: who waits for one is seen. The owners'
/// search for pages with too few copies comes by while chunks are on their way.
#[test]
fn no_commit_waits_for_a_deadline_while_a_chunk_goes_round_among_its_writers() {
    for seed in 0..2 {
        let mut world = World::new(seed, |_| Plan {
            // Two copies of each page.
            loss: true,
            slow_in: 4,
            pause_in: 3,
            ..Plan::quiet(3)
        });
        workload::prepare(&mut world);
        for sim in &world.nodes {
            let life = sim.life.clone().expect("alive");
            life.node.borrow_mut().config.timeout = 10 * SEC;
        }
        let (chunk, at) = chunk_of(&world, 0);
        let stop = Rc::new(Cell::new(false));
        let pace = Pace::default();
        let mut ends = Vec::new();
        for node in 0..3 {
            for process in 0..2 {
                let at = at + process * PAGE + 8 * node as u64;
                let result = Rc::new(RefCell::new(None));
                let (stop, pace) = (stop.clone(), pace.clone());
                world.begin_result(node, result.clone(), move |host| {
                    count_up(host, process, at, stop, pace)
                });
                ends.push((at, result));
            }
        }
        let end = world.now() + 12 * SEC;
        let mut to = 0;
        while world.now() < end {
            to = (to + 1) % 3;
            world.move_chunk(chunk, to);
            let pause = world.rng.range(1..80) * MS;
            world.pass(pause);
        }
        stop.set(true);
        let end = world.now() + 30 * SEC;
        let ended = ends.clone();
        world.run_until(end, |_| ended.iter().all(|(_, end)| end.borrow().is_some()));
        let (worst, count) = pace.get();
        println!(
            "seed {seed}: {count} commits, the slowest took {} ms",
            worst / MS
        );
        assert!(
            worst < 2 * SEC,
            "seed {seed}: a commit took {} ms",
            worst / MS
        );
        for (at, end) in &ends {
            let number = end.borrow_mut().take().expect("it ends").expect("it can");
            for node in 0..3 {
                let found = load(&mut world, node, 1, *at);
                assert_eq!(found, Ok(number.to_le_bytes()), "seed {seed}");
            }
        }
        nothing_left(&mut world);
    }
}

#[test]
fn who_acquires_pages_gets_them_while_their_chunk_moves() {
    for step in 0..60 {
        let mut world = cluster(Plan {
            mrsw: true,
            moves: 1,
            ..Plan::quiet(3)
        });
        let (chunk, at) = chunk_of(&world, 1);
        assert!(world.move_chunk(chunk, 2));
        world.pass(step * 20 * US);
        for node in [0, 2, 1] {
            let acquired = acquire(&mut world, node, file(1), 1, &[at], true);
            assert_eq!(acquired, Ok(()), "by node {node} in step {step}");
            store(&mut world, node, 1, at, b"acquired").expect("a store");
            let committed = commit(&mut world, node, file(1), 1, &[at], 1);
            assert_eq!(committed.result, Ok(()), "by node {node} in step {step}");
        }
        world.pass(SEC);
        assert_eq!(chunk_owner(&world, 0, chunk), 3);
        nothing_left(&mut world);
    }
}
