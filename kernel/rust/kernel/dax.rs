// SPDX-License-Identifier: GPL-2.0

//! Persistent memory.
//!
//! C header: [`include/linux/dax.h`](srctree/include/linux/dax.h)

use crate::{
    bindings,
    error::{from_err_ptr, to_result},
    fs::{File, FileSystem, NewSuperBlock},
    iov::{IovIterDest, IovIterSource},
    mm::fault::Pfn,
    page::PAGE_SIZE,
    prelude::*,
    sync::aref::ARef,
};
use core::{
    mem::ManuallyDrop,
    ops::Range,
    ptr::NonNull, //
};

/// The memory of a whole block device that is persistent memory (pmem).
///
/// # Concurrency
///
/// The memory is shared, with other threads and with processes that have mapped it. So there are
/// never references to it: data are copied in and out, and a copy made during a store may have
/// some of its bytes from before and some from after. [`load_u64`](Self::load_u64) and
/// [`store_u64`](Self::store_u64) are the exception: they are never torn. Who needs more order than
/// that keeps it by locks, and unmaps pages from processes before looking at them twice.
///
/// # Persistence
///
/// A store is durable after the lines it went to were flushed and a [`fence`](Self::fence) followed:
///
/// - [`write`](Self::write), [`write_from_iter`](Self::write_from_iter),
///   [`copy_within`](Self::copy_within) and [`zero`](Self::zero) flush what they store, so that the
///   fence is all that is missing;
/// - [`store_u64`](Self::store_u64), and what processes store by themselves, need a
///   [`flush`](Self::flush) before the fence.
///
/// Without them, stores become durable in any order, in units of 8 bytes.
///
/// # Limits
///
/// As with dm-writecache, the memory stays mapped in the kernel until the region is dropped: do not
/// unbind the driver of a device that is in use.
///
/// # Invariants
///
/// `base` is the kernel address of `len` bytes, a whole number of pages and not none, contiguous in
/// physical memory too, where they begin with the frame `pfn`. They stay while `bdev` is open.
/// `dax` is their DAX device.
pub struct PmemRegion {
    base: NonNull<u8>,
    len: usize,
    pfn: usize,
    dax: DaxRef,
    /// Makes it ours, where nobody else did so.
    _claim: Option<Claim>,
    /// Keeps the device open.
    _bdev: ARef<File>,
}

/// A block device that we opened for nobody but us.
///
/// # Invariants
///
/// `file` is a block device, claimed for the address of `_holder`, with a reference of ours.
struct Claim {
    file: ManuallyDrop<ARef<File>>,
    _holder: KBox<u8>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // The claim ends at once; the last reference to a file goes later, from a worker.
        //
        // SAFETY: By the type invariant this is a block device's file and a reference of ours,
        // which is not used any more.
        unsafe { bindings::bdev_fput(self.file.as_ptr()) };
    }
}

// SAFETY: The memory is accessible to all threads, and what is unsynchronised about accesses to it
// is so by the contract of the type. References may be dropped by any thread.
unsafe impl Send for PmemRegion {}
// SAFETY: As above.
unsafe impl Sync for PmemRegion {}

impl PmemRegion {
    /// Takes the device that a super block is on.
    ///
    /// Returns `EOPNOTSUPP` if it has no DAX, as all that is not persistent memory and NVDIMM
    /// namespaces in raw mode (those in fsdax mode have it), or if it needs more than cache flushes
    /// for persistence (virtio-pmem); `EIO` if a part of it is damaged; `EINVAL` if it is
    /// not one piece of memory.
    pub fn new<T: FileSystem>(sb: &NewSuperBlock<'_, T>) -> Result<Self> {
        // SAFETY: The file of a super block's device is open, and nobody uses its position.
        let bdev = unsafe { File::from_raw_file(sb.bdev_file().as_ptr()) };
        // SAFETY: The file is that of a block device.
        unsafe { Self::from_bdev(bdev.into()) }
    }

