// SPDX-License-Identifier: GPL-2.0

//! Dataset records: names and properties of datasets. All nodes keep all records.
//!
//! A dataset has a pair of 4 KiB records, A and B, written in turn: an update
//! goes to the copy that does not count, with the next sequence number. A new
//! record is written to both copies, one after the other, before it is
//! acknowledged; so a single damaged copy never loses a name. A copy of zeros
//! is empty.
//!
//! ```text
//!    0  u32       magic "HPDS"
//!    4  u16       version of the structure, 1, or 2 with moved chunks
//!    6  u16       flags: bit 0 tombstone
//!    8  u64       sequence number on this device, from 1
//!   16  u64       dataset id, not 0
//!   24  u64       generation: the CD's number of the change; the highest wins
//!   32  u64       size in bytes
//!   40  u64       base address
//!   48  u64       reservation in bytes
//!   56  u64       chunk size in bytes
//!   64  u32       owner uid
//!   68  u32       owner gid
//!   72  u32       permission bits
//!   76  u32       degree of replication
//!   80  u32       mode: 1 MRMW, 2 MRSW
//!   84  u16       bytes of the name
//!   86  u16       node ids
//!   88  i64, u32  creation time
//!  100            zero
//!  104  i64, u32  time of last change of the data
//!  116            zero
//!  120  i64, u32  time of last change of the record
//!  132            zero
//!  136  [u8; 255] name, filled up with zeros
//!  391            zero
//!  392  u16       moved chunks; version 2 when there are some
//!  394            zero
//!  512  [u16]     node ids over which chunks go round robin, at most 1,790
//!       [8 bytes] moved chunks, right behind, in order: u32 chunk, u16 its owner, u16 the owner
//!                 before while it is on its way, else 0xffff
//! 4092  u32       crc32c of bytes 0..4092
//! ```

use super::{
    array_at, block_is_sealed, put, put_timestamp, seal_block, timestamp_at, u16_at, u32_at,
    u64_at, Damage, Timestamp, BLOCK_CRC, PAGE_BYTES, PAGE_SIZE,
};
use kernel::{alloc::AllocError, prelude::*};

/// "HPDS"
pub const MAGIC: u32 = u32::from_le_bytes(*b"HPDS");
/// Version of the structure.
pub const VERSION: u16 = 1;
/// Version of a record with moved chunks.
pub const VERSION_MOVED: u16 = 2;
/// No node's id.
pub const NOBODY: u16 = u16::MAX;
/// Longest name in bytes (`HOTPOT_NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Most nodes over which the chunks of a dataset can go: what fits into the record.
pub const MAX_NODES: usize = (BLOCK_CRC - at::NODES) / 2;
/// First address of the window for bases (`HOTPOT_WINDOW_START`).
pub const WINDOW_START: u64 = 0x1000_0000_0000;
/// End of the window for bases (`HOTPOT_WINDOW_END`).
pub const WINDOW_END: u64 = 0x2000_0000_0000;
/// Smallest chunk.
pub const MIN_CHUNK: u64 = 64 << 10;
/// Largest chunk.
pub const MAX_CHUNK: u64 = 1 << 30;

const FLAG_TOMBSTONE: u16 = 1;

mod at {
    pub(super) const MAGIC: usize = 0;
    pub(super) const VERSION: usize = 4;
    pub(super) const FLAGS: usize = 6;
    pub(super) const SEQUENCE: usize = 8;
    pub(super) const ID: usize = 16;
    pub(super) const GENERATION: usize = 24;
    pub(super) const SIZE: usize = 32;
    pub(super) const BASE: usize = 40;
    pub(super) const RESERVE: usize = 48;
    pub(super) const CHUNK_SIZE: usize = 56;
    pub(super) const UID: usize = 64;
    pub(super) const GID: usize = 68;
    pub(super) const PERMISSIONS: usize = 72;
    pub(super) const REPLICAS: usize = 76;
    pub(super) const MODE: usize = 80;
    pub(super) const NAME_LEN: usize = 84;
    pub(super) const NR_NODES: usize = 86;
    pub(super) const CREATED: usize = 88;
    pub(super) const MODIFIED: usize = 104;
    pub(super) const CHANGED: usize = 120;
    pub(super) const NAME: usize = 136;
    pub(super) const NR_MOVED: usize = 392;
    pub(super) const NODES: usize = 512;
}

/// How a dataset is written (`enum hotpot_mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Mode {
    /// Many readers, many writers.
    Mrmw = 1,
    /// Many readers, one writer per page.
    Mrsw = 2,
}

