// SPDX-License-Identifier: GPL-2.0

//! The C ABI of nodes, calls and ports, as include/linux/rdma_lite.h declares it.

#![allow(non_camel_case_types, reason = "the names of the C header")]

use kernel::ffi::{c_char, c_int, c_long, c_void};

#[repr(C)]
pub(super) struct lite_node {
    _opaque: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct lite_buf {
    pub(super) ptr: *const c_void,
    pub(super) len: usize,
}

#[repr(C)]
pub(super) struct lite_call {
    pub(super) dst: u32,
    pub(super) port: u16,
    pub(super) flags: u16,
    pub(super) timeout_ms: u32,
    pub(super) nr_req: u32,
    pub(super) req: *const lite_buf,
    pub(super) reply: *mut c_void,
    pub(super) reply_cap: usize,
    pub(super) reply_len: usize,
    pub(super) status: c_int,
    pub(super) err: c_int,
}

#[repr(C)]
pub(super) struct lite_msg {
    pub(super) src: u32,
    pub(super) len: u32,
    pub(super) src_incarnation: u64,
    pub(super) epoch: u64,
    pub(super) data: *const c_void,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct lite_peer {
    pub(super) id: u32,
    pub(super) state: u32,
    pub(super) roles: u32,
    pub(super) suspect: u32,
    pub(super) incarnation: u64,
}

pub(super) type Handler =
    unsafe extern "C" fn(*mut c_void, *const lite_msg, *mut c_void, usize) -> c_long;
pub(super) type MapNotify = unsafe extern "C" fn(*mut c_void, u64);

extern "C" {
    pub(super) fn lite_node_get(
        name: *const c_char,
        owner: *mut c_void,
        node: *mut *mut lite_node,
    ) -> c_int;
    pub(super) fn lite_node_get_net(
        net: *mut c_void,
        owner: *mut c_void,
        node: *mut *mut lite_node,
    ) -> c_int;
    pub(super) fn lite_node_put(node: *mut lite_node);
    pub(super) fn lite_node_net(node: *const lite_node) -> *mut c_void;
    pub(super) fn lite_node_id(node: *const lite_node) -> u32;
    pub(super) fn lite_node_incarnation(node: *const lite_node) -> u64;
    pub(super) fn lite_node_epoch(node: *const lite_node) -> u64;
    pub(super) fn lite_node_cluster(node: *const lite_node, uuid: *mut u8);
    pub(super) fn lite_node_max_msg(node: *const lite_node) -> usize;
    pub(super) fn lite_node_timeout_ms(node: *const lite_node) -> u32;
    pub(super) fn lite_node_peers(
        node: *const lite_node,
        peers: *mut lite_peer,
        cap: usize,
        epoch: *mut u64,
    ) -> c_long;
    pub(super) fn lite_peer_address(node: *const lite_node, id: u32, addr: *mut c_void) -> c_int;
    pub(super) fn lite_port_register(
        node: *mut lite_node,
        port: u16,
        handler: Handler,
        ctx: *mut c_void,
        owner: *mut c_void,
    ) -> c_int;
    pub(super) fn lite_port_unregister(node: *mut lite_node, port: u16);
    pub(super) fn lite_map_notify_register(
        node: *mut lite_node,
        notify: MapNotify,
        ctx: *mut c_void,
        cookie: *mut u64,
    ) -> c_int;
    pub(super) fn lite_map_notify_unregister(node: *mut lite_node, cookie: u64);
    pub(super) fn lite_call(node: *mut lite_node, call: *mut lite_call) -> c_int;
    pub(super) fn lite_multicast(node: *mut lite_node, calls: *mut lite_call, nr: usize) -> c_long;
}
