// SPDX-License-Identifier: GPL-2.0

//! Which way a connection goes, and what a link over shared memory lets in.

use rdma_lite_core::core::{Allowed, Bells, Choice, Openings, Policy, Transport, Turn, Ways};

use proptest::prelude::*;

const READ: Allowed = Allowed {
    read: true,
    write: false,
};
const WRITE: Allowed = Allowed {
    read: false,
    write: true,
};

/// The peer's node is in this kernel.
const NEIGHBOUR: Ways = Ways {
    neighbour: Some(Policy::Auto),
    region: false,
};
const REGION: Ways = Ways {
    neighbour: None,
    region: true,
};
const NONE: Ways = Ways {
    neighbour: None,
    region: false,
};

#[test]
fn memory_is_used_only_where_it_is_shared_and_both_nodes_let_it() {
    use {Policy::*, Transport as T};
    let cases = [
        (Auto, Some(Auto), false, T::Shm),
        (Auto, Some(Auto), true, T::Shm),
        (Auto, Some(Guests), false, T::Verbs),
        (Auto, Some(Guests), true, T::Guests),
        (Auto, Some(Verbs), false, T::Verbs),
        (Auto, None, false, T::Verbs),
        (Auto, None, true, T::Guests),
        (Guests, Some(Auto), true, T::Guests),
        (Guests, Some(Guests), false, T::Verbs),
        (Guests, None, true, T::Guests),
        (Verbs, Some(Auto), true, T::Verbs),
        (Verbs, None, true, T::Verbs),
        (Verbs, None, false, T::Verbs),
    ];
    for (ours, neighbour, region, expected) in cases {
        let ways = Ways { neighbour, region };
        assert_eq!(
            Choice::new().next(ours, ways),
            expected,
            "{ours:?} {ways:?}"
        );
    }
}

#[test]
fn guests_whose_memory_fails_go_over_verbs_for_once() {
    let mut choice = Choice::new();
    for _ in 0..3 {
        for _ in 0..Choice::PATIENCE {
            assert_eq!(choice.next(Policy::Guests, REGION), Transport::Guests);
        }
        assert_eq!(choice.next(Policy::Guests, REGION), Transport::Verbs);
    }
}

#[test]
fn after_a_few_attempts_over_memory_one_goes_over_verbs_and_then_memory_again() {
    let mut choice = Choice::new();
    for _ in 0..3 {
        for _ in 0..Choice::PATIENCE {
            assert_eq!(choice.next(Policy::Auto, NEIGHBOUR), Transport::Shm);
        }
        assert_eq!(choice.next(Policy::Auto, NEIGHBOUR), Transport::Verbs);
    }
}

#[test]
fn a_peer_that_says_no_is_asked_over_memory_for_as_long_as_it_does() {
    let mut choice = Choice::new();
    for _ in 0..100 {
        assert_eq!(choice.next(Policy::Auto, NEIGHBOUR), Transport::Shm);
        choice.refused();
    }
}

#[test]
fn an_attempt_over_verbs_is_second_best_unless_memory_has_failed() {
    let mut choice = Choice::new();
    assert_eq!(choice.next(Policy::Auto, NONE), Transport::Verbs);
    assert_eq!(choice.best(Policy::Auto, NEIGHBOUR), Transport::Shm);
    assert_eq!(choice.best(Policy::Auto, NONE), Transport::Verbs);
    while choice.next(Policy::Auto, NEIGHBOUR) == Transport::Shm {}
    assert_eq!(choice.best(Policy::Auto, NEIGHBOUR), Transport::Verbs);
}

#[test]
fn a_connection_that_came_up_forgives_earlier_failures() {
    let mut choice = Choice::new();
    for _ in 0..10 {
        for _ in 0..Choice::PATIENCE {
            assert_eq!(choice.next(Policy::Auto, NEIGHBOUR), Transport::Shm);
        }
        choice.up();
    }
}

#[test]
fn a_softirq_is_woken_once_and_again_when_it_has_seen_the_end() {
    let mut bells = Bells::new(4).unwrap();
    assert_eq!(bells.push(1), Ok(true));
    assert_eq!(bells.push(2), Ok(false));
    for imm in [1, 2] {
        assert_eq!(bells.next(Turn::Softirq), Some(imm));
        bells.handled();
    }
    // It has not looked yet: whoever comes now is seen by it.
    assert_eq!(bells.push(3), Ok(false));
    assert_eq!(bells.next(Turn::Softirq), Some(3));
    bells.handled();
    assert_eq!(bells.next(Turn::Softirq), None);
    assert_eq!(bells.push(4), Ok(true));
}

