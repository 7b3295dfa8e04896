// SPDX-License-Identifier: GPL-2.0

//! Super blocks.
//!
//! C header: [`include/linux/fs/super.h`](srctree/include/linux/fs/super.h)

use super::{
    context::{self, FsContext},
    dentry, FileSystem,
};
use crate::{
    bindings,
    error::from_result,
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
    types::{ForeignOwnable, Opaque},
};
use core::{marker::PhantomData, ptr::NonNull};

/// The super block of a mounted file system of type `T`.
///
/// # Invariants
///
/// The content is a valid `super_block` of a file system of type `T` whose `s_fs_info` is a
/// foreign `T::Data`.
#[repr(transparent)]
pub struct SuperBlock<T: FileSystem> {
    inner: Opaque<bindings::super_block>,
    _t: PhantomData<T>,
}

// SAFETY: A super block is used by all threads; the data are `Send` and `Sync`.
unsafe impl<T: FileSystem> Sync for SuperBlock<T> {}

impl<T: FileSystem> SuperBlock<T> {
    /// # Safety
    ///
    /// `sb` must satisfy the type invariants for `'a`.
    pub(super) unsafe fn from_raw<'a>(sb: *mut bindings::super_block) -> &'a Self {
        // SAFETY: By the requirements; the type is transparent.
        unsafe { &*sb.cast() }
    }

    /// Returns the C super block.
    pub fn as_ptr(&self) -> *mut bindings::super_block {
        self.inner.get()
    }

    /// Returns what the file system keeps in this super block.
    pub fn data(&self) -> <T::Data as ForeignOwnable>::Borrowed<'_> {
        // SAFETY: By the type invariants `s_fs_info` is a foreign `T::Data`, and it is only taken
        // back after the last use of the super block.
        unsafe { T::Data::borrow((*self.as_ptr()).s_fs_info) }
    }

    /// Returns the name for messages: that of the device, as in "pmem0".
    pub fn id(&self) -> &CStr {
        // SAFETY: The VFS keeps `s_id` a C string, and it does not change once mounted.
        unsafe { CStr::from_char_ptr((*self.as_ptr()).s_id.as_ptr()) }
    }

    /// Returns whether the file system may not be written.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: The super block is valid by the type invariants.
        unsafe { bindings::sb_rdonly(self.as_ptr()) }
    }
}

/// A super block that is being filled.
///
/// Until told otherwise, files may be as large as the VFS can have them, times have a resolution
/// of one nanosecond, blocks have the size of a page, and there is neither magic nor UUID.
///
/// # Invariants
///
/// `sb` is a new `super_block` whose block device is open and which nobody else uses.
pub struct NewSuperBlock<'a, T: FileSystem> {
    sb: NonNull<bindings::super_block>,
    _t: PhantomData<&'a mut T>,
}

impl<T: FileSystem> NewSuperBlock<'_, T> {
    fn raw(&mut self) -> &mut bindings::super_block {
        // SAFETY: By the type invariants nobody else uses the super block.
        unsafe { self.sb.as_mut() }
    }

    /// Returns the name for messages: that of the device.
    pub fn id(&self) -> &CStr {
        // SAFETY: By the type invariants; the VFS has set `s_id` when it opened the device.
        unsafe { CStr::from_char_ptr((*self.sb.as_ptr()).s_id.as_ptr()) }
    }

    /// Returns the open file of the block device.
    pub(crate) fn bdev_file(&self) -> NonNull<bindings::file> {
        // SAFETY: By the type invariants the device is open.
        unsafe { NonNull::new_unchecked((*self.sb.as_ptr()).s_bdev_file) }
    }

    /// Returns whether the file system may not be written.
    pub fn is_read_only(&self) -> bool {
        // SAFETY: The super block is valid by the type invariants.
        unsafe { bindings::sb_rdonly(self.sb.as_ptr()) }
    }

    /// Sets the number that says what file system this is, for statfs(2).
    pub fn set_magic(&mut self, magic: u32) -> &mut Self {
        // CAST: An `unsigned long` has 32 bits at least.
        self.raw().s_magic = magic as c_ulong;
        self
    }

    /// Sets the size that no file may exceed, in bytes.
    pub fn set_max_file_size(&mut self, bytes: u64) -> &mut Self {
        self.raw().s_maxbytes = bytes.min(MAX_LFS_FILESIZE as u64) as bindings::loff_t;
        self
    }

    /// Sets the resolution of times, in nanoseconds.
    pub fn set_time_granularity(&mut self, nanoseconds: u32) -> &mut Self {
        self.raw().s_time_gran = nanoseconds.clamp(1, 1_000_000_000);
        self
    }

    /// Sets the UUID of the file system.
    pub fn set_uuid(&mut self, uuid: [u8; 16]) -> &mut Self {
        let sb = self.raw();
        sb.s_uuid.b = uuid;
        sb.s_uuid_len = 16;
        self
    }
}

