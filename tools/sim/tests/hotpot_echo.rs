// SPDX-License-Identifier: GPL-2.0

//! The committing node has the bytes that an owner stages at it, one sentence each: they are not
//! sent to it, and what it stages is what all others have, whatever is stored there meanwhile and
//! however late a message comes.

use hotpot_core::core::{
    area::ByteRange,
    commit::{self, Committed},
    fault::{self, Access},
    format::Timestamp,
    host::Mapping,
    msg::{Request as _, Settle, Stage},
};
use kernel::error::{code::EINPROGRESS, Result};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Owner of the pages, which node 0 commits.
const OWNER: usize = 1;

fn world(nodes: usize, mrsw: bool) -> (World, u64) {
    let world = cluster(Plan {
        mrsw,
        ..Plan::quiet(nodes)
    });
    let first = page_of(&world, 0, OWNER as u32 + 1);
    (world, first)
}

/// Stores of node 0 to the whole of pages.
fn store_pages(world: &mut World, first: u64, count: u64, fill: u8) {
    for page in first..first + count {
        if world.plan.mrsw {
            let taken = acquire(world, 0, file(1), 1, &[page * PAGE], true);
            assert_eq!(taken, Ok(()));
        }
        let bytes = [fill; PAGE as usize];
        store(world, 0, 1, page * PAGE, &bytes).expect("a store");
    }
}

fn begin(world: &mut World, ranges: &[(u64, u64)], replicas: u32) -> Ended<Committed> {
    let ranges: Vec<ByteRange> = ranges
        .iter()
        .map(|(offset, len)| ByteRange {
            offset: *offset,
            len: *len,
        })
        .collect();
    let until = world.now() + SEC;
    let ended = Ended::default();
    world.begin_result(0, ended.clone(), move |host| async move {
        commit::commit(&host, file(1), 1, &ranges, replicas, until).await
    });
    ended
}

type Ended<T> = Rc<RefCell<Option<T>>>;

fn end(world: &mut World, of: &Ended<Committed>) -> Result {
    world.run_until(world.now() + 2 * SEC, |_| of.borrow().is_some());
    let ended = of.borrow_mut().take();
    ended.expect("it ends").result
}

/// Version and bytes of a node's clean copy of a page.
fn copy(world: &World, node: usize, page: u64) -> Option<(u64, Vec<u8>)> {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let clean = core.pages.get(key(1, page))?.clean?;
    let at = core.geometry().page(clean.pm?) as usize;
    let bytes = life.pm.borrow().read(at, PAGE as usize).to_vec();
    Some((clean.version, bytes))
}

/// Whether a version of a page is staged on node 0.
fn is_staged(world: &World, page: u64) -> bool {
    let life = world.nodes[0].life.clone().expect("alive");
    let core = life.node.borrow();
    core.pages
        .get(key(1, page))
        .is_some_and(|page| !page.staged.is_empty())
}

/// Bytes of requests of this kind to node 0.
fn stages(world: &World) -> usize {
    let of = (0, Stage::OPCODE as u8);
    world.traffic.requests.get(&of).copied().unwrap_or(0)
}

#[test]
fn a_commit_to_pages_of_another_sends_each_byte_once_for_each_other_copy() {
    for mrsw in [false, true] {
        for (nodes, replicas) in [(2, 1), (2, 2), (3, 3)] {
            for count in [1, 8] {
                let (mut world, first) = world(nodes, mrsw);
                // The second time there is a copy below.
                for fill in [0x11, 0x22] {
                    store_pages(&mut world, first, count, fill);
                    world.pass(100 * MS);
                    let before = (world.traffic.bytes(), stages(&world));
                    let committed = begin(&mut world, &[(first * PAGE, count * PAGE)], replicas);
                    assert_eq!(end(&mut world, &committed), Ok(()));
                    let sent = world.traffic.bytes() - before.0;
                    let data = (count * PAGE) as f64;
                    let others = f64::from(replicas.max(2) - 1);
                    let each = sent as f64 / data;
                    let case = format!("mrsw {mrsw}, {replicas} copies, {count} pages");
                    println!("{case}: {each:.3}");
                    let head = 0.03 + 0.3 / count as f64;
                    assert!(each < others * (1.0 + head), "{case}: {each}");
                    let head = stages(&world) - before.1;
                    assert!(head < 64 + 64 * count as usize, "{case}: {head} in Stage");
                }
                for node in 0..2 {
                    let at = (first + count - 1) * PAGE + 4088;
                    assert_eq!(load(&mut world, node, 1, at), Ok([0x22; 8]));
                }
                close(&mut world, 0, file(1));
                nothing_left(&mut world);
            }
        }
    }
}

