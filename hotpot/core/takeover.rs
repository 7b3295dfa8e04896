// SPDX-License-Identifier: GPL-2.0

//! Promotion of a data node to owner [2.6.4]: when the map has an owner out, with its PM, each of
//! its chunks has a successor ([`succession`](super::succession)). Before that one serves it asks
//! all other nodes which copies they have, fetches what is newer than its own, and learns who holds
//! what.
//!
//! A node that is out is gone for good; what takes its place has another id.

use super::{
    cluster::Sender,
    format::Cid,
    handler,
    host::{Host, Level, PageKey},
    msg::{self, AskCopies, Copied, Fate, MovedChunk, Outcome},
    node::{Holder, Node, Owned, GENERAL, WORKER},
    remains, survey, take, unreadable, writers,
};
use kernel::{prelude::*, rbtree::RBTree};

/// Copies in one answer.
const BATCH: usize = 128;

/// How far the chunks of owners that are out are ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takeover {
    /// They are, or there are none.
    #[default]
    Done,
    /// Not all nodes have told us what they have.
    Pending,
}

/// The newest copy of a page among the nodes.
pub(super) struct Best {
    pub(super) version: u64,
    pub(super) cid: Cid,
    pub(super) node: u32,
    pub(super) holders: KVec<Holder>,
}

impl Node {
    /// Whether a page is ours since its owner was lost, but not yet to be served.
    pub(super) fn is_pending(&self, key: PageKey) -> bool {
        self.takeover == Takeover::Pending && self.names.is_inherited(key) || self.is_arriving(key)
    }

    /// A new map: owners that are out have successors. Whether there are new ones.
    pub(super) fn note_out(&mut self, out: KVec<u16>) {
        let news = out.iter().any(|id| !self.names.out.contains(id));
        let before = core::mem::replace(&mut self.names.out, out);
        if news {
            // What we kept for the next owner of a chunk that is out now: it has freed some since. Who
            // writes the pages whose owner we are from now on we ask.
            let names = &self.names;
            let lost = |id: u16| names.out.contains(&id) && !before.contains(&id);
            self.writers
                .free(|key, _| names.appointed(*key).is_some_and(lost));
            self.takeover = Takeover::Pending;
            self.wake(WORKER);
            self.wake(GENERAL);
        }
    }
}

/// Takes chunks over, if there are any to take.
pub(super) async fn run<H: Host>(host: &H) -> Result {
    if host.with(|node| node.takeover == Takeover::Done) {
        return Ok(());
    }
    // Who has moved where, and so what is ours, the records say.
    if host.with(|node| node.is_unsettled() || node.waits_for_old_owner()) {
        return Err(EAGAIN);
    }
    let (epoch, alone) = host.with(|node| (node.map.epoch, node.names.inherits_alone(node.id())));
    let mut best: RBTree<PageKey, Best> = RBTree::new();
    let mut staged: KVec<Copied> = KVec::new();
    let us = host.with(|node| {
        let us = node.us();
        for copy in node.copies_for(us.node, survey::FIRST, usize::MAX)? {
            note(&mut best, &mut staged, us, &copy)?;
        }
        Ok::<_, Error>(us)
    })?;
    // Where nothing is mounted: that asks us about its copies when something is.
    let others = host.with(|node| node.others())?;
    let here = ask_copies(host, &others, None, &mut best, &mut staged, u64::MAX).await?;
    // They have the map in which the chunks are ours: what they write of them they tell us.
    writers::rebuild(host, &here, &[], u64::MAX).await?;
    host.with(|node| node.claim_own_writes(&[]))?;
    let until = handler::call_until(host, u64::MAX);
    settle_staged(host, &best, &staged, until).await?;
    let until = handler::call_until(host, u64::MAX);
    let pages = best.iter().count();
    let taken = take::take_all(host, us.node, &best, until).await?;
    // Nobody else has them either: the others are served.
    unreadable::keep_all(host, &taken.unreadable, until).await?;
    let fetched = taken.fetched;
    let done = host.with(|node| {
        // A map in between may have brought more.
        if node.map.epoch != epoch {
            return Ok(false);
        }
        for (key, of) in best.iter() {
            let clean = node.pages.get(*key).and_then(|page| page.clean);
            let version = clean.map_or(0, |clean| clean.version);
            let owned = node.owned_entry(*key)?;
            let holders = of.holders.iter().filter(|of| of.node != us.node);
            for holder in holders.filter(|_| of.version == version) {
                if !owned.holders.iter().any(|known| known.node == holder.node) {
                    owned.holders.push(*holder, GFP_KERNEL)?;
                }
            }
            if let Some(page) = node.pages.get_mut(*key) {
                if let Some(clean) = &mut page.clean {
                    clean.valid = true;
                }
                page.sequence = page.sequence.wrapping_add(1);
            }
        }
        node.takeover = Takeover::Done;
        node.wake(GENERAL);
        Ok::<_, Error>(true)
    })?;
    if !done {
        return Err(EAGAIN);
    }
    if alone {
        host.log(
            Level::Warning,
            format_args!(
                "a dataset with one copy of each page was on owners that are out: what was there is lost"
            ),
        );
    }
    if pages != 0 {
        host.log(
            Level::Warning,
            format_args!(
                "took over {pages} pages of owners that are out, {fetched} of them from other nodes"
            ),
        );
    }
    Ok(())
}

