// SPDX-License-Identifier: GPL-2.0

//! Chunks that go to another owner [2.5.5] while nodes lose power, or are lost with their PM.

use hotpot_core::core::{
    cluster::State,
    commit::commit as commit_areas,
    msg::{ChangeNames, Inventory, Request, Settle, Stage},
};
use sim::{
    hotpot::{
        script::*,
        workload,
        world::{Plan, World},
    },
    schedule::{MS, SEC, US},
};
use std::rc::Rc;

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

/// Has a chunk move from node 1 to node 2 while node 3 commits to it, and has something happen at any time.
fn at_any_time(loss: bool, happens: impl Fn(&mut World)) {
    for time in 0..60 {
        let mut world = world(loss);
        let (chunk, at) = chunk_of(&world, 0);
        put(&mut world, 2, at, b"before..");
        put(&mut world, 0, at + PAGE, b"beside..");
        world.pass(500 * MS);
        assert!(world.move_chunk(chunk, 1));
        world.pass(time * 20 * US);
        happens(&mut world);
        world.pass(2 * SEC);
        let alive = (0..3).filter(|node| !world.nodes[*node].gone);
        let alive: Vec<usize> = alive.collect();
        let owners: Vec<u32> = alive
            .iter()
            .map(|node| chunk_owner(&world, *node, chunk))
            .collect();
        assert!(
            owners.iter().all(|of| *of == owners[0]),
            "at {time}: {owners:?}"
        );
        for node in &alive {
            assert_eq!(
                load(&mut world, *node, 1, at),
                Ok(*b"before.."),
                "at {time}"
            );
            assert_eq!(
                load(&mut world, *node, 1, at + PAGE),
                Ok(*b"beside.."),
                "at {time}"
            );
        }
        put(&mut world, alive[0], at, b"after...");
        for node in &alive {
            assert_eq!(
                load(&mut world, *node, 1, at),
                Ok(*b"after..."),
                "at {time}"
            );
        }
        nothing_left(&mut world);
    }
}

#[test]
fn a_move_survives_a_power_failure_of_either_side_at_any_time() {
    for node in 0..3 {
        at_any_time(false, |world| world.crash_now(node));
    }
    at_any_time(false, |world| {
        world.crash_now(0);
        world.crash_now(1);
    });
}

#[test]
fn a_move_survives_the_loss_of_either_side_at_any_time() {
    for node in 0..3 {
        at_any_time(true, |world| world.lose(node));
    }
}

/// The chunk of node 2 has gone to node 3 before. While it goes on to node 1, the dispatcher, that is lost:
/// whoever knows of it and whoever does not, there is one owner, with all that was committed.
#[test]
fn a_chunk_has_one_owner_when_the_dispatcher_to_which_it_goes_is_lost_at_any_time() {
    for time in 0..200 {
        let mut world = world(true);
        let (chunk, at) = chunk_of(&world, 1);
        put(&mut world, 0, at, b"before..");
        assert!(world.move_chunk(chunk, 2));
        world.pass(500 * MS);
        assert_eq!(chunk_owner(&world, 1, chunk), 3);
        assert!(world.move_chunk(chunk, 0));
        world.pass(time * 5 * US);
        world.lose(0);
        for (round, node) in [1, 2, 1, 2].into_iter().enumerate() {
            let number = format!("{time:06}.{round}");
            let bytes: [u8; 8] = number.as_bytes().try_into().expect("8 bytes");
            if write(&mut world, node, file(1), 1, at, bytes) == Ok(()) {
                for reader in [1, 2] {
                    assert_eq!(load(&mut world, reader, 1, at), Ok(bytes), "at {time}");
                }
            }
        }
        world.pass(2 * SEC);
        let owners = [chunk_owner(&world, 1, chunk), chunk_owner(&world, 2, chunk)];
        assert_eq!(owners[0], owners[1], "at {time}");
        put(&mut world, 1, at, b"after...");
        assert_eq!(load(&mut world, 2, 1, at), Ok(*b"after..."), "at {time}");
        nothing_left(&mut world);
    }
}