#[test]
fn a_write_of_bytes_in_memory_sends_them_once_too() {
    let (mut world, first) = world(2, false);
    let at = first * PAGE + 100;
    for (fill, replicas) in [(0x33, 1), (0x44, 2)] {
        // The second time we have a copy.
        let before = world.traffic.bytes();
        let until = world.now() + SEC;
        let written = world.execute(0, move |host| async move {
            let bytes = vec![fill; 5 * PAGE as usize];
            commit::write(&host, file(1), 1, at, &bytes, Timestamp::default(), until).await
        });
        assert_eq!(written, Ok(()));
        let sent = world.traffic.bytes() - before;
        assert!(sent < 6 * PAGE as usize, "{sent} bytes, {replicas}");
        let last = at + 5 * PAGE - 8;
        for node in 0..2 {
            assert_eq!(load(&mut world, node, 1, last), Ok([fill; 8]));
        }
    }
    nothing_left(&mut world);
}

#[test]
fn what_the_committing_node_has_of_a_commit_is_what_all_others_have() {
    let (mut world, first) = world(3, false);
    let at = first * PAGE;
    for node in [2, 0] {
        store(&mut world, node, 1, at, &[7 + node as u8; PAGE as usize]).expect("a store");
        let places = [0, 8, 64, 1000, 4088].map(|offset| at + offset);
        let committed = commit(&mut world, node, file(1), 1, &places, 3);
        assert_eq!(committed.result, Ok(()));
        world.pass(100 * MS);
        let theirs = copy(&world, OWNER, first).expect("the owner has it");
        for other in [0, 2] {
            assert_eq!(copy(&world, other, first).as_ref(), Some(&theirs));
        }
    }
    nothing_left(&mut world);
}

#[test]
fn a_whole_page_is_not_sent_back_though_the_committing_node_has_no_copy_of_it() {
    let (mut world, first) = world(2, false);
    let at = first * PAGE;
    store(&mut world, OWNER, 1, at, b"version1").expect("a store");
    let committed = commit(&mut world, OWNER, file(1), 1, &[at], 1);
    assert_eq!(committed.result, Ok(()));
    world.pass(100 * MS);
    assert_eq!(copy(&world, 0, first), None);
    let until = world.now() + SEC;
    let written = world.execute(0, move |host| async move {
        let bytes = [0x5a; 2 * PAGE as usize];
        commit::write(&host, file(1), 1, at, &bytes, Timestamp::default(), until).await
    });
    assert_eq!(written, Ok(()));
    // The dataset has two copies.
    assert!(stages(&world) < 192, "{} bytes", stages(&world));
    let all = vec![0x5a; PAGE as usize];
    for node in 0..2 {
        assert_eq!(copy(&world, node, first), Some((2, all.clone())));
        assert_eq!(copy(&world, node, first + 1), Some((1, all.clone())));
    }
    nothing_left(&mut world);
}

#[test]
fn two_areas_that_make_up_a_page_are_a_whole_page() {
    let (mut world, first) = world(2, false);
    store_pages(&mut world, first, 1, 0x55);
    let at = first * PAGE;
    let halves = [(at, 1000), (at + 1000, PAGE - 1000)];
    let committed = begin(&mut world, &halves, 2);
    assert_eq!(end(&mut world, &committed), Ok(()));
    assert!(stages(&world) < 128, "{} bytes", stages(&world));
    let all = vec![0x55; PAGE as usize];
    for node in 0..2 {
        assert_eq!(copy(&world, node, first), Some((1, all.clone())));
    }
    nothing_left(&mut world);
}

