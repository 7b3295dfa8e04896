// SPDX-License-Identifier: GPL-2.0

//! Deterministic simulator of a cluster: the pure cores of the modules on a
//! simulated network and simulated persistent memory, in virtual time. A world
//! is made from one seed, and the same seed makes the same world.

#![forbid(unsafe_code)]

pub mod clio;
pub mod hotpot;
pub mod lite;
pub mod net;
pub mod pm;
pub mod rpc;
pub mod schedule;
