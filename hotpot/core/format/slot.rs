// SPDX-License-Identifier: GPL-2.0

//! Slots: what a data page is, one cache line for each page of the device.
//!
//! ```text
//!  0  u64  state word
//!  8  u32  magic "HPSL"
//! 12  u32  crc32c of the data page
//! 16  u64  dataset id
//! 24  u64  page index in the dataset
//! 32  u64  version
//! 40  u64  CID that made the version
//! 48  u32  pages of its owner in the commit; 0 when it was not staged
//! 52  u16  owner that had it staged
//! 54  u16  owner nodes in the commit; bit 15: it asks for one copy of each page
//! 56  u32  those of them with ids up to 32: bit id - 1
//! 60  u32  crc32c of bytes 8..60 and of the page's number (u64)
//! ```
//!
//! Order of stores: a page is filled and its slot's body is written while the
//! state word is durably FREE; both are persisted; then the word is swung to
//! STAGED or COMMITTED, and from STAGED to COMMITTED or FREE. The word FREE is
//! persisted before body or page are used again.
//!
//! Bytes 48..60 tell what else there must be of a commit whose committing node and owners are
//! lost [2.6.4]. They stay when the version is committed, and mean nothing then.

use super::{
    array_at, crc32c, line_is_sealed, put, seal_line, u16_at, u32_at, u64_at, word::StateWord, Cid,
    Damage, BODY_SIZE, LINE_SIZE,
};

/// "HPSL"
pub const MAGIC: u32 = u32::from_le_bytes(*b"HPSL");

mod at {
    pub(super) const MAGIC: usize = 8;
    pub(super) const DATA_CRC: usize = 12;
    pub(super) const DATASET: usize = 16;
    pub(super) const PAGE: usize = 24;
    pub(super) const VERSION: usize = 32;
    pub(super) const CID: usize = 40;
    pub(super) const PART: usize = 48;
    pub(super) const OWNER: usize = 52;
    pub(super) const NR_OWNERS: usize = 54;
    pub(super) const OWNERS: usize = 56;
    pub(super) const END: usize = 60;
}

/// Bit of the number of owner nodes: one copy of each page.
const ALONE: u16 = 1 << 15;

/// State of a slot that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum State {
    /// Durable, its commit not decided as far as this page tells.
    Staged = 0x5a3c,
    /// A committed copy.
    Committed = 0xa5c3,
}

/// One version of one page of a dataset: what the protocol knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageVersion {
    /// Id of the dataset.
    pub dataset: u64,
    /// Index of the page in the dataset.
    pub page: u64,
    /// Version, from 1.
    pub version: u64,
    /// The commit that made it.
    pub cid: Cid,
}

/// For whom a version was staged, and what else there must be of its commit [2.6.4].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stager {
    /// The owner node that had it staged.
    pub owner: u16,
    /// Pages of that owner in the commit.
    pub pages: u32,
    /// Owner nodes in the commit, from 1.
    pub nr_owners: u16,
    /// Those of them whose ids are at most [`Stager::NAMED`], as [`Stager::bit`]s.
    pub owners: u32,
    /// The commit asks for one copy of each page.
    pub alone: bool,
}

/// A slot that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// What the page holds.
    pub of: PageVersion,
    /// crc32c of the page's 4,096 bytes.
    pub data_crc: u32,
    /// Who had it staged; `None` for a copy that was fetched, or when that is not known.
    pub stager: Option<Stager>,
}

impl Stager {
    /// The highest id of an owner that a slot names besides the one that staged it.
    pub const NAMED: u16 = 32;

    /// That of an owner with `pages` pages in a commit. `owners`: the ids of all when there are
    /// several.
    pub fn new(owner: u16, pages: u32, owners: &[u16], alone: bool) -> Self {
        let named = owners.iter().fold(0, |named, id| named | Self::bit(*id));
        Self {
            owner,
            pages,
            nr_owners: (owners.len() as u16 & !ALONE).max(1),
            owners: named | Self::bit(owner),
            alone,
        }
    }

    /// The bit of an owner; 0 when its id is too high for one.
    pub fn bit(id: u16) -> u32 {
        match id {
            1..=Self::NAMED => 1 << (id - 1),
            _ => 0,
        }
    }

    /// The ids of the owners that are named.
    pub fn named(self) -> impl Iterator<Item = u16> {
        let others = (1..=Self::NAMED).filter(move |id| self.owners & Self::bit(*id) != 0);
        let unnamed = (self.owner > Self::NAMED).then_some(self.owner);
        others.chain(unnamed)
    }

