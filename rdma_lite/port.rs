// SPDX-License-Identifier: GPL-2.0

//! Ports: who executes which calls.

use crate::{
    core::Refusal,
    peer::{Peer, PeerLink}, //
};
use kernel::{
    alloc::Flags,
    impl_has_work, new_spinlock_bh, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc,
        Completion,
        SpinLockBh, //
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
    /// The handler never sleeps, so that softirqs may call it.
    quick: bool,
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
    /// Whether the handler may be called in softirq context.
    fn is_quick(&self) -> bool {
        self.0.quick
    }

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
    list: SpinLockBh<KVec<Arc<Port>>>,
}

impl Ports {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self { list <- new_spinlock_bh!(KVec::new(), "lite_ports") })
    }

    /// Registers a handler; [`EBUSY`] when the port has one.
    ///
    /// # Safety
    ///
    /// `handler` must be callable with `ctx`, on many threads at once, until
    /// [`Self::unregister`] returned; if it is `quick`, in softirq context too.
    pub(crate) unsafe fn register(
        &self,
        number: u16,
        handler: Handler,
        ctx: *mut c_void,
        quick: bool,
    ) -> Result {
        let port = Arc::pin_init(
            pin_init!(Port {
                number,
                handler,
                ctx,
                quick,
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

/// A call of a peer that is to be executed.
pub(crate) struct Job {
    pub(crate) peer: Arc<Peer>,
    /// What it came over.
    pub(crate) link: Arc<PeerLink>,
    pub(crate) request: crate::core::Request,
    pub(crate) port: PortUse,
    /// The request.
    pub(crate) data: KVVec<u8>,
    /// Bytes of reply that the caller takes.
    pub(crate) cap: usize,
    /// The reply may be written to the caller's memory.
    pub(crate) device: bool,
}

/// Replies up to this size are made where the call came in, if the handler is quick.
const SMALL: usize = 4096;

impl Job {
    /// Executes the call here if the handler is quick, else by work.
    pub(crate) fn start(self, may_sleep: bool) {
        if self.port.is_quick() && self.cap <= SMALL && !self.device {
            return self.execute(if may_sleep { GFP_KERNEL } else { GFP_NOWAIT });
        }
        let (peer, call) = (self.peer.clone(), self.request.call);
        let queued = KBox::pin_init(
            pin_init!(Execution {
                job: self,
                work <- new_work!("Execution::work"),
            }),
            if may_sleep { GFP_KERNEL } else { GFP_ATOMIC },
        );
        match queued {
            Ok(execution) => peer.host().queues().handlers.enqueue(execution),
            Err(_) => peer.refuse(call, Refusal::Busy),
        }
    }

    fn execute(&self, flags: Flags) {
        let Job {
            peer,
            request,
            port,
            data,
            ..
        } = self;
        let Ok(reply) = Peer::reply_memory(self, flags) else {
            // Or the link is gone: then the caller asks again on the next one.
            return peer.refuse(request.call, Refusal::Busy);
        };
        let msg = Message {
            src: peer.id().into(),
            len: request.len,
            src_incarnation: request.src_incarnation,
            epoch: request.epoch,
            data: data.as_ptr().cast(),
        };
        // SAFETY: The reply was made for this call alone, and has that room.
        let result = unsafe { port.execute(&msg, reply.as_ptr(), reply.cap()) };
        peer.executed(request.call, result, reply);
    }
}

/// The execution of a call by work.
#[pin_data]
struct Execution {
    job: Job,
    #[pin]
    work: Work<Execution>,
}

impl_has_work! {
    impl HasWork<Self> for Execution { self.work }
}

impl WorkItem for Execution {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        this.job.execute(GFP_KERNEL);
    }
}
