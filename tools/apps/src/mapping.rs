// SPDX-License-Identifier: GPL-2.0

//! A file in our memory.

use nix::libc;
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    ptr::{self, NonNull},
};

/// Shared memory of the first bytes of a file, page-aligned, until it is dropped.
#[derive(Debug)]
pub struct Mapping {
    at: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of a file, to be read and written.
    pub fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: No address is asked for, so nothing that is there is replaced.
        let mem = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if mem == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(mem.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, len })
    }

    /// Where it begins.
    pub fn at(&self) -> NonNull<u8> {
        self.at
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: It is ours, and nothing points into it any more.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.len) };
    }
}