#[test]
fn what_is_stored_during_a_commit_is_in_no_copy_of_it() {
    let (mut world, first) = world(3, false);
    let at = first * PAGE;
    store_pages(&mut world, first, 1, 0x66);
    world.hold(0, Stage::OPCODE);
    let committed = begin(&mut world, &[(at, PAGE)], 3);
    world.pass(MS);
    // A process of the committing node stores: as soon as it can.
    let until = world.now() + SEC;
    let page = key(1, first);
    let stored = Ended::default();
    let life = world.nodes[0].life.clone().expect("alive");
    world.begin_result(0, stored.clone(), move |host| async move {
        let fault = fault::fault(&host, page, Access::Write, until).await;
        let mapped = life.mapped.borrow().get(&page).copied();
        let Some(Mapping::Writable { offset }) = mapped else {
            panic!("not writable: {mapped:?}");
        };
        let mut pm = life.pm.borrow_mut();
        pm.store(offset as usize, b"too late");
        fault
    });
    world.pass(MS);
    assert_eq!(world.release(0, Stage::OPCODE), 1);
    assert_eq!(end(&mut world, &committed), Ok(()));
    world.pass(100 * MS);
    assert_eq!(*stored.borrow(), Some(Ok(())));
    for node in 0..3 {
        let all = vec![0x66; PAGE as usize];
        assert_eq!(copy(&world, node, first), Some((1, all)), "n{}", node + 1);
    }
    assert_eq!(load(&mut world, 0, 1, at), Ok(*b"too late"));
    nothing_left(&mut world);
}

#[test]
fn bytes_that_change_in_spite_of_the_freeze_are_asked_of_the_owner() {
    let (mut world, first) = world(3, false);
    store_pages(&mut world, first, 1, 0x77);
    let life = world.nodes[0].life.clone().expect("alive");
    let Some(Mapping::Writable { offset }) = life.mapped.borrow().get(&key(1, first)).copied()
    else {
        panic!("it was stored to");
    };
    world.hold(0, Stage::OPCODE);
    let committed = begin(&mut world, &[(first * PAGE + 8, 80)], 3);
    world.pass(MS);
    let at = offset as usize + 16;
    life.pm.borrow_mut().store(at, b"never told");
    assert_eq!(world.release(0, Stage::OPCODE), 1);
    assert_eq!(end(&mut world, &committed), Ok(()));
    world.pass(100 * MS);
    let mut page = vec![0; PAGE as usize];
    page[8..88].fill(0x77);
    for node in 0..3 {
        let found = copy(&world, node, first);
        assert_eq!(found, Some((1, page.clone())), "n{}", node + 1);
    }
    nothing_left(&mut world);
}

#[test]
fn a_stage_that_comes_when_its_commit_is_over_finds_no_bytes_and_stages_none() {
    let (mut world, first) = world(3, false);
    let at = first * PAGE;
    store_pages(&mut world, first, 1, 0x88);
    // The owner gives up, and the committing node does not hear of that either.
    world.hold(0, Stage::OPCODE);
    world.hold(0, Settle::OPCODE);
    let committed = begin(&mut world, &[(at, 8)], 1);
    assert_eq!(end(&mut world, &committed), Err(EINPROGRESS));
    let before = world.traffic.replies;
    assert_eq!(world.release(0, Stage::OPCODE), 1);
    for _ in 0..1000 {
        world.pass(US);
        assert!(!is_staged(&world, first), "it stages what it is not sent");
    }
    assert!(world.traffic.replies > before, "it was answered");
    world.release(0, Settle::OPCODE);
    world.pass(SEC);
    for node in 1..3 {
        assert_eq!(load(&mut world, node, 1, at), Ok([0; 8]));
    }
    // What was stored since is what the next commit publishes.
    store(&mut world, 0, 1, at, b"next one").expect("a store");
    let committed = commit(&mut world, 0, file(1), 1, &[at], 3);
    assert_eq!(committed.result, Ok(()));
    for node in 0..3 {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"next one"));
    }
    nothing_left(&mut world);
}
