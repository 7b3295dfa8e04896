// SPDX-License-Identifier: GPL-2.0

//! Locks and barriers: drives their [protocol](crate::core::sync), at the owner and at who waits.
//!
//! Locks, in this order: [`Sync::service`], `Host::map`; `Sync::waiters`; `Waiting::waiter`. None is
//! held during a call.

use crate::{
    ask::{ask, To},
    call::Signals,
    core::{
        holder::{Holder, Life, Name},
        sync::{
            service::Service,
            waiter::{Outcome, Step, Waiter},
            wire::{Ask, Reply, Request, What, REPLY_LEN},
            Verdict, Wake,
        },
        Class,
    },
    events::now,
    host::Host,
    node::Node,
    port::Message,
    releases::{Promise, Release},
    trace,
};
use kernel::{
    new_condvar, new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{Arc, CondVar, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};

/// The port of locks and barriers.
pub(crate) const PORT: u16 = 9;

const MS: u64 = 1_000_000;
/// Deadline of a call that wakes somebody: who does not answer asks itself.
const WAKE_MS: u32 = 2000;

/// One of our own who waits.
#[pin_data]
struct Waiting {
    owner: u16,
    #[pin]
    waiter: Mutex<Waiter>,
    #[pin]
    woken: CondVar,
}

/// The locks and barriers of a node, and who of it waits for those of others.
#[pin_data]
pub(crate) struct Sync {
    #[pin]
    service: Mutex<Service>,
    /// By tag.
    #[pin]
    waiters: Mutex<RBTree<u64, Arc<Waiting>>>,
}

impl Sync {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            service <- new_mutex!(Service::new(), "lite_sync"),
            waiters <- new_mutex!(RBTree::new(), "lite_waiters"),
        })
    }
}

/// What somebody wants to enter.
#[derive(Copy, Clone)]
pub(crate) struct Wish {
    pub(crate) owner: u16,
    pub(crate) what: What,
    pub(crate) name: Name,
    pub(crate) now_or_never: bool,
    /// `u64::MAX`: none.
    pub(crate) deadline: u64,
    /// Class of the calls that this takes.
    pub(crate) class: Class,
}

/// A waiter that its owner finds, until this is dropped.
struct Noted {
    host: Arc<Host>,
    tag: u64,
}

impl Drop for Noted {
    fn drop(&mut self) {
        let removed = self.host.sync.waiters.lock().remove(&self.tag);
        drop(removed);
    }
}

/// A lock that is held, until it is left or this is dropped.
pub(crate) struct Held {
    /// A wake that comes only now would else find nobody, and the owner take the lock back.
    noted: Noted,
    owner: Life,
    class: Class,
    message: KVec<u8>,
    promise: Promise,
    /// The number of the grant.
    pub(crate) grant: u64,
}

impl Held {
    /// Gives it back. [`ESTALE`]: it was lost. On another error the owner hears it in the background.
    pub(crate) fn leave(self, timeout_ms: u32) -> Result {
        let mut reply = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)?;
        let to = To {
            node: self.owner.node,
            port: PORT,
            timeout_ms: match timeout_ms {
                0 => self.noted.host.timeout_ms,
                ms => ms,
            },
            signals: Signals::All,
            class: self.class,
        };
        let host = &self.noted.host;
        let answer = ask(host, to, &self.message, &[], &mut reply);
        let error = trace::errno(&answer.and_then(|answer| answer));
        trace::unlock(host.node.name(), self.owner.node.into(), self.grant, error);
        let answer = answer?;
        self.promise.cancel();
        answer.map(|_| ())
    }
}

/// Executes a request of another node or of ours.
///
/// # Safety
///
/// As [`crate::port::Handler`] says; `ctx` must point to the [`Node`] that has the port.
pub(crate) unsafe extern "C" fn handle(
    ctx: *mut c_void,
    msg: *const Message,
    reply: *mut c_void,
    reply_cap: usize,
) -> c_long {
    // SAFETY: By this function's requirement; whoever calls a port keeps its node.
    let (node, msg) = unsafe { (&*ctx.cast::<Node>(), &*msg) };
    let data = match msg.len {
        0 => &[][..],
        // SAFETY: The message has that many bytes.
        len => unsafe { ::core::slice::from_raw_parts(msg.data.cast::<u8>(), len as usize) },
    };
    let from = Life {
        node: msg.src as u16,
        incarnation: msg.src_incarnation,
    };
    let result = node.host().and_then(|host| {
        let request = Request::decode(data)?;
        host.synchronise(from, &request)
    });
    match result {
        Ok(bytes) if bytes.len() <= reply_cap => {
            // SAFETY: The reply has that much room.
            unsafe { ::core::ptr::copy_nonoverlapping(bytes.as_ptr(), reply.cast(), bytes.len()) };
            bytes.len() as c_long
        }
        Ok(_) => 0,
        Err(e) => e.to_errno() as c_long,
    }
}

