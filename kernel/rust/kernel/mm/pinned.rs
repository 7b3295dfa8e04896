// SPDX-License-Identifier: GPL-2.0

//! Memory of a process that is kept where it is.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use super::Mm;
use crate::{
    bindings, current,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Atomic, //
    },
};
use core::ptr::{self, NonNull};

/// Pages that are pinned at a time.
const BATCH: usize = 512;

/// Memory of a process, kept from being moved or swapped out until this is dropped.
///
/// The pages count as locked memory of the process (`RLIMIT_MEMLOCK`). They stay when the process
/// unmaps them, or ends.
///
/// Others change the memory at any time: the process, and devices. So there are no references into
/// it: bytes are copied in and out, and words are changed by atomic instructions.
///
/// # Invariants
///
/// Each of `pages` is pinned for writing, and lies in the linear map. They have `len` bytes from `start`
/// on. `mm` is charged with `charged` pages.
///
/// # Examples
///
/// ```
/// # fn no_run() -> Result {
/// use kernel::mm::pinned::PinnedPages;
///
/// let lent = PinnedPages::new(0x7f00_0000_0000, 8192)?;
/// lent.write(4092, b"over the edge")?;
/// # Ok(()) }
/// ```
pub struct PinnedPages {
    mm: ARef<Mm>,
    charged: usize,
    pages: KVVec<*mut bindings::page>,
    /// Where the memory begins in the first page; a multiple of 8.
    start: usize,
    len: usize,
}

// SAFETY: Pages and address space are not tied to a thread.
unsafe impl Send for PinnedPages {}
// SAFETY: As above; all accesses are copies through raw pointers, or atomic.
unsafe impl Sync for PinnedPages {}

impl PinnedPages {
    /// The most bytes that can be pinned: those of 2^24 pages.
    pub const MAX_LEN: usize = PAGE_SIZE << 24;

    /// Pins `len` bytes of the current task's memory from `addr` on, a multiple of 8.
    ///
    /// - [`ENOMEM`] when it may not lock so much memory;
    /// - [`EFBIG`] for more than [`Self::MAX_LEN`], in whole pages;
    /// - [`EFAULT`] when not all of it is there and can be written;
    /// - [`EOPNOTSUPP`] for memory that cannot be kept, as that of files on persistent memory.
    pub fn new(addr: usize, len: usize) -> Result<Self> {
        if len == 0 || addr % size_of::<u64>() != 0 {
            return Err(EINVAL);
        }
        if cfg!(CONFIG_HIGHMEM) {
            // Not all pages are in the linear map.
            return Err(EOPNOTSUPP);
        }
        let end = addr.checked_add(len).ok_or(EFAULT)?;
        let start = addr % PAGE_SIZE;
        let first = addr - start;
        let count = (end - first).div_ceil(PAGE_SIZE);
        if count > Self::MAX_LEN / PAGE_SIZE {
            return Err(EFBIG);
        }
        let mm: ARef<Mm> = (&**current!().mm().ok_or(EFAULT)?).into();
        // SAFETY: The address space is valid; whether the current task may lock so much is checked.
        to_result(unsafe { bindings::account_locked_vm(mm.as_raw(), count, true) })?;
        // INVARIANT: Just charged, and nothing is pinned yet; `len` is right once this is returned.
        let mut this = Self {
            mm,
            charged: count,
            pages: KVVec::new(),
            start,
            len,
        };
        this.pages.reserve(count, GFP_KERNEL | __GFP_NOWARN)?;
        while this.pages.len() < count {
            this.pin(first + this.pages.len() * PAGE_SIZE, count)?;
        }
        Ok(this)
    }