pub(super) fn note(
    best: &mut RBTree<PageKey, Best>,
    staged: &mut KVec<Copied>,
    at: Holder,
    copy: &Copied,
) -> Result {
    if copy.staged {
        return Ok(staged.push(*copy, GFP_KERNEL)?);
    }
    if best.get(&copy.key).is_none() {
        let none = Best {
            version: 0,
            cid: Cid(0),
            node: 0,
            holders: KVec::new(),
        };
        best.try_create_and_insert(copy.key, none, GFP_KERNEL)?;
    }
    let of = best.get_mut(&copy.key).ok_or(ENOMEM)?;
    if copy.version > of.version {
        of.version = copy.version;
        of.cid = copy.cid;
        of.node = at.node;
        of.holders.clear();
    }
    if copy.version == of.version {
        of.holders.push(at, GFP_KERNEL)?;
    }
    Ok(())
}

/// Asks nodes for their copies: of pages of owners that are out, or of a chunk that has moved. Returns those
/// that have a space mounted.
pub(super) async fn ask_copies<H: Host>(
    host: &H,
    ids: &[u32],
    moved: Option<MovedChunk>,
    best: &mut RBTree<PageKey, Best>,
    staged: &mut KVec<Copied>,
    until: u64,
) -> Result<KVec<u32>> {
    let mut here = KVec::with_capacity(ids.len(), GFP_KERNEL)?;
    let ask = |from| AskCopies { from, moved };
    survey::by_pages(host, ids, until, ask, |peer, answer| {
        let copies = match answer.map_err(handler::errno) {
            Ok(copies) => copies,
            Err(EHOSTDOWN) => return Ok(None),
            Err(error) => return Err(error),
        };
        for copy in &copies {
            note(best, staged, peer, copy)?;
        }
        let last = copies.last().map(|last| last.key);
        if last.is_none() {
            here.push(peer.node, GFP_KERNEL)?;
        }
        Ok(last)
    })
    .await?;
    Ok(here)
}

impl Node {
    /// Whether our processes may still use what the records or the map have taken from us, or we may not know
    /// all of these records.
    fn is_unsettled(&self) -> bool {
        self.names.stale || self.unmapping != 0 || self.has_unmaps()
    }

    /// EAGAIN while a chunk may still be ours that moved from us to a node that is out, and that `owner`
    /// has taken over: without the record we serve it, and with it our last commits have to end.
    fn check_left(&self, owner: u32) -> Result {
        let busy = |key: &PageKey, owned: &Owned| {
            owned.txn.is_some()
                && self.names.is_inherited(*key)
                && self.owner(*key) == Ok(owner)
                && owner != self.id()
        };
        let mut owned = self.owned.iter();
        match self.is_unsettled() || owned.any(|(key, of)| busy(key, of)) {
            true => Err(EAGAIN),
            false => Ok(()),
        }
    }

