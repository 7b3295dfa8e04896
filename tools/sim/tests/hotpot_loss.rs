// SPDX-License-Identifier: GPL-2.0

//! Nodes that are lost with their PM (the rows "no PM" of Table 2.2), one sentence each.

use hotpot_core::core::{
    background,
    cluster::{Sender, State},
    commit,
    fault::{self, Access},
    format::Cid,
    handler,
    host::Mapping,
    msg::{Outcome, Request, Stage, StagePage, TakeCopies},
    names, outcome,
};
use kernel::{
    alloc::{flags::GFP_KERNEL, KVec},
    error::{code::*, Result},
};
use sim::{
    hotpot::{
        script::*,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Three nodes, two copies of each page.
fn world(mrsw: bool) -> World {
    cluster(Plan {
        loss: true,
        mrsw,
        ..Plan::quiet(3)
    })
}

/// A place in a chunk of each of the three nodes.
const PLACES: [u64; 3] = [8, 16 * PAGE + 8, 32 * PAGE + 8];

#[test]
fn a_data_node_is_promoted_when_an_owner_is_lost() {
    for lost in 0..3 {
        let mut world = world(false);
        let writer = (lost + 1) % 3;
        let other = (lost + 2) % 3;
        for at in PLACES {
            store(&mut world, writer, 1, at, b"two copy").expect("a store");
        }
        let committed = commit(&mut world, writer, file(1), 1, &PLACES, 2);
        assert_eq!(committed.result, Ok(()));
        world.pass(500 * MS);
        world.lose(lost);
        world.pass(SEC);
        for node in [writer, other] {
            for at in PLACES {
                assert_eq!(
                    load(&mut world, node, 1, at),
                    Ok(*b"two copy"),
                    "lost {lost}"
                );
            }
        }
        for at in PLACES {
            store(&mut world, other, 1, at, b"go on...").expect("a store");
        }
        let committed = commit(&mut world, other, file(1), 1, &PLACES, 2);
        assert_eq!(committed.result, Ok(()));
        for at in PLACES {
            assert_eq!(load(&mut world, writer, 1, at), Ok(*b"go on..."));
        }
        nothing_left(&mut world);
    }
}

/// An owner, and the next one in its row.
const LOST: usize = 1;
const NEXT: usize = 2;

/// The first of 16 pages of an owner, of which the next one has none; the third node has all.
fn sixteen_pages(world: &mut World) -> u64 {
    let first = page_of(world, 0, LOST as u32 + 1);
    for page in first..first + 16 {
        let at = page * PAGE + 8;
        store(world, LOST, 1, at, b"original").expect("a store");
        let committed = commit(world, LOST, file(1), 1, &[at], 1);
        assert_eq!(committed.result, Ok(()));
        assert_eq!(load(world, 0, 1, at), Ok(*b"original"));
    }
    assert_eq!(copies_here(world, first), 0);
    first
}

/// How many of these pages the next owner has.
fn copies_here(world: &World, first: u64) -> usize {
    let life = world.nodes[NEXT].life.clone().expect("alive");
    let core = life.node.borrow();
    let clean = |page: u64| core.pages.get(key(1, page)).and_then(|page| page.clean);
    (first..first + 16)
        .filter(|page| clean(*page).is_some_and(|clean| clean.pm.is_some()))
        .count()
}

/// It serves all of them.
fn all_are_here(world: &mut World, first: u64) {
    for page in first..first + 16 {
        let found = load(world, NEXT, 1, page * PAGE + 8);
        assert_eq!(found, Ok(*b"original"), "page {page}");
    }
    assert_eq!(copies_here(world, first), 16);
    nothing_left(world);
}

#[test]
fn a_new_owner_gets_as_many_pages_in_an_answer_as_it_holds() {
    // Messages of 64 KiB, of which answers take 32, and of 8 KiB.
    for (room, answers) in [(0, 3), (1, 16)] {
        let mut world = cluster(Plan {
            loss: true,
            room,
            ..Plan::quiet(3)
        });
        let first = sixteen_pages(&mut world);
        world.lose(LOST);
        all_are_here(&mut world, first);
        assert_eq!(
            world.traffic.arrived.get(&TakeCopies::OPCODE),
            Some(&answers)
        );
    }
}

#[test]
fn a_new_owner_asks_each_node_that_has_pages_for_its_share_of_them() {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(4)
    });
    let first = sixteen_pages(&mut world);
    for page in first..first + 16 {
        assert_eq!(load(&mut world, 3, 1, page * PAGE + 8), Ok(*b"original"));
    }
    assert_eq!(copies_here(&world, first), 0);
    world.lose(LOST);
    all_are_here(&mut world, first);
    let asked = |node| {
        let of = (node, TakeCopies::OPCODE as u8);
        world.traffic.requests.get(&of).copied()
    };
    assert!(asked(0).is_some());
    assert_eq!(asked(0), asked(3));
}

