// SPDX-License-Identifier: GPL-2.0

//! rdma_lite: nodes, maps and calls over RDMA, for other kernel modules.
//!
//! What holds where:
//! - [`core`] is the protocol: pure code, the same on the host. It is compiled as `mod core`, so
//!   this file writes `::core` for the language's own crate.
//! - [`node`] is a directory in configfs; while it is switched on it has a [`host`], which has the
//!   map and a [`peer`] for each other node, which has at most one connection ([`transport`]).
//! - [`call`] makes calls, [`port`] executes them. [`device`] is /dev/rdma_lite, [`abi`] is
//!   include/linux/rdma_lite.h, [`stats`] what debugfs shows of calls, [`trace`]
//!   what tracefs shows, [`users`] who has opened the
//!   device, and how much of everything it may have.
//! - On calls of its own ([`ask`]) stand memory regions ([`region`]), locks and barriers ([`sync`]);
//!   [`releases`] gives back what was given up while its owner was not there.
//!
//! Locks, in the order in which they are taken: the registry of nodes, `Node::power`, `Host::map`,
//! `Host::peers`, `Peer::state`, then those of links, ports and events, which are leaves. Those of
//! regions and of locks and barriers come before `Host::map`; none is held during a call. The
//! connection manager's locks are taken before `Host::peers` by requests, so none of ours is held
//! when a connection is made or destroyed.

mod abi;
mod ask;
mod call;
mod configfs;
// The host uses more of it than the module.
#[allow(dead_code, unreachable_pub, unused_imports)]
mod core;
mod device;
mod events;
mod host;
mod node;
mod notify;
mod peer;
mod poll;
mod port;
mod region;
mod releases;
mod stats;
mod sync;
mod trace;
mod transport;
mod uapi;
mod users;

#[cfg(CONFIG_KUNIT = "y")]
mod tests;

use kernel::{
    miscdevice::{MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
};

/// Names us as the owner of RDMA resources.
const OWNER: &CStr = c"rdma_lite";

module! {
    type: RdmaLite,
    name: "rdma_lite",
    authors: ["Potluck maintainers"],
    description: "Nodes, maps and calls over RDMA",
    license: "GPL v2",
}

#[pin_data]
struct RdmaLite {
    #[pin]
    calls: stats::Files,
    #[pin]
    device: MiscDeviceRegistration<device::Opened>,
    #[pin]
    nodes: kernel::configfs::Subsystem<configfs::Root>,
    // Last: what the others leave to be done is done before it is gone.
    queues: host::Drained,
}

impl kernel::InPlaceModule for RdmaLite {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: Called once, before anything else of the module runs.
        unsafe { node::REGISTRY.init() };
        try_pin_init!(Self {
            queues: host::Drained(host::Queues::new()?),
            nodes <- configfs::subsystem(queues.0.clone()),
            calls <- stats::Files::new(),
            device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: OWNER }),
        })
    }
}
