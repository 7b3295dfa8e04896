// SPDX-License-Identifier: GPL-2.0

use crate::memory::{together, Shared};
use kernel::error::code::*;
use proptest::prelude::*;
use rdma_lite_core::core::guests::{
    bells::{Bell, Receiver, Sender},
    layout::{Lane, Layout, BELLS},
    Memory,
};

const SESSION: u64 = 0xfeed_5678_9abc_def0;

fn made() -> (Shared, Lane) {
    let memory = Shared::new(8 << 20);
    let layout = Layout::open(&memory, 17, [1; 16]).unwrap();
    (memory, layout.lane(0, 1))
}

#[test]
fn bells_are_heard_in_their_order_each_once_over_many_laps() {
    let (memory, lane) = made();
    let mut receiver = Receiver::new(&memory, lane, SESSION).unwrap();
    let mut sender = Sender::new(SESSION);
    for nr in 0..5 * BELLS as u32 {
        let bell = match nr % 3 {
            0 => Bell::Message(nr),
            1 => Bell::Request(nr),
            _ => Bell::Response(u32::MAX - nr),
        };
        assert_eq!(receiver.next(&memory, lane), Ok(None));
        sender.ring(&memory, lane, bell).unwrap();
        assert_eq!(receiver.next(&memory, lane), Ok(Some(bell)));
        receiver.tell(&memory, lane).unwrap();
    }
}

#[test]
fn a_full_queue_is_said_to_be_and_goes_on_when_there_is_room() {
    let (memory, lane) = made();
    let mut receiver = Receiver::new(&memory, lane, SESSION).unwrap();
    let mut sender = Sender::new(SESSION);
    for nr in 0..BELLS as u32 {
        sender.ring(&memory, lane, Bell::Message(nr)).unwrap();
    }
    assert_eq!(sender.ring(&memory, lane, Bell::Message(7)), Err(ENOSPC));
    assert_eq!(receiver.next(&memory, lane), Ok(Some(Bell::Message(0))));
    receiver.tell(&memory, lane).unwrap();
    sender.ring(&memory, lane, Bell::Message(7)).unwrap();
    assert_eq!(sender.ring(&memory, lane, Bell::Message(8)), Err(ENOSPC));
}

#[test]
fn a_receiver_that_has_heard_more_than_was_rung_breaks_the_protocol() {
    let (memory, lane) = made();
    let mut sender = Sender::new(SESSION);
    for nr in 0..BELLS as u32 {
        sender.ring(&memory, lane, Bell::Message(nr)).unwrap();
    }
    memory.store(lane.tail(), BELLS as u64 + 1).unwrap();
    assert_eq!(sender.ring(&memory, lane, Bell::Message(1)), Err(EPROTO));
}

#[test]
fn bells_of_an_earlier_session_are_not_heard_in_a_later_one() {
    let (memory, lane) = made();
    let mut old = Sender::new(1);
    let mut receiver = Receiver::new(&memory, lane, 1).unwrap();
    old.ring(&memory, lane, Bell::Message(1)).unwrap();
    old.ring(&memory, lane, Bell::Message(2)).unwrap();
    assert_eq!(receiver.next(&memory, lane), Ok(Some(Bell::Message(1))));
    let mut receiver = Receiver::new(&memory, lane, 2).unwrap();
    assert_eq!(receiver.next(&memory, lane), Ok(None));
    // One that rings still, in a place of its own, ends the new session at worst.
    old.ring(&memory, lane, Bell::Message(3)).unwrap();
    assert_eq!(receiver.next(&memory, lane), Ok(None));
    let mut sender = Sender::new(2);
    for nr in 0..2 {
        sender.ring(&memory, lane, Bell::Message(nr)).unwrap();
        assert_eq!(receiver.next(&memory, lane), Ok(Some(Bell::Message(nr))));
    }
    assert_eq!(receiver.next(&memory, lane), Err(EPROTO));
}

#[test]
fn sender_and_receiver_may_run_at_once() {
    for seed in 1..30 {
        let (memory, lane) = made();
        let mut receiver = Receiver::new(&memory, lane, SESSION).unwrap();
        let send = |memory| {
            let mut sender = Sender::new(SESSION);
            for nr in 0..200 {
                // What a message is made of is there before its bell.
                InRing::write(&memory, lane, nr);
                sender.ring(&memory, lane, Bell::Message(nr)).unwrap();
            }
        };
        let receive = |memory| {
            let mut expected = 0;
            while expected < 200 {
                if let Some(bell) = receiver.next(&memory, lane).unwrap() {
                    assert_eq!(bell, Bell::Message(expected));
                    InRing::check(&memory, lane, expected);
                    expected += 1;
                }
            }
        };
        together(&memory, seed * 6_700_417, send, receive);
    }
}

/// A message of 24 bytes in the ring.
struct InRing;

impl InRing {
    fn write(memory: &impl Memory, lane: Lane, nr: u32) {
        let at = lane.ring(nr as usize * 64, 24).unwrap();
        memory.write(at, &[nr as u8; 24]).unwrap();
    }

    fn check(memory: &impl Memory, lane: Lane, nr: u32) {
        let mut bytes = [0; 24];
        memory
            .read(lane.ring(nr as usize * 64, 24).unwrap(), &mut bytes)
            .unwrap();
        assert_eq!(bytes, [nr as u8; 24]);
    }
}

proptest! {
    #[test]
    fn whatever_is_there_is_a_bell_none_or_an_error(
        heard in 0..3 * BELLS,
        words in proptest::collection::vec(any::<u64>(), 8),
    ) {
        let (memory, lane) = made();
        let mut receiver = Receiver::new(&memory, lane, SESSION).unwrap();
        let mut sender = Sender::new(SESSION);
        for _ in 0..heard {
            sender.ring(&memory, lane, Bell::Message(1)).unwrap();
            receiver.next(&memory, lane).unwrap();
            receiver.tell(&memory, lane).unwrap();
        }
        for (nr, word) in words.iter().enumerate() {
            memory.store(lane.bell((heard + nr) as u64), *word).unwrap();
        }
        for _ in &words {
            if receiver.next(&memory, lane).is_err() {
                break;
            }
        }
    }
}