#[test]
fn a_new_owner_takes_as_many_pages_as_it_has_room_for_and_the_others_when_it_has_more() {
    let mut world = world(false);
    let first = sixteen_pages(&mut world);
    let life = world.nodes[NEXT].life.clone().expect("alive");
    let free = life.node.borrow().space.free();
    let reserved: Vec<u64> = (3..free)
        .filter_map(|_| life.node.borrow_mut().space.take())
        .collect();
    world.lose(LOST);
    world.pass(SEC);
    assert_eq!(copies_here(&world, first), 3);
    assert_eq!(life.node.borrow().space.free(), 0);
    for page in reserved {
        life.node.borrow_mut().space.give(page);
    }
    all_are_here(&mut world, first);
}

#[test]
fn a_commit_that_was_told_just_before_the_loss_is_not_lost() {
    for lost in 0..3 {
        let mut world = world(false);
        let at = page_of(&world, 0, lost as u32 + 1) * PAGE + 8;
        // The committing node is the owner, and nobody else knows how it ended.
        store(&mut world, lost, 1, at, b"promised").expect("a store");
        let committed = commit(&mut world, lost, file(1), 1, &[at], 2);
        assert_eq!(committed.result, Ok(()));
        world.lose(lost);
        world.pass(2 * SEC);
        for node in (0..3).filter(|node| *node != lost) {
            assert_eq!(load(&mut world, node, 1, at), Ok(*b"promised"));
        }
        nothing_left(&mut world);
    }
}

#[test]
fn names_and_datasets_survive_the_loss_of_the_dispatcher() {
    let mut world = world(false);
    store(&mut world, 1, 1, 8, b"survives").expect("a store");
    assert_eq!(commit(&mut world, 1, file(1), 1, &[8], 2).result, Ok(()));
    world.pass(500 * MS);
    world.lose(0);
    world.pass(SEC);
    let until = world.now() + SEC;
    let new = new_dataset();
    let made = world.execute(2, move |host| async move {
        names::create(&host, b"afterwards", &new, until).await
    });
    assert_eq!(made, Ok(2), "the ids go on");
    for node in 1..3 {
        let life = world.nodes[node].life.clone().expect("alive");
        assert!(life.node.borrow().names.lookup(b"cells").is_some());
        assert!(life.node.borrow().names.lookup(b"afterwards").is_some());
    }
    assert_eq!(load(&mut world, 2, 1, 8), Ok(*b"survives"));
    nothing_left(&mut world);
}

