// SPDX-License-Identifier: GPL-2.0

//! Ports: who executes which calls.

use crate::peer::{Peer, Reply};
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc,
        Completion,
        SpinLock, //
    },
    workqueue::{Work, WorkItem},
};

/// `struct lite_msg`
#[repr(C)]
pub(crate) struct Message {
    pub(crate) src: u32,
    pub(crate) len: u32,
    pub(crate) src_incarnation: u64,
    pub(crate) epoch: u64,
    pub(crate) data: *const c_void,
}

/// `lite_handler_t`
pub(crate) type Handler = unsafe extern "C" fn(
    ctx: *mut c_void,
    msg: *const Message,
    reply: *mut c_void,
    reply_cap: usize,
) -> c_long;

/// The port that answers what it gets.
pub(crate) const ECHO: u16 = 1;

/// A registered handler.
#[pin_data]
pub(crate) struct Port {
    number: u16,
    handler: Handler,
    ctx: *mut c_void,
    /// Executions, and one for being registered.
    users: Atomic<i32>,
    #[pin]
    idle: Completion,
}

// SAFETY: The context is a token of its owner's, handed back to its handler on any thread, as
// whoever registers it agrees to.
unsafe impl Send for Port {}
// SAFETY: As above; everything else is atomic or constant.
unsafe impl Sync for Port {}

/// A handler that may be called while this is held.
pub(crate) struct PortUse(Arc<Port>);

impl PortUse {
    /// Executes one request; returns the length of the reply or a negative errno.
    ///
    /// # Safety
    ///
    /// `reply` must be writable for `cap` bytes.
    pub(crate) unsafe fn execute(
        &self,
        msg: &Message,
        reply: *mut u8,
        cap: usize,
    ) -> Result<usize> {
        let port = &self.0;
        // SAFETY: The handler is registered, and its removal waits for `self`; the caller
        // promises that the reply can be written.
        let ret = unsafe { (port.handler)(port.ctx, msg, reply.cast(), cap) };
        if ret < 0 {
            return Err(Error::from_errno(ret as c_int));
        }
        if ret as usize > cap {
            pr_err!(
                "port {}: its handler claims {ret} bytes of reply in {cap}\n",
                port.number
            );
            return Err(EMSGSIZE);
        }
        Ok(ret as usize)
    }
}

impl Drop for PortUse {
    fn drop(&mut self) {
        self.0.put();
    }
}

impl Port {
    fn put(&self) {
        if self.users.fetch_sub(1, Full) == 1 {
            self.idle.complete_all();
        }
    }
}

/// The ports of a node.
#[pin_data]
pub(crate) struct Ports {
    #[pin]
    list: SpinLock<KVec<Arc<Port>>>,
}

impl Ports {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self { list <- new_spinlock!(KVec::new(), "lite_ports") })
    }

    /// Registers a handler; [`EBUSY`] when the port has one.
    ///
    /// # Safety
    ///
    /// `handler` must be callable with `ctx`, on many threads at once, until
    /// [`Self::unregister`] returned.
    pub(crate) unsafe fn register(
        &self,
        number: u16,
        handler: Handler,
        ctx: *mut c_void,
    ) -> Result {
        let port = Arc::pin_init(
            pin_init!(Port {
                number,
                handler,
                ctx,
                users: Atomic::new(1),
                idle <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let mut list = self.list.lock();
        if list.iter().any(|p| p.number == number) {
            return Err(EBUSY);
        }
        Ok(list.push(port, GFP_ATOMIC)?)
    }

    /// Unregisters a port and waits for its executions.
    pub(crate) fn unregister(&self, number: u16) {
        let port = {
            let mut list = self.list.lock();
            let at = list.iter().position(|p| p.number == number);
            at.and_then(|at| list.remove(at).ok())
        };
        if let Some(port) = port {
            port.put();
            port.idle.wait_for_completion();
        }
    }

    /// The handler of a port, to be executed.
    pub(crate) fn get(&self, number: u16) -> Option<PortUse> {
        let list = self.list.lock();
        let port = list.iter().find(|p| p.number == number)?;
        port.users.fetch_add(1, Full);
        Some(PortUse(port.clone()))
    }
}

/// Answers what it gets.
///
/// # Safety
///
/// As [`Handler`] says: `msg` is valid, and `reply` writable for `reply_cap` bytes.
pub(crate) unsafe extern "C" fn echo(
    _ctx: *mut c_void,
    msg: *const Message,
    reply: *mut c_void,
    reply_cap: usize,
) -> c_long {
    // SAFETY: Valid by this function's requirement.
    let msg = unsafe { &*msg };
    let len = msg.len as usize;
    if len > reply_cap {
        return EMSGSIZE.to_errno() as c_long;
    }
    // SAFETY: The message has `len` bytes, and the reply has room for them.
    unsafe { core::ptr::copy_nonoverlapping(msg.data.cast::<u8>(), reply.cast(), len) };
    len as c_long
}

/// One execution of a call of a peer.
#[pin_data]
pub(crate) struct Execution {
    pub(crate) peer: Arc<Peer>,
    pub(crate) request: crate::core::Request,
    pub(crate) port: PortUse,
    pub(crate) data: KVVec<u8>,
    pub(crate) reply: Reply,
    #[pin]
    work: Work<Execution>,
}

impl_has_work! {
    impl HasWork<Self> for Execution { self.work }
}

impl Execution {
    /// Queues the execution of a call.
    pub(crate) fn start(
        peer: &Arc<Peer>,
        request: crate::core::Request,
        port: PortUse,
        data: KVVec<u8>,
        reply: Reply,
    ) -> Result {
        let this = KBox::pin_init(
            pin_init!(Self {
                peer: peer.clone(),
                request,
                port,
                data,
                reply,
                work <- new_work!("Execution::work"),
            }),
            GFP_KERNEL,
        )?;
        peer.host().queues().handlers.enqueue(this);
        Ok(())
    }
}

impl WorkItem for Execution {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        let Execution {
            peer,
            request,
            port,
            data,
            reply,
            ..
        } = &*this;
        let msg = Message {
            src: peer.id().into(),
            len: request.len,
            src_incarnation: request.src_incarnation,
            epoch: request.epoch,
            data: data.as_ptr().cast(),
        };
        // SAFETY: The reply was made for this call alone, and has that room.
        let result = unsafe { port.execute(&msg, reply.as_ptr(), reply.cap()) };
        peer.executed(request.call, result, reply.clone());
    }
}
