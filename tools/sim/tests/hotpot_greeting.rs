// SPDX-License-Identifier: GPL-2.0

//! Nodes that begin a new life and say hello, one sentence each.

use hotpot_core::core::{commit as core_commit, format::Timestamp};
use kernel::error::code::*;
use sim::{
    hotpot::{script::*, world::Plan},
    schedule::{MS, SEC, US},
};
use std::{cell::RefCell, rc::Rc};

/// Node 3 commits to a page of node 2 before that has heard its hello, and the answer is lost.
#[test]
fn a_commit_of_a_new_life_is_not_forgotten_with_those_of_the_life_before() {
    let mut ends = [0; 2];
    for time in 0..250 {
        let mut world = cluster(Plan::quiet(3));
        let at = page_of(&world, 0, 2) * PAGE + 8;
        assert_eq!(write(&mut world, 2, file(1), 1, at, *b"old life"), Ok(()));
        world.set_cut(2, true);
        world.crash_now(2);
        // Both say hello again and again, each when its turn is.
        world.pass((100 + time % 25) * MS);
        world.set_cut(2, false);
        world.pass(time / 25 * 6 * MS);
        let told = Rc::new(RefCell::new(None));
        let until = world.now() + SEC;
        world.begin_result(2, told.clone(), move |host| async move {
            let time = Timestamp::default();
            core_commit::write(&host, file(1), 1, at, b"new life", time, until).await
        });
        world.pass(150 * US);
        world.set_cut(2, true);
        world.pass(MS);
        world.set_cut(2, false);
        world.pass(3 * SEC);
        let found = load(&mut world, 0, 1, at).expect("it is there");
        let told = told.borrow_mut().take().expect("it has an end");
        let new = found == *b"new life";
        assert!(new || found == *b"old life");
        match told {
            Ok(()) => assert!(new, "cut at {time}"),
            Err(EINPROGRESS) => {}
            Err(error) => assert!(!new, "cut at {time}: {error:?}, and it is there"),
        }
        ends[usize::from(told.is_ok())] += 1;
        nothing_left(&mut world);
    }
    assert!(ends[1] > 0, "no commit succeeds: {ends:?}");
}
