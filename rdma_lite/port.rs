// SPDX-License-Identifier: GPL-2.0

//! Ports: who executes which calls. A handler of a module, or a process that receives them.

pub(crate) mod inbox;
pub(crate) mod job;

use self::{
    inbox::Inbox,
    job::{Execution, Job}, //
};
use kernel::{
    bindings, new_spinlock_bh,
    prelude::*,
    sync::{
        atomic::{Atomic, Full},
        Arc,
        Completion,
        SpinLockBh, //
    },
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

/// Who executes the calls of a port.
pub(crate) enum Service {
    /// A function of a module.
    Handler {
        /// The function.
        handler: Handler,
        /// What it is called with.
        ctx: *mut c_void,
        /// It never sleeps, so that softirqs may call it.
        quick: bool,
    },
    /// A process.
    Inbox(Arc<Inbox>),
}

/// A registered port.
#[pin_data]
pub(crate) struct Port {
    number: u16,
    service: Service,
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
    /// What a process receives, if one executes the calls.
    pub(crate) fn inbox(&self) -> Option<&Arc<Inbox>> {
        match &self.0.service {
            Service::Inbox(inbox) => Some(inbox),
            Service::Handler { .. } => None,
        }
    }

    /// Has a call executed: here, by work, or by a process.
    pub(crate) fn start(self, job: Job, may_sleep: bool) {
        let flags = if may_sleep { GFP_KERNEL } else { GFP_ATOMIC };
        match &self.0.service {
            Service::Inbox(inbox) => inbox.offer(job, flags),
            Service::Handler { quick: true, .. } if !job.is_large() => job.execute(&self, flags),
            Service::Handler { .. } => Execution::start(self, job, flags),
        }
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
        let Service::Handler { handler, ctx, .. } = &port.service else {
            return Err(EOPNOTSUPP);
        };
        // SAFETY: The handler is registered, and its removal waits for `self`; the caller
        // promises that the reply can be written.
        let ret = unsafe { handler(*ctx, msg, reply.cast(), cap) };
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
    /// By number.
    #[pin]
    list: SpinLockBh<KVec<Arc<Port>>>,
}

/// Where a port is in a list that is ordered by number, or belongs.
fn place(list: &[Arc<Port>], number: u16) -> Result<usize, usize> {
    list.binary_search_by_key(&number, |port| port.number)
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
        let service = Service::Handler {
            handler,
            ctx,
            quick,
        };
        self.add(number, service)
    }

    /// Has the calls of a port received by a process; [`EBUSY`] when the port has an owner.
    pub(crate) fn register_inbox(&self, number: u16, inbox: Arc<Inbox>) -> Result {
        self.add(number, Service::Inbox(inbox))
    }

    fn add(&self, number: u16, service: Service) -> Result {
        let port = Arc::pin_init(
            pin_init!(Port {
                number,
                service,
                users: Atomic::new(1),
                idle <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let mut list = self.list.lock();
        let Err(at) = place(&list, number) else {
            return Err(EBUSY);
        };
        list.push(port, GFP_ATOMIC)?;
        list[at..].rotate_right(1);
        Ok(())
    }

    /// Unregisters a port and waits for its executions.
    pub(crate) fn unregister(&self, number: u16) {
        let port = {
            let mut list = self.list.lock();
            place(&list, number).ok().and_then(|at| list.remove(at).ok())
        };
        if let Some(port) = port {
            port.put();
            port.idle.wait_for_completion();
            // The softirq whose execution was the last may still drop its reference, and must not be
            // the last to do that: what the port holds may sleep when it goes.
            // SAFETY: A task, without locks.
            unsafe { bindings::synchronize_rcu() };
        }
    }

    /// The handler of a port, to be executed.
    pub(crate) fn get(&self, number: u16) -> Option<PortUse> {
        let list = self.list.lock();
        let port = list.get(place(&list, number).ok()?)?;
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
