// SPDX-License-Identifier: GPL-2.0

//! Areas of processes that map memory of a device, page by page as they are touched.
//!
//! A driver has an [`AreaPages`] for what it shows at a range of offsets of its file. Its `mmap` sets
//! areas up with that ([`AreaPages::map`]) and with an object of its own, whose [`DeviceArea`] gets
//! their faults and inserts pages. Whenever it wants, it takes pages out of all processes
//! ([`AreaPages::unmap`]): what they touch next faults again.
//!
//! What keeps this sound: memory of which a page was inserted is kept until it was unmapped, or until
//! no area is left, so that no process ever has a page of memory that was freed. Nobody has
//! references to bytes of memory that is shown, as the type of the memory promises ([`AreaMemory`]).
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::{
    fault::{FaultError, MkWrite, VmFault},
    virt::{flags, VmaNew, VmaRef}, //
};
use crate::{
    bindings, new_mutex,
    page::{ContiguousPages, PAGE_SIZE},
    prelude::*,
    rbtree::RBTree,
    sync::{Arc, ArcBorrow, Mutex, UniqueArc},
    types::ForeignOwnable,
};
use core::{marker::PhantomData, ptr};

/// Memory whose pages areas can show.
///
/// # Safety
///
/// - The frames that [`Self::frame`] names are whole pages of the linear map, hold data for user space
///   alone, and stay so as long as `self` lives.
/// - As long as there is more than one reference to `self` nobody has references to their bytes, but
///   for atomics.
pub unsafe trait AreaMemory: Send + Sync + 'static {
    /// Pages that it has.
    fn pages(&self) -> usize;

    /// The number of the frame that is its `page`th page, which is less than [`Self::pages`].
    fn frame(&self, page: usize) -> usize;
}

/// The frame that the linear map has at an address of it.
pub(crate) fn frame_at(address: *const u8) -> usize {
    // SAFETY: It computes.
    unsafe { bindings::virt_to_pfn(address.cast()) }
}

/// A page that areas can show. Only who has it alone gets at its bytes.
pub struct AreaPage(ContiguousPages);

impl AreaPage {
    /// A page of zeroes.
    pub fn zeroed() -> Result<UniqueArc<Self>> {
        let page = ContiguousPages::zeroed(0, GFP_KERNEL)?;
        Ok(UniqueArc::new(Self(page), GFP_KERNEL)?)
    }

    /// Its bytes.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// Takes it back from where it was shared, if nobody else has it any more; no process does then.
    pub fn take_back(this: Arc<Self>) -> Option<UniqueArc<Self>> {
        Arc::into_unique_or_drop(this).map(Pin::into_inner)
    }
}

// SAFETY: One page of user data, which the linear map has. Its bytes are given out by mutable reference
// alone, so to nobody while there are several references.
unsafe impl AreaMemory for AreaPage {
    fn pages(&self) -> usize {
        1
    }

    fn frame(&self, _page: usize) -> usize {
        frame_at(self.0.as_ptr().as_ptr())
    }
}

/// How an area shows frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum AreaKind {
    /// As a map of frame numbers (`VM_PFNMAP`): `MADV_DONTNEED` is refused.
    Frames,
    /// As a mixed map (`VM_MIXEDMAP`), which allows that. What it shows is not pinned either.
    Mixed,
}

/// What faults of an area do. Locks are those of [`VmOperations`](crate::fs::VmOperations).
pub trait DeviceArea: Send + Sync + Sized + 'static {
    /// What it shows.
    type Memory: AreaMemory;

    /// Inserts the page for an access that found none. If nothing was inserted, the access faults
    /// again. May sleep.
    fn fault(this: ArcBorrow<'_, Self>, fault: &AreaFault<'_, Self>) -> Result<(), FaultError>;

    /// Decides on a store to a page that was inserted read-only, in an area that is writable. May
    /// sleep.
    fn make_writable(
        this: ArcBorrow<'_, Self>,
        fault: &AreaFault<'_, Self>,
    ) -> Result<MkWrite, FaultError>;

    /// An area has come to its end: no process has pages of it any more. It had `count` pages from
    /// `first` of the file on. It still counts for [`AreaPages::is_mapped`]. May sleep.
    fn closing(_this: ArcBorrow<'_, Self>, _first: usize, _count: usize) {}
}

struct State<M> {
    /// Areas that there are.
    areas: usize,
    /// The address space of the file; while there are areas.
    space: *mut bindings::address_space,
    /// Memory of which areas may have pages, by where in the file its first page is.
    shown: RBTree<usize, Arc<M>>,
}

/// The pages that areas show, in all processes.
///
/// # Invariants
///
/// - While `areas` is not 0, `space` is the address space of the file of each of the areas, which keep
///   it.
/// - Each page of the areas is one of memory that is in `shown`, where it is in the file.
#[pin_data]
pub struct AreaPages<M: AreaMemory> {
    #[pin]
    state: Mutex<State<M>>,
}

