// SPDX-License-Identifier: GPL-2.0

//! Memory that a device can reach.

use super::{Device, Pd, RemoteAddr};
use crate::{
    bindings,
    mm::{
        device_area::{frame_at, AreaMemory},
        pinned::PinnedPages, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Acquire, Atomic},
        Arc, //
    },
};
use core::{
    ops::Range,
    ptr::{self, NonNull}, //
};

const BOTH_WAYS: bindings::dma_data_direction = bindings::dma_data_direction_DMA_BIDIRECTIONAL;

/// Physically contiguous, zeroed memory that is mapped for one device, both ways.
///
/// The device, and peers through it, may change the memory at any time while it is exposed or named
/// in a work request. So there are no references into it: it is copied in and out, and what is
/// copied out is to be checked before it is believed.
///
/// # Invariants
///
/// `ptr` points to `len` bytes from `alloc_pages_exact()`, mapped at `dma`; both are released on
/// drop and not before.
pub struct DmaBuffer {
    ptr: NonNull<u8>,
    len: usize,
    dma: u64,
    device: ARef<Device>,
}

// SAFETY: The memory is not tied to a thread.
unsafe impl Send for DmaBuffer {}
// SAFETY: All accesses copy through raw pointers, as is right for memory that a device writes.
unsafe impl Sync for DmaBuffer {}

impl DmaBuffer {
    /// Allocates `len` bytes (up to 4 MiB) and maps them for `device`.
    pub fn new(device: &Device, len: usize) -> Result<Arc<Self>> {
        if len == 0 {
            return Err(EINVAL);
        }
        let flags = (GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN).as_raw();
        // SAFETY: May sleep, as only process context allocates buffers.
        let ptr = unsafe { bindings::alloc_pages_exact_noprof(len, flags) };
        let ptr = NonNull::new(ptr.cast::<u8>()).ok_or(ENOMEM)?;
        // SAFETY: The device is registered; the pages are in the linear map.
        let dma = unsafe {
            bindings::ib_dma_map_single(device.as_raw(), ptr.as_ptr().cast(), len, BOTH_WAYS)
        };
        // SAFETY: The device is registered.
        if unsafe { bindings::ib_dma_mapping_error(device.as_raw(), dma) } != 0 {
            // SAFETY: Allocated above with this length.
            unsafe { bindings::free_pages_exact(ptr.as_ptr().cast(), len) };
            return Err(ENOMEM);
        }
        // INVARIANT: Just allocated and mapped.
        let this = Self {
            ptr,
            len,
            dma,
            device: device.into(),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// Bytes in the buffer.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    fn check(&self, offset: usize, len: usize) -> Result {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(ERANGE),
        }
    }

    /// Copies `dst.len()` bytes out, from `offset` on.
    pub fn read(&self, offset: usize, dst: &mut [u8]) -> Result {
        self.check(offset, dst.len())?;
        // SAFETY: Both ranges are valid for `dst.len()` bytes and `dst` is ours alone. The device
        // may be writing at the same time; then the bytes are of no use but harmless.
        unsafe {
            bindings::ib_dma_sync_single_for_cpu(
                self.device.as_raw(),
                self.dma + offset as u64,
                dst.len(),
                BOTH_WAYS,
            );
            ptr::copy_nonoverlapping(self.ptr.as_ptr().add(offset), dst.as_mut_ptr(), dst.len());
        }
        Ok(())
    }

    /// Copies `src` in, at `offset`, where the device sees it.
    pub fn write(&self, offset: usize, src: &[u8]) -> Result {
        // SAFETY: A slice is valid for reads of its length.
        unsafe { self.write_raw(offset, src.as_ptr(), src.len()) }
    }

    /// As [`Self::write`], from memory that others may be changing.
    ///
    /// # Safety
    ///
    /// `src` must be readable for `len` bytes.
    pub unsafe fn write_raw(&self, offset: usize, src: *const u8, len: usize) -> Result {
        self.check(offset, len)?;
        // SAFETY: Both ranges are valid; the buffer is not `src`, or the caller would hold a
        // reference into it, which this type never gives out.
        unsafe {
            ptr::copy(src, self.ptr.as_ptr().add(offset), len);
            bindings::ib_dma_sync_single_for_device(
                self.device.as_raw(),
                self.dma + offset as u64,
                len,
                BOTH_WAYS,
            );
        }
        Ok(())
    }

    /// Copies `len` bytes in at `offset`, from those of `src` at `from`.
    pub fn copy_from(&self, offset: usize, src: &Self, from: usize, len: usize) -> Result {
        src.check(from, len)?;
        // SAFETY: Just checked to be there; others may change them at any time, as those of `self`.
        unsafe {
            bindings::ib_dma_sync_single_for_cpu(
                src.device.as_raw(),
                src.dma + from as u64,
                len,
                BOTH_WAYS,
            );
            self.write_raw(offset, src.ptr.as_ptr().add(from), len)
        }
    }

    /// As [`Self::copy_from`], from pages that are pinned.
    pub fn copy_from_pinned(
        &self,
        offset: usize,
        src: &PinnedPages,
        from: usize,
        len: usize,
    ) -> Result {
        let mut at = offset;
        for (part, n) in src.parts(from, len)? {
            // SAFETY: `n` bytes are there; `src` keeps them.
            unsafe { self.write_raw(at, part.as_ptr(), n)? };
            at += n;
        }
        Ok(())
    }

