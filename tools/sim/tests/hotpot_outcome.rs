// SPDX-License-Identifier: GPL-2.0

//! What users are told of commits that failed, by their commit or by HOTPOT_IOC_OUTCOME, stays true
//! whoever is lost afterwards.

use hotpot_core::core::{
    cluster::State,
    commit::{self as core_commit, Committed},
    format::Cid,
    msg::{Outcome, Prepare, Request, Settle, Stage},
    outcome,
};
use kernel::error::{code::*, Result};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, Second, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Places in two chunks.
const PLACES: [u64; 2] = [8, 16 * PAGE + 8];
const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";

type Told = Rc<RefCell<Option<Committed>>>;

fn world(nodes: usize) -> World {
    cluster(Plan {
        loss: true,
        second: Second::AtOnce,
        ..Plan::quiet(nodes)
    })
}

/// All nodes get copies of places with what was before.
fn old_everywhere(world: &mut World, cn: usize, copies: u32) {
    for at in PLACES {
        store(world, cn, 1, at, &OLD).expect("a store");
    }
    let committed = commit(world, cn, file(1), 1, &PLACES, copies);
    assert_eq!(committed.result, Ok(()));
    for node in 0..world.nodes.len() {
        for at in PLACES {
            assert_eq!(load(world, node, 1, at), Ok(OLD));
        }
    }
    world.pass(500 * MS);
}

fn begin(world: &mut World, cn: usize, places: &[u64], copies: u32, time: Time) -> Told {
    for at in places {
        store(world, cn, 1, *at, &NEW).expect("a store");
    }
    let told = Told::default();
    let until = world.now() + time;
    let ranges = cells(places);
    world.begin_result(cn, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, copies, until).await
    });
    told
}

fn wait_for(world: &mut World, step: Time, is: impl Fn(&World) -> bool) {
    for _ in 0..100_000 {
        if is(world) {
            return;
        }
        world.pass(step);
    }
    panic!("it does not happen");
}

/// The user is told; what and of which commit.
fn end_of(world: &mut World, told: &Told) -> (Cid, Result) {
    wait_for(world, 20 * US, |_| told.borrow().is_some());
    let told = told.borrow();
    let committed = told.as_ref().expect("it is there");
    (committed.cid, committed.result)
}

/// Whether nodes have staged something of each place, durably.
fn is_staged(world: &World, nodes: &[usize], at: u64) -> bool {
    nodes.iter().all(|node| {
        let life = world.nodes[*node].life.clone();
        life.is_some_and(|life| {
            let core = life.node.borrow();
            let page = core.pages.get(key(1, at / PAGE));
            page.is_some_and(|page| page.staged.iter().any(|of| of.ready))
        })
    })
}

/// Requests to prepare come to `owners` late. Once all the others have staged what is theirs `cn`
/// is cut off for a while: the promises of these owners do not come.
fn promised_in_vain(world: &mut World, cn: usize, owners: &[usize], cut: impl FnOnce(&mut World)) {
    world.pass(5 * MS);
    for owner in owners {
        assert_eq!(world.release(*owner, Prepare::OPCODE), 1);
    }
    for at in PLACES {
        let owner = owner_at(world, at);
        let mut others: Vec<usize> = (0..world.nodes.len()).collect();
        others.retain(|node| *node != owner);
        wait_for(world, US, |world| is_staged(world, &others, at));
    }
    world.set_cut(cn, true);
    cut(world);
    world.pass(MS);
    world.set_cut(cn, false);
}

fn ask(world: &mut World, node: usize, cid: Cid) -> Result<Outcome> {
    let until = world.now() + 100 * MS;
    world.execute(node, move |host| async move {
        outcome::outcome(&host, cid, until).await
    })
}

/// All that are left have the same of all places.
fn found(world: &World, left: &[usize], places: &[u64]) -> [u8; 8] {
    let first = committed_at(world, left[0], places[0]);
    for node in left {
        for at in places {
            assert_eq!(
                committed_at(world, *node, *at),
                first,
                "{at} on n{}",
                node + 1
            );
        }
    }
    first
}

