// SPDX-License-Identifier: GPL-2.0

//! The messages of phase 1: a share goes to its owner in as many as it takes.

use super::{
    super::{
        format::Cid,
        handler,
        host::{Call, CallError, Host, Piece},
        msg::{Prepare, PrepareData, Request},
        node::{Notice, NoticeKind},
    },
    Share, Terms,
};
use kernel::prelude::*;

/// What a span takes in a message, and what a [`Prepare`] takes at most beside its spans.
const SPAN_HEAD: usize = 20;
const PREPARE_HEAD: usize = 128 + 8 * MAX_RELEASES;
/// Most commits that one [`Prepare`] releases.
const MAX_RELEASES: usize = 64;

/// A message of a share: some of its areas.
pub(super) struct Letter<'a> {
    header: KVec<u8>,
    data: KVec<Piece<'a>>,
}

/// The messages that prepare a share; the last one is the `Prepare`.
pub(super) fn letters<'a, H: Host>(
    host: &H,
    share: &Share<'a>,
    terms: &Terms<'_>,
    released: &[Cid],
) -> Result<KVec<Letter<'a>>> {
    let (epoch, max_msg) = host.with(|node| (node.map.epoch, node.config.max_msg));
    let room = max_msg.saturating_sub(PREPARE_HEAD + 2 * terms.owners.len());
    let mut letters = KVec::new();
    let mut rest = &share.areas[..];
    loop {
        let mut size = 0;
        let count = rest
            .iter()
            .take_while(|area| {
                size += SPAN_HEAD + area.bytes.len();
                size <= room
            })
            .count();
        let (these, more) = rest.split_at(count);
        if count == 0 {
            return Err(EMSGSIZE);
        }
        let mut spans = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut data = KVec::with_capacity(count, GFP_KERNEL)?;
        for area in these {
            spans.push(area.span(), GFP_KERNEL)?;
            data.push(area.bytes, GFP_KERNEL)?;
        }
        let last = more.is_empty();
        let header = if last {
            let mut known = KVec::new();
            known.extend_from_slice(released, GFP_KERNEL)?;
            let mut owners = KVec::new();
            owners.extend_from_slice(terms.owners, GFP_KERNEL)?;
            Prepare {
                cid: terms.cid,
                nr_owners: terms.nr_owners,
                replicas: terms.replicas,
                budget_ms: handler::budget_ms(host, terms.until),
                wait: terms.wait,
                ahead: letters.len() as u32,
                release: terms.release,
                owners,
                released: known,
                spans,
            }
            .encode(epoch)?
        } else {
            PrepareData {
                cid: terms.cid,
                number: letters.len() as u32,
                spans,
            }
            .encode(epoch)?
        };
        letters.push(Letter { header, data }, GFP_KERNEL)?;
        if last {
            return Ok(letters);
        }
        rest = more;
    }
}

/// Sends the data that goes ahead; returns the `Prepare`.
pub(super) async fn send_ahead<'a, H: Host>(
    host: &H,
    owner: u32,
    mut letters: KVec<Letter<'a>>,
    until: u64,
) -> Result<Letter<'a>, CallError> {
    let last = letters.pop().ok_or(CallError::NotExecuted(EINVAL))?;
    for letter in &letters {
        let mut calls = [call_of(owner, letter, until).map_err(CallError::NotExecuted)?];
        host.call(&mut calls).await;
        let [call] = calls;
        handler::reply_of::<PrepareData>(&call)?;
    }
    Ok(last)
}

pub(super) fn call_of<'a>(owner: u32, letter: &'a Letter<'_>, until: u64) -> Result<Call<'a>> {
    let mut request = KVec::with_capacity(1 + letter.data.len(), GFP_KERNEL)?;
    request.push(Piece::Bytes(&letter.header), GFP_KERNEL)?;
    request.extend_from_slice(&letter.data, GFP_KERNEL)?;
    handler::call(owner, request, 64, until)
}

/// Commits at an owner whose outcome we know, which it may forget.
pub(super) fn releases_for<H: Host>(host: &H, owner: u32) -> Result<KVec<Cid>> {
    let mut cids = KVec::new();
    host.with(|node| {
        let of = |n: &&Notice| n.node == owner && n.kind == NoticeKind::Release;
        for notice in node.notices.iter().filter(of).take(MAX_RELEASES) {
            cids.push(notice.cid, GFP_KERNEL)?;
        }
        Ok(cids)
    })
}
