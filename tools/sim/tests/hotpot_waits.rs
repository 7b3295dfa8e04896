// SPDX-License-Identifier: GPL-2.0

//! Who waits for others that die: at a barrier, for a page, for a commit.

use hotpot_core::core::{
    area::Span,
    barrier,
    cluster::Sender,
    format::Cid,
    handler,
    host::Host,
    msg::{Prepare, Request},
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
    schedule::{Time, MS, SEC},
};
use std::{cell::RefCell, rc::Rc};

type Outcome = Rc<RefCell<Option<Result>>>;

fn world() -> World {
    cluster(Plan {
        loss: true,
        ..Plan::quiet(3)
    })
}

/// A process of the node comes to the barrier of `count`.
fn come(world: &mut World, node: usize, count: u32, wait: Time) -> Outcome {
    let result = Rc::new(RefCell::new(None));
    let until = world.now() + wait;
    world.begin_result(node, result.clone(), move |host| async move {
        barrier::meet(&host, b"gate", count, until).await
    });
    result
}

/// Processes of as many nodes come at once, each to a barrier of so many; what it told them by then.
fn meet(world: &mut World, counts: &[u32], wait: Time) -> Vec<Option<Result>> {
    let come = |(node, count): (usize, &u32)| come(world, node, *count, wait);
    let results: Vec<Outcome> = counts.iter().enumerate().map(come).collect();
    world.pass(2 * wait);
    results.into_iter().map(|result| *result.borrow()).collect()
}

#[test]
fn a_barrier_opens_when_all_have_come_and_not_before() {
    let mut world = world();
    assert_eq!(meet(&mut world, &[3, 3, 3], SEC), [Some(Ok(())); 3]);
    assert_eq!(
        meet(&mut world, &[3, 3], 100 * MS),
        [Some(Err(ETIMEDOUT)); 2]
    );
    // Who gave up does not count.
    assert_eq!(
        meet(&mut world, &[3, 3], 100 * MS),
        [Some(Err(ETIMEDOUT)); 2]
    );
    assert_eq!(meet(&mut world, &[3, 3, 3], SEC), [Some(Ok(())); 3]);
    let mixed = meet(&mut world, &[2, 3], 100 * MS);
    assert!(mixed.contains(&Some(Err(EINVAL))), "{mixed:?}");
    nothing_left(&mut world);
}

#[test]
fn a_participant_whose_node_died_does_not_count_and_its_next_life_does() {
    for kept in [true, false] {
        let mut world = world();
        let dead = come(&mut world, 2, 3, 10 * SEC);
        world.pass(100 * MS);
        match kept {
            true => world.crash_now(2),
            false => world.lose(2),
        }
        world.pass(500 * MS);
        let others = [0, 1].map(|node| come(&mut world, node, 3, 300 * MS));
        world.pass(SEC);
        for other in others {
            assert_eq!(*other.borrow(), Some(Err(ETIMEDOUT)), "kept {kept}");
        }
        assert_eq!(*dead.borrow(), None, "it died with its node");
        if kept {
            let all = [0, 1, 2].map(|node| come(&mut world, node, 3, SEC));
            world.pass(SEC);
            for one in all {
                assert_eq!(*one.borrow(), Some(Ok(())));
            }
        }
        nothing_left(&mut world);
    }
}

#[test]
fn who_waits_at_a_barrier_does_so_at_the_next_dispatcher_when_that_dies() {
    for kept in [true, false] {
        let mut world = world();
        // Node 1 is the dispatcher, and keeps barriers in memory.
        let waiting = come(&mut world, 1, 3, 10 * SEC);
        let second = come(&mut world, 2, 3, 10 * SEC);
        world.pass(100 * MS);
        match kept {
            true => world.crash_now(0),
            false => world.lose(0),
        }
        world.pass(SEC);
        assert_eq!(*waiting.borrow(), None);
        let third = come(&mut world, if kept { 0 } else { 1 }, 3, 5 * SEC);
        world.pass(5 * SEC);
        for one in [waiting, second, third] {
            assert_eq!(*one.borrow(), Some(Ok(())), "kept {kept}");
        }
        nothing_left(&mut world);
    }
}

