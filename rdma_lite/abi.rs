// SPDX-License-Identifier: GPL-2.0

//! include/linux/rdma_lite.h: thin steps from C to the rest. shim.c exports them.
//!
//! A `struct lite_node` is a [`Node`] with a reference of the caller's. What the C header asks of a
//! caller is what makes each of these functions sound.

mod held;

use crate::{
    call::{self, Call, Signals},
    node::Node,
    notify, port,
};
use kernel::{
    bindings,
    net::{Net, SockAddr},
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// `struct lite_peer`
#[repr(C)]
pub(crate) struct LitePeer {
    id: u32,
    state: u32,
    roles: u32,
    suspect: u32,
    incarnation: u64,
}

fn code(result: Result) -> c_int {
    result.err().map_or(0, |e| e.to_errno())
}

/// # Safety
///
/// `node` must be from [`lite_node_get`], and not be put before `'a` ends.
unsafe fn node<'a>(node: *const Node) -> ArcBorrow<'a, Node> {
    // SAFETY: By this function's requirement.
    unsafe { ArcBorrow::from_raw(node) }
}

/// # Safety
///
/// `name` must be a string, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_get(
    name: *const c_char,
    _owner: *mut bindings::module,
    out: *mut *const Node,
) -> c_int {
    // SAFETY: A string, as the caller promises.
    let name = unsafe { CStr::from_char_ptr(name) };
    // SAFETY: Writable, as the caller promises.
    unsafe { hand_out(Node::named(name.to_bytes()), out) }
}

/// # Safety
///
/// `net` must be a namespace, `out` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_get_net(
    net: *mut bindings::net,
    _owner: *mut bindings::module,
    out: *mut *const Node,
) -> c_int {
    // SAFETY: A namespace, as the caller promises.
    let net = unsafe { Net::from_raw(net) };
    // SAFETY: Writable, as the caller promises.
    unsafe { hand_out(Node::of(net), out) }
}

/// A node that is on goes to the caller, with a reference.
///
/// # Safety
///
/// `out` must be writable.
unsafe fn hand_out(found: Result<Arc<Node>>, out: *mut *const Node) -> c_int {
    match found.and_then(|node| node.host().map(|_| node)) {
        Ok(node) => {
            // SAFETY: By this function's requirement.
            unsafe { out.write(Arc::into_raw(node)) };
            0
        }
        Err(e) => e.to_errno(),
    }
}

