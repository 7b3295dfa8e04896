// SPDX-License-Identifier: GPL-2.0

//! What became of a commit (HOTPOT_IOC_OUTCOME), whatever crashed since.
//!
//! The committing node knows as long as it lives and remembers. After that its traces tell:
//! pages that carry its id, and records of its owners.
//!
//! An answer but "pending" is final. A commit that was given up while owners had promised it may be
//! published by these, or by their successors, when the committing node is lost: "aborted" is said
//! when all of them have heard of it, and for one that is out, or has forgotten what it staged,
//! when all nodes have.

use super::{
    cluster::{Peer, Sender, State},
    data_node,
    format::Cid,
    handler,
    host::{CallError, Host},
    msg::{AskOutcome, AskTrace, Fate, Outcome, Part},
    node::{Commit, Holder, Node, Notice, NoticeKind, TxnState, WORKER},
};
use kernel::prelude::*;

/// Commits of ours that we remember as published, or as not known.
const MAX_REMEMBERED: usize = 4096;

/// What a committing node remembers of commits that are over.
#[derive(Default)]
pub struct Remembered {
    /// A ring: the oldest is at `next` once it is full.
    published: KVec<Cid>,
    next: usize,
    /// Nothing is known of commits with lower counters.
    floor: u64,
    /// Commits with one owner that did not answer until the deadline.
    unsure: KVec<(Cid, Holder)>,
    /// Commits that we gave up, but whose users could not be told so: without us somebody who has
    /// not heard of it might publish them.
    doubted: KVec<Doubted>,
}

/// A commit that was given up.
struct Doubted {
    cid: Cid,
    /// Owners that were asked, and have not said that they have undone it.
    unheard: KVec<Holder>,
    /// An owner was lost with what it knew: its successor may have found it promised before we told
    /// all nodes.
    lost: bool,
    /// The commit itself is just telling them.
    busy: bool,
}

impl Remembered {
    /// Nothing is known of a commit any more: neither that it was published nor that it was not.
    fn forget(&mut self, cid: Cid) {
        self.floor = self.floor.max(cid.counter() + 1);
    }

    fn doubt(&mut self, of: Doubted) {
        if self.doubted.len() >= MAX_REMEMBERED {
            if let Ok(oldest) = self.doubted.remove(0) {
                self.forget(oldest.cid);
            }
        }
        let cid = of.cid;
        if self.doubted.push(of, GFP_KERNEL).is_err() {
            self.forget(cid);
        }
    }
}

impl Node {
    /// A commit of ours was published.
    pub(super) fn note_published(&mut self, cid: Cid) -> Result {
        let remembered = &mut self.remembered;
        if remembered.published.len() < MAX_REMEMBERED {
            return remembered.published.push(cid, GFP_KERNEL).map_err(|error| {
                remembered.forget(cid);
                error.into()
            });
        }
        if let Some(oldest) = remembered.published.get_mut(remembered.next) {
            let forgotten = core::mem::replace(oldest, cid);
            remembered.forget(forgotten);
        }
        remembered.next = (remembered.next + 1) % MAX_REMEMBERED;
        Ok(())
    }

    /// Makes room to remember one more commit.
    pub(super) fn reserve_memory(&mut self) -> Result {
        if self.remembered.published.len() < MAX_REMEMBERED {
            self.remembered.published.reserve(1, GFP_KERNEL)?;
        }
        self.remembered.doubted.reserve(1, GFP_KERNEL)?;
        Ok(self.remembered.unsure.reserve(1, GFP_KERNEL)?)
    }

    /// A commit of ours is given up, and its owners `unheard` have not heard of it: who calls tells
    /// them. [`Node::end_doubt`] or [`Node::leave_doubt`] follows.
    pub(super) fn note_doubted(&mut self, cid: Cid, unheard: KVec<Holder>) {
        self.remembered.doubt(Doubted {
            cid,
            unheard,
            lost: false,
            busy: true,
        });
    }

