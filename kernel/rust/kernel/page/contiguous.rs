// SPDX-License-Identifier: GPL-2.0

//! Physically contiguous pages.

use super::PAGE_SIZE;
use crate::{
    alloc::{
        flags::{__GFP_COMP, __GFP_HIGHMEM, __GFP_ZERO},
        AllocError, Flags,
    },
    bindings,
};
use core::{
    ops::{Deref, DerefMut},
    ptr::NonNull,
    slice,
};

/// `2^order` physically contiguous pages, aligned to their size, that the kernel's linear map has.
///
/// They are zero at the beginning, and are bytes that any CPU may access in any context.
///
/// # Invariants
///
/// `start` is the linear address of a compound page of order `order`, which we own; all of its
/// bytes are initialised.
///
/// # Examples
///
/// ```
/// use kernel::page::{ContiguousPages, PAGE_SIZE};
///
/// let mut pages = ContiguousPages::zeroed(2, GFP_KERNEL)?;
/// assert_eq!(pages.len(), 4 * PAGE_SIZE);
/// assert!(pages.iter().all(|byte| *byte == 0));
/// pages[PAGE_SIZE] = 1;
/// # Ok::<(), Error>(())
/// ```
pub struct ContiguousPages {
    start: NonNull<u8>,
    order: u32,
}

// SAFETY: Pages belong to no thread.
unsafe impl Send for ContiguousPages {}
// SAFETY: A shared reference only reads.
unsafe impl Sync for ContiguousPages {}

impl ContiguousPages {
    /// Largest order that the page allocator has.
    pub const MAX_ORDER: u32 = bindings::MAX_PAGE_ORDER;

    /// Allocates `2^order` pages of zeroes.
    ///
    /// Fails for orders above [`Self::MAX_ORDER`]; those well above 3 fail easily once memory is
    /// fragmented.
    pub fn zeroed(order: u32, flags: Flags) -> Result<Self, AllocError> {
        if order > Self::MAX_ORDER {
            return Err(AllocError);
        }
        // High memory has no linear address.
        let flags = (flags | __GFP_ZERO | __GFP_COMP) & !__GFP_HIGHMEM;
        // SAFETY: The order is valid. Whether it may sleep is up to `flags`.
        let page = unsafe { bindings::alloc_pages(flags.as_raw(), order) };
        if page.is_null() {
            return Err(AllocError);
        }
        // SAFETY: A page that was just allocated.
        let start = unsafe { bindings::page_address(page) };
        // INVARIANT: `__GFP_COMP` makes a compound page of this order, `__GFP_ZERO` initialises
        // it, and pages that are not of high memory have a linear address.
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(AllocError)?,
            order,
        })
    }

    /// How many pages, as the exponent of 2.
    #[inline]
    pub fn order(&self) -> u32 {
        self.order
    }

    /// Where the bytes are, for as long as `self` lives.
    #[inline]
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }
}

impl Deref for ContiguousPages {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: By the type invariant these bytes are ours and initialised; nobody writes them
        // while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), PAGE_SIZE << self.order) }
    }
}

impl DerefMut for ContiguousPages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant these bytes are ours and initialised; nobody else accesses
        // them while `self` is borrowed mutably.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), PAGE_SIZE << self.order) }
    }
}

impl Drop for ContiguousPages {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pages are ours, of this order, and the linear address
        // is that of the first.
        unsafe { bindings::free_pages(self.start.as_ptr() as usize, self.order) };
    }
}
