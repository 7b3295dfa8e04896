// SPDX-License-Identifier: GPL-2.0

//! include/uapi/linux/rdma_lite.h, field by field.

use kernel::{
    ioctl::{_IOR, _IOW, _IOWR},
    prelude::*,
    static_assert,
    transmute::{AsBytes, FromBytes},
};

pub(crate) mod rpc;

pub(crate) const ABI_VERSION: u32 = 1;

pub(crate) const EVENT_SUSPECT: u32 = 1;
pub(crate) const EVENT_ALIVE: u32 = 2;
pub(crate) const EVENT_MAP: u32 = 3;
pub(crate) const EVENT_FENCED: u32 = 4;
pub(crate) const EVENT_LOST: u32 = 5;

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// `struct rdma_lite_map_node`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct MapNode {
    pub(crate) id: u32,
    pub(crate) state: u32,
    pub(crate) roles: u32,
    pub(crate) port: u16,
    pub(crate) family: u16,
    pub(crate) incarnation: u64,
    pub(crate) addr: [u8; 16],
    pub(crate) name: [u8; 64],
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_map`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Map {
    pub(crate) epoch: u64,
    pub(crate) nr_nodes: u32,
    pub(crate) flags: u32,
    pub(crate) nodes: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_event`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) node: u32,
    pub(crate) reason: u32,
    pub(crate) reserved: u32,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) time_ns: u64,
}

/// `struct rdma_lite_info`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Info {
    pub(crate) abi_version: u32,
    pub(crate) id: u32,
    pub(crate) epoch: u64,
    pub(crate) incarnation: u64,
    pub(crate) name: [u8; 64],
    pub(crate) cluster: [u8; 16],
    pub(crate) reserved: [u64; 4],
}

/// `struct rdma_lite_ping`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Ping {
    pub(crate) node: u32,
    pub(crate) len: u32,
    pub(crate) timeout_ms: u32,
    pub(crate) flags: u32,
    pub(crate) rtt_ns: u64,
    pub(crate) reserved: [u64; 2],
}

/// `struct rdma_lite_class`
#[repr(C)]
#[derive(Copy, Clone)]
pub(crate) struct Class {
    pub(crate) class: u32,
    pub(crate) reserved: u32,
}

static_assert!(size_of::<Class>() == 8);
static_assert!(size_of::<MapNode>() == 120);
static_assert!(size_of::<Map>() == 40);
static_assert!(size_of::<Event>() == 40);
static_assert!(size_of::<Info>() == 136);
static_assert!(size_of::<Ping>() == 40);

macro_rules! plain {
    ($($t:ty),*) => {$(
        // SAFETY: Integers only, and by the assertions above no padding between them.
        unsafe impl AsBytes for $t {}
        // SAFETY: Integers only: all bit patterns are values.
        unsafe impl FromBytes for $t {}
    )*};
}
pub(crate) mod async_ops;
pub(crate) mod held;

plain!(MapNode, Map, Event, Info, Ping, Class);

const MAGIC: u32 = 0xb6;
pub(crate) const IOC_INFO: u32 = _IOR::<Info>(MAGIC, 0);
pub(crate) const IOC_SET_MAP: u32 = _IOW::<Map>(MAGIC, 1);
pub(crate) const IOC_GET_MAP: u32 = _IOWR::<Map>(MAGIC, 2);
pub(crate) const IOC_PING: u32 = _IOWR::<Ping>(MAGIC, 3);
pub(crate) const IOC_CLASS: u32 = _IOW::<Class>(MAGIC, 4);

/// Reads one of the structs above.
pub(crate) fn read<T: FromBytes>(arg: usize) -> Result<T> {
    let ptr = kernel::uaccess::UserPtr::from_addr(arg);
    kernel::uaccess::UserSlice::new(ptr, size_of::<T>())
        .reader()
        .read()
}

/// Writes one of the structs above.
pub(crate) fn write<T: AsBytes>(arg: usize, value: &T) -> Result {
    let ptr = kernel::uaccess::UserPtr::from_addr(arg);
    kernel::uaccess::UserSlice::new(ptr, size_of::<T>())
        .writer()
        .write(value)
}
