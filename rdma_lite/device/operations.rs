// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of regions, many at once: `SUBMIT` begins them, `POLL` tells of those that are over.
//! What may be outstanding is [decided](crate::core::outstanding) in the core.
//!
//! Each operation runs on a work queue, with its bytes in the kernel: what is written is taken from the
//! user when it begins, what was read is given to the user when it is told of. So no page of the user's
//! is held, and a process that dies leaves operations that end by themselves, by their deadlines.
//!
//! Locks: `Operations::queue`, then `Operation::state`.

use super::Opened;
use crate::{
    core::{account::Charge, outstanding::Outstanding, Bounds},
    events::now,
    region::mapping::{deadline, Mapping},
    uapi::{
        self,
        async_ops::{self, Completion, Op, Poll, Segment, Submit},
    },
    users::Taken,
};
use kernel::{
    impl_has_work, new_mutex, new_poll_condvar, new_spinlock, new_work,
    prelude::*,
    sync::{poll::PollCondVar, Arc, CondVarTimeoutResult, Mutex, SpinLock},
    time::msecs_to_jiffies,
    uaccess::{UserPtr, UserSlice},
    workqueue::{Work, WorkItem},
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

/// What becomes of an operation.
struct State {
    bytes: KVVec<u8>,
    taken: Taken,
    done: u64,
    result: Option<Result>,
}

/// One operation.
#[pin_data]
struct Operation {
    operations: Arc<Operations>,
    mapping: Arc<Mapping>,
    request: Op,
    /// Where the user has the bytes.
    segments: KVVec<Segment>,
    deadline: u64,
    is_async: bool,
    #[pin]
    state: SpinLock<State>,
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for Operation { self.work }
}

impl WorkItem for Operation {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let mut bytes = ::core::mem::take(&mut this.state.lock().bytes);
        let mut done = 0;
        let closed = this.operations.queue.lock().is_closed();
        let result = match () {
            // Nobody hears of it.
            () if closed => Err(ECANCELED),
            // It waited for others until it was too late.
            () if now() >= this.deadline => Err(ETIMEDOUT),
            () => this.access(&mut bytes, &mut done),
        };
        {
            let mut state = this.state.lock();
            state.bytes = bytes;
            state.done = done as u64;
            state.taken.moved(done as u64);
            state.result = Some(result);
        }
        let operations = this.operations.clone();
        let unheard = match this.is_async {
            true => {
                let bytes = this.request.len as usize;
                operations.queue.lock().end(this, bytes)
            }
            false => {
                // Who waits looks at the result under this lock.
                drop(operations.queue.lock());
                Some(this)
            }
        };
        operations.changed.notify_all();
        drop(unheard);
    }
}

