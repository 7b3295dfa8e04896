// SPDX-License-Identifier: GPL-2.0

//! What rdma_lite builds on its own calls: locks, barriers and memory regions. The calls below are as
//! the [RPC core](crate::rpc) promises them: executed at most once, perhaps late, perhaps although
//! their caller was told nothing. Nodes crash and come back, maps drop them, epochs change.

mod calls;
mod region;
mod sync;

pub use region::{RegionSummary, RegionWorld};
pub use sync::{SyncSummary, SyncWorld};

/// How much happens.
#[derive(Clone, Copy, Debug)]
pub struct Chaos {
    /// Nodes, from 1.
    pub nodes: u16,
    /// Users on each node.
    pub users: u64,
    /// When users begin nothing new, and everything is mended.
    pub time: crate::schedule::Time,
    /// Something fails this often; 0 for never.
    pub fault_every: crate::schedule::Time,
}