    /// The worker tells those who have not heard that a commit of ours was given up.
    pub(super) fn leave_doubt(&mut self, cid: Cid) {
        let mut doubted = self.remembered.doubted.iter_mut();
        if let Some(of) = doubted.find(|of| of.cid == cid) {
            of.busy = false;
        }
        self.wake(WORKER);
    }

    /// An owner of a commit that we gave up says that it has undone it. Whether so it stays: not
    /// when it began a new life since it was asked, as then it has nothing of it that its data
    /// nodes have. All are told then.
    pub(super) fn heard(&mut self, owner: u32, cid: Cid) -> bool {
        let is_same = |of: &Holder| self.incarnation(of.node) == Some(of.incarnation);
        let mut doubted = self.remembered.doubted.iter();
        let entry = doubted.find(|of| of.cid == cid);
        let holder = entry.and_then(|of| of.unheard.iter().find(|of| of.node == owner));
        let same = holder.is_none_or(is_same);
        if same || self.tell_all(cid) {
            let mut doubted = self.remembered.doubted.iter_mut();
            if let Some(entry) = doubted.find(|of| of.cid == cid) {
                entry.unheard.retain(|of| of.node != owner);
                entry.lost |= !same;
            }
        }
        same
    }

    /// Nobody can publish a commit of ours any more that was given up.
    pub(super) fn end_doubt(&mut self, cid: Cid) {
        self.remembered.doubted.retain(|of| of.cid != cid);
    }

    /// Has all nodes drop what they have of a commit of ours. Whether there was room to note it.
    fn tell_all(&mut self, cid: Cid) -> bool {
        let mut all = true;
        for nr in 0..self.map.peers.len() {
            let Some(peer) = self.map.peers.get(nr).map(|peer| peer.id) else {
                break;
            };
            all &= self.notify(Notice {
                node: peer,
                cid,
                kind: NoticeKind::Aborted,
            });
        }
        all
    }

    /// Sees to it that all hear of commits that we gave up who might publish them without us. Those
    /// of which all have heard.
    fn spread_doubts(&mut self) -> Result<KVec<(Cid, bool)>> {
        let mut over = KVec::with_capacity(self.remembered.doubted.len(), GFP_KERNEL)?;
        // Taken out: what is told is in the node, too.
        let mut doubted = core::mem::take(&mut self.remembered.doubted);
        for of in doubted.iter_mut().filter(|of| !of.busy) {
            let cid = of.cid;
            let lost = &mut of.lost;
            of.unheard.retain(|owner| match self.is_out(owner.node) {
                // Who takes its place finds what it had staged. While the map has us down that one
                // does not wait for us.
                true if self.is_up(self.id()) && self.tell_all(cid) => {
                    *lost = true;
                    false
                }
                true => true,
                false => {
                    self.notify(Notice {
                        node: owner.node,
                        cid,
                        kind: NoticeKind::GiveUp,
                    });
                    true
                }
            });
            if of.unheard.is_empty() && !self.is_abort_untold(cid) {
                over.push((cid, of.lost), GFP_KERNEL)?;
            }
        }
        self.remembered.doubted = doubted;
        Ok(over)
    }

    fn incarnation(&self, node: u32) -> Option<u64> {
        self.map.peer(node).map(|peer| peer.incarnation)
    }

    /// A node as the map has it now.
    pub(super) fn holder(&self, node: u32) -> Holder {
        Holder {
            node,
            incarnation: self.incarnation(node).unwrap_or(0),
        }
    }

    /// Whether a node began a new life since.
    pub(super) fn is_other_life(&self, of: Holder) -> bool {
        self.incarnation(of.node) != Some(of.incarnation)
    }

    /// What a user may be told of a commit of ours.
    fn told(&self, cid: Cid) -> Outcome {
        let mut doubted = self.remembered.doubted.iter();
        match self.fate(cid) {
            Outcome::Committed => Outcome::Committed,
            _ if doubted.any(|of| of.cid == cid) => Outcome::Pending,
            outcome => outcome,
        }
    }

