// SPDX-License-Identifier: GPL-2.0

//! What is counted of calls.

use kernel::error::code::*;
use rdma_lite_core::core::stats::{Histogram, Stats};

#[test]
fn a_histogram_says_below_which_time_most_calls_stayed() {
    let mut h = Histogram::default();
    assert_eq!(h.below(500), 0);
    for us in [100; 98].into_iter().chain([5_000, 70_000]) {
        h.add(us * 1000);
    }
    assert_eq!((h.count(), h.below(500), h.below(990)), (100, 128, 8192));
    assert_eq!(h.below(1000), 131_072);
}

#[test]
fn the_shortest_and_the_longest_times_have_a_bucket() {
    let mut h = Histogram::default();
    h.add(0);
    h.add(u64::MAX);
    assert_eq!(h.buckets()[0], 1);
    assert_eq!(h.buckets()[Histogram::BUCKETS - 1], 1);
}

#[test]
fn each_end_of_a_call_is_counted_as_what_it_is() {
    let mut stats = Stats::new();
    let made = &mut stats.port(7).made;
    made.ended(1000, 10, Ok((0, 20)));
    made.ended(1000, 10, Ok((-5, 0)));
    made.ended(1000, 10, Err(ETIMEDOUT));
    made.ended(1000, 10, Err(EHOSTDOWN));
    assert_eq!(
        (made.answered, made.failed, made.timed_out, made.errors),
        (1, 1, 1, 1)
    );
    assert_eq!((made.request_bytes, made.reply_bytes), (40, 20));
    assert_eq!(made.took.count(), 2, "what had no answer has no time");
}

#[test]
fn ports_are_counted_apart_and_the_rest_together() {
    let mut stats = Stats::new();
    for port in 1..=100 {
        stats.port(port).executed.ended(1000, 1, Ok((0, 0)));
        stats.port(port).executed.ended(1000, 1, Ok((0, 0)));
    }
    let all: Vec<_> = stats
        .iter()
        .map(|s| (s.port, s.executed.answered))
        .collect();
    assert_eq!(all.len(), Stats::MOST + 1);
    assert!(all[..Stats::MOST].iter().all(|(_, n)| *n == 2));
    assert_eq!(all[Stats::MOST], (0, 2 * (100 - Stats::MOST as u64)));
}
