// SPDX-License-Identifier: GPL-2.0

//! Asynchronous operations in include/uapi/linux/rdma_lite.h, field by field.

use super::MAGIC;
use kernel::{
    ioctl::_IOWR,
    prelude::*,
    static_assert,
    transmute::{AsBytes, FromBytes},
};

/// `RDMA_LITE_MAX_BATCH`
pub(crate) const MAX_BATCH: u32 = 1024;
/// `RDMA_LITE_MAX_ASYNC`
pub(crate) const MAX_ASYNC: u64 = 4 << 20;
/// `RDMA_LITE_MAX_SEGMENTS`
pub(crate) const MAX_SEGMENTS: u32 = 1024;
/// `RDMA_LITE_ASYNC`
pub(crate) const ASYNC: u32 = 1;
/// `RDMA_LITE_OP_READ`
pub(crate) const OP_READ: u32 = 1;
/// `RDMA_LITE_OP_WRITE`
pub(crate) const OP_WRITE: u32 = 2;
/// `RDMA_LITE_OP_FILL`
pub(crate) const OP_FILL: u32 = 3;
/// `RDMA_LITE_OP_COPY`
pub(crate) const OP_COPY: u32 = 4;
/// `RDMA_LITE_OP_FETCH_ADD`
pub(crate) const OP_FETCH_ADD: u32 = 5;
/// `RDMA_LITE_OP_COMPARE_SWAP`
pub(crate) const OP_COMPARE_SWAP: u32 = 6;

/// `struct rdma_lite_segment`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Segment {
    pub(crate) buf: u64,
    pub(crate) len: u64,
}

/// `struct rdma_lite_op`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Op {
    pub(crate) opcode: u32,
    pub(crate) segments: u32,
    pub(crate) handle: u64,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// Also `operand`, and `to`.
    pub(crate) buf: u64,
    pub(crate) cookie: u64,
    /// Also `expected`, and `to_offset`.
    pub(crate) done: u64,
    pub(crate) error: i32,
    pub(crate) flags: u32,
}

/// `struct rdma_lite_submit`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Submit {
    pub(crate) ops: u64,
    pub(crate) nr: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) done: u32,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_completion`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Completion {
    pub(crate) cookie: u64,
    pub(crate) done: u64,
    pub(crate) error: i32,
    pub(crate) opcode: u32,
}

/// `struct rdma_lite_poll`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Poll {
    pub(crate) completions: u64,
    pub(crate) nr: u32,
    pub(crate) min: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) reserved: [u64; 2],
}

static_assert!(size_of::<Segment>() == 16);
static_assert!(size_of::<Op>() == 64);
static_assert!(size_of::<Submit>() == 40);
static_assert!(size_of::<Completion>() == 24);
static_assert!(size_of::<Poll>() == 40);

plain!(Segment, Op, Submit, Completion, Poll);

pub(crate) const IOC_SUBMIT: u32 = _IOWR::<Submit>(MAGIC, 43);
pub(crate) const IOC_POLL: u32 = _IOWR::<Poll>(MAGIC, 44);
