// SPDX-License-Identifier: GPL-2.0

//! Questions to many nodes, at once: what takes a round trip with one takes no more with all.

use super::{
    handler,
    host::{Call, CallError, Host, PageKey, Piece},
    msg::Request,
    node::{Holder, Node},
};
use kernel::prelude::*;

/// The first page of all.
pub(super) const FIRST: PageKey = PageKey {
    dataset: 0,
    page: 0,
};

/// Room for an answer in [`by_pages`].
const ROOM: usize = 8192;
/// Room for an answer that has a few words.
const FEW: usize = 64;

impl Node {
    /// All other nodes that the map has up.
    pub(super) fn others(&self) -> Result<KVec<u32>> {
        let mut others = KVec::with_capacity(self.map.peers.len(), GFP_KERNEL)?;
        for peer in self.map.up().filter(|peer| peer.id != self.id()) {
            others.push(peer.id, GFP_KERNEL)?;
        }
        Ok(others)
    }
}

/// Tells or asks nodes the same, whose answers have a few words; the answers in the order of `ids`.
/// `until` is the deadline, ns.
pub(super) async fn each<'a, H: Host, R: Request<'a>>(
    host: &H,
    ids: &[u32],
    request: &R,
    until: u64,
) -> Result<KVec<Result<R::Reply, CallError>>> {
    let epoch = host.with(|node| node.map.epoch);
    let header = request.encode(epoch)?;
    let mut calls = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    for id in ids {
        calls.push(to(*id, &header, FEW, until)?, GFP_KERNEL)?;
    }
    let mut answers = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    if !calls.is_empty() {
        host.call(&mut calls).await;
    }
    for call in &calls {
        answers.push(handler::reply_of::<R>(call), GFP_KERNEL)?;
    }
    Ok(answers)
}

/// Asks nodes for all that they have of something, in the order of pages. An answer holds a part
/// of that: who has more is asked again from there on, with the others that do.
///
/// `ask` makes the request for what a node has from a page on. `hear` gets each answer, with the node in the
/// life that was asked, and returns the last page of a part after which there may be more; its error ends all.
/// However many parts there are, each message has a deadline of its own, at most `until`, ns.
pub(super) async fn by_pages<'a, H: Host, R: Request<'a>>(
    host: &H,
    ids: &[u32],
    until: u64,
    ask: impl Fn(PageKey) -> R,
    mut hear: impl FnMut(Holder, Result<R::Reply, CallError>) -> Result<Option<PageKey>>,
) -> Result {
    let mut rest: KVec<(u32, Option<PageKey>)> = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    for id in ids {
        rest.push((*id, Some(FIRST)), GFP_KERNEL)?;
    }
    while !rest.is_empty() {
        let until = handler::call_until(host, until);
        let mut asked = KVec::with_capacity(rest.len(), GFP_KERNEL)?;
        let mut headers: KVec<KVec<u8>> = KVec::with_capacity(rest.len(), GFP_KERNEL)?;
        let epoch = host.with(|node| {
            for (id, _) in &rest {
                asked.push(node.holder(*id), GFP_KERNEL)?;
            }
            Ok::<_, Error>(node.map.epoch)
        })?;
        for (_, from) in &rest {
            headers.push(ask(from.unwrap_or(FIRST)).encode(epoch)?, GFP_KERNEL)?;
        }
        let mut calls = KVec::with_capacity(rest.len(), GFP_KERNEL)?;
        for ((id, _), header) in rest.iter().zip(&headers) {
            calls.push(to(*id, header, ROOM, until)?, GFP_KERNEL)?;
        }
        host.call(&mut calls).await;
        for (((_, from), call), holder) in rest.iter_mut().zip(&calls).zip(&asked) {
            let last = hear(*holder, handler::reply_of::<R>(call))?;
            *from = last.map(|last| PageKey {
                page: last.page.saturating_add(1),
                ..last
            });
        }
        rest.retain(|(_, from)| from.is_some());
    }
    Ok(())
}

fn to(id: u32, header: &[u8], room: usize, until: u64) -> Result<Call<'_>> {
    let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
    request.push(Piece::Bytes(header), GFP_KERNEL)?;
    handler::call(id, request, room, until)
}
