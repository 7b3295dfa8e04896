// SPDX-License-Identifier: GPL-2.0

//! The protocol core of clio_cn, compiled for the host: the very files that the
//! module compiles.

#![forbid(unsafe_code)]

#[path = "../../../clio_cn/core/mod.rs"]
pub mod core;
