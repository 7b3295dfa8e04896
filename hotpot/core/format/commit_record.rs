// SPDX-License-Identifier: GPL-2.0

//! Commit records of a committing node: with several owner nodes the decision
//! is the state word here. Laid out as the [redo log](super::redo_log) is:
//! blocks, and a descriptor for each block in a region of its own.
//!
//! ```text
//! descriptor                                    blocks of a record
//!  0  u64  state word                           ids of the owner nodes, u16 each,
//!  8  u32  magic "HPCR"                           filled up with zeros to 8 bytes
//! 12  u32  crc32c of the record's bytes         PM pages of the committed data, u64 each
//! 16  u64  CID
//! 24  u64  epoch of the map
//! 32  u32  owner nodes
//! 36  u32  replicas asked for
//! 40  u32  PM pages
//! 44       zero
//! 60  u32  crc32c of bytes 8..60 and
//!          of the first block's number (u64)
//! ```
//!
//! Order of stores: as in the redo log; states EMPTY, PHASE1, DECIDED, DONE,
//! EMPTY, or EMPTY, PHASE1, EMPTY for an aborted commit. A DONE record may be
//! overwritten any time, after it was made EMPTY; until then it can still answer
//! a late question for the outcome.

use super::{
    array_at, crc32c, line_is_sealed, put, seal_line, u16_at, u32_at, u64_at, word::StateWord, Cid,
    Damage, Geometry, BODY_SIZE, LINE_SIZE, PAGE_BYTES,
};

/// "HPCR"
pub const MAGIC: u32 = u32::from_le_bytes(*b"HPCR");

mod at {
    pub(super) const MAGIC: usize = 8;
    pub(super) const CONTENT_CRC: usize = 12;
    pub(super) const CID: usize = 16;
    pub(super) const EPOCH: usize = 24;
    pub(super) const NR_OWNERS: usize = 32;
    pub(super) const REPLICAS: usize = 36;
    pub(super) const NR_PAGES: usize = 40;
}

/// State of a record; EMPTY is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum State {
    /// Owner nodes may have prepared; not decided: aborted after a crash.
    Phase1 = 0x3ca5,
    /// Decided: must be published by all owner nodes.
    Decided = 0xc35a,
    /// All owner nodes have published.
    Done = 0x5ac3,
}

/// A commit, as its committing node records it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// The commit.
    pub cid: Cid,
    /// Epoch of the map in which it began.
    pub epoch: u64,
    /// Owner nodes in the commit.
    pub nr_owners: u32,
    /// Persistent copies asked for.
    pub replicas: u32,
    /// PM pages recorded behind the owner nodes; may be 0.
    pub nr_pages: u32,
}

/// A descriptor that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The record.
    pub of: CommitRecord,
    /// crc32c of [`CommitRecord::content_len`] bytes of its blocks.
    pub content_crc: u32,
}

impl CommitRecord {
    /// Bytes of the ids of owner nodes: where the PM pages begin in the record.
    pub fn owners_len(&self) -> u64 {
        (u64::from(self.nr_owners) * 2).next_multiple_of(8)
    }

    /// Bytes of owner nodes and PM pages.
    pub fn content_len(&self) -> u64 {
        self.owners_len() + u64::from(self.nr_pages) * 8
    }

    /// Consecutive blocks that the record takes, at least one.
    pub fn nr_blocks(&self) -> u64 {
        self.content_len().div_ceil(PAGE_BYTES).max(1)
    }

    /// The word that gives the record that begins at block `block` the state `state`.
    pub fn word(&self, block: u64, state: State) -> StateWord {
        let check = crc32c::of(&[
            &block.to_le_bytes(),
            &self.cid.0.to_le_bytes(),
            &self.epoch.to_le_bytes(),
            &self.nr_owners.to_le_bytes(),
            &self.replicas.to_le_bytes(),
            &self.nr_pages.to_le_bytes(),
        ]);
        StateWord::new(state as u16, self.cid.counter(), check)
    }

