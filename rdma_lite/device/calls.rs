// SPDX-License-Identifier: GPL-2.0

//! Calls that processes make.

use super::Opened;
use crate::{
    call::{self, Buf, Signals},
    core::{account::Charge, Class},
    host::Host,
    uapi::{self, rpc},
    users::{Opener, Taken},
};
use kernel::{
    prelude::*,
    uaccess::{UserPtr, UserSlice},
};

/// Calls of one multicast.
const MOST_CALLS: u32 = 1024;
/// Bytes of requests and replies of one multicast.
const MOST_BYTES: usize = 16 << 20;

/// A call with its memory in the kernel.
struct Copied {
    request: KVVec<u8>,
    /// In the linear map, as the reply may come by RDMA.
    reply: KVec<u8>,
    taken: Taken,
}

impl Copied {
    fn new(given: &rpc::Call, host: &Host, user: &Opener) -> Result<Self> {
        let known = rpc::CALL_NOWAIT | rpc::CALL_NOTIFY;
        if given.flags & !known != 0 || given.reserved != [0; 2] || given.port > 0xffff {
            return Err(EINVAL);
        }
        // What modules tell each other is theirs: they trust it.
        if given.port < rpc::PORT_FIRST {
            return Err(EACCES);
        }
        if given.flags & rpc::CALL_NOTIFY != 0 && given.reply_len != 0 {
            return Err(EINVAL);
        }
        let max = u64::from(host.config.max_payload());
        if given.request_len > max {
            return Err(EMSGSIZE);
        }
        let len = given.request_len as usize;
        let room = given.reply_len.min(max);
        let taken = user.take(Charge::call(given.request_len + room))?;
        let mut request = KVVec::with_capacity(len, GFP_KERNEL)?;
        let from = UserPtr::from_addr(given.request as usize);
        UserSlice::new(from, len).read_all(&mut request, GFP_KERNEL)?;
        let reply = KVec::from_elem(0u8, room as usize, GFP_KERNEL)?;
        Ok(Self {
            request,
            reply,
            taken,
        })
    }

    fn buf(&self) -> Buf {
        Buf {
            ptr: self.request.as_ptr(),
            len: self.request.len(),
        }
    }

    fn call(&mut self, given: &rpc::Call, class: Class, buf: &Buf) -> call::Call {
        call::Call {
            dst: given.node,
            port: given.port as u16,
            flags: given.flags as u16 | call::class_flag(class),
            timeout_ms: given.timeout_ms,
            nr_req: 1,
            req: buf,
            reply: self.reply.as_mut_ptr(),
            reply_cap: self.reply.len(),
            reply_len: 0,
            status: 0,
            err: 0,
        }
    }

    /// Copies the result to the user.
    fn give_back(&mut self, given: &mut rpc::Call, call: &call::Call) -> Result {
        given.err = call.err;
        given.status = call.status;
        given.reply_len = call.reply_len as u64;
        self.taken.moved(given.request_len + given.reply_len);
        let bytes = self.reply.get(..call.reply_len).ok_or(EIO)?;
        let to = UserPtr::from_addr(given.reply as usize);
        UserSlice::new(to, bytes.len()).writer().write_slice(bytes)
    }
}

/// `RDMA_LITE_IOC_CALL`
pub(super) fn one(opened: &Opened, arg: usize) -> Result {
    let host = &opened.node.host()?;
    let mut given: rpc::Call = uapi::read(arg)?;
    let mut copied = Copied::new(&given, host, &opened.user)?;
    let buf = copied.buf();
    let mut call = copied.call(&given, opened.class(), &buf);
    // SAFETY: The memory is ours and outlives the call.
    unsafe { call::one(host, &mut call, Signals::All)? };
    copied.give_back(&mut given, &call)?;
    uapi::write(arg, &given)
}

/// `RDMA_LITE_IOC_MULTICAST`
pub(super) fn all(opened: &Opened, arg: usize) -> Result {
    let host = &opened.node.host()?;
    let mut multicast: rpc::Multicast = uapi::read(arg)?;
    if multicast.reserved != [0; 2] || multicast.nr == 0 || multicast.nr > MOST_CALLS {
        return Err(EINVAL);
    }
    let nr = multicast.nr as usize;
    let all = UserPtr::from_addr(multicast.calls as usize);
    let (mut reader, mut writer) = UserSlice::new(all, nr * size_of::<rpc::Call>()).reader_writer();
    let mut given = KVVec::with_capacity(nr, GFP_KERNEL)?;
    let mut copied = KVVec::with_capacity(nr, GFP_KERNEL)?;
    let mut bytes = 0usize;
    for _ in 0..nr {
        let call: rpc::Call = reader.read()?;
        let one = Copied::new(&call, host, &opened.user)?;
        bytes += one.request.len() + one.reply.len();
        if bytes > MOST_BYTES {
            return Err(EMSGSIZE);
        }
        given.push(call, GFP_KERNEL)?;
        copied.push(one, GFP_KERNEL)?;
    }
    let mut bufs = KVVec::with_capacity(nr, GFP_KERNEL)?;
    for one in &copied {
        bufs.push(one.buf(), GFP_KERNEL)?;
    }
    let mut calls = KVVec::with_capacity(nr, GFP_KERNEL)?;
    for ((given, copied), buf) in given.iter().zip(copied.iter_mut()).zip(&bufs) {
        calls.push(copied.call(given, opened.class(), buf), GFP_KERNEL)?;
    }
    // SAFETY: The memory is ours and outlives the calls.
    let answered = unsafe { call::all(host, &mut calls, Signals::All)? };
    for ((given, copied), call) in given.iter_mut().zip(&mut copied).zip(&calls) {
        copied.give_back(given, call)?;
        writer.write(given)?;
    }
    multicast.answered = answered as u32;
    uapi::write(arg, &multicast)
}
