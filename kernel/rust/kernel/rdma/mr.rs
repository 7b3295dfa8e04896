// SPDX-License-Identifier: GPL-2.0

//! Fast-registration memory regions.

use super::{DmaBuffer, Pd};
use crate::{
    bindings,
    error::from_err_ptr,
    mm::pinned::PinnedPages,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        new_mutex,
        Arc,
        Mutex, //
    },
};
use core::ptr::{self, NonNull};

const BOTH_WAYS: bindings::dma_data_direction = bindings::dma_data_direction_DMA_BIDIRECTIONAL;

/// What a peer may do with a memory region.
#[derive(Copy, Clone)]
pub struct Access(u32);

impl Access {
    /// Peers may read.
    pub const REMOTE_READ: Self = Self(bindings::ib_access_flags_IB_ACCESS_REMOTE_READ);
    /// Peers may write.
    pub const REMOTE_WRITE: Self = Self(
        bindings::ib_access_flags_IB_ACCESS_REMOTE_WRITE
            | bindings::ib_access_flags_IB_ACCESS_LOCAL_WRITE,
    );
    /// Peers may fetch-and-add and compare-and-swap.
    pub const REMOTE_ATOMIC: Self = Self(
        bindings::ib_access_flags_IB_ACCESS_REMOTE_ATOMIC
            | bindings::ib_access_flags_IB_ACCESS_LOCAL_WRITE,
    );

    pub(super) fn as_raw(self) -> c_int {
        self.0 as c_int
    }
}

impl core::ops::BitOr for Access {
    type Output = Self;

    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

/// Peers cannot reach the memory.
const IDLE: u32 = 0;
/// Memory is mapped, but no registration was posted.
const MAPPED: u32 = 1;
/// A registration was posted; peers may be able to reach the memory.
const EXPOSED: u32 = 2;

/// The memory behind a region.
enum Memory {
    None,
    Buffer(#[expect(dead_code, reason = "held, not used")] Arc<DmaBuffer>),
    /// Somebody else's, mapped for this region alone.
    Foreign(Mapped),
    /// Pages of a process, mapped for this region alone.
    Pinned(
        Mapped,
        #[expect(dead_code, reason = "held, not used")] Arc<PinnedPages>,
    ),
}

/// A list of memory that is mapped for a device.
struct Mapped {
    list: KVec<bindings::scatterlist>,
    /// Entries that the device has of it: it may have joined some.
    entries: u32,
}

impl Mapped {
    /// Maps what is in the list.
    ///
    /// # Safety
    ///
    /// The list must be one table, of memory that stays until it was unmapped.
    unsafe fn new(
        device: *mut bindings::ib_device,
        mut list: KVec<bindings::scatterlist>,
    ) -> Result<Self> {
        let count = list.len() as c_int;
        // SAFETY: As many entries; what is behind them stays, as the caller promises.
        let entries =
            unsafe { bindings::ib_dma_map_sg(device, list.as_mut_ptr(), count, BOTH_WAYS) };
        match u32::try_from(entries) {
            Ok(entries) if entries > 0 => Ok(Self { list, entries }),
            _ => Err(EIO),
        }
    }
}

/// A window that peers may be let into, for a while, by posting a registration.
///
/// The life of a region: [`map`](Self::map) some memory, post [`SendOp::RegMr`], give
/// [`rkey`](Self::rkey) and [`addr`](Self::addr) to the peer, post [`SendOp::LocalInv`], wait for its
/// completion, [`unmap`](Self::unmap), and again. Dropping a region shuts the window, too.
///
/// # Invariants
///
/// - `raw` is a memory region of `pd` that nobody else frees.
/// - While `state` is `EXPOSED`, `memory` stays as it was when the registration was posted.
///
/// [`SendOp::RegMr`]: super::SendOp::RegMr
/// [`SendOp::LocalInv`]: super::SendOp::LocalInv
#[pin_data(PinnedDrop)]
pub struct FastRegMr {
    raw: NonNull<bindings::ib_mr>,
    pages: u32,
    state: Atomic<u32>,
    #[pin]
    memory: Mutex<Memory>,
    pd: Arc<Pd>,
}

// SAFETY: Verbs on a memory region may be called by any thread.
unsafe impl Send for FastRegMr {}
// SAFETY: Changes of `raw` happen under the lock of `memory` and not while exposed.
unsafe impl Sync for FastRegMr {}

impl FastRegMr {
    /// Allocates a region that can cover up to `pages` pages.
    pub fn new(pd: &Arc<Pd>, pages: u32) -> Result<Arc<Self>> {
        if pages == 0 || pages > pd.device().max_fast_reg_pages() {
            return Err(EINVAL);
        }
        // SAFETY: The protection domain is valid.
        let raw = from_err_ptr(unsafe {
            bindings::ib_alloc_mr(pd.as_raw(), bindings::ib_mr_type_IB_MR_TYPE_MEM_REG, pages)
        })?;
        // INVARIANT: Just allocated; nothing is mapped.
        let init = pin_init!(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            pages,
            state: Atomic::new(IDLE),
            memory <- new_mutex!(Memory::None),
            pd: pd.clone(),
        }? Error);
        Arc::pin_init(init, GFP_KERNEL)
    }

