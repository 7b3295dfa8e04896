// SPDX-License-Identifier: GPL-2.0

//! What is left of a commit whose committing node cannot say how it ended and one of whose owners
//! is out: the versions that the lost owner had staged at data nodes.
//!
//! With N copies of each page, no owner promises its part before each page of it is staged at N - 1
//! data nodes. So when a page is missing there, the lost owner had not promised, nobody was told
//! that the commit was published, and it is undone. When none is missing it may have been
//! promised: then it counts as promised. The successors of the lost owner and the owners that
//! are left look at the same pages and come to the same end.
//!
//! Up to N - 1 nodes are lost at once, and so are several owners: each must have staged all of its
//! part. One of which there is nothing at all had not promised. And a node that has given the commit
//! up says so: what others have of it is void.
//!
//! With one copy of each page nothing need be staged anywhere, and what a lost owner had is gone:
//! the owners that are left decide, and what others have of the lost one's part follows them.

use super::{
    cluster::{Sender, State},
    format::Cid,
    guest::Share,
    handler,
    host::{Host, PageKey},
    msg::{AskPart, AskStaged, LeftPage, Part, Remains},
    node::{Node, TxnState},
    resolve, survey,
};
use kernel::prelude::*;

/// Pages in one answer.
const BATCH: usize = 128;

/// How far lost owners were with their parts of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Somebody has published it.
    Published,
    /// All their pages are there.
    Whole,
    /// The commit was given up.
    GivenUp,
    /// Some are not there.
    Partial,
    /// None is.
    Nothing,
    /// Some are there; how many there should be nobody knows.
    Unknown,
    /// All that there should be are there, of the owners that are known. Of the others one is
    /// perhaps at a node that could not be asked.
    Open,
}

/// What all nodes have of a commit.
#[derive(Default)]
struct Found {
    published: bool,
    given_up: bool,
    parts: KVec<Share>,
    nr_owners: u32,
    owners: KVec<u16>,
    alone: bool,
    pages: KVec<LeftPage>,
    /// A node that is not out could not be asked.
    silent: bool,
}

impl Found {
    fn add(&mut self, remains: &Remains) -> Result {
        self.published |= remains.published;
        self.given_up |= remains.given_up;
        self.nr_owners = self.nr_owners.max(remains.nr_owners);
        self.alone |= remains.alone;
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
        Ok(self.pages.extend_from_slice(&remains.pages, GFP_KERNEL)?)
    }

    /// Different pages that an owner staged: the same one at several nodes counts once.
    fn pages_of(&self, owner: u32) -> u64 {
        let mut last = None;
        let pages = self.pages.iter().filter(|page| page.owner == owner);
        let new = pages.filter(|page| last.replace(page.key) != Some(page.key));
        new.count() as u64
    }

    /// Different pages of which no node knows who staged them.
    fn nameless(&self) -> u64 {
        let mut count = 0;
        let mut rest = &self.pages[..];
        while let Some(first) = rest.first() {
            let same = rest.iter().take_while(|page| page.key == first.key);
            let (these, more) = rest.split_at(same.count());
            // The nameless are the first.
            count += u64::from(these.last().is_some_and(|last| last.owner == 0));
            rest = more;
        }
        count
    }

    /// How far those of the owners were for which `is_out` says so.
    fn judge(&mut self, is_out: impl Fn(u32) -> bool) -> Lost {
        self.pages.sort_unstable();
        let lacking = self.parts.iter().map(|part| {
            let should = u64::from(part.pages);
            should.saturating_sub(self.pages_of(part.owner))
        });
        let lacking: u64 = lacking.sum();
        let out = self.owners.iter().map(|id| u32::from(*id));
        // No node that is there has heard of their parts, or it has forgotten: a page each at least.
        let unheard = out.filter(|id| is_out(*id) && !self.parts.iter().any(|p| p.owner == *id));
        let unheard = unheard.count() as u64;
        let nameless = self.nameless();
        // An owner that is there names all of them if it has promised.
        let unnamed = match self.nr_owners {
            0 | 1 => 0,
            several => several.saturating_sub(self.owners.len() as u32),
        };
        match () {
            () if self.published => Lost::Published,
            () if self.given_up => Lost::GivenUp,
            () if self.pages.is_empty() => Lost::Nothing,
            () if lacking + unheard > nameless => Lost::Partial,
            () if unnamed != 0 && self.silent => Lost::Open,
            () if unnamed != 0 => Lost::Partial,
            () if self.parts.is_empty() || unheard != 0 => Lost::Unknown,
            () => Lost::Whole,
        }
    }
}

