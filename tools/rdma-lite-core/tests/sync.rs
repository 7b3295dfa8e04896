// SPDX-License-Identifier: GPL-2.0

//! Locks and barriers: order, repetition, and who is gone.

use kernel::prelude::*;
use proptest::prelude::{any, proptest};
use rdma_lite_core::core::{
    holder::{Holder, Life, Name},
    sync::{
        service::Service,
        waiter::{Step, Waiter},
        wire::{Ask, Reply, Request, What},
        Verdict, Wake,
    },
    Class,
};

const MS: u64 = 1_000_000;
const ENTER: Ask = Ask::Enter {
    now_or_never: false,
    budget_ms: 1000,
};
const LEAVE: Ask = Ask::Leave { late: false };

fn who(node: u16) -> Holder {
    let life = Life {
        node,
        incarnation: 7,
    };
    Holder { life, tag: 1 }
}

/// Odd nodes are of the high class.
fn class_of(node: u16) -> Class {
    match node % 2 {
        0 => Class::Normal,
        _ => Class::High,
    }
}

fn say(service: &mut Service, node: u16, what: What, ask: Ask) -> Result<Verdict> {
    let request = Request {
        what,
        ask,
        class: class_of(node),
        tag: 1,
        life: 0,
        name: Name::new(b"name").unwrap(),
    };
    service.execute(0, who(node), true, &request)
}

fn wakes(service: &mut Service) -> std::vec::Vec<(u16, Verdict)> {
    let mut all = std::vec::Vec::new();
    while let Some(Wake {
        who,
        class,
        verdict,
        ..
    }) = service.poll()
    {
        assert_eq!(class, class_of(who.life.node), "it is woken in its class");
        all.push((who.life.node, verdict));
    }
    all.sort_by_key(|wake| wake.0);
    all
}

#[test]
fn a_lock_goes_from_one_to_the_next_in_the_order_in_which_they_came() {
    let mut service = Service::new();
    assert_eq!(
        say(&mut service, 1, What::Lock, ENTER),
        Ok(Verdict::Granted(1))
    );
    for node in [4, 2, 3] {
        assert_eq!(
            say(&mut service, node, What::Lock, ENTER),
            Ok(Verdict::Waiting)
        );
    }
    // Asking twice changes nothing.
    assert_eq!(
        say(&mut service, 4, What::Lock, ENTER),
        Ok(Verdict::Waiting)
    );
    assert_eq!(
        say(&mut service, 2, What::Lock, LEAVE),
        Ok(Verdict::Waiting)
    );
    for (grant, from, to) in [(2, 1, 4), (3, 4, 3)] {
        assert!(say(&mut service, from, What::Lock, LEAVE).is_ok());
        assert_eq!(wakes(&mut service), [(to, Verdict::Granted(grant))]);
        assert_eq!(
            say(&mut service, to, What::Lock, Ask::State),
            Ok(Verdict::Granted(grant))
        );
    }
    assert!(say(&mut service, 3, What::Lock, LEAVE).is_ok());
    assert_eq!(service.locks().held(), 0);
}

#[test]
fn who_does_not_want_to_wait_is_told_at_once() {
    let mut service = Service::new();
    let now = Ask::Enter {
        now_or_never: true,
        budget_ms: 0,
    };
    assert_eq!(
        say(&mut service, 1, What::Lock, now),
        Ok(Verdict::Granted(1))
    );
    assert_eq!(
        say(&mut service, 2, What::Lock, now),
        Ok(Verdict::Failed(EBUSY))
    );
    assert_eq!(say(&mut service, 2, What::Lock, Ask::State), Err(ESTALE));
}

#[test]
fn a_lock_whose_holder_is_gone_goes_to_the_next_who_is_not() {
    let mut service = Service::new();
    for node in [1, 2, 3] {
        assert!(say(&mut service, node, What::Lock, ENTER).is_ok());
    }
    service.drop_lives(0, |life| life.node != 3);
    assert_eq!(wakes(&mut service), [(3, Verdict::Granted(3))]);
    assert_eq!(say(&mut service, 1, What::Lock, LEAVE), Err(ESTALE));
}

#[test]
fn a_lock_that_nobody_wants_any_more_goes_on() {
    let mut service = Service::new();
    for node in [1, 2, 3] {
        assert!(say(&mut service, node, What::Lock, ENTER).is_ok());
    }
    assert!(say(&mut service, 1, What::Lock, LEAVE).is_ok());
    let wake = service.poll().unwrap();
    service.woken(&wake, false);
    assert_eq!(wakes(&mut service), [(3, Verdict::Granted(3))]);
}

#[test]
fn who_left_is_not_let_in_by_a_request_that_was_late() {
    for what in [What::Lock, What::Barrier { count: 2 }] {
        let mut service = Service::new();
        assert_eq!(say(&mut service, 1, what, LEAVE), Err(ESTALE));
        assert_eq!(say(&mut service, 1, what, ENTER), Err(ESTALE));
        assert!(say(&mut service, 2, what, ENTER).is_ok());
        assert!(say(&mut service, 2, what, Ask::Leave { late: true }).is_ok());
        assert_eq!(say(&mut service, 2, what, ENTER), Err(ESTALE));
    }
}

