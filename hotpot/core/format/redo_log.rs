// SPDX-License-Identifier: GPL-2.0

//! The redo log of an owner node: what it promised to do, and whether the
//! promise became an order.
//!
//! The log is a row of 4 KiB blocks and, in a region of its own, one 64-byte
//! descriptor for each block. A record takes consecutive blocks; the descriptor
//! of the first one describes it, those of the others are EMPTY. The blocks
//! hold only entries and data, never anything that says "here is a record", so
//! a scan cannot take data for a record.
//!
//! ```text
//! descriptor                                    blocks of a record
//!  0  u64  state word                           entries, 40 bytes each
//!  8  u32  magic "HPRL"                         data bytes: with several owner nodes
//!                                                their ids, u16 each; else none
//! 12  u32  crc32c of the entries
//! 16  u64  CID (its node is the CN)             entry
//! 24  u64  epoch of the map                      0  u64  dataset id
//! 32  u32  owner nodes in the commit             8  u64  page index in the dataset
//! 36  u32  replicas asked for                   16  u64  base version
//! 40  u32  entries                              24  u64  PM page of the staged version,
//! 44  u32  data bytes                                    or 2^64 - 1 when there is none
//! 48  u32  crc32c of the data bytes             32  u16  offset in the page
//! 52       zero                                 34  u16  bytes, 1 to 4,096
//! 60  u32  crc32c of bytes 8..60 and            36       zero
//!          of the first block's number (u64)
//! ```
//!
//! Order of stores: blocks and descriptor are written while the descriptor's
//! word is durably EMPTY; all is persisted; then the word is swung to PREPARED,
//! then to COMMITTED or EMPTY. EMPTY is persisted before the blocks or the
//! descriptor are used again.

use super::{
    array_at, crc32c, line_is_sealed, put, seal_line, u16_at, u32_at, u64_at, word::StateWord, Cid,
    Damage, Geometry, BODY_SIZE, LINE_SIZE, PAGE_BYTES, PAGE_SIZE,
};

/// "HPRL"
pub const MAGIC: u32 = u32::from_le_bytes(*b"HPRL");
/// Bytes of an entry.
pub const ENTRY_SIZE: usize = 40;
/// [`Entry::staged`] of an entry without a staged page.
pub const NO_PAGE: u64 = u64::MAX;

mod at {
    pub(super) const MAGIC: usize = 8;
    pub(super) const ENTRIES_CRC: usize = 12;
    pub(super) const CID: usize = 16;
    pub(super) const EPOCH: usize = 24;
    pub(super) const NR_OWNERS: usize = 32;
    pub(super) const REPLICAS: usize = 36;
    pub(super) const NR_ENTRIES: usize = 40;
    pub(super) const DATA_LEN: usize = 44;
    pub(super) const DATA_CRC: usize = 48;
}

mod entry_at {
    pub(super) const DATASET: usize = 0;
    pub(super) const PAGE: usize = 8;
    pub(super) const BASE_VERSION: usize = 16;
    pub(super) const STAGED: usize = 24;
    pub(super) const OFFSET: usize = 32;
    pub(super) const LEN: usize = 34;
}

/// State of a record; EMPTY is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum State {
    /// Promised: can be done, and is not decided here.
    Prepared = 0x3c5a,
    /// Decided: must be done.
    Committed = 0xc3a5,
}

/// What a record is about: what the protocol knows before a byte is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedoRecord {
    /// The commit; its node is the CN.
    pub cid: Cid,
    /// Epoch of the map in which it was prepared.
    pub epoch: u64,
    /// Owner nodes in the commit; with one, the decision is this record's word.
    pub nr_owners: u32,
    /// Persistent copies asked for.
    pub replicas: u32,
    /// Entries.
    pub nr_entries: u32,
    /// Bytes of data behind the entries.
    pub data_len: u32,
}

/// A descriptor that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The record.
    pub of: RedoRecord,
    /// crc32c of all bytes of the entries.
    pub entries_crc: u32,
    /// crc32c of the data bytes.
    pub data_crc: u32,
}

impl RedoRecord {
    /// Bytes of all entries: where the data begins in the record.
    pub fn entries_len(&self) -> u64 {
        u64::from(self.nr_entries) * ENTRY_SIZE as u64
    }

    /// Consecutive blocks that the record takes, at least one.
    pub fn nr_blocks(&self) -> u64 {
        (self.entries_len() + u64::from(self.data_len))
            .div_ceil(PAGE_BYTES)
            .max(1)
    }

    /// The word that gives the record that begins at block `block` the state `state`.
    pub fn word(&self, block: u64, state: State) -> StateWord {
        let check = crc32c::of(&[
            &block.to_le_bytes(),
            &self.cid.0.to_le_bytes(),
            &self.epoch.to_le_bytes(),
            &self.nr_owners.to_le_bytes(),
            &self.replicas.to_le_bytes(),
            &self.nr_entries.to_le_bytes(),
            &self.data_len.to_le_bytes(),
        ]);
        StateWord::new(state as u16, self.cid.counter(), check)
    }
}

impl Descriptor {
    /// What stands behind the state word in the descriptor of block `block`.
    pub fn encode(&self, block: u64) -> [u8; BODY_SIZE] {
        let mut line = [0; LINE_SIZE];
        put(&mut line, at::MAGIC, &MAGIC.to_le_bytes());
        put(&mut line, at::ENTRIES_CRC, &self.entries_crc.to_le_bytes());
        put(&mut line, at::CID, &self.of.cid.0.to_le_bytes());
        put(&mut line, at::EPOCH, &self.of.epoch.to_le_bytes());
        put(&mut line, at::NR_OWNERS, &self.of.nr_owners.to_le_bytes());
        put(&mut line, at::REPLICAS, &self.of.replicas.to_le_bytes());
        put(&mut line, at::NR_ENTRIES, &self.of.nr_entries.to_le_bytes());
        put(&mut line, at::DATA_LEN, &self.of.data_len.to_le_bytes());
        put(&mut line, at::DATA_CRC, &self.data_crc.to_le_bytes());
        seal_line(line, block)
    }

