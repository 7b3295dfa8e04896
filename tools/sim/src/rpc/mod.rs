// SPDX-License-Identifier: GPL-2.0

//! Nodes of rdma_lite on a simulated network: the real core, driven as the
//! kernel edge drives it, while links are cut, connections break, nodes crash
//! and come back, maps change and allocations fail.

mod ledger;
mod node;
mod receive;
mod wire;
mod world;

pub use ledger::Summary;
pub use world::{Chaos, World};