impl Operation {
    /// Takes over what the user asks for.
    fn new(opened: &Opened, request: Op, timeout_ms: u32, is_async: bool) -> Result<Arc<Self>> {
        let unused = request.flags == 0 && request.done == 0 && request.error == 0;
        let known = [async_ops::OP_READ, async_ops::OP_WRITE].contains(&request.opcode);
        if !unused || !known || request.segments > async_ops::MAX_SEGMENTS {
            return Err(EINVAL);
        }
        let mapping = opened.region(request.handle)?;
        mapping
            .facts()?
            .geometry
            .check(request.offset, request.len)?;
        if request.len > async_ops::MAX_ASYNC {
            return Err(EMSGSIZE);
        }
        let segments = segments(&request)?;
        let taken = opened.user.take(Charge::call(request.len))?;
        let mut bytes = KVVec::with_capacity(request.len as usize, GFP_KERNEL)?;
        if request.opcode == async_ops::OP_WRITE {
            for segment in &segments {
                slice(segment)?.read_all(&mut bytes, GFP_KERNEL)?;
            }
        } else {
            bytes.resize(request.len as usize, 0, GFP_KERNEL)?;
        }
        let deadline = deadline(&mapping.host, timeout_ms);
        let state = State {
            bytes,
            taken,
            done: 0,
            result: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                operations: opened.operations.clone(),
                mapping,
                request,
                segments,
                deadline,
                is_async,
                state <- new_spinlock!(state, "lite_operation"),
                work <- new_work!("Operation::work"),
            }),
            GFP_KERNEL,
        )
    }

    /// Moves the bytes; `done` is how many surely were.
    fn access(&self, bytes: &mut [u8], done: &mut usize) -> Result {
        let (offset, len) = (self.request.offset, self.request.len);
        if self.request.opcode == async_ops::OP_READ {
            return self.mapping.read(offset, len, self.deadline, |part| {
                let end = *done + part.len();
                bytes.get_mut(*done..end).ok_or(EIO)?.copy_from_slice(part);
                *done = end;
                Ok(())
            });
        }
        let mut given = 0;
        let result = self.mapping.write(offset, len, self.deadline, |part| {
            *done = given;
            let end = given + part.len();
            part.copy_from_slice(bytes.get(given..end).ok_or(EIO)?);
            given = end;
            Ok(())
        });
        if result.is_ok() {
            *done = given;
        }
        result
    }

    fn is_over(&self) -> bool {
        self.state.lock().result.is_some()
    }

    /// Gives the user what was read. How many bytes were moved, and how it ended.
    fn deliver(&self) -> (u64, Result) {
        let (bytes, done, result) = {
            let mut state = self.state.lock();
            let bytes = ::core::mem::take(&mut state.bytes);
            (bytes, state.done, state.result.unwrap_or(Err(EIO)))
        };
        if self.request.opcode != async_ops::OP_READ {
            return (done, result);
        }
        let mut left = bytes.get(..done as usize).unwrap_or(&[]);
        for segment in &self.segments {
            let (part, rest) = left.split_at(left.len().min(segment.len as usize));
            let given = slice(segment).and_then(|slice| slice.writer().write_slice(part));
            if given.is_err() {
                return ((bytes.len() - left.len()) as u64, given);
            }
            left = rest;
        }
        (done, result)
    }
}

/// The parts of the user's memory; [`EINVAL`] when they are not as long as the operation.
fn segments(request: &Op) -> Result<KVVec<Segment>> {
    let mut segments = KVVec::with_capacity(request.segments.max(1) as usize, GFP_KERNEL)?;
    if request.segments == 0 {
        let whole = Segment {
            buf: request.buf,
            len: request.len,
        };
        segments.push(whole, GFP_KERNEL)?;
    } else {
        let size = request.segments as usize * size_of::<Segment>();
        let from = UserPtr::from_addr(usize::try_from(request.buf)?);
        let mut reader = UserSlice::new(from, size).reader();
        for _ in 0..request.segments {
            segments.push(reader.read::<Segment>()?, GFP_KERNEL)?;
        }
    }
    let mut sum = 0u64;
    for segment in &segments {
        sum = sum.checked_add(segment.len).ok_or(EINVAL)?;
    }
    match sum == request.len {
        true => Ok(segments),
        false => Err(EINVAL),
    }
}

fn slice(segment: &Segment) -> Result<UserSlice> {
    let (buf, len) = (usize::try_from(segment.buf), usize::try_from(segment.len));
    let (buf, len) = (buf.map_err(|_| EFAULT)?, len.map_err(|_| EFAULT)?);
    buf.checked_add(len).ok_or(EFAULT)?;
    Ok(UserSlice::new(UserPtr::from_addr(buf), len))
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

    /// The file is closed. What runs ends by itself; what has not begun to run does nothing.
    pub(super) fn close(&self) {
        self.queue.lock().close();
        loop {
            let operation = self.queue.lock().reap();
            if operation.is_none() {
                return;
            }
        }
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
            self.operations.queue.lock().begin(request.len as usize)?;
        }
        // A new one is in no queue.
        let accesses = self.node.queues().accesses_of(self.class());
        let _ = accesses.enqueue(operation.clone());
        Ok(operation)
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
        let waited = self.operations.wait(until, |all| all.is_enough(wanted));
        let room = poll.nr as usize;
        poll.nr = 0;
        for at in 0..room {
            // Before one is taken: those that cannot be told of stay.
            let to = entry::<Completion>(poll.completions, at)?;
            let Some(operation) = self.operations.queue.lock().reap() else {
                break;
            };
            let (done, result) = operation.deliver();
            let completion = Completion {
                cookie: operation.request.cookie,
                done,
                error: errno(result),
                opcode: operation.request.opcode,
            };
            uapi::write(to, &completion)?;
            poll.nr += 1;
        }
        if poll.nr == 0 && wanted != 0 {
            waited?;
        }
        uapi::write(arg, &poll)
    }
}
