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
//! 48       zero
//! 60  u32  crc32c of bytes 8..60 and of the page's number (u64)
//! ```
//!
//! Order of stores: a page is filled and its slot's body is written while the
//! state word is durably FREE; both are persisted; then the word is swung to
//! STAGED or COMMITTED, and from STAGED to COMMITTED or FREE. The word FREE is
//! persisted before body or page are used again.

use super::{
    array_at, crc32c, line_is_sealed, put, seal_line, u32_at, u64_at, word::StateWord, Cid, Damage,
    BODY_SIZE, LINE_SIZE,
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
}

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

/// A slot that is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    /// What the page holds.
    pub of: PageVersion,
    /// crc32c of the page's 4,096 bytes.
    pub data_crc: u32,
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
