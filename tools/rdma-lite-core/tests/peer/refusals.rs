// SPDX-License-Identifier: GPL-2.0

//! Calls that the peer refuses.

use super::*;

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
