// SPDX-License-Identifier: GPL-2.0

//! Pages of which all copies are damaged when their chunk gets another owner: they are EIO, never
//! older bytes or zeros, and no other page waits for them.

use hotpot_core::core::{
    cluster::State,
    format::Timestamp,
    msg::{ChangeNames, Request},
    scrub::{self, Scrubbed},
};
use kernel::error::{code::*, Result};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};

/// The owner that is lost, the next one in the row, which has no copy of its pages, and both
/// others, which have all.
const LOST: usize = 1;
const NEXT: usize = 2;
const OTHERS: [usize; 2] = [0, 3];

fn has_copy(world: &World, node: usize, page: u64) -> bool {
    let life = world.nodes[node].life.clone().expect("alive");
    let core = life.node.borrow();
    let clean = core.pages.get(key(1, page)).and_then(|page| page.clean);
    clean.is_some_and(|clean| clean.pm.is_some())
}

/// Commits four pages of the owner that is to be lost; the first of them.
fn four_pages() -> (World, u64) {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(4)
    });
    let first = page_of(&world, 0, LOST as u32 + 1);
    for page in first..first + 4 {
        let at = page * PAGE;
        store(&mut world, LOST, 1, at, b"original").expect("a store");
        let committed = commit(&mut world, LOST, file(1), 1, &[at], 1);
        assert_eq!(committed.result, Ok(()));
        for node in OTHERS {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"original"));
        }
        assert!(!has_copy(&world, NEXT, page));
    }
    (world, first)
}

fn scrub_all(world: &mut World, node: usize) -> Scrubbed {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        scrub::scrub(&host, 1, 0, 1000, until)
            .await
            .expect("it can")
    })
}

fn write_all_of(world: &mut World, node: usize, page: u64) -> Result {
    let until = world.now() + SEC;
    world.execute(node, move |host| async move {
        let time = Timestamp::default();
        let bytes = [0x5a; PAGE as usize];
        hotpot_core::core::commit::write(&host, file(1), 1, page * PAGE, &bytes, time, until).await
    })
}

/// All nodes but the lost one read what was committed of all pages but `damaged`, which is EIO.
fn only_it_is_eio(world: &mut World, first: u64, damaged: u64) {
    for node in [NEXT, OTHERS[0], OTHERS[1]] {
        for page in first..first + 4 {
            let found = load(world, node, 1, page * PAGE);
            match page == damaged {
                true => assert_eq!(found, Err(EIO), "node {node}"),
                false => assert_eq!(found, Ok(*b"original"), "node {node}, page {page}"),
            }
        }
    }
}

#[test]
fn a_new_owner_serves_its_other_pages_when_all_copies_of_one_are_damaged() {
    for slot in [false, true] {
        let (mut world, first) = four_pages();
        let damaged = first + 1;
        for node in OTHERS {
            world.flip(node, key(1, damaged), slot);
        }
        world.lose(LOST);
        world.pass(SEC);
        only_it_is_eio(&mut world, first, damaged);
        for node in [NEXT, OTHERS[0], OTHERS[1]] {
            assert_eq!(scrub_all(&mut world, node).lost, 1, "node {node}");
        }
        let part = write(
            &mut world,
            NEXT,
            file(1),
            1,
            damaged * PAGE + 8,
            *b"in vain!",
        );
        assert_eq!(part, Err(EIO), "it would publish what is damaged");
        // It is no hole and no older version after a restart, either.
        world.crash_now(NEXT);
        world.pass(SEC);
        only_it_is_eio(&mut world, first, damaged);
        assert_eq!(write_all_of(&mut world, OTHERS[0], damaged), Ok(()));
        for node in [NEXT, OTHERS[0], OTHERS[1]] {
            assert_eq!(load(&mut world, node, 1, damaged * PAGE), Ok([0x5a; 8]));
            assert_eq!(scrub_all(&mut world, node).lost, 0, "node {node}");
        }
        nothing_left(&mut world);
    }
}

