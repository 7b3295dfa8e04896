// SPDX-License-Identifier: GPL-2.0

//! One operation of an open of /dev/clio.

use crate::{
    core::{
        op::Kind,
        wire::{rights, MAX_PAYLOAD, MAX_READ},
    },
    job::Job,
    session::Shared,
    uapi::{self, opcode},
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    sync::{atomic::Atomic, Arc, SpinLockBh},
    uaccess::{UserPtr, UserSlice},
};

/// What comes back.
struct Back {
    read: KVVec<u8>,
    output: usize,
    result: Option<Result<u64>>,
}

/// An operation that a user began.
#[pin_data]
pub(crate) struct Operation {
    shared: Arc<Shared>,
    pub(crate) kind: Kind,
    pub(crate) request: uapi::Op,
    pub(crate) is_async: bool,
    /// Somebody tells the user of its end just now. Changed under the session's list of operations.
    pub(crate) telling: Atomic<bool>,
    sent: KVVec<u8>,
    #[pin]
    back: SpinLockBh<Back>,
}

/// What to do, of what a user asked for: kind, length, bytes to send, room for those read.
fn decode(op: &uapi::Op, who: u32) -> Result<(Kind, u64, u64, u64)> {
    if op.flags != 0 || op.reserved != 0 {
        return Err(EINVAL);
    }
    let none = [0; 3];
    Ok(match op.opcode {
        opcode::READ | opcode::WRITE if op.arg != none => return Err(EINVAL),
        opcode::READ | opcode::WRITE if op.len > uapi::MAX_LEN => return Err(EMSGSIZE),
        opcode::READ => (Kind::Read, op.len, 0, op.len),
        opcode::WRITE => (Kind::Write, op.len, op.len, 0),
        opcode::TAS => (Kind::TestAndSet, 8, 0, 0),
        opcode::CAS => {
            let [expected, ..] = op.arg;
            (Kind::CompareAndSwap { expected }, 8, 8, 0)
        }
        opcode::FAA => {
            let [value, ..] = op.arg;
            (Kind::FetchAndAdd { value }, 8, 0, 0)
        }
        opcode::LOCK => (Kind::Lock { who }, 8, 0, 0),
        opcode::UNLOCK => (Kind::Unlock { who }, 8, 0, 0),
        opcode::RELEASE => (Kind::Release, 0, 0, 0),
        opcode::FENCE => (Kind::Fence, 0, 0, 0),
        opcode::ALLOC => {
            let rights = match op.arg {
                [0, 0, 0] => rights::ALL,
                [rights, 0, 0] if rights & !u64::from(rights::ALL) == 0 => rights as u32,
                _ => return Err(EINVAL),
            };
            (Kind::Alloc { rights }, op.len, 0, 0)
        }
        opcode::FREE => (Kind::Free, op.len, 0, 0),
        opcode::OFFLOAD => {
            let [id, how, _] = op.arg;
            let id = u16::try_from(id).map_err(|_| EINVAL)?;
            let function = u16::try_from(how >> 32).map_err(|_| EINVAL)?;
            let output = how as u32;
            if op.len > MAX_PAYLOAD as u64 || output > MAX_READ {
                return Err(EMSGSIZE);
            }
            let kind = Kind::Offload {
                id,
                function,
                output,
            };
            (kind, op.len, op.len, output.into())
        }
        _ => return Err(EINVAL),
    })
}

impl Operation {
    /// Takes over what the user asks for, with the bytes that are to be sent. `who` is by whom
    /// a lock is taken or given back.
    pub(crate) fn new(
        shared: Arc<Shared>,
        request: &uapi::Op,
        who: u32,
        is_async: bool,
    ) -> Result<(Arc<Self>, u64)> {
        let (kind, len, send, read) = decode(request, who)?;
        let mut sent = KVVec::new();
        match kind {
            Kind::CompareAndSwap { .. } => {
                let [_, desired, _] = request.arg;
                sent.extend_from_slice(&desired.to_le_bytes(), GFP_KERNEL)?;
            }
            _ if send != 0 => {
                sent.resize(send as usize, 0u8, GFP_KERNEL)?;
                let from = UserPtr::from_addr(usize::try_from(request.buf)?);
                UserSlice::new(from, sent.len())
                    .reader()
                    .read_slice(&mut sent)?;
            }
            _ => {}
        }
        let mut room = KVVec::new();
        room.resize(read as usize, 0u8, GFP_KERNEL)?;
        let request = *request;
        let this = Arc::pin_init(
            pin_init!(Self {
                shared,
                kind,
                request,
                is_async,
                telling: Atomic::new(false),
                sent,
                back <- new_spinlock_bh!(Back { read: room, output: 0, result: None }, "clio_operation"),
            }),
            GFP_KERNEL,
        )?;
        Ok((this, len))
    }

    /// The result, once it is over.
    pub(crate) fn result(&self) -> Option<Result<u64>> {
        self.back.lock().result
    }

    /// Bytes of kernel memory that it holds.
    pub(crate) fn weight(&self) -> usize {
        self.sent.len() + self.back.lock().read.len()
    }

    /// Bytes of the output of an offload.
    pub(crate) fn output_len(&self) -> u64 {
        self.back.lock().output as u64
    }

    /// Gives the user what was read, once it is over. The result, or why that could not be given. Whoever
    /// tells of it may have to do that again.
    pub(crate) fn deliver(&self) -> Result<u64> {
        let (result, read, output) = {
            let mut back = self.back.lock();
            (back.result, ::core::mem::take(&mut back.read), back.output)
        };
        let given = self.give(result.unwrap_or(Err(EIO)), &read, output);
        self.back.lock().read = read;
        given
    }

    fn give(&self, result: Result<u64>, read: &[u8], output: usize) -> Result<u64> {
        let value = result?;
        let (to, len) = match self.kind {
            Kind::Read => (self.request.buf, read.len()),
            Kind::Offload { .. } => (self.request.arg[2], output.min(read.len())),
            _ => return Ok(value),
        };
        if len != 0 {
            let to = UserPtr::from_addr(usize::try_from(to)?);
            UserSlice::new(to, len)
                .writer()
                .write_slice(read.get(..len).unwrap_or(&[]))?;
        }
        Ok(match self.kind {
            Kind::Read => 0,
            _ => value,
        })
    }
}

impl Job for Operation {
    fn bytes(&self) -> &[u8] {
        &self.sent
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        let mut back = self.back.lock();
        let end = offset.saturating_add(bytes.len());
        if let Some(to) = back.read.get_mut(offset..end) {
            to.copy_from_slice(bytes);
        }
    }

    fn output(&self, len: usize) {
        self.back.lock().output = len;
    }

    fn done(&self, result: Result<u64>) {
        self.back.lock().result = Some(result);
        self.shared.locks.settle(self.kind, result);
        self.shared.ended();
    }
}
