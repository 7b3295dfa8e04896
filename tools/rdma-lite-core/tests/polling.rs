// SPDX-License-Identifier: GPL-2.0

//! What callers do while they wait, and what waits for them.

use rdma_lite_core::core::{Backlog, Recent};

const LIMIT: u64 = 200_000;

fn after(calls: impl IntoIterator<Item = u64>) -> Recent {
    let calls = calls.into_iter();
    calls.fold(Recent::default(), |recent, took| recent.after(took, LIMIT))
}

#[test]
fn the_first_caller_polls_for_the_whole_limit() {
    assert_eq!(Recent::default().window(LIMIT), LIMIT);
}

#[test]
fn after_short_calls_callers_poll_for_twice_what_these_took() {
    let window = after([20_000; 50]).window(LIMIT);
    assert!((39_000..=40_000).contains(&window), "{window}");
}

#[test]
fn nobody_polls_longer_than_the_limit() {
    for took in [1, 1_000, LIMIT / 2 + 1, LIMIT] {
        assert!(after([took; 20]).window(LIMIT) <= LIMIT);
    }
}

#[test]
fn where_calls_are_long_nobody_polls() {
    assert_eq!(after([LIMIT * 3; 20]).window(LIMIT), 0);
}

#[test]
fn one_long_call_among_short_ones_changes_little() {
    let short = [20_000; 20];
    let recent = after(short.into_iter().chain([LIMIT]));
    assert!(recent.window(LIMIT) > 0);
}

#[test]
fn a_call_that_was_lost_is_forgotten_after_a_few_short_ones() {
    let recent = after([10_000_000_000].into_iter().chain([20_000; 15]));
    assert!(recent.window(LIMIT) > 0);
}

#[test]
fn without_a_limit_nobody_polls() {
    let recent = Recent::default();
    assert_eq!(recent.window(0), 0);
    assert_eq!(recent.after(20_000, 0).window(0), 0);
}

#[test]
fn the_backlog_gives_messages_in_the_order_in_which_they_came() {
    let mut backlog = Backlog::new(3).unwrap();
    let mut given = Vec::new();
    for imm in 0..10 {
        backlog.push(imm).unwrap();
        if imm % 3 == 2 {
            while let Some(front) = backlog.front() {
                assert!(!backlog.is_empty(), "it stays until it was handled");
                given.push(front);
                backlog.pop();
            }
        }
    }
    assert_eq!(given, (0..9).collect::<Vec<_>>());
    assert_eq!(backlog.front(), Some(9));
}

#[test]
fn the_backlog_takes_no_more_messages_than_there_are_receives() {
    let mut backlog = Backlog::new(2).unwrap();
    backlog.push(1).unwrap();
    backlog.push(2).unwrap();
    assert!(backlog.push(3).is_err());
    backlog.pop();
    backlog.push(3).unwrap();
    assert_eq!(backlog.front(), Some(2));
}