/// `MAX_LFS_FILESIZE` of 64-bit machines; on others the page cache sets a lower limit.
const MAX_LFS_FILESIZE: bindings::loff_t = if cfg!(CONFIG_64BIT) {
    bindings::loff_t::MAX
} else {
    (c_ulong::MAX as bindings::loff_t) << bindings::PAGE_SHIFT
};

/// How full a file system is. Blocks and files are counted; see statfs(2).
#[derive(Clone, Copy, Debug, Default)]
pub struct StatFs {
    /// The size of a block, in bytes.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// The blocks that are free.
    pub blocks_free: u64,
    /// The blocks that are free for everyone.
    pub blocks_available: u64,
    /// All files that there can be.
    pub files: u64,
    /// The files that can still be created.
    pub files_free: u64,
}

/// Fills a new super block: the callback of `get_tree_bdev`.
///
/// # Safety
///
/// Called by the VFS only, with a new super block and a context, both for `T`.
pub(super) unsafe extern "C" fn fill_super<T: FileSystem>(
    raw_sb: *mut bindings::super_block,
    fc: *mut bindings::fs_context,
) -> c_int {
    from_result(|| {
        // SAFETY: The VFS passes a context of ours, which it keeps to itself meanwhile.
        let state = unsafe { context::state::<T>(fc) };
        state.filled = true;

        // SAFETY: The super block is valid, and its device is open. A size of a page fits `c_int`.
        if unsafe { bindings::sb_set_blocksize(raw_sb, bindings::PAGE_SIZE as c_int) } == 0 {
            return Err(EINVAL);
        }

        let mut new = NewSuperBlock {
            // SAFETY: The VFS passes a valid pointer.
            sb: unsafe { NonNull::new_unchecked(raw_sb) },
            _t: PhantomData,
        };
        let sb = new.raw();
        sb.s_maxbytes = MAX_LFS_FILESIZE;
        sb.s_time_gran = 1;
        sb.s_op = &Operations::<T>::TABLE;

        // SAFETY: The VFS passes a valid context.
        let context = unsafe { FsContext::from_raw(fc) };
        let data = T::fill_super(&mut new, &mut state.options, context)?;
        // `kill_sb` takes the data back, whatever happens from here on.
        new.raw().s_fs_info = data.into_foreign();

        // SAFETY: The table lives as long as the module.
        unsafe { bindings::set_default_d_op(raw_sb, &dentry::Operations::<T>::TABLE) };

        // SAFETY: The data are set, which makes this a super block of `T`.
        let sb = unsafe { SuperBlock::<T>::from_raw(raw_sb) };
        let root = T::root(sb)?;
        if !root.is_directory() {
            return Err(ENOTDIR);
        }
        // SAFETY: This takes over our reference to the inode, also when it fails.
        let dentry = unsafe { bindings::d_make_root(ARef::into_raw(root).as_ref().as_ptr()) };
        if dentry.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The super block is still ours.
        unsafe { (*raw_sb).s_root = dentry };
        Ok(0)
    })
}

/// `file_system_type::kill_sb`: `kill_block_super` with our callbacks in it.
///
/// # Safety
///
/// Called by the VFS only, once for a super block of a file system of type `T`.
pub(super) unsafe extern "C" fn kill_sb<T: FileSystem>(raw_sb: *mut bindings::super_block) {
    // SAFETY: The super block is valid until the VFS drops it, after this returned.
    let (data, bdev, bdev_file) =
        unsafe { ((*raw_sb).s_fs_info, (*raw_sb).s_bdev, (*raw_sb).s_bdev_file) };

    if !data.is_null() {
        // SAFETY: The data are set, so this is a super block of `T`.
        T::shutdown(unsafe { SuperBlock::from_raw(raw_sb) });
    }

    // SAFETY: The VFS holds `s_umount` for us.
    unsafe { bindings::generic_shutdown_super(raw_sb) };

    if !data.is_null() {
        // SAFETY: All inodes are gone, so nobody uses the data; they come from `into_foreign`.
        T::kill(unsafe { T::Data::from_foreign(data) });
    }

    if !bdev.is_null() {
        // SAFETY: `setup_bdev_super` opened the device for this super block; we close it.
        unsafe {
            bindings::sync_blockdev(bdev);
            bindings::bdev_fput(bdev_file);
        }
    }
}