    /// Writes the owner nodes and the PM pages to the first
    /// [`CommitRecord::content_len`] bytes of `content`. [`Damage::Short`] when
    /// they do not fit or are not as many as the record says.
    pub fn encode_content(
        &self,
        owners: &[u16],
        pages: &[u64],
        content: &mut [u8],
    ) -> Result<(), Damage> {
        let fits = owners.len() as u64 == u64::from(self.nr_owners)
            && pages.len() as u64 == u64::from(self.nr_pages)
            && content.len() as u64 >= self.content_len();
        let (to_owners, rest) = content
            .split_at_mut_checked(self.owners_len() as usize)
            .filter(|_| fits)
            .ok_or(Damage::Short)?;
        to_owners.fill(0);
        for (to, owner) in to_owners.chunks_exact_mut(2).zip(owners) {
            to.copy_from_slice(&owner.to_le_bytes());
        }
        for (to, page) in rest.chunks_exact_mut(8).zip(pages) {
            to.copy_from_slice(&page.to_le_bytes());
        }
        Ok(())
    }

    /// The owner nodes in the bytes of the record.
    pub fn owners<'a>(&self, content: &'a [u8]) -> impl Iterator<Item = u16> + 'a {
        content
            .chunks_exact(2)
            .take(self.nr_owners as usize)
            .map(|id| u16_at(id, 0))
    }

    /// The PM pages in the bytes of the record. Check them against the geometry.
    pub fn pages<'a>(&self, content: &'a [u8]) -> impl Iterator<Item = u64> + 'a {
        content
            .chunks_exact(8)
            .skip((self.owners_len() / 8) as usize)
            .take(self.nr_pages as usize)
            .map(|page| u64_at(page, 0))
    }
}

impl Descriptor {
    /// What stands behind the state word in the descriptor of block `block`.
    pub fn encode(&self, block: u64) -> [u8; BODY_SIZE] {
        let mut line = [0; LINE_SIZE];
        put(&mut line, at::MAGIC, &MAGIC.to_le_bytes());
        put(&mut line, at::CONTENT_CRC, &self.content_crc.to_le_bytes());
        put(&mut line, at::CID, &self.of.cid.0.to_le_bytes());
        put(&mut line, at::EPOCH, &self.of.epoch.to_le_bytes());
        put(&mut line, at::NR_OWNERS, &self.of.nr_owners.to_le_bytes());
        put(&mut line, at::REPLICAS, &self.of.replicas.to_le_bytes());
        put(&mut line, at::NR_PAGES, &self.of.nr_pages.to_le_bytes());
        seal_line(line, block)
    }

    /// What the body says, whatever the state word. The record may reach beyond
    /// its region; [`Descriptor::decode`] checks that.
    pub fn decode_body(block: u64, line: &[u8; LINE_SIZE]) -> Result<Descriptor, Damage> {
        if u32_at(line, at::MAGIC) != MAGIC {
            return Err(Damage::Magic);
        }
        if !line_is_sealed(line, block) {
            return Err(Damage::Checksum);
        }
        let descriptor = Descriptor {
            of: CommitRecord {
                cid: Cid(u64_at(line, at::CID)),
                epoch: u64_at(line, at::EPOCH),
                nr_owners: u32_at(line, at::NR_OWNERS),
                replicas: u32_at(line, at::REPLICAS),
                nr_pages: u32_at(line, at::NR_PAGES),
            },
            content_crc: u32_at(line, at::CONTENT_CRC),
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
    /// block: [`CommitRecord::nr_blocks`] further.
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
        let state = [State::Phase1, State::Decided, State::Done]
            .into_iter()
            .find(|state| *state as u16 == word.code())
            .ok_or(Damage::Word)?;
        let descriptor = Descriptor::decode_body(block, &line)?;
        if word != descriptor.of.word(block, state) {
            return Err(Damage::Word);
        }
        if block.saturating_add(descriptor.of.nr_blocks()) > geometry.nr_commit_blocks() {
            return Err(Damage::Field("length"));
        }
        Ok(Some((state, descriptor)))
    }

    /// Whether `content`, the bytes of the record, is as it was written.
    pub fn check(&self, content: &[u8]) -> Result<(), Damage> {
        if content.len() as u64 != self.of.content_len() {
            return Err(Damage::Short);
        }
        if crc32c(content) != self.content_crc {
            return Err(Damage::Checksum);
        }
        Ok(())
    }
}
