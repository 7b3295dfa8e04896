// SPDX-License-Identifier: GPL-2.0

//! Persistent-memory devices: which there are, and whose they are. Only what
//! it takes to decide on formatting; mkfs.hotpot, fsck.hotpot and mount check.

use anyhow::{Context, Result};
use std::{
    fs::{self, File},
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};
use uuid::Uuid;

/// hotpot/core/format/superblock.rs: two copies, in the first two blocks.
const MAGIC: &[u8; 8] = b"HOTPOTPM";
const BLOCK: usize = 4096;
const CLUSTER: usize = 48;
const NODE: usize = 80;

/// Node id of a device whose node the first mount decides.
const NO_NODE: u16 = u16::MAX;

/// Where the signatures of other file systems are found.
const PROBED: usize = 128 << 10;

#[derive(Debug, Eq, PartialEq)]
pub enum Contents {
    /// Nothing but zeros where file systems begin.
    Blank,
    /// A nil cluster or [`NO_NODE`]: the first mount decides.
    Hotpot {
        cluster: Uuid,
        node: u16,
    },
    Unknown,
}

impl Contents {
    /// Whether a mount by this node takes the device as it is.
    pub fn is_for(&self, cluster: Uuid, node: u32) -> bool {
        match self {
            Contents::Hotpot {
                cluster: its,
                node: id,
            } => (*its == cluster || its.is_nil()) && (u32::from(*id) == node || *id == NO_NODE),
            _ => false,
        }
    }
}

/// /dev/pmem0 and so on, by number.
pub fn devices() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|n| n.starts_with("pmem"))
        .collect();
    names.sort_by_key(|n| (n.len(), n.clone()));
    names.iter().map(|n| Path::new("/dev").join(n)).collect()
}

pub fn contents(device: &Path) -> Result<Contents> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(PROBED);
        File::open(device)?
            .take(PROBED as u64)
            .read_to_end(&mut bytes)?;
        if bytes.len() < 2 * BLOCK {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {}", device.display()))?;
    Ok(identify(&bytes))
}

fn identify(bytes: &[u8]) -> Contents {
    for block in bytes.chunks_exact(BLOCK).take(2) {
        if block.starts_with(MAGIC) {
            let mut cluster = [0; 16];
            cluster.copy_from_slice(&block[CLUSTER..CLUSTER + 16]);
            return Contents::Hotpot {
                cluster: Uuid::from_bytes(cluster),
                node: u16::from_le_bytes([block[NODE], block[NODE + 1]]),
            };
        }
    }
    if bytes.iter().all(|b| *b == 0) {
        Contents::Blank
    } else {
        Contents::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock(node: u16) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(MAGIC);
        block[CLUSTER..CLUSTER + 16].copy_from_slice(&[7; 16]);
        block[NODE..NODE + 2].copy_from_slice(&node.to_le_bytes());
        block
    }

    #[test]
    fn devices_are_told_apart() {
        let zeros = vec![0; PROBED];
        assert_eq!(identify(&zeros), Contents::Blank);
        let mut ext4 = zeros.clone();
        ext4[1080] = 0x53;
        assert_eq!(identify(&ext4), Contents::Unknown);
        let whole = [superblock(3), superblock(3)].concat();
        let ours = Contents::Hotpot {
            cluster: Uuid::from_bytes([7; 16]),
            node: 3,
        };
        assert_eq!(identify(&whole), ours);
        let first_lost = [vec![0xff; BLOCK], superblock(3)].concat();
        assert_eq!(identify(&first_lost), ours);
        let cluster = Uuid::from_bytes([7; 16]);
        assert!(ours.is_for(cluster, 3));
        assert!(!ours.is_for(cluster, 2));
        assert!(!ours.is_for(Uuid::from_bytes([8; 16]), 3));
        assert!(identify(&superblock(NO_NODE)).is_for(cluster, 3));
    }
}
