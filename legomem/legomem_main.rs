// SPDX-License-Identifier: GPL-2.0

//! legomem: a memory node. It serves memory to compute nodes (clio_cn) over UDP.
//!
//! Chapter 4 of the dissertation is its source; `Documentation/design/legomem.md` says how it works,
//! `Documentation/clio-protocol.md` what the packets are. Every decision is made in [`core`], which
//! is the same on the host. It is compiled as `mod core`, so this file writes `::core` for the
//! language's own crate. Around it:
//!
//! - [`configfs`]: a directory for each memory node; while it is switched on it has a [`node`];
//! - [`receive`]: the fast path, where packets arrive; [`answer`]: how they are answered;
//! - [`workers`]: slow path, offloads, cleaning of pages, migration, once a second's chores;
//! - [`cluster`]: the control plane over rdma_lite's calls, and its maps;
//! - [`pages`]: where the memory is; [`statistics`]: debugfs.
//!
//! Locks, in the order in which they are taken: the settings of a directory, the slow path's mutex,
//! a reply buffer, the board's lock, a queue's. The board's lock and those of queues and buffers are
//! taken in softirq context.

mod answer;
mod cluster;
mod configfs;
// The host uses more of it than the module.
#[allow(dead_code, unused_imports)]
mod core;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod node;
mod pages;
mod receive;
mod settings;
mod statistics;
mod workers;

#[path = "../rdma_lite/face.rs"]
mod rdma_lite;

use kernel::{debugfs, prelude::*};

module! {
    type: Legomem,
    name: "legomem",
    authors: ["Potluck maintainers"],
    description: "Memory served to compute nodes over UDP",
    license: "GPL v2",
}

#[pin_data]
struct Legomem {
    #[pin]
    directories: kernel::configfs::Subsystem<configfs::Root>,
    // Last: what the others leave to be done is done before it is gone.
    queues: workers::Drained,
}

impl kernel::InPlaceModule for Legomem {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            queues: workers::Drained(workers::Queues::new(debugfs::Dir::new(c"legomem"))?),
            directories <- configfs::subsystem(queues.0.clone()),
        })
    }
}