/// Asks all nodes what they have of a commit for owners that are out.
async fn find<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Found> {
    let mut found = Found::default();
    let (mine, others, silent) = host.with(|node| {
        let mine = node.remains(cid, survey::FIRST, usize::MAX)?;
        let mut peers = node.map.peers.iter();
        let silent = peers.any(|peer| peer.state == State::Down);
        Ok::<_, Error>((mine, node.others()?, silent))
    })?;
    found.silent = silent;
    found.add(&mine)?;
    let ask = |from| AskStaged { cid, from };
    survey::by_pages(host, &others, until, ask, |_, answer| {
        let remains = match answer.map_err(handler::errno) {
            Ok(remains) => remains,
            // Nothing is mounted there.
            Err(EHOSTDOWN) => {
                found.silent = true;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        found.add(&remains)?;
        let is_all = remains.pages.len() < BATCH;
        let last = remains.pages.last().filter(|_| !is_all);
        Ok(last.map(|last| last.key))
    })
    .await?;
    Ok(found)
}

/// How far the owners of a commit that are out were.
pub(super) async fn look<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Lost> {
    let mut found = find(host, cid, until).await?;
    Ok(host.with(|node| found.judge(|id| node.is_out(id))))
}

/// Whether a commit is to be published of which an owner that is out had staged something, and of
/// which its committing node knows nothing (any more). EAGAIN while that is open.
pub(super) async fn is_decided<H: Host>(host: &H, cid: Cid, until: u64) -> Result<bool> {
    let mut found = find(host, cid, until).await?;
    let lost = host.with(|node| found.judge(|id| node.is_out(id)));
    let nothing = match lost {
        Lost::Published => return Ok(true),
        Lost::GivenUp => return Ok(false),
        Lost::Open => return Err(EAGAIN),
        Lost::Partial => true,
        Lost::Nothing => !found.owners.is_empty(),
        Lost::Whole | Lost::Unknown => false,
    };
    // The owners that are left would not publish it either; but with one copy of each page.
    if nothing && !found.alone {
        return Ok(false);
    }
    let mut promised = false;
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
            Part::Prepared => promised = true,
        }
    }
    Ok(promised || !nothing)
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
        match guest.stager(key) {
            Some(owner) => self.is_out(owner),
            None => self.is_orphan(key),
        }
    }

    fn has_undone(&self, cid: Cid) -> bool {
        let txn = self.txns.get(&cid);
        txn.is_some_and(|txn| txn.state == TxnState::Undone)
    }

    fn remains(&self, cid: Cid, from: PageKey, most: usize) -> Result<Remains> {
        let mut remains = Remains {
            published: self.has_published(cid),
            given_up: self.is_refused(cid) || self.has_undone(cid),
            parts: KVec::new(),
            nr_owners: 0,
            owners: KVec::new(),
            alone: false,
            pages: KVec::new(),
        };
        if let Some(txn) = self.txns.get(&cid) {
            remains.nr_owners = txn.nr_owners;
            remains.alone = txn.replicas == 1;
            remains.owners.extend_from_slice(&txn.owners, GFP_KERNEL)?;
        }
        let Some(guest) = self.guests.get(&cid) else {
            return Ok(remains);
        };
        remains.nr_owners = remains.nr_owners.max(guest.nr_owners);
        remains.alone |= guest.alone;
        for owner in &guest.owners {
            if !remains.owners.contains(owner) {
                remains.owners.push(*owner, GFP_KERNEL)?;
            }
        }
        for part in guest.parts.iter().filter(|part| self.is_out(part.owner)) {
            remains.parts.push(*part, GFP_KERNEL)?;
        }
        for key in &guest.keys {
            let page = self.pages.get(*key);
            let mut staged = page.iter().flat_map(|page| page.staged.iter());
            match staged.find(|staged| staged.cid == cid && !staged.cancelled) {
                _ if !self.is_remains(*key, cid) => {}
                Some(staged) if staged.ready => {
                    let page = LeftPage {
                        key: *key,
                        owner: guest.stager(*key).unwrap_or(0),
                    };
                    remains.pages.push(page, GFP_KERNEL)?;
                }
                Some(_) => return Err(EAGAIN),
                None => {}
            }
        }
        remains.pages.sort_unstable();
        let first = remains.pages.partition_point(|page| page.key < from);
        let mut pages = KVec::new();
        for page in remains.pages.iter().skip(first).take(most) {
            pages.push(*page, GFP_KERNEL)?;
        }
        remains.pages = pages;
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
