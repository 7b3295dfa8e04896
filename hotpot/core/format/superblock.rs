// SPDX-License-Identifier: GPL-2.0

//! The superblock: whose device this is and how it is laid out.
//!
//! Two copies, in blocks 0 and 1. The intact copy with the higher sequence
//! number counts; an update writes the other one, with the next number, and
//! persists it. So an update that tears leaves the state before it.
//!
//! ```text
//!    0  [u8; 8]   magic "HOTPOTPM"
//!    8  u32       format version
//!   12  u32       block size, 4096
//!   16  u64       compatible features: unknown ones do not matter
//!   24  u64       read-only compatible features: with unknown ones, do not write
//!   32  u64       incompatible features: with unknown ones, do not use
//!   40  u64       sequence number, from 1
//!   48  [u8; 16]  uuid of the cluster, or zeros
//!   64  [u8; 16]  uuid of the device
//!   80  u16       node id, or 0
//!   82  u16       flags: bit 0 clean, bit 1 outdated
//!   84            zero
//!   88  u64       incarnation: mounts so far
//!   96  i64, u32  creation: seconds, nanoseconds
//!  108            zero
//!  112  i64, u32  last mount: seconds, nanoseconds
//!  124            zero
//!  128  u64       first CID counter that is not reserved
//!  136  7 regions of u64 offset, u64 length: dataset records,
//!                 commit record descriptors, commit records,
//!                 redo log descriptors, redo log, slots, data pages
//!  248            zero
//!  256  [u8; 64]  label, UTF-8, filled up with zeros
//!  320            zero
//! 4092  u32       crc32c of bytes 0..4092
//! ```
//!
//! Magic, format version and checksum stay where they are in later versions, so
//! that "newer" and "damaged" can be told apart.

use super::{
    array_at, block_is_sealed, geometry::Region, put, put_timestamp, seal_block, timestamp_at,
    u16_at, u32_at, u64_at, Cid, Damage, FormatError, Geometry, Timestamp, Uuid, FORMAT_VERSION,
    PAGE_BYTES, PAGE_SIZE,
};

/// First bytes of a superblock.
pub const MAGIC: [u8; 8] = *b"HOTPOTPM";
/// Bytes of both copies, from the begin of the device.
pub const REGION: u64 = 2 * PAGE_BYTES;
/// Longest label in bytes.
pub const LABEL_MAX: usize = 64;
/// [`Superblock::node`] of a device whose node the first mount decides.
pub const NO_NODE: u16 = 0;
/// CID counters to reserve at once.
pub const CID_BLOCK: u64 = 1 << 20;
/// Features in [`Superblock::incompat`] that this code knows.
pub const KNOWN_INCOMPAT: u64 = 0;
/// Features in [`Superblock::ro_compat`] that this code knows.
pub const KNOWN_RO_COMPAT: u64 = 0;

const FLAG_CLEAN: u16 = 1;
const FLAG_OUTDATED: u16 = 1 << 1;

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 8;
    pub(super) const BLOCK_SIZE: usize = 12;
    pub(super) const COMPAT: usize = 16;
    pub(super) const RO_COMPAT: usize = 24;
    pub(super) const INCOMPAT: usize = 32;
    pub(super) const SEQUENCE: usize = 40;
    pub(super) const CLUSTER: usize = 48;
    pub(super) const DEVICE: usize = 64;
    pub(super) const NODE: usize = 80;
    pub(super) const FLAGS: usize = 82;
    pub(super) const INCARNATION: usize = 88;
    pub(super) const CREATED: usize = 96;
    pub(super) const MOUNTED: usize = 112;
    pub(super) const CID_LIMIT: usize = 128;
    pub(super) const REGIONS: usize = 136;
    pub(super) const LABEL: usize = 256;
}

/// One of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// In block 0.
    A,
    /// In block 1.
    B,
}

impl Copy {
    /// Its device offset.
    pub fn offset(self) -> u64 {
        match self {
            Copy::A => 0,
            Copy::B => PAGE_BYTES,
        }
    }