    /// Copies of pages that `owner` has taken over, in order of their pages; about `most`.
    fn copies_for(&self, owner: u32, from: PageKey, most: usize) -> Result<KVec<Copied>> {
        let mut copies = KVec::new();
        let pages = self.pages.iter().filter(|(key, _)| **key >= from);
        for (key, page) in pages {
            if !self.names.is_inherited(*key) || self.owner(*key) != Ok(owner) {
                continue;
            }
            if copies.len() >= most {
                break;
            }
            if let Some(clean) = page.clean {
                let copy = Copied {
                    key: *key,
                    version: clean.version,
                    cid: clean.cid,
                    staged: false,
                };
                copies.push(copy, GFP_KERNEL)?;
            }
            let staged = page.staged.iter().filter(|of| of.ready && !of.cancelled);
            // What became of others who staged them will tell.
            for of in staged.filter(|of| self.is_remains(*key, of.cid)) {
                let copy = Copied {
                    key: *key,
                    version: of.version,
                    cid: of.cid,
                    staged: true,
                };
                copies.push(copy, GFP_KERNEL)?;
            }
        }
        Ok(copies)
    }
}

/// Tells a new owner what we have of its pages. EAGAIN while we may not know that they are, or have commits
/// on them as their owner before.
pub(super) fn on_ask_copies<H: Host>(
    host: &H,
    from: Sender,
    ask: &AskCopies,
) -> Result<KVec<Copied>> {
    host.with(|node| {
        if from.epoch > node.map.epoch {
            return Err(EAGAIN);
        }
        match &ask.moved {
            Some(moved) => node.copies_of_moved(moved, ask.from, BATCH),
            None => {
                node.check_left(from.node)?;
                node.copies_for(from.node, ask.from, BATCH)
            }
        }
    })
}

/// What became of commits that the lost owners had staged, and not told of any more: published
/// when a node has published a page of them or the committing node says so. When it is lost too, or has
/// forgotten, as far as they were promised: a user may have been told.
pub(super) async fn settle_staged<H: Host>(
    host: &H,
    best: &RBTree<PageKey, Best>,
    staged: &[Copied],
    until: u64,
) -> Result {
    let mut cids: KVec<Cid> = KVec::new();
    for copy in staged {
        if !cids.contains(&copy.cid) {
            cids.push(copy.cid, GFP_KERNEL)?;
        }
    }
    for cid in &cids {
        let seen = best.values().any(|of| of.cid == *cid);
        let (us, up) = host.with(|node| {
            let cn = u32::from(cid.node());
            (node.id(), node.is_up(cn))
        });
        let cn = u32::from(cid.node());
        let fate = match () {
            () if seen => Outcome::Committed,
            () if cn == us => on_ask_fate(host, *cid),
            () if !up => Outcome::Forgotten,
            () => handler::ask(
                host,
                cn,
                &Fate {
                    cid: *cid,
                    for_user: false,
                },
                until,
            )
            .await
            .map_err(handler::errno)?,
        };
        let committed = match fate {
            Outcome::Committed => true,
            Outcome::Aborted => false,
            Outcome::Forgotten => remains::is_decided(host, *cid, until).await?,
            Outcome::Pending => return Err(EAGAIN),
        };
        // Its committing node may have told us meanwhile that it was given up.
        let committed = committed && (seen || !host.with(|node| node.is_refused(*cid)));
        let mut keys: KVec<PageKey> = KVec::new();
        for copy in staged.iter().filter(|copy| copy.cid == *cid) {
            if !keys.contains(&copy.key) {
                keys.push(copy.key, GFP_KERNEL)?;
            }
        }
        keys.sort_unstable();
        let others = host.with(|node| node.others())?;
        match committed {
            true => super::data_node::finish(host, *cid).await?,
            false => super::data_node::abort(host, *cid).await.map(|_| ())?,
        }
        let settle = msg::Settle {
            committed: one(*cid, committed)?,
            aborted: one(*cid, !committed)?,
        };
        for answer in &survey::each(host, &others, &settle, until).await? {
            (*answer).map_err(handler::errno)?;
        }
        // What they have is newer now: everything is looked at again.
        if committed {
            return Err(EAGAIN);
        }
    }
    Ok(())
}

fn one(cid: Cid, which: bool) -> Result<KVec<Cid>> {
    let mut cids = KVec::new();
    if which {
        cids.push(cid, GFP_KERNEL)?;
    }
    Ok(cids)
}

/// What became of a commit of ours whose owner is lost.
pub(super) fn on_ask_fate<H: Host>(host: &H, cid: Cid) -> Outcome {
    host.with(|node| node.fate(cid))
}
