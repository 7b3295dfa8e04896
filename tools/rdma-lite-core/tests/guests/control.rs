// SPDX-License-Identifier: GPL-2.0

use crate::memory::{together, Mortal, Shared};
use kernel::error::code::*;
use proptest::prelude::*;
use rdma_lite_core::core::guests::{
    control::{Kind, Listener, Session, Speaker, MOST},
    layout::{Lane, Layout},
};

const SESSION: Session = Session {
    id: 0x1234_5678_9abc_def0,
    from: 5,
    to: 6,
};

fn made() -> (Shared, Lane) {
    let memory = Shared::new(8 << 20);
    let layout = Layout::open(&memory, 17, [1; 16]).unwrap();
    (memory, layout.lane(0, 1))
}

#[test]
fn what_is_said_is_heard_once() {
    let (memory, lane) = made();
    let mut speaker = Speaker::new(&memory, lane).unwrap();
    let mut listener = Listener::new();
    assert_eq!(listener.hear(&memory, lane), Ok(None));
    speaker
        .say(&memory, lane, Kind::Request, SESSION, b"hello")
        .unwrap();
    let heard = listener.hear(&memory, lane).unwrap().unwrap();
    assert_eq!(
        (heard.kind, heard.session, heard.bytes()),
        (Kind::Request, SESSION, &b"hello"[..])
    );
    assert_eq!(listener.hear(&memory, lane), Ok(None));
    // The same again, by a later life too, is news.
    let mut speaker = Speaker::new(&memory, lane).unwrap();
    speaker
        .say(&memory, lane, Kind::Request, SESSION, b"hello")
        .unwrap();
    assert_eq!(
        listener.hear(&memory, lane).unwrap().unwrap().bytes(),
        b"hello"
    );
    assert_eq!(
        speaker.say(&memory, lane, Kind::Reject, SESSION, &[0; MOST + 1]),
        Err(EMSGSIZE)
    );
    speaker
        .say(&memory, lane, Kind::Reject, SESSION, &[7; MOST])
        .unwrap();
    assert_eq!(
        listener.hear(&memory, lane).unwrap().unwrap().bytes(),
        &[7; MOST]
    );
}

#[test]
fn a_speaker_that_is_killed_halfway_has_said_nothing() {
    let mut said = 0;
    for stores in 0..40 {
        let (memory, lane) = made();
        Speaker::new(&memory, lane)
            .unwrap()
            .say(&memory, lane, Kind::Request, SESSION, b"old")
            .unwrap();
        let mut listener = Listener::new();
        listener.hear(&memory, lane).unwrap();
        let mortal = Mortal::new(&memory, stores);
        let mut speaker = Speaker::new(&mortal, lane).unwrap();
        let all = speaker
            .say(&mortal, lane, Kind::Request, SESSION, b"new")
            .is_ok();
        let heard = listener.hear(&memory, lane).unwrap();
        assert_eq!(
            heard.map(|r| r.bytes().to_vec()),
            all.then(|| b"new".to_vec()),
            "{stores}"
        );
        said += usize::from(all);
        // The next life goes on from there.
        let mut speaker = Speaker::new(&memory, lane).unwrap();
        speaker
            .say(&memory, lane, Kind::Close, SESSION, b"")
            .unwrap();
        assert_eq!(
            listener.hear(&memory, lane).unwrap().unwrap().kind,
            Kind::Close
        );
    }
    assert!(said > 0);
}

#[test]
fn a_listener_never_hears_a_mixture_and_hears_the_last_word() {
    for seed in 1..40 {
        let (memory, lane) = made();
        let speak = |memory| {
            let mut speaker = Speaker::new(&memory, lane).unwrap();
            for nr in 1..=6u8 {
                let session = Session {
                    id: nr.into(),
                    ..SESSION
                };
                speaker
                    .say(&memory, lane, Kind::Request, session, &[nr; 100])
                    .unwrap();
            }
        };
        let listen = |memory| {
            let mut listener = Listener::new();
            let mut last = 0;
            while last != 6 {
                if let Some(record) = listener.hear(&memory, lane).unwrap() {
                    assert!(record.session.id > last);
                    last = record.session.id;
                    assert_eq!(record.bytes(), &[last as u8; 100]);
                }
            }
        };
        together(&memory, seed * 31_337, speak, listen);
    }
}

proptest! {
    #[test]
    fn whatever_is_there_is_a_record_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 256)) {
        let (memory, lane) = made();
        kernel_write(&memory, lane.control(), &bytes);
        let heard = Listener::new().hear(&memory, lane).unwrap();
        prop_assert!(heard.is_none_or(|record| record.bytes().len() <= MOST));
    }
}

fn kernel_write(memory: &Shared, at: usize, bytes: &[u8]) {
    memory
        .with(at, bytes.len(), |there| there.copy_from_slice(bytes))
        .unwrap();
}