    #[inline]
    pub(super) fn as_raw(&self) -> *mut bindings::ib_mr {
        self.raw.as_ptr()
    }

    pub(super) fn pd(&self) -> &Pd {
        &self.pd
    }

    /// Bytes that the region can cover whatever their alignment.
    pub fn capacity(&self) -> usize {
        (self.pages as usize - 1) * PAGE_SIZE
    }

    /// Key by which peers reach the memory. Changes with each [`map`](Self::map).
    pub fn rkey(&self) -> u32 {
        // SAFETY: Valid by the type invariant.
        unsafe { (*self.as_raw()).rkey }
    }

    /// Address of the first byte of the memory, for peers.
    pub fn addr(&self) -> u64 {
        // SAFETY: Valid by the type invariant.
        unsafe { (*self.as_raw()).iova }
    }

    /// Puts a buffer behind the region; [`EBUSY`] unless it is idle and unmapped.
    pub fn map(&self, buffer: &Arc<DmaBuffer>) -> Result {
        if !ptr::eq(buffer.device(), self.pd.device()) {
            return Err(EINVAL);
        }
        let mut sg: bindings::scatterlist = pin_init::zeroed();
        // SAFETY: One entry, on this stack; the buffer is in the linear map. The mapping that the
        // buffer already has is used instead of making another.
        unsafe {
            bindings::sg_init_one(
                &mut sg,
                buffer.as_ptr().as_ptr().cast(),
                buffer.len() as u32,
            )
        };
        sg.dma_address = buffer.dma();
        #[cfg(CONFIG_NEED_SG_DMA_LENGTH)]
        {
            sg.dma_length = buffer.len() as u32;
        }
        self.map_sg(&mut sg, 1, buffer.len(), Memory::Buffer(buffer.clone()))
    }

    /// Puts somebody else's memory behind the region; [`EBUSY`] unless it is idle and unmapped.
    ///
    /// # Safety
    ///
    /// `ptr` must point to `len` bytes of the kernel's linear map, which stay allocated and which
    /// the owner expects to be read and written by peers until [`Self::unmap`] has succeeded or
    /// `self` was dropped.
    pub unsafe fn map_foreign(&self, ptr: NonNull<u8>, len: usize) -> Result {
        let len32 = u32::try_from(len).map_err(|_| EINVAL)?;
        let mut list = KVec::with_capacity(1, GFP_KERNEL)?;
        list.push(pin_init::zeroed::<bindings::scatterlist>(), GFP_KERNEL)?;
        // SAFETY: One entry, on the heap; the memory is in the linear map as the caller promises.
        unsafe { bindings::sg_init_one(list.as_mut_ptr(), ptr.as_ptr().cast(), len32) };
        // SAFETY: A table of one entry, whose memory stays as the caller promises.
        let mut mapped = unsafe { Mapped::new(self.pd.device().as_raw(), list)? };
        let (list, entries) = (mapped.list.as_mut_ptr(), mapped.entries);
        self.map_sg(list, entries, len, Memory::Foreign(mapped))
    }

