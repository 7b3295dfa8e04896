// SPDX-License-Identifier: GPL-2.0

//! The part of include/uapi/linux/rdma_lite.h about ports and calls.

use super::MAGIC;
use kernel::{
    ioctl::{_IOW, _IOWR},
    prelude::*,
    static_assert,
    transmute::{AsBytes, FromBytes},
};

/// `RDMA_LITE_PORT_FIRST`
pub(crate) const PORT_FIRST: u32 = 64;
/// `RDMA_LITE_CALL_NOWAIT`
pub(crate) const CALL_NOWAIT: u32 = 1;
/// `RDMA_LITE_CALL_NOTIFY`
pub(crate) const CALL_NOTIFY: u32 = 2;
/// `RDMA_LITE_RECEIVE_REPLY`
pub(crate) const RECEIVE_REPLY: u32 = 1;

/// `struct rdma_lite_port`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Port {
    pub(crate) port: u32,
    pub(crate) flags: u32,
    pub(crate) requests: u32,
    pub(crate) reserved0: u32,
    pub(crate) bytes: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_receive`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Receive {
    pub(crate) port: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) status: i32,
    pub(crate) token: u64,
    pub(crate) reply: u64,
    pub(crate) reply_len: u64,
    pub(crate) buf: u64,
    pub(crate) len: u64,
    pub(crate) src: u32,
    pub(crate) reply_room: u32,
    pub(crate) src_incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_reply`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Reply {
    pub(crate) port: u32,
    pub(crate) status: i32,
    pub(crate) token: u64,
    pub(crate) buf: u64,
    pub(crate) len: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_call`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Call {
    pub(crate) node: u32,
    pub(crate) port: u32,
    pub(crate) flags: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) request: u64,
    pub(crate) request_len: u64,
    pub(crate) reply: u64,
    pub(crate) reply_len: u64,
    pub(crate) status: i32,
    pub(crate) err: i32,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_multicast`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Multicast {
    pub(crate) calls: u64,
    pub(crate) nr: u32,
    pub(crate) answered: u32,
    pub(crate) reserved: [u64; 2],
}

static_assert!(size_of::<Port>() == 40);
static_assert!(size_of::<Receive>() == 96);
static_assert!(size_of::<Reply>() == 48);
static_assert!(size_of::<Call>() == 72);
static_assert!(size_of::<Multicast>() == 32);

macro_rules! plain_rpc {
    ($($t:ty),*) => {$(
        // SAFETY: Integers only, and by the assertions above no padding between them.
        unsafe impl AsBytes for $t {}
        // SAFETY: Integers only: all bit patterns are values.
        unsafe impl FromBytes for $t {}
    )*};
}
plain_rpc!(Port, Receive, Reply, Call, Multicast);

pub(crate) const IOC_PORT_OPEN: u32 = _IOW::<Port>(MAGIC, 16);
pub(crate) const IOC_PORT_CLOSE: u32 = _IOW::<Port>(MAGIC, 17);
pub(crate) const IOC_RECEIVE: u32 = _IOWR::<Receive>(MAGIC, 18);
pub(crate) const IOC_REPLY: u32 = _IOW::<Reply>(MAGIC, 19);
pub(crate) const IOC_CALL: u32 = _IOWR::<Call>(MAGIC, 20);
pub(crate) const IOC_MULTICAST: u32 = _IOWR::<Multicast>(MAGIC, 21);
