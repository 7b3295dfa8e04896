// SPDX-License-Identifier: GPL-2.0

//! File system types and their registration.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    attributes::SetAttr,
    context::{self, FsContext},
    inode::Inode,
    param::Parameter,
    super_block::{self, NewSuperBlock, StatFs, SuperBlock},
};
use crate::{
    bindings,
    error::{to_result, VTABLE_DEFAULT_ERROR},
    prelude::*,
    seq_file::SeqFile,
    sync::aref::ARef,
    types::{ForeignOwnable, Opaque},
    ThisModule,
};
use core::marker::PhantomData;

/// A file system that lives on one block device.
///
/// An implementation says what a mount looks like; directories and files have their own traits,
/// [`DirectoryOperations`] and [`FileOperations`], chosen when an inode is [initialised].
///
/// # Life of a mount
///
/// 1. [`Options`] begins with its default and takes one [`Parameter`] after the other.
/// 2. [`fill_super`] reads the device and returns the [`Data`] of the new super block.
/// 3. [`root`] returns the root directory.
/// 4. The mount is used: [`statfs`], [`sync_fs`], and the operations of inodes.
/// 5. The last umount calls [`shutdown`], evicts all inodes ([`evict_inode`] for each), calls
///    [`put_super`], and at last drops the data, while the device is still open.
///
/// A mount of a device that is mounted already shares the super block that is there, if [`reuse`]
/// agrees.
///
/// No `ARef<Inode<_>>` may be alive once [`shutdown`] has returned, except those that the VFS
/// itself holds: threads of the file system that use inodes must be stopped there. The VFS
/// complains of inodes that are busy after that ("Busy inodes after unmount").
///
/// # Examples
///
/// ```ignore
/// struct Hotpot;
///
/// static HOTPOT: fs::FileSystemType<Hotpot> = fs::FileSystemType::new(&THIS_MODULE);
///
/// struct HotpotModule {
///     _registration: fs::Registration<Hotpot>,
/// }
///
/// impl kernel::Module for HotpotModule {
///     fn init(_module: &'static ThisModule) -> Result<Self> {
///         Ok(Self {
///             _registration: HOTPOT.register()?,
///         })
///     }
/// }
/// ```
///
/// [`DirectoryOperations`]: super::DirectoryOperations
/// [`FileOperations`]: super::FileOperations
/// [initialised]: super::NewInode::init
/// [`Options`]: FileSystem::Options
/// [`Data`]: FileSystem::Data
/// [`fill_super`]: FileSystem::fill_super
/// [`root`]: FileSystem::root
/// [`statfs`]: FileSystem::statfs
/// [`sync_fs`]: FileSystem::sync_fs
/// [`shutdown`]: FileSystem::shutdown
/// [`evict_inode`]: FileSystem::evict_inode
/// [`put_super`]: FileSystem::put_super
/// [`reuse`]: FileSystem::reuse
#[vtable]
pub trait FileSystem: Sized + Send + Sync + 'static {
    /// The name of the type, as `mount -t` takes it.
    const NAME: &'static CStr;

    /// The mount options that this file system understands.
    const PARAMETERS: &'static [Parameter<Self::Options>] = &[];

    /// The longest name of a file, in bytes. Longer ones are `ENAMETOOLONG`.
    const NAME_MAX: usize = 255;

    /// Whether inodes that nobody uses stay in memory until it is scarce.
    ///
    /// Without this they are evicted as soon as the last reference is gone.
    const CACHE_INODES: bool = true;

    /// The mount options, while they are collected.
    type Options: Default + Send + 'static;

    /// What a super block holds for its file system.
    type Data: ForeignOwnable + Send + Sync + 'static;

    /// What an inode holds for its file system.
    type InodeData: ForeignOwnable + Send + Sync + 'static;

    /// Reads the device and describes the new super block.
    ///
    /// Called with `s_umount` held exclusively; may sleep. An error fails the mount; say why with
    /// [`FsContext::error`].
    fn fill_super(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &mut Self::Options,
        context: &FsContext<Self>,
    ) -> Result<Self::Data>;

    /// Returns the root directory of a super block that has just been filled.
    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>>;

    /// Decides whether a new mount of a device that is mounted already may share its super block.
    fn reuse(
        _sb: &SuperBlock<Self>,
        _options: &Self::Options,
        _context: &FsContext<Self>,
    ) -> Result {
        Ok(())
    }

    /// Changes the options of a mounted file system (`mount -o remount`).
    ///
    /// Refused with `EOPNOTSUPP` unless implemented.
    fn reconfigure(
        _sb: &SuperBlock<Self>,
        _options: &Self::Options,
        context: &FsContext<Self>,
    ) -> Result {
        context.error(fmt!("the options of a mount cannot be changed"));
        Err(EOPNOTSUPP)
    }

    /// Begins the end of a super block: nobody uses it any more, its inodes are still there.
    ///
    /// Called exactly once for every [`Data`](Self::Data) that [`fill_super`](Self::fill_super)
    /// returned, also where the mount failed afterwards. `s_umount` is held exclusively; may sleep.
    fn shutdown(_sb: &SuperBlock<Self>) {}

    /// Ends a super block after all inodes are evicted: the place to mark the medium clean.
    ///
    /// Not called if the mount failed. `s_umount` is held exclusively; may sleep.
    fn put_super(_sb: &SuperBlock<Self>) {}

    /// Drops the data of a super block. The device is still open; may sleep.
    fn kill(data: Self::Data) {
        drop(data);
    }

    /// Takes back the data of an inode that leaves memory.
    ///
    /// With `nlink == 0` the file is gone, and its storage may be freed: a later
    /// [`SuperBlock::iget`] of the same number waits until this returns. May sleep, and may run in
    /// any thread that dropped the last reference, or in memory reclaim.
    fn evict_inode(_sb: &SuperBlock<Self>, _ino: u64, _nlink: u32, data: Self::InodeData) {
        drop(data);
    }

    /// Returns how full the file system is. No lock is held; may sleep.
    fn statfs(sb: &SuperBlock<Self>) -> Result<StatFs>;

    /// Makes everything durable, for sync(2) and umount; `wait` is false for a first hint.
    ///
    /// `s_umount` is held, shared; may sleep.
    fn sync_fs(_sb: &SuperBlock<Self>, _wait: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes the options of the mount, each with a comma in front, for `/proc/mounts`.
    fn show_options(_sb: &SuperBlock<Self>, _seq: &SeqFile) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Refreshes the attributes of an inode before they are reported. No lock is held; may sleep.
    fn getattr(_inode: &Inode<Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns whether `name` in `dir` still means `inode`.
    ///
    /// Asked whenever a name is found in the cache; if the answer is no, the name is looked up
    /// afresh. Names that mean nothing are not cached. No lock is held; may sleep. Without it names
    /// in the cache are taken to be right.
    fn revalidate(_dir: &Inode<Self>, _name: &[u8], _inode: &Inode<Self>) -> Result<bool> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Changes attributes, after the permission to do so was checked.
    ///
    /// The inode itself is changed after this returned `Ok`, but see [`SetAttr::commit_size`].
    /// The inode's `i_rwsem` is held exclusively; may sleep. Without it attributes change in
    /// memory only.
    fn setattr(_inode: &Inode<Self>, _attr: &SetAttr<'_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A type of file systems, to be kept in a static.
///
/// It is a static because lockdep wants its lock classes in the memory of the module.
///
/// # Invariants
///
/// The content is a `file_system_type` for `T` whose fields only the VFS changes.
#[repr(transparent)]
pub struct FileSystemType<T: FileSystem> {
    inner: Opaque<bindings::file_system_type>,
    _t: PhantomData<T>,
}

// SAFETY: The VFS synchronises what it changes in a `file_system_type`.
unsafe impl<T: FileSystem> Sync for FileSystemType<T> {}

impl<T: FileSystem> FileSystemType<T> {
    /// Creates the type. Mounts keep `module` from being unloaded.
    pub const fn new(module: &ThisModule) -> Self {
        let mut fs: bindings::file_system_type = pin_init::zeroed();
        fs.name = crate::str::as_char_ptr_in_const_context(T::NAME);
        fs.fs_flags = bindings::FS_REQUIRES_DEV as c_int;
        fs.init_fs_context = Some(context::init_fs_context::<T>);
        fs.kill_sb = Some(super_block::kill_sb::<T>);
        fs.owner = module.as_ptr();

        // INVARIANT: All callbacks are those for `T`.
        Self {
            inner: Opaque::new(fs),
            _t: PhantomData,
        }
    }

    /// Makes the type known to mount(2), until the registration is dropped.
    ///
    /// Returns `EBUSY` if a type of this name is registered already.
    pub fn register(&'static self) -> Result<Registration<T>> {
        // SAFETY: By the type invariants this is a complete `file_system_type`; it is never moved
        // or freed, being static.
        to_result(unsafe { bindings::register_filesystem(self.inner.get()) })?;

        // INVARIANT: Just registered.
        Ok(Registration { fs: self })
    }
}

/// A registered file system type. Dropping it takes the type back.
///
/// Mounts hold a reference to the module, so that a module which keeps this in its state cannot
/// be unloaded while any is there.
///
/// # Invariants
///
/// `fs` is registered.
pub struct Registration<T: FileSystem> {
    fs: &'static FileSystemType<T>,
}

impl<T: FileSystem> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants `fs` is registered.
        unsafe { bindings::unregister_filesystem(self.fs.inner.get()) };
    }
}
