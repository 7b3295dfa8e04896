// SPDX-License-Identifier: GPL-2.0

//! The memory of a ring: written by one node, read by the other.
//!
//! This file has unsafe code because two nodes copy into and out of the memory at once: the protocol
//! gives each part of it to one of them at a time, but neither believes the other. So there are no
//! references into it, and what is copied out is to be checked before it is believed.

use core::{cell::UnsafeCell, ptr};
use kernel::prelude::*;

/// See the module.
pub(super) struct Ring {
    bytes: UnsafeCell<KVVec<u8>>,
}

// SAFETY: The bytes are only copied, through raw pointers, as is right for memory that another node
// writes; the vector itself never changes.
unsafe impl Sync for Ring {}

impl Ring {
    /// So many bytes of zeroes.
    pub(super) fn new(size: usize) -> Result<Self> {
        let bytes = KVVec::from_elem(0, size, GFP_KERNEL)?;
        Ok(Self {
            bytes: UnsafeCell::new(bytes),
        })
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        self.vector().len()
    }

    fn vector(&self) -> &KVVec<u8> {
        // SAFETY: The vector itself never changes, so looking at it races with nothing.
        unsafe { &*self.bytes.get() }
    }

    /// Where `len` bytes from `offset` on are; [`ERANGE`] when not all of them are there.
    fn at(&self, offset: usize, len: usize) -> Result<*mut u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => {
                Ok(self.vector().as_ptr().cast_mut().wrapping_add(offset))
            }
            _ => Err(ERANGE),
        }
    }

    /// Copies `into.len()` bytes out.
    pub(super) fn read(&self, offset: usize, into: &mut [u8]) -> Result {
        let from = self.at(offset, into.len())?;
        // SAFETY: So many bytes are there, as was just checked. The peer may be writing them if it
        // breaks the protocol; then they are of no use, but harmless.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    /// Copies bytes in.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> Result {
        // SAFETY: A slice is readable.
        unsafe { self.write_raw(offset, bytes.as_ptr(), bytes.len()) }
    }

    /// Copies bytes in that others may be changing.
    ///
    /// # Safety
    ///
    /// `from` must be readable for `len` bytes.
    pub(super) unsafe fn write_raw(&self, offset: usize, from: *const u8, len: usize) -> Result {
        let to = self.at(offset, len)?;
        // SAFETY: So many bytes are there, as was just checked, and `from` has as many; it is not of
        // this ring, of which nobody has a pointer.
        unsafe { ptr::copy_nonoverlapping(from, to, len) };
        Ok(())
    }
}