impl Host {
    fn synchronise(self: &Arc<Self>, from: Life, request: &Request) -> Result<[u8; REPLY_LEN]> {
        let verdict = match request.ask {
            Ask::Wake(verdict) => self.wake(from, request, verdict)?,
            _ if request.life != 0 && request.life != self.local.incarnation => {
                return Err(ESTALE);
            }
            _ => {
                let who = Holder {
                    life: from,
                    tag: request.tag,
                };
                let verdict = {
                    let mut service = self.sync.service.lock();
                    let alive = self.is_alive(from);
                    service.execute(now(), who, alive, request)
                };
                self.wake_others();
                verdict?
            }
        };
        let reply = Reply {
            verdict,
            life: self.local.incarnation,
        };
        Ok(reply.encode())
    }

    /// An owner has news for one of ours. [`ENOENT`]: nobody waits for that.
    fn wake(&self, owner: Life, request: &Request, verdict: Verdict) -> Result<Verdict> {
        let waiting = self.sync.waiters.lock().get(&request.tag).cloned();
        let waiting = waiting.filter(|w| w.owner == owner.node).ok_or(ENOENT)?;
        let wanted = waiting.waiter.lock().woken(verdict);
        waiting.woken.notify_all();
        if !wanted {
            return Err(ENOENT);
        }
        Ok(verdict)
    }

    /// Tells all who have what they waited for.
    fn wake_others(self: &Arc<Self>) {
        loop {
            let Some(wake) = self.sync.service.lock().poll() else {
                return;
            };
            let this = self.clone();
            let queue = &self.queues().handlers;
            // Without memory it is not told, and asks.
            let _ = queue.try_spawn(GFP_KERNEL, move || this.tell(&wake));
        }
    }