    /// Copies `len` bytes at `offset` out, to pages that are pinned, at `to`.
    pub fn copy_to_pinned(
        &self,
        offset: usize,
        dst: &PinnedPages,
        to: usize,
        len: usize,
    ) -> Result {
        self.check(offset, len)?;
        let mut at = offset;
        for (part, n) in dst.parts(to, len)? {
            // SAFETY: `n` bytes are there, which `dst` keeps, and which were pinned for writing. Those of
            // `self` were just checked. Others may change either at any time.
            unsafe {
                let from = self.dma + at as u64;
                bindings::ib_dma_sync_single_for_cpu(self.device.as_raw(), from, n, BOTH_WAYS);
                ptr::copy(self.ptr.as_ptr().add(at), part.as_ptr(), n);
            }
            at += n;
        }
        Ok(())
    }

    /// An aligned 64-bit word, for atomic instructions of processors. Those of a device are not
    /// atomic against them.
    pub fn word(&self, offset: usize) -> Result<&Atomic<u64>> {
        self.check(offset, 8)?;
        if offset % 8 != 0 {
            return Err(EINVAL);
        }
        // SAFETY: In bounds and aligned, for as long as `self` lives. Whoever else accesses it copies
        // through raw pointers.
        Ok(unsafe { Atomic::from_ptr(self.ptr.as_ptr().add(offset).cast::<u64>()) })
    }

    /// Where peers of queue pairs of `pd` find the buffer, by the key over all memory. [`EOPNOTSUPP`]
    /// when `pd` has none.
    ///
    /// Nothing takes that back: a peer that uses it when the buffer is no more reaches whatever came
    /// after. Whoever allowed such a key promised that peers do not:
    /// [`Pd::with_unsafe_global_rkey`].
    pub fn unsafe_remote_addr(&self, pd: &Pd) -> Result<RemoteAddr> {
        if !ptr::eq(self.device(), pd.device()) {
            return Err(EINVAL);
        }
        Ok(RemoteAddr {
            addr: self.dma,
            rkey: pd.unsafe_global_rkey().ok_or(EOPNOTSUPP)?,
        })
    }

    /// Zeroes `len` bytes at `offset`.
    pub fn zero(&self, offset: usize, len: usize) -> Result {
        self.check(offset, len)?;
        // SAFETY: In bounds, as just checked.
        unsafe {
            ptr::write_bytes(self.ptr.as_ptr().add(offset), 0, len);
            bindings::ib_dma_sync_single_for_device(
                self.device.as_raw(),
                self.dma + offset as u64,
                len,
                BOTH_WAYS,
            );
        }
        Ok(())
    }

    /// Reads an aligned 64-bit word as the device last left it, before anything that follows.
    pub fn load(&self, offset: usize) -> Result<u64> {
        self.check(offset, 8)?;
        if offset % 8 != 0 {
            return Err(EINVAL);
        }
        // SAFETY: In bounds and aligned; the word is only accessed atomically by this method.
        unsafe {
            bindings::ib_dma_sync_single_for_cpu(
                self.device.as_raw(),
                self.dma + offset as u64,
                8,
                BOTH_WAYS,
            );
            let word = self.ptr.as_ptr().add(offset).cast::<u64>();
            Ok(Atomic::from_ptr(word).load(Acquire))
        }
    }

    /// The memory itself, for code that hands it on to C.
    ///
    /// Valid for [`Self::len`] bytes as long as `self` is. Other parties may write it at any time.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.ptr
    }

    pub(super) fn dma(&self) -> u64 {
        self.dma
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }
}

// SAFETY: Its pages are of the linear map, and what is in them is believed by nobody. It gives out no
// references to their bytes, but for atomics.
unsafe impl AreaMemory for DmaBuffer {
    /// Whole ones.
    fn pages(&self) -> usize {
        self.len / PAGE_SIZE
    }

    fn frame(&self, page: usize) -> usize {
        frame_at(self.ptr.as_ptr()) + page
    }
}

impl Drop for DmaBuffer {
    fn drop(&mut self) {
        // SAFETY: Mapped and allocated like this by the type invariant. Work requests and memory
        // regions that name the buffer hold an `Arc` of it, so the device is done with it.
        unsafe {
            bindings::ib_dma_unmap_single(self.device.as_raw(), self.dma, self.len, BOTH_WAYS);
            bindings::free_pages_exact(self.ptr.as_ptr().cast(), self.len);
        }
    }
}

/// A part of a [`DmaBuffer`], for a work request.
///
/// # Invariants
///
/// The range lies inside the buffer and is shorter than 4 GiB.
#[derive(Clone)]
pub struct Segment {
    buffer: Arc<DmaBuffer>,
    offset: usize,
    len: u32,
}

impl Segment {
    /// The bytes `range` of `buffer`; [`ERANGE`] when they are not all there.
    pub fn new(buffer: &Arc<DmaBuffer>, range: Range<usize>) -> Result<Self> {
        let len = range.end.checked_sub(range.start).ok_or(ERANGE)?;
        buffer.check(range.start, len)?;
        // INVARIANT: Just checked.
        Ok(Self {
            buffer: buffer.clone(),
            offset: range.start,
            len: len.try_into().map_err(|_| ERANGE)?,
        })
    }

    /// Bytes in the segment.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn sge(&self, lkey: u32) -> bindings::ib_sge {
        bindings::ib_sge {
            addr: self.buffer.dma + self.offset as u64,
            length: self.len,
            lkey,
        }
    }

    pub(super) fn into_buffer(self) -> Arc<DmaBuffer> {
        self.buffer
    }
}
