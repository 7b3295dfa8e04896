// SPDX-License-Identifier: GPL-2.0

//! The protocol core of clio_cn.

// The module keeps the core to itself; tools and the simulator see it from other crates.
#![allow(unreachable_pub)]

pub mod cache;
#[path = "../../legomem/core/control.rs"]
pub mod control;
pub mod disk;
pub mod engine;
pub mod op;
pub mod peer;
mod request;
pub mod rtt;
mod space;
pub mod table;
pub mod window;
#[path = "../../legomem/core/wire.rs"]
pub mod wire;
