// SPDX-License-Identifier: GPL-2.0

//! Points at which a node can be stopped.

use hotpot_core::core::{
    halt::{Halt, Passing, Point},
    msg::{AskRecords, AskTrace, AskWriters, Hello, Request, Stage},
};

fn halt(text: &str) -> Halt {
    text.parse().unwrap()
}

#[test]
fn a_node_stops_at_the_point_that_was_named_and_at_no_other() {
    let at = halt("handle stage");
    assert_eq!(at.pass(Point::Handle(Stage::OPCODE)), Passing::Stop);
    assert_eq!(at.pass(Point::Handled(Stage::OPCODE)), Passing::On);
    assert_eq!(at.pass(Point::Handle(Hello::OPCODE)), Passing::On);
    assert_eq!(at.pass(Point::Fence), Passing::On);
    assert_eq!(halt("fence").pass(Point::Fence), Passing::Stop);
    let last = halt("sent ask-writers");
    assert_eq!(last.pass(Point::Sent(AskWriters::OPCODE)), Passing::Stop);
    assert_eq!(halt("").pass(Point::Fence), Passing::On);
}

#[test]
fn a_point_can_be_passed_some_times_before() {
    let mut at = halt("sent hello 2");
    for left in ["sent hello 1", "sent hello"] {
        let Passing::Count(next) = at.pass(Point::Sent(Hello::OPCODE)) else {
            panic!("{at}");
        };
        assert_eq!(next.to_string(), left);
        at = next;
    }
    assert_eq!(at.pass(Point::Sent(Hello::OPCODE)), Passing::Stop);
}

#[test]
fn what_is_written_is_read_back() {
    for text in [
        "fence",
        "fence 7",
        "send prepare",
        "handled ask-records 4294967295",
    ] {
        assert_eq!(halt(text).to_string(), text);
    }
    assert_eq!(halt(" \n").to_string(), "none");
    assert_eq!(
        halt("send ask-records").pass(Point::Send(AskRecords::OPCODE)),
        Passing::Stop
    );
    assert_eq!(
        halt("send ask-trace").pass(Point::Send(AskTrace::OPCODE)),
        Passing::Stop
    );
}

#[test]
fn what_names_no_point_is_refused() {
    for text in [
        "send",
        "send nothing",
        "fence x",
        "fence -1",
        "fence 1 2",
        "stage",
        "handle stage 4294967296",
    ] {
        assert!(text.parse::<Halt>().is_err(), "{text}");
    }
}