    /// What the body says, whatever the state word. The record may reach beyond
    /// the log; [`Descriptor::decode`] checks that.
    pub fn decode_body(block: u64, line: &[u8; LINE_SIZE]) -> Result<Descriptor, Damage> {
        if u32_at(line, at::MAGIC) != MAGIC {
            return Err(Damage::Magic);
        }
        if !line_is_sealed(line, block) {
            return Err(Damage::Checksum);
        }
        let descriptor = Descriptor {
            of: RedoRecord {
                cid: Cid(u64_at(line, at::CID)),
                epoch: u64_at(line, at::EPOCH),
                nr_owners: u32_at(line, at::NR_OWNERS),
                replicas: u32_at(line, at::REPLICAS),
                nr_entries: u32_at(line, at::NR_ENTRIES),
                data_len: u32_at(line, at::DATA_LEN),
            },
            entries_crc: u32_at(line, at::ENTRIES_CRC),
            data_crc: u32_at(line, at::DATA_CRC),
        };
        if descriptor.of.nr_owners == 0 {
            return Err(Damage::Field("number of owner nodes"));
        }
        if descriptor.of.replicas == 0 {
            return Err(Damage::Field("replicas"));
        }
        Ok(descriptor)
    }

    /// Reads the descriptor of block `block`; `None` when it is empty.
    ///
    /// In a scan the next descriptor to read is the one after the record's last
    /// block: [`RedoRecord::nr_blocks`] further.
    pub fn decode(
        geometry: &Geometry,
        block: u64,
        bytes: &[u8],
    ) -> Result<Option<(State, Descriptor)>, Damage> {
        if bytes.len() < LINE_SIZE {
            return Err(Damage::Short);
        }
        let line: [u8; LINE_SIZE] = array_at(bytes, 0);
        let word = StateWord(u64_at(&line, 0));
        if word == StateWord::FREE {
            return Ok(None);
        }
        let state = [State::Prepared, State::Committed]
            .into_iter()
            .find(|state| *state as u16 == word.code())
            .ok_or(Damage::Word)?;
        let descriptor = Descriptor::decode_body(block, &line)?;
        if word != descriptor.of.word(block, state) {
            return Err(Damage::Word);
        }
        if block.saturating_add(descriptor.of.nr_blocks()) > geometry.nr_log_blocks() {
            return Err(Damage::Field("length"));
        }
        Ok(Some((state, descriptor)))
    }

    /// Whether `entries` and `data`, the bytes of the record, are as they were written.
    pub fn check(&self, entries: &[u8], data: &[u8]) -> Result<(), Damage> {
        if entries.len() as u64 != self.of.entries_len()
            || data.len() as u64 != u64::from(self.of.data_len)
        {
            return Err(Damage::Short);
        }
        if crc32c(entries) != self.entries_crc || crc32c(data) != self.data_crc {
            return Err(Damage::Checksum);
        }
        Ok(())
    }
}

/// Bytes of one page that a commit changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Id of the dataset.
    pub dataset: u64,
    /// Index of the page in the dataset.
    pub page: u64,
    /// Committed version of the page when the commit was prepared; 0: never written.
    pub base_version: u64,
    /// PM page with the staged new version, or [`NO_PAGE`].
    pub staged: u64,
    /// First byte in the page.
    pub offset: u16,
    /// Bytes, 1 to 4,096, not beyond the end of the page.
    pub len: u16,
}

impl Entry {
    /// The entry's bytes.
    pub fn encode(&self) -> [u8; ENTRY_SIZE] {
        let mut bytes = [0; ENTRY_SIZE];
        put(&mut bytes, entry_at::DATASET, &self.dataset.to_le_bytes());
        put(&mut bytes, entry_at::PAGE, &self.page.to_le_bytes());
        put(
            &mut bytes,
            entry_at::BASE_VERSION,
            &self.base_version.to_le_bytes(),
        );
        put(&mut bytes, entry_at::STAGED, &self.staged.to_le_bytes());
        put(&mut bytes, entry_at::OFFSET, &self.offset.to_le_bytes());
        put(&mut bytes, entry_at::LEN, &self.len.to_le_bytes());
        bytes
    }

    /// Reads an entry and checks that its page exists on the device.
    /// The entries' checksum is in the [descriptor](Descriptor::check).
    pub fn decode(geometry: &Geometry, bytes: &[u8]) -> Result<Entry, Damage> {
        if bytes.len() < ENTRY_SIZE {
            return Err(Damage::Short);
        }
        let entry = Entry {
            dataset: u64_at(bytes, entry_at::DATASET),
            page: u64_at(bytes, entry_at::PAGE),
            base_version: u64_at(bytes, entry_at::BASE_VERSION),
            staged: u64_at(bytes, entry_at::STAGED),
            offset: u16_at(bytes, entry_at::OFFSET),
            len: u16_at(bytes, entry_at::LEN),
        };
        if entry.dataset == 0 {
            return Err(Damage::Field("dataset"));
        }
        if entry.len == 0 || usize::from(entry.offset) + usize::from(entry.len) > PAGE_SIZE {
            return Err(Damage::Field("length"));
        }
        if entry.staged != NO_PAGE && entry.staged >= geometry.nr_pages() {
            return Err(Damage::Field("staged page"));
        }
        Ok(entry)
    }
}
