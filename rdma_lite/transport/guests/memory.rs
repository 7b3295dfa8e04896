// SPDX-License-Identifier: GPL-2.0

//! Memory that other kernels map too: a pmem device.
//!
//! This file has unsafe code because other kernels read and write the memory at any time. So there are
//! no references into it but to atomic words; everything else is copied. Nothing is flushed: what is there
//! is for those who live, and caches are coherent between them.

use crate::core::guests::Memory;
use core::ptr::{self, NonNull};
use kernel::{
    dax::PmemRegion,
    prelude::*,
    str::CString,
    sync::{
        atomic::{Acquire, Atomic, Full, Release},
        Arc, //
    },
    time::{delay::fsleep, Delta},
};

/// A device that we have open.
pub(crate) struct Open {
    path: CString,
    memory: Arc<SharedMemory>,
    users: usize,
}

kernel::sync::global_lock! {
    // SAFETY: The module's `init` initialises it before anything else.
    pub(crate) unsafe(uninit) static DEVICES: Mutex<KVec<Open>> = KVec::new();
}

/// Attempts to open a device, 10 ms apart, that its last user has not quite let go of.
const ATTEMPTS: usize = 50;

/// A device that a node uses; nodes of one kernel that name the same share it.
pub(super) struct Device(Arc<SharedMemory>);

impl Device {
    /// Opens the device of this path. Errors are those of [`PmemRegion::open`].
    pub(super) fn open(path: &CStr) -> Result<Self> {
        let mut attempts = 0;
        loop {
            match Self::try_open(path) {
                Err(e) if e == EBUSY && attempts < ATTEMPTS => {
                    attempts += 1;
                    fsleep(Delta::from_millis(10));
                }
                opened => return opened,
            }
        }
    }

    fn try_open(path: &CStr) -> Result<Self> {
        let mut devices = DEVICES.lock();
        let known = devices.iter_mut().find(|open| &*open.path == path);
        if let Some(open) = known {
            open.users += 1;
            return Ok(Self(open.memory.clone()));
        }
        devices.reserve(1, GFP_KERNEL)?;
        let memory = Arc::new(SharedMemory(PmemRegion::open(path)?), GFP_KERNEL)?;
        let open = Open {
            path: path.try_into()?,
            memory: memory.clone(),
            users: 1,
        };
        // There is room.
        let _ = devices.push_within_capacity(open);
        Ok(Self(memory))
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.0
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let mut devices = DEVICES.lock();
        for open in devices.iter_mut() {
            if Arc::ptr_eq(&open.memory, &self.0) {
                open.users -= 1;
            }
        }
        devices.retain(|open| open.users != 0);
        if devices.is_empty() {
            // Nothing drops a static: the last one gives the memory back.
            *devices = KVec::new();
        }
    }
}

/// See the module.
pub(crate) struct SharedMemory(PmemRegion);

impl SharedMemory {
    fn word(&self, at: usize) -> Result<&Atomic<u64>> {
        if at % 8 != 0 {
            return Err(EINVAL);
        }
        let word: NonNull<u64> = self.0.as_ptr(at, 8)?.cast();
        // SAFETY: The word is there as long as the region, and aligned, as regions begin at a page. This
        // kernel accesses it by no other means but copies, of which no value is believed.
        Ok(unsafe { Atomic::from_ptr(word.as_ptr()) })
    }

    /// Where `len` bytes at `at` are. Others may change them at any time.
    pub(super) fn as_ptr(&self, at: usize, len: usize) -> Result<NonNull<u8>> {
        self.0.as_ptr(at, len)
    }

    /// Copies bytes in that others may be changing.
    ///
    /// # Safety
    ///
    /// `from` must be readable for `len` bytes and not be of the region.
    pub(super) unsafe fn write_raw(&self, at: usize, from: *const u8, len: usize) -> Result {
        let to = self.0.as_ptr(at, len)?;
        // SAFETY: So many bytes are there, and at `from`, as the caller promises.
        unsafe { ptr::copy_nonoverlapping(from, to.as_ptr(), len) };
        Ok(())
    }
}

impl Memory for SharedMemory {
    fn size(&self) -> usize {
        self.0.len()
    }

    fn load(&self, at: usize) -> Result<u64> {
        Ok(u64::from_le(self.word(at)?.load(Acquire)))
    }

    fn store(&self, at: usize, value: u64) -> Result {
        self.word(at)?.store(value.to_le(), Release);
        Ok(())
    }

    fn compare_exchange(&self, at: usize, old: u64, new: u64) -> Result<Result<(), u64>> {
        let found = self.word(at)?.cmpxchg(old.to_le(), new.to_le(), Full);
        Ok(found.map(|_| ()).map_err(u64::from_le))
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Result {
        let from = self.0.as_ptr(at, into.len())?;
        // SAFETY: So many bytes are there. Others may be writing them; then they are of no use, but
        // harmless.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result {
        // SAFETY: A slice is readable, and there are none of the region.
        unsafe { self.write_raw(at, bytes.as_ptr(), bytes.len()) }
    }
}
