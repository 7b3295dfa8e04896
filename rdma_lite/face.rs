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
    sync::Arc,
    ThisModule, //
};

use ::core::{
    marker::PhantomData,
    ptr::{self, NonNull},
    slice, //
};

#[path = "face/held.rs"]
pub(crate) mod held;

/// The C ABI, as the header declares it.
#[allow(non_camel_case_types, reason = "the names of the C header")]
mod abi {
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
        pub(super) fn lite_peer_address(
            node: *const lite_node,
            id: u32,
            addr: *mut c_void,
        ) -> c_int;
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
        pub(super) fn lite_multicast(
            node: *mut lite_node,
            calls: *mut lite_call,
            nr: usize,
        ) -> c_long;
    }
}

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

/// A piece of a request: any readable kernel memory.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a>(abi::lite_buf, PhantomData<&'a [u8]>);

impl<'a> Piece<'a> {
    /// These bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(
            abi::lite_buf {
                ptr: bytes.as_ptr().cast(),
                len: bytes.len(),
            },
            PhantomData,
        )
    }

    /// Memory that is no slice, as that of a PM device.
    ///
    /// # Safety
    ///
    /// `start` must be valid for reads of `len` bytes for `'a`.
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, len: usize) -> Self {
        Self(
            abi::lite_buf {
                ptr: start.as_ptr().cast_const().cast(),
                len,
            },
            PhantomData,
        )
    }
}

/// Where a reply goes: kernel memory of the linear map, since the peer's
/// adapter may write to it directly.
///
/// # Invariants
///
/// `ptr` is valid for writes of `cap` bytes for `'a`, and nobody else accesses
/// them meanwhile. They lie in the linear map, or `cap` is 0.
pub(crate) struct ReplyBuf<'a> {
    ptr: *mut u8,
    cap: usize,
    _borrow: PhantomData<&'a mut [u8]>,
}

impl<'a> ReplyBuf<'a> {
    /// Only the status matters.
    pub(crate) fn none() -> Self {
        // INVARIANT: No bytes.
        Self {
            ptr: ptr::null_mut(),
            cap: 0,
            _borrow: PhantomData,
        }
    }

    /// Overwrites the elements of `bytes`.
    pub(crate) fn new(bytes: &'a mut KVec<u8>) -> Self {
        // INVARIANT: `kmalloc` memory is of the linear map, and borrowed for `'a`.
        Self {
            ptr: bytes.as_mut_ptr(),
            cap: bytes.len(),
            _borrow: PhantomData,
        }
    }

    /// Memory of another kind.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes of `cap` bytes for `'a`, not accessed
    /// otherwise meanwhile, and lie in the kernel's linear map.
    pub(crate) unsafe fn from_raw(ptr: *mut u8, cap: usize) -> Self {
        // INVARIANT: As the caller guarantees.
        Self {
            ptr,
            cap,
            _borrow: PhantomData,
        }
    }
}

/// What a handler answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    status: i32,
    len: usize,
}

impl Answer {
    /// The length of the reply, or the error that the handler returned.
    pub(crate) fn len(self) -> Result<usize> {
        to_result(self.status)?;
        Ok(self.len)
    }
}

/// One call, or one leg of a multicast.
pub(crate) struct Call<'a> {
    dst: u16,
    port: u16,
    timeout_ms: u32,
    request: &'a [Piece<'a>],
    reply: ReplyBuf<'a>,
    answer: Result<Answer>,
}

impl<'a> Call<'a> {
    /// A call of `port` at `dst`: the request is the concatenation of the
    /// pieces. The deadline is the node's default.
    pub(crate) fn new(dst: u16, port: u16, request: &'a [Piece<'a>], reply: ReplyBuf<'a>) -> Self {
        Self {
            dst,
            port,
            timeout_ms: 0,
            request,
            reply,
            answer: Err(EINVAL),
        }
    }

    /// With another deadline; 0 is the node's default.
    pub(crate) fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// The node called.
    pub(crate) fn dst(&self) -> u16 {
        self.dst
    }

    /// What came of it; `EINVAL` before it was made.
    pub(crate) fn answer(&self) -> Result<Answer> {
        self.answer
    }

    fn raw(&mut self) -> abi::lite_call {
        abi::lite_call {
            dst: self.dst.into(),
            port: self.port,
            flags: 0,
            timeout_ms: self.timeout_ms,
            nr_req: self.request.len() as u32,
            // `Piece` is a transparent `lite_buf`.
            req: self.request.as_ptr().cast(),
            reply: self.reply.ptr.cast(),
            reply_cap: self.reply.cap,
            reply_len: 0,
            status: 0,
            err: 0,
        }
    }

    fn finish(&mut self, raw: &abi::lite_call) {
        self.answer = to_result(raw.err).map(|()| Answer {
            status: raw.status,
            len: raw.reply_len.min(self.reply.cap),
        });
    }
}

/// A request, as its handler sees it.
pub(crate) struct Message<'a> {
    /// Who calls.
    pub(crate) src: u16,
    /// The caller's life.
    pub(crate) src_incarnation: u64,
    /// Epoch of caller and callee.
    pub(crate) epoch: u64,
    /// The request.
    pub(crate) data: &'a [u8],
}

/// Where a handler writes its reply, from the beginning on.
pub(crate) struct ReplyWriter<'a> {
    ptr: *mut u8,
    cap: usize,
    len: usize,
    _borrow: PhantomData<&'a mut [u8]>,
}