    /// Opens the block device at `path`, for nobody but us, and takes it.
    ///
    /// Errors as for [`new`](Self::new), and those of opening a device: `ENOENT`, `ENOTBLK`, and
    /// `EBUSY` if it is in use, as by a file system. May sleep.
    pub fn open(path: &CStr) -> Result<Self> {
        /// As `BLK_OPEN_READ | BLK_OPEN_WRITE`.
        const MODE: bindings::blk_mode_t = 1 << 0 | 1 << 1;

        // Its address tells us from all other users, for as long as the device is open.
        let holder = KBox::new(0u8, GFP_KERNEL)?;
        let holder_ptr: *const u8 = &*holder;
        // SAFETY: `path` is NUL-terminated. The holder is only compared with others.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_path(
                path.as_char_ptr(),
                MODE,
                holder_ptr.cast_mut().cast(),
                core::ptr::null(),
            )
        })?;
        let file = NonNull::new(file).ok_or(ENODEV)?;
        // SAFETY: The file was opened with a reference for us. Nobody uses its position.
        let file = unsafe { ARef::<File>::from_raw(file.cast()) };
        // INVARIANT: Just claimed.
        let claim = Claim {
            file: ManuallyDrop::new(file.clone()),
            _holder: holder,
        };
        // SAFETY: It is the file of a block device.
        let mut this = unsafe { Self::from_bdev(file) }?;
        this._claim = Some(claim);
        Ok(this)
    }

    /// # Safety
    ///
    /// `file` must be the open file of a block device.
    unsafe fn from_bdev(file: ARef<File>) -> Result<Self> {
        // SAFETY: By the requirements.
        let (bdev, len) = unsafe {
            let bdev = bindings::file_bdev(file.as_ptr());
            (bdev, bindings::bdev_nr_bytes(bdev))
        };
        let len = usize::try_from(len)?;

        let mut start = 0;
        // SAFETY: The device is open. We do not claim it, as its opener has done so.
        let dax = unsafe {
            bindings::fs_dax_get_by_bdev(bdev, &mut start, core::ptr::null_mut(), core::ptr::null())
        };
        // INVARIANT: The function returns a reference.
        let dax = DaxRef(NonNull::new(dax).ok_or(EOPNOTSUPP)?);
        // SAFETY: We have a reference to the DAX device.
        if !unsafe { bindings::dax_synchronous(dax.0.as_ptr()) } {
            return Err(EOPNOTSUPP);
        }

        let first = usize::try_from(start)? / PAGE_SIZE;
        let (base, pfn) = dax.contiguous(first, len / PAGE_SIZE)?;

        // INVARIANT: `contiguous` has checked the memory.
        Ok(Self {
            base,
            len: len / PAGE_SIZE * PAGE_SIZE,
            pfn,
            dax,
            _bdev: file,
            _claim: None,
        })
    }

    /// Returns the length, in bytes.
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the address of `len` bytes at `offset`, or `ERANGE` if they are not in the region.
    ///
    /// For hardware that is to access them, as for a memory region of RDMA.
    #[inline]
    pub fn as_ptr(&self, offset: usize, len: usize) -> Result<NonNull<u8>> {
        match offset.checked_add(len) {
            // SAFETY: `offset` is within the region.
            Some(end) if end <= self.len => Ok(unsafe { self.base.add(offset) }),
            _ => Err(ERANGE),
        }
    }

    /// Returns the frame of a page, to be mapped into processes.
    ///
    /// Offsets that are not those of a page are `EINVAL`. What processes may see and change is
    /// decided here: a frame of the file system's own structures must not be mapped.
    #[inline]
    pub fn pfn(&self, offset: usize) -> Result<Pfn> {
        self.as_ptr(offset, PAGE_SIZE)?;
        if offset % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        // SAFETY: The frame belongs to this device, so no memory of the kernel's own is in it.
        // A mapping keeps its file open and thereby the file system mounted and the device open.
        Ok(unsafe { Pfn::new(self.pfn + offset / PAGE_SIZE) })
    }

    /// Copies from the region.
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result {
        let from = self.as_ptr(offset, out.len())?;
        // SAFETY: Both are valid for the length, and `out` is not part of the region, as there are
        // no references to that. The C function copes with concurrent stores.
        unsafe {
            bindings::memcpy(
                out.as_mut_ptr().cast(),
                from.as_ptr().cast_const().cast(),
                out.len(),
            )
        };
        Ok(())
    }

    /// Copies from the region to a reader, and returns how many bytes it took.
    pub fn read_to_iter(
        &self,
        offset: usize,
        len: usize,
        to: &mut IovIterDest<'_>,
    ) -> Result<usize> {
        let from = self.as_ptr(offset, len)?;
        // SAFETY: The region is valid for the length, and the C function copes with concurrent
        // stores.
        Ok(unsafe { bindings::_copy_to_iter(from.as_ptr().cast_const().cast(), len, to.as_raw()) })
    }

    /// Copies into the region. Durable after the next [`fence`](Self::fence).
    pub fn write(&self, offset: usize, data: &[u8]) -> Result {
        let to = self.as_ptr(offset, data.len())?;
        // SAFETY: Both are valid for the length. The C function copes with concurrent accesses.
        unsafe {
            bindings::memcpy_flushcache(to.as_ptr().cast(), data.as_ptr().cast(), data.len())
        };
        Ok(())
    }

    /// Copies from a writer into the region, and returns how many bytes it gave. Durable after the
    /// next [`fence`](Self::fence).
    pub fn write_from_iter(
        &self,
        offset: usize,
        len: usize,
        from: &mut IovIterSource<'_>,
    ) -> Result<usize> {
        let to = self.as_ptr(offset, len)?;
        // SAFETY: As in `write`.
        let bytes =
            unsafe { bindings::_copy_from_iter_flushcache(to.as_ptr().cast(), len, from.as_raw()) };
        Ok(bytes)
    }

    /// Copies within the region; `EINVAL` if the ranges overlap. Durable after the next
    /// [`fence`](Self::fence).
    pub fn copy_within(&self, from: Range<usize>, to: usize) -> Result {
        let len = from.end.checked_sub(from.start).ok_or(EINVAL)?;
        let source = self.as_ptr(from.start, len)?;
        let target = self.as_ptr(to, len)?;
        if from.start.abs_diff(to) < len {
            return Err(EINVAL);
        }
        // SAFETY: As in `write`; the ranges do not overlap.
        unsafe {
            bindings::memcpy_flushcache(
                target.as_ptr().cast(),
                source.as_ptr().cast_const().cast(),
                len,
            )
        };
        Ok(())
    }

    /// Fills a range with zeros. Durable after the next [`fence`](Self::fence).
    pub fn zero(&self, offset: usize, len: usize) -> Result {
        let to = self.as_ptr(offset, len)?;
        // SAFETY: The region is valid for the length.
        unsafe { bindings::memset(to.as_ptr().cast(), 0, len) };
        self.flush(offset, len)
    }

    /// Flushes the cache lines of a range. Durable after the next [`fence`](Self::fence).
    ///
    /// Does nothing where the platform has persistent caches.
    #[inline]
    pub fn flush(&self, offset: usize, len: usize) -> Result {
        let address = self.as_ptr(offset, len)?;
        // SAFETY: The region is valid for the length, and belongs to this DAX device.
        unsafe { bindings::dax_flush(self.dax.0.as_ptr(), address.as_ptr().cast(), len) };
        Ok(())
    }

    /// Waits until all that this processor flushed is durable, and orders it before later stores.
    #[inline]
    pub fn fence(&self) {
        // SAFETY: A barrier has no requirements.
        unsafe { bindings::wmb() };
    }

    /// Returns the address of an aligned word, else `EINVAL` or `ERANGE`.
    fn word(&self, offset: usize) -> Result<NonNull<u64>> {
        if offset % 8 != 0 {
            return Err(EINVAL);
        }
        Ok(self.as_ptr(offset, 8)?.cast())
    }

    /// Reads 8 bytes at once, in the byte order of the medium. Offsets that are not a multiple of 8
    /// are `EINVAL`. As READ_ONCE: no order with other accesses.
    #[inline]
    pub fn load_u64(&self, offset: usize) -> Result<u64> {
        // SAFETY: The word is valid and aligned, and no reference to it exists.
        Ok(unsafe { self.word(offset)?.as_ptr().read_volatile() })
    }

    /// Stores 8 bytes at once, neither flushed nor ordered. As WRITE_ONCE.
    #[inline]
    pub fn store_u64(&self, offset: usize, value: u64) -> Result {
        // SAFETY: The word is valid and aligned, and no reference to it exists.
        unsafe { self.word(offset)?.as_ptr().write_volatile(value) };
        Ok(())
    }

    /// Stores 8 bytes at once, and returns when they are durable, and all that was flushed before.
    ///
    /// All that was flushed before is durable before this is: with this, a change becomes valid.
    pub fn publish_u64(&self, offset: usize, value: u64) -> Result {
        self.word(offset)?;
        self.fence();
        self.store_u64(offset, value)?;
        self.flush(offset, 8)?;
        self.fence();
        Ok(())
    }

    /// Computes the CRC-32C of a range, as [`crc32c`](crate::crc32::crc32c) does.
    pub fn crc32c(&self, seed: u32, offset: usize, len: usize) -> Result<u32> {
        let from = self.as_ptr(offset, len)?;
        // SAFETY: The region is valid for the length, and the C function copes with concurrent
        // stores, in that its result means nothing then.
        Ok(unsafe { bindings::crc32c(seed, from.as_ptr().cast_const().cast(), len) })
    }
}

