// SPDX-License-Identifier: GPL-2.0

//! Operations on regions, many at once: `SUBMIT` begins them, `POLL` tells of those that are over. What may
//! be outstanding, and whose operation runs next, is decided in the core ([`outstanding`](crate::core::outstanding),
//! [`turns`](crate::core::turns)).
//!
//! Each [`operation`] runs on a work queue, with its bytes in the kernel: what is written is taken from the
//! user when it begins, what was read is given to the user when it is told of. So no page of the user's
//! is held, and a process that dies leaves operations that end by themselves, by their deadlines.
//!
//! Locks: `Operations::queue`, then `Operation::state`; that of the [`workers`] is a leaf.

pub(crate) mod operation;
pub(crate) mod workers;

use self::operation::Operation;
use super::Opened;
use crate::{
    core::{outstanding::Outstanding, Bounds},
    events::now,
    host::Queues,
    uapi::{
        self,
        async_ops::{self, Completion, Op, Poll, Submit},
    },
};
use kernel::{
    new_mutex, new_poll_condvar,
    prelude::*,
    sync::{poll::PollCondVar, Arc, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};

/// What one open file may have outstanding.
const BOUNDS: Bounds = Bounds {
    requests: 1024,
    bytes: 16 << 20,
};
const MS: u64 = 1_000_000;
/// A wait is made of such pieces.
const WAIT_MS: u64 = 3_600_000;

/// The operations of an open file.
#[pin_data]
pub(crate) struct Operations {
    #[pin]
    queue: Mutex<Outstanding<Arc<Operation>>>,
    /// One is over.
    #[pin]
    pub(super) changed: PollCondVar,
}

/// Where entry `at` of an array of the user's lies.
fn entry<T>(array: u64, at: usize) -> Result<usize> {
    let offset = at.checked_mul(size_of::<T>()).ok_or(EFAULT)?;
    let array = usize::try_from(array).map_err(|_| EFAULT)?;
    array.checked_add(offset).ok_or(EFAULT)
}

fn errno(result: Result) -> i32 {
    result.err().map_or(0, |e| e.to_errno())
}

impl Operations {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                queue <- new_mutex!(Outstanding::new(BOUNDS), "lite_operations"),
                changed <- new_poll_condvar!("lite_operations"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether there is one to tell of.
    pub(super) fn is_ready(&self) -> bool {
        self.queue.lock().is_ready()
    }

    /// Waits until `enough`; [`ETIMEDOUT`] at `until`, [`EINTR`] when a signal comes.
    fn wait(
        &self,
        until: u64,
        mut enough: impl FnMut(&Outstanding<Arc<Operation>>) -> bool,
    ) -> Result {
        let mut queue = self.queue.lock();
        loop {
            if enough(&queue) {
                return Ok(());
            }
            let left = until.saturating_sub(now()).div_ceil(MS);
            if left == 0 {
                return Err(ETIMEDOUT);
            }
            let jiffies = msecs_to_jiffies(left.min(WAIT_MS) as u32).max(1);
            if let CondVarTimeoutResult::Signal { .. } =
                self.changed.wait_interruptible_timeout(&mut queue, jiffies)
            {
                return Err(EINTR);
            }
        }
    }

    fn is_closed(&self) -> bool {
        self.queue.lock().is_closed()
    }

    /// One is over.
    fn over(&self, operation: Arc<Operation>) {
        let unheard = match operation.is_async() {
            true => {
                let bytes = operation.held;
                self.queue.lock().end(operation, bytes)
            }
            false => {
                // Who waits looks at the result under this lock.
                drop(self.queue.lock());
                Some(operation)
            }
        };
        self.changed.notify_all();
        drop(unheard);
    }

    /// Tells of what is over, as much as there is room for, and notes what it told of.
    fn tell(&self, poll: &Poll, all: &mut KVVec<(Arc<Operation>, usize)>) -> Result {
        while all.len() < all.capacity() && all.len() < poll.nr as usize {
            let to = entry::<Completion>(poll.completions, all.len())?;
            let Some((operation, bytes)) = self.queue.lock().take() else {
                break;
            };
            let (done, result) = operation.deliver();
            let completion = Completion {
                cookie: operation.request.cookie,
                done,
                error: errno(result),
                opcode: operation.request.opcode,
            };
            if let Err(e) = uapi::write(to, &completion) {
                self.put_back(operation, bytes);
                return Err(e);
            }
            all.push_within_capacity((operation, bytes))?;
        }
        Ok(())
    }

    /// One could not be told of.
    fn put_back(&self, operation: Arc<Operation>, bytes: usize) {
        let unheard = self.queue.lock().put_back(operation, bytes);
        self.changed.notify_all();
        drop(unheard);
    }

    /// The file is closed. What runs ends by itself; what has not begun to run does nothing.
    pub(super) fn close(self: &Arc<Self>, queues: &Queues) {
        self.queue.lock().close();
        queues.give_up(self);
        loop {
            let operation = self.queue.lock().take();
            if operation.is_none() {
                return;
            }
        }
    }

    /// By what it is known where files take turns.
    fn id(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self) as usize
    }
}

impl Opened {
    /// `RDMA_LITE_IOC_SUBMIT`
    pub(super) fn submit(&self, arg: usize) -> Result {
        let mut submit: Submit = uapi::read(arg)?;
        let fits = submit.nr != 0 && submit.nr <= async_ops::MAX_BATCH;
        if !fits || submit.flags & !async_ops::ASYNC != 0 || submit.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let refused = match submit.flags & async_ops::ASYNC != 0 {
            true => self.submit_async(&mut submit),
            false => self.submit_and_wait(&mut submit),
        };
        if submit.done == 0 {
            refused?;
        }
        uapi::write(arg, &submit)
    }

    fn begin(&self, request: Op, timeout_ms: u32, is_async: bool) -> Result<Arc<Operation>> {
        let operation = Operation::new(self, request, timeout_ms, is_async)?;
        if is_async {
            self.operations.queue.lock().begin(operation.held)?;
        }
        let submitted = self.node.queues().submit(operation.clone());
        if submitted.is_err() && is_async {
            self.operations.queue.lock().cancel(operation.held);
        }
        submitted.map(|()| operation)
    }

    /// Begins one after the other, up to the first that is refused.
    fn submit_async(&self, submit: &mut Submit) -> Result {
        submit.done = 0;
        for at in 0..submit.nr as usize {
            let request = uapi::read(entry::<Op>(submit.ops, at)?)?;
            self.begin(request, submit.timeout_ms, true)?;
            submit.done += 1;
        }
        Ok(())
    }

    /// Begins all, and waits for them: each has its own result.
    fn submit_and_wait(&self, submit: &mut Submit) -> Result {
        let mut all = KVVec::with_capacity(submit.nr as usize, GFP_KERNEL)?;
        submit.done = 0;
        let mut bytes = 0u64;
        for at in 0..submit.nr as usize {
            let request: Op = uapi::read(entry::<Op>(submit.ops, at)?)?;
            bytes = bytes.saturating_add(request.len.min(async_ops::MAX_ASYNC));
            let begun = match bytes <= BOUNDS.bytes as u64 {
                true => self.begin(request, submit.timeout_ms, false),
                false => Err(EMSGSIZE),
            };
            all.push((request, begun), GFP_KERNEL)?;
        }
        let is_over = |(_, begun): &(Op, Result<Arc<Operation>>)| match begun {
            Ok(operation) => operation.is_over(),
            Err(_) => true,
        };
        // Each ends by its deadline.
        self.operations
            .wait(u64::MAX, |_| all.iter().all(is_over))?;
        for (at, (request, begun)) in all.iter_mut().enumerate() {
            let (done, result) = match begun {
                Ok(operation) => operation.deliver(),
                Err(e) => (0, Err(*e)),
            };
            request.done = done;
            request.error = errno(result);
            uapi::write(entry::<Op>(submit.ops, at)?, request)?;
            submit.done += 1;
        }
        Ok(())
    }

    /// `RDMA_LITE_IOC_POLL`
    pub(super) fn poll_operations(&self, arg: usize) -> Result {
        let mut poll: Poll = uapi::read(arg)?;
        let fits = poll.nr != 0 && poll.min <= poll.nr;
        if !fits || poll.flags != 0 || poll.reserved != [0; 2] {
            return Err(EINVAL);
        }
        let timeout_ms = match poll.timeout_ms {
            0 => self.node.settings().timeout_ms,
            ms => ms,
        };
        let until = now().saturating_add(u64::from(timeout_ms) * MS);
        let wanted = poll.min as usize;
        let room = poll.nr.min(async_ops::MAX_BATCH) as usize;
        let mut all = KVVec::with_capacity(room, GFP_KERNEL)?;
        let waited = self.operations.wait(until, |all| all.is_enough(wanted));
        let told = self.operations.tell(&poll, &mut all);
        poll.nr = all.len() as u32;
        let heard = match poll.nr {
            0 if told.is_err() => told,
            0 if wanted != 0 => waited,
            _ => Ok(()),
        };
        let heard = heard.and_then(|()| uapi::write(arg, &poll));
        // What the user cannot know to have heard is told again, in its order.
        while let Some((operation, bytes)) = all.pop() {
            match heard {
                Ok(()) => self.operations.queue.lock().told(bytes),
                Err(_) => self.operations.put_back(operation, bytes),
            }
        }
        heard
    }
}