/// A commit of one owner, which is lost while it does it. Whoever is asked, whenever: what is said
/// first is true at the end.
#[test]
fn what_is_said_of_a_commit_whose_only_owner_is_lost_stays_so() {
    let mut ends = [0; 2];
    for time in 0..60 {
        let mut world = world(3);
        let lost = owner_at(&world, PLACES[0]);
        let cn = owner_at(&world, PLACES[1]);
        old_everywhere(&mut world, cn, 2);
        let told = begin(&mut world, cn, &PLACES[..1], 2, 4 * MS);
        world.pass(time * 5 * US);
        world.lose(lost);
        let (cid, result) = end_of(&mut world, &told);
        let left = [cn, 3 - cn - lost];
        let mut said = Vec::new();
        if result == Err(EINPROGRESS) {
            for _ in 0..200 {
                for node in left {
                    said.push(ask(&mut world, node, cid));
                }
                world.pass(100 * US);
            }
        }
        world.pass(3 * SEC);
        for node in left {
            said.push(ask(&mut world, node, cid));
        }
        let new = found(&world, &left, &PLACES[..1]) == NEW;
        let case = format!("lost after {} us, told {result:?}", time * 5);
        let right = match new {
            true => [Outcome::Committed; 2],
            false => [Outcome::Aborted, Outcome::Forgotten],
        };
        let said_in_all = said.len();
        for (nr, said) in said.iter().enumerate() {
            match said {
                Ok(Outcome::Pending) | Err(_) => assert!(nr + 2 < said_in_all, "{case}: {said:?}"),
                Ok(said) => assert!(right.contains(said), "{case}: {said:?}, and new: {new}"),
            }
        }
        if result == Err(EINPROGRESS) {
            ends[usize::from(new)] += 1;
        }
        nothing_left(&mut world);
    }
    assert!(ends.iter().all(|end| *end > 0), "not all happens: {ends:?}");
}

/// Five nodes, four copies, two owners that have both promised, which their committing node does
/// not hear. They are lost; once it has said that the commit is aborted it is lost, too, before
/// their successors, which it does not hear, could have asked it.
#[test]
fn a_commit_that_is_said_to_be_aborted_stays_so_when_its_owners_and_then_its_own_node_are_lost() {
    let mut world = world(5);
    let owners = PLACES.map(|at| owner_at(&world, at));
    let third = owner_at(&world, 32 * PAGE);
    let mut others = (0..5).filter(|node| !owners.contains(node) && *node != third);
    let (cn, fourth) = (others.next().expect("one"), others.next().expect("two"));
    old_everywhere(&mut world, cn, 4);
    for owner in owners {
        world.hold(owner, Prepare::OPCODE);
    }
    let told = begin(&mut world, cn, &PLACES, 4, 20 * MS);
    promised_in_vain(&mut world, cn, &owners, |_| {});
    for owner in owners {
        world.set_deaf_to(owner, cn, true);
    }
    let (cid, result) = end_of(&mut world, &told);
    assert_eq!(result, Err(EINPROGRESS));
    assert_eq!(ask(&mut world, cn, cid), Ok(Outcome::Pending));
    for node in [third, fourth] {
        world.set_deaf_to(cn, node, true);
    }
    world.lose_at_once(&owners);
    let mut said = Ok(Outcome::Pending);
    for _ in 0..30_000 {
        said = ask(&mut world, cn, cid);
        if said != Ok(Outcome::Pending) {
            break;
        }
        world.pass(100 * US);
    }
    assert_eq!(said, Ok(Outcome::Aborted));
    world.lose(cn);
    world.pass(10 * SEC);
    assert_eq!(found(&world, &[third, fourth], &PLACES), OLD);
    for node in [third, fourth] {
        let said = ask(&mut world, node, cid);
        assert_eq!(said, Ok(Outcome::Forgotten), "n{}", node + 1);
    }
    nothing_left(&mut world);
}

