// SPDX-License-Identifier: GPL-2.0

//! The writers of MRSW pages, at their owner [2.6.3: the master node]: at most one node
//! may write a page. Volatile: after a restart the owner asks all other nodes what they have
//! ([`rebuild`]), and grants nothing before they have answered.

use super::{
    cluster::Sender,
    format::{dataset::Mode, Cid},
    handler,
    host::{Host, PageKey},
    msg::{Acquire, AskGrants, AskWriters, Claim, MovedChunk, Release},
    node::{Holder, Node},
    survey,
};
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
};

/// Who may write a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The node.
    pub holder: Holder,
    /// The acquisition, so that a release that comes late frees no later one.
    pub grant: Cid,
}

/// The writers of the pages that we own.
#[derive(Default)]
pub struct Writers {
    pages: RBTree<PageKey, Writer>,
    /// A ring of pages that were freed, with their grants: a claim that says otherwise is old.
    freed: KVec<(PageKey, Cid)>,
    next: usize,
}

/// Most freed pages that are remembered.
const MAX_FREED: usize = 1024;

impl Writers {
    /// Who may write a page.
    pub fn of(&self, key: PageKey) -> Option<Writer> {
        self.pages.get(&key).copied()
    }

    /// Pages that have a writer.
    pub fn iter(&self) -> impl Iterator<Item = (&PageKey, &Writer)> {
        self.pages.iter()
    }

    pub(super) fn remove(&mut self, key: PageKey) {
        if let Some(writer) = self.pages.remove(&key) {
            self.note_freed(key, writer.grant);
        }
    }

    fn note_freed(&mut self, key: PageKey, grant: Cid) {
        if self.freed.len() < MAX_FREED {
            // Without memory for it a writer may have to release it once more.
            let _ = self.freed.push((key, grant), GFP_KERNEL);
        } else if let Some(oldest) = self.freed.get_mut(self.next) {
            *oldest = (key, grant);
            self.next = (self.next + 1) % MAX_FREED;
        }
    }

    /// Frees the pages for which `free` says so.
    pub(super) fn free(&mut self, free: impl Fn(&PageKey, &Writer) -> bool) {
        let mut cursor = self.pages.cursor_front_mut();
        while let Some(at) = cursor {
            let (key, writer) = at.current();
            cursor = match free(key, writer) {
                true => at.remove_current().0,
                false => at.move_next(),
            };
        }
    }
}

impl Node {
    /// Ourselves, as a holder.
    pub(super) fn us(&self) -> Holder {
        let us = self.id();
        Holder {
            node: us,
            incarnation: self.map.peer(us).map_or(0, |peer| peer.incarnation),
        }
    }

    /// The mode of a page's dataset.
    pub(super) fn mode(&self, key: PageKey) -> Result<Mode> {
        Ok(self.names.get(key.dataset)?.mode)
    }

    /// ESTALE unless `cn` may publish a page: as its writer, when the dataset has one.
    pub(super) fn check_writer(&self, key: PageKey, cn: Holder) -> Result {
        let right = self.mode(key)? == Mode::Mrmw
            || self
                .writers
                .of(key)
                .is_some_and(|writer| writer.holder == cn);
        match right {
            true => Ok(()),
            false => Err(ESTALE),
        }
    }

