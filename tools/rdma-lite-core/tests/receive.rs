// SPDX-License-Identifier: GPL-2.0

//! The receive queue of a port.

use proptest::prelude::*;
use rdma_lite_core::core::{Bounds, Class, ReceiveQueue, Refused, Share, Token};
use std::collections::VecDeque;

const NEVER: u64 = u64::MAX;

fn queue(requests: usize, bytes: usize) -> ReceiveQueue<u32> {
    ReceiveQueue::new(Bounds { requests, bytes }, Share::DEFAULT)
}

#[test]
fn requests_are_received_in_the_order_in_which_they_came() {
    let mut q = queue(8, 100);
    for n in 0..4 {
        q.offer(0, Class::Normal, n, 10, NEVER).unwrap();
    }
    let order: Vec<_> = std::iter::from_fn(|| q.receive(0))
        .map(|(_, n)| n)
        .collect();
    assert_eq!(order, [0, 1, 2, 3]);
}

#[test]
fn a_queue_that_is_full_refuses_until_a_reply_makes_room() {
    let mut q = queue(2, 100);
    q.offer(0, Class::Normal, 1, 1, NEVER).unwrap();
    q.offer(0, Class::Normal, 2, 1, NEVER).unwrap();
    assert_eq!(
        q.offer(0, Class::Normal, 3, 1, NEVER),
        Err((Refused::Full, 3))
    );
    let (token, _) = q.receive(0).unwrap();
    assert_eq!(
        q.offer(0, Class::Normal, 3, 1, NEVER),
        Err((Refused::Full, 3)),
        "received is not replied"
    );
    assert_eq!(q.reply(token), Some(1));
    q.offer(0, Class::Normal, 3, 1, NEVER).unwrap();
}

#[test]
fn bytes_are_bounded_as_well() {
    let mut q = queue(8, 100);
    q.offer(0, Class::Normal, 1, 60, NEVER).unwrap();
    assert_eq!(
        q.offer(0, Class::Normal, 2, 41, NEVER),
        Err((Refused::Full, 2))
    );
    q.offer(0, Class::Normal, 2, 40, NEVER).unwrap();
    assert_eq!(
        q.offer(0, Class::Normal, 3, 101, NEVER),
        Err((Refused::TooLarge, 3))
    );
}

#[test]
fn a_request_whose_caller_gave_up_is_not_received_and_makes_room() {
    let mut q = queue(2, 100);
    q.offer(0, Class::Normal, 1, 1, 50).unwrap();
    q.offer(0, Class::Normal, 2, 1, 50).unwrap();
    let (token, _) = q.receive(10).unwrap();
    q.offer(60, Class::Normal, 3, 1, NEVER).unwrap();
    assert_eq!(q.receive(60).map(|(_, n)| n), Some(3));
    assert_eq!(q.reply(token), None);
}

#[test]
fn a_request_is_replied_to_once() {
    let mut q = queue(2, 100);
    q.offer(0, Class::Normal, 1, 1, NEVER).unwrap();
    let (token, _) = q.receive(0).unwrap();
    assert_eq!(q.reply(token), Some(1));
    assert_eq!(q.reply(token), None);
}

#[test]
fn a_guessed_token_names_nothing() {
    let mut q = queue(4, 100);
    q.offer(0, Class::Normal, 1, 1, NEVER).unwrap();
    for token in [0, 1, 1 << 32, u64::MAX] {
        assert_eq!(q.reply(Token(token)), None, "{token:#x}");
    }
}

#[test]
fn a_request_that_was_put_back_is_the_next_one_under_another_token() {
    let mut q = queue(4, 100);
    q.offer(0, Class::Normal, 1, 1, NEVER).unwrap();
    q.offer(0, Class::Normal, 2, 1, NEVER).unwrap();
    let (first, _) = q.receive(0).unwrap();
    q.put_back(first);
    let (second, n) = q.receive(0).unwrap();
    assert_eq!(n, 1);
    assert_eq!(q.reply(first), None);
    assert_eq!(q.reply(second), Some(1));
}

