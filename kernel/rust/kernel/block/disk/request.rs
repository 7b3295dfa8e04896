// SPDX-License-Identifier: GPL-2.0

//! A request.

use super::{segments::for_each_piece, Driver};
use crate::{bindings, prelude::*};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{self, NonNull},
};

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Request::fill`] it with what is on the disk.
    Read,
    /// What it [`Request::copy_to`]s goes to the disk.
    Write,
    /// Writes that were ended before must not be lost any more. Without data.
    Flush,
    /// Its bytes are not needed any more. Without data.
    Discard,
    /// Its bytes become zeroes. Without data.
    WriteZeroes,
}

/// A request that the driver serves. Fails with [`EIO`] when it is dropped.
///
/// # Invariants
///
/// `rq` was started, is not ended and belongs to us. It is of a [`Disk`](super::Disk) with driver
/// `D`, and its private part is an initialised `D::Data`.
pub struct Request<D: Driver> {
    rq: NonNull<bindings::request>,
    // It has no driver in it: where it is does not matter.
    _driver: PhantomData<fn() -> D>,
}

// SAFETY: A request may be ended by any task; its data are `Send` and `Sync`.
unsafe impl<D: Driver> Send for Request<D> {}
// SAFETY: A shared reference only reads what does not change, and gives out data that are `Sync`.
unsafe impl<D: Driver> Sync for Request<D> {}

impl<D: Driver> Request<D> {
    /// # Safety
    ///
    /// The type invariants must hold for `rq`, from now on by this value alone.
    pub(super) unsafe fn from_raw(rq: NonNull<bindings::request>) -> Self {
        // INVARIANT: By this function's requirements.
        Self {
            rq,
            _driver: PhantomData,
        }
    }

    /// The private part of a request.
    pub(super) fn data_of(rq: NonNull<bindings::request>) -> *mut D::Data {
        // SAFETY: The private part begins right behind the request, which is where this points.
        unsafe { bindings::blk_mq_rq_to_pdu(rq.as_ptr()) }.cast()
    }

    /// What it wants; [`EOPNOTSUPP`] is the answer to what no [`Operation`] is.
    pub(super) fn parse(&self) -> Result<Operation> {
        match self.flags() & ((1 << bindings::REQ_OP_BITS) - 1) {
            bindings::req_op_REQ_OP_READ => Ok(Operation::Read),
            bindings::req_op_REQ_OP_WRITE => Ok(Operation::Write),
            bindings::req_op_REQ_OP_FLUSH => Ok(Operation::Flush),
            bindings::req_op_REQ_OP_DISCARD => Ok(Operation::Discard),
            bindings::req_op_REQ_OP_WRITE_ZEROES => Ok(Operation::WriteZeroes),
            _ => Err(EOPNOTSUPP),
        }
    }

    /// What it wants.
    #[inline]
    pub fn operation(&self) -> Operation {
        // A driver gets no others.
        self.parse().unwrap_or(Operation::Flush)
    }

    /// Whether it is to be ended only when its own data cannot be lost any more.
    #[inline]
    pub fn is_fua(&self) -> bool {
        self.flags() & (1 << bindings::req_flag_bits___REQ_FUA) != 0
    }

    /// Where it begins on the disk, in bytes.
    #[inline]
    pub fn offset(&self) -> u64 {
        // SAFETY: By the type invariant the request is valid.
        unsafe { (*self.rq.as_ptr()).__sector << bindings::SECTOR_SHIFT }
    }

    /// Its bytes on the disk.
    #[inline]
    pub fn len(&self) -> usize {
        // SAFETY: By the type invariant the request is valid.
        unsafe { (*self.rq.as_ptr()).__data_len as usize }
    }

    /// Whether it is about no bytes, as flushes are.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that no other request of the disk has at the same time: the queue in the upper 16
    /// bits, and which of that queue's requests it is in the lower ones.
    #[inline]
    pub fn tag(&self) -> u32 {
        // SAFETY: By the type invariant the request is valid.
        unsafe { bindings::blk_mq_unique_tag(self.rq.as_ptr()) }
    }

    /// What the driver has for it.
    #[inline]
    pub fn data(&self) -> Pin<&D::Data> {
        // SAFETY: By the type invariant it is initialised, and it stays where it is.
        unsafe { Pin::new_unchecked(&*Self::data_of(self.rq)) }
    }

    /// Copies `to.len()` bytes of what a write brings, from its byte `offset` on. [`EINVAL`] if it
    /// has not so many, or is no write.
    ///
    /// Memory that user space can write may change at any time, so what is copied twice may differ.
    pub fn copy_to(&self, offset: usize, to: &mut [u8]) -> Result {
        self.check(Operation::Write, offset, to.len())?;
        let mut at = 0;
        // SAFETY: A write that is ours, which has these bytes. What is mapped is copied to `to`,
        // which has room for it and is nobody else's.
        unsafe {
            for_each_piece(self.rq, offset, to.len(), |from, len| {
                ptr::copy_nonoverlapping(from, to.as_mut_ptr().add(at), len);
                at += len;
            })
        };
        Ok(())
    }

    /// Copies `from` to the memory of a read, from its byte `offset` on. [`EINVAL`] if it has not
    /// so many bytes, or is no read.
    pub fn fill(&mut self, offset: usize, from: &[u8]) -> Result {
        self.check(Operation::Read, offset, from.len())?;
        let mut at = 0;
        // SAFETY: A read that is ours, which has these bytes; `from` has what is copied there.
        unsafe {
            for_each_piece(self.rq, offset, from.len(), |to, len| {
                ptr::copy_nonoverlapping(from.as_ptr().add(at), to, len);
                at += len;
            })
        };
        Ok(())
    }

    /// Makes `len` bytes of a read's memory zeroes. [`EINVAL`] as for [`Self::fill`].
    pub fn zero(&mut self, offset: usize, len: usize) -> Result {
        self.check(Operation::Read, offset, len)?;
        // SAFETY: A read that is ours, which has these bytes.
        unsafe { for_each_piece(self.rq, offset, len, |to, len| ptr::write_bytes(to, 0, len)) };
        Ok(())
    }

    /// Ends it. Not for hard interrupt context.
    pub fn end(self, result: Result) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariant the request is ours; now it is not any more.
        unsafe { end(this.rq, result) };
    }

    /// Gives it back to be queued again, soon.
    pub fn requeue(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: By the type invariant the request is ours; now it is not any more.
        unsafe { bindings::blk_mq_requeue_request(this.rq.as_ptr(), true) };
    }

    fn flags(&self) -> u32 {
        // SAFETY: By the type invariant the request is valid.
        unsafe { (*self.rq.as_ptr()).cmd_flags }
    }

    fn check(&self, operation: Operation, offset: usize, len: usize) -> Result {
        let end = offset.checked_add(len).ok_or(EINVAL)?;
        if self.parse()? != operation || end > self.len() {
            return Err(EINVAL);
        }
        Ok(())
    }
}

impl<D: Driver> Drop for Request<D> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the request is ours, and it is not used any more.
        unsafe { end(self.rq, Err(EIO)) };
    }
}

/// # Safety
///
/// `rq` must be a request that was started and not ended, and that nobody uses any more.
unsafe fn end(rq: NonNull<bindings::request>, result: Result) {
    let status = match result {
        Ok(()) => bindings::BLK_STS_OK as bindings::blk_status_t,
        Err(e) => e.to_blk_status(),
    };
    // SAFETY: By this function's requirements.
    unsafe { bindings::blk_mq_end_request(rq.as_ptr(), status) };
}