    /// Pins some more pages, of `count` in all.
    fn pin(&mut self, at: usize, count: usize) -> Result {
        let wanted = (count - self.pages.len()).min(BATCH);
        let flags = bindings::FOLL_WRITE | bindings::FOLL_LONGTERM;
        let room = self.pages.spare_capacity_mut();
        if room.len() < wanted {
            return Err(ENOMEM);
        }
        // SAFETY: There is room for `wanted` pages.
        let pinned = unsafe {
            bindings::pin_user_pages_fast(at, wanted as c_int, flags, room.as_mut_ptr().cast())
        };
        match pinned {
            0 => Err(EFAULT),
            1.. => {
                // INVARIANT: They were pinned.
                // SAFETY: So many entries were written, and there was room for them.
                unsafe { self.pages.inc_len(pinned as usize) };
                Ok(())
            }
            _ => Err(Error::from_errno(pinned)),
        }
    }

    /// Bytes that are pinned.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The bytes `offset .. offset + len`, page by page: where each part is, and how many bytes it has.
    /// [`ERANGE`] when they are not all there.
    pub(crate) fn parts(&self, offset: usize, len: usize) -> Result<Parts<'_>> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(Parts {
                pages: self,
                at: self.start + offset,
                left: len,
            }),
            _ => Err(ERANGE),
        }
    }

    /// Copies `into.len()` bytes out, from `offset` on.
    pub fn read(&self, offset: usize, into: &mut [u8]) -> Result {
        let mut done = 0;
        for (from, n) in self.parts(offset, into.len())? {
            let part = into.get_mut(done..done + n).ok_or(ERANGE)?;
            // SAFETY: `n` bytes are there; `part` is ours. Who writes them meanwhile makes them useless,
            // but not harmful.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), part.as_mut_ptr(), n) };
            done += n;
        }
        Ok(())
    }

    /// Copies `bytes` in, at `offset`.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> Result {
        let mut done = 0;
        for (to, n) in self.parts(offset, bytes.len())? {
            let part = bytes.get(done..done + n).ok_or(ERANGE)?;
            // SAFETY: As in `read()`; the pages were pinned for writing.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), to.as_ptr(), n) };
            done += n;
        }
        Ok(())
    }

    /// The aligned word at `offset`.
    pub fn word(&self, offset: usize) -> Result<&Atomic<u64>> {
        let mut parts = self.parts(offset, size_of::<u64>())?;
        let (word, n) = parts.next().ok_or(EINVAL)?;
        if n != size_of::<u64>() || !word.cast::<u64>().is_aligned() {
            return Err(EINVAL);
        }
        // SAFETY: The word lies in a page that `self` keeps, and is aligned. Others access the memory
        // only by copies through raw pointers, by words, and from user space.
        Ok(unsafe { Atomic::from_ptr(word.as_ptr().cast::<u64>()) })
    }
}

impl Drop for PinnedPages {
    fn drop(&mut self) {
        let (pages, count) = (self.pages.as_mut_ptr(), self.pages.len());
        // SAFETY: By the type invariants so many pages are pinned, and so many charged; nothing uses
        // them any more. Whoever drops us may sleep.
        unsafe {
            bindings::unpin_user_pages_dirty_lock(pages, count, true);
            bindings::account_locked_vm(self.mm.as_raw(), self.charged, false);
        }
    }
}

/// Bytes of [`PinnedPages`], page by page.
pub(crate) struct Parts<'a> {
    pages: &'a PinnedPages,
    /// From the beginning of the first page.
    at: usize,
    left: usize,
}

impl Iterator for Parts<'_> {
    /// Where a part begins, in the linear map, and how many bytes of the same page it has; they are
    /// there as long as the pages are pinned.
    type Item = (NonNull<u8>, usize);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let page = *self.pages.pages.get(self.at / PAGE_SIZE)?;
        let within = self.at % PAGE_SIZE;
        // SAFETY: By the type invariants the page is there and in the linear map; the offset lies in it.
        let start = unsafe { bindings::page_address(page).cast::<u8>().add(within) };
        let n = self.left.min(PAGE_SIZE - within);
        self.at += n;
        self.left -= n;
        Some((NonNull::new(start)?, n))
    }
}
