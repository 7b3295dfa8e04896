// SPDX-License-Identifier: GPL-2.0

//! Formatting and checking of hotpot devices, behind `mkfs.hotpot` and `fsck.hotpot`.

#![forbid(unsafe_code)]

pub mod check;
pub mod device;
pub mod make;
pub mod signature;
pub mod size;

pub use hotpot_core::core::format;
