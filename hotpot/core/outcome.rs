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
    cluster::Sender,
    doubts::{self, Doubted},
    format::Cid,
    handler,
    host::{CallError, Host},
    msg::{AskOutcome, AskTrace, Fate, Outcome, Part},
    node::{Commit, Holder, Node, Notice, NoticeKind, TxnState},
    survey,
};
use kernel::prelude::*;

/// Commits of ours that we remember as published, or as not known.
pub(super) const MAX_REMEMBERED: usize = 4096;

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
    pub(super) doubted: KVec<Doubted>,
}

impl Remembered {
    /// Nothing is known of a commit any more: neither that it was published nor that it was not.
    pub(super) fn forget(&mut self, cid: Cid) {
        self.floor = self.floor.max(cid.counter() + 1);
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

    /// Whether something can be done about that now: owners that are down nobody can ask or tell.
    pub(super) fn has_unsure_to_ask(&self) -> bool {
        let mut unsure = self.remembered.unsure.iter();
        self.has_doubts_to_end() || unsure.any(|(_, owner)| self.is_up(owner.node))
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
            || self.is_settled(cid)
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

/// Looks for traces of a commit at all nodes that are up. An error when there are none and somebody
/// does not answer.
pub(super) async fn trace<H: Host>(host: &H, cid: Cid, until: u64) -> Result<Outcome> {
    let others = host.with(|node| node.others())?;
    let until = handler::call_until(host, until);
    let traces = survey::each(host, &others, &AskTrace { cid }, until).await?;
    let mut found = host.with(|node| node.trace(cid));
    let mut missing = Ok(());
    for trace in &traces {
        match (*trace).map_err(handler::errno) {
            Ok(Part::Published) => return Ok(Outcome::Committed),
            Ok(Part::Unknown) => {}
            Ok(part) => found = part,
            // It may yet take something of it from a node that we know to be out.
            Err(EAGAIN) => found = Part::Preparing,
            // Nothing is mounted there.
            Err(EHOSTDOWN) => {}
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

/// Asks owners how commits of ours ended: in the background.
pub(super) async fn ask_unsure<H: Host>(host: &H, until: u64) -> Result {
    let mut result = doubts::end_doubts(host, until).await;
    let unsure = host.with(|node| {
        let mut unsure = KVec::new();
        for (cid, owner) in &node.remembered.unsure {
            if node.is_up(owner.node) {
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
                node.note_lost(*cid);
            }
            node.remembered.unsure.retain(|(of, _)| of != cid);
            Ok::<_, Error>(())
        })?;
    }
    result
}