    /// The one that the next update writes when `self` counts.
    pub fn other(self) -> Copy {
        match self {
            Copy::A => Copy::B,
            Copy::B => Copy::A,
        }
    }
}

/// A superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Compatible features.
    pub compat: u64,
    /// Read-only compatible features.
    pub ro_compat: u64,
    /// Incompatible features.
    pub incompat: u64,
    /// Number of the update, from 1.
    pub sequence: u64,
    /// The cluster it belongs to; [`Uuid::NIL`]: that of the first mount.
    pub cluster: Uuid,
    /// This device.
    pub device: Uuid,
    /// The node it belongs to; [`NO_NODE`]: that of the first mount.
    pub node: u16,
    /// Set by umount, cleared by mount: nothing to recover.
    pub clean: bool,
    /// Another node knew later lives of this device: it is an old copy, which no mount takes again.
    pub outdated: bool,
    /// Mounts so far.
    pub incarnation: u64,
    /// When it was formatted.
    pub created: Timestamp,
    /// When it was last mounted.
    pub mounted: Timestamp,
    /// CID counters below this are reserved: each may have been used.
    pub cid_limit: u64,
    /// Where everything is.
    pub geometry: Geometry,
    /// Text for people, filled up with zeros.
    pub label: [u8; LABEL_MAX],
}

/// What became of the copy that does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherCopy {
    /// Intact, with this sequence number.
    Intact(u64),
    /// Intact, yet of another device or another layout: a left-over.
    Foreign,
    /// Cannot be read; normal after a crash during an update, else damage.
    Unusable(FormatError),
}

/// The superblock that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// It. When the other copy cannot be read, which may have been the newer one,
    /// this is not clean, and one mount and one reservation of CIDs further: no id
    /// repeats and no recovery is skipped.
    pub superblock: Superblock,
    /// Where it stands; an update goes to [`Copy::other`].
    pub copy: Copy,
    /// The other copy.
    pub other: OtherCopy,
}

impl Superblock {
    /// A superblock of a device that was never mounted.
    pub fn new(
        geometry: Geometry,
        cluster: Uuid,
        device: Uuid,
        node: u16,
        created: Timestamp,
    ) -> Self {
        Self {
            compat: 0,
            ro_compat: 0,
            incompat: 0,
            sequence: 1,
            cluster,
            device,
            node,
            clean: true,
            outdated: false,
            incarnation: 0,
            created,
            mounted: Timestamp::default(),
            cid_limit: 1,
            geometry,
            label: [0; LABEL_MAX],
        }
    }

    /// Sets the label; `false`, and unchanged, when it is too long or holds a NUL.
    pub fn set_label(&mut self, label: &str) -> bool {
        if label.len() > LABEL_MAX || label.contains('\0') {
            return false;
        }
        self.label = [0; LABEL_MAX];
        put(&mut self.label, 0, label.as_bytes());
        true
    }

    /// The label; empty when there is none or it is no UTF-8.
    pub fn label(&self) -> &str {
        let label = self.label.split(|byte| *byte == 0).next().unwrap_or(&[]);
        ::core::str::from_utf8(label).unwrap_or("")
    }

    /// Reserves the next block of CID counters for use after this superblock is
    /// persistent. The new counters are `old cid_limit .. new cid_limit`; `None`
    /// when there are no more.
    pub fn reserve_cids(&mut self) -> Option<::core::ops::Range<u64>> {
        let first = self.cid_limit;
        let limit = first
            .checked_add(CID_BLOCK)
            .filter(|limit| *limit <= Cid::MAX_COUNTER)?;
        self.cid_limit = limit;
        Some(first..limit)
    }

    /// What a later update, of which nothing is known, may have made of this superblock.
    fn after_loss(mut self) -> Self {
        self.clean = false;
        self.incarnation = self.incarnation.saturating_add(1);
        self.cid_limit = self
            .cid_limit
            .saturating_add(CID_BLOCK)
            .min(Cid::MAX_COUNTER);
        self
    }

