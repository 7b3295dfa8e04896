// SPDX-License-Identifier: GPL-2.0

//! Points at which a node can be made to stop dead, for tests of recovery: the phases of the
//! protocol, by name.
//!
//! What is written to `halt` in debugfs is a point and, behind a blank, how many times it is
//! passed before:
//!
//! ```text
//! fence              every fence that makes something durable
//! send prepare       before the request goes out
//! sent prepare       when its answer is here
//! handle stage       when the request came
//! handled stage 3    before the answer of the fourth one goes back
//! ```

use core::{fmt, str::FromStr};
use kernel::prelude::*;

/// Requests by name, as [`Request::OPCODE`](super::msg::Request::OPCODE) counts them.
const NAMES: [(u16, &str); 26] = [
    (1, "hello"),
    (2, "fetch"),
    (3, "prepare-data"),
    (4, "prepare"),
    (5, "publish"),
    (6, "forget"),
    (7, "ask-outcome"),
    (8, "stage"),
    (9, "settle"),
    (10, "inventory"),
    (11, "ask-records"),
    (12, "set-record"),
    (13, "change-names"),
    (14, "arrive"),
    (15, "retire"),
    (16, "acquire"),
    (17, "release"),
    (18, "ask-grants"),
    (19, "ask-part"),
    (20, "ask-copies"),
    (21, "take-copies"),
    // Its name when it was one page.
    (21, "take-copy"),
    (22, "fate"),
    (23, "ask-trace"),
    (24, "ask-staged"),
    (25, "ask-writers"),
];

/// Where a node is in what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Makes something durable.
    Fence,
    /// Is about to send a request of this opcode.
    Send(u16),
    /// Has its answer.
    Sent(u16),
    /// Is about to execute one.
    Handle(u16),
    /// Has executed it, and not answered.
    Handled(u16),
}

impl Point {
    const KINDS: [(u64, &'static str); 5] = [
        (1, "fence"),
        (2, "send"),
        (3, "sent"),
        (4, "handle"),
        (5, "handled"),
    ];

    fn code(self) -> u64 {
        let (kind, opcode) = match self {
            Self::Fence => (1, 0),
            Self::Send(opcode) => (2, opcode),
            Self::Sent(opcode) => (3, opcode),
            Self::Handle(opcode) => (4, opcode),
            Self::Handled(opcode) => (5, opcode),
        };
        (kind << 16) | u64::from(opcode)
    }
}

/// A point at which to stop, and how often it is passed before; in a word, so that passing a point
/// costs one load as long as there is none. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halt(pub u64);

/// What passing a point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passing {
    /// Nothing: another point is meant, or none.
    On,
    /// It is the point, but not yet the time: this comes in its place.
    Count(Halt),
    /// Stop here.
    Stop,
}

impl Halt {
    const CODE: u32 = 32;

    /// Passes a point.
    pub fn pass(self, point: Point) -> Passing {
        if self.0 == 0 || self.0 & ((1 << Self::CODE) - 1) != point.code() {
            return Passing::On;
        }
        match self.0 >> Self::CODE {
            0 => Passing::Stop,
            times => Passing::Count(Self(point.code() | ((times - 1) << Self::CODE))),
        }
    }
}

impl FromStr for Halt {
    type Err = Error;

    /// EINVAL for what names no point; nothing is none.
    fn from_str(text: &str) -> Result<Self> {
        let mut words = text.split_ascii_whitespace();
        let Some(kind) = words.next() else {
            return Ok(Self(0));
        };
        let (kind, _) = Point::KINDS
            .iter()
            .find(|(_, name)| *name == kind)
            .ok_or(EINVAL)?;
        let opcode = match *kind {
            1 => 0,
            _ => {
                let name = words.next().ok_or(EINVAL)?;
                NAMES
                    .iter()
                    .find(|(_, known)| *known == name)
                    .ok_or(EINVAL)?
                    .0
            }
        };
        let times: u32 = match words.next() {
            Some(times) => times.parse().map_err(|_| EINVAL)?,
            None => 0,
        };
        match words.next() {
            None => Ok(Self(
                (*kind << 16) | u64::from(opcode) | (u64::from(times) << Self::CODE),
            )),
            Some(_) => Err(EINVAL),
        }
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = (self.0 >> 16) & 0xffff;
        let Some((_, kind)) = Point::KINDS.iter().find(|(known, _)| *known == kind) else {
            return f.write_str("none");
        };
        f.write_str(kind)?;
        let opcode = (self.0 & 0xffff) as u16;
        if let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == opcode) {
            write!(f, " {name}")?;
        }
        match self.0 >> Self::CODE {
            0 => Ok(()),
            times => write!(f, " {times}"),
        }
    }
}