impl ReplyWriter<'_> {
    /// Bytes that may still be written.
    pub(crate) fn room(&self) -> usize {
        self.cap - self.len
    }

    /// Appends `bytes`; `EMSGSIZE` when the caller does not take that many.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result {
        if bytes.len() > self.room() {
            return Err(EMSGSIZE);
        }
        // SAFETY: The handler's caller gave `cap` writable bytes at `ptr`, of which `len` are
        // used; `bytes` fits behind and cannot overlap with memory that only we may access.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.ptr.add(self.len), bytes.len());
        }
        self.len += bytes.len();
        Ok(())
    }

    /// Has `fill` write what follows, in place; it returns how many bytes it wrote.
    pub(crate) fn write_with(&mut self, fill: impl FnOnce(&mut [u8]) -> Result<usize>) -> Result {
        let room = self.room();
        // SAFETY: The handler's caller gave `cap` writable bytes at `ptr`, of which `len` are
        // used. The rest is initialised here, and nobody else accesses it meanwhile.
        let rest = unsafe {
            ptr::write_bytes(self.ptr.add(self.len), 0, room);
            slice::from_raw_parts_mut(self.ptr.add(self.len), room)
        };
        self.len += fill(rest)?.min(room);
        Ok(())
    }
}

/// Executes the calls of a port, many at once; may sleep and make calls.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Executes one. The caller gets what was written to `reply`, or the error.
    fn handle(&self, msg: &Message<'_>, reply: &mut ReplyWriter<'_>) -> Result;
}

/// A port that calls go to, until this is dropped (which waits for handlers
/// that run).
pub(crate) struct PortRegistration<H: Handler> {
    node: Arc<Node>,
    port: u16,
    handler: Arc<H>,
}

impl<H: Handler> PortRegistration<H> {
    /// `EBUSY` when the port has an owner.
    pub(crate) fn new(node: Arc<Node>, port: u16, handler: Arc<H>) -> Result<Self> {
        let ctx = ptr::from_ref::<H>(&handler).cast_mut();
        // SAFETY: `ctx` lives as long as `handler`, which we keep until the port is unregistered;
        // `trampoline::<H>` expects an `H` there.
        to_result(unsafe {
            abi::lite_port_register(
                node.ptr.as_ptr(),
                port,
                Self::trampoline,
                ctx.cast(),
                node.module.as_ptr().cast(),
            )
        })?;
        Ok(Self {
            node,
            port,
            handler,
        })
    }

    /// What executes the calls.
    pub(crate) fn handler(&self) -> &Arc<H> {
        &self.handler
    }

    /// # Safety
    ///
    /// `ctx` must point to an `H`, `msg` to a message, and `reply` must be valid
    /// for writes of `reply_cap` bytes, all for the time of the call.
    unsafe extern "C" fn trampoline(
        ctx: *mut c_void,
        msg: *const abi::lite_msg,
        reply: *mut c_void,
        reply_cap: usize,
    ) -> c_long {
        // SAFETY: As the caller guarantees.
        let (handler, msg) = unsafe { (&*ctx.cast::<H>(), &*msg) };
        let data = if msg.len == 0 {
            &[]
        } else {
            // SAFETY: A message has `len` bytes at `data` until its handler returns.
            unsafe { slice::from_raw_parts(msg.data.cast::<u8>(), msg.len as usize) }
        };
        let message = Message {
            src: msg.src as u16,
            src_incarnation: msg.src_incarnation,
            epoch: msg.epoch,
            data,
        };
        let mut writer = ReplyWriter {
            ptr: reply.cast(),
            cap: reply_cap,
            len: 0,
            _borrow: PhantomData,
        };
        match handler.handle(&message, &mut writer) {
            Ok(()) => writer.len as c_long,
            Err(e) => e.to_errno() as c_long,
        }
    }
}

impl<H: Handler> Drop for PortRegistration<H> {
    fn drop(&mut self) {
        // SAFETY: `new` registered the port on this node, which we hold. When this returns no
        // handler runs, so `handler` may go.
        unsafe { abi::lite_port_unregister(self.node.ptr.as_ptr(), self.port) };
    }
}

/// Hears of new maps.
pub(crate) trait MapNotify: Send + Sync + 'static {
    /// A map is in force, or more is known of it (then it is told of with the same epoch): which
    /// life a node of it lives. May sleep, not for long.
    fn new_map(&self, epoch: u64);
}

/// Word of each new map, until this is dropped.
pub(crate) struct MapNotifyRegistration<N: MapNotify> {
    node: Arc<Node>,
    cookie: u64,
    _notify: Arc<N>,
}

impl<N: MapNotify> MapNotifyRegistration<N> {
    /// From the next map on.
    pub(crate) fn new(node: Arc<Node>, notify: Arc<N>) -> Result<Self> {
        let ctx = ptr::from_ref::<N>(&notify).cast_mut();
        let mut cookie = 0;
        // SAFETY: `ctx` lives as long as `notify`, which we keep until the registration ends;
        // `trampoline` expects an `N` there.
        to_result(unsafe {
            abi::lite_map_notify_register(
                node.ptr.as_ptr(),
                Self::trampoline,
                ctx.cast(),
                &mut cookie,
            )
        })?;
        Ok(Self {
            node,
            cookie,
            _notify: notify,
        })
    }

    /// # Safety
    ///
    /// `ctx` must point to an `N` for the time of the call.
    unsafe extern "C" fn trampoline(ctx: *mut c_void, epoch: u64) {
        // SAFETY: As the caller guarantees.
        unsafe { &*ctx.cast::<N>() }.new_map(epoch);
    }
}

impl<N: MapNotify> Drop for MapNotifyRegistration<N> {
    fn drop(&mut self) {
        // SAFETY: `new` made the registration on this node, which we hold. When this returns
        // nobody is being notified, so `_notify` may go.
        unsafe { abi::lite_map_notify_unregister(self.node.ptr.as_ptr(), self.cookie) };
    }
}