#[test]
fn a_node_that_is_declared_out_publishes_nothing_and_its_users_get_errors() {
    let mut world = world(false);
    let at = page_of(&world, 0, 3) * PAGE + 8;
    store(&mut world, 2, 1, at, b"before..").expect("a store");
    assert_eq!(commit(&mut world, 2, file(1), 1, &[at], 2).result, Ok(()));
    world.pass(500 * MS);
    world.set_cut(2, true);
    world.declare(2, State::Out);
    world.pass(SEC);
    // Its successor goes on.
    store(&mut world, 0, 1, at, b"after...").expect("a store");
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 2).result, Ok(()));
    world.set_cut(2, false);
    // It has learnt that it is out: nothing of its own old bytes is read or published.
    assert_eq!(load(&mut world, 2, 1, at), Err(ESTALE));
    assert_eq!(store(&mut world, 2, 1, at, b"never..."), Err(ESTALE));
    assert_eq!(
        commit(&mut world, 2, file(1), 1, &[at], 1).result,
        Err(ESTALE)
    );
    for node in 0..2 {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"after..."));
    }
}

#[test]
fn writers_of_lost_owners_pages_stay_writers() {
    let mut world = world(true);
    let at = page_of(&world, 0, 3) * PAGE + 8;
    assert_eq!(acquire(&mut world, 0, file(1), 1, &[at], false), Ok(()));
    store(&mut world, 0, 1, at, b"of node1").expect("acquired");
    world.lose(2);
    world.pass(SEC);
    assert_eq!(
        acquire(&mut world, 1, file(1), 1, &[at], false),
        Err(EAGAIN)
    );
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 2).result, Ok(()));
    assert_eq!(acquire(&mut world, 1, file(1), 1, &[at], true), Ok(()));
    close(&mut world, 1, file(1));
    nothing_left(&mut world);
}

/// What HOTPOT_IOC_OUTCOME says at a node.
fn outcome_at(world: &mut World, node: usize, cid: Cid) -> Outcome {
    let until = world.now() + SEC;
    let outcome = world.execute(node, move |host| async move {
        outcome::outcome(&host, cid, until).await
    });
    outcome.expect("an answer")
}

/// A commit at its own owner that fails, as one of its two data nodes is cut off.
fn half_staged(world: &mut World) -> (u64, Cid) {
    let at = page_of(world, 0, 1) * PAGE + 8;
    store(world, 0, 1, at, b"before..").expect("a store");
    assert_eq!(commit(world, 0, file(1), 1, &[at], 3).result, Ok(()));
    world.pass(500 * MS);
    store(world, 0, 1, at, b"in doubt").expect("a store");
    world.set_cut(2, true);
    let committed = commit(world, 0, file(1), 1, &[at], 3);
    assert_eq!(committed.result, Err(EINPROGRESS));
    (at, committed.cid)
}

#[test]
fn a_failed_commit_is_in_doubt_until_all_its_data_nodes_have_dropped_it() {
    let mut world = world(false);
    let (at, cid) = half_staged(&mut world);
    for asked in 0..2 {
        assert_eq!(outcome_at(&mut world, asked, cid), Outcome::Pending);
    }
    world.set_cut(2, false);
    world.pass(SEC);
    for asked in 0..3 {
        assert_eq!(outcome_at(&mut world, asked, cid), Outcome::Aborted);
    }
    for node in 1..3 {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"before.."));
    }
    assert_eq!(commit(&mut world, 0, file(1), 1, &[at], 3).result, Ok(()));
    nothing_left(&mut world);
}

#[test]
fn nodes_agree_about_a_commit_in_doubt_whose_owner_is_lost() {
    let mut world = world(false);
    let (at, _) = half_staged(&mut world);
    world.lose(0);
    world.set_cut(2, false);
    world.pass(2 * SEC);
    let found = load(&mut world, 1, 1, at);
    assert_eq!(load(&mut world, 2, 1, at), found);
    nothing_left(&mut world);
}

