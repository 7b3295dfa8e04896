// SPDX-License-Identifier: GPL-2.0

//! Page faults.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::virt::{flags, VmaRef};
use crate::{
    bindings,
    error::{code::*, Error},
    types::Opaque,
};

/// The number of a page frame that user space may map.
///
/// # Invariants
///
/// The frame holds user data as long as there are mappings of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pfn(usize);

impl Pfn {
    /// Creates a frame number.
    ///
    /// # Safety
    ///
    /// Whoever has it may let user space read and write the frame, as long as a mapping of it
    /// exists. So the frame must be for user data, and must stay so as long as there are mappings.
    #[inline]
    pub const unsafe fn new(number: usize) -> Self {
        // INVARIANT: By the requirements.
        Self(number)
    }

    /// Returns the number.
    #[inline]
    pub const fn number(self) -> usize {
        self.0
    }
}

/// Why an access to memory fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// The process gets a `SIGBUS`: there is nothing at that address, or it cannot be read.
    Bus,
    /// The process gets a `SIGSEGV`: it may not do this.
    Segv,
    /// The process gets a `SIGBUS` that tells of damaged memory.
    HwPoison,
    /// Memory is scarce; the kernel may kill a process.
    OutOfMemory,
}

impl FaultError {
    /// Returns the `vm_fault_t` of this error.
    pub(crate) fn into_raw(self) -> bindings::vm_fault_t {
        match self {
            Self::Bus => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
            Self::Segv => bindings::vm_fault_reason_VM_FAULT_SIGSEGV,
            Self::HwPoison => bindings::vm_fault_reason_VM_FAULT_HWPOISON,
            Self::OutOfMemory => bindings::vm_fault_reason_VM_FAULT_OOM,
        }
    }
}

/// As `vmf_error` in C.
impl From<Error> for FaultError {
    fn from(error: Error) -> Self {
        if error == ENOMEM {
            Self::OutOfMemory
        } else {
            Self::Bus
        }
    }
}

/// What was done about a store to a page that was installed read-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MkWrite {
    /// Nothing: the entry that is there may become writable.
    MakeWritable,
    /// Another entry was installed in its place, or the access shall fault again.
    Installed,
}

/// A page fault in a mapping of frame numbers.
///
/// # Invariants
///
/// The content is a valid `vm_fault` whose vma is locked at least for reading.
#[repr(transparent)]
pub struct VmFault {
    inner: Opaque<bindings::vm_fault>,
}

impl VmFault {
    /// # Safety
    ///
    /// `vmf` must satisfy the type invariants for `'a`.
    pub(crate) unsafe fn from_raw<'a>(vmf: *mut bindings::vm_fault) -> &'a Self {
        // SAFETY: By the requirements; the type is transparent.
        unsafe { &*vmf.cast() }
    }

    fn fixed(&self) -> &bindings::vm_fault__bindgen_ty_1 {
        // SAFETY: By the type invariants; this part of a fault is constant.
        unsafe { &(*self.inner.get()).__bindgen_anon_1 }
    }

    /// Returns the page of the file.
    #[inline]
    pub fn page_offset(&self) -> usize {
        self.fixed().pgoff
    }

    /// Returns the address of the page in the process.
    #[inline]
    pub fn address(&self) -> usize {
        self.fixed().address
    }

    /// Returns whether this is a store.
    #[inline]
    pub fn is_write(&self) -> bool {
        // SAFETY: By the type invariants.
        unsafe { (*self.inner.get()).flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0 }
    }

    /// Returns the mapping.
    #[inline]
    pub fn vma(&self) -> &VmaRef {
        // SAFETY: By the type invariants the vma is locked.
        unsafe { VmaRef::from_raw(self.fixed().vma) }
    }

    /// Installs a frame so that it can be read, and the first store to it is noticed.
    ///
    /// If there is an entry already, it stays. May sleep.
    #[inline]
    pub fn insert_read_only(&self, pfn: Pfn) -> Result<(), FaultError> {
        // What private mappings have: stores fault.
        self.insert(pfn, self.vma().flags() & !flags::SHARED)
    }

    /// Installs the kernel's page of zeros, which can only be read.
    ///
    /// If there is an entry already, it stays. May sleep.
    #[inline]
    pub fn insert_zeros(&self) -> Result<(), FaultError> {
        // SAFETY: Any address will do. The frame is for user space to read, and is installed in
        // such a way here.
        let zeros = unsafe { Pfn::new(bindings::zero_pfn(0)) };
        self.insert_read_only(zeros)
    }

    /// Installs a frame with all that the mapping allows: in a writable one, it can be stored to.
    ///
    /// If there is an entry already, it stays: unmap it before. May sleep.
    #[inline]
    pub fn insert_writable(&self, pfn: Pfn) -> Result<(), FaultError> {
        self.insert(pfn, self.vma().flags())
    }

    /// Installs a frame in a shared mapping of frame numbers, or a mixed one: `writable`, with all that
    /// the mapping allows; else so that the first store to it is noticed.
    ///
    /// If there is an entry already, it stays, but for becoming writable. May sleep.
    ///
    /// # Safety
    ///
    /// The frame must be a whole page of the linear map, for user data, and stay so as long as it is
    /// mapped.
    pub(super) unsafe fn insert_shared(
        &self,
        frame: usize,
        writable: bool,
    ) -> Result<(), FaultError> {
        let vma = self.vma();
        if vma.flags() & flags::MIXEDMAP == 0 {
            // SAFETY: By the requirements.
            let pfn = unsafe { Pfn::new(frame) };
            return match writable {
                true => self.insert_writable(pfn),
                false => self.insert_read_only(pfn),
            };
        }
        let insert = match writable {
            true => bindings::vmf_insert_mixed_mkwrite,
            false => bindings::vmf_insert_mixed,
        };
        // SAFETY: The vma is locked, and a mixed map. That the frame may be mapped is required.
        let result = unsafe { insert(vma.as_ptr(), self.address(), frame) };
        Self::installed(result)
    }

    fn insert(&self, pfn: Pfn, prot: super::virt::vm_flags_t) -> Result<(), FaultError> {
        let vma = self.vma();
        // What the C function takes for a bug.
        if vma.flags() & (flags::PFNMAP | flags::MIXEDMAP) != flags::PFNMAP
            || vma.flags() & (flags::SHARED | flags::MAYWRITE) == flags::MAYWRITE
        {
            return Err(FaultError::Bus);
        }
        // SAFETY: The vma is locked, and has the flags that are required. That the frame may be
        // mapped is an invariant of `Pfn`.
        let result = unsafe {
            bindings::vmf_insert_pfn_prot(
                vma.as_ptr(),
                self.address(),
                pfn.number(),
                bindings::vm_get_page_prot(prot),
            )
        };
        Self::installed(result)
    }

    fn installed(result: bindings::vm_fault_t) -> Result<(), FaultError> {
        if result & bindings::vm_fault_reason_VM_FAULT_OOM != 0 {
            Err(FaultError::OutOfMemory)
        } else if result & bindings::vm_fault_reason_VM_FAULT_NOPAGE != 0 {
            Ok(())
        } else {
            Err(FaultError::Bus)
        }
    }
}
