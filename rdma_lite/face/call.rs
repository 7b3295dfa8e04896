// SPDX-License-Identifier: GPL-2.0

//! What a call takes and gives.

use super::abi;
use ::core::{
    marker::PhantomData,
    ptr::{self, NonNull},
};
use kernel::{error::to_result, prelude::*};

/// A piece of a request: any readable kernel memory.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a>(abi::lite_buf, PhantomData<&'a [u8]>);

impl<'a> Piece<'a> {
    /// These bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(
            abi::lite_buf {
                ptr: bytes.as_ptr().cast(),
                len: bytes.len(),
            },
            PhantomData,
        )
    }

    /// Memory that is no slice, as that of a PM device.
    ///
    /// # Safety
    ///
    /// `start` must be valid for reads of `len` bytes for `'a`.
    pub(crate) unsafe fn from_raw(start: NonNull<u8>, len: usize) -> Self {
        Self(
            abi::lite_buf {
                ptr: start.as_ptr().cast_const().cast(),
                len,
            },
            PhantomData,
        )
    }
}

/// Where a reply goes: kernel memory of the linear map, since the peer's
/// adapter may write to it directly.
///
/// # Invariants
///
/// `ptr` is valid for writes of `cap` bytes for `'a`, and nobody else accesses
/// them meanwhile. They lie in the linear map, or `cap` is 0.
pub(crate) struct ReplyBuf<'a> {
    ptr: *mut u8,
    cap: usize,
    _borrow: PhantomData<&'a mut [u8]>,
}

impl<'a> ReplyBuf<'a> {
    /// Only the status matters.
    pub(crate) fn none() -> Self {
        // INVARIANT: No bytes.
        Self {
            ptr: ptr::null_mut(),
            cap: 0,
            _borrow: PhantomData,
        }
    }

    /// Overwrites the elements of `bytes`.
    pub(crate) fn new(bytes: &'a mut KVec<u8>) -> Self {
        // INVARIANT: `kmalloc` memory is of the linear map, and borrowed for `'a`.
        Self {
            ptr: bytes.as_mut_ptr(),
            cap: bytes.len(),
            _borrow: PhantomData,
        }
    }

    /// Memory of another kind.
    ///
    /// # Safety
    ///
    /// `ptr` must be valid for writes of `cap` bytes for `'a`, not accessed
    /// otherwise meanwhile, and lie in the kernel's linear map.
    pub(crate) unsafe fn from_raw(ptr: *mut u8, cap: usize) -> Self {
        // INVARIANT: As the caller guarantees.
        Self {
            ptr,
            cap,
            _borrow: PhantomData,
        }
    }
}

/// What a handler answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    status: i32,
    len: usize,
}

impl Answer {
    /// The length of the reply, or the error that the handler returned.
    pub(crate) fn len(self) -> Result<usize> {
        to_result(self.status)?;
        Ok(self.len)
    }
}

/// One call, or one leg of a multicast.
pub(crate) struct Call<'a> {
    dst: u16,
    port: u16,
    timeout_ms: u32,
    request: &'a [Piece<'a>],
    reply: ReplyBuf<'a>,
    answer: Result<Answer>,
}

impl<'a> Call<'a> {
    /// A call of `port` at `dst`: the request is the concatenation of the
    /// pieces. The deadline is the node's default.
    pub(crate) fn new(dst: u16, port: u16, request: &'a [Piece<'a>], reply: ReplyBuf<'a>) -> Self {
        Self {
            dst,
            port,
            timeout_ms: 0,
            request,
            reply,
            answer: Err(EINVAL),
        }
    }

    /// With another deadline; 0 is the node's default.
    pub(crate) fn timeout_ms(mut self, timeout_ms: u32) -> Self {
        self.timeout_ms = timeout_ms;
        self
    }

    /// The node called.
    pub(crate) fn dst(&self) -> u16 {
        self.dst
    }

    /// What came of it; `EINVAL` before it was made.
    pub(crate) fn answer(&self) -> Result<Answer> {
        self.answer
    }

    pub(super) fn raw(&mut self) -> abi::lite_call {
        abi::lite_call {
            dst: self.dst.into(),
            port: self.port,
            flags: 0,
            timeout_ms: self.timeout_ms,
            nr_req: self.request.len() as u32,
            // `Piece` is a transparent `lite_buf`.
            req: self.request.as_ptr().cast(),
            reply: self.reply.ptr.cast(),
            reply_cap: self.reply.cap,
            reply_len: 0,
            status: 0,
            err: 0,
        }
    }

    pub(super) fn finish(&mut self, raw: &abi::lite_call) {
        self.answer = to_result(raw.err).map(|()| Answer {
            status: raw.status,
            len: raw.reply_len.min(self.reply.cap),
        });
    }
}
