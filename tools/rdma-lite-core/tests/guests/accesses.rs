// SPDX-License-Identifier: GPL-2.0

use crate::memory::{Mortal, Shared};
use kernel::error::code::*;
use proptest::prelude::*;
use rdma_lite_core::core::guests::{
    access::{Accesses, Request, Response},
    layout::{ACCESSES, ACCESS_LEN},
    pace::{Pace, IDLE, QUICKEST, SLOWEST, SPIN},
    Memory,
};
use rdma_lite_core::core::{Class, Share};

const REQUEST: Request = Request {
    id: 77,
    write: true,
    key: 3,
    addr: 0x1_0000_0040,
    len: ACCESS_LEN as u32,
};

#[test]
fn requests_and_responses_come_over_as_they_are() {
    let memory = Shared::new(4096);
    REQUEST.put(&memory, 64).unwrap();
    assert_eq!(Request::get(&memory, 64), Ok(REQUEST));
    let read = Request {
        write: false,
        len: 1,
        ..REQUEST
    };
    read.put(&memory, 64).unwrap();
    assert_eq!(Request::get(&memory, 64), Ok(read));
    for status in [0, -13, -4095] {
        let response = Response { id: 77, status };
        response.put(&memory, 128).unwrap();
        assert_eq!(Response::get(&memory, 128), Ok(response));
    }
}

#[test]
fn requests_for_what_cannot_be_are_refused() {
    let memory = Shared::new(4096);
    for len in [0, ACCESS_LEN as u32 + 1, u32::MAX] {
        Request { len, ..REQUEST }.put(&memory, 0).unwrap();
        assert_eq!(Request::get(&memory, 0), Err(EPROTO));
    }
    for status in [1, -4096, i32::MIN] {
        Response { id: 1, status }.put(&memory, 0).unwrap();
        assert_eq!(Response::get(&memory, 0), Err(EPROTO));
    }
    assert_eq!(Request::get(&memory, 2048), Err(EBADMSG));
    assert_eq!(Request::get(&memory, 4090), Err(ERANGE));
}

#[test]
fn a_request_of_which_a_part_was_written_is_none() {
    let whole = Shared::new(4096);
    REQUEST.put(&whole, 0).unwrap();
    for stores in 0..6 {
        let memory = Shared::new(4096);
        let old = Request {
            id: 1,
            key: 9,
            addr: 1,
            write: false,
            len: 5,
        };
        old.put(&memory, 0).unwrap();
        let _ = REQUEST.put(&Mortal::new(&memory, stores), 0);
        let same = memory.with(0, 48, |b| b.to_vec()) == whole.with(0, 48, |b| b.to_vec());
        match Request::get(&memory, 0) {
            Ok(request) if same => assert_eq!(request, REQUEST),
            Ok(request) => assert_eq!((stores, request), (0, old)),
            Err(e) => assert_eq!(e, EBADMSG),
        }
    }
}

fn begin(accesses: &mut Accesses<usize>, who: usize) -> Option<usize> {
    accesses.begin(Class::Normal, ACCESS_LEN, &who).unwrap()
}

/// All places are taken, each by the one of its number.
fn full() -> Accesses<usize> {
    let mut accesses = Accesses::new(Share::DEFAULT);
    for nr in 0..ACCESSES {
        assert_eq!(begin(&mut accesses, nr), Some(nr));
    }
    accesses
}

#[test]
fn a_place_is_taken_until_its_answer_has_come_and_its_bytes_were_fetched() {
    let mut accesses = full();
    assert_eq!(begin(&mut accesses, 99), None);
    let id = accesses.number(2).unwrap();
    assert_eq!(accesses.answered(2), Some(2));
    assert_eq!(accesses.number(2), Err(EPROTO), "answered twice");
    assert_eq!(accesses.number(usize::MAX), Err(EPROTO));
    assert_eq!(
        accesses.admit(),
        None,
        "the bytes are still there to be fetched"
    );
    accesses.end(2, id);
    assert_eq!(accesses.admit(), Some((99, 2)));
    assert!(id < accesses.number(2).unwrap());
}

#[test]
fn a_place_that_was_given_up_is_free_when_the_owner_has_answered_and_not_before() {
    let mut accesses = full();
    let id = accesses.number(1).unwrap();
    accesses.end(1, id);
    assert_eq!(begin(&mut accesses, 99), None);
    assert_eq!(accesses.number(1), Ok(id));
    assert_eq!(accesses.admit(), None);
    assert_eq!(accesses.answered(1), None);
    assert_eq!(accesses.admit(), Some((99, 1)));
    // Late, by who had the place before: not theirs any more.
    accesses.end(1, id);
    assert_eq!(accesses.answered(1), Some(99));

    accesses.take_back(3, accesses.number(3).unwrap());
    assert_eq!(begin(&mut accesses, 98), Some(3));
}

#[test]
fn who_does_not_wait_for_a_place_any_more_takes_none_from_others() {
    let mut accesses = full();
    assert_eq!(begin(&mut accesses, 98), None);
    assert_eq!(begin(&mut accesses, 99), None);
    assert!(accesses.withdraw(Class::Normal, |who| *who == 98));
    accesses.take_back(0, accesses.number(0).unwrap());
    assert_eq!(accesses.admit(), Some((99, 0)));
    // It had been given one when it gave up.
    assert!(!accesses.withdraw(Class::Normal, |who| *who == 99));
    accesses.forget(|who| *who == 99);
    assert_eq!(begin(&mut accesses, 5), Some(0));
}

#[test]
fn a_class_that_fills_all_places_leaves_the_other_the_next_free_one() {
    let mut accesses = full();
    assert_eq!(begin(&mut accesses, 50), None);
    assert_eq!(accesses.begin(Class::High, 1, &99), Ok(None));
    accesses.take_back(0, accesses.number(0).unwrap());
    assert_eq!(accesses.admit(), Some((99, 0)));
    assert_eq!(accesses.admit(), None);
}

#[test]
fn when_the_session_is_over_all_who_wait_hear_so_and_nobody_begins() {
    let mut accesses = full();
    assert_eq!(begin(&mut accesses, 99), None);
    for nr in 0..ACCESSES {
        assert_eq!(accesses.give_up(), Some(nr));
    }
    assert_eq!(accesses.give_up(), None);
    assert_eq!(accesses.turn_away(), Some(99));
    assert_eq!(accesses.turn_away(), None);
    assert_eq!(accesses.begin(Class::Normal, 1, &3), Err(ECONNRESET));
}

#[test]
fn a_node_looks_all_the_time_while_there_is_traffic_and_less_and_less_after_it() {
    let mut pace = Pace::new();
    let mut now = SPIN * 10;
    assert_eq!(pace.after(now, true, true), 0);
    assert_eq!(pace.after(now + SPIN - 1, false, true), 0);
    let mut last = 0;
    for _ in 0..20 {
        now += SPIN;
        let pause = pace.after(now, false, true);
        assert!(pause >= QUICKEST && pause >= last && pause <= SLOWEST);
        last = pause;
    }
    assert_eq!(last, SLOWEST);
    assert_eq!(pace.after(now, false, false), IDLE);
    assert_eq!(pace.after(now, true, true), 0);
}

proptest! {
    #[test]
    fn whatever_is_there_is_a_sound_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 48)) {
        let memory = Shared::new(4096);
        memory.write(0, &bytes).unwrap();
        if let Ok(request) = Request::get(&memory, 0) {
            prop_assert!((1..=ACCESS_LEN as u32).contains(&request.len));
        }
    }
}
