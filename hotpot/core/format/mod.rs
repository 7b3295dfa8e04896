// SPDX-License-Identifier: GPL-2.0

//! What hotpot keeps on a PM device.
//!
//! ```text
//! superblock A | superblock B | dataset records | commit records | redo log | slots | data pages
//! ```
//!
//! One file for each structure; `Documentation/on-pm-format.md` has the byte
//! tables. Everything here is arithmetic on byte arrays: reading never panics
//! and takes nothing for valid that was torn or damaged; where the bytes are
//! and how they get there is the caller's.
//!
//! All fields are little-endian. A structure that is swung as a whole ends with
//! a crc32c. One that becomes valid by a single 8-byte store (slots, redo log
//! and commit records) begins with a [state word](word::StateWord): zero while
//! the rest is written, and later one of the codes of its states next to a
//! checksum of what the rest says.

pub mod commit_record;
pub mod crc32c;
pub mod dataset;
pub mod geometry;
pub mod redo_log;
pub mod slot;
pub mod superblock;
pub mod uuid;
pub mod word;

pub use commit_record::CommitRecord;
pub use crc32c::crc32c;
pub use dataset::DatasetRecord;
pub use geometry::Geometry;
pub use redo_log::RedoRecord;
pub use slot::PageVersion;
pub use superblock::Superblock;
pub use uuid::Uuid;

use kernel::{alloc::AllocError, fmt, prelude::*};

/// Version of the format that this code writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of a data page and of a metadata block.
pub const PAGE_SIZE: usize = 4096;
/// [`PAGE_SIZE`] for arithmetic on device offsets.
pub const PAGE_BYTES: u64 = PAGE_SIZE as u64;
/// Bytes of a slot and of a descriptor of a record: one cache line.
pub const LINE_SIZE: usize = 64;
/// [`LINE_SIZE`] without the state word.
pub const BODY_SIZE: usize = LINE_SIZE - 8;

/// A block of zeros to encode into, made on the heap right away: `KBox::new` would
/// make it on the stack first, and kernel stacks are small.
pub struct Block(KVec<u8>);

impl Block {
    /// A new one.
    pub fn zeroed() -> Result<Self, AllocError> {
        KVec::from_elem(0, PAGE_SIZE, GFP_KERNEL).map(Self)
    }

    /// Its bytes, to change them.
    pub fn array_mut(&mut self) -> Result<&mut [u8; PAGE_SIZE]> {
        self.0.first_chunk_mut().ok_or(EINVAL)
    }
}

impl ::core::ops::Deref for Block {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Id of a commit: the committing node (16 bits) and a counter (48 bits) that
/// never repeats on a device. 0 is no commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid(pub u64);

impl Cid {
    /// Largest counter.
    pub const MAX_COUNTER: u64 = (1 << 48) - 1;

    /// The id of commit `counter` of `node`; `counter` is taken modulo 2^48.
    pub const fn new(node: u16, counter: u64) -> Self {
        Self(((node as u64) << 48) | (counter & Self::MAX_COUNTER))
    }

    /// The committing node (CN).
    pub const fn node(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The CN's counter.
    pub const fn counter(self) -> u64 {
        self.0 & Self::MAX_COUNTER
    }
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds; before 1970 negative.
    pub sec: i64,
    /// 0 to 999,999,999.
    pub nsec: u32,
}

/// What is wrong with the bytes of one structure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Fewer bytes than the structure has.
    Short,
    /// Not the magic number of the structure.
    Magic,
    /// A version of the structure that this code does not know.
    Version,
    /// The checksum is not that of the bytes.
    Checksum,
    /// The state word is no state, or belongs to another content: torn or overwritten.
    Word,
    /// Intact, yet this field has a value that it must not have.
    Field(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Short => f.write_str("cut short"),
            Damage::Magic => f.write_str("wrong magic number"),
            Damage::Version => f.write_str("unknown version"),
            Damage::Checksum => f.write_str("wrong checksum"),
            Damage::Word => f.write_str("state word does not belong to the content"),
            Damage::Field(field) => write!(f, "impossible value of {field}"),
        }
    }
}

impl From<Damage> for Error {
    fn from(_: Damage) -> Error {
        EUCLEAN
    }
}