    fn tell(self: &Arc<Self>, wake: &Wake) {
        let what = match wake.verdict {
            Verdict::Granted(grant) if grant != 0 => What::Lock,
            _ => What::Barrier { count: 0 },
        };
        let request = Request {
            what,
            ask: Ask::Wake(wake.verdict),
            class: wake.class,
            tag: wake.who.tag,
            life: self.local.incarnation,
            name: wake.name,
        };
        let to = To {
            node: wake.who.life.node,
            port: PORT,
            timeout_ms: WAKE_MS,
            signals: Signals::Fatal,
            class: wake.class,
        };
        let answer = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)
            .map_err(Error::from)
            .and_then(|mut reply| ask(self, to, &request.encode(), &[], &mut reply));
        // Without an answer it may know or not, and asks.
        if let Ok(answer) = answer {
            self.sync.service.lock().woken(wake, answer.is_ok());
            self.wake_others();
        }
    }

    /// A map is in force: who was dropped holds nothing any more, and waits for nothing.
    pub(crate) fn drop_waiters(self: &Arc<Self>) {
        {
            let mut service = self.sync.service.lock();
            service.drop_lives(now(), |life| !self.is_alive(life));
        }
        self.wake_others();
        // Is their owner still there?
        for (_, waiting) in self.sync.waiters.lock().iter() {
            waiting.waiter.lock().doubt();
            waiting.woken.notify_all();
        }
    }

    /// Enters a lock or a barrier, and waits. A lock is held then, a barrier has been passed.
    pub(crate) fn enter(self: &Arc<Self>, wish: Wish) -> Result<Option<Held>> {
        let tag = self.regions.new_tag();
        let request = |ask, life| Request {
            what: wish.what,
            ask,
            class: wish.class,
            tag,
            life,
            name: wish.name,
        };
        let release = Release {
            owner: Life {
                node: wish.owner,
                incarnation: 0,
            },
            port: PORT,
            message: {
                let mut message = KVec::new();
                message.extend_from_slice(
                    &request(Ask::Leave { late: true }, 0).encode(),
                    GFP_KERNEL,
                )?;
                message
            },
        };
        let mut promise = Promise::new(self, release)?;
        let call_ms = self.timeout_ms;
        let made = Arc::pin_init(
            pin_init!(Waiting {
                owner: wish.owner,
                waiter <- new_mutex!(
                    Waiter::new(now(), wish.deadline, call_ms, wish.now_or_never),
                    "lite_waiter"
                ),
                woken <- new_condvar!("lite_woken"),
            }),
            GFP_KERNEL,
        );
        let noted = made.and_then(|waiting| {
            let mut waiters = self.sync.waiters.lock();
            waiters.try_create_and_insert(tag, waiting.clone(), GFP_KERNEL)?;
            Ok(waiting)
        });
        let waiting = match noted {
            Ok(waiting) => waiting,
            Err(e) => {
                promise.cancel();
                return Err(e);
            }
        };
        let noted = Noted {
            host: self.clone(),
            tag,
        };
        let begun = now();
        let outcome = self.wait(&waiting, wish.owner, request);
        trace::lock(
            self.node.name(),
            wish.owner.into(),
            !matches!(wish.what, What::Lock),
            outcome.result.unwrap_or(0),
            trace::errno(&outcome.result),
            now().saturating_sub(begun),
        );
        let (life, leave) = {
            let waiter = waiting.waiter.lock();
            (waiter.life(), waiter.leave())
        };
        let owner = Life {
            node: wish.owner,
            incarnation: life,
        };
        let leave = request(leave, life).encode();
        promise.set_owner(owner, &leave);
        match (outcome.result, wish.what) {
            (Ok(grant), What::Lock) => {
                let mut message = KVec::new();
                message.extend_from_slice(&leave, GFP_KERNEL)?;
                Ok(Some(Held {
                    noted,
                    owner,
                    class: wish.class,
                    message,
                    promise,
                    grant,
                }))
            }
            (result, _) => {
                if !outcome.leave {
                    promise.cancel();
                }
                result.map(|_| None)
            }
        }
    }

    fn wait(
        self: &Arc<Self>,
        waiting: &Waiting,
        owner: u16,
        request: impl Fn(Ask, u64) -> Request,
    ) -> Outcome {
        loop {
            let mut waiter = waiting.waiter.lock();
            match waiter.next(now()) {
                Step::Done(outcome) => return outcome,
                Step::Call(asked, timeout_ms) => {
                    let leaving = matches!(asked, Ask::Leave { .. });
                    let request = request(asked, waiter.life());
                    drop(waiter);
                    let answer = self.say(owner, &request, timeout_ms);
                    let mut waiter = waiting.waiter.lock();
                    match answer {
                        // Who leaves does not wait for it, then.
                        Err(e) if e == EINTR && !leaving => waiter.give_up(EINTR),
                        answer => waiter.answered(now(), asked, answer),
                    }
                }
                Step::Wait(until) => {
                    if self.is_stopped() {
                        waiter.give_up(ESHUTDOWN);
                        continue;
                    }
                    let left = until.saturating_sub(now()).div_ceil(MS).min(1000) as u32;
                    let jiffies = msecs_to_jiffies(left.max(1));
                    let slept = waiting
                        .woken
                        .wait_interruptible_timeout(&mut waiter, jiffies);
                    if let CondVarTimeoutResult::Signal { .. } = slept {
                        waiter.give_up(EINTR);
                    }
                }
            }
        }
    }

    fn say(
        self: &Arc<Self>,
        owner: u16,
        request: &Request,
        timeout_ms: u32,
    ) -> Result<Result<Reply>> {
        let mut reply = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)?;
        // Who leaves has been interrupted already.
        let signals = match request.ask {
            Ask::Leave { .. } => Signals::Fatal,
            _ => Signals::All,
        };
        let to = To {
            node: owner,
            port: PORT,
            timeout_ms,
            signals,
            class: request.class,
        };
        let answer = ask(self, to, &request.encode(), &[], &mut reply)?;
        Ok(answer.and_then(|len| Reply::decode(&reply[..len])))
    }
}
