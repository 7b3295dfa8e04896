// SPDX-License-Identifier: GPL-2.0

//! Inodes.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    attributes::{getattr, setattr, Attributes, S_IALLUGO},
    directory::{self, DirectoryOperations},
    file_operations::{self, FileOperations},
    FileSystem, Owner, SuperBlock, Timestamp,
};
use crate::{
    bindings,
    prelude::*,
    sync::aref::{ARef, AlwaysRefCounted},
    types::{ForeignOwnable, Opaque},
};
use core::{marker::PhantomData, mem::ManuallyDrop, ptr::NonNull};

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

struct FileInode<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> FileInode<T> {
    const TABLE: bindings::inode_operations = bindings::inode_operations {
        setattr: Some(setattr::<T>),
        getattr: Some(getattr::<T>),
        ..pin_init::zeroed()
    };
}