/// Node 2 commits to a chunk of node 1 and to one that is on its way to itself, and is lost before it could
/// promise its part. Meanwhile the chunk of node 1 was on its way to it, too.
#[test]
fn what_an_owner_staged_that_is_there_is_no_promise_of_the_lost_one_to_which_its_chunk_went() {
    let mut world = world(true);
    let (chunk, at) = chunk_of(&world, 0);
    let (other, beside) = chunk_of(&world, 2);
    put(&mut world, 1, at, b"before..");
    put(&mut world, 1, beside, b"before..");
    world.pass(500 * MS);
    for place in [at, beside] {
        store(&mut world, 1, 1, place, b"after...").expect("a store");
    }
    // It never comes: node 3 does not hear node 2.
    assert!(world.move_chunk(other, 1));
    world.pass(100 * US);
    world.set_deaf_to(2, 1, true);
    world.pass(20 * MS);
    let until = world.now() + SEC;
    let ranges = cells(&[at, beside]);
    world.begin_result(1, Rc::default(), move |host| async move {
        commit_areas(&host, file(1), 1, &ranges, 2, until).await
    });
    world.pass(100 * MS);
    assert!(world.move_chunk(chunk, 1));
    world.pass(100 * MS);
    assert_eq!(chunk_owner(&world, 2, chunk), 2, "on its way");
    world.lose(1);
    world.pass(5 * SEC);
    for node in [0, 2] {
        let found = [at, beside].map(|place| load(&mut world, node, 1, place));
        assert_eq!(found, [Ok(*b"before.."); 2]);
    }
    nothing_left(&mut world);
}

/// A node owns a chunk by its row, and one that has moved to it. Both go to others when it is lost:
/// the one that is first publishes the later of two commits, on a page of the other's chunk, too,
/// where that leaves nothing of the earlier one, of which nobody had been told. The other page of
/// that is published all the same.
#[test]
fn an_earlier_commit_is_kept_when_who_gets_another_chunk_of_its_lost_owner_publishes_a_later_one() {
    for time in 0..50 {
        let mut world = cluster(Plan {
            loss: true,
            moves: 1,
            ..Plan::quiet(4)
        });
        let [before, lost, next] =
            [0, 1, 2].map(|chunk| chunk_owner(&world, 0, chunk) as usize - 1);
        let aside = 6 - before - lost - next;
        assert!(world.move_chunk(0, lost));
        world.pass(SEC);
        assert_eq!(chunk_owner(&world, next, 0) as usize, lost + 1);
        let place = |chunk: u64, page: u64| chunk * workload::CHUNK + page * PAGE + 8;
        let [both, earlier, later] = [place(0, 0), place(0, 1), place(1, 0)];
        for at in [both, earlier, later] {
            // It gets the second copy of each.
            assert_eq!(load(&mut world, before, 1, at), Ok([0; 8]));
            put(&mut world, lost, at, b"before..");
        }
        let other = place(1, 1);
        assert_eq!(load(&mut world, aside, 1, other), Ok([0; 8]));
        world.pass(SEC);
        // The worker, which would tell of commits, waits for an answer until its deadline.
        put(&mut world, lost, other, b"unheard.");
        world.set_deaf_to(aside, lost, true);
        for places in [[both, earlier], [both, later]] {
            for at in places {
                store(&mut world, lost, 1, at, b"after...").expect("a store");
            }
            let committed = commit(&mut world, lost, file(1), 1, &places, 2);
            assert_eq!(committed.result, Ok(()));
        }
        world.lose(lost);
        let is_out = |world: &World| {
            let life = world.nodes[next].life.clone().expect("alive");
            let node = life.node.borrow();
            let peer = node.map.peer(lost as u32 + 1).copied();
            peer.is_some_and(|peer| peer.state == State::Out)
        };
        for _ in 0..2000 {
            if is_out(&world) {
                break;
            }
            world.pass(10 * US);
        }
        // At some of these times who had the chunk before comes second.
        world.pass(time * 20 * US);
        world.set_deaf_to(next, before, true);
        world.pass(SEC / 2);
        world.set_deaf_to(next, before, false);
        world.pass(2 * SEC);
        assert_eq!(chunk_owner(&world, next, 0) as usize, before + 1);
        assert_eq!(chunk_owner(&world, next, 1) as usize, next + 1);
        for node in [before, next, aside] {
            let found = [both, earlier, later].map(|at| load(&mut world, node, 1, at));
            assert_eq!(found, [Ok(*b"after..."); 3], "at node {node}, time {time}");
        }
        nothing_left(&mut world);
    }
}