struct Operations<T: FileSystem>(PhantomData<T>);

impl<T: FileSystem> Operations<T> {
    const TABLE: bindings::super_operations = bindings::super_operations {
        statfs: Some(Self::statfs),
        put_super: Some(Self::put_super),
        evict_inode: Some(Self::evict_inode),
        drop_inode: if T::CACHE_INODES {
            None
        } else {
            Some(bindings::inode_just_drop)
        },
        sync_fs: if T::HAS_SYNC_FS {
            Some(Self::sync_fs)
        } else {
            None
        },
        show_options: if T::HAS_SHOW_OPTIONS {
            Some(Self::show_options)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS only, with what belongs to a super block of type `T`.
    unsafe extern "C" fn statfs(
        dentry: *mut bindings::dentry,
        buf: *mut bindings::kstatfs,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a dentry of a mounted super block of ours.
            let raw_sb = unsafe { (*dentry).d_sb };
            // SAFETY: As above.
            let stat = T::statfs(unsafe { SuperBlock::from_raw(raw_sb) })?;

            // SAFETY: The VFS passes a zeroed `kstatfs` to fill; the super block and its device
            // are valid.
            let (buf, magic, dev) =
                unsafe { (&mut *buf, (*raw_sb).s_magic, u64::from((*raw_sb).s_dev)) };
            buf.f_type = magic as c_long;
            buf.f_bsize = stat.block_size as c_long;
            buf.f_frsize = stat.block_size as c_long;
            buf.f_blocks = stat.blocks;
            buf.f_bfree = stat.blocks_free;
            buf.f_bavail = stat.blocks_available;
            buf.f_files = stat.files;
            buf.f_ffree = stat.files_free;
            buf.f_namelen = T::NAME_MAX as c_long;
            // As `u64_to_fsid(huge_encode_dev(...))`: what matters is that it differs by device.
            buf.f_fsid.val = [dev as c_int, (dev >> 32) as c_int];
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with what belongs to a super block of type `T`.
    unsafe extern "C" fn put_super(sb: *mut bindings::super_block) {
        // SAFETY: Called by `generic_shutdown_super` where there is a root, so after the data were
        // set, and before `kill_sb` takes them back.
        T::put_super(unsafe { SuperBlock::from_raw(sb) });
    }

    /// # Safety
    ///
    /// Called by the VFS only, with what belongs to a super block of type `T`.
    unsafe extern "C" fn sync_fs(sb: *mut bindings::super_block, wait: c_int) -> c_int {
        // SAFETY: The VFS passes a mounted super block of ours.
        from_result(|| T::sync_fs(unsafe { SuperBlock::from_raw(sb) }, wait != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only, with what belongs to a super block of type `T`.
    unsafe extern "C" fn show_options(
        seq: *mut bindings::seq_file,
        root: *mut bindings::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes the root of a mounted super block of ours.
            let sb = unsafe { SuperBlock::from_raw((*root).d_sb) };
            // SAFETY: The VFS passes a `seq_file` that this thread has for itself.
            T::show_options(sb, unsafe { SeqFile::from_raw(seq) })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with what belongs to a super block of type `T`.
    unsafe extern "C" fn evict_inode(inode: *mut bindings::inode) {
        // SAFETY: The VFS passes an inode that it is about to free and that nobody else uses.
        unsafe {
            bindings::truncate_inode_pages_final(&raw mut (*inode).i_data);
            bindings::clear_inode(inode);
        }

        // SAFETY: As above.
        let (data, raw_sb, ino, nlink) = unsafe {
            (
                core::mem::replace(&mut (*inode).i_private, core::ptr::null_mut()),
                (*inode).i_sb,
                (*inode).i_ino,
                (*inode).__bindgen_anon_1.i_nlink,
            )
        };
        // An inode that was never initialised has no data.
        if !data.is_null() {
            // SAFETY: The inode has data, so the super block has too. The data come from
            // `NewInode::init`, and nobody can get at them any more.
            unsafe {
                let data = T::InodeData::from_foreign(data);
                T::evict_inode(SuperBlock::from_raw(raw_sb), ino, nlink, data);
            }
        }
    }
}
