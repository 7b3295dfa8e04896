// SPDX-License-Identifier: GPL-2.0

//! Asynchronous operations that are outstanding.

use kernel::error::code::*;
use proptest::prelude::proptest;
use rdma_lite_core::core::{outstanding::Outstanding, Bounds};
use std::collections::VecDeque;

const BOUNDS: Bounds = Bounds {
    requests: 3,
    bytes: 100,
};

/// Tells of the next.
fn reap<T>(all: &mut Outstanding<T>) -> Option<T> {
    let (operation, bytes) = all.take()?;
    all.told(bytes);
    Some(operation)
}

#[test]
fn what_is_over_is_told_of_once_in_the_order_of_its_end() {
    let mut all = Outstanding::new(BOUNDS);
    for _ in 0..3 {
        assert_eq!(all.begin(10), Ok(()));
    }
    assert!(!all.is_ready() && reap(&mut all).is_none());
    assert_eq!(all.end("second", 10), None);
    assert_eq!(all.end("first", 10), None);
    assert!(all.is_ready());
    assert_eq!(
        (reap(&mut all), reap(&mut all), reap(&mut all)),
        (Some("second"), Some("first"), None)
    );
}

#[test]
fn what_was_not_told_of_still_counts() {
    let mut all = Outstanding::new(BOUNDS);
    for _ in 0..3 {
        assert_eq!(all.begin(10), Ok(()));
        assert_eq!(all.end((), 10), None);
    }
    assert_eq!(all.begin(10), Err(EAGAIN));
    reap(&mut all);
    assert_eq!(all.begin(10), Ok(()));
}

#[test]
fn bytes_are_bounded_as_well() {
    let mut all = Outstanding::new(BOUNDS);
    assert_eq!(all.begin(101), Err(EMSGSIZE));
    assert_eq!(all.begin(60), Ok(()));
    assert_eq!(all.begin(41), Err(EAGAIN));
    assert_eq!(all.begin(40), Ok(()));
    assert_eq!(all.end((), 60), None);
    assert_eq!(all.begin(1), Err(EAGAIN));
    reap(&mut all);
    assert_eq!(all.begin(60), Ok(()));
}

#[test]
fn who_waits_for_more_than_there_are_gets_all_of_them() {
    let mut all = Outstanding::new(BOUNDS);
    assert!(all.is_enough(3));
    assert_eq!(all.begin(0), Ok(()));
    assert_eq!(all.begin(0), Ok(()));
    assert!(!all.is_enough(1) && all.is_enough(0));
    all.end((), 0);
    assert!(all.is_enough(1) && !all.is_enough(2));
    all.end((), 0);
    assert!(all.is_enough(3));
}

#[test]
fn after_the_close_nothing_begins_and_what_ends_comes_back() {
    let mut all = Outstanding::new(BOUNDS);
    assert_eq!(all.begin(5), Ok(()));
    assert_eq!(all.begin(5), Ok(()));
    assert_eq!(all.end("over", 5), None);
    all.close();
    assert_eq!(all.begin(5), Err(ESHUTDOWN));
    assert_eq!(all.end("late", 5), Some("late"));
    assert_eq!((reap(&mut all), reap(&mut all)), (Some("over"), None));
}

#[test]
fn what_could_not_be_told_of_is_the_next_again_and_counts_all_the_time() {
    let mut all = Outstanding::new(BOUNDS);
    for name in ["first", "second", "third"] {
        assert_eq!(all.begin(10), Ok(()));
        assert_eq!(all.end(name, 10), None);
    }
    let (first, second) = (all.take().unwrap(), all.take().unwrap());
    // Nobody else has their places.
    assert_eq!(all.begin(10), Err(EAGAIN));
    assert_eq!(all.put_back(second.0, second.1), None);
    assert_eq!(all.put_back(first.0, first.1), None);
    assert_eq!(all.begin(10), Err(EAGAIN));
    assert_eq!(
        (reap(&mut all), reap(&mut all), reap(&mut all)),
        (Some("first"), Some("second"), Some("third"))
    );
    assert_eq!(all.begin(100), Ok(()));
}

#[test]
fn what_is_put_back_after_the_close_comes_back() {
    let mut all = Outstanding::new(BOUNDS);
    assert_eq!(all.begin(10), Ok(()));
    assert_eq!(all.end("late", 10), None);
    let (late, bytes) = all.take().unwrap();
    all.close();
    assert_eq!(all.put_back(late, bytes), Some("late"));
    assert_eq!(reap(&mut all), None);
}

proptest! {
    /// Against a queue without bounds: nothing is lost or told of twice, and the bounds hold.
    #[test]
    fn it_is_a_queue_with_bounds(steps in proptest::collection::vec((0u8..4, 0usize..60), 0..200)) {
        let mut all = Outstanding::new(BOUNDS);
        let mut running: VecDeque<(usize, usize)> = VecDeque::new();
        let mut over: VecDeque<(usize, usize)> = VecDeque::new();
        for (id, (what, bytes)) in steps.into_iter().enumerate() {
            match what {
                0 => {
                    let count = running.len() + over.len();
                    let sum: usize = running.iter().chain(&over).map(|(_, bytes)| bytes).sum();
                    let fits = count < BOUNDS.requests && sum + bytes <= BOUNDS.bytes;
                    assert_eq!(all.begin(bytes).is_ok(), fits);
                    if fits {
                        running.push_back((id, bytes));
                    }
                }
                1 => if let Some((id, bytes)) = running.pop_back() {
                    assert_eq!(all.end(id, bytes), None);
                    over.push_back((id, bytes));
                },
                2 => if let Some((operation, bytes)) = all.take() {
                    assert_eq!(all.put_back(operation, bytes), None);
                },
                _ => assert_eq!(reap(&mut all), over.pop_front().map(|(id, _)| id)),
            }
        }
    }
}