    /// The only owner of a commit of ours does not say how it ended.
    pub(super) fn note_unsure(&mut self, cid: Cid, owner: Holder) {
        let remembered = &mut self.remembered;
        if remembered.unsure.len() >= MAX_REMEMBERED {
            if let Ok((oldest, _)) = remembered.unsure.remove(0) {
                remembered.forget(oldest);
            }
        }
        if remembered.unsure.push((cid, owner), GFP_KERNEL).is_err() {
            remembered.forget(cid);
        }
    }

    /// Whether owners are to be asked how commits of ours ended, or to hear that they were given
    /// up.
    pub(super) fn has_unsure(&self) -> bool {
        let mut unsure = self.remembered.unsure.iter();
        !self.remembered.doubted.is_empty() || unsure.any(|(_, owner)| !self.is_out(owner.node))
    }

    /// What became of a commit of ours, as far as we know.
    pub(super) fn fate(&self, cid: Cid) -> Outcome {
        let unsure = self.remembered.unsure.iter().find(|(of, _)| *of == cid);
        match (self.commits.get(&cid), unsure) {
            (Some(Commit::Active(_)), _) => Outcome::Pending,
            (Some(Commit::Decided { .. }), _) => Outcome::Committed,
            (None, Some((_, owner))) if self.is_out(owner.node) => Outcome::Forgotten,
            (None, Some(_)) => Outcome::Pending,
            (None, None) if self.remembered.published.contains(&cid) => Outcome::Committed,
            // Ours alone, and it has not ended.
            (None, None) if self.txns.get(&cid).is_some_and(|txn| txn.nr_owners == 1) => {
                Outcome::Pending
            }
            (None, None) => {
                let known = self.first_counter.max(self.remembered.floor);
                match cid.counter() < known {
                    true => Outcome::Forgotten,
                    false => Outcome::Aborted,
                }
            }
        }
    }

    fn trace(&self, cid: Cid) -> Part {
        let found = match self.txns.get(&cid).map(|txn| txn.state) {
            Some(TxnState::Published) => Part::Published,
            Some(TxnState::Prepared) => Part::Prepared,
            Some(TxnState::Preparing | TxnState::Finishing | TxnState::Undone) => Part::Preparing,
            None => Part::Unknown,
        };
        match found {
            Part::Unknown if self.has_published(cid) => Part::Published,
            // A successor of its owner may find it promised.
            Part::Unknown if self.guests.get(&cid).is_some() => Part::Preparing,
            found => found,
        }
    }

    /// Whether something that a commit published is, or was, here.
    pub(super) fn has_published(&self, cid: Cid) -> bool {
        let of = |clean: super::pages::Clean| clean.pm.is_some() && clean.cid == cid;
        let mut pages = self.pages.iter();
        let txn = self.txns.get(&cid).map(|txn| txn.state);
        txn == Some(TxnState::Published)
            || self.settled.contains(&cid)
            || pages.any(|(_, page)| page.clean.is_some_and(of))
    }
}

/// What became of a commit. `Forgotten`: it was not published, or all that it wrote was overwritten
/// since.
pub async fn outcome<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Outcome> {
    let cn = u32::from(cid.node());
    let (us, up) = host.with(|node| {
        node.check_ready()?;
        Ok::<_, Error>((node.id(), node.is_up(cn)))
    })?;
    let known = match () {
        () if cn == us => host.with(|node| node.told(cid)),
        () if up => {
            let call_until = handler::call_until(host, until);
            let fate = Fate {
                cid,
                for_user: true,
            };
            match handler::ask(host, cn, &fate, call_until).await {
                Ok(outcome) => outcome,
                Err(CallError::Lost(error)) => return Err(error),
                Err(_) => Outcome::Forgotten,
            }
        }
        () => Outcome::Forgotten,
    };
    match known {
        Outcome::Forgotten => trace(host, cid, until).await,
        known => Ok(known),
    }
}

