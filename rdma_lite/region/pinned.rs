// SPDX-License-Identifier: GPL-2.0

//! Memory of a process, kept from being moved or swapped out, for as long as it is a region.
//!
//! The pages count as locked memory of the process (RLIMIT_MEMLOCK). They stay with the region when the
//! process unmaps them, or ends. This file has unsafe code because the kernel crate has no face for
//! pinned pages; it asks for nothing but a range of the current task's addresses.

use kernel::{
    bindings, current,
    error::to_result,
    mm::Mm,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::Atomic, //
    },
};

/// Pages that are pinned at a time.
const BATCH: usize = 512;
/// Pages of one region: 64 GiB.
const MOST: usize = 1 << 24;

/// See the module.
///
/// Others change the memory at any time: the process, and peers. So there are no references into it: bytes
/// are copied in and out, and words are changed by atomic instructions.
///
/// # Invariants
///
/// Each of `pages` is pinned for writing, and lies in the linear map. `mm` is charged with `charged` pages.
pub(crate) struct Pinned {
    mm: ARef<Mm>,
    charged: usize,
    pages: KVVec<*mut bindings::page>,
    /// Where the memory begins in the first page; a multiple of 8.
    start: usize,
    len: usize,
}

// SAFETY: Pages and address space are not tied to a thread.
unsafe impl Send for Pinned {}
// SAFETY: As above; all accesses are copies through raw pointers, or atomic.
unsafe impl Sync for Pinned {}

impl Pinned {
    /// Pins `len` bytes of the current task's memory from `addr` on, a multiple of 8. [`ENOMEM`] when it
    /// may not lock so much memory; [`EFBIG`] for more than 64 GiB; [`EFAULT`] when not all of it is there and can be written;
    /// [`EOPNOTSUPP`] for memory that cannot be kept, as that of files on persistent memory.
    pub(crate) fn new(addr: u64, len: u64) -> Result<Self> {
        let bad = |_| EFAULT;
        let (addr, len) = (
            usize::try_from(addr).map_err(bad)?,
            usize::try_from(len).map_err(bad)?,
        );
        if len == 0 || addr % size_of::<u64>() != 0 {
            return Err(EINVAL);
        }
        let end = addr.checked_add(len).ok_or(EFAULT)?;
        let start = addr % PAGE_SIZE;
        let first = addr - start;
        let count = (end - first).div_ceil(PAGE_SIZE);
        if count > MOST {
            return Err(EFBIG);
        }
        let mm: ARef<Mm> = (&**current!().mm().ok_or(EFAULT)?).into();
        // SAFETY: The address space is valid; whether the current task may lock so much is checked.
        to_result(unsafe { bindings::account_locked_vm(mm.as_raw(), count, true) })?;
        // INVARIANT: Just charged, and nothing is pinned yet.
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

    /// The bytes from `offset` on that lie in one page: where, and how many up to `most`.
    fn part(&self, offset: usize, most: usize) -> Result<(*mut u8, usize)> {
        if offset.checked_add(most).is_none_or(|end| end > self.len) {
            return Err(ERANGE);
        }
        let at = self.start + offset;
        let page = *self.pages.get(at / PAGE_SIZE).ok_or(ERANGE)?;
        let within = at % PAGE_SIZE;
        // SAFETY: By the type invariants the page is there and in the linear map; the offset lies in it.
        let start = unsafe { bindings::page_address(page).cast::<u8>().add(within) };
        Ok((start, most.min(PAGE_SIZE - within)))
    }

    /// Copies bytes out.
    pub(super) fn read(&self, offset: usize, into: &mut [u8]) -> Result {
        let mut done = 0;
        while done < into.len() {
            let (from, len) = self.part(offset + done, into.len() - done)?;
            let part = into.get_mut(done..done + len).ok_or(ERANGE)?;
            // SAFETY: `part()` says that `len` bytes are there; `part` is ours. Who writes them meanwhile
            // makes them useless, but not harmful.
            unsafe { ::core::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), len) };
            done += len;
        }
        Ok(())
    }

    /// Copies bytes in.
    pub(super) fn write(&self, offset: usize, bytes: &[u8]) -> Result {
        let mut done = 0;
        while done < bytes.len() {
            let (to, len) = self.part(offset + done, bytes.len() - done)?;
            let part = bytes.get(done..done + len).ok_or(ERANGE)?;
            // SAFETY: As in `read()`; the pages were pinned for writing.
            unsafe { ::core::ptr::copy_nonoverlapping(part.as_ptr(), to, len) };
            done += len;
        }
        Ok(())
    }

    /// The aligned word at `offset`.
    pub(super) fn word(&self, offset: usize) -> Result<&Atomic<u64>> {
        let (word, len) = self.part(offset, size_of::<u64>())?;
        if len != size_of::<u64>() || !word.cast::<u64>().is_aligned() {
            return Err(EINVAL);
        }
        // SAFETY: The word lies in a page that `self` keeps, and is aligned. Others access the memory only
        // by copies through raw pointers, by words, and from user space.
        Ok(unsafe { Atomic::from_ptr(word.cast::<u64>()) })
    }
}

impl Drop for Pinned {
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