#[test]
fn a_closed_queue_takes_nothing_and_tells_what_may_have_been_executed() {
    let mut q = queue(4, 100);
    q.offer(0, Class::Normal, 1, 1, NEVER).unwrap();
    q.offer(0, Class::Normal, 2, 1, NEVER).unwrap();
    let (token, _) = q.receive(0).unwrap();
    q.close();
    assert_eq!(
        q.offer(0, Class::Normal, 3, 1, NEVER),
        Err((Refused::Closed, 3))
    );
    let mut left: Vec<_> = std::iter::from_fn(|| q.drain()).collect();
    left.sort_unstable();
    assert_eq!(left, [(1, true), (2, false)]);
    assert_eq!(q.reply(token), None);
    assert!(q.is_empty());
}

#[derive(Clone, Debug)]
enum Op {
    Offer { len: usize, life: u64 },
    Receive,
    Reply(usize),
    PutBack(usize),
    Sleep(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0usize..40, 1u64..100).prop_map(|(len, life)| Op::Offer { len, life }),
        3 => Just(Op::Receive),
        2 => any::<usize>().prop_map(Op::Reply),
        1 => any::<usize>().prop_map(Op::PutBack),
        1 => (0u64..40).prop_map(Op::Sleep),
    ]
}

proptest! {
    /// Against a model: nothing is received twice or replied to twice, order holds, and the bounds
    /// are never exceeded.
    #[test]
    fn whatever_happens_each_request_is_received_in_order_and_replied_to_once(
        ops in prop::collection::vec(op(), 0..200)
    ) {
        let bounds = Bounds { requests: 5, bytes: 100 };
        let mut q = ReceiveQueue::new(bounds, Share::DEFAULT);
        let (mut now, mut next) = (0, 0u32);
        // (request, length, expires)
        let mut waiting: VecDeque<(u32, usize, u64)> = VecDeque::new();
        let mut received: Vec<(Token, (u32, usize, u64))> = Vec::new();
        for op in ops {
            match op {
                Op::Offer { len, life } => {
                    let fresh = |w: &VecDeque<(u32, usize, u64)>, r: &Vec<(Token, (u32, usize, u64))>| {
                        let all: Vec<_> = w.iter().copied().chain(r.iter().map(|(_, x)| *x)).collect();
                        let live: Vec<_> = all.iter().filter(|x| x.2 > now).collect();
                        (live.len(), live.iter().map(|x| x.1).sum::<usize>())
                    };
                    let (count, bytes) = fresh(&waiting, &received);
                    let fits = count < bounds.requests && bytes + len <= bounds.bytes;
                    match q.offer(now, Class::Normal, next, len, now + life) {
                        Ok(()) => {
                            prop_assert!(fits);
                            waiting.push_back((next, len, now + life));
                        }
                        Err((why, _)) => {
                            prop_assert_eq!(why, Refused::Full);
                            prop_assert!(!fits, "refused although there is room");
                        }
                    }
                    next += 1;
                }
                Op::Receive => {
                    while waiting.front().is_some_and(|x| x.2 <= now) {
                        waiting.pop_front();
                    }
                    // Later ones may have been forgotten before, to make room.
                    let got = q.receive(now);
                    match (got, waiting.iter().position(|x| x.2 > now)) {
                        (None, None) => {}
                        (Some((token, n)), Some(at)) => {
                            prop_assert_eq!(n, waiting[at].0);
                            let x = waiting.remove(at).unwrap();
                            prop_assert!(received.iter().all(|(t, _)| *t != token));
                            received.push((token, x));
                        }
                        (got, want) => prop_assert!(false, "{got:?} instead of {want:?}"),
                    }
                }
                Op::Reply(n) if !received.is_empty() => {
                    let (token, x) = received.remove(n % received.len());
                    let got = q.reply(token);
                    prop_assert!(got == Some(x.0) || got.is_none() && x.2 <= now);
                }
                Op::PutBack(n) if !received.is_empty() => {
                    let (token, x) = received.remove(n % received.len());
                    q.put_back(token);
                    prop_assert_eq!(q.reply(token), None);
                    if x.2 > now {
                        waiting.push_front(x);
                    }
                }
                Op::Reply(_) | Op::PutBack(_) => {}
                Op::Sleep(ns) => now += ns,
            }
            prop_assert!(q.len() <= bounds.requests);
        }
        q.close();
        while q.drain().is_some() {}
        prop_assert!(q.is_empty());
    }
}
