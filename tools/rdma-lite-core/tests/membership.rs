// SPDX-License-Identifier: GPL-2.0

//! Maps: which are taken, and whom they admit.

use kernel::{alloc::inject, prelude::*};
use rdma_lite_core::core::{
    wire::RingAddress, Hello, Local, MapNode, Membership, NodeAddress, NodeState, Published,
    RejectReason,
};

const CLUSTER: [u8; 16] = [7; 16];

fn node(id: u16, state: NodeState, incarnation: u64) -> MapNode {
    let mut name = [0; 64];
    name[0] = b'n';
    name[1..3].copy_from_slice(&id.to_be_bytes().map(|byte| byte + 1));
    MapNode {
        id,
        state,
        roles: 0,
        incarnation,
        address: NodeAddress {
            ipv6: false,
            addr: [0; 16],
            port: 1,
        },
        name,
    }
}

fn up(id: u16) -> MapNode {
    node(id, NodeState::Up, 0)
}

fn membership() -> Membership {
    Membership::new(Local {
        id: 1,
        incarnation: 100,
        cluster: CLUSTER,
    })
}

fn hello(src: u16, incarnation: u64) -> Hello {
    Hello {
        lane: 0,
        src,
        dst: 1,
        cluster: CLUSTER,
        incarnation,
        epoch: 1,
        ring: RingAddress {
            addr: 0,
            rkey: 0,
            size_log2: 20,
            depth_log2: 8,
            slots_log2: 8,
        },
    }
}

#[test]
fn the_epoch_only_grows() {
    let mut m = membership();
    assert_eq!(m.publish(5, &[up(1), up(2)]), Ok(Published::New));
    assert_eq!(m.publish(4, &[up(1), up(2)]), Err(ESTALE));
    assert_eq!(m.publish(5, &[up(1), up(3)]), Err(ESTALE));
    assert_eq!(m.publish(6, &[up(1), up(3)]), Ok(Published::New));
    assert_eq!(m.epoch(), 6);
}

#[test]
fn the_very_same_map_may_be_published_again() {
    let mut m = membership();
    m.publish(5, &[up(1), up(2)]).unwrap();
    m.admit(&hello(2, 9)).unwrap();
    assert_eq!(m.publish(5, &[up(2), up(1)]), Ok(Published::Same));
}

#[test]
fn a_map_about_another_life_of_ours_is_stale() {
    let mut m = membership();
    let other_life = node(1, NodeState::Up, 99);
    assert_eq!(m.publish(1, &[other_life]), Err(ESTALE));
    let ours = node(1, NodeState::Up, 100);
    assert_eq!(m.publish(1, &[ours]), Ok(Published::New));
}

#[test]
fn malformed_maps_are_refused() {
    let mut m = membership();
    assert_eq!(m.publish(0, &[up(1)]), Err(EINVAL));
    assert_eq!(m.publish(1, &[up(0)]), Err(EINVAL));
    assert_eq!(m.publish(1, &[up(1), up(1)]), Err(EINVAL));
    let unnamed = MapNode {
        name: [0; 64],
        ..up(2)
    };
    let endless = MapNode {
        name: [b'x'; 64],
        ..up(2)
    };
    let twin = MapNode { id: 3, ..up(2) };
    assert_eq!(m.publish(1, &[unnamed]), Err(EINVAL));
    assert_eq!(m.publish(1, &[endless]), Err(EINVAL));
    assert_eq!(m.publish(1, &[up(2), twin]), Err(EINVAL));
    assert_eq!(m.epoch(), 0);
}

#[test]
fn a_failed_allocation_leaves_the_old_map_in_force() {
    let mut m = membership();
    m.publish(1, &[up(1), up(2)]).unwrap();
    for n in 0.. {
        let failing = inject::fail_nth(n);
        let result = m.publish(2, &[up(1), up(2), up(3)]);
        if !failing.fired() {
            assert_eq!(result, Ok(Published::New));
            assert!(n > 0);
            break;
        }
        assert_eq!(result, Err(ENOMEM));
        assert_eq!((m.epoch(), m.nodes().len()), (1, 2));
    }
}

