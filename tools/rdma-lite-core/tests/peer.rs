// SPDX-License-Identifier: GPL-2.0

//! One peer, driven by hand: results of calls, bad input, failure detection.

use kernel::prelude::*;
use rdma_lite_core::core::{
    connection::State,
    wire::{digest, Header, Kind, RingAddress},
    Action, Class, Config, Health, Hello, Local, NewCall, NodeState, Payload, Peer, Received,
    Refusal, Reject, RejectReason, ReplyBuffer, Suspicion, View, Violation,
};

const MS: u64 = 1_000_000;
const CLUSTER: [u8; 16] = [3; 16];
const OURS: u64 = 11;
const THEIRS: u64 = 22;

type TestPeer = Peer<&'static str, &'static str>;

fn view(epoch: u64, state: NodeState, incarnation: u64) -> View {
    View {
        epoch,
        state: Some(state),
        incarnation,
        pinned: incarnation != 0,
    }
}

fn peer() -> TestPeer {
    let local = Local {
        id: 1,
        incarnation: OURS,
        cluster: CLUSTER,
    };
    let mut peer = Peer::new(Config::DEFAULT, local, 2).unwrap();
    peer.set_view(0, view(5, NodeState::Up, THEIRS));
    peer
}

fn hello(incarnation: u64) -> Hello {
    Hello {
        lane: 0,
        src: 2,
        dst: 1,
        cluster: CLUSTER,
        incarnation,
        epoch: 5,
        ring: RingAddress {
            addr: 0,
            rkey: 0,
            size_log2: 16,
            depth_log2: 6,
            slots_log2: 6,
        },
    }
}

/// Connects; returns the generation.
fn connect(peer: &mut TestPeer, now: u64) -> u32 {
    peer.tick(now);
    let Some(Action::Connect(generation)) = peer.poll(now) else {
        panic!("the lower id connects");
    };
    peer.connect_reply(now, generation, &hello(THEIRS), *peer.view());
    peer.established(now, generation);
    assert_eq!(peer.connection(), State::Connected);
    generation
}

fn connected() -> (TestPeer, u32) {
    let mut peer = peer();
    let generation = connect(&mut peer, 0);
    (peer, generation)
}

fn call() -> NewCall {
    NewCall {
        port: 1,
        len: 64,
        reply: ReplyBuffer {
            addr: 0,
            rkey: 0,
            cap: 64,
        },
        deadline: 1000 * MS,
        nowait: false,
        notify: false,
        class: Class::Normal,
    }
}

fn submit(peer: &mut TestPeer) -> Header {
    peer.submit(call(), "call").unwrap();
    sent(peer, 0)
}

/// The next message that the peer sends.
fn sent(peer: &mut TestPeer, now: u64) -> Header {
    loop {
        match peer.poll(now) {
            Some(Action::Transmit { header, .. }) => {
                return Header::decode(&header, u32::MAX).unwrap();
            }
            Some(_) => {}
            None => panic!("nothing is sent"),
        }
    }
}

/// The next call that ends.
fn ended(peer: &mut TestPeer, now: u64) -> Option<Error> {
    while let Some(action) = peer.poll(now) {
        if let Action::Complete { error, .. } = action {
            return Some(error);
        }
    }
    None
}

fn message(kind: Kind) -> Header {
    Header {
        kind,
        direct: false,
        notify: false,
        class: Class::Normal,
        port: 1,
        len: 0,
        cluster: digest(&CLUSTER),
        epoch: 5,
        src_incarnation: THEIRS,
        dst_incarnation: OURS,
        call: rdma_lite_core::core::CallId::new(0, 1),
        arg: 0,
        credit: 0,
        reply: ReplyBuffer::default(),
    }
}

