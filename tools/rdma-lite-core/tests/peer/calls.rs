// SPDX-License-Identifier: GPL-2.0

//! How calls end: by an answer, a deadline, a map, a new life.

use super::*;

#[test]
fn a_call_without_answer_ends_by_its_deadline() {
    let (mut peer, _) = connected();
    submit(&mut peer);
    peer.tick(999 * MS);
    assert_eq!(ended(&mut peer, 999 * MS), None);
    peer.tick(1000 * MS);
    assert_eq!(ended(&mut peer, 1000 * MS), Some(ETIMEDOUT));
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_call_that_does_not_wait_ends_when_there_is_no_room_for_it() {
    let (mut peer, generation) = connected();
    let nowait = NewCall {
        nowait: true,
        ..call()
    };
    peer.submit(nowait, "call").unwrap();
    let header = sent(&mut peer, 0);
    refuse(&mut peer, generation, &header, Refusal::Busy);
    assert_eq!(ended(&mut peer, MS), Some(EAGAIN));
    assert_eq!(peer.calls(), 0);
}

#[test]
fn a_call_that_waits_is_tried_again_until_there_is_room() {
    let (mut peer, generation) = connected();
    let mut header = submit(&mut peer);
    let mut now = 0;
    for _ in 0..12 {
        refuse(&mut peer, generation, &header, Refusal::Busy);
        assert_eq!(ended(&mut peer, now), None);
        let next = peer.next_tick();
        assert!(next - now <= 64 * MS, "tried often enough: {}", next - now);
        now = next;
        peer.tick(now);
        header = sent(&mut peer, now);
        assert_eq!(header.kind, Kind::Call);
    }
}

#[test]
fn a_notification_says_so_to_the_callee() {
    let (mut peer, generation) = connected();
    let notify = NewCall {
        notify: true,
        ..call()
    };
    peer.submit(notify, "call").unwrap();
    assert!(sent(&mut peer, 0).notify);
    let theirs = Header {
        notify: true,
        arg: 1000,
        ..message(Kind::Call)
    };
    match peer.message(0, generation, 0, &theirs.encode()) {
        Ok(Received::Execute(request)) => assert!(request.notify),
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_are_refused_at_once_when_they_cannot_be_made() {
    let (mut peer, _) = connected();
    let large = NewCall {
        len: 1 << 20,
        ..call()
    };
    assert_eq!(peer.submit(large, "large").map_err(|e| e.0), Err(EMSGSIZE));
    peer.set_view(0, view(6, NodeState::Down, THEIRS));
    assert_eq!(peer.submit(call(), "down").map_err(|e| e.0), Err(EHOSTDOWN));
    peer.shut_down(0);
    assert_eq!(peer.submit(call(), "off").map_err(|e| e.0), Err(ESHUTDOWN));
}

#[test]
fn switching_off_ends_all_calls() {
    let (mut peer, _) = connected();
    submit(&mut peer);
    peer.shut_down(0);
    assert!(matches!(peer.poll(0), Some(Action::Disconnect(_))));
    assert_eq!(ended(&mut peer, 0), Some(ESHUTDOWN));
}

#[test]
fn a_map_that_says_down_ends_all_calls_and_the_connection() {
    let (mut peer, generation) = connected();
    submit(&mut peer);
    peer.set_view(0, view(6, NodeState::Down, THEIRS));
    assert!(matches!(peer.poll(0), Some(Action::Disconnect(g)) if g == generation));
    assert_eq!(ended(&mut peer, 0), Some(EHOSTDOWN));
}

#[test]
fn a_new_life_of_the_peer_ends_calls_truthfully() {
    let (mut peer, _) = connected();
    submit(&mut peer);
    peer.set_view(0, view(5, NodeState::Up, THEIRS + 1));
    assert_eq!(ended(&mut peer, 0), Some(ETIMEDOUT));

    let mut peer = self::peer();
    connect(&mut peer, 0);
    peer.submit(call(), "never sent").unwrap();
    peer.set_view(0, view(5, NodeState::Up, THEIRS + 1));
    assert_eq!(ended(&mut peer, 0), Some(ESTALE));
}

#[test]
fn a_new_map_makes_calls_stale_that_were_not_sent() {
    let mut peer = peer();
    peer.submit(call(), "not connected").unwrap();
    peer.set_view(0, view(6, NodeState::Up, THEIRS));
    assert_eq!(ended(&mut peer, 0), Some(ESTALE));
}

#[test]
fn a_call_is_sent_again_after_a_reconnect_under_the_same_number() {
    let (mut peer, generation) = connected();
    let first = submit(&mut peer);
    peer.lost(0, generation, None);
    assert!(ended(&mut peer, 0).is_none());
    connect(&mut peer, 500 * MS);
    assert_eq!(sent(&mut peer, 500 * MS).call, first.call);
}

#[test]
fn a_cancelled_call_is_not_heard_of_again() {
    let (mut peer, generation) = connected();
    let id = peer.submit(call(), "call").unwrap();
    let header = sent(&mut peer, 0);
    assert_eq!(peer.cancel(id), Some("call"));
    assert_eq!(peer.cancel(id), None);
    let reply = Header {
        call: header.call,
        credit: 3,
        ..message(Kind::Reply)
    };
    let received = peer.message(MS, generation, 0, &reply.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
}

#[test]
fn a_reply_that_is_larger_than_the_call_takes_fails_it() {
    let (mut peer, generation) = connected();
    let header = submit(&mut peer);
    let reply = Header {
        call: header.call,
        credit: 3,
        len: 65,
        ..message(Kind::Reply)
    };
    let received = peer.message(MS, generation, 0, &reply.encode());
    assert!(matches!(
        received,
        Ok(Received::Failed {
            error: EMSGSIZE,
            ..
        })
    ));
}

#[test]
fn a_large_reply_goes_straight_into_the_callers_buffer() {
    let (mut peer, generation) = connected();
    let buffer = ReplyBuffer {
        addr: 0x1000,
        rkey: 42,
        cap: 1 << 20,
    };
    let header = Header {
        arg: 100,
        reply: buffer,
        ..message(Kind::Call)
    };
    let Ok(Received::Execute(request)) = peer.message(MS, generation, 0, &header.encode()) else {
        panic!("a new call is executed");
    };
    peer.executed(request.call, 0, 1 << 20, Some("large"));
    let Some(Action::Transmit {
        direct,
        len,
        slot,
        header,
        ..
    }) = peer.poll(MS)
    else {
        panic!("the reply is sent");
    };
    assert_eq!((direct, len, slot.len), (Some(buffer), 1 << 20, 128));
    assert!(Header::decode(&header, 100).unwrap().direct);
}
