// SPDX-License-Identifier: GPL-2.0

//! What a data node has staged says whose it is, also after a restart: the committing node and owners of a commit are
//! lost with their PM, and all nodes that have staged something for them restart. What they have on PM is all that
//! there is of the commit, and it is all or nothing.

use hotpot_core::core::{
    cluster::State,
    commit::{self as core_commit, Committed},
    format::Timestamp,
    msg::{Prepare, Publish, Request, Settle, Stage},
    names::{self, NewDataset},
};
use kernel::error::code::*;
use sim::{
    hotpot::{
        script::*,
        workload::CHUNK,
        world::{Plan, Second, World},
    },
    schedule::{Time, MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

const OLD: [u8; 8] = *b"old.....";
const NEW: [u8; 8] = *b"new.....";
const AFTER: [u8; 8] = *b"after...";

/// A commit whose bytes are not told yet, or what its user was told.
type Told = Rc<RefCell<Option<Committed>>>;

fn world(nodes: usize, second: Second) -> World {
    cluster(Plan {
        loss: true,
        second,
        ..Plan::quiet(nodes)
    })
}

fn committed(world: &mut World, node: usize, places: &[u64], bytes: [u8; 8], copies: u32) {
    for at in places {
        store(world, node, 1, *at, &bytes).expect("a store");
    }
    let committed = commit(world, node, file(1), 1, places, copies);
    assert_eq!(committed.result, Ok(()));
    world.pass(500 * MS);
}

fn begin(world: &mut World, node: usize, places: &[u64], copies: u32) -> Told {
    for at in places {
        store(world, node, 1, *at, &NEW).expect("a store");
    }
    let told = Told::default();
    let until = world.now() + SEC;
    let ranges = cells(places);
    world.begin_result(node, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 1, &ranges, copies, until).await
    });
    told
}

/// Nodes are heard no more, all others lose power and come back one after the other, and the first are lost. What they
/// all have afterwards at each of the places.
fn lose_and_restart(world: &mut World, lost: &[usize], places: &[u64]) -> [u8; 8] {
    let left: Vec<_> = (0..world.nodes.len())
        .filter(|node| !lost.contains(node))
        .collect();
    for node in lost {
        world.set_cut(*node, true);
    }
    for node in &left {
        world.crash_now(*node);
        world.pass(60 * MS);
    }
    world.lose_at_once(lost);
    world.pass(3 * SEC);
    let found = load(world, left[0], 1, places[0]).expect("it is there");
    for node in &left {
        for at in places {
            let here = load(world, *node, 1, *at);
            assert_eq!(here, Ok(found), "{at} on n{}", node + 1);
        }
    }
    // Who is left goes on.
    let copies = left.len().min(2) as u32;
    committed(world, left[0], places, AFTER, copies);
    nothing_left(world);
    found
}

/// A commit with three copies of a node of one part of its own and one of another owner, which are lost at that
/// time after it began. Whether it was published.
fn owners_are_lost_and_stagers_restart(time: Time) -> bool {
    let places = [8, PAGE + 8, 16 * PAGE + 8];
    let mut world = world(4, Second::AtOnce);
    let [cn, other] = [places[0], places[2]].map(|at| owner_at(&world, at));
    assert_ne!(cn, other);
    committed(&mut world, cn, &places, OLD, 3);
    let told = begin(&mut world, cn, &places, 3);
    world.pass(time);
    let found = lose_and_restart(&mut world, &[cn, other], &places);
    match told.borrow_mut().take().map(|of| of.result) {
        Some(Ok(())) => assert_eq!(found, NEW, "after {time}: told, and lost"),
        None | Some(Err(EINPROGRESS)) => {}
        Some(Err(error)) => assert_eq!(found, OLD, "after {time}: {error:?}, and published"),
    }
    assert!(found == NEW || found == OLD, "{found:?}");
    found == NEW
}

#[test]
fn a_commit_is_all_or_nothing_whenever_its_owners_are_lost_and_all_who_staged_it_restart() {
    let published: Vec<_> = (0..80)
        .map(|step| owners_are_lost_and_stagers_restart(step * 10 * US))
        .collect();
    assert!(published.is_sorted(), "decided, and undone: {published:?}");
    assert!(published.contains(&false) && published.contains(&true));
}

