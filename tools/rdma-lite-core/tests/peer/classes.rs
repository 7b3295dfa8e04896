// SPDX-License-Identifier: GPL-2.0

//! Classes of service of one peer.

use super::*;

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
