// SPDX-License-Identifier: GPL-2.0

//! Directories.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    attributes::{getattr, setattr},
    dentry, FileSystem, Inode, LocalFile, Owner,
};
use crate::{
    bindings,
    error::{from_result, VTABLE_DEFAULT_ERROR},
    prelude::*,
    sync::aref::ARef,
};
use core::{marker::PhantomData, ptr};

/// What a new file begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewFile {
    /// The permissions; the umask has been applied.
    pub permissions: u16,
    /// The owner: the current task's, with the group of a directory that is set-group-ID.
    pub owner: Owner,
    /// Whether the file must not exist on any other node either (`O_EXCL`).
    ///
    /// The VFS has looked before, and the directory is locked; where others change the same file
    /// system, it may have come to exist nevertheless.
    pub exclusive: bool,
}

/// What a directory of regular files does. What is missing here fails with `EPERM`, as mkdir(2).
///
/// Names are bytes, neither empty nor `.` nor `..`, without `/` and NUL, and at most
/// [`FileSystem::NAME_MAX`] long. All callbacks may sleep.
#[vtable]
pub trait DirectoryOperations: Sized + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// Returns the inode that has this name, or `None`.
    ///
    /// The directory is locked shared, and nobody else looks up the same name.
    fn lookup(
        dir: &Inode<Self::FileSystem>,
        name: &[u8],
    ) -> Result<Option<ARef<Inode<Self::FileSystem>>>>;

    /// Creates a regular file. The directory is locked exclusively.
    fn create(
        _dir: &Inode<Self::FileSystem>,
        _name: &[u8],
        _new: &NewFile,
    ) -> Result<ARef<Inode<Self::FileSystem>>> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Removes a name. The directory and the inode are locked exclusively.
    ///
    /// The inode's `nlink` is this function's to set.
    fn unlink(
        _dir: &Inode<Self::FileSystem>,
        _name: &[u8],
        _inode: &Inode<Self::FileSystem>,
    ) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Gives a file another name, in place of `replaced` if there is one.
    ///
    /// Both directories and `replaced` are locked exclusively. With `no_replace` the new name was
    /// free when the VFS looked, and must be. Exchanges and whiteouts fail before this.
    fn rename(_rename: &Rename<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Lists the directory, from [`DirEmitter::position`] on; `.` and `..` are listed already.
    ///
    /// The directory is locked shared.
    fn iterate(dir: &Inode<Self::FileSystem>, emitter: &mut DirEmitter<'_>) -> Result;

    /// Makes the directory durable. No lock is held. Without it fsync(2) does nothing.
    fn fsync(_dir: &Inode<Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Does what an ioctl(2) on the directory asks; `ENOTTY` for what is unknown. No lock is held.
    fn ioctl(
        _dir: &Inode<Self::FileSystem>,
        _file: &LocalFile,
        _cmd: u32,
        _arg: usize,
    ) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A change of a name.
pub struct Rename<'a, T: FileSystem> {
    /// The directory that has the old name.
    pub old_dir: &'a Inode<T>,
    /// The old name.
    pub old_name: &'a [u8],
    /// The file.
    pub inode: &'a Inode<T>,
    /// The directory that gets the new name.
    pub new_dir: &'a Inode<T>,
    /// The new name.
    pub new_name: &'a [u8],
    /// What has the new name until now.
    pub replaced: Option<&'a Inode<T>>,
    /// The new name must be free (`RENAME_NOREPLACE`).
    pub no_replace: bool,
}

/// The type of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum DirEntryType {
    /// Not known without a look at the inode.
    Unknown = bindings::DT_UNKNOWN,
    /// A directory.
    Directory = bindings::DT_DIR,
    /// A regular file.
    Regular = bindings::DT_REG,
}

/// Takes the entries of a directory, one after the other.
///
/// # Invariants
///
/// `ctx` is the `dir_context` of a listing in progress, for our use.
pub struct DirEmitter<'a> {
    ctx: &'a mut bindings::dir_context,
}

impl DirEmitter<'_> {
    /// Where the listing goes on: 0 at the beginning, else the `next` of the last entry emitted.
    pub fn position(&self) -> u64 {
        // The VFS counts `.` and `..`. CAST: A position is not negative, and at least 2 here.
        self.ctx.pos as u64 - 2
    }

    /// Lists an entry; `next` is the position that follows it.
    ///
    /// Returns false if there is no room: stop then, and return `Ok`.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], ino: u64, kind: DirEntryType, next: u64) -> bool {
        let Some(actor) = self.ctx.actor else {
            return false;
        };
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        let pos = self.ctx.pos;
        // SAFETY: By the type invariants; `name` is valid for `len` bytes.
        let more = unsafe {
            actor(
                ptr::from_mut(self.ctx),
                name.as_ptr().cast(),
                len,
                pos,
                ino,
                kind as c_uint,
            )
        };
        if more {
            // A position is a `loff_t`; more entries than that there cannot be.
            self.ctx.pos = i64::try_from(next)
                .unwrap_or(i64::MAX - 2)
                .saturating_add(2);
        }
        more
    }
}

pub(super) struct Vtables<D: DirectoryOperations>(PhantomData<D>);

impl<D: DirectoryOperations> Vtables<D> {
    pub(super) const INODE: bindings::inode_operations = bindings::inode_operations {
        lookup: Some(Self::lookup),
        create: if D::HAS_CREATE {
            Some(Self::create)
        } else {
            None
        },
        unlink: if D::HAS_UNLINK {
            Some(Self::unlink)
        } else {
            None
        },
        rename: if D::HAS_RENAME {
            Some(Self::rename)
        } else {
            None
        },
        setattr: Some(setattr::<D::FileSystem>),
        getattr: Some(getattr::<D::FileSystem>),
        ..pin_init::zeroed()
    };

