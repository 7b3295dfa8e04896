// SPDX-License-Identifier: GPL-2.0

//! Regions of our own node in our address space.

use crate::{uapi, Lite, Region, Rights};
use nix::libc;
use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

/// Bytes of a region that can be loaded and stored, until this is dropped.
///
/// Others change them at any time, so there are no references to them: bytes are copied, words are atomic.
/// When the rights are revoked, the region is freed or our node is switched off, the next access ends the
/// process by SIGBUS, unless that is handled.
#[derive(Debug)]
pub struct Mapped {
    at: NonNull<u8>,
    len: usize,
    writable: bool,
    /// Keeps the open of the device, and with it the handle's table.
    _lite: Lite,
}

// SAFETY: The memory is not tied to a thread.
unsafe impl Send for Mapped {}
// SAFETY: All accesses are volatile copies or atomic.
unsafe impl Sync for Mapped {}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Region {
    /// Maps `len` bytes from `offset` (a multiple of the page size) on, for reading, or with
    /// [`Rights::WRITE`] for both. `EOPNOTSUPP`: the region lies at another node, or is of memory that was
    /// lent; `EACCES`: more than it may; `ENXIO`: not all of that is in the region.
    pub fn mmap(&self, offset: u64, len: usize, rights: Rights) -> io::Result<Mapped> {
        let mut info = uapi::RegionInfo {
            handle: self.handle,
            ..uapi::RegionInfo::default()
        };
        // SAFETY: The request reads and writes the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::REGION, &mut info)? };
        if info.mmap_offset == 0 {
            return Err(errno(libc::EOPNOTSUPP));
        }
        if offset >= info.len {
            return Err(errno(libc::ERANGE));
        }
        let at = info.mmap_offset.checked_add(offset);
        let at = at.and_then(|at| libc::off_t::try_from(at).ok());
        let writable = rights.includes(Rights::WRITE);
        let prot = match writable {
            true => libc::PROT_READ | libc::PROT_WRITE,
            false => libc::PROT_READ,
        };
        // SAFETY: A new area, wherever there is room for it.
        let mem = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                prot,
                libc::MAP_SHARED,
                self.lite.as_fd().as_raw_fd(),
                at.ok_or_else(|| errno(libc::ERANGE))?,
            )
        };
        if mem == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapped {
            at: NonNull::new(mem.cast()).ok_or_else(|| errno(libc::ENOMEM))?,
            len,
            writable,
            _lite: self.lite.clone(),
        })
    }
}

impl Mapped {
    /// Bytes.
    pub fn size(&self) -> usize {
        self.len
    }

    /// Where `len` bytes at `offset` are; `ERANGE` when not all of them are there.
    fn part(&self, offset: usize, len: usize) -> io::Result<*mut u8> {
        match offset.checked_add(len) {
            // SAFETY: It lies in the area.
            Some(end) if end <= self.len => Ok(unsafe { self.at.as_ptr().add(offset) }),
            _ => Err(errno(libc::ERANGE)),
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        match self.writable {
            true => Ok(()),
            false => Err(errno(libc::EACCES)),
        }
    }

    /// Copies bytes out. Those that somebody writes meanwhile are any of theirs.
    pub fn read(&self, offset: usize, buf: &mut [u8]) -> io::Result<()> {
        let from = self.part(offset, buf.len())?;
        for (at, byte) in buf.iter_mut().enumerate() {
            // SAFETY: All of them lie in the area, as was just checked.
            *byte = unsafe { ptr::read_volatile(from.add(at)) };
        }
        Ok(())
    }

    /// Copies bytes in; `EACCES` when it was mapped for reading.
    pub fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let to = self.part(offset, bytes.len())?;
        for (at, byte) in bytes.iter().enumerate() {
            // SAFETY: All of them lie in the area, which is writable.
            unsafe { ptr::write_volatile(to.add(at), *byte) };
        }
        Ok(())
    }

    /// The word at `offset`, a multiple of 8; `EACCES` when it was mapped for reading.
    ///
    /// What is done to it is atomic for the processes of this node and the atomics of all nodes.
    pub fn word(&self, offset: usize) -> io::Result<&AtomicU64> {
        self.check_writable()?;
        let word = self.part(offset, size_of::<u64>())?.cast::<u64>();
        if !word.is_aligned() {
            return Err(errno(libc::EINVAL));
        }
        // SAFETY: Aligned, in the area, writable; all that others do to words is atomic.
        Ok(unsafe { AtomicU64::from_ptr(word) })
    }

    /// Loads the word at `offset`, a multiple of 8, also when it was mapped for reading.
    pub fn load(&self, offset: usize, order: Ordering) -> io::Result<u64> {
        let word = self.part(offset, size_of::<u64>())?.cast::<u64>();
        if !word.is_aligned() {
            return Err(errno(libc::EINVAL));
        }
        // SAFETY: As in `word`; a load of 8 bytes needs no writable memory.
        Ok(unsafe { AtomicU64::from_ptr(word) }.load(order))
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: It is ours, and nothing points into it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