#[test]
fn who_waits_for_a_page_to_write_gets_it_when_its_writer_dies() {
    for kept in [true, false] {
        let mut world = cluster(Plan {
            loss: true,
            mrsw: true,
            ..Plan::quiet(3)
        });
        let at = page_of(&world, 0, 1) * PAGE + 8;
        assert_eq!(acquire(&mut world, 2, file(1), 1, &[at], false), Ok(()));
        store(&mut world, 2, 1, at, b"its last").expect("acquired");
        let waiting = Rc::new(RefCell::new(None));
        let until = world.now() + 10 * SEC;
        world.begin_result(1, waiting.clone(), move |host| async move {
            hotpot_core::core::grants::acquire(&host, file(1), 1, &cells(&[at]), true, until).await
        });
        world.pass(100 * MS);
        assert_eq!(*waiting.borrow(), None);
        match kept {
            true => world.crash_now(2),
            false => world.lose(2),
        }
        world.pass(2 * SEC);
        assert_eq!(*waiting.borrow(), Some(Ok(())), "kept {kept}");
        assert_eq!(
            load(&mut world, 1, 1, at),
            Ok([0; 8]),
            "nothing was committed"
        );
        close(&mut world, 1, file(1));
        nothing_left(&mut world);
    }
}

/// Node 3 asks node 1 to promise a commit of node 2's, too, and forgets of it what it must know to tell the end:
/// neither hears of it again.
fn promise_and_forget(world: &mut World, at: u64) {
    let life = world.nodes[2].life.clone().expect("alive");
    let (epoch, incarnation) = (life.node.borrow().map.epoch, life.incarnation);
    let list = |ids: &[u16]| {
        let mut list = KVec::new();
        list.extend_from_slice(ids, GFP_KERNEL).expect("memory");
        list
    };
    let mut spans = KVec::new();
    let span = Span {
        key: key(1, at / PAGE),
        offset: (at % PAGE) as u16,
        len: 8,
    };
    spans.push(span, GFP_KERNEL).expect("memory");
    let prepare = Prepare {
        cid: Cid::new(3, 1 << 19),
        nr_owners: 2,
        replicas: 1,
        budget_ms: 500,
        wait: true,
        ahead: 0,
        release: false,
        owners: list(&[1, 2]),
        released: KVec::new(),
        spans,
    };
    let mut request = prepare.encode(epoch).expect("memory").to_vec();
    request.extend(b"promised");
    let promised = world.execute(0, move |host| async move {
        let from = Sender {
            node: 3,
            incarnation,
            epoch: host.with(|node| node.map.epoch),
        };
        handler::handle(&host, from, &request, &mut [0; 64]).await
    });
    assert!(promised.is_ok(), "{promised:?}");
}

#[test]
fn who_waits_for_a_commit_whose_end_nobody_tells_has_its_owner_ask() {
    // Whenever the worker of the owner looks for itself, once a second.
    for phase in 0..10 {
        for reader in 0..2 {
            let mut world = cluster(Plan::quiet(3));
            let at = page_of(&world, 0, 1) * PAGE + 8;
            world.pass(3 * SEC + phase * 100 * MS);
            promise_and_forget(&mut world, at);
            let begun = world.now();
            assert_eq!(load(&mut world, reader, 1, at), Ok([0; 8]));
            let waited = world.now() - begun;
            assert!(waited < 300 * MS, "n{} waits {waited} ns", reader + 1);
            assert_eq!(
                write(&mut world, reader, file(1), 1, at, *b"goes on."),
                Ok(())
            );
            nothing_left(&mut world);
        }
    }
}
