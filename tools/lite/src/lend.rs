// SPDX-License-Identifier: GPL-2.0

//! Memory of ours that other nodes use.

use crate::{name_field, uapi, Lite, Region, Rights};
use std::{
    io,
    mem::ManuallyDrop,
    ops::Deref,
    sync::atomic::AtomicU64, //
};

/// Words of ours that are a region of our node, until this is dropped.
///
/// Other nodes read and write them at any time, so they are atomics. Larger things than words are moved
/// through [`Lent::region`], or are ours while some protocol says so.
#[derive(Debug)]
pub struct Lent {
    region: Region,
    words: ManuallyDrop<Box<[AtomicU64]>>,
}

impl Lite {
    /// Lends so many words, all zero; `others`: what nodes may do that have no grant of their own. The memory
    /// counts as locked (RLIMIT_MEMLOCK: `ENOMEM`).
    pub fn lend(&self, words: usize, name: &str, others: Rights) -> io::Result<Lent> {
        let words: Box<[AtomicU64]> = (0..words).map(|_| AtomicU64::new(0)).collect();
        let len = size_of_val(&*words) as u64;
        let mut lend = uapi::Lend {
            addr: words.as_ptr() as u64,
            len,
            rights: others.bits(),
            name: name_field(name)?,
            ..uapi::Lend::default()
        };
        // SAFETY: The memory is there until the region is given up (see `drop`), and is of atomics, which
        // others may change.
        unsafe { self.ioctl(uapi::LEND, &mut lend)? };
        let all = Rights::READ | Rights::WRITE | Rights::ADMIN;
        Ok(Lent {
            region: Region::new(self, lend.handle, len, all),
            words: ManuallyDrop::new(words),
        })
    }
}

impl Lent {
    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

impl Deref for Lent {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.words
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // When UNMAP returns, nobody uses the memory any more, whatever it says of the region; but for EBADF,
        // when the handle was none. Then the memory is never given to anything else.
        let given_up = self.region.give_up();
        let bad = given_up.is_err_and(|e| e.raw_os_error() == Some(nix::libc::EBADF));
        if !bad {
            // SAFETY: Dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.words) };
        }
    }
}
