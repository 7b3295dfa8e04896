// SPDX-License-Identifier: GPL-2.0

//! One node: what the kernel edge keeps around the core.

use super::{
    ledger::Tag,
    receive::{self, Arrived},
};
use crate::schedule::Time;
use rdma_lite_core::core::{Config, Generation, Local, Membership, Peer, ReceiveQueue};
use std::collections::{BTreeMap, HashMap};

/// The edge's half of a call.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) tag: Tag,
    pub(super) request: Vec<u8>,
    /// Key of its reply buffer; 0 for none.
    pub(super) rkey: u32,
}

/// A reply buffer, and the connection through which it may be written.
pub(super) struct Window {
    pub(super) bytes: Vec<u8>,
    pub(super) conn: Option<usize>,
}

/// The edge's half of a peer.
pub(super) struct Remote {
    pub(super) core: Peer<Token, Vec<u8>>,
    /// The ring that we receive in.
    pub(super) ring: Vec<u8>,
    /// Connections that we know of, by generation: index into the world's list,
    /// and which end is ours.
    pub(super) conns: BTreeMap<Generation, (usize, usize)>,
    /// The newest of them.
    pub(super) conn: Option<usize>,
    /// When the armed timer fires.
    pub(super) armed: Time,
    /// When it fired last, and how often at that time.
    pub(super) ticks: (Time, u32),
}

/// A life of a node.
pub(super) struct Node {
    pub(super) membership: Membership,
    pub(super) remotes: BTreeMap<u16, Remote>,
    /// Reply buffers that peers may write to, by key.
    pub(super) buffers: HashMap<u32, Window>,
    /// Handlers and processes that execute.
    pub(super) running: usize,
    /// What processes receive.
    pub(super) queue: ReceiveQueue<Arrived>,
}

impl Node {
    pub(super) fn new(config: &Config, local: Local, others: impl Iterator<Item = u16>) -> Self {
        let remote = |id| Remote {
            core: Peer::new(*config, local, id).expect("the configuration is sound"),
            ring: vec![0; 1 << config.ring_log2],
            conns: BTreeMap::new(),
            conn: None,
            armed: Time::MAX,
            ticks: (0, 0),
        };
        Self {
            membership: Membership::new(local),
            remotes: others.map(|id| (id, remote(id))).collect(),
            buffers: HashMap::new(),
            running: 0,
            queue: receive::queue(),
        }
    }

    pub(super) fn life(&self) -> u64 {
        self.membership.local().incarnation
    }
}
