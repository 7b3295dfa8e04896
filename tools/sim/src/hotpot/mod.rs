// SPDX-License-Identifier: GPL-2.0

//! A cluster of hotpot nodes: the real core on simulated PM, with simulated
//! processes, RPCs, maps, crashes and restarts.

pub mod beside;
pub mod campaign;
pub mod host;
pub mod model;
pub mod script;
pub mod workload;
pub mod world;
