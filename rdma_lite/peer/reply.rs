// SPDX-License-Identifier: GPL-2.0

//! The memory of replies, at the node that gives them.

use core::cell::UnsafeCell;
use kernel::{alloc::Flags, prelude::*, rdma::DmaBuffer, sync::Arc};

/// Memory that a handler writes its reply to, and that the reply is sent from.
#[derive(Clone)]
pub(crate) struct Reply(pub(super) Arc<ReplyMemory>);

pub(super) enum ReplyMemory {
    /// Copied into the ring.
    Heap(UnsafeCell<KVVec<u8>>),
    /// Large: may be written into the caller's memory by the device.
    Device(Arc<DmaBuffer>),
}

// SAFETY: Written by one handler before it is handed to the protocol, and only read afterwards.
unsafe impl Send for ReplyMemory {}
// SAFETY: As above.
unsafe impl Sync for ReplyMemory {}

impl Reply {
    pub(crate) fn heap(cap: usize, flags: Flags) -> Result<Self> {
        let bytes = KVVec::from_elem(0, cap, flags)?;
        let memory = ReplyMemory::Heap(UnsafeCell::new(bytes));
        Ok(Self(Arc::new(memory, flags)?))
    }

    /// In memory that the device writes from.
    pub(crate) fn device(memory: Arc<DmaBuffer>, flags: Flags) -> Result<Self> {
        Ok(Self(Arc::new(ReplyMemory::Device(memory), flags)?))
    }

    /// The memory; valid for as many bytes as it was made for.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        match &*self.0 {
            // SAFETY: The vector itself never changes, so looking at it races with nothing.
            ReplyMemory::Heap(bytes) => unsafe { &*bytes.get() }.as_ptr().cast_mut(),
            ReplyMemory::Device(buffer) => buffer.as_ptr().as_ptr(),
        }
    }

    /// Whether the device cannot write from it.
    pub(super) fn is_heap(&self) -> bool {
        matches!(&*self.0, ReplyMemory::Heap(..))
    }
}