/// Two owners promise, or one is about to, and their committing node does not hear it. One loses
/// power, and is back when it hears that the commit is given up; the other does not hear it. The
/// first and the committing node are lost, before data nodes have heard anything.
fn is_given_up_at_the_next_life_of_an_owner(time: Time) -> Result {
    let mut world = world(4);
    let [restarts, silent] = PLACES.map(|at| owner_at(&world, at));
    let data = owner_at(&world, 32 * PAGE);
    let cn = 6 - restarts - silent - data;
    old_everywhere(&mut world, cn, 3);
    for owner in [restarts, silent] {
        world.hold(owner, Prepare::OPCODE);
    }
    for node in [silent, data] {
        world.hold(node, Settle::OPCODE);
    }
    let told = begin(&mut world, cn, &PLACES, 3, 55 * MS);
    promised_in_vain(&mut world, cn, &[silent, restarts], |world| {
        world.set_deaf_to(silent, cn, true);
        world.pass(time);
        world.crash_now(restarts);
    });
    let (_, result) = end_of(&mut world, &told);
    world.lose_at_once(&[restarts, cn]);
    for node in [silent, data] {
        world.lose_held(node, Settle::OPCODE);
    }
    world.pass(5 * SEC);
    let found = found(&world, &[silent, data], &PLACES);
    match result {
        Ok(()) => assert_eq!(found, NEW, "after {time}"),
        Err(EINPROGRESS) => {}
        Err(error) => assert_eq!(found, OLD, "after {time}: told {error:?}"),
    }
    nothing_left(&mut world);
    result
}

#[test]
fn what_an_owner_had_staged_in_the_life_before_is_not_told_to_be_undone_before_it_is() {
    let told: Vec<Result> = (0..40)
        .map(|step| is_given_up_at_the_next_life_of_an_owner(step * 5 * US))
        .collect();
    assert!(told.contains(&Err(EINPROGRESS)), "{told:?}");
}

/// How often the workers of the first two of three nodes have looked.
fn looks(world: &World) -> [u64; 2] {
    [0, 1].map(|node| world.nodes[node].life.as_ref().expect("alive").looks.get())
}

/// A commit of the first of three nodes, to pages of these owners, the last node among them. That one
/// is cut off before it has heard of it, or when a data node has not staged what the first one has
/// staged for it, and is down for a while.
fn waits_for_an_owner_that_is_down(owners: &[usize], staged_before: bool) {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(3)
    });
    let case = format!("of {owners:?}, staged before: {staged_before}");
    let places: Vec<u64> = owners
        .iter()
        .map(|node| chunk_of(&world, *node).1)
        .collect();
    let told = match staged_before {
        true => {
            world.hold(1, Stage::OPCODE);
            let told = begin(&mut world, 0, &places, 3, 20 * MS);
            wait_for(&mut world, US, |world| is_staged(world, &[0], places[0]));
            told
        }
        false => {
            world.hold(2, Prepare::OPCODE);
            let told = begin(&mut world, 0, &places, 2, 20 * MS);
            world.pass(5 * MS);
            told
        }
    };
    world.set_cut(2, true);
    world.lose_held(1, Stage::OPCODE);
    world.lose_held(2, Prepare::OPCODE);
    let (cid, result) = end_of(&mut world, &told);
    world.have_first_only(2);
    world.pass(4 * SEC);
    let before = looks(&world);
    world.pass(10 * SEC);
    let after = looks(&world);
    for (node, (before, after)) in before.iter().zip(after).enumerate() {
        let looks = after - before;
        assert!(looks <= 15, "{case}: n{} looks {looks} times", node + 1);
    }
    let said = ask(&mut world, 0, cid);
    match result {
        Err(EINPROGRESS) => assert_eq!(said, Ok(Outcome::Pending), "{case}"),
        // The other owner has said that it has undone it.
        _ => assert_eq!((owners[0], result), (1, Err(ETIMEDOUT)), "{case}"),
    }
    world.set_cut(2, false);
    world.declare(2, State::Up);
    world.pass(200 * MS);
    assert_eq!(ask(&mut world, 0, cid), Ok(Outcome::Aborted), "{case}");
    nothing_left(&mut world);
}

#[test]
fn who_waits_for_an_owner_that_is_down_looks_seldom_until_the_map_has_it_up() {
    waits_for_an_owner_that_is_down(&[2], false);
    waits_for_an_owner_that_is_down(&[2], true);
    waits_for_an_owner_that_is_down(&[0, 2], false);
    waits_for_an_owner_that_is_down(&[1, 2], false);
}
