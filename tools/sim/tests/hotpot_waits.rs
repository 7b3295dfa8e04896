// SPDX-License-Identifier: GPL-2.0

//! Who waits for others that die: at a barrier, for a page, for a commit.

use hotpot_core::core::barrier;
use kernel::error::{code::*, Result};
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
