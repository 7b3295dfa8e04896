// SPDX-License-Identifier: GPL-2.0

//! Memory for the bytes of operations, made with the disk.

use ::core::ops::{Deref, DerefMut};
use kernel::{
    new_spinlock_bh,
    page::ContiguousPages,
    prelude::*,
    sync::{Arc, SpinLockBh},
};

/// Buffers of one size.
#[pin_data]
pub(super) struct Pool {
    #[pin]
    free: SpinLockBh<KVec<ContiguousPages>>,
}

impl Pool {
    /// `count` buffers of `2^order` pages.
    pub(super) fn new(count: usize, order: u32) -> Result<Arc<Self>> {
        let mut free = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            free.push(ContiguousPages::zeroed(order, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Arc::pin_init(
            pin_init!(Self { free <- new_spinlock_bh!(free, "clio_buffers") }),
            GFP_KERNEL,
        )
    }

    /// One of them, if one is free.
    pub(super) fn take(self: &Arc<Self>) -> Option<Buffer> {
        let pages = self.free.lock().pop()?;
        Some(Buffer {
            pages: Some(pages),
            pool: self.clone(),
        })
    }
}

/// A buffer, which goes back to its pool.
pub(super) struct Buffer {
    /// There until it is dropped.
    pages: Option<ContiguousPages>,
    pool: Arc<Pool>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.pages.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.pages.as_deref_mut().unwrap_or_default()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            // There was room for it at the beginning.
            let _ = self.pool.free.lock().push_within_capacity(pages);
        }
    }
}
