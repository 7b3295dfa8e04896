// SPDX-License-Identifier: GPL-2.0

//! Regions, locks and barriers in include/uapi/linux/rdma_lite.h, field by field.

use super::MAGIC;
use kernel::{
    ioctl::{_IOW, _IOWR},
    prelude::*,
    static_assert,
    transmute::{AsBytes, FromBytes},
};

pub(crate) const REGION_KEEP: u32 = 1;
pub(crate) const FETCH_ADD: u32 = 1;
pub(crate) const COMPARE_SWAP: u32 = 2;
pub(crate) const FOREVER: u32 = u32::MAX;
pub(crate) const TRY: u32 = 1;

/// `struct rdma_lite_region`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Region {
    pub(crate) node: u32,
    pub(crate) rights: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) len: u64,
    pub(crate) handle: u64,
    pub(crate) name: [u8; 64],
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_lend`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Lend {
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) handle: u64,
    pub(crate) rights: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 64],
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_handle`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Handle {
    pub(crate) handle: u64,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
}

/// `struct rdma_lite_grant`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Grant {
    pub(crate) handle: u64,
    pub(crate) node: u32,
    pub(crate) rights: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
}

/// `struct rdma_lite_io`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Io {
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) buf: u64,
    pub(crate) done: u64,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
}

/// `struct rdma_lite_fill`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Fill {
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) value: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) reserved: u64,
}

/// `struct rdma_lite_copy`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Copying {
    pub(crate) from: u64,
    pub(crate) from_offset: u64,
    pub(crate) to: u64,
    pub(crate) to_offset: u64,
    pub(crate) len: u64,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
}

/// `struct rdma_lite_atomic`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct AtomicOp {
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) operand: u64,
    pub(crate) expected: u64,
    pub(crate) old: u64,
    pub(crate) op: u32,
    pub(crate) timeout_ms: u32,
}

/// `struct rdma_lite_region_info`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct RegionInfo {
    pub(crate) handle: u64,
    pub(crate) timeout_ms: u32,
    pub(crate) node: u32,
    pub(crate) rights: u32,
    pub(crate) others: u32,
    pub(crate) flags: u32,
    pub(crate) chunk_size: u32,
    pub(crate) len: u64,
    pub(crate) handles: u64,
    pub(crate) mmap_offset: u64,
    pub(crate) reserved: u64,
}

/// `struct rdma_lite_lock`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Lock {
    pub(crate) node: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) reserved: u32,
    pub(crate) handle: u64,
    pub(crate) grant: u64,
    pub(crate) name: [u8; 64],
}

/// `struct rdma_lite_barrier`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Barrier {
    pub(crate) node: u32,
    pub(crate) count: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 64],
}

static_assert!(size_of::<Region>() == 112);
static_assert!(size_of::<Lend>() == 112);
static_assert!(size_of::<Handle>() == 16);
static_assert!(size_of::<Grant>() == 24);
static_assert!(size_of::<Io>() == 48);
static_assert!(size_of::<Fill>() == 40);
static_assert!(size_of::<Copying>() == 48);
static_assert!(size_of::<AtomicOp>() == 48);
static_assert!(size_of::<RegionInfo>() == 64);
static_assert!(size_of::<Lock>() == 96);
static_assert!(size_of::<Barrier>() == 80);

plain!(Region, Lend, Handle, Grant, Io, Fill, Copying, AtomicOp, RegionInfo, Lock, Barrier);

pub(crate) const IOC_ALLOC: u32 = _IOWR::<Region>(MAGIC, 32);
pub(crate) const IOC_MAP: u32 = _IOWR::<Region>(MAGIC, 33);
pub(crate) const IOC_UNMAP: u32 = _IOW::<Handle>(MAGIC, 34);
pub(crate) const IOC_FREE: u32 = _IOW::<Handle>(MAGIC, 35);
pub(crate) const IOC_GRANT: u32 = _IOW::<Grant>(MAGIC, 36);
pub(crate) const IOC_READ: u32 = _IOWR::<Io>(MAGIC, 37);
pub(crate) const IOC_WRITE: u32 = _IOWR::<Io>(MAGIC, 38);
pub(crate) const IOC_FILL: u32 = _IOW::<Fill>(MAGIC, 39);
pub(crate) const IOC_COPY: u32 = _IOW::<Copying>(MAGIC, 40);
pub(crate) const IOC_ATOMIC: u32 = _IOWR::<AtomicOp>(MAGIC, 41);
pub(crate) const IOC_REGION: u32 = _IOWR::<RegionInfo>(MAGIC, 42);
pub(crate) const IOC_LEND: u32 = _IOWR::<Lend>(MAGIC, 45);
pub(crate) const IOC_LOCK: u32 = _IOWR::<Lock>(MAGIC, 48);
pub(crate) const IOC_UNLOCK: u32 = _IOW::<Handle>(MAGIC, 49);
pub(crate) const IOC_BARRIER: u32 = _IOW::<Barrier>(MAGIC, 50);
