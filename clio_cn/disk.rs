// SPDX-License-Identifier: GPL-2.0

//! Disks in remote memory: /sys/kernel/config/clio/`<disk>` makes /dev/clio-blk`N`.
//!
//! What a disk does is decided in [`crate::core::disk`]. Around it:
//!
//! - [`configfs`]: the directory of a disk, and what is set there;
//! - [`copies`]: its copies in the memory of nodes: found, made, given up, by calls that may sleep;
//! - [`volume`]: a disk that is on: the requests of the block layer, the operations that they become;
//! - [`part`]: one operation; [`buffers`]: the memory that its bytes are in.
//!
//! Pages are swapped to such a disk. All that a write needs is there before it comes, or is taken
//! from the reserves; without memory for an operation the disk waits for another one to end.
//!
//! Locks: `Volume::state` before `Station::inner`; those of requests and buffers are leaves.

mod buffers;
pub(crate) mod configfs;
mod copies;
mod part;
mod volume;

use crate::core::control::{Name, Secret};
use kernel::{fmt, prelude::*, str::BStr};

/// What is set before a disk is switched on.
#[derive(Clone)]
pub(crate) struct Settings {
    /// Name of the disk, which those of its address spaces begin with.
    pub(crate) name: ShortName,
    /// The rdma_lite node; empty for that of the namespace.
    pub(crate) node: ShortName,
    /// Bytes; 0 for a disk that is there already.
    pub(crate) size: u64,
    /// Copies of a new disk.
    pub(crate) replicas: usize,
    /// Of all address spaces of the disk.
    pub(crate) key: Secret,
    /// Deadline of an operation at one copy.
    pub(crate) timeout_ms: u32,
    /// A disk is used although copies that may be newer are away.
    pub(crate) force: bool,
    /// New copies are made in the place of those that were lost.
    pub(crate) repair: bool,
}

impl Settings {
    /// Says something about the disk that an operator should know.
    fn warn(&self, text: fmt::Arguments<'_>) {
        pr_warn!(
            "disk {}: {}\n",
            BStr::from_bytes(self.name.as_bytes()),
            text
        );
    }
}

/// Up to 63 bytes.
#[derive(Clone, Copy)]
pub(crate) struct ShortName {
    bytes: [u8; 63],
    len: u8,
}

impl ShortName {
    /// `ENAMETOOLONG` for more than 63 bytes.
    pub(crate) fn new(name: &[u8]) -> Result<Self> {
        let mut bytes = [0; 63];
        let there = bytes.get_mut(..name.len()).ok_or(ENAMETOOLONG)?;
        there.copy_from_slice(name);
        Ok(Self {
            bytes,
            len: name.len() as u8,
        })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

/// The address space of the copy at a node: `<disk>.<node>`.
fn space_name(disk: &[u8], node: u16) -> Result<Name> {
    let mut digits = [0u8; 5];
    let mut rest = node;
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    let mut name = KVec::with_capacity(disk.len() + 6, GFP_KERNEL)?;
    name.extend_from_slice(disk, GFP_KERNEL)?;
    name.push(b'.', GFP_KERNEL)?;
    name.extend_from_slice(digits.get(at..).unwrap_or_default(), GFP_KERNEL)?;
    Name::new(&name)
}
