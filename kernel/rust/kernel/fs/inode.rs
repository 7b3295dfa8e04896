// SPDX-License-Identifier: GPL-2.0

//! Inodes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    directory::{self, DirectoryOperations},
    file_operations::{self, FileOperations},
    FileSystem, Owner, SuperBlock, Timestamp,
};
use crate::{
    bindings,
    error::{from_result, to_result},
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::{ForeignOwnable, NotThreadSafe, Opaque},
};
use core::{cell::Cell, marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

/// An inode of a file system of type `T`, as all but its maker see it.
///
/// # Refcounting
///
/// An `ARef<Inode<T>>` holds a reference to the inode and may go to any thread. Dropping it may
/// sleep, as the last reference evicts the inode ([`FileSystem::evict_inode`]) if it is not kept
/// in memory. It must be dropped before the file system is unmounted: see [`FileSystem`].
///
/// # Invariants
///
/// The content is an `inode` of a super block of `T`. It has been initialised, so that `i_private`
/// is a foreign `T::InodeData`.
#[repr(transparent)]
pub struct Inode<T: FileSystem> {
    inner: Opaque<bindings::inode>,
    _t: PhantomData<T>,
}

// SAFETY: The last reference may be dropped by any thread; the data are `Send`.
unsafe impl<T: FileSystem> Send for Inode<T> {}
// SAFETY: An inode is used by all threads, and what it holds is `Sync`.
unsafe impl<T: FileSystem> Sync for Inode<T> {}

// SAFETY: A `&Inode` means that the count is positive. `ihold` and `iput` count the references,
// and the inode lives until the count is zero.
unsafe impl<T: FileSystem> AlwaysRefCounted for Inode<T> {
    #[inline]
    fn inc_ref(&self) {
        // SAFETY: The reference count is positive, as there is a reference.
        unsafe { bindings::ihold(self.as_ptr()) };
    }

    #[inline]
    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up its reference.
        unsafe { bindings::iput(obj.cast().as_ptr()) };
    }
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `inode` must satisfy the type invariants and its reference count must be positive for `'a`.
    pub(super) unsafe fn from_raw<'a>(inode: *mut bindings::inode) -> &'a Self {
        // SAFETY: By the requirements; the type is transparent.
        unsafe { &*inode.cast() }
    }

    /// Returns the C inode.
    #[inline]
    pub fn as_ptr(&self) -> *mut bindings::inode {
        self.inner.get()
    }

    /// Returns what the file system keeps in this inode.
    #[inline]
    pub fn data(&self) -> <T::InodeData as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the type invariants `i_private` is a foreign `T::InodeData`. It is only taken
        // back when the inode is evicted, when no reference is left.
        unsafe { T::InodeData::borrow((*self.as_ptr()).i_private) }
    }

    /// Returns the super block.
    #[inline]
    pub fn super_block(&self) -> &SuperBlock<T> {
        // SAFETY: By the type invariants; the super block outlives its inodes.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// Returns the number of the inode.
    #[inline]
    pub fn ino(&self) -> u64 {
        // SAFETY: Set once, before the inode is visible.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Returns the size of the file, in bytes.
    #[inline]
    pub fn size(&self) -> u64 {
        // SAFETY: The inode is valid by the type invariants.
        let size = unsafe { bindings::i_size_read(self.as_ptr()) };
        // CAST: Sizes are not negative.
        size as u64
    }

    /// Returns the type and the permissions, as stat(2) does.
    #[inline]
    pub fn mode(&self) -> u16 {
        // SAFETY: The inode is valid by the type invariants; as READ_ONCE in C.
        unsafe { (&raw const (*self.as_ptr()).i_mode).read_volatile() }
    }

    /// Returns whether this is a directory.
    #[inline]
    pub fn is_directory(&self) -> bool {
        u32::from(self.mode()) & bindings::S_IFMT == bindings::S_IFDIR
    }

    /// Returns the number of names.
    #[inline]
    pub fn nlink(&self) -> u32 {
        // SAFETY: The inode is valid by the type invariants; as READ_ONCE in C.
        unsafe { (&raw const (*self.as_ptr()).__bindgen_anon_1.i_nlink).read_volatile() }
    }

    /// Returns the owner.
    pub fn owner(&self) -> Owner {
        // SAFETY: The inode is valid by the type invariants; as READ_ONCE in C.
        let (uid, gid) = unsafe {
            (
                (&raw const (*self.as_ptr()).i_uid).read_volatile(),
                (&raw const (*self.as_ptr()).i_gid).read_volatile(),
            )
        };
        Owner::from_kernel(uid, gid)
    }

    /// Returns the time of the last change of the content.
    pub fn mtime(&self) -> Timestamp {
        // SAFETY: The inode is valid by the type invariants. A concurrent change may be seen half
        // done, as in C.
        unsafe {
            Timestamp {
                sec: (&raw const (*self.as_ptr()).i_mtime_sec).read_volatile(),
                nsec: (&raw const (*self.as_ptr()).i_mtime_nsec).read_volatile(),
            }
        }
    }

    /// Returns the time of the last change of the content or the attributes.
    pub fn ctime(&self) -> Timestamp {
        // SAFETY: As in `mtime`.
        unsafe {
            Timestamp {
                sec: (&raw const (*self.as_ptr()).i_ctime_sec).read_volatile(),
                nsec: (&raw const (*self.as_ptr()).i_ctime_nsec).read_volatile(),
            }
        }
    }

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

    /// Removes the pages `first .. first + count` of the file from all address spaces.
    ///
    /// The next access to them faults. This may sleep, may run in any thread, and may be called
    /// from fault handlers. Whoever changes what a page maps to must make sure, by a lock that the
    /// fault handlers take, that none installs the old page after this.
    #[inline]
    pub fn unmap_pages(&self, first: usize, count: usize) {
        if count == 0 {
            return;
        }
        // SAFETY: The mapping is valid as long as the inode.
        unsafe { bindings::unmap_mapping_pages((*self.as_ptr()).i_mapping, first, count, true) };
    }

    /// Drops the names of this inode from the cache that nobody uses.
    ///
    /// For a file that was unlinked elsewhere, after its `nlink` was set to zero. May sleep.
    pub fn prune_aliases(&self) {
        // SAFETY: The inode is valid by the type invariants.
        unsafe { bindings::d_prune_aliases(self.as_ptr()) };
    }
}

/// Access to the attributes of an inode.
///
/// # Invariants
///
/// `i_lock` is held.
pub struct AttributesGuard<'a, T: FileSystem> {
    inode: &'a Inode<T>,
    _nts: NotThreadSafe,
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

/// All permission bits, with set-user-ID, set-group-ID and sticky.
const S_IALLUGO: u32 = 0o7777;

/// What an inode is: the operations on it.
pub struct Operations<T: FileSystem> {
    inode: &'static bindings::inode_operations,
    file: &'static bindings::file_operations,
    file_type: u32,
    _t: PhantomData<T>,
}

impl<T: FileSystem> Operations<T> {
    /// A directory.
    pub fn directory<D: DirectoryOperations<FileSystem = T>>() -> Self {
        Self {
            inode: &directory::Vtables::<D>::INODE,
            file: &directory::Vtables::<D>::FILE,
            file_type: bindings::S_IFDIR,
            _t: PhantomData,
        }
    }

    /// A regular file.
    pub fn regular<F: FileOperations<FileSystem = T>>() -> Self {
        Self {
            inode: &FileInode::<T>::TABLE,
            file: &file_operations::Vtable::<F>::TABLE,
            file_type: bindings::S_IFREG,
            _t: PhantomData,
        }
    }
}

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

/// An inode that was looked up by its number.
pub enum Iget<'a, T: FileSystem> {
    /// It was in memory.
    Cached(ARef<Inode<T>>),
    /// It was not, and the caller has to initialise it. Others that look for it wait.
    New(NewInode<'a, T>),
}

impl<T: FileSystem> SuperBlock<T> {
    /// Returns the inode of a number, making one if it is not in memory. May sleep.
    pub fn iget(&self, ino: u64) -> Result<Iget<'_, T>> {
        // SAFETY: The super block is valid.
        let inode = unsafe { bindings::iget_locked(self.as_ptr(), ino) };
        let inode = NonNull::new(inode).ok_or(ENOMEM)?;
        // SAFETY: We have got a reference to the inode.
        if unsafe { bindings::inode_is_new(inode.as_ptr()) } {
            // INVARIANT: The inode is new, and we have a reference to it.
            return Ok(Iget::New(NewInode {
                inode,
                _sb: PhantomData,
            }));
        }
        // INVARIANT: `iget_locked` waited until the inode was initialised, and has looked again
        // where that had failed.
        // SAFETY: We own a reference to the inode.
        Ok(Iget::Cached(unsafe { ARef::from_raw(inode.cast()) }))
    }

    /// Returns the inode of a number if it is in memory. May sleep.
    pub fn ilookup(&self, ino: u64) -> Option<ARef<Inode<T>>> {
        // SAFETY: The super block is valid.
        let inode = NonNull::new(unsafe { bindings::ilookup(self.as_ptr(), ino) })?;
        // INVARIANT: `ilookup` returns only inodes that were initialised.
        // SAFETY: We own a reference to the inode.
        Some(unsafe { ARef::from_raw(inode.cast()) })
    }
}

