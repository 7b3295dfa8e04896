// SPDX-License-Identifier: GPL-2.0

//! One peer, driven by hand: results of calls, bad input, failure detection.

use kernel::prelude::*;
use rdma_lite_core::core::{
    connection::State,
    wire::{digest, Header, Kind, RingAddress},
    Action, Class, Config, Health, Hello, Local, NewCall, NodeState, Payload, Peer, Received,
    Refusal, Reject, RejectReason, ReplyBuffer, Suspicion, View, Violation,
};

mod bad_messages;
mod calls;
mod classes;
mod failures;
mod refusals;

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

fn answer(header: Header) -> Header {
    let (mut peer, generation) = connected();
    let received = peer.message(MS, generation, 0, &header.encode());
    assert!(matches!(received, Ok(Received::Nothing)));
    sent(&mut peer, MS)
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
