// SPDX-License-Identifier: GPL-2.0

//! clio_cn: the compute node of clio. Remote memory as operations, as a mapping.
//!
//! Chapter 4 of the dissertation is its source; `Documentation/design/clio.md` says how it works.
//! Every decision of the protocol is made in [`core`], which knows nothing of the kernel. Around it:
//!
//! - [`station`]: the engine of one rdma_lite node, its socket, its map; [`timer`]: its timer;
//!   [`chores`]: what it asks of homes; [`statistics`]: debugfs;
//! - [`control`]: calls of memory nodes, and what is attached to;
//! - [`job`]: what kernel users hand in and hear back;
//! - [`device`]: /dev/clio by the ioctls of [`uapi`]; [`session`]: what belongs to an open;
//!   [`operation`]: the operations of an open; [`mapping`]: ranges mapped through the local cache;
//! - [`disk`]: block devices, by configfs;
//! - [`admin`]: what operators ask of memory nodes.
//!
//! Locks, in the order in which they are taken: the registry of stations, `Session::attached`,
//! `Mapping::cache`, `Session::operations`, `Station::inner`, then those of jobs, which are leaves.
//! Nothing is sent, and nobody told, with `Station::inner` held.

#![crate_name = "clio_cn"]

mod admin;
mod chores;
mod control;
#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "the host uses more of it than the module"
)]
mod core;
mod device;
mod disk;
mod job;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod mapping;
mod operation;
mod session;
mod station;
mod statistics;
mod timer;
mod uapi;

#[path = "../rdma_lite/face.rs"]
mod lite;

use kernel::{
    miscdevice::{MiscDeviceOptions, MiscDeviceRegistration},
    prelude::*,
};

module! {
    type: Clio,
    name: "clio_cn",
    authors: ["Potluck maintainers"],
    description: "Compute node of clio: remote memory",
    license: "GPL",
}

#[pin_data]
struct Clio {
    #[pin]
    device: MiscDeviceRegistration<session::Session>,
    #[pin]
    disks: kernel::configfs::Subsystem<disk::configfs::Root>,
    // Last: what the others leave to be done is done before it is gone.
    queue: station::Drained,
}

impl kernel::InPlaceModule for Clio {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        // SAFETY: Called once, before anything else of the module runs.
        unsafe {
            station::STATIONS.init();
            disk::configfs::NUMBERS.init();
        }
        try_pin_init!(Self {
            queue: station::Drained::new()?,
            device <- MiscDeviceRegistration::register(MiscDeviceOptions { name: c"clio" }),
            disks <- disk::configfs::subsystem(),
        })
    }
}