    fn decode(line: &[u8; LINE_SIZE]) -> Result<Option<Stager>, Damage> {
        let count = u16_at(line, at::NR_OWNERS);
        let stager = Stager {
            owner: u16_at(line, at::OWNER),
            pages: u32_at(line, at::PART),
            nr_owners: count & !ALONE,
            owners: u32_at(line, at::OWNERS),
            alone: count & ALONE != 0,
        };
        if line.get(at::PART..at::END) == Some(&[0; at::END - at::PART]) {
            return Ok(None);
        }
        if stager.owner == 0 {
            return Err(Damage::Field("owner node"));
        }
        if stager.pages == 0 {
            return Err(Damage::Field("pages of its owner"));
        }
        let named = stager.named().count();
        let names_itself = stager.owners & Self::bit(stager.owner) == Self::bit(stager.owner);
        if named > usize::from(stager.nr_owners) || !names_itself {
            return Err(Damage::Field("owner nodes"));
        }
        Ok(Some(stager))
    }

    fn encode(&self, line: &mut [u8; LINE_SIZE]) {
        let alone = if self.alone { ALONE } else { 0 };
        put(line, at::PART, &self.pages.to_le_bytes());
        put(line, at::OWNER, &self.owner.to_le_bytes());
        put(line, at::NR_OWNERS, &(self.nr_owners | alone).to_le_bytes());
        put(line, at::OWNERS, &self.owners.to_le_bytes());
    }
}

impl PageVersion {
    /// The word that gives the slot of PM page `pm_page` the state `state`.
    pub fn word(&self, pm_page: u64, state: State) -> StateWord {
        let check = crc32c::of(&[
            &pm_page.to_le_bytes(),
            &self.dataset.to_le_bytes(),
            &self.page.to_le_bytes(),
            &self.version.to_le_bytes(),
            &self.cid.0.to_le_bytes(),
        ]);
        StateWord::new(state as u16, self.version, check)
    }
}

impl Slot {
    /// What stands behind the state word in the slot of PM page `pm_page`.
    pub fn encode(&self, pm_page: u64) -> [u8; BODY_SIZE] {
        let mut line = [0; LINE_SIZE];
        put(&mut line, at::MAGIC, &MAGIC.to_le_bytes());
        put(&mut line, at::DATA_CRC, &self.data_crc.to_le_bytes());
        put(&mut line, at::DATASET, &self.of.dataset.to_le_bytes());
        put(&mut line, at::PAGE, &self.of.page.to_le_bytes());
        put(&mut line, at::VERSION, &self.of.version.to_le_bytes());
        put(&mut line, at::CID, &self.of.cid.0.to_le_bytes());
        if let Some(stager) = &self.stager {
            stager.encode(&mut line);
        }
        seal_line(line, pm_page)
    }

    /// What the body says, whatever the state word; for fsck, which may find a
    /// good body behind a damaged word.
    pub fn decode_body(pm_page: u64, line: &[u8; LINE_SIZE]) -> Result<Slot, Damage> {
        if u32_at(line, at::MAGIC) != MAGIC {
            return Err(Damage::Magic);
        }
        if !line_is_sealed(line, pm_page) {
            return Err(Damage::Checksum);
        }
        let slot = Slot {
            of: PageVersion {
                dataset: u64_at(line, at::DATASET),
                page: u64_at(line, at::PAGE),
                version: u64_at(line, at::VERSION),
                cid: Cid(u64_at(line, at::CID)),
            },
            data_crc: u32_at(line, at::DATA_CRC),
            stager: Stager::decode(line)?,
        };
        if slot.of.version == 0 {
            return Err(Damage::Field("version"));
        }
        if slot.of.dataset == 0 {
            return Err(Damage::Field("dataset"));
        }
        Ok(slot)
    }

    /// Reads the slot of PM page `pm_page`; `None` when it is free.
    pub fn decode(pm_page: u64, bytes: &[u8]) -> Result<Option<(State, Slot)>, Damage> {
        if bytes.len() < LINE_SIZE {
            return Err(Damage::Short);
        }
        let line: [u8; LINE_SIZE] = array_at(bytes, 0);
        let word = StateWord(u64_at(&line, 0));
        if word == StateWord::FREE {
            return Ok(None);
        }
        let state = [State::Staged, State::Committed]
            .into_iter()
            .find(|state| *state as u16 == word.code())
            .ok_or(Damage::Word)?;
        let slot = Slot::decode_body(pm_page, &line)?;
        if word != slot.of.word(pm_page, state) {
            return Err(Damage::Word);
        }
        Ok(Some((state, slot)))
    }
}
