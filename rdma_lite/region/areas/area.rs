// SPDX-License-Identifier: GPL-2.0

//! Memory areas of processes that map /dev/rdma_lite, at the level of C.
//!
//! The kernel crate has faults of files of a file system, not of devices; until it has those, this
//! file is the one place where they are taken. Everything here is a thin step to a safe method.

use crate::region::mapping::Mapping;
use kernel::{
    bindings,
    mm::virt::{flags, VmaNew},
    page::PAGE_SIZE,
    prelude::*,
    rdma::DmaBuffer,
    sync::{Arc, ArcBorrow},
    types::ForeignOwnable,
};

/// A page of a region, by the number of its frame.
pub(super) struct Frame(usize);

impl Frame {
    /// The page at `start` of a buffer; [`ERANGE`] when it has none there.
    pub(super) fn new(buffer: &DmaBuffer, start: usize) -> Result<Self> {
        let end = start.checked_add(PAGE_SIZE).ok_or(ERANGE)?;
        if start % PAGE_SIZE != 0 || end > buffer.len() {
            return Err(ERANGE);
        }
        // SAFETY: The buffer is of whole pages, in the linear map, and was just seen to have this one.
        let address = unsafe {
            let page = buffer.as_ptr().as_ptr().add(start);
            bindings::slow_virt_to_phys(page.cast())
        };
        Ok(Self((address >> bindings::PAGE_SHIFT) as usize))
    }
}

/// Where the pages of a region are mapped: pages `first` to `first + count` of a file, in all processes.
///
/// # Invariants
///
/// There are areas of it, each of which keeps the file, and so its address space.
#[derive(Clone, Copy)]
pub(super) struct Pages {
    space: *mut bindings::address_space,
    first: u64,
    count: u64,
}

// SAFETY: What is done with it does its own locking.
unsafe impl Send for Pages {}
// SAFETY: As above.
unsafe impl Sync for Pages {}

impl Pages {
    /// The page of the region that a page of the file is.
    pub(super) fn page_of(&self, in_file: u64) -> Option<u64> {
        in_file
            .checked_sub(self.first)
            .filter(|page| *page < self.count)
    }

    /// Takes them out of all processes. Those of other files at these offsets fault again, to no harm.
    pub(super) fn unmap(&self) {
        // SAFETY: By the invariant the address space is there: whoever has the areas counts them under
        // the lock that the caller holds.
        unsafe {
            bindings::unmap_mapping_pages(
                self.space,
                self.first as usize,
                self.count as usize,
                false,
            )
        };
    }
}

/// Pages of an area that is being mapped: the first, in its file, and how many.
pub(crate) fn range(vma: &VmaNew) -> (u64, u64) {
    // SAFETY: The area is being set up by the current task.
    let first = unsafe { (*vma.as_ptr()).vm_pgoff };
    (first as u64, ((vma.end() - vma.start()) / PAGE_SIZE) as u64)
}

/// Sets an area up that is being mapped, to show a region of `len` bytes from its page `page` on.
pub(super) fn set_up(vma: &VmaNew, mapping: Arc<Mapping>, page: u64, len: u64) -> Pages {
    let (first, _) = range(vma);
    let raw = vma.as_ptr();
    // SAFETY: The area is being set up by the current task, for a file of ours, whose inode it
    // keeps; nobody else uses it. What is stored in it is taken back by `close`.
    let space = unsafe {
        (*raw).__bindgen_anon_2.vm_flags =
            vma.flags() | flags::PFNMAP | flags::DONTEXPAND | flags::DONTDUMP;
        (*raw).vm_private_data = mapping.into_foreign();
        (*raw).vm_ops = &TABLE;
        (*(*raw).vm_file).f_mapping
    };
    // INVARIANT: There is this one.
    Pages {
        space,
        first: first - page,
        count: len.div_ceil(PAGE_SIZE as u64),
    }
}

static TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
    open: Some(open),
    close: Some(close),
    fault: Some(fault),
    pfn_mkwrite: Some(pfn_mkwrite),
    ..pin_init::zeroed()
};

/// The mapping that an area shows.
///
/// # Safety
///
/// `vma` must be an area that has our operations, for `'a`.
unsafe fn mapping<'a>(vma: *mut bindings::vm_area_struct) -> ArcBorrow<'a, Mapping> {
    // SAFETY: `set_up` and `open` store one in each such area, which stays until `close`.
    unsafe { <Arc<Mapping> as ForeignOwnable>::borrow((*vma).vm_private_data) }
}

/// # Safety
///
/// Called by the kernel only, with a copy of an area of ours.
unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
    // SAFETY: As the kernel promises: the original keeps its mapping meanwhile.
    let mapping: Arc<Mapping> = unsafe { mapping(vma) }.into();
    mapping.areas.opened();
    // SAFETY: The copy has one of its own from here on.
    unsafe { (*vma).vm_private_data = mapping.into_foreign() };
}

/// # Safety
///
/// Called by the kernel only, with an area of ours that is no longer mapped.
unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: As the kernel promises; nobody uses the area after this.
    let mapping = unsafe { <Arc<Mapping> as ForeignOwnable>::from_foreign((*vma).vm_private_data) };
    mapping.areas.closed();
}

/// # Safety
///
/// Called by the kernel only, for an area of ours that is locked.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: As the kernel promises; these parts of a fault are constant.
    let (vma, page, address, write) = unsafe {
        let fixed = &(*vmf).__bindgen_anon_1;
        let write = (*vmf).flags & bindings::fault_flag_FAULT_FLAG_WRITE != 0;
        (fixed.vma, fixed.pgoff as u64, fixed.address, write)
    };
    // SAFETY: As above.
    let (mapping, all) = unsafe { (mapping(vma), (*vma).__bindgen_anon_2.vm_flags) };
    let placed = mapping.touched(page, write, |frame, writable| {
        // What private mappings have: stores fault.
        let prot = if writable { all } else { all & !flags::SHARED };
        // SAFETY: The area is locked, and is a shared map of frame numbers. The frame holds data for
        // users, and stays while it is mapped: it is unmapped before it is anything else.
        unsafe {
            bindings::vmf_insert_pfn_prot(vma, address, frame.0, bindings::vm_get_page_prot(prot))
        }
    });
    placed.unwrap_or(bindings::vm_fault_reason_VM_FAULT_SIGBUS)
}

/// # Safety
///
/// As for [`fault`].
unsafe extern "C" fn pfn_mkwrite(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: As the kernel promises; these parts of a fault are constant.
    let (vma, page) = unsafe {
        let fixed = &(*vmf).__bindgen_anon_1;
        (fixed.vma, fixed.pgoff as u64)
    };
    // SAFETY: As above.
    let mapping = unsafe { mapping(vma) };
    // If the page is taken away before the entry becomes writable, the store faults again.
    match mapping.touched(page, true, |_, _| ()) {
        Ok(()) => 0,
        Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    }
}
