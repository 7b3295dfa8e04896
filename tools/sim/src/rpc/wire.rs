// SPDX-License-Identifier: GPL-2.0

//! Connections: what is on its way on each, and whether what is sent keeps
//! within the ring that the receiver gave.

use crate::net::{NodeId, Pipe};
use rdma_lite_core::core::{Config, Generation};
use std::collections::VecDeque;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct End {
    pub(super) node: NodeId,
    /// The life of the node that this end belongs to.
    pub(super) life: u64,
    pub(super) generation: Generation,
    /// The node has not torn it down.
    pub(super) open: bool,
    /// From this end to the other.
    pub(super) pipe: Pipe,
    /// Ring slots that this end wrote and the other has not consumed.
    written: VecDeque<(u32, u32)>,
    /// Receives of the other end that are taken.
    receives: usize,
}

impl End {
    pub(super) fn new(node: NodeId, life: u64, generation: Generation) -> Self {
        Self {
            node,
            life,
            generation,
            open: true,
            pipe: Pipe::default(),
            written: VecDeque::new(),
            receives: 0,
        }
    }

    fn take_receive(&mut self, config: &Config) {
        self.receives += 1;
        assert!(
            self.receives <= (1 << config.depth_log2) + Config::SPARE_RECEIVES,
            "more messages than receives"
        );
    }

    /// Writes a slot of the other end's ring.
    pub(super) fn write(&mut self, config: &Config, offset: u32, len: u32) {
        self.take_receive(config);
        let end = offset + len;
        assert!(end <= 1 << config.ring_log2, "beyond the end of the ring");
        for (there, its_len) in &self.written {
            assert!(
                end <= *there || *there + its_len <= offset,
                "slot {offset}+{len} overruns {there}+{its_len}, which is not consumed"
            );
        }
        self.written.push_back((offset, len));
    }

    /// Sends immediate data only.
    pub(super) fn write_nothing(&mut self, config: &Config) {
        self.take_receive(config);
    }

    /// The other end consumed the oldest slot.
    pub(super) fn consumed(&mut self) {
        self.written.pop_front();
        self.receives -= 1;
    }

    /// The other end took immediate data.
    pub(super) fn took_nothing(&mut self) {
        self.receives -= 1;
    }
}

/// What travels on a connection.
#[derive(Debug)]
pub(super) enum Frame {
    /// Bytes for the ring, and immediate data.
    Message {
        imm: u32,
        offset: u32,
        bytes: Vec<u8>,
    },
    /// Immediate data alone.
    Imm(u32),
    /// Bytes for the buffer of a call.
    Direct { rkey: u32, bytes: Vec<u8> },
}

/// A connection, from the active end 0 to the passive end 1.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) ends: [Option<End>; 2],
    /// Nodes of the two ends.
    pub(super) nodes: [NodeId; 2],
    /// Nothing arrives any more.
    pub(super) broken: bool,
}

impl Conn {
    /// Whether something is on its way.
    pub(super) fn is_busy(&self) -> bool {
        !self.broken && self.ends.iter().flatten().any(|end| end.receives != 0)
    }
}
