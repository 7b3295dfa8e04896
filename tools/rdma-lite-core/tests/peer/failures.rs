// SPDX-License-Identifier: GPL-2.0

//! Failure detection, and connections that are made again.

use super::*;

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
fn who_gives_calls_long_gives_an_attempt_to_connect_a_third_of_it_and_no_less_than_by_default() {
    let default = Config::DEFAULT.connect_timeout;
    for (deadline, expected) in [
        (0, default),
        (3 * default, default),
        (3 * default + 3, default + 1),
        (60_000 * MS, 20_000 * MS),
    ] {
        let config = Config::DEFAULT.for_deadline(deadline);
        assert_eq!(config.connect_timeout, expected);
        assert_eq!(config.check(), Ok(()));
    }
    let slow = Config {
        connect_timeout: 50_000 * MS,
        ..Config::DEFAULT
    };
    assert_eq!(slow.for_deadline(60_000 * MS).connect_timeout, 50_000 * MS);
}
