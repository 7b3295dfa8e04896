// SPDX-License-Identifier: GPL-2.0

//! A memory node, as the compute node sees it.

use super::{
    request::SENDING,
    rtt::{self, Rtt},
    table::Queue,
    window::{self, Cwnd},
};

/// A node of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapNode {
    /// Its id.
    pub id: u32,
    /// Expected to answer.
    pub up: bool,
    /// Its life; 0 while that is not known.
    pub incarnation: u64,
}

/// What is known of a memory node.
#[derive(Debug)]
pub struct Peer {
    pub(super) node: MapNode,
    pub(super) rtt: Rtt,
    pub(super) cwnd: Cwnd,
    /// Requests that have something to send.
    pub(super) sending: Queue<SENDING>,
}

impl Peer {
    pub(super) fn new(node: MapNode, rtt: rtt::Config, window: window::Config) -> Self {
        Self {
            node,
            rtt: Rtt::new(rtt),
            cwnd: Cwnd::new(window),
            sending: Queue::default(),
        }
    }

    /// What the map says.
    pub fn node(&self) -> MapNode {
        self.node
    }

    /// How long it takes to answer.
    pub fn rtt(&self) -> &Rtt {
        &self.rtt
    }

    /// How much may be outstanding there.
    pub fn cwnd(&self) -> &Cwnd {
        &self.cwnd
    }
}