/// Has node 1 commit to two places, and loses it after each of some times. What it was told
/// holds, and all or nothing is there.
fn lose_it_at_any_time(places: [u64; 2]) {
    let mut ends = [0; 3];
    for time in 0..150 {
        let mut world = world(false);
        for at in places {
            store(&mut world, 0, 1, at, b"old.....").expect("a store");
        }
        assert_eq!(commit(&mut world, 0, file(1), 1, &places, 2).result, Ok(()));
        world.pass(500 * MS);
        for at in places {
            store(&mut world, 0, 1, at, b"new.....").expect("a store");
        }
        let told = Rc::new(RefCell::new(None));
        let until = world.now() + SEC;
        let ranges = cells(&places);
        world.begin_result(0, told.clone(), move |host| async move {
            commit::commit(&host, file(1), 1, &ranges, 2, until).await
        });
        world.pass(time * 5 * US);
        world.lose(0);
        world.pass(3 * SEC);
        let found = load(&mut world, 1, 1, places[0]).expect("it is there");
        for node in 1..3 {
            for at in places {
                assert_eq!(load(&mut world, node, 1, at), Ok(found), "lost at {time}");
            }
        }
        let told = told.borrow_mut().take();
        let new = found == *b"new.....";
        assert!(new || found == *b"old.....");
        match told.map(|of| of.result) {
            None => ends[usize::from(new)] += 1,
            Some(Ok(())) => {
                assert!(new, "lost at {time}");
                ends[2] += 1;
            }
            Some(error) => panic!("{error:?}"),
        }
        nothing_left(&mut world);
    }
    assert!(ends.iter().all(|end| *end > 0), "not all happens: {ends:?}");
}

#[test]
fn a_commit_to_its_own_node_is_all_or_nothing_whenever_that_is_lost() {
    lose_it_at_any_time([8, PAGE + 8]);
}

#[test]
fn a_commit_to_its_own_node_and_another_is_all_or_nothing_whenever_it_is_lost() {
    lose_it_at_any_time([8, 16 * PAGE + 8]);
    lose_it_at_any_time([8, 32 * PAGE + 8]);
    lose_it_at_any_time([16 * PAGE + 8, 32 * PAGE + 8]);
}

#[test]
fn nobody_has_mapped_what_a_lost_owner_had_once_its_successor_publishes() {
    for slow in [0, 1] {
        let mut world = world(false);
        let page = page_of(&world, 0, 3);
        let until = world.now() + SEC;
        // A hole: nobody but the owner that is lost knows who reads it.
        for node in 0..2 {
            let mapped = world.execute(node, move |host| async move {
                fault::fault(&host, key(1, page), Access::Read, until).await
            });
            assert_eq!(mapped, Ok(()));
        }
        let life = world.nodes[slow].life.clone().expect("alive");
        life.slow_unmap.set(true);
        world.lose(2);
        // The map says so by then.
        world.pass(12 * MS);
        let writer = 1 - slow;
        let at = page * PAGE + 8;
        store(&mut world, writer, 1, at, b"replaced").expect("a store");
        let committed = commit(&mut world, writer, file(1), 1, &[at], 1);
        assert_eq!(committed.result, Ok(()));
        let mapped = life.mapped.borrow().get(&key(1, page)).copied();
        assert!(
            !matches!(mapped, Some(Mapping::Zeros)),
            "n{} loads zeros",
            slow + 1
        );
        assert_eq!(load(&mut world, slow, 1, at), Ok(*b"replaced"));
    }
}

#[test]
fn copies_that_a_node_took_with_it_out_of_a_commit_in_flight_are_made_anew() {
    for time in 0..60 {
        let mut world = world(false);
        for at in [8, 16 * PAGE + 8] {
            store(&mut world, 0, 1, at, b"degree 2").expect("a store");
        }
        let until = world.now() + SEC;
        let ranges = cells(&[8, 16 * PAGE + 8]);
        world.begin_result(0, Rc::new(RefCell::new(None)), move |host| async move {
            commit::commit(&host, file(1), 1, &ranges, 2, until).await
        });
        world.pass(time * 10 * US);
        world.lose(2);
        world.pass(12 * SEC);
        for page in [0, 16] {
            let copies = world.committed_copies(key(1, page));
            assert!(
                copies == 0 || copies >= 2,
                "{copies} of {page}, lost at {time}"
            );
        }
        nothing_left(&mut world);
    }
}