/// Looks for traces of a commit at all nodes. EHOSTDOWN, or another error, when there are none and
/// somebody who is not out does not answer.
async fn trace<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Outcome> {
    let peers = host.with(|node| {
        let us = node.id();
        let mut peers = KVec::new();
        let here = |peer: &&Peer| peer.id != us && peer.state != State::Out;
        for peer in node.map.peers.iter().filter(here) {
            peers.push(peer.id, GFP_KERNEL)?;
        }
        Ok::<_, Error>(peers)
    })?;
    let mut found = host.with(|node| node.trace(cid));
    let mut missing = Ok(());
    for peer in &peers {
        let call_until = handler::call_until(host, until);
        let answer = handler::ask(host, *peer, &AskTrace { cid }, call_until).await;
        match answer.map_err(handler::errno) {
            Ok(Part::Published) => return Ok(Outcome::Committed),
            Ok(Part::Unknown) => {}
            Ok(part) => found = part,
            // It may yet take something of it from a node that we know to be out.
            Err(EAGAIN) => found = Part::Preparing,
            Err(error) => missing = Err(error),
        }
    }
    match found {
        Part::Published => Ok(Outcome::Committed),
        Part::Prepared | Part::Preparing => Ok(Outcome::Pending),
        Part::Unknown => missing.map(|()| Outcome::Forgotten),
    }
}

/// What became of a commit of ours, for a user of another node.
pub(super) fn on_ask_fate<H: Host>(host: &H, cid: Cid) -> Outcome {
    host.with(|node| node.told(cid))
}

/// Whether traces of a commit are here. EAGAIN while we do not know which nodes are out.
pub(super) fn on_ask_trace<H: Host>(host: &H, from: Sender, cid: Cid) -> Result<Part> {
    host.with(|node| match from.epoch > node.map.epoch {
        true => Err(EAGAIN),
        false => Ok(node.trace(cid)),
    })
}

/// Brings commits of ours to their ends that were given up, once all have heard of it.
async fn end_doubts<H: Host>(host: &H, until: u64) -> Result {
    let over = host.with(|node| node.spread_doubts())?;
    let mut result = Ok(());
    for (cid, lost) in &over {
        // What they staged with us: nobody else tells us.
        if !data_node::abort(host, *cid).await? {
            result = Err(EAGAIN);
            continue;
        }
        let found = match lost {
            false => Ok(Outcome::Forgotten),
            // Its successor may have found it promised when the map had us down.
            true => trace(host, *cid, until).await,
        };
        match found {
            Ok(Outcome::Pending) => result = Err(EAGAIN),
            Ok(found) => host.with(|node| {
                if found == Outcome::Committed {
                    // Without memory for it we do not say that it was aborted.
                    let _ = node.note_published(*cid);
                }
                node.end_doubt(*cid);
            }),
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Asks owners how commits of ours ended: in the background.
pub(super) async fn ask_unsure<H: Host>(host: &H, until: u64) -> Result {
    let mut result = end_doubts(host, until).await;
    let unsure = host.with(|node| {
        let mut unsure = KVec::new();
        for (cid, owner) in &node.remembered.unsure {
            if !node.is_out(owner.node) {
                unsure.push((*cid, *owner), GFP_KERNEL)?;
            }
        }
        Ok::<_, Error>(unsure)
    })?;
    for (cid, holder) in &unsure {
        let owner = &holder.node;
        let answer = handler::ask(host, *owner, &AskOutcome { cid: *cid }, until).await;
        let committed = match answer.map_err(handler::errno) {
            Ok(Outcome::Committed) => true,
            Ok(Outcome::Aborted) => false,
            Ok(Outcome::Pending | Outcome::Forgotten) => {
                result = Err(EAGAIN);
                continue;
            }
            Err(error) => {
                result = Err(error);
                continue;
            }
        };
        host.with(|node| {
            if committed {
                node.note_published(*cid)?;
                node.notify(Notice {
                    node: *owner,
                    cid: *cid,
                    kind: NoticeKind::Release,
                });
            }
            if !committed && node.is_other_life(*holder) {
                // Its data nodes may have what it does not know of any more.
                if !node.tell_all(*cid) {
                    return Err(ENOMEM);
                }
                node.remembered.doubt(Doubted {
                    cid: *cid,
                    unheard: KVec::new(),
                    lost: true,
                    busy: false,
                });
            }
            node.remembered.unsure.retain(|(of, _)| of != cid);
            Ok::<_, Error>(())
        })?;
    }
    result
}
