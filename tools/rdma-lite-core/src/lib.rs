// SPDX-License-Identifier: GPL-2.0

//! The protocol core of rdma_lite, compiled for the host: the very files that
//! the module compiles.

#![forbid(unsafe_code)]

#[path = "../../../rdma_lite/core/mod.rs"]
pub mod core;
