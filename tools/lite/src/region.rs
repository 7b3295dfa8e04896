// SPDX-License-Identifier: GPL-2.0

//! Memory regions.

use crate::{name_field, uapi, Lite};
use std::{io, ops::BitOr};

/// What may be done with a region: a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Read.
    pub const READ: Self = Self(1);
    /// Write.
    pub const WRITE: Self = Self(2);
    /// Free, grant, revoke.
    pub const ADMIN: Self = Self(4);

    /// As the kernel has them.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether these are among them.
    pub const fn includes(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for Rights {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a new region is like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocation<'a> {
    /// What others find it by; may be empty.
    pub name: &'a str,
    /// Rights of nodes that have no grant of their own.
    pub others: Rights,
    /// It lives until it is freed, else until nobody has it; needs a name.
    pub keep: bool,
}

/// A region that we have mapped; dropped, it is unmapped.
#[derive(Debug)]
pub struct Region {
    pub(crate) lite: Lite,
    pub(crate) handle: u64,
    len: u64,
    rights: Rights,
}

impl Lite {
    /// Makes a region of `len` bytes at a node, all zero.
    pub fn malloc(&self, node: u32, len: u64, wish: &Allocation<'_>) -> io::Result<Region> {
        let region = uapi::Region {
            node,
            rights: wish.others.bits(),
            flags: if wish.keep { uapi::REGION_KEEP } else { 0 },
            len,
            name: name_field(wish.name)?,
            ..uapi::Region::default()
        };
        self.region(uapi::ALLOC, region)
    }

    /// Maps the region of this name at a node.
    pub fn map(&self, node: u32, name: &str, rights: Rights) -> io::Result<Region> {
        let region = uapi::Region {
            node,
            rights: rights.bits(),
            name: name_field(name)?,
            ..uapi::Region::default()
        };
        self.region(uapi::MAP, region)
    }

    fn region(&self, request: u64, mut region: uapi::Region) -> io::Result<Region> {
        // SAFETY: Both requests read and write the struct and name no other memory.
        unsafe { self.ioctl(request, &mut region)? };
        Ok(Region::new(
            self,
            region.handle,
            region.len,
            Rights(region.rights),
        ))
    }
}

impl Region {
    pub(crate) fn new(lite: &Lite, handle: u64, len: u64, rights: Rights) -> Self {
        Self {
            lite: lite.clone(),
            handle,
            len,
            rights,
        }
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.len
    }

    /// What could be done with it when it was mapped; it may have been revoked since.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    fn io(&self, offset: u64, buf: u64, len: usize) -> uapi::Io {
        uapi::Io {
            handle: self.handle,
            offset,
            len: len as u64,
            buf,
            ..uapi::Io::default()
        }
    }

    /// Reads all of `buf`, from `offset` on. Bytes that somebody writes meanwhile are any of theirs.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut io = self.io(offset, buf.as_mut_ptr() as u64, buf.len());
        // SAFETY: The request writes `buf.len()` bytes to `buf`.
        unsafe { self.lite.ioctl(uapi::READ, &mut io) }
    }

    /// Writes all of `bytes` from `offset` on.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut io = self.io(offset, bytes.as_ptr() as u64, bytes.len());
        // SAFETY: The request reads `bytes.len()` bytes from `bytes`.
        unsafe { self.lite.ioctl(uapi::WRITE, &mut io) }
    }

    /// Sets bytes to a value, at the owner.
    pub fn fill(&self, offset: u64, len: u64, value: u8) -> io::Result<()> {
        let mut fill = uapi::Fill {
            handle: self.handle,
            offset,
            len,
            value: value.into(),
            ..uapi::Fill::default()
        };
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::FILL, &mut fill) }
    }

    /// Copies bytes to a region, which may be this one; the ranges may overlap.
    pub fn copy_to(&self, offset: u64, to: &Region, to_offset: u64, len: u64) -> io::Result<()> {
        let mut copy = uapi::Copying {
            from: self.handle,
            from_offset: offset,
            to: to.handle,
            to_offset,
            len,
            ..uapi::Copying::default()
        };
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::COPY, &mut copy) }
    }

    fn atomic(&self, mut op: uapi::Atomic) -> io::Result<u64> {
        // SAFETY: The request reads and writes the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::ATOMIC, &mut op)? };
        Ok(op.old)
    }

    /// Adds to the word at `offset`, a multiple of 8; what it was.
    pub fn fetch_add(&self, offset: u64, add: u64) -> io::Result<u64> {
        self.atomic(uapi::Atomic {
            handle: self.handle,
            offset,
            operand: add,
            op: uapi::FETCH_ADD,
            ..uapi::Atomic::default()
        })
    }

    /// Makes the word at `offset`, a multiple of 8, `new` if it is `expected`; what it was.
    pub fn compare_swap(&self, offset: u64, expected: u64, new: u64) -> io::Result<u64> {
        self.atomic(uapi::Atomic {
            handle: self.handle,
            offset,
            operand: new,
            expected,
            op: uapi::COMPARE_SWAP,
            ..uapi::Atomic::default()
        })
    }

    /// What a node (0: each) may do from now on; none revokes.
    pub fn grant(&self, node: u32, rights: Rights) -> io::Result<()> {
        let mut grant = uapi::Grant {
            handle: self.handle,
            node,
            rights: rights.bits(),
            ..uapi::Grant::default()
        };
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::GRANT, &mut grant) }
    }

    /// Frees the region, whoever has it mapped.
    pub fn free(mut self) -> io::Result<()> {
        self.end(uapi::FREE)?;
        self.handle = 0;
        Ok(())
    }

    /// Gives it up, and hears whether the owner knows.
    pub fn unmap(mut self) -> io::Result<()> {
        self.give_up()
    }

    /// Afterwards the handle names nothing, whatever the owner knows.
    pub(crate) fn give_up(&mut self) -> io::Result<()> {
        let result = match self.handle {
            0 => Ok(()),
            _ => self.end(uapi::UNMAP),
        };
        self.handle = 0;
        result
    }

    fn end(&self, request: u64) -> io::Result<()> {
        let mut handle = uapi::Handle {
            handle: self.handle,
            ..uapi::Handle::default()
        };
        // SAFETY: Both requests read the struct and name no other memory.
        unsafe { self.lite.ioctl(request, &mut handle) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // The owner hears of it in the background if it did not now.
        let _ = self.give_up();
    }
}
