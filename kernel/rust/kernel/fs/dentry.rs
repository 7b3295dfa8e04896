// SPDX-License-Identifier: GPL-2.0

//! Names in the cache of the VFS.
//!
//! What is in the cache may be out of date where others change the same file system: a file system
//! is asked each time whether a name still means the same inode, and that it means none is never
//! remembered.
//!
//! C header: [`include/linux/dcache.h`](srctree/include/linux/dcache.h)

use super::{FileSystem, Inode};
use crate::{bindings, prelude::*};
use core::{marker::PhantomData, slice};

/// Returns the bytes of a name.
///
/// # Safety
///
/// `name` must be valid and keep its content for `'a`.
pub(super) unsafe fn bytes<'a>(name: *const bindings::qstr) -> &'a [u8] {
    // SAFETY: By the requirements; the VFS sets the length of every name.
    unsafe {
        let len = (*name).__bindgen_anon_1.__bindgen_anon_1.len;
        slice::from_raw_parts((*name).name, len as usize)
    }
}

/// Returns the name of a dentry.
///
/// # Safety
///
/// `dentry` must be valid for `'a`, and its parent locked so that it is not renamed.
pub(super) unsafe fn name<'a>(dentry: *mut bindings::dentry) -> &'a [u8] {
    // SAFETY: By the requirements.
    unsafe { bytes(&raw const (*dentry).__bindgen_anon_1.d_name) }
}

/// The operations of all dentries of a super block.
pub(super) struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    pub(super) const TABLE: bindings::dentry_operations = bindings::dentry_operations {
        d_revalidate: Some(Self::revalidate),
        d_delete: Some(Self::delete),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS only, with a dentry of a super block of type `T`.
    unsafe extern "C" fn revalidate(
        dir: *mut bindings::inode,
        name: *const bindings::qstr,
        dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: No requirements.
        if unsafe { bindings::lookup_is_rcu(flags) } {
            return ECHILD.to_errno();
        }
        // SAFETY: The caller has a reference to the dentry, which may become positive meanwhile
        // but not negative; as READ_ONCE in C.
        let inode = unsafe { (&raw const (*dentry).d_inode).read_volatile() };
        if inode.is_null() {
            return 0;
        }
        if !T::HAS_REVALIDATE {
            return 1;
        }
        // SAFETY: The caller has references to the directory and to the dentry, and with it to the
        // inode; it passes a stable copy of the name.
        let answer =
            unsafe { T::revalidate(Inode::from_raw(dir), bytes(name), Inode::from_raw(inode)) };
        match answer {
            Ok(valid) => c_int::from(valid),
            Err(error) => error.to_errno(),
        }
    }

    /// Says whether a dentry that nobody uses leaves the cache at once.
    ///
    /// # Safety
    ///
    /// Called by the VFS only, with a dentry of a super block of type `T`.
    unsafe extern "C" fn delete(dentry: *const bindings::dentry) -> c_int {
        // SAFETY: The VFS holds the lock of the dentry.
        c_int::from(unsafe { (*dentry).d_inode.is_null() })
    }
}
