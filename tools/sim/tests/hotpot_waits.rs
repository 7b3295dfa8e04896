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

/// A process of the node comes to the barrier of three.
fn come(world: &mut World, node: usize, wait: Time) -> Outcome {
    let result = Rc::new(RefCell::new(None));
    let until = world.now() + wait;
    world.begin_result(node, result.clone(), move |host| async move {
        barrier::meet(&host, b"gate", 3, until).await
    });
    result
}

#[test]
fn a_participant_whose_node_died_does_not_count_and_its_next_life_does() {
    for kept in [true, false] {
        let mut world = world();
        let dead = come(&mut world, 2, 10 * SEC);
        world.pass(100 * MS);
        match kept {
            true => world.crash_now(2),
            false => world.lose(2),
        }
        world.pass(500 * MS);
        let others = [0, 1].map(|node| come(&mut world, node, 300 * MS));
        world.pass(SEC);
        for other in others {
            assert_eq!(*other.borrow(), Some(Err(ETIMEDOUT)), "kept {kept}");
        }
        assert_eq!(*dead.borrow(), None, "it died with its node");
        if kept {
            let all = [0, 1, 2].map(|node| come(&mut world, node, SEC));
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
        let waiting = come(&mut world, 1, 10 * SEC);
        let second = come(&mut world, 2, 10 * SEC);
        world.pass(100 * MS);
        match kept {
            true => world.crash_now(0),
            false => world.lose(0),
        }
        world.pass(SEC);
        assert_eq!(*waiting.borrow(), None);
        let third = come(&mut world, if kept { 0 } else { 1 }, 5 * SEC);
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