#[test]
fn a_barrier_wakes_all_when_the_last_has_come() {
    let what = What::Barrier { count: 3 };
    let mut service = Service::new();
    assert_eq!(say(&mut service, 1, what, ENTER), Ok(Verdict::Waiting));
    assert_eq!(say(&mut service, 1, what, ENTER), Ok(Verdict::Waiting));
    assert_eq!(say(&mut service, 2, what, ENTER), Ok(Verdict::Waiting));
    let other = What::Barrier { count: 2 };
    assert_eq!(say(&mut service, 3, other, ENTER), Err(EINVAL));
    assert_eq!(say(&mut service, 3, what, ENTER), Ok(Verdict::Granted(0)));
    let granted = Verdict::Granted(0);
    assert_eq!(wakes(&mut service), [(1, granted), (2, granted)]);
    // In case the wake was lost.
    assert_eq!(say(&mut service, 1, what, Ask::State), Ok(granted));
    assert_eq!(say(&mut service, 3, what, ENTER), Ok(granted));
    // The next barrier of the name is another one.
    assert_eq!(say(&mut service, 4, other, ENTER), Ok(Verdict::Waiting));
}

#[test]
fn a_barrier_fails_for_the_others_when_a_participant_is_gone() {
    let what = What::Barrier { count: 3 };
    let mut service = Service::new();
    assert!(say(&mut service, 1, what, ENTER).is_ok());
    assert!(say(&mut service, 2, what, ENTER).is_ok());
    service.drop_lives(0, |life| life.node == 2);
    assert_eq!(wakes(&mut service), [(1, Verdict::Failed(EHOSTDOWN))]);
    assert_eq!(
        say(&mut service, 1, what, Ask::State),
        Ok(Verdict::Failed(EHOSTDOWN))
    );
}

#[test]
fn who_left_a_barrier_does_not_count() {
    let what = What::Barrier { count: 2 };
    let mut service = Service::new();
    assert!(say(&mut service, 1, what, ENTER).is_ok());
    assert_eq!(say(&mut service, 1, what, LEAVE), Ok(Verdict::Waiting));
    assert_eq!(say(&mut service, 2, what, ENTER), Ok(Verdict::Waiting));
    assert!(service.barriers().len() == 1);
}

#[test]
fn a_waiter_enters_waits_and_asks_when_it_hears_nothing() {
    let mut waiter = Waiter::new(0, 10_000 * MS, 50, false);
    let Step::Call(enter @ Ask::Enter { .. }, 50) = waiter.next(0) else {
        panic!("it does not enter");
    };
    let waiting = Reply {
        verdict: Verdict::Waiting,
        life: 3,
    };
    waiter.answered(0, enter, Ok(Ok(waiting)));
    assert_eq!(waiter.life(), 3);
    let Step::Wait(until) = waiter.next(0) else {
        panic!("it does not wait");
    };
    assert_eq!(waiter.next(until), Step::Call(Ask::State, 50));
    assert!(waiter.woken(Verdict::Granted(9)));
    let Step::Done(outcome) = waiter.next(until) else {
        panic!("it is not done");
    };
    assert_eq!((outcome.result, outcome.leave), (Ok(9), false));
}

#[test]
fn a_waiter_that_is_late_leaves_and_hears_no_wake() {
    let mut waiter = Waiter::new(0, 10 * MS, 50, false);
    let Step::Call(enter, _) = waiter.next(0) else {
        panic!("it does not enter");
    };
    waiter.answered(0, enter, Err(ETIMEDOUT));
    assert_eq!(
        waiter.next(10 * MS),
        Step::Call(Ask::Leave { late: true }, 1000)
    );
    assert!(!waiter.woken(Verdict::Granted(1)));
    waiter.answered(10 * MS, Ask::Leave { late: true }, Err(ETIMEDOUT));
    let Step::Done(outcome) = waiter.next(11 * MS) else {
        panic!("it is not done");
    };
    assert_eq!((outcome.result, outcome.leave), (Err(ETIMEDOUT), true));
}

#[test]
fn a_request_keeps_its_class_and_is_none_of_a_class_that_is_none() {
    for class in Class::ALL {
        let request = Request {
            what: What::Lock,
            ask: Ask::State,
            class,
            tag: 1,
            life: 2,
            name: Name::new(b"name").unwrap(),
        };
        let mut bytes = request.encode();
        assert_eq!(Request::decode(&bytes), Ok(request));
        bytes[3] = 2;
        assert_eq!(Request::decode(&bytes), Err(EBADMSG));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error_and_no_panic(
        bytes in proptest::collection::vec(any::<u8>(), 90..110), kind in 0u8..6, what in 0u8..4,
    ) {
        let mut bytes = bytes;
        bytes[0] = kind;
        bytes[2] = what;
        if let Ok(request) = Request::decode(&bytes) {
            assert_eq!(&request.encode()[..], &bytes[..]);
        }
        let _ = Reply::decode(&bytes[..24]);
    }
}