    /// Puts `len` bytes of a process's pages behind the region, from the one at `start` on;
    /// [`EBUSY`] unless it is idle and unmapped. The pages stay pinned at least until
    /// [`Self::unmap`] has succeeded or `self` was dropped.
    pub fn map_pinned(&self, pages: &Arc<PinnedPages>, start: usize, len: usize) -> Result {
        if len == 0 {
            return Err(EINVAL);
        }
        let count = pages.parts(start, len)?.count();
        if count > self.pages as usize {
            return Err(EMSGSIZE);
        }
        let mut list = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            list.push(pin_init::zeroed::<bindings::scatterlist>(), GFP_KERNEL)?;
        }
        // SAFETY: The list has so many entries.
        unsafe { bindings::sg_init_table(list.as_mut_ptr(), count as c_uint) };
        for (entry, (part, n)) in list.iter_mut().zip(pages.parts(start, len)?) {
            // SAFETY: The bytes lie in one page of the linear map.
            unsafe { bindings::sg_set_buf(entry, part.as_ptr().cast(), n as c_uint) };
        }
        // SAFETY: A table that was just made, of memory that `pages` keeps, which is kept.
        let mut mapped = unsafe { Mapped::new(self.pd.device().as_raw(), list)? };
        let (list, entries) = (mapped.list.as_mut_ptr(), mapped.entries);
        self.map_sg(list, entries, len, Memory::Pinned(mapped, pages.clone()))
    }

    /// Maps `entries` of the list `sg`, with `memory` behind it, which is undone on an error.
    fn map_sg(
        &self,
        sg: *mut bindings::scatterlist,
        entries: u32,
        len: usize,
        mut memory: Memory,
    ) -> Result {
        let mut guard = self.memory.lock();
        let device = self.pd.device().as_raw();
        let check = || {
            if self.state.load(Acquire) != IDLE || !matches!(*guard, Memory::None) {
                return Err(EBUSY);
            }
            // SAFETY: `sg` has so many mapped entries, and nothing uses the region while it is idle.
            let n = unsafe {
                bindings::ib_map_mr_sg(
                    self.as_raw(),
                    sg,
                    entries as c_int,
                    ptr::null_mut(),
                    PAGE_SIZE as u32,
                )
            };
            // SAFETY: Valid by the type invariant.
            if n != entries as c_int || unsafe { (*self.as_raw()).length } != len as u64 {
                return Err(EMSGSIZE);
            }
            Ok(())
        };
        if let Err(e) = check() {
            drop(guard);
            unmap(device, &mut memory);
            return Err(e);
        }
        // A new key for each use, so that one a peer kept from before opens nothing.
        // SAFETY: Valid by the type invariant, and idle.
        unsafe {
            let key = (*self.as_raw()).rkey as u8;
            bindings::ib_update_fast_reg_key(self.as_raw(), key.wrapping_add(1));
        }
        *guard = memory;
        self.state.store(MAPPED, Release);
        Ok(())
    }

    /// Lets go of the memory; [`EBUSY`] when a peer might still reach it.
    pub fn unmap(&self) -> Result {
        let released = {
            let mut guard = self.memory.lock();
            if self.state.load(Acquire) == EXPOSED {
                return Err(EBUSY);
            }
            self.state.store(IDLE, Release);
            unmap(self.pd.device().as_raw(), &mut guard)
        };
        // Unlocked, as the end of pinned pages takes locks of address spaces.
        drop(released);
        Ok(())
    }

    /// A registration is being posted. Called before it is.
    pub(super) fn set_exposed(&self) -> Result {
        let swapped = self.state.cmpxchg(MAPPED, EXPOSED, Full);
        swapped.map(|_| ()).map_err(|_| EBUSY)
    }

    /// The posting of a registration failed, or an invalidation has completed.
    pub(super) fn set_hidden(&self) {
        self.state.store(MAPPED, Release);
    }
}

/// Takes the memory from the device; what is left of it.
fn unmap(device: *mut bindings::ib_device, memory: &mut Memory) -> Memory {
    if let Memory::Foreign(mapped) | Memory::Pinned(mapped, _) = memory {
        let (list, count) = (mapped.list.as_mut_ptr(), mapped.list.len() as c_int);
        // SAFETY: Mapped like this by `Mapped::new()`, on a device that `pd` keeps registered.
        unsafe { bindings::ib_dma_unmap_sg(device, list, count, BOTH_WAYS) };
    }
    core::mem::replace(memory, Memory::None)
}

#[pinned_drop]
impl PinnedDrop for FastRegMr {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: Ours by the type invariant. Posted requests hold an `Arc`, so there are none.
        // From here on no peer can reach the memory.
        unsafe { bindings::ib_dereg_mr_user(self.as_raw(), ptr::null_mut()) };
        let released = unmap(self.pd.device().as_raw(), &mut self.memory.lock());
        drop(released);
    }
}
