// SPDX-License-Identifier: GPL-2.0

//! The memory node: pure code, the same in the module and on the host.

// The module keeps the core to itself; tools and the simulator see it from other crates.
#![allow(unreachable_pub)]

pub mod control;
pub mod wire;
