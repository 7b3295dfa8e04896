// SPDX-License-Identifier: GPL-2.0

//! Regions, locks and barriers, as the C header says. Deadlines are in ms, 0 for the node's default.

use super::Node;
use ::core::ptr::{self, NonNull};
use kernel::{error::to_result, prelude::*};

/// The C ABI, as the header declares it.
#[allow(non_camel_case_types, reason = "the names of the C header")]
mod abi {
    use super::super::abi::lite_node;
    use kernel::ffi::{c_char, c_int, c_void};

    #[repr(C)]
    pub(super) struct lite_region {
        _opaque: [u8; 0],
    }

    #[repr(C)]
    pub(super) struct lite_lock {
        _opaque: [u8; 0],
    }

    extern "C" {
        pub(super) fn lite_malloc(
            node: *mut lite_node,
            at: u32,
            len: u64,
            name: *const c_char,
            others: u32,
            flags: u32,
            timeout_ms: u32,
            region: *mut *mut lite_region,
        ) -> c_int;
        pub(super) fn lite_map(
            node: *mut lite_node,
            at: u32,
            name: *const c_char,
            rights: u32,
            timeout_ms: u32,
            region: *mut *mut lite_region,
        ) -> c_int;
        pub(super) fn lite_unmap(region: *mut lite_region, timeout_ms: u32) -> c_int;
        pub(super) fn lite_free(region: *mut lite_region, timeout_ms: u32) -> c_int;
        pub(super) fn lite_grant(
            region: *mut lite_region,
            to: u32,
            rights: u32,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_region_set_high(region: *mut lite_region, high: bool);
        pub(super) fn lite_read(
            region: *mut lite_region,
            offset: u64,
            buf: *mut c_void,
            len: usize,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_write(
            region: *mut lite_region,
            offset: u64,
            buf: *const c_void,
            len: usize,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_memset(
            region: *mut lite_region,
            offset: u64,
            value: u8,
            len: u64,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_memmove(
            to: *mut lite_region,
            to_offset: u64,
            from: *mut lite_region,
            from_offset: u64,
            len: u64,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_fetch_add(
            region: *mut lite_region,
            offset: u64,
            add: u64,
            old: *mut u64,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_compare_swap(
            region: *mut lite_region,
            offset: u64,
            expected: *mut u64,
            value: u64,
            timeout_ms: u32,
        ) -> c_int;
        pub(super) fn lite_lock(
            node: *mut lite_node,
            at: u32,
            name: *const c_char,
            flags: u32,
            timeout_ms: u32,
            lock: *mut *mut lite_lock,
        ) -> c_int;
        pub(super) fn lite_unlock(lock: *mut lite_lock, timeout_ms: u32) -> c_int;
        pub(super) fn lite_barrier(
            node: *mut lite_node,
            at: u32,
            name: *const c_char,
            count: u32,
            timeout_ms: u32,
        ) -> c_int;
    }
}

/// May read.
pub(crate) const READ: u32 = 1;
/// May write.
pub(crate) const WRITE: u32 = 2;
/// May free, grant and revoke.
pub(crate) const ADMIN: u32 = 4;

/// A mapping of a region; given up when it is dropped.
///
/// # Invariants
///
/// `ptr` is from `lite_malloc()` or `lite_map()`, and ours to give up.
pub(crate) struct Region<'a> {
    ptr: NonNull<abi::lite_region>,
    /// Its module stays as long as the node does.
    _node: &'a Node,
}

// SAFETY: Any thread may use a region.
unsafe impl Send for Region<'_> {}
// SAFETY: As above, and many at once.
unsafe impl Sync for Region<'_> {}

impl<'a> Region<'a> {
    /// A region of `len` bytes at node `at`, which ends with its last mapping unless it is kept.
    /// `others`: what nodes may do that have no grant of their own.
    pub(crate) fn alloc(
        node: &'a Node,
        at: u16,
        len: u64,
        name: Option<&CStr>,
        others: u32,
        keep: bool,
        timeout_ms: u32,
    ) -> Result<Self> {
        let name = name.map_or(ptr::null(), |name| name.as_char_ptr());
        let mut region = ptr::null_mut();
        // SAFETY: By the invariant of `Node` we hold a reference; `name` is a string or null.
        to_result(unsafe {
            abi::lite_malloc(
                node.ptr.as_ptr(),
                at.into(),
                len,
                name,
                others,
                keep.into(),
                timeout_ms,
                &mut region,
            )
        })?;
        // INVARIANT: Just given to us.
        let ptr = NonNull::new(region).ok_or(EIO)?;
        Ok(Self { ptr, _node: node })
    }

    /// The region of this name at node `at`.
    pub(crate) fn map(
        node: &'a Node,
        at: u16,
        name: &CStr,
        rights: u32,
        timeout_ms: u32,
    ) -> Result<Self> {
        let mut region = ptr::null_mut();
        // SAFETY: By the invariant of `Node` we hold a reference; `name` is a string.
        to_result(unsafe {
            abi::lite_map(
                node.ptr.as_ptr(),
                at.into(),
                name.as_char_ptr(),
                rights,
                timeout_ms,
                &mut region,
            )
        })?;
        // INVARIANT: Just given to us.
        let ptr = NonNull::new(region).ok_or(EIO)?;
        Ok(Self { ptr, _node: node })
    }

    /// Frees the region, whoever has mapped it. On an error it is only unmapped.
    pub(crate) fn free(self, timeout_ms: u32) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { abi::lite_free(self.ptr.as_ptr(), timeout_ms) })?;
        // It has ended.
        ::core::mem::forget(self);
        Ok(())
    }

    /// What node `to` (0: each) may do from now on.
    pub(crate) fn grant(&self, to: u16, rights: u32, timeout_ms: u32) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { abi::lite_grant(self.ptr.as_ptr(), to.into(), rights, timeout_ms) })
    }

    /// Reads bytes.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8], timeout_ms: u32) -> Result {
        let (to, len) = (into.as_mut_ptr(), into.len());
        // SAFETY: By the type invariant; the slice can be written.
        to_result(unsafe { abi::lite_read(self.ptr.as_ptr(), offset, to.cast(), len, timeout_ms) })
    }