    /// Makes a node the writer of pages (in order), all or none. EAGAIN: another node
    /// is, or a commit is in flight; EBUSY: not all nodes have told us yet what they write.
    pub(super) fn grant(&mut self, to: Holder, grant: Cid, keys: &[PageKey]) -> Result {
        if self.is_refused(grant) {
            return Err(ECANCELED);
        }
        for key in keys {
            match self.check_owned(*key) {
                Err(EAGAIN) if self.is_arriving(*key) => return Err(EBUSY),
                owned => owned?,
            }
            if self.mode(*key)? != Mode::Mrsw {
                return Err(EINVAL);
            }
            if !self.is_fenced() {
                return Err(EBUSY);
            }
            let busy = self.has_commit(*key);
            // Who is first among the processes of one node is that node's business. But a request
            // that comes late takes nothing from a later one: its release would free that.
            let taken = self
                .writers
                .of(*key)
                .is_some_and(|writer| writer.holder != to || writer.grant > grant);
            if busy || taken {
                return Err(EAGAIN);
            }
        }
        let writer = Writer { holder: to, grant };
        let mut new = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
        for key in keys {
            new.push(RBTreeNode::new(*key, writer, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        for page in new {
            self.writers.pages.insert(page);
        }
        Ok(())
    }

    /// Pages whose owner we have become, and which we write ourselves.
    pub(super) fn claim_own_writes(&mut self, hints: &[Claim]) -> Result {
        let holder = self.us();
        let claims = self.claims(holder.node, survey::FIRST, usize::MAX)?;
        for claim in &claims {
            // A commit may just have released it, which it has not told our processes' side yet.
            let freed = self.writers.freed.contains(&(claim.key, claim.grant));
            let old = freed || is_void(hints, claim) || self.is_refused(claim.grant);
            if self.writers.of(claim.key).is_none() && !old {
                let writer = Writer {
                    holder,
                    grant: claim.grant,
                };
                self.writers
                    .pages
                    .try_create_and_insert(claim.key, writer, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// Frees pages of one grant; all of them, and for good, when none is named.
    pub(super) fn free_grant(&mut self, grant: Cid, keys: &[PageKey]) -> Result {
        if keys.is_empty() {
            self.refuse(grant)?;
            self.writers.free(|_, writer| writer.grant == grant);
        }
        for key in keys {
            if self
                .writers
                .of(*key)
                .is_some_and(|writer| writer.grant == grant)
            {
                self.writers.pages.remove(key);
            }
            // Also when it is yet to be claimed.
            self.writers.note_freed(*key, grant);
        }
        Ok(())
    }
}

/// Whether somebody else writes the page, as its owner before knew: a commit has released it, of which the
/// claiming node has not heard yet.
fn is_void(hints: &[Claim], claim: &Claim) -> bool {
    let mut hints = hints.iter();
    hints.any(|hint| hint.key == claim.key && hint.grant != claim.grant)
}

/// Tells the new owner of a chunk who wrote it when it was ours.
pub(super) fn on_ask_writers<H: Host>(
    host: &H,
    from: Sender,
    ask: &AskWriters,
) -> Result<KVec<Claim>> {
    host.with(|node| {
        let known = node.names.get(ask.moved.dataset)?;
        if known.generation < ask.moved.generation {
            return Err(EAGAIN);
        }
        let mut claims = KVec::new();
        for (key, writer) in node.writers.iter().filter(|(key, _)| **key >= ask.from) {
            if claims.len() == CLAIMS {
                break;
            }
            if node.owner(*key) == Ok(from.node) {
                let claim = Claim {
                    key: *key,
                    grant: writer.grant,
                };
                claims.push(claim, GFP_KERNEL)?;
            }
        }
        Ok(claims)
    })
}

/// Asks the owner before of a chunk that has moved to us who writes it.
pub(super) async fn ask_writers<H: Host>(
    host: &H,
    id: u32,
    moved: &MovedChunk,
    until: u64,
) -> Result<KVec<Claim>> {
    let mut all = KVec::new();
    let moved = *moved;
    let ask = |from| AskWriters { moved, from };
    survey::by_pages(host, &[id], until, ask, |_, answer| {
        let claims = answer.map_err(handler::errno)?;
        all.extend_from_slice(&claims, GFP_KERNEL)?;
        Ok(claims.last().map(|last| last.key))
    })
    .await?;
    Ok(all)
}

fn check_grant(grant: Cid, from: Sender) -> Result {
    match u32::from(grant.node()) == from.node {
        true => Ok(()),
        false => Err(EBADMSG),
    }
}

/// A node wants to write pages.
pub(super) fn on_acquire<H: Host>(host: &H, from: Sender, acquire: &Acquire) -> Result {
    check_grant(acquire.grant, from)?;
    let holder = Holder {
        node: from.node,
        incarnation: from.incarnation,
    };
    host.with(|node| node.grant(holder, acquire.grant, &acquire.pages))
}

/// A node will not write pages any more.
pub(super) fn on_release<H: Host>(host: &H, from: Sender, release: &Release) -> Result {
    check_grant(release.grant, from)?;
    host.with(|node| node.free_grant(release.grant, &release.pages))
}

/// Claims in an answer to [`AskGrants`] or [`AskWriters`].
const CLAIMS: usize = 256;

/// Asks nodes which pages of ours they write, and believes them.
///
/// `hints` are claims that the owner before knew: they win over others for the same page.
pub(super) async fn rebuild<H: Host>(host: &H, ids: &[u32], hints: &[Claim], until: u64) -> Result {
    let ask = |from| AskGrants { from };
    survey::by_pages(host, ids, until, ask, |holder, answer| {
        let claims = answer.map_err(handler::errno)?;
        host.with(|node| {
            for claim in &claims {
                let known = node.writers.of(claim.key).is_some();
                let freed = node.writers.freed.contains(&(claim.key, claim.grant));
                let refused = freed || is_void(hints, claim) || node.is_refused(claim.grant);
                if node.owns(claim.key) && !known && !refused {
                    let writer = Writer {
                        holder,
                        grant: claim.grant,
                    };
                    node.writers
                        .pages
                        .try_create_and_insert(claim.key, writer, GFP_KERNEL)?;
                }
            }
            Ok::<_, Error>(())
        })?;
        Ok(claims.last().map(|last| last.key))
    })
    .await
}