fn refuse(peer: &mut TestPeer, generation: u32, to: &Header, refusal: Refusal) {
    let header = Header {
        arg: refusal as u32,
        call: to.call,
        // All that was sent was consumed.
        credit: peer.rings().sent as u32,
        ..message(Kind::Refuse)
    };
    let at = peer.rings().received as u32 * 64;
    let received = peer.message(MS, generation, at, &header.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
}

fn refused_by(refusal: Refusal) -> Option<Error> {
    let (mut peer, generation) = connected();
    let header = submit(&mut peer);
    refuse(&mut peer, generation, &header, refusal);
    ended(&mut peer, MS)
}

#[test]
fn refusals_become_the_errnos_of_the_header() {
    assert_eq!(refused_by(Refusal::StaleEpoch), Some(ESTALE));
    assert_eq!(refused_by(Refusal::WrongIncarnation), Some(ESTALE));
    assert_eq!(refused_by(Refusal::NoPort), Some(ENOENT));
    assert_eq!(refused_by(Refusal::Forgotten), Some(ETIMEDOUT));
    assert_eq!(refused_by(Refusal::TooLarge), Some(EMSGSIZE));
    assert_eq!(refused_by(Refusal::Busy), None);
    assert_eq!(refused_by(Refusal::BehindEpoch), None);
}

#[test]
fn a_call_to_a_peer_that_is_behind_is_tried_again_and_ends_by_estale() {
    let (mut peer, generation) = connected();
    let header = submit(&mut peer);
    refuse(&mut peer, generation, &header, Refusal::BehindEpoch);
    peer.tick(10 * MS);
    let again = sent(&mut peer, 10 * MS);
    assert_eq!((again.call, again.epoch), (header.call, header.epoch));

    let (mut peer, generation) = connected();
    let header = submit(&mut peer);
    refuse(&mut peer, generation, &header, Refusal::BehindEpoch);
    peer.tick(1000 * MS);
    assert_eq!(ended(&mut peer, 1000 * MS), Some(ESTALE));
}

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

fn answer(header: Header) -> Header {
    let (mut peer, generation) = connected();
    let received = peer.message(MS, generation, 0, &header.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
    sent(&mut peer, MS)
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

#[test]
fn a_port_that_nobody_registered_stays_refused_for_a_call() {
    let (mut peer, generation) = connected();
    let header = message(Kind::Call);
    let Ok(Received::Execute(request)) = peer.message(MS, generation, 0, &header.encode()) else {
        panic!("a new call is executed");
    };
    peer.refuse(request.call, Refusal::NoPort);
    assert_eq!(sent(&mut peer, MS).refusal(), Some(Refusal::NoPort));
    let again = peer.message(MS, generation, 128, &header.encode());
    assert!(matches!(again, Ok(Received::Nothing)));
    assert_eq!(sent(&mut peer, MS).refusal(), Some(Refusal::NoPort));
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

#[test]
fn a_silent_peer_is_suspected_and_lives_when_it_answers() {
    let (mut peer, generation) = connected();
    peer.tick(1999 * MS);
    assert!(!peer.is_suspect());
    peer.tick(2000 * MS);
    let health = std::iter::from_fn(|| match peer.poll(2000 * MS)? {
        Action::Health(health) => Some(Some(health)),
        _ => Some(None),
    })
    .flatten()
    .next();
    assert_eq!(health, Some(Health::Suspect(Suspicion::Heartbeat)));
    let beat = message(Kind::Heartbeat).encode();
    peer.message(2001 * MS, generation, 0, &beat).unwrap();
    assert!(matches!(
        peer.poll(2001 * MS),
        Some(Action::Health(Health::Alive))
    ));
}

#[test]
fn a_broken_connection_is_a_suspicion_at_once() {
    let (mut peer, generation) = connected();
    peer.lost(MS, generation, None);
    let suspect = Health::Suspect(Suspicion::Disconnect);
    assert!(matches!(peer.poll(MS), Some(Action::Health(h)) if h == suspect));
}

#[test]
fn a_call_that_times_out_is_a_suspicion_only_when_nothing_came_since() {
    let (mut peer, generation) = connected();
    submit(&mut peer);
    let beat = Header {
        credit: 3,
        ..message(Kind::Heartbeat)
    };
    peer.message(900 * MS, generation, 0, &beat.encode())
        .unwrap();
    peer.tick(1000 * MS);
    assert!(!peer.is_suspect());

    let (mut peer, _) = connected();
    submit(&mut peer);
    peer.tick(1000 * MS);
    assert!(peer.is_suspect());
}

#[test]
fn attempts_back_off_exponentially_up_to_a_cap() {
    let mut peer = peer();
    let mut now = 0;
    let mut waits = std::vec::Vec::new();
    for _ in 0..10 {
        peer.tick(now);
        let Some(Action::Connect(generation)) = peer.poll(now) else {
            panic!("no attempt at {now}");
        };
        peer.lost(now, generation, None);
        let State::Backoff { until } = peer.connection() else {
            panic!("no backoff");
        };
        waits.push((until - now) / MS);
        now = until;
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
}

#[test]
fn an_attempt_without_answer_is_given_up() {
    let mut peer = peer();
    peer.tick(0);
    assert!(matches!(peer.poll(0), Some(Action::Connect(1))));
    peer.tick(3000 * MS);
    assert!(matches!(peer.poll(3000 * MS), Some(Action::Disconnect(1))));
    assert!(matches!(peer.connection(), State::Backoff { .. }));
}

#[test]
fn the_higher_id_may_not_connect_to_the_lower_one() {
    let mut peer = peer();
    let reject = Reject {
        reason: RejectReason::Direction,
        epoch: 5,
    };
    let view = *peer.view();
    assert_eq!(peer.connect_request(0, &hello(THEIRS), view), Err(reject));
}

#[test]
fn a_new_connection_replaces_an_old_one_of_the_same_peer() {
    let local = Local {
        id: 3,
        incarnation: OURS,
        cluster: CLUSTER,
    };
    let mut peer: TestPeer = Peer::new(Config::DEFAULT, local, 2).unwrap();
    let up = view(5, NodeState::Up, THEIRS);
    peer.set_view(0, up);
    let hello = hello(THEIRS);
    assert_eq!(peer.connect_request(0, &hello, up), Ok((1, None)));
    peer.established(0, 1);
    assert_eq!(peer.connect_request(MS, &hello, up), Ok((2, Some(1))));
    peer.lost(MS, 1, None);
    peer.established(MS, 2);
    assert_eq!(peer.connection(), State::Connected);
    assert!(!peer.is_suspect());
}

#[test]
fn nonsense_in_the_configuration_is_refused() {
    let bad = [
        Config {
            ring_log2: 40,
            ..Config::DEFAULT
        },
        Config {
            heartbeat: 0,
            ..Config::DEFAULT
        },
        Config {
            backoff_max: 1,
            ..Config::DEFAULT
        },
    ];
    for config in bad {
        assert_eq!(config.check(), Err(EINVAL));
    }
    assert_eq!(Config::DEFAULT.check(), Ok(()));
}

#[test]
fn a_flood_of_normal_calls_leaves_the_high_class_its_share_of_messages() {
    let (mut peer, _) = connected();
    for class in [Class::Normal, Class::High] {
        for _ in 0..30 {
            peer.submit(NewCall { class, ..call() }, "call").unwrap();
        }
    }
    // Those of the normal class were first, and nothing was sent yet.
    let mut high = 0;
    for n in 1..=36 {
        high += u64::from(sent(&mut peer, 0).class == Class::High);
        assert!(high.abs_diff(n * 3 / 4) <= 1, "{high} of {n}");
    }
}

#[test]
fn calls_of_one_class_never_take_all_places_once_the_other_one_called() {
    let (mut peer, _) = connected();
    let high = NewCall {
        class: Class::High,
        ..call()
    };
    let first = peer.submit(high, "high").unwrap();
    let mut normal = 0;
    while peer.submit(call(), "normal").is_ok() {
        normal += 1;
    }
    // The peer remembers so many.
    let all = 64;
    assert_eq!(normal, all / 4);
    assert!(peer.cancel(first).is_some());
    for _ in 0..all * 3 / 4 {
        peer.submit(high, "high").unwrap();
    }
}

#[test]
fn answers_to_high_calls_go_before_those_that_wait_longer() {
    let (mut peer, generation) = connected();
    let mut offset = 0;
    let mut calls = std::vec::Vec::new();
    for n in 0..8 {
        let class = if n < 4 { Class::Normal } else { Class::High };
        let call = Header {
            class,
            call: rdma_lite_core::core::CallId::new(n, 1),
            arg: 1000,
            ..message(Kind::Call)
        };
        match peer.message(0, generation, offset, &call.encode()).unwrap() {
            Received::Execute(request) => calls.push(request),
            other => panic!("{other:?}"),
        }
        offset += 128;
    }
    assert!(calls[..4]
        .iter()
        .all(|request| request.class == Class::Normal));
    for request in &calls {
        peer.executed(request.call, 0, 0, None);
    }
    let order: std::vec::Vec<_> = (0..4).map(|_| sent(&mut peer, 0).call.slot()).collect();
    assert_eq!(
        order.iter().filter(|slot| **slot >= 4).count(),
        3,
        "{order:?}"
    );
}
