// SPDX-License-Identifier: GPL-2.0

//! Attributes of inodes: owner, permissions, size, times.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{FileSystem, Inode, Owner, Timestamp};
use crate::{
    bindings,
    error::{from_result, to_result},
    prelude::*,
    types::NotThreadSafe,
};
use core::cell::Cell;

/// The attributes that an inode begins with.
#[derive(Clone, Copy, Debug)]
pub struct Attributes {
    /// The permissions, without the type.
    pub permissions: u16,
    /// The owner.
    pub owner: Owner,
    /// The number of names: 2 for an empty directory.
    pub nlink: u32,
    /// The size, in bytes.
    pub size: u64,
    /// The space taken, in blocks of 512 bytes.
    pub blocks: u64,
    /// The time of the last access.
    pub atime: Timestamp,
    /// The time of the last change of the content.
    pub mtime: Timestamp,
    /// The time of the last change of the content or the attributes.
    pub ctime: Timestamp,
}

/// All permission bits, with set-user-ID, set-group-ID and sticky.
pub(super) const S_IALLUGO: u32 = 0o7777;

/// Access to the attributes of an inode.
///
/// # Invariants
///
/// `i_lock` is held.
pub struct AttributesGuard<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    _nts: NotThreadSafe,
}

impl<T: FileSystem> Inode<T> {
    /// Locks the attributes (`i_lock`), to change them.
    ///
    /// This is a spin lock: nothing may sleep until the guard is dropped. It does not wait for
    /// `i_rwsem`, so that a change that came from elsewhere can be stored at any time.
    pub fn lock_attributes(&self) -> AttributesGuard<'_, T> {
        // SAFETY: The lock was initialised with the inode.
        unsafe { bindings::spin_lock(&raw mut (*self.as_ptr()).i_lock) };
        // INVARIANT: We hold the lock.
        AttributesGuard {
            inode: self,
            _nts: NotThreadSafe,
        }
    }
}

impl<T: FileSystem> AttributesGuard<'_, T> {
    /// Sets the size, in bytes. Sizes that the VFS cannot have become the largest one.
    ///
    /// When a file shrinks, see [`SetAttr::commit_size`], or unmap the pages beyond its end.
    pub fn set_size(&mut self, size: u64) -> &mut Self {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        // SAFETY: The lock serialises writers, by the type invariants.
        unsafe { bindings::i_size_write(self.inode.as_ptr(), size) };
        self
    }

    /// Sets the permissions; the type stays.
    pub fn set_permissions(&mut self, mode: u16) -> &mut Self {
        let file_type = u32::from(self.inode.mode()) & bindings::S_IFMT;
        // CAST: The type and the permissions have 16 bits.
        let mode = (file_type | (u32::from(mode) & S_IALLUGO)) as u16;
        // SAFETY: The lock serialises writers; readers take no lock, as WRITE_ONCE in C.
        unsafe { (&raw mut (*self.inode.as_ptr()).i_mode).write_volatile(mode) };
        self
    }

    /// Sets the owner; `EINVAL` for numbers that are none.
    pub fn set_owner(&mut self, owner: Owner) -> Result<&mut Self> {
        let (uid, gid) = owner.to_kernel()?;
        // SAFETY: As in `set_permissions`.
        unsafe {
            (&raw mut (*self.inode.as_ptr()).i_uid).write_volatile(uid);
            (&raw mut (*self.inode.as_ptr()).i_gid).write_volatile(gid);
        }
        Ok(self)
    }

    /// Sets the number of names. An inode with none is evicted when nobody uses it any more.
    pub fn set_nlink(&mut self, nlink: u32) -> &mut Self {
        // SAFETY: The inode is valid, and the lock serialises writers.
        unsafe { bindings::set_nlink(self.inode.as_ptr(), nlink) };
        self
    }

    /// Sets the number of blocks of 512 bytes.
    pub fn set_blocks(&mut self, blocks: u64) -> &mut Self {
        // SAFETY: `i_lock` protects `i_blocks`.
        unsafe { (*self.inode.as_ptr()).i_blocks = blocks };
        self
    }

    /// Sets the time of the last change of the content.
    pub fn set_mtime(&mut self, time: Timestamp) -> &mut Self {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_mtime_to_ts(self.inode.as_ptr(), time.to_kernel()) };
        self
    }

    /// Sets the time of the last change.
    pub fn set_ctime(&mut self, time: Timestamp) -> &mut Self {
        // SAFETY: The inode is valid.
        unsafe { bindings::inode_set_ctime_to_ts(self.inode.as_ptr(), time.to_kernel()) };
        self
    }
}

impl<T: FileSystem> Drop for AttributesGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: We hold the lock, by the type invariants.
        unsafe { bindings::spin_unlock(&raw mut (*self.inode.as_ptr()).i_lock) };
    }
}

