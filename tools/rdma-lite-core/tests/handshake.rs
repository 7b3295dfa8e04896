// SPDX-License-Identifier: GPL-2.0

//! Handshakes over shared memory: both ends come up once, or both learn why not, whatever a peer says.

use proptest::prelude::*;
use rdma_lite_core::core::handshake::{Handshake, OutOfTurn, Step};

type End = Handshake<u32, &'static str>;

#[test]
fn both_ends_come_up_and_each_hears_the_others_hello() {
    let (mut asking, mut listening) = (End::ask(), End::listen());
    assert_eq!(asking.step(), None);
    listening.requested(1).unwrap();
    assert_eq!(listening.step(), Some(Step::Answer(1)));
    asking.accepted(2).unwrap();
    assert_eq!(asking.step(), Some(Step::Confirm(2)));
    assert_eq!(listening.step(), None, "not before it was confirmed");
    listening.confirmed().unwrap();
    assert_eq!(listening.step(), Some(Step::Up));
    for mut end in [asking, listening] {
        assert_eq!(end.step(), None, "a step is taken once");
        assert_eq!(end.ended(), None);
        assert!(!end.is_over());
    }
}

#[test]
fn the_first_reason_is_told_and_once() {
    let mut end = End::ask();
    end.end("cut");
    end.end("later");
    assert!(!end.is_over());
    assert_eq!(end.ended(), Some("cut"));
    assert!(end.is_over());
    end.end("much later");
    assert_eq!(end.ended(), None);
}

#[test]
fn what_ends_takes_no_further_step() {
    let mut end = End::listen();
    end.requested(1).unwrap();
    end.end("cut");
    assert_eq!(end.step(), None);
    assert_eq!(end.ended(), Some("cut"));
    assert_eq!(end.step(), None);
}

#[test]
fn a_user_without_interest_hears_nothing() {
    let mut end = End::ask();
    end.accepted(1).unwrap();
    end.abandon();
    end.end("cut");
    assert_eq!((end.step(), end.ended()), (None, None));
}

#[test]
fn who_listens_cannot_be_told_that_it_asked() {
    let mut end = End::listen();
    assert_eq!(end.accepted(1), Err(OutOfTurn));
    assert_eq!(end.confirmed(), Err(OutOfTurn));
    end.requested(2).unwrap();
    assert_eq!(end.confirmed(), Err(OutOfTurn), "it has not answered");
    assert_eq!(end.requested(3), Err(OutOfTurn));
    assert_eq!(
        end.step(),
        Some(Step::Answer(2)),
        "and what was right stands"
    );
}

#[derive(Clone, Copy, Debug)]
enum Said {
    Request(u32),
    Accept(u32),
    Confirm,
    /// Nothing: the work item looks.
    Look,
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        any::<u32>().prop_map(Said::Request),
        any::<u32>().prop_map(Said::Accept),
        Just(Said::Confirm),
        Just(Said::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A peer that says anything in any order gets one answer at most, and the link is up once at most:
    /// after an answer of ours was confirmed, or the peer's answer came.
    #[test]
    fn no_peer_brings_a_link_up_twice(
        asks in any::<bool>(),
        words in prop::collection::vec(said(), 0..40),
    ) {
        let mut end = if asks { End::ask() } else { End::listen() };
        let (mut answers, mut ups) = (0, 0);
        for word in words {
            let _ = match word {
                Said::Request(hello) => end.requested(hello),
                Said::Accept(hello) => end.accepted(hello),
                Said::Confirm => end.confirmed(),
                Said::Look => Ok(()),
            };
            while let Some(step) = matches!(word, Said::Look).then(|| end.step()).flatten() {
                match step {
                    Step::Answer(_) => answers += 1,
                    Step::Confirm(_) => {
                        prop_assert!(asks);
                        ups += 1;
                    }
                    Step::Up => {
                        prop_assert_eq!(answers, 1);
                        ups += 1;
                    }
                }
            }
        }
        prop_assert!(answers <= usize::from(!asks));
        prop_assert!(ups <= 1);
    }
}
