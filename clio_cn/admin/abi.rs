// SPDX-License-Identifier: GPL-2.0

//! What `include/uapi/linux/clio.h` has for operators.

use crate::uapi::NAME_MAX;
use kernel::{
    ioctl::{_IOW, _IOWR},
    prelude::*,
    transmute::{AsBytes, FromBytes},
};

/// `CLIO_NODE_DRAINING`.
pub(super) const DRAINING: u32 = 1 << 0;
/// `CLIO_REMOVE_FORCE`.
pub(super) const FORCE: u32 = 1 << 0;

/// `struct clio_memory_node`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct MemoryNode {
    pub(super) id: u32,
    pub(super) error: i32,
    pub(super) flags: u32,
    pub(super) port: u32,
    pub(super) incarnation: u64,
    pub(super) page_size: u64,
    pub(super) size: u64,
    pub(super) free: u64,
    pub(super) promised: u64,
    pub(super) limit: u64,
    pub(super) allowance: u64,
    pub(super) load: u64,
    pub(super) regions: u32,
    pub(super) spaces: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_space`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Space {
    pub(super) id: u64,
    pub(super) name: [u8; NAME_MAX + 1],
    pub(super) region_size: u64,
    pub(super) quota: u64,
    pub(super) granted: u64,
    pub(super) version: u64,
    pub(super) home: u32,
    pub(super) pin: u32,
    pub(super) owner: u32,
    pub(super) regions: u32,
    pub(super) attached: u32,
    pub(super) reserved0: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_region`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Region {
    pub(super) addr: u64,
    pub(super) allowance: u64,
    pub(super) incarnation: u64,
    pub(super) index: u32,
    pub(super) node: u32,
}

/// `struct clio_list`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct List {
    pub(super) items: u64,
    pub(super) nr: u32,
    pub(super) timeout_ms: u32,
    pub(super) ras: u64,
    pub(super) silent: u32,
    pub(super) reserved0: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_drain`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Drain {
    pub(super) node: u32,
    pub(super) on: u32,
    pub(super) timeout_ms: u32,
    pub(super) reserved0: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_move`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub(super) ras: u64,
    pub(super) index: u32,
    pub(super) to: u32,
    pub(super) timeout_ms: u32,
    pub(super) reserved0: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_remove`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Remove {
    pub(super) ras: u64,
    pub(super) flags: u32,
    pub(super) timeout_ms: u32,
    pub(super) reserved: [u64; 2],
}

/// `struct clio_quota`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Quota {
    pub(super) ras: u64,
    pub(super) quota: u64,
    pub(super) timeout_ms: u32,
    pub(super) reserved0: u32,
    pub(super) reserved: [u64; 2],
}

static_assert!(size_of::<MemoryNode>() == 104);
static_assert!(size_of::<Space>() == 144);
static_assert!(size_of::<Region>() == 32);
static_assert!(size_of::<List>() == 48);
static_assert!(size_of::<Drain>() == 32);
static_assert!(size_of::<Move>() == 40);
static_assert!(size_of::<Remove>() == 32);
static_assert!(size_of::<Quota>() == 40);

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: Integers only, and by the assertions above no padding between them.
        unsafe impl AsBytes for $t {}
        // SAFETY: Integers only: all bit patterns are values.
        unsafe impl FromBytes for $t {}
    )*};
}
plain!(MemoryNode, Space, Region, List, Drain, Move, Remove, Quota);

const MAGIC: u32 = 0xb9;
pub(super) const IOC_NODES: u32 = _IOWR::<List>(MAGIC, 10);
pub(super) const IOC_SPACES: u32 = _IOWR::<List>(MAGIC, 11);
pub(super) const IOC_REGIONS: u32 = _IOWR::<List>(MAGIC, 12);
pub(super) const IOC_DRAIN: u32 = _IOW::<Drain>(MAGIC, 13);
pub(super) const IOC_MOVE: u32 = _IOW::<Move>(MAGIC, 14);
pub(super) const IOC_REMOVE: u32 = _IOW::<Remove>(MAGIC, 15);
pub(super) const IOC_QUOTA: u32 = _IOW::<Quota>(MAGIC, 16);