/// The same, when the later commit is at the node to which one of the chunks has moved since: of the
/// earlier one it was not told, but it has fetched a page of it.
#[test]
fn an_earlier_commit_is_kept_when_a_chunk_of_it_moved_and_has_a_later_one_before_its_owner_is_lost()
{
    let mut world = cluster(Plan {
        loss: true,
        moves: 1,
        ..Plan::quiet(4)
    });
    let [before, lost, successor] =
        [0, 1, 2].map(|chunk| chunk_owner(&world, 0, chunk) as usize - 1);
    let next = 6 - before - lost - successor;
    assert!(world.move_chunk(0, lost));
    world.pass(SEC);
    let places = [8, workload::CHUNK + 8];
    for at in places {
        // It gets the second copy of each.
        assert_eq!(load(&mut world, next, 1, at), Ok([0; 8]));
        put(&mut world, lost, at, b"before..");
    }
    world.pass(SEC);
    // All that is left to do for the move is to decide it.
    let dispatcher = 0;
    assert_ne!(lost, dispatcher);
    world.hold(dispatcher, ChangeNames::OPCODE);
    assert!(world.move_chunk(0, next));
    world.pass(SEC);
    for at in places {
        store(&mut world, lost, 1, at, b"after...").expect("a store");
    }
    // Neither what it is told of the commit comes, nor what it asks of it, but the chunk does.
    world.hold(next, Settle::OPCODE);
    world.hold(lost, Inventory::OPCODE);
    let committed = commit(&mut world, lost, file(1), 1, &places, 2);
    assert_eq!(committed.result, Ok(()));
    assert!(world.release(dispatcher, ChangeNames::OPCODE) > 0);
    let serves = |world: &World| {
        let life = world.nodes[next].life.clone().expect("alive");
        let node = life.node.borrow();
        node.serves(key(1, 0))
    };
    for _ in 0..60_000 {
        if serves(&world) {
            break;
        }
        world.pass(100 * US);
    }
    assert!(serves(&world), "the chunk has come");
    let written = write(&mut world, successor, file(1), 1, places[0], *b"later...");
    assert_eq!(written, Ok(()));
    world.lose(lost);
    world.lose_held(next, Settle::OPCODE);
    world.pass(3 * SEC);
    for node in [before, next, successor] {
        let found = places.map(|at| load(&mut world, node, 1, at));
        assert_eq!(
            found,
            [Ok(*b"later..."), Ok(*b"after...")],
            "at node {node}"
        );
    }
    nothing_left(&mut world);
}

/// What an owner had staged that lost power before it promised it, and whose chunk then went to a node that is lost:
/// it was never published, as the pages say that the chunk's new owner finds. Nobody else tells.
#[test]
fn what_was_staged_for_an_owner_that_is_there_ends_when_a_later_owner_of_its_chunk_is_lost() {
    let mut world = cluster(Plan {
        loss: true,
        moves: 1,
        ..Plan::quiet(4)
    });
    let [first, other, lost] = [1, 2, 3];
    let third = 0;
    let (chunk, at) = chunk_of(&world, first);
    assert!(world.move_chunk(chunk, other));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, 0, chunk) as usize, other + 1);
    put(&mut world, other, at, b"before..");
    for node in [first, third] {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"before.."));
    }
    world.pass(500 * MS);
    // One of two copies is never staged, and who has staged the other one learns nothing of the end.
    world.hold(third, Stage::OPCODE);
    for owner in [other, lost] {
        world.hold(owner, Inventory::OPCODE);
    }
    store(&mut world, other, 1, at, b"undone..").expect("a store");
    let until = world.now() + SEC;
    let ranges = cells(&[at]);
    world.begin_result(other, Rc::default(), move |host| async move {
        commit_areas(&host, file(1), 1, &ranges, 3, until).await
    });
    world.pass(MS);
    world.crash_now(other);
    world.pass(100 * MS);
    world.lose_held(third, Stage::OPCODE);
    let staged = |world: &World| {
        let life = world.nodes[first].life.clone().expect("alive");
        let node = life.node.borrow();
        let page = node.pages.get(key(1, at / PAGE)).expect("a copy");
        page.staged.len()
    };
    assert!(world.move_chunk(chunk, lost));
    world.pass(SEC);
    assert_eq!(chunk_owner(&world, first, chunk) as usize, lost + 1);
    assert_eq!(staged(&world), 1, "in doubt");
    world.lose(lost);
    world.lose_held(other, Inventory::OPCODE);
    world.pass(3 * SEC);
    assert_eq!(chunk_owner(&world, third, chunk) as usize, first + 1);
    assert_eq!(staged(&world), 0, "it has ended");
    for node in [first, other, third] {
        assert_eq!(load(&mut world, node, 1, at), Ok(*b"before.."));
    }
    nothing_left(&mut world);
}