    /// Whether features that this code does not know forbid to write.
    pub fn is_read_only(&self) -> bool {
        self.ro_compat & !KNOWN_RO_COMPAT != 0
    }

    /// The block, with its checksum.
    pub fn encode(&self, block: &mut [u8; PAGE_SIZE]) {
        block.fill(0);
        put(block, at::MAGIC, &MAGIC);
        put(block, at::VERSION, &FORMAT_VERSION.to_le_bytes());
        put(block, at::BLOCK_SIZE, &(PAGE_SIZE as u32).to_le_bytes());
        put(block, at::COMPAT, &self.compat.to_le_bytes());
        put(block, at::RO_COMPAT, &self.ro_compat.to_le_bytes());
        put(block, at::INCOMPAT, &self.incompat.to_le_bytes());
        put(block, at::SEQUENCE, &self.sequence.to_le_bytes());
        put(block, at::CLUSTER, &self.cluster.0);
        put(block, at::DEVICE, &self.device.0);
        put(block, at::NODE, &self.node.to_le_bytes());
        let mut flags = 0;
        if self.clean {
            flags |= FLAG_CLEAN;
        }
        if self.outdated {
            flags |= FLAG_OUTDATED;
        }
        put(block, at::FLAGS, &flags.to_le_bytes());
        put(block, at::INCARNATION, &self.incarnation.to_le_bytes());
        put_timestamp(block, at::CREATED, self.created);
        put_timestamp(block, at::MOUNTED, self.mounted);
        put(block, at::CID_LIMIT, &self.cid_limit.to_le_bytes());
        for (nr, (_, region)) in self.geometry.regions().into_iter().enumerate() {
            put(block, at::REGIONS + 16 * nr, &region.offset.to_le_bytes());
            put(block, at::REGIONS + 16 * nr + 8, &region.len.to_le_bytes());
        }
        put(block, at::LABEL, &self.label);
        seal_block(block);
    }

    /// Reads one copy, without a look at the device.
    pub fn decode(bytes: &[u8]) -> Result<Superblock, FormatError> {
        let Some(block) = bytes.first_chunk::<PAGE_SIZE>() else {
            return Err(FormatError::Superblock(Damage::Short));
        };
        if array_at::<8>(block, at::MAGIC) != MAGIC {
            return Err(FormatError::NotFormatted);
        }
        if !block_is_sealed(block) {
            return Err(FormatError::Superblock(Damage::Checksum));
        }
        let version = u32_at(block, at::VERSION);
        if version > FORMAT_VERSION {
            return Err(FormatError::NewerFormat { found: version });
        }
        if version == 0 {
            return Err(FormatError::Superblock(Damage::Version));
        }
        let incompat = u64_at(block, at::INCOMPAT);
        if incompat & !KNOWN_INCOMPAT != 0 {
            return Err(FormatError::UnknownFeatures {
                bits: incompat & !KNOWN_INCOMPAT,
            });
        }
        let region = |nr: usize| Region {
            offset: u64_at(block, at::REGIONS + 16 * nr),
            len: u64_at(block, at::REGIONS + 16 * nr + 8),
        };
        let superblock = Superblock {
            compat: u64_at(block, at::COMPAT),
            ro_compat: u64_at(block, at::RO_COMPAT),
            incompat,
            sequence: u64_at(block, at::SEQUENCE),
            cluster: Uuid(array_at(block, at::CLUSTER)),
            device: Uuid(array_at(block, at::DEVICE)),
            node: u16_at(block, at::NODE),
            clean: u16_at(block, at::FLAGS) & FLAG_CLEAN != 0,
            outdated: u16_at(block, at::FLAGS) & FLAG_OUTDATED != 0,
            incarnation: u64_at(block, at::INCARNATION),
            created: timestamp_at(block, at::CREATED),
            mounted: timestamp_at(block, at::MOUNTED),
            cid_limit: u64_at(block, at::CID_LIMIT),
            geometry: Geometry {
                records: region(0),
                commit_descriptors: region(1),
                commit_blocks: region(2),
                log_descriptors: region(3),
                log_blocks: region(4),
                slots: region(5),
                pages: region(6),
            },
            label: array_at(block, at::LABEL),
        };
        let wrong = |field| Err(FormatError::Superblock(Damage::Field(field)));
        if u32_at(block, at::BLOCK_SIZE) != PAGE_SIZE as u32 {
            return wrong("block size");
        }
        if superblock.sequence == 0 {
            return wrong("sequence number");
        }
        if superblock.cid_limit == 0 || superblock.cid_limit > Cid::MAX_COUNTER {
            return wrong("CID reservation");
        }
        superblock
            .geometry
            .check()
            .map_err(FormatError::Superblock)?;
        Ok(superblock)
    }

