// SPDX-License-Identifier: GPL-2.0

//! One operation: what the user asked for, with its bytes, and how a worker does it.

use super::{super::Opened, Operations};
use crate::{
    core::account::Charge,
    events::now,
    region::mapping::{deadline, Mapping},
    uapi::async_ops::{self, Op, Segment},
    users::Taken,
};
use kernel::{
    impl_has_work, new_spinlock, new_work,
    prelude::*,
    sync::{Arc, SpinLock},
    uaccess::{UserPtr, UserSlice},
    workqueue::{Work, WorkItem},
};

/// What is done to the region.
enum Doing {
    Read,
    Write,
    Fill(u8),
    /// From there to this one.
    Copy(Arc<Mapping>),
    FetchAdd,
    CompareSwap,
}

impl Doing {
    /// [`EINVAL`] when fields are set that it does not have.
    fn new(opened: &Opened, request: &Op) -> Result<Self> {
        let unused = request.flags == 0 && request.error == 0;
        let doing = match request.opcode {
            async_ops::OP_READ if request.done == 0 => Self::Read,
            async_ops::OP_WRITE if request.done == 0 => Self::Write,
            async_ops::OP_FILL if request.done == 0 => {
                Self::Fill(u8::try_from(request.buf).map_err(|_| EINVAL)?)
            }
            async_ops::OP_COPY => Self::Copy(opened.region(request.buf)?),
            async_ops::OP_FETCH_ADD if request.done == 0 => Self::FetchAdd,
            async_ops::OP_COMPARE_SWAP => Self::CompareSwap,
            _ => return Err(EINVAL),
        };
        let most = match doing {
            Self::Read | Self::Write => async_ops::MAX_SEGMENTS,
            _ => 0,
        };
        match unused && request.segments <= most {
            true => Ok(doing),
            false => Err(EINVAL),
        }
    }

    /// Bytes of the user's that it moves through the kernel.
    fn moves(&self, request: &Op) -> u64 {
        match self {
            Self::Read | Self::Write => request.len,
            _ => 0,
        }
    }
}

/// What becomes of an operation.
struct State {
    bytes: KVVec<u8>,
    taken: Taken,
    done: u64,
    result: Option<Result>,
}

/// See the module.
#[pin_data]
pub(crate) struct Operation {
    pub(super) operations: Arc<Operations>,
    mapping: Arc<Mapping>,
    doing: Doing,
    pub(super) request: Op,
    /// Where the user has the bytes.
    segments: KVVec<Segment>,
    deadline: u64,
    is_async: bool,
    /// Whose it is.
    pub(super) user: u32,
    /// Bytes of kernel memory that it takes.
    pub(super) held: usize,
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
        let result = match () {
            // Nobody hears of it.
            () if this.operations.is_closed() => Err(ECANCELED),
            // It waited for others until it was too late.
            () if now() >= this.deadline => Err(ETIMEDOUT),
            () => this.execute(&mut bytes, &mut done),
        };
        {
            let mut state = this.state.lock();
            state.bytes = bytes;
            state.done = done;
            if this.held != 0 {
                state.taken.moved(done);
            }
            state.result = Some(result);
        }
        let queues = this.mapping.host.node.queues().clone();
        let operations = this.operations.clone();
        operations.over(this);
        queues.ended(&operations);
    }
}

