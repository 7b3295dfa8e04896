// SPDX-License-Identifier: GPL-2.0

//! What each copy of a disk says about all of them.
//!
//! A copy is one range of remote memory:
//!
//! ```text
//!     0   4 KiB  lock word, then zeroes: who has the disk holds it
//!  4 Ki   4 KiB  zeroes
//!  8 Ki   8 KiB  record, in place 0
//! 16 Ki   8 KiB  record, in place 1
//! 24 Ki  40 KiB  zeroes
//! 64 Ki          the disk's bytes
//! ```
//!
//! The record with the higher sequence number counts. The next one is written in the
//! other place, so there is always one, should the write be cut off. A record:
//!
//! ```text
//!   0  8  "CLIODISK"
//!   8  4  version, 1
//!  12  4  crc32c of all 8192 bytes, this field as 0
//!  16  8  sequence number
//!  24 16  uuid of the disk
//!  40  8  bytes of the disk
//!  48  1  a region is 1 << this many bytes
//!  49  1  copies that there should be
//!  50  1  1: the disk was switched off, nothing is dirty but what is marked
//!  51  1  which of the copies this one is
//!  52 12  zero
//!  64     8 of: copy id (8), node id (4), state (4), zero (8)
//! 256     zeroes
//! 512     one bit for each region: it may differ between copies
//! ```
//!
//! All integers are little-endian.

use super::bits::Bits;
use kernel::{crc32::crc32c, prelude::*};

/// Bytes of a record.
pub const RECORD_LEN: usize = 8192;
/// Most copies.
pub const MAX_COPIES: usize = 8;
/// Most regions that a record has bits for.
pub const MAX_REGIONS: usize = (RECORD_LEN - BITS) * 8;
/// Where the disk's bytes begin in a copy.
pub const DATA: u64 = 64 << 10;
/// Where the word is that is locked by who has the disk.
pub const LOCK: u64 = 0;

const MAGIC: &[u8; 8] = b"CLIODISK";
const VERSION: u32 = 1;
const CRC: usize = 12;
const MEMBERS: usize = 64;
const MEMBER_LEN: usize = 24;
const BITS: usize = 512;

/// Where a record is in a copy: in place 0 or 1.
pub fn record_at(place: u8) -> u64 {
    (8 << 10) + u64::from(place & 1) * RECORD_LEN as u64
}

/// How far a copy can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Trust {
    /// There is none.
    #[default]
    None = 0,
    /// It has all writes that were acknowledged.
    InSync = 1,
    /// It is being filled.
    Filling = 2,
}

/// One of the copies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Random; another one for each copy that is ever made.
    pub id: u64,
    /// Memory node that it is at.
    pub node: u32,
    /// Whether it may be read.
    pub trust: Trust,
}

/// What all copies say but for their own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number.
    pub seq: u64,
    /// Of the disk.
    pub uuid: [u8; 16],
    /// Bytes of the disk.
    pub size: u64,
    /// `1 << region_shift` bytes to a region.
    pub region_shift: u8,
    /// Copies that there should be.
    pub replicas: u8,
    /// The disk was switched off.
    pub clean: bool,
    /// The copies.
    pub members: [Member; MAX_COPIES],
}

/// A record that was read.
#[derive(Debug)]
pub struct Record {
    /// What it says.
    pub head: Head,
    /// Which of the copies it was in.
    pub own: u8,
    /// Regions that may differ between the copies.
    pub dirty: Bits,
}

/// The size of regions for a disk: as small as the record can have, 1 MiB at least.
pub fn region_shift_for(size: u64) -> u8 {
    let fits = |shift: &u8| size.div_ceil(1 << shift) <= MAX_REGIONS as u64;
    (20..63).find(fits).unwrap_or(63)
}

/// Regions of a disk.
pub fn regions(size: u64, region_shift: u8) -> usize {
    size.div_ceil(1 << region_shift) as usize
}

