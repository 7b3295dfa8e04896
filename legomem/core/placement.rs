// SPDX-License-Identifier: GPL-2.0

//! Which memory node gets a region (section 3.4.3): by free memory, and by load
//! among those that have enough.

use super::{control::NodeStat, home::Life};

/// A node that could get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which, in its present life.
    pub life: Life,
    /// UDP port of its legomem.
    pub port: u16,
    /// `1 << page_shift` bytes to a page.
    pub page_shift: u8,
    /// Bytes that it can still promise.
    pub room: u64,
    /// Requests of the last second.
    pub load: u64,
}

impl Candidate {
    /// From what the node says of itself; none if it takes no regions.
    pub fn new(stat: &NodeStat) -> Option<Self> {
        if stat.draining {
            return None;
        }
        Some(Self {
            life: Life {
                node: stat.node,
                incarnation: stat.incarnation,
            },
            port: stat.port,
            page_shift: stat.page_shift,
            room: stat.limit.saturating_sub(stat.promised) << stat.page_shift.min(63),
            load: stat.load,
        })
    }

    /// Bytes of room for each request that it has to serve already.
    fn score(&self, mean_load: u64) -> u64 {
        // A node of average load counts half of one that has nothing to do.
        let weight = mean_load.saturating_add(self.load).max(1);
        self.room / weight * mean_load.max(1)
    }
}

/// The index of the node that gets `bytes` bytes. `pin` is the only one in
/// question, if it is not 0.
pub fn place(nodes: &[Candidate], bytes: u64, pin: u16) -> Option<usize> {
    let total: u64 = nodes.iter().map(|node| node.load).sum();
    let mean = total / (nodes.len().max(1) as u64);
    nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| node.room >= bytes && (pin == 0 || node.life.node == pin))
        .max_by_key(|(at, node)| (node.score(mean), usize::MAX - at))
        .map(|(at, _)| at)
}
