// SPDX-License-Identifier: GPL-2.0

//! The bytes of a commit of ours while it is in flight. An owner that stages the commit's pages
//! here, as at every node that has copies of them, leaves out the bytes that it has from us: we
//! stage those we sent.
//!
//! They are in the entry of the commit in [`Node`]'s table, which is taken out, or replaced by the
//! decision, before the commit's pages are thawed. Who finds them there copies them with the mutex
//! held: so they are what the pages had when they were frozen, whatever is stored afterwards, and
//! however late a message of the commit comes. The owner says their checksum besides. A commit that
//! is not there any more, or has other bytes, has none for it: the owner is asked for the page.

use super::{
    area::{Area, Span},
    format::{crc32c, Cid, PAGE_SIZE},
    host::{Host, Level, Piece},
    msg::Stage,
    node::{Commit, Node},
};
use kernel::prelude::*;

/// What a commit in flight sends to other nodes.
#[derive(Default)]
pub struct Draft {
    /// In order.
    parts: KVVec<Part>,
    /// Of [`Source::Memory`].
    bytes: KVVec<u8>,
}

struct Part {
    span: Span,
    source: Source,
}

/// Where bytes are.
enum Source {
    /// In the dirty copy of a frozen page: offset on the device.
    Pm(u64),
    /// From here on in [`Draft::bytes`].
    Memory(usize),
    Zeros,
}

impl Draft {
    /// Of areas of frozen pages that go to other owners. Empty when no owner has a reason to stage
    /// them here, and when there is no memory: then owners are asked for what they leave out.
    pub(super) fn of<'a, 'b: 'a, H: Host>(
        host: &H,
        areas: impl Iterator<Item = &'a Area<'b>> + Clone,
        replicas: u32,
    ) -> Self {
        let has_copy = |node: &Node, area: &Area<'_>| {
            let page = node.pages.get(area.key);
            page.is_some_and(|page| page.clean.is_some() || page.dirty.is_some())
        };
        let mut copies = areas.clone();
        match replicas > 1 || host.with(|node| copies.any(|area| has_copy(node, area))) {
            true => Self::try_of(areas).unwrap_or_default(),
            false => Self::default(),
        }
    }

    fn try_of<'a, 'b: 'a>(areas: impl Iterator<Item = &'a Area<'b>> + Clone) -> Result<Self> {
        let mut draft = Self::default();
        let in_memory = |area: &Area<'_>| match area.bytes {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Pm { .. } | Piece::Zeros(_) => 0,
        };
        let len = areas.clone().map(in_memory).sum();
        draft.bytes.reserve(len, GFP_KERNEL)?;
        draft.parts.reserve(areas.clone().count(), GFP_KERNEL)?;
        for area in areas {
            let source = match area.bytes {
                Piece::Pm { offset, .. } => Source::Pm(offset),
                Piece::Bytes(bytes) => {
                    let at = draft.bytes.len();
                    draft.bytes.extend_from_slice(bytes, GFP_KERNEL)?;
                    Source::Memory(at)
                }
                Piece::Zeros(_) => Source::Zeros,
            };
            let span = area.span();
            draft.parts.push(Part { span, source }, GFP_KERNEL)?;
        }
        draft.parts.sort_unstable_by_key(|part| part.span);
        Ok(draft)
    }

    /// Reads the bytes of a span; `to` is as long. `None` when some are not of the commit.
    fn read<H: Host>(&self, host: &H, span: &Span, to: &mut [u8]) -> Option<()> {
        let from = usize::from(span.offset);
        let mut at = from;
        let before = |part: &Part| {
            part.span.key < span.key || part.span.key == span.key && part.span.end() <= from
        };
        let first = self.parts.partition_point(before);
        for part in self.parts.get(first..)? {
            let skip = at.checked_sub(usize::from(part.span.offset));
            let (Some(skip), true) = (skip, at < span.end() && part.span.key == span.key) else {
                break;
            };
            let len = span.end().min(part.span.end()).checked_sub(at)?;
            let to = to.get_mut(at - from..at - from + len)?;
            match part.source {
                // A bad line is the owner's to make good.
                Source::Pm(offset) => host.read(offset + skip as u64, to).ok()?,
                Source::Memory(first) => {
                    let first = first + skip;
                    to.copy_from_slice(self.bytes.get(first..first + len)?);
                }
                Source::Zeros => to.fill(0),
            }
            at += len;
        }
        (at == span.end()).then_some(())
    }
}