impl Head {
    /// The record for the copy `own`. `EINVAL` unless `to` is [`RECORD_LEN`] bytes.
    pub fn encode(&self, own: u8, dirty: &Bits, to: &mut [u8]) -> Result {
        if to.len() != RECORD_LEN {
            return Err(EINVAL);
        }
        to.fill(0);
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(field) = to.get_mut(at..at + bytes.len()) {
                field.copy_from_slice(bytes);
            }
        };
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(16, &self.seq.to_le_bytes());
        put(24, &self.uuid);
        put(40, &self.size.to_le_bytes());
        put(
            48,
            &[self.region_shift, self.replicas, self.clean.into(), own],
        );
        for (slot, member) in self.members.iter().enumerate() {
            let at = MEMBERS + slot * MEMBER_LEN;
            put(at, &member.id.to_le_bytes());
            put(at + 8, &member.node.to_le_bytes());
            put(at + 12, &(member.trust as u32).to_le_bytes());
        }
        for (index, word) in dirty.words().iter().enumerate() {
            put(BITS + index * 8, &word.to_le_bytes());
        }
        let crc = !crc32c(!0, to);
        if let Some(field) = to.get_mut(CRC..CRC + 4) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        Ok(())
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    field.copied().ok_or(EBADMSG)
}

impl Record {
    /// Reads a record. `ENODATA`: there never was one; `EBADMSG`: it is damaged, as one is whose
    /// write was cut off; `EPROTONOSUPPORT`: of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != RECORD_LEN {
            return Err(EINVAL);
        }
        if array::<8>(bytes, 0)? == [0; 8] {
            return Err(ENODATA);
        }
        let (before, rest) = bytes.split_at(CRC);
        let (crc, behind) = rest.split_at(4);
        let computed = !crc32c(crc32c(crc32c(!0, before), &[0; 4]), behind);
        if crc != computed.to_le_bytes() || array::<8>(bytes, 0)? != *MAGIC {
            return Err(EBADMSG);
        }
        if u32::from_le_bytes(array(bytes, 8)?) != VERSION {
            return Err(EPROTONOSUPPORT);
        }
        let [region_shift, replicas, clean, own] = array::<4>(bytes, 48)?;
        let mut members = [Member::default(); MAX_COPIES];
        for (slot, member) in members.iter_mut().enumerate() {
            let at = MEMBERS + slot * MEMBER_LEN;
            *member = Member {
                id: u64::from_le_bytes(array(bytes, at)?),
                node: u32::from_le_bytes(array(bytes, at + 8)?),
                trust: match u32::from_le_bytes(array(bytes, at + 12)?) {
                    0 => Trust::None,
                    1 => Trust::InSync,
                    2 => Trust::Filling,
                    _ => return Err(EBADMSG),
                },
            };
        }
        let head = Head {
            seq: u64::from_le_bytes(array(bytes, 16)?),
            uuid: array(bytes, 24)?,
            size: u64::from_le_bytes(array(bytes, 40)?),
            region_shift,
            replicas,
            clean: clean != 0,
            members,
        };
        let sane = (12..63).contains(&region_shift)
            && usize::from(own) < MAX_COPIES
            && (1..=MAX_COPIES).contains(&usize::from(replicas))
            && head.size.div_ceil(1 << region_shift) <= MAX_REGIONS as u64;
        if !sane {
            return Err(EBADMSG);
        }
        let mut dirty = Bits::new(regions(head.size, region_shift))?;
        for (index, word) in dirty.words_mut().iter_mut().enumerate() {
            *word = u64::from_le_bytes(array(bytes, BITS + index * 8)?);
        }
        Ok(Self { head, own, dirty })
    }

    /// The one that counts of those in the two places of a copy, and in which place it is.
    pub fn newer(zero: Result<Self>, one: Result<Self>) -> Result<(u8, Self)> {
        match (zero, one) {
            (Ok(zero), Ok(one)) if one.head.seq > zero.head.seq => Ok((1, one)),
            (Ok(zero), _) => Ok((0, zero)),
            (_, Ok(one)) => Ok((1, one)),
            // A damaged one says more than none.
            (Err(e), Err(other)) => Err(if e == ENODATA { other } else { e }),
        }
    }
}
