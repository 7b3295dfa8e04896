// SPDX-License-Identifier: GPL-2.0

//! State words: the 8 bytes whose atomic store makes a structure valid.
//!
//! ```text
//! bits  0..16  code of the state
//! bits 16..32  low bits of the number that grows: version of the page, counter of the commit
//! bits 32..64  crc32c of what the structure says, and of its place
//! ```
//!
//! The word 0 is "free". Any two codes differ in at least eight bits, so that a
//! damaged word is never taken for another state; and a word that arrived
//! without the content it was made for belongs to no content.

/// A state word as it stands on the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateWord(pub u64);

impl StateWord {
    /// Free, empty: nothing in the rest of the structure means anything.
    pub const FREE: StateWord = StateWord(0);

    /// The word of state `code`, for a structure that counts `number` and whose
    /// content has the checksum `check`.
    pub(super) fn new(code: u16, number: u64, check: u32) -> Self {
        Self(u64::from(code) | ((number & 0xffff) << 16) | (u64::from(check) << 32))
    }

    /// The code of the state.
    pub(super) fn code(self) -> u16 {
        self.0 as u16
    }

    /// In how many bits two words differ.
    pub fn distance(self, other: StateWord) -> u32 {
        (self.0 ^ other.0).count_ones()
    }
}