#[test]
fn a_page_that_a_new_owner_could_not_read_is_healed_when_a_node_with_a_good_copy_is_back() {
    let mut found_damaged = 0;
    for draws in 0..5 {
        let (mut world, first) = four_pages();
        for _ in 0..draws {
            world.rng.u64();
        }
        let [here, away] = OTHERS;
        world.set_cut(away, true);
        world.declare(away, State::Down);
        world.pass(MS);
        world.flip(here, key(1, first), false);
        world.lose(LOST);
        let is_damaged = |world: &World| {
            let life = world.nodes[NEXT].life.clone().expect("alive");
            let core = life.node.borrow();
            let page = core.pages.get(key(1, first));
            page.is_some_and(|page| page.damaged)
        };
        for _ in 0..2000 {
            if is_damaged(&world) {
                found_damaged += 1;
                let beside = load(&mut world, NEXT, 1, (first + 1) * PAGE);
                assert_eq!(beside, Ok(*b"original"));
                break;
            }
            // Each time the map takes it for alive again.
            world.declare(away, State::Down);
            world.pass(200 * US);
        }
        world.set_cut(away, false);
        world.pass(SEC);
        for node in [NEXT, here, away] {
            let found = load(&mut world, node, 1, first * PAGE);
            assert_eq!(found, Ok(*b"original"), "node {node} after {draws}");
        }
        nothing_left(&mut world);
    }
    assert!(found_damaged > 0, "the node is always back before");
}

/// The chunk of node 2 is to go to node 3, and all that is left to do is to decide it. Then a page
/// comes that node 3 does not have, and both copies of it are damaged. The chunk, that page, and
/// one beside it.
fn damaged_after_the_copying(mrsw: bool) -> (World, u64, u64, u64) {
    let mut world = cluster(Plan {
        loss: true,
        mrsw,
        // The checker of owners looks after each event.
        moves: 1,
        ..Plan::quiet(3)
    });
    let (chunk, at) = chunk_of(&world, 1);
    let beside = at + PAGE;
    let put = |world: &mut World, at: u64, bytes: &[u8; 8]| {
        if mrsw {
            assert_eq!(acquire(world, 1, file(1), 1, &[at], true), Ok(()));
        }
        store(world, 1, 1, at, bytes).expect("a store");
        assert_eq!(commit(world, 1, file(1), 1, &[at], 2).result, Ok(()));
    };
    put(&mut world, beside, b"beside..");
    // It gets the second copy.
    assert_eq!(load(&mut world, 0, 1, at), Ok([0; 8]));
    world.pass(SEC);
    world.hold(0, ChangeNames::OPCODE);
    assert!(world.move_chunk(chunk, 2));
    world.pass(SEC);
    put(&mut world, at, b"original");
    world.pass(SEC);
    for node in [0, 1] {
        world.flip(node, key(1, at / PAGE), false);
    }
    assert!(!has_copy(&world, 2, at / PAGE));
    (world, chunk, at, beside)
}

/// The dispatcher hears that the chunk is to go.
fn decide(world: &mut World) {
    assert!(world.release(0, ChangeNames::OPCODE) > 0);
}

fn stayed(world: &World) -> u64 {
    let lives = world.nodes.iter().filter_map(|node| node.life.clone());
    lives
        .map(|life| life.node.borrow().migration.counts(1).stayed)
        .sum()
}

#[test]
fn a_move_is_given_up_when_a_page_is_damaged_before_the_next_owner_has_it() {
    let (mut world, chunk, at, beside) = damaged_after_the_copying(false);
    let before = stayed(&world);
    decide(&mut world);
    world.pass(SEC);
    for node in 0..3 {
        assert_eq!(
            chunk_owner(&world, node, chunk),
            2,
            "as node {node} sees it"
        );
        assert_eq!(load(&mut world, node, 1, beside), Ok(*b"beside.."));
        assert_eq!(load(&mut world, node, 1, at), Err(EIO), "node {node}");
    }
    assert_eq!(stayed(&world), before + 1);
    assert_eq!(scrub_all(&mut world, 1).lost, 1);
    // Asked once more it does not even begin.
    assert!(world.move_chunk(chunk, 2));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 0, chunk), 2);
    // Once all can be read again it goes.
    assert_eq!(write_all_of(&mut world, 0, at / PAGE), Ok(()));
    assert!(world.move_chunk(chunk, 2));
    world.pass(SEC);
    for node in 0..3 {
        assert_eq!(
            chunk_owner(&world, node, chunk),
            3,
            "as node {node} sees it"
        );
        assert_eq!(load(&mut world, node, 1, at), Ok([0x5a; 8]));
        assert_eq!(load(&mut world, node, 1, beside), Ok(*b"beside.."));
    }
    nothing_left(&mut world);
}

