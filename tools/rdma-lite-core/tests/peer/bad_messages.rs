// SPDX-License-Identifier: GPL-2.0

//! Messages that cannot be, or that come again.

use super::*;

fn violation(header: &[u8]) -> Violation {
    let (mut peer, generation) = connected();
    let violation = peer.message(MS, generation, 0, header).unwrap_err();
    assert!(matches!(peer.poll(MS), Some(Action::Disconnect(g)) if g == generation));
    violation
}

#[test]
fn messages_that_cannot_be_break_the_connection_off() {
    let good = message(Kind::Heartbeat);
    assert!(matches!(violation(&[]), Violation::Wire(_)));
    assert!(matches!(violation(&[0xff; 80]), Violation::Wire(_)));
    let mut unknown = good.encode();
    unknown[3] = 77;
    assert!(matches!(violation(&unknown), Violation::Wire(_)));
    let foreign = Header { cluster: 1, ..good };
    assert_eq!(violation(&foreign.encode()), Violation::Identity);
    let other_life = Header {
        src_incarnation: 1,
        ..good
    };
    assert_eq!(violation(&other_life.encode()), Violation::Identity);
    let uncovered = Header { credit: 1, ..good };
    assert_eq!(violation(&uncovered.encode()), Violation::Ring);
}

#[test]
fn a_replayed_message_breaks_the_connection_off_and_is_not_executed() {
    let (mut peer, generation) = connected();
    let header = Header {
        len: 10,
        arg: 100,
        ..message(Kind::Call)
    };
    let received = peer.message(MS, generation, 0, &header.encode());
    assert!(matches!(received, Ok(Received::Execute(_))));
    let replayed = peer.message(MS, generation, 0, &header.encode());
    assert_eq!(replayed.unwrap_err(), Violation::Ring);
}

#[test]
fn calls_of_other_epochs_and_lives_are_refused() {
    let call = message(Kind::Call);
    let stale = Header { epoch: 4, ..call };
    let mut peer = peer();
    let generation = connect(&mut peer, 0);
    peer.set_view(0, view(6, NodeState::Up, THEIRS));
    let stale_now = Header { epoch: 5, ..call };
    let received = peer.message(MS, generation, 0, &stale_now.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
    assert_eq!(
        sent(&mut peer, MS).refusal(),
        Some(Refusal::StaleEpoch),
        "of an epoch that we lived through"
    );
    assert_eq!(
        answer(stale).refusal(),
        Some(Refusal::Forgotten),
        "of an epoch that we know nothing of"
    );
    let newer = Header { epoch: 6, ..call };
    assert_eq!(answer(newer).refusal(), Some(Refusal::BehindEpoch));
    let other_life = Header {
        dst_incarnation: 1,
        ..call
    };
    let answer = answer(other_life);
    assert_eq!(answer.refusal(), Some(Refusal::WrongIncarnation));
}

#[test]
fn a_node_that_meets_a_newer_epoch_reports_it_once() {
    let (mut peer, generation) = connected();
    let newer = Header {
        epoch: 9,
        ..message(Kind::Heartbeat)
    };
    let received = peer.message(MS, generation, 0, &newer.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
    assert!(matches!(peer.poll(MS), Some(Action::Fenced(9))));
    let received = peer.message(MS, generation, 128, &newer.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
    assert!(!matches!(peer.poll(MS), Some(Action::Fenced(_))));
}

#[test]
fn a_call_that_comes_again_is_answered_from_memory() {
    let (mut peer, generation) = connected();
    let header = Header {
        arg: 100,
        reply: ReplyBuffer {
            cap: 100,
            ..ReplyBuffer::default()
        },
        ..message(Kind::Call)
    };
    let Ok(Received::Execute(request)) = peer.message(MS, generation, 0, &header.encode()) else {
        panic!("a new call is executed");
    };
    let again = peer.message(MS, generation, 128, &header.encode());
    assert!(matches!(again, Ok(Received::Nothing)), "while it executes");
    peer.executed(request.call, 0, 5, Some("reply"));
    let reply = sent(&mut peer, MS);
    assert_eq!((reply.kind, reply.len), (Kind::Reply, 5));
    let again = peer.message(MS, generation, 256, &header.encode());
    assert!(matches!(again, Ok(Received::Nothing)), "when it is done");
    let Some(Action::Transmit {
        payload: Payload::Reply(&"reply"),
        ..
    }) = peer.poll(MS)
    else {
        panic!("the reply is sent again");
    };
    assert_eq!(peer.cached(), 5);
    peer.tick(200 * MS);
    assert_eq!(peer.cached(), 0, "nobody waits for it any more");
}

#[test]
fn a_call_that_a_later_one_superseded_is_never_executed() {
    let (mut peer, generation) = connected();
    let numbered = |seq| Header {
        call: rdma_lite_core::core::CallId::new(0, seq),
        ..message(Kind::Call)
    };
    let later = peer.message(MS, generation, 0, &numbered(2).encode());
    assert!(matches!(later, Ok(Received::Execute(_))));
    let earlier = peer.message(MS, generation, 128, &numbered(1).encode());
    assert!(matches!(earlier, Ok(Received::Nothing)));
    assert_eq!(sent(&mut peer, MS).refusal(), Some(Refusal::Forgotten));
}
