// SPDX-License-Identifier: GPL-2.0

//! Deterministic simulator of a cluster.

pub mod pm;
