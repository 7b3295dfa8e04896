// SPDX-License-Identifier: GPL-2.0

//! Operations that nobody waits for.

use crate::{check, uapi, Lite, Region};
use std::{
    collections::HashMap,
    io,
    sync::{Mutex, PoisonError}, //
};

/// Operations that were begun, and the memory of those that read.
///
/// They are done in no order; whoever needs one waits for it with [`Operations::poll`]. The kernel copies
/// what was read to its memory only in `poll`, so the memory may go with this.
#[derive(Debug)]
pub struct Operations {
    lite: Lite,
    begun: Mutex<Begun>,
}

#[derive(Debug, Default)]
struct Begun {
    next: u64,
    /// By cookie; what is written has no memory here.
    reads: HashMap<u64, Vec<u8>>,
}

/// An operation that is over.
#[derive(Debug)]
pub struct Ended {
    /// What its begin returned.
    pub id: u64,
    /// What was read (nothing, of others), or why not.
    pub result: io::Result<Vec<u8>>,
    /// Bytes that were moved, also on an error; of atomics what the word was.
    pub value: u64,
}

impl Operations {
    /// None yet. They have an open of the device of their own, so that nobody else hears of their ends:
    /// regions are to be mapped through [`Operations::lite`].
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            lite: Lite::open()?,
            begun: Mutex::default(),
        })
    }

    /// The open of the device.
    pub fn lite(&self) -> &Lite {
        &self.lite
    }

    /// Begins to read `len` bytes. `EAGAIN`: too many are outstanding; `EBADF`: the region is of another
    /// open.
    pub fn read(&self, region: &Region, offset: u64, len: usize) -> io::Result<u64> {
        let mut buf = vec![0; len];
        let addr = buf.as_mut_ptr() as u64;
        self.begin(region, uapi::OP_READ, offset, addr, len, Some(buf))
    }

    /// Begins to write; the bytes are taken at once.
    pub fn write(&self, region: &Region, offset: u64, bytes: &[u8]) -> io::Result<u64> {
        let addr = bytes.as_ptr() as u64;
        self.begin(region, uapi::OP_WRITE, offset, addr, bytes.len(), None)
    }

    /// Begins to set bytes to a value, at the owner.
    pub fn fill(&self, region: &Region, offset: u64, len: u64, value: u8) -> io::Result<u64> {
        self.submit(
            region,
            uapi::Op {
                opcode: uapi::OP_FILL,
                offset,
                len,
                buf: value.into(),
                ..uapi::Op::default()
            },
            None,
        )
    }

    /// Begins to copy bytes to a region, which may be the same.
    pub fn copy(
        &self,
        region: &Region,
        offset: u64,
        to: &Region,
        to_offset: u64,
        len: u64,
    ) -> io::Result<u64> {
        self.check(to)?;
        self.submit(
            region,
            uapi::Op {
                opcode: uapi::OP_COPY,
                offset,
                len,
                buf: to.handle,
                done: to_offset,
                ..uapi::Op::default()
            },
            None,
        )
    }

    /// Begins to add to a word; [`Ended::value`] is what it was.
    pub fn fetch_add(&self, region: &Region, offset: u64, add: u64) -> io::Result<u64> {
        self.submit(
            region,
            uapi::Op {
                opcode: uapi::OP_FETCH_ADD,
                offset,
                len: 8,
                buf: add,
                ..uapi::Op::default()
            },
            None,
        )
    }

    /// Begins to make a word `new` if it is `expected`; [`Ended::value`] is what it was.
    pub fn compare_swap(
        &self,
        region: &Region,
        offset: u64,
        expected: u64,
        new: u64,
    ) -> io::Result<u64> {
        self.submit(
            region,
            uapi::Op {
                opcode: uapi::OP_COMPARE_SWAP,
                offset,
                len: 8,
                buf: new,
                done: expected,
                ..uapi::Op::default()
            },
            None,
        )
    }

    /// Handles are numbers that another open has as well.
    fn check(&self, region: &Region) -> io::Result<()> {
        match self.lite.is(&region.lite) {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(nix::libc::EBADF)),
        }
    }

    fn begin(
        &self,
        region: &Region,
        opcode: u32,
        offset: u64,
        buf: u64,
        len: usize,
        memory: Option<Vec<u8>>,
    ) -> io::Result<u64> {
        let op = uapi::Op {
            opcode,
            offset,
            len: len as u64,
            buf,
            ..uapi::Op::default()
        };
        self.submit(region, op, memory)
    }

    fn submit(
        &self,
        region: &Region,
        mut op: uapi::Op,
        memory: Option<Vec<u8>>,
    ) -> io::Result<u64> {
        self.check(region)?;
        // Until the memory is noted nobody polls.
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let cookie = begun.next;
        op.handle = region.handle;
        op.cookie = cookie;
        let mut submit = uapi::Submit {
            ops: (&raw const op) as u64,
            nr: 1,
            flags: uapi::ASYNC,
            ..uapi::Submit::default()
        };
        // SAFETY: The request reads `op` and what is to be written, which who calls us has borrowed; what is read is written by `poll`, to
        // memory that is noted here until then.
        unsafe { self.lite.ioctl(uapi::SUBMIT, &mut submit)? };
        begun.next += 1;
        if let Some(memory) = memory {
            begun.reads.insert(cookie, memory);
        }
        Ok(cookie)
    }

    /// Waits for `min` ends (0: for none), or all if there are fewer, and tells of up to `most` (not 0).
    pub fn poll(&self, min: u32, most: u32) -> io::Result<Vec<Ended>> {
        let mut ends = vec![uapi::Completion::default(); most as usize];
        let mut poll = uapi::Poll {
            completions: ends.as_mut_ptr() as u64,
            nr: most,
            min,
            ..uapi::Poll::default()
        };
        // SAFETY: There is room for `most` completions, and the memory of each read is kept by `begun` until
        // it was told of, below.
        unsafe { self.lite.ioctl(uapi::POLL, &mut poll)? };
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        ends.truncate(poll.nr as usize);
        let ended = ends.into_iter().map(|end| {
            let bytes = begun.reads.remove(&end.cookie).unwrap_or_default();
            Ended {
                id: end.cookie,
                value: end.done,
                result: check(end.error).map(|()| bytes),
            }
        });
        Ok(ended.collect())
    }
}