#[test]
fn what_has_to_sleep_and_all_behind_it_are_for_a_task_until_none_are_left() {
    let mut bells = Bells::new(4).unwrap();
    bells.push(1).unwrap();
    assert_eq!(bells.next(Turn::Softirq), Some(1));
    bells.defer();
    assert_eq!(bells.push(2), Ok(false));
    assert_eq!(bells.next(Turn::Softirq), None);
    for imm in [1, 2] {
        assert_eq!(bells.next(Turn::Task), Some(imm));
        bells.handled();
    }
    assert_eq!(bells.next(Turn::Task), None);
    assert_eq!(bells.push(3), Ok(true));
    assert_eq!(bells.next(Turn::Task), None);
    assert_eq!(bells.next(Turn::Softirq), Some(3));
}

#[test]
fn more_messages_than_there_is_room_for_are_refused() {
    let mut bells = Bells::new(2).unwrap();
    assert!(bells.push(1).is_ok() && bells.push(2).is_ok());
    assert!(bells.push(3).is_err());
    assert_eq!(bells.next(Turn::Softirq), Some(1));
    bells.handled();
    assert!(bells.push(3).is_ok());
}

proptest! {
    /// Whoever takes turns, and however pushes fall between: each message is handled once, in its
    /// order, and none is left behind once those who were woken have run.
    #[test]
    fn no_message_is_lost_doubled_or_overtaken(steps in prop::collection::vec(0u8..6, 1..400)) {
        let mut bells = Bells::new(64).unwrap();
        let (mut sent, mut seen) = (0u32, 0u32);
        let (mut softirq, mut task) = (false, false);
        for step in steps.iter().copied().chain([1; 64]).chain([3; 500]) {
            match step {
                0 | 5 if sent - seen < 64 => {
                    softirq |= bells.push(sent).unwrap();
                    sent += 1;
                }
                1 | 2 if softirq => match bells.next(Turn::Softirq) {
                    None => softirq = false,
                    Some(imm) if step == 2 => {
                        prop_assert_eq!(imm, seen);
                        bells.defer();
                        (softirq, task) = (false, true);
                    }
                    Some(imm) => {
                        prop_assert_eq!(imm, seen);
                        seen += 1;
                        bells.handled();
                    }
                },
                3 | 4 => {
                    let turn = if task { Turn::Task } else { Turn::Softirq };
                    match bells.next(turn) {
                        None => (softirq, task) = (false, false),
                        Some(imm) => {
                            prop_assert_eq!(imm, seen);
                            seen += 1;
                            bells.handled();
                        }
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(seen, sent);
    }

    /// An access is let in when all of its bytes lie in the window whose key it names, and else not.
    #[test]
    fn a_window_lets_in_what_lies_in_it_and_nothing_else(
        len in 1u64..100_000,
        addr in prop_oneof![0u64..300_000, (u64::MAX - 1000)..=u64::MAX],
        count in prop_oneof![0u64..100_000, (u64::MAX - 1000)..=u64::MAX],
    ) {
        let base = 100_000;
        let mut openings = Openings::new();
        let key = openings.open(base, len, READ, 'a').unwrap();
        let inside = addr >= base
            && addr.checked_add(count).is_some_and(|end| end <= base + len);
        prop_assert_eq!(openings.find(key, addr, count, READ).is_ok(), inside);
        prop_assert!(openings.find(key, addr, count, WRITE).is_err());
        prop_assert!(openings.find(key + 1, addr, count, READ).is_err());
        prop_assert!(openings.find(0, addr, count, READ).is_err());
    }
}

#[test]
fn a_key_that_is_out_of_date_opens_nothing_whatever_was_opened_since() {
    let mut openings = Openings::new();
    let key = openings.open(4096, 4096, READ, 'a').unwrap();
    assert_eq!(openings.find(key, 4100, 8, READ), Ok((&'a', 4)));
    assert_eq!(openings.close(key, 4096), Some('a'));
    assert!(openings.find(key, 4100, 8, READ).is_err());
    let again = openings.open(8192, 4096, READ, 'b').unwrap();
    assert_eq!(again, key);
    assert!(openings.find(key, 4100, 8, READ).is_err());
    // Nor does it shut what is not its own.
    assert_eq!(openings.close(key, 4096), None);
    assert_eq!(openings.find(again, 8192, 8, READ), Ok((&'b', 0)));
}

#[test]
fn a_link_that_ends_shuts_all_windows() {
    let mut openings = Openings::new();
    for base in 1..=5 {
        openings.open(base * 4096, 4096, WRITE, base).unwrap();
    }
    assert_eq!(openings.close(3, 3 * 4096), Some(3));
    let mut shut = Vec::new();
    while let Some(what) = openings.close_any() {
        shut.push(what);
    }
    assert_eq!(shut, [1, 2, 4, 5]);
    assert!(openings.find(1, 4096, 1, WRITE).is_err());
}
