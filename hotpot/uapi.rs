// SPDX-License-Identifier: GPL-2.0

//! The user ABI, as `include/uapi/linux/hotpot.h` has it.

use kernel::{
    ioctl::{_IOW, _IOWR},
    transmute::{AsBytes, FromBytes},
};

/// `HOTPOT_SUPER_MAGIC`.
pub(crate) const SUPER_MAGIC: u32 = 0x504f_5448;
/// `HOTPOT_MAX_AREAS`.
pub(crate) const MAX_AREAS: u32 = 65536;
/// `enum hotpot_outcome_state`.
pub(crate) const OUTCOME_ABORTED: u32 = 1;
pub(crate) const OUTCOME_COMMITTED: u32 = 2;
pub(crate) const OUTCOME_PENDING: u32 = 3;
pub(crate) const OUTCOME_FORGOTTEN: u32 = 4;
/// `HOTPOT_ACQUIRE_WAIT`.
pub(crate) const ACQUIRE_WAIT: u32 = 1;

/// `struct hotpot_area`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Area {
    pub(crate) addr: u64,
    pub(crate) len: u64,
}

/// `struct hotpot_commit`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Commit {
    pub(crate) areas: u64,
    pub(crate) nr_areas: u32,
    pub(crate) replicas: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) cid: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct hotpot_setup`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Setup {
    pub(crate) replicas: u32,
    pub(crate) mode: u32,
    pub(crate) chunk_size: u64,
    pub(crate) reserve: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct hotpot_chunk`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Chunk {
    pub(crate) owner: u32,
    pub(crate) nr_local: u32,
    pub(crate) nr_dirty: u32,
    pub(crate) nr_pages: u32,
    pub(crate) min_replicas: u32,
    pub(crate) reserved: u32,
}

/// `struct hotpot_info`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Info {
    pub(crate) id: u64,
    pub(crate) base: u64,
    pub(crate) size: u64,
    pub(crate) reserve: u64,
    pub(crate) chunk_size: u64,
    pub(crate) epoch: u64,
    pub(crate) chunks: u64,
    pub(crate) nr_chunks: u32,
    pub(crate) replicas: u32,
    pub(crate) mode: u32,
    pub(crate) node: u32,
    pub(crate) nr_committed: u64,
    pub(crate) nr_redundant: u64,
    pub(crate) nr_dirty: u64,
    pub(crate) nr_missing: u64,
    pub(crate) nr_came: u64,
    pub(crate) nr_left: u64,
    pub(crate) nr_stayed: u64,
    pub(crate) reserved: [u64; 4],
}

/// `struct hotpot_barrier`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Barrier {
    pub(crate) name: [u8; 64],
    pub(crate) count: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) reserved: [u64; 2],
}

/// `struct hotpot_acquire`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Acquire {
    pub(crate) areas: u64,
    pub(crate) nr_areas: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) reserved0: u32,
    pub(crate) reserved: [u64; 2],
}

/// `struct hotpot_outcome`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Outcome {
    pub(crate) cid: u64,
    pub(crate) outcome: u32,
    pub(crate) reserved: u32,
}

/// `struct hotpot_scrub`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Scrub {
    pub(crate) page: u64,
    pub(crate) nr_pages: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) done: u32,
    pub(crate) checked: u64,
    pub(crate) healed: u64,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
    pub(crate) waiting: u64,
    pub(crate) reserved: [u64; 4],
}

/// Declares that the structures are plain integers without padding, of the
/// sizes that they have in C.
macro_rules! plain {
    ($($type:ty: $size:literal),* $(,)?) => {$(
        const _: () = assert!(::core::mem::size_of::<$type>() == $size);
        // SAFETY: All fields are integers or arrays of them, for which any bits are valid.
        unsafe impl FromBytes for $type {}
        // SAFETY: All fields are integers or arrays of them, and the size, which is the sum of
        // theirs, leaves no room for padding.
        unsafe impl AsBytes for $type {}
    )*};
}

plain! {
    Area: 16,
    Commit: 48,
    Setup: 56,
    Chunk: 24,
    Info: 160,
    Barrier: 88,
    Acquire: 40,
    Outcome: 16,
    Scrub: 96,
}

const MAGIC: u32 = 0xb7;

/// `HOTPOT_IOC_COMMIT`.
pub(crate) const IOC_COMMIT: u32 = _IOWR::<Commit>(MAGIC, 0);
/// `HOTPOT_IOC_SETUP`.
pub(crate) const IOC_SETUP: u32 = _IOW::<Setup>(MAGIC, 1);
/// `HOTPOT_IOC_INFO`.
pub(crate) const IOC_INFO: u32 = _IOWR::<Info>(MAGIC, 2);
/// `HOTPOT_IOC_BARRIER`.
pub(crate) const IOC_BARRIER: u32 = _IOW::<Barrier>(MAGIC, 3);
/// `HOTPOT_IOC_ACQUIRE`.
pub(crate) const IOC_ACQUIRE: u32 = _IOW::<Acquire>(MAGIC, 4);
/// `HOTPOT_IOC_ABORT`.
pub(crate) const IOC_ABORT: u32 = _IOW::<Acquire>(MAGIC, 5);
/// `HOTPOT_IOC_OUTCOME`.
pub(crate) const IOC_OUTCOME: u32 = _IOWR::<Outcome>(MAGIC, 6);
/// `HOTPOT_IOC_SCRUB`.
pub(crate) const IOC_SCRUB: u32 = _IOWR::<Scrub>(MAGIC, 7);
