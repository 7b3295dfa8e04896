// SPDX-License-Identifier: GPL-2.0

//! The safe Rust face of include/linux/rdma_lite.h, for modules that use
//! rdma_lite. A module includes this file by
//!
//! ```ignore
//! #[path = "../rdma_lite/face.rs"]
//! mod lite;
//! ```
//!
//! All functions may sleep. What the errors of a call mean stands in the header.

#![allow(dead_code, reason = "each module uses another part of it")]

use kernel::{
    bindings,
    error::to_result,
    net::{Net, SockAddr},
    prelude::*,
    ThisModule, //
};

use ::core::ptr::{self, NonNull};

#[path = "face/abi.rs"]
mod abi;
#[path = "face/call.rs"]
mod call;
#[path = "face/held.rs"]
pub(crate) mod held;
#[path = "face/notify.rs"]
mod notify;
#[path = "face/port.rs"]
mod port;

#[allow(unused_imports, reason = "each module uses another part of it")]
pub(crate) use self::{
    call::{Answer, Call, Piece, ReplyBuf},
    notify::{MapNotify, MapNotifyRegistration},
    port::{Handler, Message, PortRegistration, ReplyWriter},
};

/// Answers what it gets.
pub(crate) const PORT_ECHO: u16 = 1;
/// Hotpot's port.
pub(crate) const PORT_HOTPOT: u16 = 2;
/// Control of memory nodes.
pub(crate) const PORT_LEGOMEM: u16 = 3;
/// Control of compute nodes.
pub(crate) const PORT_CLIO: u16 = 4;

/// `RDMA_LITE_NODE_UP`: member, expected to answer.
pub(crate) const NODE_UP: u32 = 1;
/// `RDMA_LITE_NODE_DOWN`: member that is not reachable for now.
pub(crate) const NODE_DOWN: u32 = 2;
/// `RDMA_LITE_NODE_OUT`: no member any more.
pub(crate) const NODE_OUT: u32 = 3;

/// `RDMA_LITE_ROLE_HOTPOT`: holds hotpot data.
pub(crate) const ROLE_HOTPOT: u32 = 1 << 0;
/// `RDMA_LITE_ROLE_HOTPOT_CD`: hotpot's central dispatcher.
pub(crate) const ROLE_HOTPOT_CD: u32 = 1 << 1;
/// `RDMA_LITE_ROLE_MEMORY`: a memory node (legomem).
pub(crate) const ROLE_MEMORY: u32 = 1 << 2;

/// A reference to a node of this host.
///
/// # Invariants
///
/// `ptr` came from `lite_node_get`, and its reference is ours.
pub(crate) struct Node {
    ptr: NonNull<abi::lite_node>,
    module: &'static ThisModule,
}

// SAFETY: The functions of the ABI may be called from any task, at the same time.
unsafe impl Send for Node {}
// SAFETY: As above.
unsafe impl Sync for Node {}

/// A node of the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// Node id.
    pub(crate) id: u16,
    /// `NODE_*`.
    pub(crate) state: u32,
    /// `ROLE_*`.
    pub(crate) roles: u32,
    /// It does not answer at present.
    pub(crate) suspect: bool,
    /// Its life; 0 while it is not known.
    pub(crate) incarnation: u64,
}

impl Node {
    /// The node of this configfs name, in any namespace.
    ///
    /// `ENODEV` if there is none, `ESHUTDOWN` if it is switched off.
    pub(crate) fn get(name: &CStr, module: &'static ThisModule) -> Result<Self> {
        let mut node = ptr::null_mut();
        // SAFETY: `name` is NUL-terminated, `node` a valid place for a pointer.
        to_result(unsafe {
            abi::lite_node_get(name.as_char_ptr(), module.as_ptr().cast(), &mut node)
        })?;
        // INVARIANT: On success the reference is ours.
        Ok(Self {
            ptr: NonNull::new(node).ok_or(ENODEV)?,
            module,
        })
    }

    /// The node of this network namespace.
    ///
    /// `ENXIO` if it has none, `ESHUTDOWN` if that is switched off.
    pub(crate) fn get_net(net: &Net, module: &'static ThisModule) -> Result<Self> {
        let mut node = ptr::null_mut();
        // SAFETY: `net` is a namespace, `node` a valid place for a pointer.
        to_result(unsafe {
            abi::lite_node_get_net(net.as_raw().cast(), module.as_ptr().cast(), &mut node)
        })?;
        // INVARIANT: On success the reference is ours.
        Ok(Self {
            ptr: NonNull::new(node).ok_or(ENXIO)?,
            module,
        })
    }

    /// Its network namespace.
    pub(crate) fn net(&self) -> &Net {
        // SAFETY: By the invariant of `Node` we hold a reference, and the namespace of a node
        // lives as long as that.
        unsafe { Net::from_raw(abi::lite_node_net(self.ptr.as_ptr()).cast()) }
    }

