// SPDX-License-Identifier: GPL-2.0

//! Memory areas of processes that map /dev/clio, at the level of C.
//!
//! The kernel crate has faults of files of a file system, not of devices; until it has those, this
//! file is the one place where they are taken. Everything here is a thin step to a safe method.

use super::{Access, Cached, Placed};
use crate::session::Session;
use kernel::{
    bindings,
    mm::virt::{flags, VmaNew},
    page::ContiguousPages,
    prelude::*,
    sync::{Arc, ArcBorrow},
    types::ForeignOwnable,
};

/// A page that processes map.
pub(super) struct Frame {
    pub(super) pages: ContiguousPages,
    number: usize,
}

impl Frame {
    pub(super) fn new() -> Result<Self> {
        let pages = ContiguousPages::zeroed(0, GFP_KERNEL)?;
        // SAFETY: The linear address of a page that we own.
        let address = unsafe { bindings::slow_virt_to_phys(pages.as_ptr().as_ptr().cast()) };
        Ok(Self {
            pages,
            number: (address >> bindings::PAGE_SHIFT) as usize,
        })
    }
}

/// The pages of /dev/clio, of all opens, in all processes: an address in a RAS is an offset.
///
/// # Invariants
///
/// The pointer is the address space of an inode that some open of the device keeps.
#[derive(Clone, Copy)]
pub(super) struct Pages(*mut bindings::address_space);

// SAFETY: What is done with it does its own locking.
unsafe impl Send for Pages {}
// SAFETY: As above.
unsafe impl Sync for Pages {}

impl Pages {
    /// Takes a page out of all processes. Those of other opens fault again, to no harm.
    pub(super) fn unmap(self, page: u64) {
        // SAFETY: By the invariant; the cache that has us lives no longer than its open.
        unsafe { bindings::unmap_mapping_pages(self.0, page as usize, 1, false) };
    }
}

/// Sets an area up that is being mapped: its length in pages, and the first of them.
pub(super) fn set_up(vma: &VmaNew) -> Result<(Pages, u64, u64)> {
    let old = vma.flags();
    if old & flags::SHARED == 0 || old & flags::PFNMAP != 0 {
        return Err(EINVAL);
    }
    // A mixed map that has frame numbers only: unlike in a map of frame numbers by name,
    // MADV_DONTNEED is allowed there.
    let raw = vma.as_ptr();
    // SAFETY: The area is being set up by the current task, for a file of ours, whose inode it
    // keeps; nobody else uses it.
    let (pages, first) = unsafe {
        (*raw).__bindgen_anon_2.vm_flags =
            old | flags::MIXEDMAP | flags::DONTEXPAND | flags::DONTDUMP;
        (*raw).vm_ops = &TABLE;
        ((*(*raw).vm_file).f_mapping, (*raw).vm_pgoff as u64)
    };
    let count = ((vma.end() - vma.start()) / kernel::page::PAGE_SIZE) as u64;
    // INVARIANT: The file is the open that the cache belongs to.
    Ok((Pages(pages), first, count))
}

static TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
    open: Some(open),
    close: Some(close),
    fault: Some(fault),
    pfn_mkwrite: Some(pfn_mkwrite),
    ..pin_init::zeroed()
};

/// The open that an area belongs to, and its cache.
///
/// # Safety
///
/// `vma` must be an area that has our operations, for `'a`.
unsafe fn owner<'a>(
    vma: *mut bindings::vm_area_struct,
) -> Option<(ArcBorrow<'a, Session>, Arc<Cached>)> {
    // SAFETY: Such an area keeps its file, whose private data is a session.
    let session =
        unsafe { <Arc<Session> as ForeignOwnable>::borrow((*(*vma).vm_file).private_data) };
    let cached = session.cached.lock().clone()?;
    Some((session, cached))
}

/// Pages of an area, first and last.
///
/// # Safety
///
/// `vma` must be a valid area that does not change meanwhile.
unsafe fn range(vma: *mut bindings::vm_area_struct) -> (u64, u64) {
    // SAFETY: As the caller promises.
    let (first, bytes) = unsafe {
        let bounds = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
        ((*vma).vm_pgoff as u64, bounds.vm_end - bounds.vm_start)
    };
    (first, first + (bytes >> bindings::PAGE_SHIFT) as u64 - 1)
}

/// # Safety
///
/// Called by the kernel only, with a copy of an area of ours.
unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
    // SAFETY: As the kernel promises.
    if let Some((_, cached)) = unsafe { owner(vma) } {
        cached.mapped(true);
    }
}

/// # Safety
///
/// Called by the kernel only, with an area of ours that is no longer mapped.
unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
    // SAFETY: As the kernel promises.
    if let (Some((_, cached)), (first, last)) = unsafe { (owner(vma), range(vma)) } {
        cached.leave(first, last);
    }
}

/// # Safety
///
/// Called by the kernel only, for an area of ours that is locked.
unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
    // SAFETY: As the kernel promises; these parts of a fault are constant.
    let (vma, page, address) = unsafe {
        let fixed = &(*vmf).__bindgen_anon_1;
        (fixed.vma, fixed.pgoff as u64, fixed.address)
    };
    // SAFETY: As above.
    let Some((_, cached)) = (unsafe { owner(vma) }) else {
        return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
    };
    // The entry is for loads: a store faults once more, in `pfn_mkwrite`.
    let placed = cached.access(page, Access::Load, |frame| {
        // SAFETY: The area is locked and is a mixed map. The frame holds user data, and is unmapped
        // before it is anything else. Called with the cache's mutex held, so it is not being
        // unmapped just now.
        unsafe { bindings::vmf_insert_mixed(vma, address, frame.number) }
    });
    match placed {
        Ok(Placed::Installed(reason)) => reason,
        Ok(Placed::Again) | Err(EINTR) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
        Err(ENOMEM) => bindings::vm_fault_reason_VM_FAULT_OOM,
        Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    }
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
    let Some((_, cached)) = (unsafe { owner(vma) }) else {
        return bindings::vm_fault_reason_VM_FAULT_SIGBUS;
    };
    // If the page is unmapped before the entry becomes writable, the store faults again.
    match cached.access(page, Access::Store, |_| 0) {
        Ok(Placed::Installed(_)) => 0,
        Ok(Placed::Again) | Err(EINTR) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
        Err(_) => bindings::vm_fault_reason_VM_FAULT_SIGBUS,
    }
}