// SAFETY: The address space is used under the lock, by functions that any thread may call.
unsafe impl<M: AreaMemory> Send for AreaPages<M> {}
// SAFETY: As above.
unsafe impl<M: AreaMemory> Sync for AreaPages<M> {}

/// What an area has as its private data.
struct Shown<T: DeviceArea> {
    owner: Arc<T>,
    pages: Arc<AreaPages<T::Memory>>,
}

impl<M: AreaMemory> AreaPages<M> {
    /// None.
    pub fn new() -> Result<Arc<Self>> {
        // INVARIANT: There are no areas.
        let this = pin_init!(Self {
            state <- new_mutex!(State {
                areas: 0,
                space: ptr::null_mut(),
                shown: RBTree::new(),
            }, "AreaPages"),
        });
        Arc::pin_init(this, GFP_KERNEL)
    }

    /// Sets up an area that is being mapped. It is the last that `mmap` does: it may not fail after
    /// this.
    ///
    /// [`EINVAL`] for a private mapping, and when there are areas of another file.
    pub fn map<T: DeviceArea<Memory = M>>(
        self: &Arc<Self>,
        vma: &VmaNew,
        kind: AreaKind,
        owner: Arc<T>,
    ) -> Result {
        let old = vma.flags();
        if old & flags::SHARED == 0 || old & (flags::PFNMAP | flags::MIXEDMAP) != 0 {
            return Err(EINVAL);
        }
        let pages = self.clone();
        let shown = Arc::new(Shown { owner, pages }, GFP_KERNEL)?;
        let raw = vma.as_ptr();
        // SAFETY: The vma is being set up, for a file, which it keeps.
        let space = unsafe { (*(*raw).vm_file).f_mapping };
        let mut state = self.state.lock();
        if state.areas != 0 && state.space != space {
            drop(state);
            drop(shown);
            return Err(EINVAL);
        }
        // INVARIANT: There is this one, of this file.
        state.areas += 1;
        state.space = space;
        drop(state);
        let kind = match kind {
            AreaKind::Frames => flags::PFNMAP,
            AreaKind::Mixed => flags::MIXEDMAP,
        };
        // SAFETY: The vma is being set up, so nobody else uses it. The combination of flags is allowed:
        // it is shared, so there are no copies of pages, and of one kind. What is stored in it is what the
        // operations expect, which take it back when it is closed.
        unsafe {
            (*raw).__bindgen_anon_2.vm_flags = old | kind | flags::DONTEXPAND | flags::DONTDUMP;
            (*raw).vm_private_data = shown.into_foreign();
            (*raw).vm_ops = &Table::<T>::TABLE;
        }
        Ok(())
    }

    /// Whether there are areas.
    pub fn is_mapped(&self) -> bool {
        self.state.lock().areas != 0
    }

    /// Takes `count` pages of the file, from `first` on, out of all processes, and lets go of memory that
    /// is not shown any more. Pages of other areas of the file fault again, to no harm. May sleep. Memory
    /// must not want these pages when it ends.
    pub fn unmap(&self, first: usize, count: usize) {
        if count == 0 {
            return;
        }
        let mut state = self.state.lock();
        if state.areas != 0 {
            // SAFETY: By the invariants the address space is there, while the lock is held.
            unsafe { bindings::unmap_mapping_pages(state.space, first, count, false) };
        }
        let end = first.saturating_add(count);
        let mut from = first;
        loop {
            let cursor = state.shown.cursor_lower_bound(&from);
            let found = cursor.map(|cursor| {
                let (at, memory) = cursor.current();
                (*at, at.saturating_add(memory.pages()))
            });
            let Some((at, beyond)) = found.filter(|(at, _)| *at < end) else {
                break;
            };
            if beyond <= end {
                // INVARIANT: All of its pages were unmapped, and none was inserted since.
                state.shown.remove(&at);
            }
            from = beyond;
        }
    }

    /// There is one area more.
    fn opened(&self) {
        // INVARIANT: It is a copy of one, of the same file.
        self.state.lock().areas += 1;
    }

    /// There is one area less.
    fn closed(&self) {
        let mut state = self.state.lock();
        state.areas -= 1;
        if state.areas == 0 {
            // INVARIANT: Nobody has pages of it any more.
            let gone = core::mem::replace(&mut state.shown, RBTree::new());
            state.space = ptr::null_mut();
            drop(state);
            drop(gone);
        }
    }
}

/// A fault in an area of a device.
pub struct AreaFault<'a, T: DeviceArea> {
    fault: &'a VmFault,
    pages: &'a AreaPages<T::Memory>,
}

