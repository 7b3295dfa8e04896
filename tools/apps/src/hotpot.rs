// SPDX-License-Identifier: GPL-2.0

//! A dataset of hotpot in our memory: [`Space`] for programs. See include/uapi/linux/hotpot.h.

use crate::{gas::Space, mapping::Mapping};
use nix::libc;
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::fd::AsRawFd,
    path::Path,
    slice,
    sync::atomic::AtomicU64,
    time::Duration,
};

const WORD: usize = 8;

/// HOTPOT_ACQUIRE_WAIT
const ACQUIRE_WAIT: u32 = 1;

#[repr(C)]
#[derive(Clone, Copy)]
struct Area {
    addr: u64,
    len: u64,
}

#[repr(C)]
struct Commit {
    areas: u64,
    nr_areas: u32,
    replicas: u32,
    timeout_ms: u32,
    flags: u32,
    cid: u64,
    reserved: [u64; 2],
}

#[repr(C)]
struct Acquire {
    areas: u64,
    nr_areas: u32,
    timeout_ms: u32,
    flags: u32,
    reserved0: u32,
    reserved: [u64; 2],
}

#[repr(C)]
struct Barrier {
    name: [u8; 64],
    count: u32,
    timeout_ms: u32,
    reserved: [u64; 2],
}

/// HOTPOT_SUPER_MAGIC, of statfs(2).
pub const SUPER_MAGIC: i64 = 0x504f_5448;

const MAGIC: u8 = 0xB7;
const COMMIT: u64 = nix::request_code_readwrite!(MAGIC, 0, size_of::<Commit>());
const BARRIER: u64 = nix::request_code_write!(MAGIC, 3, size_of::<Barrier>());
const ACQUIRE: u64 = nix::request_code_write!(MAGIC, 4, size_of::<Acquire>());

/// A dataset, mapped as a whole.
#[derive(Debug)]
pub struct Dataset {
    file: File,
    mapping: Mapping,
    rank: usize,
    size: usize,
    /// Of each wait.
    deadline: Duration,
}

impl Dataset {
    /// Opens and maps one that exists, of the mode MRSW, for one of `size` ranks. Every wait ends after `deadline`.
    pub fn open(path: &Path, rank: usize, size: usize, deadline: Duration) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Ok(Self {
            mapping: Mapping::new(&file, len)?,
            file,
            rank,
            size,
            deadline,
        })
    }

    fn areas(&self, ranges: &[Range<usize>]) -> Vec<Area> {
        let bytes = |words: &Range<usize>| words.start * WORD..words.end * WORD;
        areas(
            self.mapping.at().as_ptr() as usize,
            ranges.iter().map(bytes),
        )
    }
}

fn timeout_ms(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX)
}

/// Ranges of bytes, as areas of a dataset that is mapped at `base`.
fn areas(base: usize, ranges: impl Iterator<Item = Range<usize>>) -> Vec<Area> {
    let area = |range: Range<usize>| Area {
        addr: (base + range.start) as u64,
        len: range.len() as u64,
    };
    ranges.map(area).collect()
}

/// # Safety
///
/// `T` must be what the request takes, and what it points to must be there.
unsafe fn ioctl<T>(file: &File, request: u64, arg: &mut T) -> io::Result<()> {
    // SAFETY: As promised by the caller.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, arg) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// HOTPOT_IOC_COMMIT of ranges of bytes of a dataset that is mapped at `base`, in as many copies as the dataset has.
pub fn commit(
    file: &File,
    base: usize,
    ranges: &[Range<usize>],
    deadline: Duration,
) -> io::Result<()> {
    commit_areas(file, &areas(base, ranges.iter().cloned()), deadline)
}

fn commit_areas(file: &File, areas: &[Area], deadline: Duration) -> io::Result<()> {
    let mut commit = Commit {
        areas: areas.as_ptr() as u64,
        nr_areas: areas.len() as u32,
        replicas: 0,
        timeout_ms: timeout_ms(deadline),
        flags: 0,
        cid: 0,
        reserved: [0; 2],
    };
    // SAFETY: The request takes this struct; the areas live until it ends.
    unsafe { ioctl(file, COMMIT, &mut commit) }
}

impl Space for Dataset {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: So many words are mapped as long as we are, aligned; whoever else stores to them does it by atomics,
        // and what other nodes commit becomes visible a page at a time.
        unsafe {
            let at = self.mapping.at().cast::<AtomicU64>();
            slice::from_raw_parts(at.as_ptr(), self.mapping.size() / WORD)
        }
    }

    fn acquire(&self, ranges: &[Range<usize>]) -> io::Result<()> {
        let areas = self.areas(ranges);
        let mut acquire = Acquire {
            areas: areas.as_ptr() as u64,
            nr_areas: areas.len() as u32,
            timeout_ms: timeout_ms(self.deadline),
            flags: ACQUIRE_WAIT,
            reserved0: 0,
            reserved: [0; 2],
        };
        // SAFETY: The request takes this struct; the areas live until it ends.
        unsafe { ioctl(&self.file, ACQUIRE, &mut acquire) }
    }

    fn commit(&self, ranges: &[Range<usize>]) -> io::Result<()> {
        commit_areas(&self.file, &self.areas(ranges), self.deadline)
    }

    fn barrier(&self, name: &str) -> io::Result<()> {
        let mut barrier = Barrier {
            name: [0; 64],
            count: self.size as u32,
            timeout_ms: timeout_ms(self.deadline),
            reserved: [0; 2],
        };
        let room = barrier.name.len() - 1;
        if name.len() > room {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        barrier.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: The request takes this struct, which names no other memory.
        unsafe { ioctl(&self.file, BARRIER, &mut barrier) }
    }
}
