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

#[test]
fn a_place_is_taken_until_its_answer_has_come_and_its_bytes_were_fetched() {
    let mut accesses = Accesses::new();
    let begun: Vec<_> = (0..ACCESSES)
        .map(|nr| accesses.begin(&nr).unwrap())
        .collect();
    assert_eq!(accesses.begin(&99), Err(EAGAIN));
    let (nr, id) = begun[2];
    assert_eq!(accesses.number(nr), Ok(id));
    assert_eq!(accesses.answered(nr), Some(2));
    assert_eq!(accesses.number(nr), Err(EPROTO), "answered twice");
    assert_eq!(accesses.number(usize::MAX), Err(EPROTO));
    assert_eq!(
        accesses.begin(&99),
        Err(EAGAIN),
        "the bytes are still there to be fetched"
    );
    accesses.end(nr, id);
    let (again, newer) = accesses.begin(&5).unwrap();
    assert_eq!(again, nr);
    assert!(begun.iter().all(|(_, id)| *id < newer));
}

#[test]
fn a_place_that_was_given_up_is_free_when_the_owner_has_answered_and_not_before() {
    let mut accesses = Accesses::new();
    let begun: Vec<_> = (0..ACCESSES)
        .map(|nr| accesses.begin(&nr).unwrap())
        .collect();
    let (nr, id) = begun[1];
    accesses.end(nr, id);
    assert_eq!(accesses.begin(&99), Err(EAGAIN));
    assert_eq!(accesses.number(nr), Ok(id));
    assert_eq!(accesses.answered(nr), None);
    assert_eq!(accesses.begin(&99).unwrap().0, nr);
    // Late, by who had the place before: not theirs any more.
    accesses.end(nr, id);
    assert_eq!(accesses.answered(nr), Some(99));

    let (nr, id) = begun[3];
    accesses.take_back(nr, id);
    assert_eq!(accesses.begin(&98).unwrap().0, nr);
}

#[test]
fn when_the_session_is_over_all_who_wait_hear_so_and_nobody_begins() {
    let mut accesses = Accesses::new();
    accesses.begin(&1).unwrap();
    accesses.begin(&2).unwrap();
    assert_eq!(accesses.give_up(), Some(1));
    assert_eq!(accesses.give_up(), Some(2));
    assert_eq!(accesses.give_up(), None);
    assert_eq!(accesses.begin(&3), Err(ECONNRESET));
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