/// A commit of a node to two pages of its own, of each of which another node has the second copy. It is lost when both
/// or only one of them have staged theirs, and these two restart.
fn an_owner_is_lost_and_stagers_restart(both: bool) -> [u8; 8] {
    let places = [8, PAGE + 8];
    let mut world = world(3, Second::Stays);
    let cn = owner_at(&world, places[0]);
    let left = [0, 1, 2].map(|nr| (cn + nr) % 3);
    committed(&mut world, cn, &places, OLD, 1);
    for (at, node) in places.iter().zip(&left[1..]) {
        assert_eq!(load(&mut world, *node, 1, *at), Ok(OLD));
    }
    if !both {
        world.hold(left[2], Stage::OPCODE);
    }
    // They do not hear that it was published.
    for node in &left[1..] {
        world.hold(*node, Settle::OPCODE);
    }
    let told = begin(&mut world, cn, &places, 2);
    world.pass(MS);
    assert_eq!(told.borrow_mut().take().is_some(), both);
    world.lose_held(left[2], Stage::OPCODE);
    for node in &left[1..] {
        world.lose_held(*node, Settle::OPCODE);
    }
    lose_and_restart(&mut world, &[cn], &places)
}

#[test]
fn a_part_of_which_a_page_is_missing_was_not_promised_as_those_say_who_restart() {
    assert_eq!(an_owner_is_lost_and_stagers_restart(false), OLD);
}

#[test]
fn a_part_that_is_whole_where_its_stagers_restart_was_promised() {
    assert_eq!(an_owner_is_lost_and_stagers_restart(true), NEW);
}

/// A commit of a node that owns nothing of it to three owners, the first of which is lost with the committing node;
/// those who have staged its part restart. Of the other two so many have not heard of the commit; who has promised it
/// names all owners, too.
fn the_others_are_asked(unheard: usize) -> [u8; 8] {
    let places = [8, 16 * PAGE + 8, 32 * PAGE + 8];
    let mut world = world(4, Second::AtOnce);
    let owners = places.map(|at| owner_at(&world, at));
    let cn = (0..4).find(|node| !owners.contains(node)).expect("four");
    committed(&mut world, cn, &places, OLD, 3);
    let unheard = &owners[3 - unheard..];
    for owner in unheard {
        world.hold(*owner, Prepare::OPCODE);
    }
    for owner in owners {
        world.hold(owner, Publish::OPCODE);
    }
    let told = begin(&mut world, cn, &places, 3);
    world.pass(2 * MS);
    assert!(told.borrow().is_none(), "nobody has published it");
    for owner in owners {
        world.lose_held(owner, Prepare::OPCODE);
        world.lose_held(owner, Publish::OPCODE);
    }
    lose_and_restart(&mut world, &[cn, owners[0]], &places)
}

#[test]
fn who_restarts_knows_which_other_owners_have_to_have_promised() {
    assert_eq!(the_others_are_asked(2), OLD);
    assert_eq!(the_others_are_asked(1), OLD);
    assert_eq!(the_others_are_asked(0), NEW);
}

/// The same, when both have not heard of it, and a node that is no owner is away.
#[test]
fn who_restarts_names_the_owners_so_that_no_other_node_is_waited_for() {
    let places = [8, 16 * PAGE + 8, 32 * PAGE + 8];
    let mut world = world(5, Second::AtOnce);
    let owners = places.map(|at| owner_at(&world, at));
    let away = 4;
    let cn = (0..away).find(|node| !owners.contains(node));
    let cn = cn.expect("four, and three owners");
    assert!(!owners.contains(&away));
    committed(&mut world, cn, &places, OLD, 1);
    for owner in &owners[1..] {
        // They have the other copies.
        assert_eq!(load(&mut world, *owner, 1, places[0]), Ok(OLD));
        world.hold(*owner, Prepare::OPCODE);
    }
    begin(&mut world, cn, &places, 3);
    world.pass(2 * MS);
    for node in [cn, owners[0]] {
        world.set_cut(node, true);
    }
    for owner in &owners[1..] {
        world.lose_held(*owner, Prepare::OPCODE);
        world.crash_now(*owner);
        world.pass(60 * MS);
    }
    world.set_cut(away, true);
    world.have_first_only(away);
    world.lose_at_once(&[cn, owners[0]]);
    world.pass(200 * MS);
    for owner in &owners[1..] {
        assert_eq!(load(&mut world, *owner, 1, places[0]), Ok(OLD));
    }
    world.set_cut(away, false);
    world.declare(away, State::Up);
    nothing_left(&mut world);
}