impl Mode {
    /// From the number in records and in the user ABI.
    pub fn from_number(number: u32) -> Option<Mode> {
        match number {
            1 => Some(Mode::Mrmw),
            2 => Some(Mode::Mrsw),
            _ => None,
        }
    }
}

/// Name of a dataset: 1 to 255 bytes, without `/` and NUL, not `.` or `..`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    // INVARIANT: bytes from `len` on are zero, so that the derived comparisons hold.
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    /// `None` when it is not a name.
    pub fn new(name: &[u8]) -> Option<Name> {
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.iter().any(|byte| matches!(byte, 0 | b'/'))
        {
            return None;
        }
        let len = u8::try_from(name.len()).ok()?;
        let mut bytes = [0; NAME_MAX];
        put(&mut bytes, 0, name);
        Some(Name { bytes, len })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl ::core::fmt::Debug for Name {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// A chunk whose owner is another node than its place in the row says (section 2.5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Its number in the dataset.
    pub chunk: u32,
    /// Its owner.
    pub node: u16,
    /// The owner before, until the new one has all pages and says so; then [`NOBODY`].
    pub from: u16,
}

/// Bytes of a moved chunk in the record.
const MOVED_SIZE: usize = 8;

/// A dataset, as its record says.
#[derive(Debug)]
pub struct DatasetRecord {
    /// Number of the update on this device, from 1.
    pub sequence: u64,
    /// Id, not 0.
    pub id: u64,
    /// Number of the change at the CD; the record with the highest one wins.
    pub generation: u64,
    /// The dataset was removed; kept so that no older record brings it back.
    pub tombstone: bool,
    /// Name.
    pub name: Name,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits, `0o7777`.
    pub permissions: u32,
    /// Bytes.
    pub size: u64,
    /// Address at which it is mapped on all nodes.
    pub base: u64,
    /// Bytes of addresses kept for it: bounds the size.
    pub reserve: u64,
    /// Bytes of a chunk, a power of two.
    pub chunk_size: u64,
    /// Persistent copies of each commit.
    pub replicas: u32,
    /// How it is written.
    pub mode: Mode,
    /// When it was made.
    pub created: Timestamp,
    /// When its data or size last changed.
    pub modified: Timestamp,
    /// When the record last changed.
    pub changed: Timestamp,
    /// Nodes that own its chunks, round robin: chunk `i` belongs to
    /// `nodes[i % nodes.len()]`. 1 to [`MAX_NODES`].
    pub nodes: KVec<u16>,
    /// Chunks that have moved, in order of their numbers.
    pub moved: KVec<Moved>,
}

impl DatasetRecord {
    /// A copy.
    pub fn try_clone(&self) -> Result<Self, AllocError> {
        let mut nodes = KVec::new();
        nodes.extend_from_slice(&self.nodes, GFP_KERNEL)?;
        let mut moved = KVec::new();
        moved.extend_from_slice(&self.moved, GFP_KERNEL)?;
        Ok(Self {
            nodes,
            moved,
            ..*self
        })
    }

    /// What is to be known of a chunk that has moved.
    pub fn moved(&self, chunk: u64) -> Option<Moved> {
        let chunk = u32::try_from(chunk).ok()?;
        let at = self
            .moved
            .binary_search_by_key(&chunk, |of| of.chunk)
            .ok()?;
        self.moved.get(at).copied()
    }

    /// How many chunks more could move.
    pub fn room_to_move(&self) -> usize {
        let used = at::NODES + 2 * self.nodes.len() + MOVED_SIZE * self.moved.len();
        BLOCK_CRC.saturating_sub(used) / MOVED_SIZE
    }

    /// Pages that the dataset reaches over.
    pub fn nr_pages(&self) -> u64 {
        self.size.div_ceil(PAGE_BYTES)
    }

    /// Whether all fields may stand in a record.
    pub fn check(&self) -> Result<(), Damage> {
        let wrong = |field| Err(Damage::Field(field));
        if self.sequence == 0 {
            return wrong("sequence number");
        }
        if self.id == 0 {
            return wrong("dataset id");
        }
        if self.replicas == 0 {
            return wrong("degree of replication");
        }
        if !self.chunk_size.is_power_of_two() || !(MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk_size)
        {
            return wrong("chunk size");
        }
        if self.reserve == 0 || self.reserve % self.chunk_size != 0 {
            return wrong("reservation");
        }
        let window = WINDOW_START..=WINDOW_END;
        let end = self.base.checked_add(self.reserve);
        if self.base % PAGE_BYTES != 0
            || !window.contains(&self.base)
            || !end.is_some_and(|end| window.contains(&end))
        {
            return wrong("base address");
        }
        if self.size > self.reserve {
            return wrong("size");
        }
        if self.permissions & !0o7777 != 0 {
            return wrong("permission bits");
        }
        if self.nodes.is_empty() || self.nodes.len() > MAX_NODES {
            return wrong("number of nodes");
        }
        let mut pairs = self.moved.iter().zip(self.moved.iter().skip(1));
        let moved = MOVED_SIZE * self.moved.len();
        if at::NODES + 2 * self.nodes.len() + moved > BLOCK_CRC
            || pairs.any(|(a, b)| a.chunk >= b.chunk)
            || self.moved.iter().any(|of| of.node == NOBODY)
        {
            return wrong("moved chunks");
        }
        for time in [self.created, self.modified, self.changed] {
            if time.nsec > 999_999_999 {
                return wrong("time");
            }
        }
        Ok(())
    }

    /// The block, with its checksum; an error when a field must not stand in a record.
    pub fn encode(&self, block: &mut [u8; PAGE_SIZE]) -> Result<(), Damage> {
        self.check()?;
        block.fill(0);
        put(block, at::MAGIC, &MAGIC.to_le_bytes());
        let version = match self.moved.is_empty() {
            true => VERSION,
            false => VERSION_MOVED,
        };
        put(block, at::VERSION, &version.to_le_bytes());
        let nr_moved = self.moved.len() as u16;
        put(block, at::NR_MOVED, &nr_moved.to_le_bytes());
        let flags = if self.tombstone { FLAG_TOMBSTONE } else { 0 };
        put(block, at::FLAGS, &flags.to_le_bytes());
        put(block, at::SEQUENCE, &self.sequence.to_le_bytes());
        put(block, at::ID, &self.id.to_le_bytes());
        put(block, at::GENERATION, &self.generation.to_le_bytes());
        put(block, at::SIZE, &self.size.to_le_bytes());
        put(block, at::BASE, &self.base.to_le_bytes());
        put(block, at::RESERVE, &self.reserve.to_le_bytes());
        put(block, at::CHUNK_SIZE, &self.chunk_size.to_le_bytes());
        put(block, at::UID, &self.uid.to_le_bytes());
        put(block, at::GID, &self.gid.to_le_bytes());
        put(block, at::PERMISSIONS, &self.permissions.to_le_bytes());
        put(block, at::REPLICAS, &self.replicas.to_le_bytes());
        put(block, at::MODE, &(self.mode as u32).to_le_bytes());
        let name = self.name.as_bytes();
        put(block, at::NAME_LEN, &(name.len() as u16).to_le_bytes());
        put(
            block,
            at::NR_NODES,
            &(self.nodes.len() as u16).to_le_bytes(),
        );
        put_timestamp(block, at::CREATED, self.created);
        put_timestamp(block, at::MODIFIED, self.modified);
        put_timestamp(block, at::CHANGED, self.changed);
        put(block, at::NAME, name);
        for (nr, node) in self.nodes.iter().enumerate() {
            put(block, at::NODES + 2 * nr, &node.to_le_bytes());
        }
        for (nr, moved) in self.moved.iter().enumerate() {
            let to = at::NODES + 2 * self.nodes.len() + MOVED_SIZE * nr;
            put(block, to, &moved.chunk.to_le_bytes());
            put(block, to + 4, &moved.node.to_le_bytes());
            put(block, to + 6, &moved.from.to_le_bytes());
        }
        seal_block(block);
        Ok(())
    }

    /// Reads one copy; `None` when it is empty.
    pub fn decode(bytes: &[u8]) -> Result<Option<DatasetRecord>, RecordError> {
        let Some(block) = bytes.first_chunk::<PAGE_SIZE>() else {
            return Err(Damage::Short.into());
        };
        if block.iter().fold(0, |all, byte| all | byte) == 0 {
            return Ok(None);
        }
        if u32_at(block, at::MAGIC) != MAGIC {
            return Err(Damage::Magic.into());
        }
        if !block_is_sealed(block) {
            return Err(Damage::Checksum.into());
        }
        let version = u16_at(block, at::VERSION);
        let nr_moved = usize::from(u16_at(block, at::NR_MOVED));
        if !matches!(version, VERSION | VERSION_MOVED) {
            return Err(Damage::Version.into());
        }
        if (version == VERSION_MOVED) != (nr_moved != 0) {
            return Err(Damage::Field("moved chunks").into());
        }
        let name_len = usize::from(u16_at(block, at::NAME_LEN));
        let name = array_at::<NAME_MAX>(block, at::NAME);
        let name = name
            .get(..name_len)
            .and_then(Name::new)
            .ok_or(Damage::Field("name"))?;
        let nr_nodes = usize::from(u16_at(block, at::NR_NODES));
        if nr_nodes > MAX_NODES {
            return Err(Damage::Field("number of nodes").into());
        }
        let mut nodes = KVec::with_capacity(nr_nodes, GFP_KERNEL)?;
        for nr in 0..nr_nodes {
            nodes.push(u16_at(block, at::NODES + 2 * nr), GFP_KERNEL)?;
        }
        if at::NODES + 2 * nr_nodes + MOVED_SIZE * nr_moved > BLOCK_CRC {
            return Err(Damage::Field("moved chunks").into());
        }
        let mut moved = KVec::with_capacity(nr_moved, GFP_KERNEL)?;
        for nr in 0..nr_moved {
            let from = at::NODES + 2 * nr_nodes + MOVED_SIZE * nr;
            let of = Moved {
                chunk: u32_at(block, from),
                node: u16_at(block, from + 4),
                from: u16_at(block, from + 6),
            };
            moved.push(of, GFP_KERNEL)?;
        }
        let record = DatasetRecord {
            sequence: u64_at(block, at::SEQUENCE),
            id: u64_at(block, at::ID),
            generation: u64_at(block, at::GENERATION),
            tombstone: u16_at(block, at::FLAGS) & FLAG_TOMBSTONE != 0,
            name,
            uid: u32_at(block, at::UID),
            gid: u32_at(block, at::GID),
            permissions: u32_at(block, at::PERMISSIONS),
            size: u64_at(block, at::SIZE),
            base: u64_at(block, at::BASE),
            reserve: u64_at(block, at::RESERVE),
            chunk_size: u64_at(block, at::CHUNK_SIZE),
            replicas: u32_at(block, at::REPLICAS),
            mode: Mode::from_number(u32_at(block, at::MODE)).ok_or(Damage::Field("mode"))?,
            created: timestamp_at(block, at::CREATED),
            modified: timestamp_at(block, at::MODIFIED),
            changed: timestamp_at(block, at::CHANGED),
            nodes,
            moved,
        };
        record.check()?;
        Ok(Some(record))
    }
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// It is damaged.
    Damaged(Damage),
    /// No memory for it.
    NoMemory,
}

impl From<Damage> for RecordError {
    fn from(damage: Damage) -> Self {
        RecordError::Damaged(damage)
    }
}

impl From<AllocError> for RecordError {
    fn from(_: AllocError) -> Self {
        RecordError::NoMemory
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Damaged(damage) => damage.into(),
            RecordError::NoMemory => ENOMEM,
        }
    }
}

