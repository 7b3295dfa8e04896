// SPDX-License-Identifier: GPL-2.0

//! The protocol core of hotpot, compiled for the host: the very files that the
//! module compiles.

#![forbid(unsafe_code)]

#[path = "../../../hotpot/core/mod.rs"]
pub mod core;
