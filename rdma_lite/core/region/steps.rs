// SPDX-License-Identifier: GPL-2.0

//! How bytes are moved from one range to another, which may overlap: in steps that fit a buffer, each
//! read whole before it is written, in the order in which nothing is overwritten that is still needed.

use super::Geometry;
use kernel::prelude::*;

/// A part of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where it is read.
    pub from: u64,
    /// Where it is written.
    pub to: u64,
    /// Bytes; not 0.
    pub len: u64,
}

/// The steps of a move.
#[derive(Clone, Debug)]
pub struct Steps {
    from: u64,
    to: u64,
    left: u64,
    most: u64,
    /// From the end to the beginning; then `from` and `to` stay, and `left` shrinks.
    backwards: bool,
}

impl Steps {
    /// Moves `len` bytes from `from` in `src` to `to` in `dst`, which is the `same` region or another,
    /// at most `most` (not 0) at a time. Errors as those of [`Geometry::check`].
    pub fn new(
        (src, from): (Geometry, u64),
        (dst, to): (Geometry, u64),
        len: u64,
        same: bool,
        most: u64,
    ) -> Result<Self> {
        src.check(from, len)?;
        dst.check(to, len)?;
        Ok(Self {
            from,
            to,
            left: len,
            most: most.max(1),
            backwards: same && to > from && to - from < len,
        })
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let len = self.left.min(self.most);
        if len == 0 {
            return None;
        }
        self.left -= len;
        if self.backwards {
            return Some(Step {
                from: self.from + self.left,
                to: self.to + self.left,
                len,
            });
        }
        let step = Step {
            from: self.from,
            to: self.to,
            len,
        };
        self.from += len;
        self.to += len;
        Some(step)
    }
}
