// SPDX-License-Identifier: GPL-2.0

//! Turns of open files at workers that they share.

use proptest::prelude::proptest;
use rdma_lite_core::core::turns::Turns;
use std::collections::{HashMap, VecDeque};

const WORKERS: usize = 64;

/// What one file begins when nothing ever ends.
fn begin_all(turns: &mut Turns<usize>) -> Vec<usize> {
    std::iter::from_fn(|| turns.begin()).collect()
}

fn wait(turns: &mut Turns<usize>, file: usize, user: u32, count: usize) {
    for _ in 0..count {
        turns.wait(file, user, file).map_err(|e| e.0).unwrap();
    }
}

#[test]
fn one_file_never_has_all_workers() {
    let mut turns = Turns::new(WORKERS);
    wait(&mut turns, 1, 7, 1000);
    let begun = begin_all(&mut turns).len();
    assert!((WORKERS / 4..WORKERS / 2).contains(&begun), "{begun}");
    // Another one's begin at once, whatever becomes of the first's.
    wait(&mut turns, 2, 8, 5);
    assert_eq!(begin_all(&mut turns), [2; 5]);
    // Another file of the same user, too.
    wait(&mut turns, 3, 7, 2);
    assert_eq!(begin_all(&mut turns), [3; 2]);
}

#[test]
fn many_files_of_a_user_take_nothing_of_what_another_needs() {
    let mut turns = Turns::new(WORKERS);
    for file in 1..=100 {
        wait(&mut turns, file, 7, 100);
    }
    begin_all(&mut turns);
    wait(&mut turns, 200, 8, 10);
    assert_eq!(begin_all(&mut turns), [200; 10]);
}

#[test]
fn files_that_wait_take_turns() {
    let mut turns = Turns::new(8);
    wait(&mut turns, 1, 1, 100);
    wait(&mut turns, 2, 2, 100);
    let mut ended = HashMap::new();
    let mut running: VecDeque<usize> = begin_all(&mut turns).into();
    for _ in 0..100 {
        let file = running.pop_front().unwrap();
        *ended.entry(file).or_insert(0) += 1;
        turns.ended(file);
        running.extend(begin_all(&mut turns));
    }
    assert!((45..=55).contains(&ended[&1]), "{ended:?}");
}

#[test]
fn what_is_given_up_is_not_begun() {
    let mut turns = Turns::new(2);
    wait(&mut turns, 1, 1, 10);
    assert_eq!(begin_all(&mut turns), [1]);
    let given_up = std::iter::from_fn(|| turns.give_up(1)).count();
    assert_eq!(given_up, 9);
    assert_eq!(turns.begin(), None);
    assert!(!turns.is_idle());
    turns.ended(1);
    assert!(turns.is_idle());
}

proptest! {
    /// Whatever comes and goes: all are begun once, those of a file in their order; while workers are
    /// free and anybody waits who has nothing running, and whose user has nothing running, it begins.
    #[test]
    fn nobody_waits_for_others_that_are_stuck(steps in proptest::collection::vec((0u8..4, 0usize..12), 0..400)) {
        let mut turns = Turns::new(WORKERS);
        let mut waiting: HashMap<usize, VecDeque<usize>> = HashMap::new();
        let mut running: Vec<usize> = Vec::new();
        for (id, (what, file)) in steps.into_iter().enumerate() {
            // Three files a user.
            let user = |file: usize| (file / 3) as u32;
            match what {
                0 | 1 => {
                    turns.wait(file, user(file), (file, id)).map_err(|e| e.0).unwrap();
                    waiting.entry(file).or_default().push_back(id);
                }
                2 => if let Some((file, id)) = turns.begin() {
                    assert_eq!(waiting.get_mut(&file).unwrap().pop_front(), Some(id));
                    running.push(file);
                },
                _ => if let Some(at) = running.iter().position(|other| *other == file) {
                    turns.ended(running.swap_remove(at));
                },
            }
            let mut held: HashMap<u32, usize> = HashMap::new();
            running.iter().for_each(|file| *held.entry(user(*file)).or_default() += 1);
            assert!(held.values().all(|count| *count <= WORKERS / 2));
        }
        while let Some((file, id)) = turns.begin() {
            assert_eq!(waiting.get_mut(&file).unwrap().pop_front(), Some(id));
            running.push(file);
        }
        // Only those wait that have something running, or whose user has, or there is no worker left.
        for (file, queue) in &waiting {
            let busy = running.iter().any(|other| other / 3 == file / 3);
            assert!(queue.is_empty() || busy || running.len() == WORKERS);
        }
        // And in the end all are begun.
        while let Some(file) = running.pop() {
            turns.ended(file);
            while let Some((file, id)) = turns.begin() {
                assert_eq!(waiting.get_mut(&file).unwrap().pop_front(), Some(id));
                running.push(file);
            }
        }
        assert!(waiting.values().all(VecDeque::is_empty));
        assert!(turns.is_idle());
    }
}
