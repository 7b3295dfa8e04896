// SPDX-License-Identifier: GPL-2.0

//! Areas: byte ranges of datasets, whole and cut at page boundaries.

use super::{
    format::{PAGE_BYTES, PAGE_SIZE},
    host::{PageKey, Piece},
};
use kernel::prelude::*;

/// Most areas of one commit (`HOTPOT_MAX_AREAS`).
pub const MAX_AREAS: usize = 65536;

/// Consecutive bytes of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Bytes within one page that a commit publishes.
#[derive(Clone, Copy, Debug)]
pub struct Area<'a> {
    /// The page.
    pub key: PageKey,
    /// First byte in the page.
    pub offset: u16,
    /// The bytes, at most up to the end of the page, not empty.
    pub bytes: Piece<'a>,
}

impl Area<'_> {
    /// What it covers.
    pub fn span(&self) -> Span {
        Span {
            key: self.key,
            offset: self.offset,
            len: self.bytes.len() as u16,
        }
    }
}

/// Bytes within one page, by place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The page.
    pub key: PageKey,
    /// First byte in the page.
    pub offset: u16,
    /// Bytes, 1 to 4,096.
    pub len: u16,
}

impl Span {
    /// The byte behind it, in the page.
    pub fn end(&self) -> usize {
        usize::from(self.offset) + usize::from(self.len)
    }

    /// Whether they share a byte.
    pub fn overlaps(&self, other: &Span) -> bool {
        self.key == other.key
            && usize::from(self.offset) < other.end()
            && usize::from(other.offset) < self.end()
    }
}

/// Checks what a user asks to commit and cuts it at page boundaries, in order.
///
/// EINVAL: none, too many, empty or overlapping ranges; EFAULT: beyond `size`.
pub fn split(dataset: u64, size: u64, ranges: &[ByteRange]) -> Result<KVec<Span>> {
    if ranges.is_empty() || ranges.len() > MAX_AREAS {
        return Err(EINVAL);
    }
    let mut sorted = KVec::with_capacity(ranges.len(), GFP_KERNEL)?;
    for range in ranges {
        if range.len == 0 {
            return Err(EINVAL);
        }
        let end = range.offset.checked_add(range.len).ok_or(EFAULT)?;
        if end > size {
            return Err(EFAULT);
        }
        sorted.push(*range, GFP_KERNEL)?;
    }
    sorted.sort_unstable_by_key(|range| range.offset);
    let mut spans = KVec::new();
    let mut behind = 0;
    for range in &sorted {
        if range.offset < behind {
            return Err(EINVAL);
        }
        behind = range.offset + range.len;
        let mut at = range.offset;
        while at < behind {
            let offset = at % PAGE_BYTES;
            let len = (PAGE_BYTES - offset).min(behind - at);
            spans.push(
                Span {
                    key: PageKey {
                        dataset,
                        page: at / PAGE_BYTES,
                    },
                    offset: offset as u16,
                    len: len as u16,
                },
                GFP_KERNEL,
            )?;
            at += len;
        }
    }
    Ok(spans)
}

/// Bytes in which two pages differ, as spans of `key`, in order.
pub fn differences(key: PageKey, new: &[u8], old: &[u8]) -> Result<KVec<Span>> {
    let mut spans = KVec::new();
    let mut begin = None;
    let pairs = new.iter().zip(old).take(PAGE_SIZE);
    for (at, differ) in Iterator::chain(pairs.map(|(a, b)| a != b), [false]).enumerate() {
        match (begin, differ) {
            (None, true) => begin = Some(at),
            (Some(first), false) => {
                spans.push(
                    Span {
                        key,
                        offset: first as u16,
                        len: (at - first) as u16,
                    },
                    GFP_KERNEL,
                )?;
                begin = None;
            }
            _ => {}
        }
    }
    Ok(spans)
}

/// What of `spans` lies outside of `holes`; both of one page and in order.
pub fn without(spans: &[Span], holes: &[Span]) -> Result<KVec<Span>> {
    let mut left = KVec::new();
    for span in spans {
        let mut from = usize::from(span.offset);
        for hole in holes.iter().filter(|hole| hole.overlaps(span)) {
            push_part(&mut left, span, from, usize::from(hole.offset))?;
            from = from.max(hole.end());
        }
        push_part(&mut left, span, from, span.end())?;
    }
    Ok(left)
}

/// The bytes of a page that no span of `spans` (in order) covers.
pub fn gaps(key: PageKey, spans: &[Span]) -> Result<KVec<Span>> {
    let page = Span {
        key,
        offset: 0,
        len: PAGE_SIZE as u16,
    };
    without(&[page], spans)
}

fn push_part(to: &mut KVec<Span>, of: &Span, from: usize, end: usize) -> Result {
    if from < end {
        let span = Span {
            key: of.key,
            offset: from as u16,
            len: (end - from) as u16,
        };
        to.push(span, GFP_KERNEL)?;
    }
    Ok(())
}