/// An inode that is not initialised yet. If it is dropped, those who wait for it look again.
///
/// # Invariants
///
/// `inode` has the state `I_NEW`, and we own a reference to it.
pub struct NewInode<'a, T: FileSystem> {
    inode: NonNull<bindings::inode>,
    _sb: PhantomData<&'a SuperBlock<T>>,
}

impl<T: FileSystem> NewInode<'_, T> {
    /// Returns the number that the inode was looked up by.
    pub fn ino(&self) -> u64 {
        // SAFETY: We own a reference.
        unsafe { (*self.inode.as_ptr()).i_ino }
    }

    /// Makes the inode complete and visible.
    ///
    /// Returns `EFBIG` for a size that the VFS cannot have, `EINVAL` for an owner that is none.
    pub fn init(
        self,
        attributes: &Attributes,
        operations: Operations<T>,
        data: T::InodeData,
    ) -> Result<ARef<Inode<T>>> {
        let size = i64::try_from(attributes.size).map_err(|_| EFBIG)?;
        let (uid, gid) = attributes.owner.to_kernel()?;

        let raw = ManuallyDrop::new(self).inode.as_ptr();
        // SAFETY: While it is new, an inode belongs to who made it.
        let inode = unsafe { &mut *raw };
        // CAST: The type and the permissions have 16 bits.
        inode.i_mode =
            (operations.file_type | (u32::from(attributes.permissions) & S_IALLUGO)) as u16;
        inode.i_uid = uid;
        inode.i_gid = gid;
        inode.i_blocks = attributes.blocks;
        inode.i_op = operations.inode;
        inode.__bindgen_anon_3.i_fop = operations.file;
        inode.i_private = data.into_foreign();

        // INVARIANT: The data are set, and `operations` are those for `T`.
        // SAFETY: We own a reference to the inode, which is new, and give it to the `ARef`.
        unsafe {
            bindings::i_size_write(raw, size);
            bindings::set_nlink(raw, attributes.nlink);
            bindings::inode_set_atime_to_ts(raw, attributes.atime.to_kernel());
            bindings::inode_set_mtime_to_ts(raw, attributes.mtime.to_kernel());
            bindings::inode_set_ctime_to_ts(raw, attributes.ctime.to_kernel());
            bindings::unlock_new_inode(raw);
            Ok(ARef::from_raw(NonNull::new_unchecked(raw.cast())))
        }
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: The inode is new, and we own a reference to it.
        unsafe { bindings::iget_failed(self.inode.as_ptr()) };
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

struct FileInode<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> FileInode<T> {
    const TABLE: bindings::inode_operations = bindings::inode_operations {
        setattr: Some(setattr::<T>),
        getattr: Some(getattr::<T>),
        ..pin_init::zeroed()
    };
}