    /// What is done with it from now on is of the high class, or not.
    pub(crate) fn set_high(&self, high: bool) {
        // SAFETY: By the type invariant.
        unsafe { abi::lite_region_set_high(self.ptr.as_ptr(), high) }
    }

    /// Writes bytes.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8], timeout_ms: u32) -> Result {
        let (from, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: By the type invariant; the slice can be read.
        to_result(unsafe {
            abi::lite_write(self.ptr.as_ptr(), offset, from.cast(), len, timeout_ms)
        })
    }

    /// Fills bytes with a value.
    pub(crate) fn fill(&self, offset: u64, value: u8, len: u64, timeout_ms: u32) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe { abi::lite_memset(self.ptr.as_ptr(), offset, value, len, timeout_ms) })
    }

    /// Copies bytes of `from`, which may be the same region; the ranges may overlap.
    pub(crate) fn copy_from(
        &self,
        offset: u64,
        from: &Self,
        from_offset: u64,
        len: u64,
        timeout_ms: u32,
    ) -> Result {
        // SAFETY: By the type invariant.
        to_result(unsafe {
            abi::lite_memmove(
                self.ptr.as_ptr(),
                offset,
                from.ptr.as_ptr(),
                from_offset,
                len,
                timeout_ms,
            )
        })
    }

    /// Adds to a word; what it was.
    pub(crate) fn fetch_add(&self, offset: u64, add: u64, timeout_ms: u32) -> Result<u64> {
        let mut old = 0;
        // SAFETY: By the type invariant.
        to_result(unsafe {
            abi::lite_fetch_add(self.ptr.as_ptr(), offset, add, &mut old, timeout_ms)
        })?;
        Ok(old)
    }

    /// Replaces a word that is `expected`; what it was.
    pub(crate) fn compare_swap(
        &self,
        offset: u64,
        mut expected: u64,
        value: u64,
        timeout_ms: u32,
    ) -> Result<u64> {
        // SAFETY: By the type invariant.
        to_result(unsafe {
            abi::lite_compare_swap(self.ptr.as_ptr(), offset, &mut expected, value, timeout_ms)
        })?;
        Ok(expected)
    }
}

impl Drop for Region<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. What cannot be told now is told in the background.
        unsafe { abi::lite_unmap(self.ptr.as_ptr(), 0) };
    }
}

/// A lock that is held; given back when it is dropped.
///
/// # Invariants
///
/// `ptr` is from `lite_lock()`, and ours to give back.
pub(crate) struct Lock<'a> {
    ptr: NonNull<abi::lite_lock>,
    _node: &'a Node,
}

// SAFETY: Any thread may give a lock back.
unsafe impl Send for Lock<'_> {}

impl<'a> Lock<'a> {
    /// Takes the lock of this name at node `at`.
    pub(crate) fn take(node: &'a Node, at: u16, name: &CStr, timeout_ms: u32) -> Result<Self> {
        let mut lock = ptr::null_mut();
        // SAFETY: By the invariant of `Node` we hold a reference; `name` is a string.
        to_result(unsafe {
            abi::lite_lock(
                node.ptr.as_ptr(),
                at.into(),
                name.as_char_ptr(),
                0,
                timeout_ms,
                &mut lock,
            )
        })?;
        // INVARIANT: Just given to us.
        let ptr = NonNull::new(lock).ok_or(EIO)?;
        Ok(Self { ptr, _node: node })
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant. What cannot be told now is told in the background.
        unsafe { abi::lite_unlock(self.ptr.as_ptr(), 0) };
    }
}

impl Node {
    /// Waits until `count` have come to the barrier of this name at node `at`.
    pub(crate) fn barrier(&self, at: u16, name: &CStr, count: u32, timeout_ms: u32) -> Result {
        // SAFETY: By the invariant of `Node` we hold a reference; `name` is a string.
        to_result(unsafe {
            abi::lite_barrier(
                self.ptr.as_ptr(),
                at.into(),
                name.as_char_ptr(),
                count,
                timeout_ms,
            )
        })
    }
}