#[test]
fn strangers_and_members_that_are_down_or_out_are_not_admitted() {
    let mut m = membership();
    assert_eq!(m.admit(&hello(2, 9)), Err(RejectReason::NotMember));
    let down = node(2, NodeState::Down, 0);
    let out = node(3, NodeState::Out, 0);
    m.publish(1, &[up(1), down, out]).unwrap();
    for id in [1, 2, 3, 4] {
        assert_eq!(m.admit(&hello(id, 9)), Err(RejectReason::NotMember));
    }
}

#[test]
fn a_node_of_another_cluster_is_not_admitted() {
    let mut m = membership();
    m.publish(1, &[up(1), up(2)]).unwrap();
    let foreign = Hello {
        cluster: [8; 16],
        ..hello(2, 9)
    };
    assert_eq!(m.admit(&foreign), Err(RejectReason::Cluster));
    let misled = Hello {
        dst: 5,
        ..hello(2, 9)
    };
    assert_eq!(m.admit(&misled), Err(RejectReason::WrongNode));
}

#[test]
fn a_life_that_was_met_changes_only_with_the_map() {
    let mut m = membership();
    m.publish(1, &[up(1), up(2)]).unwrap();
    assert_eq!(m.node(2).unwrap().incarnation, 0);
    m.admit(&hello(2, 50)).unwrap();
    assert_eq!(m.node(2).unwrap().incarnation, 50);
    m.met(2, 50).unwrap();
    assert_eq!(m.admit(&hello(2, 60)), Err(RejectReason::Incarnation));
    m.publish(2, &[up(1), up(2)]).unwrap();
    assert_eq!(m.node(2).unwrap().incarnation, 50);
    assert_eq!(m.admit(&hello(2, 40)), Err(RejectReason::Incarnation));
    assert_eq!(m.admit(&hello(2, 60)).map(|view| view.incarnation), Ok(60));
    assert_eq!(m.admit(&hello(2, 50)), Err(RejectReason::Incarnation));
}

#[test]
fn each_new_life_of_a_node_is_news_once() {
    let mut m = membership();
    m.publish(1, &[up(1), up(2)]).unwrap();
    assert_eq!(m.learnt(), 0);
    m.admit(&hello(2, 50)).unwrap();
    assert_eq!(m.learnt(), 1);
    m.met(2, 50).unwrap();
    m.admit(&hello(2, 60)).unwrap_err();
    assert_eq!(m.learnt(), 1);
    m.publish(2, &[up(1), node(2, NodeState::Down, 0)]).unwrap();
    m.publish(3, &[up(1), up(2)]).unwrap();
    m.met(2, 60).unwrap();
    assert_eq!(m.learnt(), 2);
}

#[test]
fn a_late_hello_of_an_earlier_life_does_not_keep_the_present_one_out() {
    // Of the present epoch too: a cluster that starts anew may count from 1 again.
    for epoch in [1, 2] {
        let mut m = membership();
        m.publish(2, &[up(1), up(2)]).unwrap();
        let of = |incarnation| Hello {
            epoch,
            ..hello(2, incarnation)
        };
        assert_eq!(m.admit(&of(50)).map(|view| view.pinned), Ok(false));
        assert_eq!(m.admit(&of(60)).map(|view| view.incarnation), Ok(60));
        assert_eq!(m.admit(&of(50)), Err(RejectReason::Incarnation));
        assert_eq!(m.met(2, 60).map(|view| view.pinned), Ok(true));
        assert_eq!(m.admit(&of(70)), Err(RejectReason::Incarnation));
    }
}

#[test]
fn an_incarnation_that_the_map_says_is_the_only_one() {
    let mut m = membership();
    m.publish(1, &[up(1), node(2, NodeState::Up, 50)]).unwrap();
    assert_eq!(m.admit(&hello(2, 51)), Err(RejectReason::Incarnation));
    assert!(m.admit(&hello(2, 50)).is_ok());
}

#[test]
fn a_node_that_left_the_map_sees_nobody_as_up() {
    let mut m = membership();
    m.publish(1, &[node(1, NodeState::Out, 0), up(2)]).unwrap();
    assert!(!m.is_member());
    assert!(!m.view(2).is_up());
    assert_eq!(m.admit(&hello(2, 9)), Err(RejectReason::NotMember));
}