    /// Address of a node of the map, ourselves included, with the port of rdma_cm.
    ///
    /// `EHOSTDOWN` if the map does not know it.
    pub(crate) fn peer_address(&self, id: u16) -> Result<SockAddr> {
        let mut storage: bindings::__kernel_sockaddr_storage = pin_init::zeroed();
        // SAFETY: By the invariant of `Node` we hold a reference; `storage` is writable.
        to_result(unsafe {
            abi::lite_peer_address(self.ptr.as_ptr(), id.into(), (&raw mut storage).cast())
        })?;
        SockAddr::from_storage(&storage)
    }

    /// Its id in the cluster.
    pub(crate) fn id(&self) -> u16 {
        // SAFETY: By the invariant of `Node` we hold a reference.
        unsafe { abi::lite_node_id(self.ptr.as_ptr()) as u16 }
    }

    /// Its present life.
    pub(crate) fn incarnation(&self) -> u64 {
        // SAFETY: By the invariant of `Node` we hold a reference.
        unsafe { abi::lite_node_incarnation(self.ptr.as_ptr()) }
    }

    /// The epoch of its map.
    pub(crate) fn epoch(&self) -> u64 {
        // SAFETY: By the invariant of `Node` we hold a reference.
        unsafe { abi::lite_node_epoch(self.ptr.as_ptr()) }
    }

    /// Uuid of its cluster.
    pub(crate) fn cluster(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        // SAFETY: By the invariant of `Node` we hold a reference; `uuid` has 16 bytes.
        unsafe { abi::lite_node_cluster(self.ptr.as_ptr(), uuid.as_mut_ptr()) };
        uuid
    }

    /// Largest request, and largest reply that goes through the ring, in bytes.
    pub(crate) fn max_msg(&self) -> usize {
        // SAFETY: By the invariant of `Node` we hold a reference.
        unsafe { abi::lite_node_max_msg(self.ptr.as_ptr()) }
    }

    /// Default deadline of a call, in ms.
    pub(crate) fn timeout_ms(&self) -> u32 {
        // SAFETY: By the invariant of `Node` we hold a reference.
        unsafe { abi::lite_node_timeout_ms(self.ptr.as_ptr()) }
    }

    /// The nodes of the map, and its epoch.
    pub(crate) fn peers(&self) -> Result<(u64, KVec<Peer>)> {
        let mut epoch = 0;
        let mut raw = KVec::new();
        loop {
            let cap = raw.len();
            // SAFETY: By the invariant of `Node` we hold a reference; `raw` has room for `cap`
            // peers, all of them initialised.
            let there = unsafe {
                abi::lite_node_peers(self.ptr.as_ptr(), raw.as_mut_ptr(), cap, &mut epoch)
            };
            let there = usize::try_from(there).map_err(|_| Error::from_errno(there as i32))?;
            if there <= cap {
                raw.truncate(there);
                break;
            }
            raw.resize(there, abi::lite_peer::default(), GFP_KERNEL)?;
        }
        let mut peers = KVec::with_capacity(raw.len(), GFP_KERNEL)?;
        for peer in &raw {
            peers.push(
                Peer {
                    id: peer.id as u16,
                    state: peer.state,
                    roles: peer.roles,
                    suspect: peer.suspect != 0,
                    incarnation: peer.incarnation,
                },
                GFP_KERNEL,
            )?;
        }
        Ok((epoch, peers))
    }

    /// Makes a call and waits for its answer.
    pub(crate) fn call(&self, call: &mut Call<'_>) -> Result<Answer> {
        let mut raw = call.raw();
        // SAFETY: By the invariant of `Node` we hold a reference. `raw` points to pieces and to a
        // reply buffer that `call` borrows for longer than this function runs.
        unsafe { abi::lite_call(self.ptr.as_ptr(), &mut raw) };
        call.finish(&raw);
        call.answer()
    }

    /// Makes all calls at once and waits for all. Each has its own
    /// [`Call::answer`]; returns how many got one.
    pub(crate) fn multicast(&self, calls: &mut [Call<'_>]) -> Result<usize> {
        let mut raw = KVec::with_capacity(calls.len(), GFP_KERNEL)?;
        for call in calls.iter_mut() {
            raw.push(call.raw(), GFP_KERNEL)?;
        }
        // SAFETY: As in `call`; `raw` has as many calls as it says.
        let answered =
            unsafe { abi::lite_multicast(self.ptr.as_ptr(), raw.as_mut_ptr(), raw.len()) };
        if answered < 0 {
            return Err(Error::from_errno(answered as i32));
        }
        for (call, raw) in calls.iter_mut().zip(&raw) {
            call.finish(raw);
        }
        Ok(answered as usize)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SAFETY: By the invariant of `Node` the reference is ours to put.
        unsafe { abi::lite_node_put(self.ptr.as_ptr()) };
    }
}