    pub(super) const FILE: bindings::file_operations = bindings::file_operations {
        llseek: Some(bindings::generic_file_llseek),
        read: Some(bindings::generic_read_dir),
        iterate_shared: Some(Self::iterate),
        fsync: if D::HAS_FSYNC {
            Some(Self::fsync)
        } else {
            Some(bindings::noop_fsync)
        },
        unlocked_ioctl: if D::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: if D::HAS_IOCTL {
            Some(bindings::compat_ptr_ioctl)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    fn check_name(name: &[u8]) -> Result<&[u8]> {
        if name.len() > D::FileSystem::NAME_MAX {
            return Err(ENAMETOOLONG);
        }
        Ok(name)
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn lookup(
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        _flags: c_uint,
    ) -> *mut bindings::dentry {
        // SAFETY: The VFS passes a directory of ours, locked, and a dentry in it, whose name stays.
        let (dir, name) = unsafe { (Inode::from_raw(dir), dentry::name(dentry)) };
        let found = match Self::check_name(name).and_then(|name| D::lookup(dir, name)) {
            Ok(Some(inode)) => ARef::into_raw(inode).as_ptr().cast::<bindings::inode>(),
            Ok(None) => ptr::null_mut(),
            Err(error) => return error.to_ptr(),
        };
        // SAFETY: The dentry is being looked up. This takes over our reference to the inode.
        unsafe { bindings::d_splice_alias(found, dentry) }
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn create(
        _idmap: *mut bindings::mnt_idmap,
        dir: *mut bindings::inode,
        dentry: *mut bindings::dentry,
        mode: bindings::umode_t,
        excl: bool,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a directory of ours, locked, and a negative dentry in it.
            let (dir, name) =
                unsafe { (Inode::<D::FileSystem>::from_raw(dir), dentry::name(dentry)) };
            let mut owner = Owner::current();
            if dir.mode() & S_ISGID != 0 {
                owner.gid = dir.owner().gid;
            }
            let new = NewFile {
                permissions: mode & 0o7777,
                owner,
                exclusive: excl,
            };
            let inode = D::create(dir, Self::check_name(name)?, &new)?;
            // SAFETY: The dentry is negative and hashed. This takes over our reference.
            unsafe { bindings::d_instantiate(dentry, ARef::into_raw(inode).as_ptr().cast()) };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn unlink(dir: *mut bindings::inode, dentry: *mut bindings::dentry) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a directory of ours and a positive dentry in it, both locked.
            let (dir, name, inode) = unsafe {
                (
                    Inode::from_raw(dir),
                    dentry::name(dentry),
                    Inode::from_raw((*dentry).d_inode),
                )
            };
            D::unlink(dir, name, inode)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn rename(
        _idmap: *mut bindings::mnt_idmap,
        old_dir: *mut bindings::inode,
        old_dentry: *mut bindings::dentry,
        new_dir: *mut bindings::inode,
        new_dentry: *mut bindings::dentry,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            if flags & !bindings::RENAME_NOREPLACE != 0 {
                return Err(EINVAL);
            }
            // SAFETY: The VFS passes directories of ours, locked, so that names stay; the old
            // dentry is positive, and the inode of the new one stays, being locked too.
            unsafe {
                let replaced = (*new_dentry).d_inode;
                D::rename(&Rename {
                    old_dir: Inode::from_raw(old_dir),
                    old_name: dentry::name(old_dentry),
                    inode: Inode::from_raw((*old_dentry).d_inode),
                    new_dir: Inode::from_raw(new_dir),
                    new_name: Self::check_name(dentry::name(new_dentry))?,
                    replaced: (!replaced.is_null()).then(|| Inode::from_raw(replaced)),
                    no_replace: flags & bindings::RENAME_NOREPLACE != 0,
                })?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn iterate(
        file: *mut bindings::file,
        ctx: *mut bindings::dir_context,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes an open directory of ours, locked, and a context to use.
            let (dir, ctx) = unsafe { (Inode::from_raw((*file).f_inode), &mut *ctx) };
            let actor = ctx.actor.ok_or(EINVAL)?;

            for (pos, name) in [(0, c"."), (1, c"..")] {
                if ctx.pos == pos {
                    // There are no other directories than the root, which is its own parent.
                    let ino = dir.ino();
                    // SAFETY: As above; the names are valid for their lengths.
                    let more = unsafe {
                        actor(
                            ptr::from_mut(ctx),
                            name.as_char_ptr().cast(),
                            // CAST: One or two.
                            name.to_bytes().len() as c_int,
                            pos,
                            ino,
                            bindings::DT_DIR,
                        )
                    };
                    if !more {
                        return Ok(0);
                    }
                    ctx.pos += 1;
                }
            }
            // INVARIANT: The VFS keeps the context for us until we return.
            D::iterate(dir, &mut DirEmitter { ctx })?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        _start: bindings::loff_t,
        _end: bindings::loff_t,
        _datasync: c_int,
    ) -> c_int {
        // SAFETY: The VFS passes an open directory of ours.
        from_result(|| D::fsync(unsafe { Inode::from_raw((*file).f_inode) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only, with a directory that has these operations.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The VFS passes an open directory of ours.
        let (dir, file) = unsafe {
            (
                Inode::from_raw((*file).f_inode),
                LocalFile::from_raw_file(file),
            )
        };
        match D::ioctl(dir, file, cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }
}

/// New files of a directory with this bit get its group.
const S_ISGID: u16 = 0o2000;
