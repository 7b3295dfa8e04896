// SPDX-License-Identifier: GPL-2.0

//! Files mapped into the memory of a process.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{FileSystem, Inode};
use crate::{
    bindings,
    error::VTABLE_DEFAULT_ERROR,
    mm::{
        fault::{FaultError, MkWrite, VmFault},
        virt::{flags, VmaNew, VmaRef},
    },
    prelude::*,
};
use core::{marker::PhantomData, ops::Deref};

/// What happens to a mapping whose pages are frame numbers ([`NewMapping::map_pfns`]).
///
/// # Copy on write
///
/// A page that must not be stored to in place is installed read-only, by [`fault`]. The first store
/// calls [`pfn_mkwrite`], or [`fault`] with [`VmFault::is_write`] if nothing was installed yet. It
/// copies the page, removes the old entry ([`Inode::unmap_pages`]) and installs the copy writable.
/// To have the next store noticed again, unmap the page.
///
/// An entry that is there is never replaced by another: hold a lock of the page from the decision
/// what to install until it is installed, and also while it is unmapped and changed.
///
/// [`fault`]: VmOperations::fault
/// [`pfn_mkwrite`]: VmOperations::pfn_mkwrite
#[vtable]
pub trait VmOperations: Sized + 'static {
    /// The file system of the mapped file.
    type FileSystem: FileSystem;

    /// Installs the page for an access that found none.
    ///
    /// The mmap lock or the lock of the vma is held, shared. May sleep. If nothing was installed,
    /// the access faults again.
    fn fault(inode: &Inode<Self::FileSystem>, fault: &VmFault) -> Result<(), FaultError>;

    /// Decides on a store to a page that is installed read-only, in a mapping that is writable.
    ///
    /// Locks as in [`fault`](Self::fault). Without this, pages become writable where they are.
    fn pfn_mkwrite(
        _inode: &Inode<Self::FileSystem>,
        _fault: &VmFault,
    ) -> Result<MkWrite, FaultError> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Notes that there is one more vma of the file, by fork(2) or by a split. The first one is
    /// made by [`FileOperations::mmap`](super::FileOperations::mmap).
    ///
    /// The mmap lock is held exclusively. May sleep.
    fn open(_inode: &Inode<Self::FileSystem>, _vma: &VmaRef) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Notes that there is one vma of the file less. Locks as in [`open`](Self::open), or none when
    /// the process ends.
    fn close(_inode: &Inode<Self::FileSystem>, _vma: &VmaRef) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A mapping of a file of `T` that is being set up.
///
/// # Invariants
///
/// `vma` maps a file whose inode is an [`Inode<T>`].
pub struct NewMapping<'a, T: FileSystem> {
    vma: &'a VmaNew,
    _t: PhantomData<T>,
}

impl<'a, T: FileSystem> NewMapping<'a, T> {
    /// # Safety
    ///
    /// The type invariants must hold for `vma`.
    pub(super) unsafe fn new(vma: &'a VmaNew) -> Self {
        Self {
            vma,
            _t: PhantomData,
        }
    }

    /// Returns the page of the file that the mapping begins with.
    pub fn first_page(&self) -> usize {
        // SAFETY: The vma is valid and being set up by us.
        unsafe { (*self.vma.as_ptr()).vm_pgoff }
    }

    /// Returns whether stores go to the file (`MAP_SHARED`), now or once they are allowed.
    pub fn is_shared(&self) -> bool {
        self.vma.flags() & flags::SHARED != 0
    }

    /// Lets the mapping consist of frame numbers, which the operations `V` install.
    ///
    /// Such a mapping is not dumped, cannot grow, and its memory cannot be pinned, so not be used
    /// for `O_DIRECT` and RDMA. A private mapping that may be written is refused with
    /// `EOPNOTSUPP`: it would have pages of its own.
    pub fn map_pfns<V: VmOperations<FileSystem = T>>(self) -> Result {
        let old = self.vma.flags();
        if old & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE || old & flags::MIXEDMAP != 0
        {
            return Err(EOPNOTSUPP);
        }
        let vma = self.vma.as_ptr();
        // SAFETY: The vma is being set up, so nobody else uses it. The combination of flags is
        // allowed: no `VM_MIXEDMAP`, and no copies of pages. By the type invariants the vma's file
        // is one of `V::FileSystem`, which is what the operations rely on.
        unsafe {
            (*vma).__bindgen_anon_2.vm_flags =
                old | flags::PFNMAP | flags::DONTEXPAND | flags::DONTDUMP;
            (*vma).vm_ops = &Vtable::<V>::TABLE;
        }
        Ok(())
    }
}

impl<T: FileSystem> Deref for NewMapping<'_, T> {
    type Target = VmaRef;

    fn deref(&self) -> &VmaRef {
        self.vma
    }
}

struct Vtable<V: VmOperations>(PhantomData<V>);

impl<V: VmOperations> Vtable<V> {
    const TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        fault: Some(Self::fault),
        pfn_mkwrite: if V::HAS_PFN_MKWRITE {
            Some(Self::pfn_mkwrite)
        } else {
            None
        },
        open: if V::HAS_OPEN { Some(Self::open) } else { None },
        close: if V::HAS_CLOSE {
            Some(Self::close)
        } else {
            None
        },
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `vma` must be one that `map_pfns` set up with these operations, or a copy of it, for `'a`.
    unsafe fn inode<'a>(vma: *mut bindings::vm_area_struct) -> &'a Inode<V::FileSystem> {
        // SAFETY: By the requirements the vma maps a file of ours, which it keeps open.
        unsafe { Inode::from_raw((*(*vma).vm_file).f_inode) }
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a vma that has these operations.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The kernel passes a fault in a vma of ours, and keeps it locked.
        let (inode, fault) = unsafe {
            (
                Self::inode((*vmf).__bindgen_anon_1.vma),
                VmFault::from_raw(vmf),
            )
        };
        match V::fault(inode, fault) {
            Ok(()) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            Err(error) => error.into_raw(),
        }
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a vma that has these operations.
    unsafe extern "C" fn pfn_mkwrite(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As in `fault`.
        let (inode, fault) = unsafe {
            (
                Self::inode((*vmf).__bindgen_anon_1.vma),
                VmFault::from_raw(vmf),
            )
        };
        match V::pfn_mkwrite(inode, fault) {
            Ok(MkWrite::MakeWritable) => 0,
            Ok(MkWrite::Installed) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            Err(error) => error.into_raw(),
        }
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a vma that has these operations.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The kernel passes a vma that is a copy of one of ours, and keeps it.
        unsafe { V::open(Self::inode(vma), VmaRef::from_raw(vma)) };
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a vma that has these operations.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: The kernel passes a vma of ours that nobody else uses any more.
        unsafe { V::close(Self::inode(vma), VmaRef::from_raw(vma)) };
    }
}
