// SPDX-License-Identifier: GPL-2.0

//! The memory node: pure code, the same in the module and on the host.

// The module keeps the core to itself; tools and the simulator see it from other crates.
#![allow(unreachable_pub)]

pub mod board;
pub mod control;
pub mod dedup;
pub mod fast;
pub mod handler;
pub mod home;
pub mod host;
pub mod members;
pub mod migrate;
pub mod offload;
pub mod page_table;
pub mod placement;
pub mod pool;
pub mod ranges;
pub mod slow;
pub mod space;
pub mod stats;
pub mod wire;