/// # Safety
///
/// `node` must be from [`lite_node_get`], and is not used any more.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_put(node: *const Node) {
    // SAFETY: The reference that `lite_node_get()` gave.
    drop(unsafe { Arc::from_raw(node) });
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_net(this: *const Node) -> *mut bindings::net {
    // SAFETY: As the caller promises.
    unsafe { node(this) }.net().as_raw()
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_id(this: *const Node) -> u32 {
    // SAFETY: As the caller promises.
    let id = unsafe { node(this) }.settings().id;
    id.into()
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_incarnation(this: *const Node) -> u64 {
    // SAFETY: As the caller promises.
    unsafe { node(this) }.incarnation()
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_epoch(this: *const Node) -> u64 {
    // SAFETY: As the caller promises.
    let host = unsafe { node(this) }.host();
    host.map_or(0, |host| host.epoch())
}

/// # Safety
///
/// `this` must be a node that the caller has, `uuid` writable for 16 bytes.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_cluster(this: *const Node, uuid: *mut [u8; 16]) {
    // SAFETY: As the caller promises.
    unsafe { uuid.write(node(this).settings().cluster) };
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_max_msg(this: *const Node) -> usize {
    // SAFETY: As the caller promises.
    let max = unsafe { node(this) }.settings().config.max_payload();
    max as usize
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_timeout_ms(this: *const Node) -> u32 {
    // SAFETY: As the caller promises.
    unsafe { node(this) }.settings().timeout_ms
}

/// # Safety
///
/// `this` must be a node that the caller has, `peers` writable for `cap` of them, `epoch` writable
/// or null.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_node_peers(
    this: *const Node,
    peers: *mut LitePeer,
    cap: usize,
    epoch: *mut u64,
) -> c_long {
    // SAFETY: As the caller promises.
    let host = match unsafe { node(this) }.host() {
        Ok(host) => host,
        Err(e) => return e.to_errno() as c_long,
    };
    let map = host.map.lock();
    if !epoch.is_null() {
        // SAFETY: As the caller promises.
        unsafe { epoch.write(map.epoch()) };
    }
    for (at, member) in map.nodes().enumerate().take(cap) {
        let peer = host.peer(member.id);
        let peer = LitePeer {
            id: member.id.into(),
            state: member.state as u32,
            roles: member.roles,
            suspect: peer.is_some_and(|peer| peer.is_suspect()).into(),
            incarnation: member.incarnation,
        };
        // SAFETY: As the caller promises, for `at < cap`.
        unsafe { peers.add(at).write(peer) };
    }
    let count = map.nodes().len();
    count as c_long
}

/// # Safety
///
/// `this` must be a node that the caller has, `addr` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_peer_address(
    this: *const Node,
    id: u32,
    addr: *mut SockAddr,
) -> c_int {
    // SAFETY: As the caller promises.
    let host = unsafe { node(this) }.host();
    let id = u16::try_from(id).map_err(|_| EHOSTDOWN);
    let found = host.and_then(|host| host.address_of(id?).ok_or(EHOSTDOWN));
    // SAFETY: As the caller promises; a `SockAddr` is laid out as the storage.
    code(found.map(|found| unsafe { addr.write(found) }))
}

/// # Safety
///
/// `this` must be a node that the caller has, `handler` callable with `ctx` until the port is
/// unregistered.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_port_register(
    this: *const Node,
    number: u16,
    handler: port::Handler,
    ctx: *mut c_void,
    _owner: *mut bindings::module,
) -> c_int {
    // SAFETY: As the caller promises.
    code(unsafe { node(this).ports.register(number, handler, ctx, false) })
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_port_unregister(this: *const Node, number: u16) {
    // SAFETY: As the caller promises.
    unsafe { node(this) }.ports.unregister(number);
}

/// # Safety
///
/// `this` must be a node that the caller has, `callback` callable with `ctx` until it is
/// unregistered, `cookie` writable.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_map_notify_register(
    this: *const Node,
    callback: notify::Callback,
    ctx: *mut c_void,
    cookie: *mut u64,
) -> c_int {
    // SAFETY: As the caller promises.
    code(unsafe {
        let added = node(this).notifiers.add(callback, ctx);
        added.map(|new| cookie.write(new))
    })
}

/// # Safety
///
/// `this` must be a node that the caller has.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_map_notify_unregister(this: *const Node, cookie: u64) {
    // SAFETY: As the caller promises.
    unsafe { node(this) }.notifiers.remove(cookie);
}

/// # Safety
///
/// `this` must be a node that the caller has, `call` as the header says.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_call(this: *const Node, call: *mut Call) -> c_int {
    // SAFETY: As the caller promises.
    let (node, call) = unsafe { (node(this), &mut *call) };
    let host = match node.host() {
        Ok(host) => host,
        Err(e) => {
            call.err = e.to_errno();
            return call.err;
        }
    };
    // SAFETY: As the caller promises.
    code(unsafe { call::one(&host, call, Signals::Fatal) })
}

/// # Safety
///
/// `this` must be a node that the caller has, `calls` be `nr` calls as the header says.
#[no_mangle]
pub(crate) unsafe extern "C" fn lite_multicast(
    this: *const Node,
    calls: *mut Call,
    nr: usize,
) -> c_long {
    if nr == 0 {
        return 0;
    }
    // SAFETY: As the caller promises.
    let (node, calls) = unsafe { (node(this), core::slice::from_raw_parts_mut(calls, nr)) };
    let made = node.host().and_then(|host| {
        // SAFETY: As the caller promises.
        unsafe { call::all(&host, calls, Signals::Fatal) }
    });
    match made {
        Ok(answered) => answered as c_long,
        Err(e) => {
            for call in calls {
                call.err = e.to_errno();
            }
            0
        }
    }
}
