// SPDX-License-Identifier: GPL-2.0

//! What nodes say to each other about locks and barriers, as payload of calls of one port. Integers
//! are little-endian; Documentation/region-wire-format.md has the byte tables. Decoding is total.

use super::{
    super::{
        class::Class,
        holder::{Name, NAME_MAX},
    },
    Verdict,
};
use kernel::prelude::*;

/// Bytes of a request.
pub const REQUEST_LEN: usize = 104;
/// Bytes of a reply.
pub const REPLY_LEN: usize = 24;

/// What is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A lock.
    Lock,
    /// A barrier of so many.
    Barrier {
        /// Participants.
        count: u32,
    },
}

/// What is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The holder wants it.
    Enter {
        /// At once or not at all.
        now_or_never: bool,
        /// It waits for so long, in ms.
        budget_ms: u32,
    },
    /// How does it stand?
    State,
    /// The holder gives it up.
    Leave {
        /// An `Enter` of it may be under way still: it must not be let in any more.
        late: bool,
    },
    /// From the owner: this came of it.
    Wake(Verdict),
}

/// A request. The holder is the calling node in its present life, with this tag (for `Wake`: the
/// called node).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// What it is about.
    pub what: What,
    /// And what.
    pub ask: Ask,
    /// The holder's, in which it is woken.
    pub class: Class,
    /// The holder's tag.
    pub tag: u64,
    /// Life of the owner for which the tag is; 0 for whichever.
    pub life: u64,
    /// Name of the lock or barrier.
    pub name: Name,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(there) = bytes.get(at..at + 8) {
        word.copy_from_slice(there);
    }
    u64::from_le_bytes(word)
}

const VERSION: u8 = 1;

/// The state and number of a verdict.
fn encode_verdict(verdict: Verdict) -> (u32, u64) {
    match verdict {
        Verdict::Waiting => (0, 0),
        Verdict::Granted(number) => (1, number),
        Verdict::Failed(e) => (2, u64::from(e.to_errno().unsigned_abs())),
    }
}

fn decode_verdict(state: u32, number: u64) -> Result<Verdict> {
    match state {
        0 if number == 0 => Ok(Verdict::Waiting),
        1 => Ok(Verdict::Granted(number)),
        2 if (1..=4095).contains(&number) => {
            Ok(Verdict::Failed(Error::from_errno(-(number as c_int))))
        }
        _ => Err(EBADMSG),
    }
}

impl Request {
    /// As bytes.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let (what, count) = match self.what {
            What::Lock => (1u8, 0),
            What::Barrier { count } => (2, count),
        };
        let (ask, small, number) = match self.ask {
            Ask::Enter {
                now_or_never,
                budget_ms,
            } => (1u8, u32::from(now_or_never), u64::from(budget_ms)),
            Ask::State => (2, 0, 0),
            Ask::Leave { late } => (3, late.into(), 0),
            Ask::Wake(verdict) => {
                let (state, number) = encode_verdict(verdict);
                (4, state, number)
            }
        };
        let mut bytes = [0; REQUEST_LEN];
        bytes[..4].copy_from_slice(&[ask, VERSION, what, self.class as u8]);
        bytes[4..8].copy_from_slice(&count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tag.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.life.to_le_bytes());
        bytes[24..28].copy_from_slice(&small.to_le_bytes());
        bytes[32..40].copy_from_slice(&number.to_le_bytes());
        bytes[40..].copy_from_slice(&self.name.to_field());
        bytes
    }

    /// `EBADMSG` when it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != REQUEST_LEN {
            return Err(EBADMSG);
        }
        let count = (word(bytes, 0) >> 32) as u32;
        let what = match bytes[2] {
            1 => What::Lock,
            2 => What::Barrier { count },
            _ => return Err(EBADMSG),
        };
        let small = word(bytes, 24) as u32;
        let number = word(bytes, 32);
        let ask = match bytes[0] {
            1 => Ask::Enter {
                now_or_never: small == 1,
                budget_ms: number as u32,
            },
            2 => Ask::State,
            3 => Ask::Leave { late: small == 1 },
            4 => Ask::Wake(decode_verdict(small, number)?),
            _ => return Err(EBADMSG),
        };
        let mut field = [0; NAME_MAX + 1];
        field.copy_from_slice(&bytes[40..]);
        let request = Self {
            what,
            ask,
            class: Class::from_number(bytes[3].into()).map_err(|_| EBADMSG)?,
            tag: word(bytes, 8),
            life: word(bytes, 16),
            name: Name::from_field(&field).map_err(|_| EBADMSG)?,
        };
        if request.name.is_none() || request.encode()[..] != *bytes {
            return Err(EBADMSG);
        }
        Ok(request)
    }
}

/// What the owner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it stands.
    pub verdict: Verdict,
    /// The owner's life.
    pub life: u64,
}

impl Reply {
    /// As bytes.
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let (state, number) = encode_verdict(self.verdict);
        let mut bytes = [0; REPLY_LEN];
        bytes[..4].copy_from_slice(&state.to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..].copy_from_slice(&self.life.to_le_bytes());
        bytes
    }

    /// `EBADMSG` when it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != REPLY_LEN {
            return Err(EBADMSG);
        }
        Ok(Self {
            verdict: decode_verdict(word(bytes, 0) as u32, word(bytes, 8))?,
            life: word(bytes, 16),
        })
    }
}