/// What a pair of records says.
#[derive(Debug)]
pub struct Pair {
    /// The record that counts; `None` when the pair is free.
    pub record: Option<DatasetRecord>,
    /// The copy (0 or 1) that the next update writes.
    pub next: u8,
    /// The copy that cannot be read and what is wrong with it: normal after a
    /// crash in an update, else damage that this pair has survived.
    pub damaged: Option<(u8, Damage)>,
}

/// Decides which record of a pair counts. An error when both are damaged, or
/// when they are of two datasets of which the older one was not removed.
///
/// A damaged copy beside an empty one is a creation that a crash cut short:
/// the pair is free.
pub fn choose(a: &[u8], b: &[u8]) -> Result<Pair, RecordError> {
    let read = |bytes| match DatasetRecord::decode(bytes) {
        Ok(record) => Ok(Ok(record)),
        Err(RecordError::Damaged(damage)) => Ok(Err(damage)),
        Err(error @ RecordError::NoMemory) => Err(error),
    };
    let pair = |record, next, damaged| {
        Ok(Pair {
            record,
            next,
            damaged,
        })
    };
    match (read(a)?, read(b)?) {
        (Ok(None), Ok(b)) => pair(b, 0, None),
        (Ok(a), Ok(None)) => pair(a, 1, None),
        (Ok(Some(a)), Ok(Some(b))) => {
            let (newer, older, next) = match b.sequence > a.sequence {
                true => (b, a, 0),
                false => (a, b, 1),
            };
            // A pair whose dataset was removed and forgotten may be taken by another one.
            if newer.id != older.id && !(older.tombstone && newer.sequence > older.sequence) {
                return Err(Damage::Field("dataset id").into());
            }
            pair(Some(newer), next, None)
        }
        (Err(damage), Ok(b)) => pair(b, 0, Some((0, damage))),
        (Ok(a), Err(damage)) => pair(a, 1, Some((1, damage))),
        (Err(damage), Err(_)) => Err(damage.into()),
    }
}