/// A change of attributes that was asked for and is allowed.
pub struct SetAttr<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    attr: &'a bindings::iattr,
    size_committed: Cell<bool>,
}

impl<T: FileSystem> SetAttr<'_, T> {
    fn has(&self, flag: u32) -> bool {
        self.attr.ia_valid & flag != 0
    }

    /// The new permissions.
    pub fn permissions(&self) -> Option<u16> {
        // CAST: Masked to 12 bits.
        self.has(bindings::ATTR_MODE)
            .then(|| (u32::from(self.attr.ia_mode) & S_IALLUGO) as u16)
    }

    /// The new owner, if the user or the group changes.
    pub fn owner(&self) -> Option<Owner> {
        if !self.has(bindings::ATTR_UID | bindings::ATTR_GID) {
            return None;
        }
        // SAFETY: Both members of the unions are the same number.
        let new = unsafe {
            Owner::from_kernel(
                self.attr.__bindgen_anon_1.ia_uid,
                self.attr.__bindgen_anon_2.ia_gid,
            )
        };
        let old = self.inode.owner();
        Some(Owner {
            uid: if self.has(bindings::ATTR_UID) {
                new.uid
            } else {
                old.uid
            },
            gid: if self.has(bindings::ATTR_GID) {
                new.gid
            } else {
                old.gid
            },
        })
    }

    /// The new size, in bytes.
    pub fn size(&self) -> Option<u64> {
        // CAST: The VFS refuses negative sizes.
        self.has(bindings::ATTR_SIZE)
            .then_some(self.attr.ia_size as u64)
    }

    /// The new time of the last access.
    pub fn atime(&self) -> Option<Timestamp> {
        self.has(bindings::ATTR_ATIME)
            .then(|| Timestamp::from_kernel(self.attr.ia_atime))
    }

    /// The new time of the last change of the content.
    pub fn mtime(&self) -> Option<Timestamp> {
        self.has(bindings::ATTR_MTIME)
            .then(|| Timestamp::from_kernel(self.attr.ia_mtime))
    }

    /// The new time of the last change.
    pub fn ctime(&self) -> Option<Timestamp> {
        self.has(bindings::ATTR_CTIME)
            .then(|| Timestamp::from_kernel(self.attr.ia_ctime))
    }

    /// Gives the inode its new size and unmaps what lies beyond.
    ///
    /// To be called before the pages of a shrinking file are given to others. Otherwise this
    /// happens when the callback has returned `Ok`.
    pub fn commit_size(&self) {
        if self.has(bindings::ATTR_SIZE) && !self.size_committed.replace(true) {
            // SAFETY: The inode is valid, and the VFS holds its `i_rwsem` exclusively while it
            // changes attributes.
            unsafe { bindings::truncate_setsize(self.inode.as_ptr(), self.attr.ia_size) };
        }
    }
}

/// `inode_operations::setattr`, for directories and files.
///
/// # Safety
///
/// Called by the VFS only, for an inode of type `T`.
pub(super) unsafe extern "C" fn setattr<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    dentry: *mut bindings::dentry,
    attr: *mut bindings::iattr,
) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a positive dentry and the change that was asked for, and holds
        // the inode's `i_rwsem`.
        let inode = unsafe {
            to_result(bindings::setattr_prepare(idmap, dentry, attr))?;
            Inode::<T>::from_raw((*dentry).d_inode)
        };
        let change = SetAttr {
            inode,
            // SAFETY: Valid during the call, and nobody changes it after the preparation.
            attr: unsafe { &*attr },
            size_committed: Cell::new(false),
        };
        if T::HAS_SETATTR {
            T::setattr(inode, &change)?;
        }
        change.commit_size();
        // SAFETY: As above.
        unsafe { bindings::setattr_copy(idmap, inode.as_ptr(), attr) };
        Ok(0)
    })
}

/// `inode_operations::getattr`, for directories and files.
///
/// # Safety
///
/// Called by the VFS only, for an inode of type `T`.
pub(super) unsafe extern "C" fn getattr<T: FileSystem>(
    idmap: *mut bindings::mnt_idmap,
    path: *const bindings::path,
    stat: *mut bindings::kstat,
    mask: u32,
    _flags: c_uint,
) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a path to an inode of ours, and keeps it.
        let inode = unsafe { Inode::<T>::from_raw((*(*path).dentry).d_inode) };
        if T::HAS_GETATTR {
            T::getattr(inode)?;
        }
        // SAFETY: The VFS passes a `kstat` to fill.
        unsafe { bindings::generic_fillattr(idmap, mask, inode.as_ptr(), stat) };
        Ok(0)
    })
}
