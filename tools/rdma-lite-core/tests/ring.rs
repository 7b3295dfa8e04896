// SPDX-License-Identifier: GPL-2.0

//! Sender and receiver of a ring, with messages of any sizes in flight.

use proptest::prelude::*;
use rdma_lite_core::core::ring::{max_message, RxRing, TxRing};
use std::collections::VecDeque;

const SIZE: u32 = 1 << 14;
const DEPTH: usize = 16;

fn pair() -> (TxRing, RxRing) {
    let mut tx = TxRing::new(DEPTH).unwrap();
    let mut rx = RxRing::default();
    tx.open(SIZE, DEPTH);
    rx.open(SIZE, DEPTH);
    (tx, rx)
}

#[derive(Clone, Debug)]
enum Op {
    Send(u32),
    Receive,
    Tell,
    TellAgain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1..=max_message(SIZE)).prop_map(Op::Send),
        3 => Just(Op::Receive),
        1 => Just(Op::Tell),
        1 => Just(Op::TellAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn slots_in_flight_never_overlap_and_all_room_comes_back(
        ops in prop::collection::vec(op(), 1..300)
    ) {
        let (mut tx, mut rx) = pair();
        let mut flying = VecDeque::new();
        let mut told = 0;
        for op in ops {
            match op {
                Op::Send(len) => {
                    if let Some(slot) = tx.alloc(len) {
                        prop_assert!(slot.len >= len && slot.offset + slot.len <= SIZE);
                        for (at, its) in &flying {
                            prop_assert!(slot.offset + slot.len <= *at || at + its <= slot.offset);
                        }
                        flying.push_back((slot.offset, len.next_multiple_of(64)));
                    }
                }
                Op::Receive => {
                    if let Some((at, len)) = flying.pop_front() {
                        prop_assert!(rx.expects(at));
                        prop_assert_eq!(rx.consume(at, len), Ok(()));
                    }
                }
                Op::Tell => {
                    told = rx.tell();
                    prop_assert_eq!(tx.credit(told), Ok(()));
                }
                Op::TellAgain => prop_assert_eq!(tx.credit(told), Ok(())),
            }
        }
        for (at, len) in flying {
            prop_assert_eq!(rx.consume(at, len), Ok(()));
        }
        prop_assert_eq!(tx.credit(rx.tell()), Ok(()));
        prop_assert_eq!((tx.used(), tx.in_flight()), (0, 0));
    }
}

#[test]
fn a_sender_that_waits_for_room_always_gets_it() {
    let (mut tx, mut rx) = pair();
    for round in 0..10_000u32 {
        let len = 1 + round * 7919 % max_message(SIZE);
        let slot = match tx.alloc(len) {
            Some(slot) => slot,
            None => panic!("no room in round {round} although all was consumed"),
        };
        rx.consume(slot.offset, len).unwrap();
        if rx.credit_due() {
            tx.credit(rx.tell()).unwrap();
        }
    }
}

#[test]
fn more_messages_than_receives_are_not_sent() {
    let (mut tx, _) = pair();
    let sent = std::iter::from_fn(|| tx.alloc(80)).count();
    assert_eq!(sent, DEPTH);
}

#[test]
fn a_credit_for_what_was_not_sent_is_a_violation() {
    let (mut tx, _) = pair();
    tx.alloc(64).unwrap();
    assert!(tx.credit(2).is_err());
    assert!(tx.credit(1).is_ok());
    assert!(tx.credit(2).is_err());
}

#[test]
fn a_credit_in_the_middle_of_a_message_is_a_violation() {
    let (mut tx, _) = pair();
    tx.alloc(128).unwrap();
    assert!(tx.credit(1).is_err());
}

#[test]
fn a_message_at_the_wrong_place_is_a_violation() {
    let (_, mut rx) = pair();
    assert!(rx.consume(64, 64).is_err());
    assert!(rx.consume(0, max_message(SIZE) + 1).is_err());
    assert!(rx.consume(0, 64).is_ok());
    assert!(rx.consume(0, 64).is_err(), "the same message again");
}

#[test]
fn a_ring_without_connection_takes_and_gives_nothing() {
    let mut tx = TxRing::new(DEPTH).unwrap();
    let mut rx = RxRing::default();
    assert!(tx.alloc(64).is_none());
    assert!(!rx.expects(0));
    assert!(rx.consume(0, 64).is_err());
}