/// Why a device cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// No superblock of ours in either place.
    NotFormatted,
    /// A later version of the format.
    NewerFormat {
        /// The version on the device.
        found: u32,
    },
    /// Incompatible features that this code does not know.
    UnknownFeatures {
        /// Their bits.
        bits: u64,
    },
    /// Made for another cluster.
    OtherCluster {
        /// The cluster on the device.
        found: Uuid,
    },
    /// Made for another node of this cluster.
    OtherNode {
        /// The node on the device.
        found: u16,
    },
    /// The device ends before the file system does.
    Truncated {
        /// Bytes of the device.
        device: u64,
        /// Bytes of the file system.
        needed: u64,
    },
    /// Both superblocks are damaged; this is what is wrong with the better one.
    Superblock(Damage),
    /// No memory to read a structure.
    NoMemory,
}

impl FormatError {
    /// The errno that mount gives for it.
    pub fn errno(self) -> Error {
        match self {
            FormatError::NotFormatted => EINVAL,
            FormatError::NewerFormat { .. } | FormatError::UnknownFeatures { .. } => EOPNOTSUPP,
            FormatError::OtherCluster { .. } | FormatError::OtherNode { .. } => EXDEV,
            FormatError::Truncated { .. } => ENXIO,
            FormatError::Superblock(_) => EUCLEAN,
            FormatError::NoMemory => ENOMEM,
        }
    }
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Error {
        error.errno()
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::NotFormatted => {
                f.write_str("not a hotpot device: no superblock found; format it with mkfs.hotpot")
            }
            FormatError::NewerFormat { found } => write!(
                f,
                "format version {found} is newer than {FORMAT_VERSION}, the newest this software reads; update it"
            ),
            FormatError::UnknownFeatures { bits } => write!(
                f,
                "uses features {bits:#x} that this software does not know; update it"
            ),
            FormatError::OtherCluster { found } => {
                f.write_str("belongs to another cluster, ")?;
                fmt::Display::fmt(found, f)
            }
            FormatError::OtherNode { found } => {
                write!(f, "belongs to node {found} of this cluster")
            }
            FormatError::Truncated { device, needed } => write!(
                f,
                "truncated: the device has {device} bytes, the file system on it {needed}"
            ),
            FormatError::Superblock(damage) => {
                f.write_str("both superblocks are damaged (")?;
                fmt::Display::fmt(damage, f)?;
                f.write_str("); run fsck.hotpot")
            }
            FormatError::NoMemory => f.write_str("out of memory"),
        }
    }
}

/// The `N` bytes at `at`; zeros for what lies outside `bytes`.
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    match bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(found) => *found,
        None => [0; N],
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}

fn timestamp_at(bytes: &[u8], at: usize) -> Timestamp {
    Timestamp {
        sec: i64::from_le_bytes(array_at(bytes, at)),
        nsec: u32_at(bytes, at.saturating_add(8)),
    }
}

/// Puts `value` at `at`, if it fits there.
fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(to) = bytes
        .get_mut(at..)
        .and_then(|rest| rest.get_mut(..value.len()))
    {
        to.copy_from_slice(value);
    }
}

fn put_timestamp(bytes: &mut [u8], at: usize, time: Timestamp) {
    put(bytes, at, &time.sec.to_le_bytes());
    put(bytes, at.saturating_add(8), &time.nsec.to_le_bytes());
}

/// Where the checksum of a 4 KiB block stands: its last four bytes.
const BLOCK_CRC: usize = PAGE_SIZE - 4;

/// Completes a 4 KiB block.
fn seal_block(block: &mut [u8; PAGE_SIZE]) {
    let crc = crc32c(&block[..BLOCK_CRC]);
    put(block, BLOCK_CRC, &crc.to_le_bytes());
}

fn block_is_sealed(block: &[u8; PAGE_SIZE]) -> bool {
    crc32c(&block[..BLOCK_CRC]) == u32_at(block, BLOCK_CRC)
}

/// Where the checksum of a slot or descriptor stands: the last four bytes of its line.
const LINE_CRC: usize = LINE_SIZE - 4;

/// Checksum of what lies between the state word and the checksum of a line, at
/// place `index` of its table; so a line written to the wrong place is damaged.
fn line_crc(line: &[u8; LINE_SIZE], index: u64) -> u32 {
    crc32c::of(&[&line[8..LINE_CRC], &index.to_le_bytes()])
}

/// Completes a line and gives what follows the state word.
fn seal_line(mut line: [u8; LINE_SIZE], index: u64) -> [u8; BODY_SIZE] {
    let crc = line_crc(&line, index);
    put(&mut line, LINE_CRC, &crc.to_le_bytes());
    array_at(&line, 8)
}

fn line_is_sealed(line: &[u8; LINE_SIZE], index: u64) -> bool {
    line_crc(line, index) == u32_at(line, LINE_CRC)
}