impl Operation {
    /// Takes over what the user asks for.
    pub(super) fn new(
        opened: &Opened,
        request: Op,
        timeout_ms: u32,
        is_async: bool,
    ) -> Result<Arc<Self>> {
        let doing = Doing::new(opened, &request)?;
        let mapping = opened.region(request.handle)?;
        let geometry = mapping.facts()?.geometry;
        match &doing {
            Doing::FetchAdd | Doing::CompareSwap => {
                if request.len != size_of::<u64>() as u64 {
                    return Err(EINVAL);
                }
                geometry.check_word(request.offset)?;
            }
            Doing::Copy(other) => {
                geometry.check(request.offset, request.len)?;
                let there = other.facts()?.geometry;
                there.check(request.done, request.len)?;
            }
            _ => geometry.check(request.offset, request.len)?,
        }
        let moves = doing.moves(&request);
        if moves > async_ops::MAX_ASYNC {
            return Err(EMSGSIZE);
        }
        let held = moves as usize;
        let segments = match held {
            0 => KVVec::new(),
            _ => segments(&request)?,
        };
        let taken = opened.user.take(Charge::call(moves))?;
        let mut bytes = KVVec::with_capacity(held, GFP_KERNEL)?;
        match doing {
            Doing::Write => {
                for segment in &segments {
                    slice(segment)?.read_all(&mut bytes, GFP_KERNEL)?;
                }
            }
            _ => bytes.resize(held, 0, GFP_KERNEL)?,
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
                doing,
                request,
                segments,
                deadline,
                is_async,
                user: opened.user.payer().0,
                held,
                state <- new_spinlock!(state, "lite_operation"),
                work <- new_work!("Operation::work"),
            }),
            GFP_KERNEL,
        )
    }

    /// Whether [`Operations::poll`] tells of it.
    pub(super) fn is_async(&self) -> bool {
        self.is_async
    }

    /// Does it; `done` is how many bytes surely were moved, or what a word was.
    fn execute(&self, bytes: &mut [u8], done: &mut u64) -> Result {
        let (mapping, deadline) = (&self.mapping, self.deadline);
        let Op {
            offset,
            len,
            buf: operand,
            done: argument,
            ..
        } = self.request;
        *done = match &self.doing {
            Doing::Read | Doing::Write => return self.move_bytes(bytes, done),
            Doing::Fill(value) => mapping.set(offset, len, *value, deadline).map(|()| len)?,
            Doing::Copy(other) => mapping
                .copy_to(offset, other, argument, len, deadline)
                .map(|()| len)?,
            Doing::FetchAdd => mapping.fetch_add(offset, operand, deadline)?,
            Doing::CompareSwap => mapping.compare_swap(offset, argument, operand, deadline)?,
        };
        Ok(())
    }

    fn move_bytes(&self, bytes: &mut [u8], done: &mut u64) -> Result {
        let (offset, len) = (self.request.offset, self.request.len);
        let mut given = 0;
        if let Doing::Read = self.doing {
            return self.mapping.read(offset, len, self.deadline, |part| {
                let end = given + part.len();
                bytes.get_mut(given..end).ok_or(EIO)?.copy_from_slice(part);
                given = end;
                *done = given as u64;
                Ok(())
            });
        }
        let result = self.mapping.write(offset, len, self.deadline, |part| {
            *done = given as u64;
            let end = given + part.len();
            part.copy_from_slice(bytes.get(given..end).ok_or(EIO)?);
            given = end;
            Ok(())
        });
        if result.is_ok() {
            *done = given as u64;
        }
        result
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().result.is_some()
    }

    /// Gives the user what was read, when it is over; may be done again. How many bytes were moved, or what
    /// a word was, and how it ended.
    pub(super) fn deliver(&self) -> (u64, Result) {
        let (bytes, done, result) = {
            let mut state = self.state.lock();
            let bytes = ::core::mem::take(&mut state.bytes);
            (bytes, state.done, state.result.unwrap_or(Err(EIO)))
        };
        let delivered = match self.doing {
            Doing::Read => self.scatter(bytes.get(..done as usize).unwrap_or(&[])),
            _ => Ok(()),
        };
        self.state.lock().bytes = bytes;
        match delivered {
            Ok(()) => (done, result),
            Err((given, e)) => (given, Err(e)),
        }
    }

    /// Gives bytes to the user; on an error, how many.
    fn scatter(&self, bytes: &[u8]) -> Result<(), (u64, Error)> {
        let mut left = bytes;
        for segment in &self.segments {
            let (part, rest) = left.split_at(left.len().min(segment.len as usize));
            slice(segment)
                .and_then(|slice| slice.writer().write_slice(part))
                .map_err(|e| ((bytes.len() - left.len()) as u64, e))?;
            left = rest;
        }
        Ok(())
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
