// SPDX-License-Identifier: GPL-2.0

//! hotpot: a file system of datasets in distributed shared persistent memory.
//!
//! Chapter 2 of the dissertation is its source; `Documentation/design/hotpot.md` says how it works.
//! Every decision is made in [`core`](crate::core), which knows nothing of the kernel. Around it:
//!
//! - [`mount`]: the options, the super block, and what a mount consists of;
//! - [`world`]: executes what the core asks for (memory, messages, waits);
//! - [`cluster`]: the RPC port, the map, and the worker of a mount;
//! - [`halt`]: stops the machine at a point of the protocol, for tests of recovery;
//! - [`dataset`]: inodes of datasets and their attributes; [`directory`]: their names;
//! - [`file`]: reads, writes, fsync; [`mapping`]: addresses and faults; [`control`]: the ioctls of
//!   [`uapi`].

#![crate_name = "hotpot"]

mod cluster;
mod control;
#[allow(dead_code, reason = "tools on the host use the rest of the format")]
mod core;
mod dataset;
mod directory;
mod file;
mod halt;
#[cfg(CONFIG_KUNIT = "y")]
mod kunit;
mod mapping;
mod mount;
mod uapi;
mod world;

#[path = "../rdma_lite/face.rs"]
mod rdma_lite;

use kernel::{fs, prelude::*};

module! {
    type: Hotpot,
    name: "hotpot",
    authors: ["Potluck maintainers"],
    description: "Distributed shared persistent memory file system",
    license: "GPL",
    alias: ["fs-hotpot"],
}

static FILE_SYSTEM: fs::FileSystemType<mount::HotpotFs> = fs::FileSystemType::new(&THIS_MODULE);

struct Hotpot {
    _registration: fs::Registration<mount::HotpotFs>,
    _halt: Pin<KBox<halt::Control>>,
}

impl kernel::Module for Hotpot {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        Ok(Self {
            _registration: FILE_SYSTEM.register()?,
            _halt: KBox::pin_init(halt::Control::new(), GFP_KERNEL)?,
        })
    }
}
