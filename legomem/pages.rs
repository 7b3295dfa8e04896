// SPDX-License-Identifier: GPL-2.0

//! The pages of the pool: DRAM, or a pmem device.
//!
//! This file has the only unsafe code of the module: pages of DRAM are shared by all who have the
//! pool, so there are no references to their bytes, and they are copied in and out by pointer. Who
//! may touch which page when is what the board says, under its lock.

use crate::{core::pool::Pool, settings::Settings};
use ::core::ptr;
use kernel::{
    dax::PmemRegion,
    page::{ContiguousPages, PAGE_SHIFT},
    prelude::*,
    str::{BStr, CString},
};

/// Where the memory is.
enum Memory {
    Dram(KVVec<ContiguousPages>),
    Pmem(PmemRegion),
}

/// The pages, all of one size.
pub(crate) struct Pages {
    memory: Memory,
    page_shift: u8,
    count: u32,
}

impl Pages {
    /// Takes the memory that the settings ask for, and says in the log why it cannot.
    pub(crate) fn new(name: &CStr, settings: &Settings) -> Result<Self> {
        let page_shift = settings.page_shift;
        let count = |bytes: u64| u32::try_from(bytes >> page_shift).map_err(|_| EFBIG);
        if settings.device.is_empty() {
            let count = count(settings.size)?;
            if count == 0 {
                pr_err!("{name}: set size, at least one page, before power\n");
                return Err(EINVAL);
            }
            return Ok(Self {
                memory: Memory::Dram(Self::dram(name, page_shift, count)?),
                page_shift,
                count,
            });
        }
        let path = CString::try_from_fmt(fmt!("{}", BStr::from_bytes(&settings.device)))?;
        let region = PmemRegion::open(&path).inspect_err(|error| {
            pr_err!("{name}: {} cannot be used as memory: {error:?}\n", &*path);
        })?;
        let there = region.len() as u64;
        let wanted = if settings.size == 0 {
            there
        } else {
            settings.size
        };
        if wanted > there || count(wanted)? == 0 {
            pr_err!("{name}: {} has only {there} bytes\n", &*path);
            return Err(ENOSPC);
        }
        Ok(Self {
            memory: Memory::Pmem(region),
            page_shift,
            count: count(wanted)?,
        })
    }

    fn dram(name: &CStr, page_shift: u8, count: u32) -> Result<KVVec<ContiguousPages>> {
        let order = u32::from(page_shift).saturating_sub(PAGE_SHIFT as u32);
        let quietly = GFP_KERNEL | __GFP_NOWARN;
        // The pages are large enough for the allocator to fail rather than to end processes.
        let mut pages = KVVec::with_capacity(count as usize, quietly).inspect_err(|_| {
            pr_err!("{name}: no memory for a pool of {count} pages\n");
        })?;
        for had in 0..count {
            let page = ContiguousPages::zeroed(order, quietly);
            let page = page.inspect_err(|_| {
                pr_err!(
                    "{name}: no memory beyond {had} of {count} pages of {} KiB: make the pool or \
                     its pages smaller\n",
                    1u32 << (page_shift - 10)
                );
            })?;
            pages.push(page, GFP_KERNEL)?;
        }
        Ok(pages)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether they are known to be zero when they are taken.
    pub(crate) fn are_clean(&self) -> bool {
        matches!(self.memory, Memory::Dram(_))
    }

    /// A range of a page, cut off at its end.
    fn range(&self, offset: usize, len: usize) -> (usize, usize) {
        let size = 1usize << self.page_shift;
        let offset = offset.min(size);
        (offset, len.min(size - offset))
    }

    /// Offset of a page on the device.
    fn at(&self, frame: u32, offset: usize) -> usize {
        ((frame as usize) << self.page_shift) + offset
    }
}

impl Pool for Pages {
    fn read(&self, frame: u32, offset: usize, to: &mut [u8]) {
        let (offset, len) = self.range(offset, to.len());
        let Some(to) = to.get_mut(..len) else { return };
        match &self.memory {
            Memory::Dram(pages) => {
                if let Some(page) = pages.get(frame as usize) {
                    // SAFETY: The page has `len` bytes at `offset`, and lives as long as `self`.
                    // `to` is no part of it, as there are no references to its bytes. By the
                    // contract of `Pool` nobody writes the page meanwhile.
                    unsafe {
                        let from = page.as_ptr().as_ptr().add(offset);
                        ptr::copy_nonoverlapping(from.cast_const(), to.as_mut_ptr(), len);
                    }
                }
            }
            // The range is in the region, so this cannot fail.
            Memory::Pmem(region) => drop(region.read(self.at(frame, offset), to).is_ok()),
        }
    }

    fn write(&self, frame: u32, offset: usize, from: &[u8]) {
        let (offset, len) = self.range(offset, from.len());
        let Some(from) = from.get(..len) else { return };
        match &self.memory {
            Memory::Dram(pages) => {
                if let Some(page) = pages.get(frame as usize) {
                    // SAFETY: As in `read`; by the contract of `Pool` nobody accesses the page
                    // meanwhile.
                    unsafe {
                        let to = page.as_ptr().as_ptr().add(offset);
                        ptr::copy_nonoverlapping(from.as_ptr(), to, len);
                    }
                }
            }
            Memory::Pmem(region) => drop(region.write(self.at(frame, offset), from).is_ok()),
        }
    }

    fn zero(&self, frame: u32, offset: usize, len: usize) {
        let (offset, len) = self.range(offset, len);
        match &self.memory {
            Memory::Dram(pages) => {
                if let Some(page) = pages.get(frame as usize) {
                    // SAFETY: As in `write`.
                    unsafe { ptr::write_bytes(page.as_ptr().as_ptr().add(offset), 0, len) };
                }
            }
            Memory::Pmem(region) => drop(region.zero(self.at(frame, offset), len).is_ok()),
        }
    }
}
