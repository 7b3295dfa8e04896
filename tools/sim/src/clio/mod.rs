// SPDX-License-Identifier: GPL-2.0

//! Compute nodes and memory nodes of clio on a simulated network: the engine of
//! clio_cn drives memory nodes while packets are lost, repeated, reordered and
//! delayed, nodes are cut off, crash and come back empty, and regions move.

mod board;
mod history;
mod memory;
mod world;

pub use history::{check, Call, Event, Outcome};
pub use world::{Bug, Chaos, Summary, World};