/// Whatever fails while a chunk goes back, at any time, it has one owner, and is served.
#[test]
fn a_chunk_that_goes_back_is_served_whoever_loses_power_meanwhile() {
    for time in 0..60 {
        for node in 0..3 {
            let (mut world, chunk, at, beside) = damaged_after_the_copying(time % 2 == 0);
            decide(&mut world);
            world.pass(time * 20 * US);
            world.crash_now(node);
            world.pass(2 * SEC);
            let owners = [0, 1, 2].map(|asked| chunk_owner(&world, asked, chunk));
            assert_eq!(owners, [owners[0]; 3], "node {node} at {time}");
            for asked in 0..3 {
                let found = load(&mut world, asked, 1, beside);
                assert_eq!(found, Ok(*b"beside.."), "node {node} at {time}");
                assert_eq!(load(&mut world, asked, 1, at), Err(EIO));
            }
            close(&mut world, 1, file(1));
            nothing_left(&mut world);
        }
    }
}

#[test]
fn a_chunk_that_comes_from_a_lost_owner_is_served_with_a_page_that_nobody_can_read() {
    for time in 0..60 {
        let (mut world, _, at, beside) = damaged_after_the_copying(false);
        decide(&mut world);
        world.pass(time * 20 * US);
        world.lose(1);
        world.pass(2 * SEC);
        for node in [0, 2] {
            assert_eq!(load(&mut world, node, 1, beside), Ok(*b"beside.."));
            assert_eq!(load(&mut world, node, 1, at), Err(EIO), "node {node}");
        }
        assert_eq!(write_all_of(&mut world, 0, at / PAGE), Ok(()));
        assert_eq!(load(&mut world, 2, 1, at), Ok([0x5a; 8]));
        nothing_left(&mut world);
    }
}

/// Who writes a page of a chunk that goes back is its writer as long as it says so, and no longer.
#[test]
fn who_gives_a_page_up_while_its_chunk_goes_back_does_not_keep_it() {
    for time in 0..60 {
        let (mut world, chunk, _, beside) = damaged_after_the_copying(true);
        let taken = acquire(&mut world, 0, file(1), 1, &[beside], true);
        assert_eq!(taken, Ok(()));
        decide(&mut world);
        world.pass(time * 20 * US);
        assert_eq!(abort(&mut world, 0, file(1), 1, &[]), Ok(()), "at {time}");
        world.pass(SEC);
        assert_eq!(chunk_owner(&world, 0, chunk), 2, "at {time}");
        let taken = acquire(&mut world, 2, file(1), 1, &[beside], true);
        assert_eq!(taken, Ok(()), "at {time}");
        close(&mut world, 2, file(1));
        nothing_left(&mut world);
    }
}

#[test]
fn the_operator_is_told_once_that_a_chunk_stays_for_the_sake_of_a_damaged_page() {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(3)
    });
    let (chunk, at) = chunk_of(&world, 0);
    for place in [at, at + PAGE] {
        store(&mut world, 0, 1, place, b"original").expect("a store");
        assert_eq!(
            commit(&mut world, 0, file(1), 1, &[place], 2).result,
            Ok(())
        );
    }
    world.pass(SEC);
    let page = at / PAGE;
    let without = (1..3).find(|node| !has_copy(&world, *node, page));
    let to = without.expect("two have copies");
    let damage = |world: &mut World, page: u64| {
        for node in 0..3 {
            if has_copy(world, node, page) {
                world.flip(node, key(1, page), false);
            }
        }
    };
    let told = |world: &mut World| {
        assert!(world.move_chunk(chunk, to));
        world.pass(SEC);
        let life = world.nodes[0].life.clone().expect("alive");
        let lines = life.lines.borrow();
        let stays = lines.iter().filter(|line| line.contains("stays here"));
        stays.cloned().collect::<Vec<_>>()
    };
    damage(&mut world, page);
    let first = told(&mut world);
    assert_eq!(first.len(), 1);
    for what in [
        format!("chunk {chunk} of dataset 1"),
        format!("page {page} "),
        "potluck scrub".into(),
    ] {
        assert!(first[0].contains(&what), "{what:?} in {:?}", first[0]);
    }
    assert_eq!(told(&mut world), first, "again is no news");
    // When it is good again and another one is not, that is.
    assert_eq!(write_all_of(&mut world, 0, page), Ok(()));
    damage(&mut world, page + 1);
    assert_eq!(scrub_all(&mut world, 0).lost, 1);
    let second = told(&mut world);
    assert_eq!(second.len(), 2);
    assert!(second[1].contains(&format!("page {} ", page + 1)));
    assert_eq!(told(&mut world), second);
    nothing_left(&mut world);
}
