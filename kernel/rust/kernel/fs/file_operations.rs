// SPDX-License-Identifier: GPL-2.0

//! Operations on open files.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{mmap::NewMapping, FileSystem, Inode, LocalFile};
use crate::{
    bindings,
    error::{from_result, to_result, VTABLE_DEFAULT_ERROR},
    iov::{IovIterDest, IovIterSource},
    mm::{unmapped_area::AreaRequest, virt::VmaNew},
    prelude::*,
    types::ForeignOwnable,
};
use core::{marker::PhantomData, ops::Deref};

/// What a regular file does. All callbacks run in the task that made the system call, without a
/// lock unless they say otherwise, and may sleep.
///
/// Files can be sought and spliced, if they can be read and written. `O_DIRECT` and `RWF_NOWAIT`
/// are refused by the VFS.
#[vtable]
pub trait FileOperations: Sized + 'static {
    /// The file system.
    type FileSystem: FileSystem;

    /// What an open file holds; `()` if nothing.
    type Data: ForeignOwnable + Send + Sync + 'static;

    /// Opens a file. O_TRUNC is a change of the size, and follows.
    fn open(inode: &Inode<Self::FileSystem>, file: &LocalFile) -> Result<Self::Data>;

    /// Closes a file, when nobody refers to it: neither a descriptor nor a mapping.
    fn release(data: Self::Data, _inode: &Inode<Self::FileSystem>, _file: &LocalFile) {
        drop(data);
    }

    /// Called for each close(2) of a descriptor; its result is that of close(2).
    fn flush(_file: OpenFile<'_, Self>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Reads from `position` on, and returns how many bytes, 0 at the end. `EFAULT` if none could
    /// be stored. The position of the file moves by what is returned.
    fn read(_file: OpenFile<'_, Self>, _position: u64, _to: &mut IovIterDest<'_>) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes from `position` on, and returns how many bytes.
    ///
    /// The inode's `i_rwsem` is held exclusively; limits, `O_APPEND` and set-user-ID bits are dealt
    /// with, and times updated. The size is this function's to update. `O_SYNC` is a call of
    /// [`fsync`](Self::fsync) afterwards.
    fn write(
        _file: OpenFile<'_, Self>,
        _position: u64,
        _from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Makes the bytes `start ..= end` durable, for fsync(2) and msync(2).
    ///
    /// `data_only` leaves out attributes that are not needed to read them (fdatasync(2)).
    fn fsync(_file: OpenFile<'_, Self>, _start: u64, _end: u64, _data_only: bool) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Allocates or frees space; `mode` has the `FALLOC_FL_*` of fallocate(2). What is unknown is
    /// `EOPNOTSUPP`. The inode's `i_rwsem` is held exclusively. `length` is not 0, and the end no
    /// more than the largest size of a file.
    fn fallocate(_file: OpenFile<'_, Self>, _mode: u32, _offset: u64, _length: u64) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Does what an ioctl(2) asks; `ENOTTY` for what is unknown. `arg` is as the user passed it.
    ///
    /// 32-bit programs come here too, so the structures must be the same for them.
    fn ioctl(_file: OpenFile<'_, Self>, _cmd: u32, _arg: usize) -> Result<isize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Maps the file. The mmap lock is held exclusively.
    fn mmap(_file: OpenFile<'_, Self>, _mapping: NewMapping<'_, Self::FileSystem>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Chooses the address of a mapping. The mmap lock is held exclusively.
    ///
    /// An occupied address is the callback's to refuse: the kernel replaces what is there.
    fn get_unmapped_area(_file: OpenFile<'_, Self>, _request: &AreaRequest<'_>) -> Result<usize> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// An open file with operations `F`.
///
/// # Invariants
///
/// The inode is one of `F::FileSystem`, and the private data a foreign `F::Data`.
pub struct OpenFile<'a, F: FileOperations> {
    file: &'a LocalFile,
    _f: PhantomData<F>,
}

impl<'a, F: FileOperations> OpenFile<'a, F> {
    /// # Safety
    ///
    /// `file` must satisfy the type invariants for `'a`, and this must be the thread that uses its
    /// position, if any does.
    unsafe fn from_raw(file: *mut bindings::file) -> Self {
        Self {
            // SAFETY: By the requirements.
            file: unsafe { LocalFile::from_raw_file(file) },
            _f: PhantomData,
        }
    }

    /// Returns the inode.
    pub fn inode(&self) -> &'a Inode<F::FileSystem> {
        // SAFETY: By the type invariants. An open file keeps its inode.
        unsafe { Inode::from_raw((*self.file.as_ptr()).f_inode) }
    }

    /// Returns what [`FileOperations::open`] returned.
    pub fn data(&self) -> <F::Data as ForeignOwnable>::Borrowed<'a> {
        // SAFETY: By the type invariants; the data are taken back when the file is released.
        unsafe { F::Data::borrow((*self.file.as_ptr()).private_data) }
    }

    /// Returns whether the file may be written through.
    pub fn is_writable(&self) -> bool {
        // SAFETY: The mode does not change once the file is open.
        unsafe { (*self.file.as_ptr()).f_mode & FMODE_WRITE != 0 }
    }
}

impl<F: FileOperations> Deref for OpenFile<'_, F> {
    type Target = LocalFile;

    fn deref(&self) -> &LocalFile {
        self.file
    }
}

/// `FMODE_WRITE` has a cast that bindgen cannot follow.
const FMODE_WRITE: bindings::fmode_t = 1 << 1;

/// Returns the number of bytes or the error of a read or write.
fn bytes_or_errno(result: Result<usize>) -> isize {
    match result {
        // CAST: The VFS asks for at most `MAX_RW_COUNT` bytes.
        Ok(bytes) => bytes as isize,
        Err(error) => error.to_errno() as isize,
    }
}

pub(super) struct Vtable<F: FileOperations>(PhantomData<F>);

impl<F: FileOperations> Vtable<F> {
    pub(super) const TABLE: bindings::file_operations = bindings::file_operations {
        open: Some(Self::open),
        release: Some(Self::release),
        llseek: Some(bindings::generic_file_llseek),
        flush: if F::HAS_FLUSH {
            Some(Self::flush)
        } else {
            None
        },
        read_iter: if F::HAS_READ { Some(Self::read) } else { None },
        splice_read: if F::HAS_READ {
            Some(bindings::copy_splice_read)
        } else {
            None
        },
        write_iter: if F::HAS_WRITE {
            Some(Self::write)
        } else {
            None
        },
        splice_write: if F::HAS_WRITE {
            Some(bindings::iter_file_splice_write)
        } else {
            None
        },
        fsync: if F::HAS_FSYNC {
            Some(Self::fsync)
        } else {
            None
        },
        fallocate: if F::HAS_FALLOCATE {
            Some(Self::fallocate)
        } else {
            None
        },
        unlocked_ioctl: if F::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: if F::HAS_IOCTL {
            Some(bindings::compat_ptr_ioctl)
        } else {
            None
        },
        mmap: if F::HAS_MMAP { Some(Self::mmap) } else { None },
        get_unmapped_area: if F::HAS_GET_UNMAPPED_AREA {
            Some(Self::get_unmapped_area)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes an inode of ours and a file that is being opened.
            to_result(unsafe { bindings::generic_file_open(inode, file) })?;
            // SAFETY: As above; the position is not in use yet.
            let data = unsafe { F::open(Inode::from_raw(inode), LocalFile::from_raw_file(file)) }?;
            // SAFETY: The private data are ours to set.
            unsafe { (*file).private_data = data.into_foreign() };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn release(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The VFS calls this once for a file that was opened, when nobody uses it.
        unsafe {
            let data = F::Data::from_foreign((*file).private_data);
            F::release(data, Inode::from_raw(inode), LocalFile::from_raw_file(file));
        }
        0
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn flush(file: *mut bindings::file, _id: bindings::fl_owner_t) -> c_int {
        // SAFETY: The VFS passes a file that was opened by us.
        from_result(|| F::flush(unsafe { OpenFile::from_raw(file) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn read(kiocb: *mut bindings::kiocb, iter: *mut bindings::iov_iter) -> isize {
        // SAFETY: The VFS passes a request for a file that was opened by us, and a destination.
        let (kiocb, file, to) = unsafe {
            (
                &mut *kiocb,
                OpenFile::from_raw((*kiocb).ki_filp),
                IovIterDest::from_raw(iter),
            )
        };
        // CAST: The VFS refuses negative positions.
        let result = F::read(file, kiocb.ki_pos as u64, to);
        if let Ok(bytes) = result {
            kiocb.ki_pos += bytes as i64;
        }
        bytes_or_errno(result)
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn write(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> isize {
        // SAFETY: The VFS passes a request for a file that was opened by us.
        let raw_file = unsafe { (*kiocb).ki_filp };
        // SAFETY: As above.
        let inode = unsafe { (*raw_file).f_inode };

        // SAFETY: As above; unlocked below, on every path.
        unsafe { bindings::inode_lock(inode) };
        // SAFETY: As above, and the inode is locked.
        let written = unsafe { Self::write_locked(kiocb, iter) };
        // SAFETY: Locked above.
        unsafe { bindings::inode_unlock(inode) };

        match written {
            // SAFETY: The position has moved by what was written.
            Ok(bytes) if bytes > 0 => unsafe {
                bindings::generic_write_sync(kiocb, bytes as isize)
            },
            other => bytes_or_errno(other),
        }
    }

    /// # Safety
    ///
    /// As [`Self::write`], with the inode locked.
    unsafe fn write_locked(
        kiocb: *mut bindings::kiocb,
        iter: *mut bindings::iov_iter,
    ) -> Result<usize> {
        // SAFETY: By the requirements.
        let allowed = unsafe { bindings::generic_write_checks(kiocb, iter) };
        if allowed <= 0 {
            // CAST: Errors are small.
            to_result(allowed as c_int)?;
            return Ok(0);
        }
        // SAFETY: By the requirements.
        let (kiocb, file, from) = unsafe {
            to_result(bindings::file_modified((*kiocb).ki_filp))?;
            (
                &mut *kiocb,
                OpenFile::from_raw((*kiocb).ki_filp),
                IovIterSource::from_raw(iter),
            )
        };
        // CAST: The checks refuse negative positions.
        let bytes = F::write(file, kiocb.ki_pos as u64, from)?;
        kiocb.ki_pos += bytes as i64;
        Ok(bytes)
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn fsync(
        file: *mut bindings::file,
        start: bindings::loff_t,
        end: bindings::loff_t,
        datasync: c_int,
    ) -> c_int {
        // SAFETY: The VFS passes a file that was opened by us.
        let file = unsafe { OpenFile::from_raw(file) };
        // CAST: The VFS passes `0 <= start <= end`.
        from_result(|| F::fsync(file, start as u64, end as u64, datasync != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn fallocate(
        file: *mut bindings::file,
        mode: c_int,
        offset: bindings::loff_t,
        length: bindings::loff_t,
    ) -> c_long {
        // SAFETY: The VFS passes a file that was opened by us.
        let open_file = unsafe { OpenFile::<F>::from_raw(file) };
        let inode = open_file.inode().as_ptr();
        // SAFETY: The inode is valid; unlocked below, on every path.
        unsafe { bindings::inode_lock(inode) };
        // SAFETY: The file is valid, and the inode locked.
        let result = to_result(unsafe { bindings::file_modified(file) })
            // CAST: The VFS has checked that neither is negative; the mode is a set of bits.
            .and_then(|()| F::fallocate(open_file, mode as u32, offset as u64, length as u64));
        // SAFETY: Locked above.
        unsafe { bindings::inode_unlock(inode) };
        match result {
            Ok(()) => 0,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn ioctl(file: *mut bindings::file, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The VFS passes a file that was opened by us.
        match F::ioctl(unsafe { OpenFile::from_raw(file) }, cmd, arg) {
            Ok(value) => value as c_long,
            Err(error) => error.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn mmap(
        file: *mut bindings::file,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The VFS passes a file that was opened by us and a vma of it that is being
            // set up.
            let (file, mapping) = unsafe {
                (
                    OpenFile::from_raw(file),
                    NewMapping::new(VmaNew::from_raw(vma)),
                )
            };
            F::mmap(file, mapping)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS only, with an inode or a file that has these operations.
    unsafe extern "C" fn get_unmapped_area(
        file: *mut bindings::file,
        addr: c_ulong,
        len: c_ulong,
        pgoff: c_ulong,
        flags: c_ulong,
    ) -> c_ulong {
        // SAFETY: The kernel calls this for a file that was opened by us, with the mmap lock of
        // the current task held exclusively.
        let (open_file, request) = unsafe {
            (
                OpenFile::from_raw(file),
                AreaRequest::new(file, addr, len, pgoff, flags),
            )
        };
        match F::get_unmapped_area(open_file, &request) {
            Ok(address) => address,
            // CAST: An error is an address at the very end, as in C.
            Err(error) => error.to_errno() as c_ulong,
        }
    }
}