impl<T: DeviceArea> AreaFault<'_, T> {
    /// The page of the file.
    pub fn page_offset(&self) -> usize {
        self.fault.page_offset()
    }

    /// Whether it is a store.
    pub fn is_write(&self) -> bool {
        self.fault.is_write()
    }

    /// Inserts the `page`th page of `memory`: `writable`, with all that the area allows, so that a store
    /// that faulted is done; else so that the first store is noticed, by
    /// [`DeviceArea::make_writable`].
    ///
    /// If there is an entry already, it stays. The memory is kept until it was unmapped as a whole. It is
    /// an error to show other memory at the same offsets before. May sleep.
    pub fn insert(
        &self,
        memory: &Arc<T::Memory>,
        page: usize,
        writable: bool,
    ) -> Result<(), FaultError> {
        let offset = self.page_offset();
        if page >= memory.pages() {
            return Err(FaultError::Bus);
        }
        let at = offset.checked_sub(page).ok_or(FaultError::Bus)?;
        let mut state = self.pages.state.lock();
        match state.shown.get(&at) {
            Some(known) if Arc::ptr_eq(known, memory) => {}
            Some(_) => return Err(FaultError::Bus),
            None => {
                let shown = &mut state.shown;
                shown
                    .try_create_and_insert(at, memory.clone(), GFP_KERNEL)
                    .map_err(|_| FaultError::OutOfMemory)?;
            }
        }
        // INVARIANT: The memory is there, where its page is inserted.
        // SAFETY: The frame is one of user data, by the requirements of `AreaMemory`, and stays so until
        // it was unmapped, as `shown` keeps the memory. The lock is held, so that is not just now.
        let inserted = unsafe { self.fault.insert_shared(memory.frame(page), writable) };
        drop(state);
        inserted
    }
}

struct Table<T: DeviceArea>(PhantomData<T>);

impl<T: DeviceArea> Table<T> {
    const TABLE: bindings::vm_operations_struct = bindings::vm_operations_struct {
        open: Some(Self::open),
        close: Some(Self::close),
        fault: Some(Self::fault),
        pfn_mkwrite: Some(Self::pfn_mkwrite),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `vma` must be one that [`AreaPages::map`] set up with these operations, or a copy of it, for
    /// `'a`.
    unsafe fn shown<'a>(vma: *mut bindings::vm_area_struct) -> ArcBorrow<'a, Shown<T>> {
        // SAFETY: `map` and `open` store one in each such vma, which stays until `close`.
        unsafe { <Arc<Shown<T>> as ForeignOwnable>::borrow((*vma).vm_private_data) }
    }

    /// # Safety
    ///
    /// Called by the kernel only, with a copy of a vma of ours.
    unsafe extern "C" fn open(vma: *mut bindings::vm_area_struct) {
        // SAFETY: As the kernel promises: the original keeps what it shows meanwhile.
        let shown: Arc<Shown<T>> = unsafe { Self::shown(vma) }.into();
        shown.pages.opened();
        // SAFETY: The copy has one of its own from here on.
        unsafe { (*vma).vm_private_data = shown.into_foreign() };
    }

    /// # Safety
    ///
    /// Called by the kernel only, with a vma of ours that is no longer mapped.
    unsafe extern "C" fn close(vma: *mut bindings::vm_area_struct) {
        // SAFETY: As the kernel promises; nobody uses the vma after this.
        let (shown, area) = unsafe {
            (
                <Arc<Shown<T>> as ForeignOwnable>::from_foreign((*vma).vm_private_data),
                VmaRef::from_raw(vma),
            )
        };
        let count = (area.end() - area.start()) / PAGE_SIZE;
        T::closing(shown.owner.as_arc_borrow(), area.page_offset(), count);
        shown.pages.closed();
    }

    /// # Safety
    ///
    /// Called by the kernel only, for a vma of ours that is locked.
    unsafe extern "C" fn fault(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As the kernel promises.
        let fault = unsafe { VmFault::from_raw(vmf) };
        // SAFETY: As above.
        let shown = unsafe { Self::shown(fault.vma().as_ptr()) };
        let pages = &*shown.pages;
        match T::fault(shown.owner.as_arc_borrow(), &AreaFault { fault, pages }) {
            Ok(()) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            Err(error) => error.into_raw(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::fault`].
    unsafe extern "C" fn pfn_mkwrite(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: As the kernel promises.
        let fault = unsafe { VmFault::from_raw(vmf) };
        // SAFETY: As above.
        let shown = unsafe { Self::shown(fault.vma().as_ptr()) };
        let pages = &*shown.pages;
        match T::make_writable(shown.owner.as_arc_borrow(), &AreaFault { fault, pages }) {
            Ok(MkWrite::MakeWritable) => 0,
            Ok(MkWrite::Installed) => bindings::vm_fault_reason_VM_FAULT_NOPAGE,
            Err(error) => error.into_raw(),
        }
    }
}
