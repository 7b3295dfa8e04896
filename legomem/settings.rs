// SPDX-License-Identifier: GPL-2.0

//! What is set in configfs before a memory node is switched on.

use crate::core::{board::Config, wire};
use kernel::prelude::*;

/// See the file's beginning.
pub(crate) struct Settings {
    /// Name of the rdma_lite node; empty for that of the namespace.
    pub(crate) node: KVec<u8>,
    /// Bytes of the pool; 0: all of the device.
    pub(crate) size: u64,
    /// `1 << page_shift` bytes to a page.
    pub(crate) page_shift: u8,
    /// Path of a pmem device; empty for DRAM.
    pub(crate) device: KVec<u8>,
    pub(crate) udp_port: u16,
    /// Percent of the pool that may be promised.
    pub(crate) overcommit: u32,
    /// Effects that are remembered.
    pub(crate) dedup: u32,
    /// Address spaces that can have regions here.
    pub(crate) spaces: u32,
}

impl Settings {
    pub(crate) fn new() -> Self {
        Self {
            node: KVec::new(),
            size: 0,
            page_shift: *Config::PAGE_SHIFT.end(),
            device: KVec::new(),
            udp_port: wire::UDP_PORT,
            overcommit: 100,
            dedup: 1 << 16,
            spaces: 4096,
        }
    }
}
