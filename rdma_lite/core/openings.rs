// SPDX-License-Identifier: GPL-2.0

//! The memory that one end of a link over shared memory has opened for the other.
//!
//! What an RDMA device does by its table of memory regions: an access names a key and an address, and
//! is let in when the key is that of an open window, the window allows such accesses, and all bytes lie
//! in it. Windows lie in an address space of their own, of which no address is used twice, so that a
//! key that is out of date opens nothing, whatever was opened since.

use kernel::prelude::*;

/// What a peer may do with a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Read from it.
    pub read: bool,
    /// Write to it.
    pub write: bool,
}

impl Allowed {
    /// Whether it allows all of `need`.
    fn includes(self, need: Self) -> bool {
        (self.read || !need.read) && (self.write || !need.write)
    }
}

#[derive(Debug)]
struct Opening<T> {
    base: u64,
    len: u64,
    allowed: Allowed,
    what: T,
}

/// See the module; `T` is the edge's half of a window.
#[derive(Debug)]
pub struct Openings<T> {
    slots: KVec<Option<Opening<T>>>,
}

impl<T> Openings<T> {
    /// Nothing is open.
    pub const fn new() -> Self {
        Self { slots: KVec::new() }
    }

    fn slot(key: u32) -> Option<usize> {
        usize::try_from(key).ok()?.checked_sub(1)
    }

    /// Makes room for one more.
    fn reserve(&mut self) -> Result {
        if self.slots.iter().all(Option::is_some) {
            self.slots.push(None, GFP_ATOMIC)?;
        }
        Ok(())
    }

    /// Opens `len` bytes at `base`, an address that was never used. Returns the key, which is not 0.
    pub fn open(&mut self, base: u64, len: u64, allowed: Allowed, what: T) -> Result<u32> {
        self.reserve()?;
        let free = self.slots.iter().position(Option::is_none);
        let slot = free.ok_or(ENOSPC)?;
        let key = u32::try_from(slot + 1).map_err(|_| ENOSPC)?;
        self.slots[slot] = Some(Opening {
            base,
            len,
            allowed,
            what,
        });
        Ok(key)
    }

    /// The window that an access to `len` bytes at `addr` is to, and where in it they begin. `EACCES`
    /// when it is not let in.
    pub fn find(&self, key: u32, addr: u64, len: u64, need: Allowed) -> Result<(&T, u64)> {
        let slot = Self::slot(key).and_then(|slot| self.slots.get(slot));
        let opening = slot.and_then(Option::as_ref).ok_or(EACCES)?;
        let start = addr.checked_sub(opening.base).ok_or(EACCES)?;
        let end = start.checked_add(len).ok_or(EACCES)?;
        if end > opening.len || !opening.allowed.includes(need) {
            return Err(EACCES);
        }
        Ok((&opening.what, start))
    }

    /// Shuts the window at `base` that has this key; `None` when it is shut already.
    pub fn close(&mut self, key: u32, base: u64) -> Option<T> {
        let slot = self.slots.get_mut(Self::slot(key)?)?;
        let opening = slot.take_if(|opening| opening.base == base)?;
        Some(opening.what)
    }

    /// Shuts any window; `None` when all are shut.
    pub fn close_any(&mut self) -> Option<T> {
        let open = self.slots.iter_mut().find_map(Option::take)?;
        Some(open.what)
    }
}

impl<T> Default for Openings<T> {
    fn default() -> Self {
        Self::new()
    }
}
