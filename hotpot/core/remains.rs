// SPDX-License-Identifier: GPL-2.0

//! What is left of a commit whose committing node cannot say how it ended and one of whose owners
//! is out: the versions that the lost owner had staged at data nodes.
//!
//! With N copies of each page, no owner promises its part before each page of it is staged at N - 1
//! data nodes. So when a page is missing there, the lost owner had not promised, nobody was told
//! that the commit was published, and it is undone. When none is missing it may have been
//! promised: then it counts as promised. The successors of the lost owner and the owners that
//! are left look at the same pages and come to the same end.

use super::{
    cluster::Sender,
    format::Cid,
    handler,
    host::{Host, PageKey, Piece},
    msg::{AskPart, AskStaged, Part, Remains, Request},
    node::{Node, Share},
    resolve,
};
use kernel::prelude::*;

/// Pages in one answer.
const BATCH: usize = 128;
/// Room for it.
const ROOM: usize = 4096;

/// How far lost owners were with their parts of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Somebody has published it.
    Published,
    /// All their pages are there.
    Whole,
    /// Some are there.
    Partial,
    /// None is.
    Nothing,
    /// Some are there; how many there should be nobody knows.
    Unknown,
}

/// What all nodes have of a commit.
#[derive(Default)]
struct Found {
    published: bool,
    parts: KVec<Share>,
    owners: KVec<u16>,
    keys: KVec<PageKey>,
}

impl Found {
    fn add(&mut self, remains: &Remains) -> Result {
        self.published |= remains.published;
        for part in &remains.parts {
            if !self.parts.contains(part) {
                self.parts.push(*part, GFP_KERNEL)?;
            }
        }
        for owner in &remains.owners {
            if !self.owners.contains(owner) {
                self.owners.push(*owner, GFP_KERNEL)?;
            }
        }
        Ok(self.keys.extend_from_slice(&remains.keys, GFP_KERNEL)?)
    }

    fn judge(&mut self) -> Lost {
        self.keys.sort_unstable();
        let keys = self.keys.iter();
        let pages = keys.enumerate().filter(|(nr, key)| {
            // The same page at several nodes counts once.
            nr.checked_sub(1).and_then(|before| self.keys.get(before)) != Some(*key)
        });
        let pages = pages.count() as u64;
        let should: u64 = self.parts.iter().map(|part| u64::from(part.pages)).sum();
        match () {
            () if self.published => Lost::Published,
            () if pages == 0 => Lost::Nothing,
            () if self.parts.is_empty() => Lost::Unknown,
            () if pages >= should => Lost::Whole,
            () => Lost::Partial,
        }
    }
}

/// Asks all nodes what they have of a commit for owners that are out.
async fn find<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Found> {
    let mut found = Found::default();
    let (us, mine, peers) = host.with(|node| {
        let mut peers = KVec::new();
        for peer in node.map.up().filter(|peer| peer.id != node.id()) {
            peers.push(peer.id, GFP_KERNEL)?;
        }
        Ok::<_, Error>((
            node.id(),
            node.remains(cid, first_page(), usize::MAX)?,
            peers,
        ))
    })?;
    found.add(&mine)?;
    for peer in peers.iter().filter(|peer| **peer != us) {
        let mut from = first_page();
        loop {
            let epoch = host.with(|node| node.map.epoch);
            let header = AskStaged { cid, from }.encode(epoch)?;
            let mut request = KVec::new();
            request.push(Piece::Bytes(&header), GFP_KERNEL)?;
            let mut calls = [handler::call(*peer, request, ROOM, until)?];
            host.call(&mut calls).await;
            let [call] = calls;
            let remains = match handler::reply_of::<AskStaged>(&call).map_err(handler::errno) {
                Ok(remains) => remains,
                // Nothing is mounted there.
                Err(EHOSTDOWN) => break,
                Err(error) => return Err(error),
            };
            found.add(&remains)?;
            match remains.keys.last() {
                Some(last) if remains.keys.len() >= BATCH => {
                    from = PageKey {
                        page: last.page.saturating_add(1),
                        ..*last
                    }
                }
                _ => break,
            }
        }
    }
    Ok(found)
}