/// Six nodes are left of 35: a slot has no bits for the last three. The first of these commits to a page of its own and one of
/// the last's, which has promised its part, or has not heard of the commit. The first is lost while the last is away, all
/// others have restarted, and the one between takes its place.
fn the_other_has_no_bit_and_is_away(promised: bool) -> [u8; 8] {
    let (cn, next, other) = (32, 33, 34);
    let mut world = world(35, Second::Stays);
    let others: Vec<_> = (3..cn).collect();
    world.lose_at_once(&others);
    world.pass(SEC);
    let until = world.now() + SEC;
    let made = world.execute(0, move |host| async move {
        let new = NewDataset {
            replicas: 2,
            chunk_size: CHUNK,
            reserve: 1 << 30,
            ..new_dataset()
        };
        let id = names::create(&host, b"on the six", &new, until).await?;
        names::extend(&host, id, 6 * CHUNK, Timestamp::default(), until).await
    });
    assert_eq!(made, Ok(()));
    world.pass(10 * MS);
    let place = |node: usize| {
        let life = world.nodes[node].life.clone().expect("alive");
        let core = life.node.borrow();
        let mut pages = (0..6).map(|chunk| chunk * 16);
        let owned = pages.find(|page| core.owner(key(2, *page)) == Ok(core.id()));
        owned.expect("it owns a chunk") * PAGE + 8
    };
    let places = [place(cn), place(other)];
    for at in places {
        store(&mut world, cn, 2, at, &OLD).expect("a store");
    }
    assert_eq!(
        commit(&mut world, cn, file(1), 2, &places, 1).result,
        Ok(())
    );
    // There the second copy is. That of the other page is on the committing node: nobody else hears of that owner.
    assert_eq!(load(&mut world, 0, 2, places[0]), Ok(OLD));
    world.pass(500 * MS);
    for at in places {
        store(&mut world, cn, 2, at, &NEW).expect("a store");
    }
    world.hold(
        other,
        if promised {
            Publish::OPCODE
        } else {
            Prepare::OPCODE
        },
    );
    world.hold(0, Settle::OPCODE);
    let told = Told::default();
    let (until, ranges) = (world.now() + SEC, cells(&places));
    world.begin_result(cn, told.clone(), move |host| async move {
        core_commit::commit(&host, file(1), 2, &ranges, 2, until).await
    });
    world.pass(2 * MS);
    assert!(told.borrow().is_none(), "it waits for the other owner");
    world.set_cut(cn, true);
    for node in [0, 1, 2, next] {
        world.crash_now(node);
    }
    world.pass(60 * MS);
    world.set_cut(other, true);
    world.have_first_only(other);
    world.set_gone(cn);
    world.lose(cn);
    world.lose_held(0, Settle::OPCODE);
    world.lose_held(other, Publish::OPCODE);
    world.lose_held(other, Prepare::OPCODE);
    world.pass(300 * MS);
    world.set_cut(other, false);
    world.declare(other, State::Up);
    world.pass(3 * SEC);
    let found = load(&mut world, 0, 2, places[0]).expect("it is there");
    for node in [0, 1, 2, next, other] {
        for at in places {
            assert_eq!(load(&mut world, node, 2, at), Ok(found), "n{}", node + 1);
        }
    }
    nothing_left(&mut world);
    found
}

#[test]
fn owners_that_no_slot_names_are_waited_for_and_have_promised_or_not() {
    assert_eq!(the_other_has_no_bit_and_is_away(false), OLD);
    assert_eq!(the_other_has_no_bit_and_is_away(true), NEW);
}