    /// Whether the file system is all on a device of `device` bytes. The device
    /// may have more.
    pub fn check_device(&self, device: u64) -> Result<(), FormatError> {
        let needed = self.geometry.size();
        if device < needed {
            return Err(FormatError::Truncated { device, needed });
        }
        Ok(())
    }

    /// Whether the device is for node `node` of `cluster`, or for whom mounts it first.
    pub fn check_owner(&self, cluster: Uuid, node: u16) -> Result<(), FormatError> {
        if self.cluster != cluster && self.cluster != Uuid::NIL {
            return Err(FormatError::OtherCluster {
                found: self.cluster,
            });
        }
        if self.node != node && self.node != NO_NODE {
            return Err(FormatError::OtherNode { found: self.node });
        }
        Ok(())
    }

    /// As [`Superblock::check_owner`], and from now on for nobody else.
    pub fn adopt(&mut self, cluster: Uuid, node: u16) -> Result<(), FormatError> {
        self.check_owner(cluster, node)?;
        self.cluster = cluster;
        self.node = node;
        Ok(())
    }
}

/// Decides which copy counts. `a` and `b` are the first and second block of the
/// device, or what the device has of them.
///
/// Without an intact copy the more telling of the two errors is given.
pub fn choose(a: &[u8], b: &[u8]) -> Result<Chosen, FormatError> {
    let chosen = |superblock, copy, other| {
        Ok(Chosen {
            superblock,
            copy,
            other,
        })
    };
    match (Superblock::decode(a), Superblock::decode(b)) {
        (Ok(a), Ok(b)) => {
            let other = |winner: &Superblock, other: &Superblock| {
                if winner.device == other.device && winner.geometry == other.geometry {
                    OtherCopy::Intact(other.sequence)
                } else {
                    OtherCopy::Foreign
                }
            };
            if b.sequence > a.sequence {
                chosen(b, Copy::B, other(&b, &a))
            } else {
                chosen(a, Copy::A, other(&a, &b))
            }
        }
        // A newer version never shares a device with an older one: what looks
        // like it is damage or a half-done upgrade, and the known one may be stale.
        (Ok(_), Err(error @ FormatError::NewerFormat { .. }))
        | (Err(error @ FormatError::NewerFormat { .. }), Ok(_))
        | (Ok(_), Err(error @ FormatError::UnknownFeatures { .. }))
        | (Err(error @ FormatError::UnknownFeatures { .. }), Ok(_)) => Err(error),
        (Ok(a), Err(error)) => chosen(a.after_loss(), Copy::A, OtherCopy::Unusable(error)),
        (Err(error), Ok(b)) => chosen(b.after_loss(), Copy::B, OtherCopy::Unusable(error)),
        (Err(a), Err(b)) => {
            let weight = |error: &FormatError| match error {
                FormatError::NewerFormat { .. } => 3,
                FormatError::UnknownFeatures { .. } => 2,
                FormatError::Superblock(Damage::Short) | FormatError::NotFormatted => 0,
                _ => 1,
            };
            let telling = if weight(&b) > weight(&a) { b } else { a };
            Err(match telling {
                FormatError::Superblock(Damage::Short) => FormatError::NotFormatted,
                error => error,
            })
        }
    }
}
