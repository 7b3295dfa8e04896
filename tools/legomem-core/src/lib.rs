// SPDX-License-Identifier: GPL-2.0

//! The core of legomem, compiled for the host: the very files that the module
//! compiles.

#![forbid(unsafe_code)]

#[path = "../../../legomem/core/mod.rs"]
pub mod core;
