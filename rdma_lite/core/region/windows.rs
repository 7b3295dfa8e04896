// SPDX-License-Identifier: GPL-2.0

//! The offsets of an open file at which its regions can be mapped into processes.
//!
//! Each region has a window of pages of its own, from when its handle is first asked for one until the
//! handle ends. No offset is given twice: whoever comes late with one finds nothing there, never
//! another region.

use kernel::prelude::*;

/// Pages that a file has: its offsets are signed 64-bit numbers of bytes.
const PAGES: u64 = 1 << 51;

#[derive(Debug)]
struct Window {
    first: u64,
    pages: u64,
    handle: u64,
}

/// See the module. All offsets are in pages.
#[derive(Debug)]
pub struct Windows {
    next: u64,
    /// In the order of their offsets.
    list: KVVec<Window>,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl Windows {
    /// None.
    pub const fn new() -> Self {
        Self {
            // Nothing is at 0, which whoever does not think maps.
            next: 1,
            list: KVVec::new(),
        }
    }

    /// A window of so many pages for a handle; where it begins. `ENOSPC` when all offsets were given.
    pub fn give(&mut self, handle: u64, pages: u64) -> Result<u64> {
        let first = self.next;
        // A page between two windows is nobody's.
        let next = first.checked_add(pages).and_then(|end| end.checked_add(1));
        let next = next.filter(|next| *next <= PAGES).ok_or(ENOSPC)?;
        self.list.push(
            Window {
                first,
                pages,
                handle,
            },
            GFP_KERNEL,
        )?;
        self.next = next;
        Ok(first)
    }

    /// The handle whose window has these pages, and how far into the window they begin. `ENXIO` when
    /// not all of them are in one window.
    pub fn find(&self, first: u64, count: u64) -> Result<(u64, u64)> {
        let after = self.list.partition_point(|window| window.first <= first);
        let window = after.checked_sub(1).and_then(|at| self.list.get(at));
        let window = window.ok_or(ENXIO)?;
        let page = first - window.first;
        match page.checked_add(count) {
            Some(end) if end <= window.pages && count != 0 => Ok((window.handle, page)),
            _ => Err(ENXIO),
        }
    }

    /// The window that begins there ends.
    pub fn end(&mut self, first: u64) {
        let found = self
            .list
            .binary_search_by_key(&first, |window| window.first);
        if let Ok(at) = found {
            let _ = self.list.remove(at);
        }
    }
}