/// A `Stage` of one whole page, version 2, as its owner `from` sends it.
fn stage_of(world: &World, from: usize, page: u64) -> (Sender, Vec<u8>) {
    let life = world.nodes[from].life.clone().expect("alive");
    let sender = Sender {
        node: life.id,
        incarnation: life.incarnation,
        epoch: life.node.borrow().map.epoch,
    };
    let mut pages = KVec::new();
    let one = StagePage {
        key: key(1, page),
        version: 2,
        before: Cid(0),
        whole: true,
        draft: None,
        must: true,
        nr_spans: 0,
    };
    pages.push(one, GFP_KERNEL).unwrap();
    let stage = Stage {
        cid: Cid::new(life.id as u16, 1 << 20),
        part: 1,
        alone: false,
        owners: KVec::new(),
        pages,
        spans: KVec::new(),
    };
    let mut bytes = stage.encode(sender.epoch).unwrap().to_vec();
    bytes.resize(bytes.len() + PAGE as usize, 0xee);
    (sender, bytes)
}

#[test]
fn nothing_is_staged_for_an_owner_that_is_out_however_long_it_waited_for_room() {
    let mut world = cluster(Plan {
        loss: true,
        ..Plan::quiet(4)
    });
    let owner = |world: &World, node: usize, page| {
        let life = world.nodes[node].life.clone().expect("alive");
        let owner = life.node.borrow().owner(key(1, page));
        owner.expect("it exists") as usize - 1
    };
    let [lost, silent, third] = [0, 16, 32].map(|page| owner(&world, 0, page));
    let full = 6 - lost - silent - third;
    // Copies of all three that the fourth node may drop.
    for at in PLACES {
        store(&mut world, lost, 1, at, b"version1").expect("a store");
    }
    let committed = commit(&mut world, lost, file(1), 1, &PLACES, 2);
    assert_eq!(committed.result, Ok(()));
    for at in PLACES {
        assert_eq!(load(&mut world, full, 1, at), Ok(*b"version1"));
    }
    world.pass(100 * MS);
    let life = world.nodes[full].life.clone().expect("alive");
    let mut taken: Vec<u64> = Vec::new();
    taken.extend(std::iter::from_fn(|| life.node.borrow_mut().space.take()));

    // It asks one owner after the other what it may drop: the first is lost, the second silent.
    let begun = world.now();
    let (sender, bytes) = stage_of(&world, lost, 0);
    let staged: Rc<RefCell<Option<Result>>> = Rc::default();
    world.begin_result(full, staged.clone(), move |host| async move {
        let mut reply = [0; 64];
        let len = handler::handle(&host, sender, &bytes, &mut reply).await?;
        assert_eq!(reply[..len], [1, 0, 0, 0, 0], "durable");
        Ok(())
    });
    world.lose(lost);
    world.declare(lost, State::Out);
    world.run_until(begun + 4900 * US, |_| false);
    world.set_deaf_to(silent, full, true);
    world.run_until(begun + 5100 * US, |_| false);
    world.set_deaf_to(silent, full, false);

    // Meanwhile it tells the lost one's successor what it has, when both have all records.
    world.run_until(begun + 5600 * US, |_| false);
    let next = owner(&world, full, 0);
    assert!(next != lost && next != full);
    let left = (0..4).filter(|node| *node != lost);
    for node in left.chain([next]) {
        world.execute(node, |host| async move { background::run(&host).await });
    }
    world.run_until(begun + 9900 * US, |_| false);
    assert_eq!(*staged.borrow(), None, "it still waits");
    let successor = world.nodes[next].life.clone().expect("alive");
    assert!(successor.node.borrow().serves(key(1, 0)), "taken over");

    // Then there is room.
    for pm in taken {
        life.node.borrow_mut().space.give(pm);
    }
    world.pass(10 * MS);
    assert_eq!(*staged.borrow(), Some(Err(ESTALE)));
    assert_eq!(load(&mut world, next, 1, PLACES[0]), Ok(*b"version1"));
    nothing_left(&mut world);
}
