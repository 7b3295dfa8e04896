// SPDX-License-Identifier: GPL-2.0

//! The choice of addresses for mappings.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)

use crate::{bindings, prelude::*, types::NotThreadSafe};
use core::marker::PhantomData;

/// A request for a part of the current address space, in which a file is to be mapped.
///
/// # Examples
///
/// A file that is mapped at one address only:
///
/// ```
/// use kernel::{mm::unmapped_area::AreaRequest, prelude::*};
///
/// fn at_base(request: &AreaRequest<'_>, base: usize) -> Result<usize> {
///     if request.is_fixed() && request.address() != base {
///         return Err(EINVAL);
///     }
///     if !request.is_free(base) {
///         return Err(EADDRINUSE);
///     }
///     Ok(base)
/// }
/// ```
///
/// # Invariants
///
/// The mmap lock of the current task is held exclusively, and `file` is open.
pub struct AreaRequest<'a> {
    file: *mut bindings::file,
    address: usize,
    length: usize,
    first_page: usize,
    flags: c_ulong,
    _file: PhantomData<&'a bindings::file>,
    _nts: NotThreadSafe,
}

impl AreaRequest<'_> {
    /// # Safety
    ///
    /// The type invariants must hold as long as the request exists.
    pub(crate) unsafe fn new(
        file: *mut bindings::file,
        address: usize,
        length: usize,
        first_page: usize,
        flags: c_ulong,
    ) -> Self {
        Self {
            file,
            address,
            length,
            first_page,
            flags,
            _file: PhantomData,
            _nts: NotThreadSafe,
        }
    }

    /// The address that the process wishes, 0 if it has no wish.
    pub fn address(&self) -> usize {
        self.address
    }

    /// The length, in bytes: a multiple of the page size, not 0.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The page of the file that the mapping begins with.
    pub fn first_page(&self) -> usize {
        self.first_page
    }

    /// Whether the process insists on its address (`MAP_FIXED` or `MAP_FIXED_NOREPLACE`).
    pub fn is_fixed(&self) -> bool {
        self.flags & bindings::MAP_FIXED as c_ulong != 0
    }

    /// Whether what is mapped at the address must stay (`MAP_FIXED_NOREPLACE`).
    pub fn is_no_replace(&self) -> bool {
        self.flags & bindings::MAP_FIXED_NOREPLACE as c_ulong != 0
    }

    /// Returns whether nothing is mapped in `address .. address + length`.
    pub fn is_free(&self, address: usize) -> bool {
        let Some(end) = address.checked_add(self.length) else {
            return false;
        };
        let task = current!();
        let Some(mm) = task.mm() else {
            return false;
        };
        // SAFETY: By the type invariants the mmap lock is held.
        unsafe { bindings::find_vma_intersection(mm.as_raw(), address, end).is_null() }
    }

    /// Chooses an address as for any other file.
    pub fn default_area(&self) -> Result<usize> {
        // SAFETY: By the type invariants.
        let address = unsafe {
            bindings::mm_get_unmapped_area(
                self.file,
                self.address,
                self.length,
                self.first_page,
                self.flags,
            )
        };
        // An error is an address at the very end, as in C.
        // CAST: Errors are negative numbers of 32 bits.
        if address >= MIN_ERROR {
            return Err(Error::from_errno(address as i32));
        }
        Ok(address)
    }
}

/// The first value that is an error and not an address.
const MIN_ERROR: usize = (bindings::MAX_ERRNO as usize).wrapping_neg();