/// A reference to a DAX device.
///
/// # Invariants
///
/// We own a reference to the device.
struct DaxRef(NonNull<bindings::dax_device>);

impl DaxRef {
    /// Returns the address and the first frame of `count` pages that are contiguous in both.
    fn contiguous(&self, first: usize, count: usize) -> Result<(NonNull<u8>, usize)> {
        let mut found: Option<(NonNull<u8>, usize)> = None;
        let mut done = 0;
        while done < count {
            let mut address = core::ptr::null_mut();
            let mut pfn = 0;
            // SAFETY: We have a reference to the device, and keep it alive by the lock.
            let pages = unsafe {
                let id = bindings::dax_read_lock();
                let pages = bindings::dax_direct_access(
                    self.0.as_ptr(),
                    first + done,
                    (count - done) as c_long,
                    bindings::dax_access_mode_DAX_ACCESS,
                    &mut address,
                    &mut pfn,
                );
                bindings::dax_read_unlock(id);
                pages
            };
            // CAST: Errors are small.
            to_result(pages.min(0) as c_int)?;
            // CAST: Not negative.
            let pages = pages as usize;
            if pages == 0 {
                return Err(EIO);
            }

            let address = NonNull::new(address.cast::<u8>()).ok_or(EIO)?;
            match found {
                None => found = Some((address, pfn)),
                Some((base, base_pfn)) => {
                    let expected = base.as_ptr().wrapping_add(done * PAGE_SIZE);
                    if address.as_ptr() != expected || pfn != base_pfn + done {
                        return Err(EINVAL);
                    }
                }
            }
            done += pages;
        }
        found.ok_or(EINVAL)
    }
}

impl Drop for DaxRef {
    fn drop(&mut self) {
        // SAFETY: We own the reference; there was no holder.
        unsafe { bindings::fs_put_dax(self.0.as_ptr(), core::ptr::null_mut()) };
    }
}