/// What the sender of a [`Stage`] left out.
pub(super) struct LeftOut {
    /// One page's bytes behind the other's, in the order of the message.
    pub(super) bytes: KVVec<u8>,
    /// Of each page of the message: whether its bytes came with it, or are in `bytes`; else there
    /// is something else in their place.
    pub(super) there: KVec<bool>,
}

/// Finds the bytes that the sender of a [`Stage`] left out, in our commit. `page` has room for a
/// page. EBADMSG when the message makes no sense.
pub(super) fn left_out<H: Host>(host: &H, stage: &Stage, page: &mut [u8]) -> Result<LeftOut> {
    let most = host.with(|node| node.config.max_msg);
    let mut left_out = LeftOut {
        bytes: KVVec::new(),
        there: KVec::with_capacity(stage.pages.len(), GFP_KERNEL)?,
    };
    let mut rest = &stage.spans[..];
    for of in &stage.pages {
        let (spans, behind) = rest.split_at_checked(of.nr_spans as usize).ok_or(EBADMSG)?;
        rest = behind;
        let Some(crc) = of.draft else {
            left_out.there.push(true, GFP_KERNEL)?;
            continue;
        };
        let all = [Span {
            key: of.key,
            offset: 0,
            len: PAGE_SIZE as u16,
        }];
        let spans = if of.whole { &all } else { spans };
        let len: usize = spans.iter().map(|span| usize::from(span.len)).sum();
        let from = left_out.bytes.len();
        // As much as could have been sent.
        if len > PAGE_SIZE || from + len > most {
            return Err(EBADMSG);
        }
        let page = page.get_mut(..len).ok_or(EBADMSG)?;
        let found = host.with(|node| node.read_draft(host, stage.cid, spans, page));
        let there = found.is_some() && crc32c(page) == crc;
        if found.is_some() && !there {
            host.log(
                Level::Warning,
                format_args!(
                    "page {} of dataset {} changed in commit {:#x}: its owner is asked for it",
                    of.key.page, of.key.dataset, stage.cid.0
                ),
            );
        }
        left_out.bytes.extend_from_slice(page, GFP_KERNEL)?;
        left_out.there.push(there, GFP_KERNEL)?;
    }
    Ok(left_out)
}

impl Node {
    /// Reads the bytes of spans from a commit of ours, one behind the other. `None` when it is not
    /// in flight (any more), or has not all of them.
    fn read_draft<H: Host>(
        &self,
        host: &H,
        cid: Cid,
        spans: &[Span],
        mut to: &mut [u8],
    ) -> Option<()> {
        let Some(Commit::Active(draft)) = self.commits.get(&cid) else {
            return None;
        };
        for span in spans {
            let (these, rest) = to.split_at_mut_checked(usize::from(span.len))?;
            draft.read(host, span, these)?;
            to = rest;
        }
        Some(())
    }
}

/// What a [`Stage`] says of areas of one page (in order) that it leaves out; `None` when they are
/// to be sent.
pub(super) fn crc_of(areas: &[Area<'_>]) -> Result<Option<u32>> {
    let mut parts = KVec::with_capacity(areas.len(), GFP_KERNEL)?;
    for area in areas {
        match area.bytes {
            Piece::Bytes(bytes) => parts.push(bytes, GFP_KERNEL)?,
            // Of our own commit.
            Piece::Pm { .. } | Piece::Zeros(_) => return Ok(None),
        }
    }
    Ok(Some(crc32c::of(&parts)))
}
