// SPDX-License-Identifier: GPL-2.0

//! The user ABI, as `include/uapi/linux/clio.h` has it.

use kernel::{
    ioctl::{_IO, _IOR, _IOW, _IOWR},
    prelude::*,
    transmute::{AsBytes, FromBytes},
    uaccess::{UserPtr, UserSlice},
};

pub(crate) const ABI_VERSION: u32 = 1;
pub(crate) const NAME_MAX: usize = 63;
pub(crate) const MAX_BATCH: u32 = 1024;
pub(crate) const MAX_LEN: u64 = 4 << 20;

/// `enum clio_opcode`.
pub(crate) mod opcode {
    pub(crate) const READ: u32 = 1;
    pub(crate) const WRITE: u32 = 2;
    pub(crate) const TAS: u32 = 3;
    pub(crate) const CAS: u32 = 4;
    pub(crate) const FAA: u32 = 5;
    pub(crate) const LOCK: u32 = 6;
    pub(crate) const UNLOCK: u32 = 7;
    pub(crate) const RELEASE: u32 = 8;
    pub(crate) const FENCE: u32 = 9;
    pub(crate) const ALLOC: u32 = 10;
    pub(crate) const FREE: u32 = 11;
    pub(crate) const OFFLOAD: u32 = 12;
}

/// `CLIO_ASYNC`.
pub(crate) const ASYNC: u32 = 1;

/// `struct clio_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Info {
    pub(crate) abi_version: u32,
    pub(crate) node: u32,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) ras: u64,
    pub(crate) base: u64,
    pub(crate) region_size: u64,
    pub(crate) outstanding: u32,
    pub(crate) reserved0: u32,
    pub(crate) reserved: [u64; 4],
}

/// `struct clio_ras`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Ras {
    pub(crate) name: [u8; NAME_MAX + 1],
    pub(crate) key: [u64; 2],
    pub(crate) quota: u64,
    pub(crate) region_size: u64,
    pub(crate) home: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) id: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct clio_op`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Op {
    pub(crate) opcode: u32,
    pub(crate) flags: u32,
    pub(crate) addr: u64,
    pub(crate) len: u64,
    pub(crate) buf: u64,
    pub(crate) arg: [u64; 3],
    pub(crate) cookie: u64,
    pub(crate) value: u64,
    pub(crate) error: i32,
    pub(crate) reserved: u32,
}

/// `struct clio_submit`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Submit {
    pub(crate) ops: u64,
    pub(crate) nr: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) done: u32,
    pub(crate) reserved: [u64; 2],
}

/// `struct clio_completion`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Completion {
    pub(crate) cookie: u64,
    pub(crate) value: u64,
    pub(crate) error: i32,
    pub(crate) opcode: u32,
}

/// `struct clio_poll`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Poll {
    pub(crate) completions: u64,
    pub(crate) nr: u32,
    pub(crate) min: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u64; 2],
}

/// `CLIO_LRU`, `CLIO_FIFO`.
pub(crate) const LRU: u32 = 0;
pub(crate) const FIFO: u32 = 1;
/// `CLIO_CACHE_SHARED`.
pub(crate) const CACHE_SHARED: u32 = 1;

/// `struct clio_cache`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Cache {
    pub(crate) size: u64,
    pub(crate) ways: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u32,
    pub(crate) reserved0: u32,
    pub(crate) hits: u64,
    pub(crate) fetches: u64,
    pub(crate) zeros: u64,
    pub(crate) evictions: u64,
    pub(crate) write_backs: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct clio_range`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Range {
    pub(crate) addr: u64,
    pub(crate) len: u64,
}

static_assert!(size_of::<Cache>() == 96);
static_assert!(size_of::<Range>() == 16);
static_assert!(size_of::<Info>() == 88);
static_assert!(size_of::<Ras>() == 144);
static_assert!(size_of::<Op>() == 80);
static_assert!(size_of::<Submit>() == 40);
static_assert!(size_of::<Completion>() == 24);
static_assert!(size_of::<Poll>() == 40);

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: Integers only, and by the assertions above no padding between them.
        unsafe impl AsBytes for $t {}
        // SAFETY: Integers only: all bit patterns are values.
        unsafe impl FromBytes for $t {}
    )*};
}
plain!(Info, Ras, Op, Submit, Completion, Poll, Cache, Range);

const MAGIC: u32 = 0xb9;
pub(crate) const IOC_INFO: u32 = _IOR::<Info>(MAGIC, 0);
pub(crate) const IOC_CREATE: u32 = _IOWR::<Ras>(MAGIC, 1);
pub(crate) const IOC_ATTACH: u32 = _IOWR::<Ras>(MAGIC, 2);
pub(crate) const IOC_DETACH: u32 = _IO(MAGIC, 3);
pub(crate) const IOC_DESTROY: u32 = _IOW::<Ras>(MAGIC, 4);
pub(crate) const IOC_SUBMIT: u32 = _IOWR::<Submit>(MAGIC, 5);
pub(crate) const IOC_POLL: u32 = _IOWR::<Poll>(MAGIC, 6);

pub(crate) const IOC_CACHE: u32 = _IOWR::<Cache>(MAGIC, 7);
pub(crate) const IOC_SYNC: u32 = _IOW::<Range>(MAGIC, 8);
pub(crate) const IOC_DROP: u32 = _IOW::<Range>(MAGIC, 9);

/// Reads one of the structs above.
pub(crate) fn read<T: FromBytes>(from: usize) -> Result<T> {
    UserSlice::new(UserPtr::from_addr(from), size_of::<T>())
        .reader()
        .read()
}

/// Writes one of the structs above.
pub(crate) fn write<T: AsBytes>(to: usize, value: &T) -> Result {
    UserSlice::new(UserPtr::from_addr(to), size_of::<T>())
        .writer()
        .write(value)
}