fn first_page() -> PageKey {
    PageKey {
        dataset: 0,
        page: 0,
    }
}

/// How far the owners of a commit that are out were.
pub(super) async fn look<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Lost> {
    Ok(find(host, cid, until).await?.judge())
}

/// Whether a commit is to be published of which an owner that is out had staged something, and of
/// which its committing node knows nothing (any more). EAGAIN while that is open.
pub(super) async fn is_decided<H: Host>(host: &H, cid: Cid, until: u64) -> Result<bool> {
    let mut found = find(host, cid, until).await?;
    match found.judge() {
        Lost::Published => return Ok(true),
        Lost::Partial => return Ok(false),
        Lost::Whole | Lost::Nothing | Lost::Unknown => {}
    }
    for owner in &found.owners {
        let owner = u32::from(*owner);
        let (us, out) = host.with(|node| (node.us(), node.is_out(owner)));
        if out {
            continue;
        }
        let part = if owner == us.node {
            let epoch = host.with(|node| node.map.epoch);
            let from = Sender {
                node: us.node,
                incarnation: us.incarnation,
                epoch,
            };
            resolve::on_ask_part(host, from, cid)?
        } else {
            let asked = handler::ask(host, owner, &AskPart { cid }, until).await;
            asked.map_err(handler::errno)?
        };
        match part {
            Part::Published => return Ok(true),
            Part::Unknown => return Ok(false),
            Part::Preparing => return Err(EAGAIN),
            Part::Prepared => {}
        }
    }
    Ok(true)
}

impl Node {
    /// Whether the owner of a page is out, or was when the page's chunk was on its way from it.
    fn is_orphan(&self, key: PageKey) -> bool {
        let from = self.names.arriving(key).map(|moved| u32::from(moved.from));
        self.names.is_inherited(key) || from.is_some_and(|from| self.is_out(from))
    }

    /// Whether a version that is staged here was staged by an owner that is out. Who that was the page does not
    /// tell when its chunk has moved since.
    pub(super) fn is_remains(&self, key: PageKey, cid: Cid) -> bool {
        let Some(guest) = self.guests.get(&cid).filter(|of| of.keys.contains(&key)) else {
            return false;
        };
        // The last one: it may have been staged by an owner before, too.
        match guest.stagers.iter().rev().find(|(of, _)| *of == key) {
            Some((_, owner)) => self.is_out(*owner),
            None => self.is_orphan(key),
        }
    }

    fn remains(&self, cid: Cid, from: PageKey, most: usize) -> Result<Remains> {
        let mut remains = Remains {
            published: self.has_published(cid),
            parts: KVec::new(),
            owners: KVec::new(),
            keys: KVec::new(),
        };
        let Some(guest) = self.guests.get(&cid) else {
            return Ok(remains);
        };
        remains
            .owners
            .extend_from_slice(&guest.owners, GFP_KERNEL)?;
        for part in guest.parts.iter().filter(|part| self.is_out(part.owner)) {
            remains.parts.push(*part, GFP_KERNEL)?;
        }
        for key in &guest.keys {
            let page = self.pages.get(*key);
            let mut staged = page.iter().flat_map(|page| page.staged.iter());
            match staged.find(|staged| staged.cid == cid && !staged.cancelled) {
                _ if !self.is_remains(*key, cid) => {}
                Some(staged) if staged.ready => remains.keys.push(*key, GFP_KERNEL)?,
                Some(_) => return Err(EAGAIN),
                None => {}
            }
        }
        remains.keys.sort_unstable();
        let first = remains.keys.partition_point(|key| *key < from);
        let mut keys = KVec::new();
        for key in remains.keys.iter().skip(first).take(most) {
            keys.push(*key, GFP_KERNEL)?;
        }
        remains.keys = keys;
        Ok(remains)
    }
}

/// Tells what we have of a commit. EAGAIN while we do not know yet which owners are out.
pub(super) fn on_ask_staged<H: Host>(host: &H, from: Sender, ask: &AskStaged) -> Result<Remains> {
    host.with(|node| {
        if from.epoch > node.map.epoch {
            return Err(EAGAIN);
        }
        node.remains(ask.cid, ask.from, BATCH)
    })
}
