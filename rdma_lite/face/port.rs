// SPDX-License-Identifier: GPL-2.0

//! Ports whose calls a module executes.

use super::{abi, Node};
use ::core::{marker::PhantomData, ptr, slice};
use kernel::{error::to_result, prelude::*, sync::Arc};

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
