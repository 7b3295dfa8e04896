// SPDX-License-Identifier: GPL-2.0

//! What became of a commit (HOTPOT_IOC_OUTCOME), whatever crashed since.
//!
//! The committing node knows as long as it lives and remembers. After that its traces tell:
//! pages that carry its id, and records of its owners.

use super::{
    format::Cid,
    handler,
    host::{CallError, Host},
    msg::{AskOutcome, AskTrace, Fate, Outcome, Part},
    node::{Commit, Node, Notice, NoticeKind, TxnState},
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
    unsure: KVec<(Cid, u32)>,
    /// Commits that we gave up, but whose users could not be told so: without us somebody who has
    /// not heard of it might publish them.
    doubted: KVec<Cid>,
}

impl Node {
    /// A commit of ours was published.
    pub(super) fn note_published(&mut self, cid: Cid) -> Result {
        let remembered = &mut self.remembered;
        if remembered.published.len() < MAX_REMEMBERED {
            return Ok(remembered.published.push(cid, GFP_KERNEL)?);
        }
        if let Some(oldest) = remembered.published.get_mut(remembered.next) {
            remembered.floor = remembered.floor.max(oldest.counter() + 1);
            *oldest = cid;
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

    /// A commit of ours is given up, and not all who have to do with it have heard of it.
    pub(super) fn note_doubted(&mut self, cid: Cid) {
        let doubted = &mut self.remembered.doubted;
        if doubted.len() >= MAX_REMEMBERED {
            let _ = doubted.remove(0);
        }
        let _ = doubted.push(cid, GFP_KERNEL);
    }

    /// What a user may be told of a commit of ours.
    fn told(&self, cid: Cid) -> Outcome {
        let doubted = self.remembered.doubted.contains(&cid) && self.is_abort_untold(cid);
        match self.fate(cid) {
            Outcome::Aborted if doubted => Outcome::Pending,
            outcome => outcome,
        }
    }

    /// The only owner of a commit of ours does not say how it ended.
    pub(super) fn note_unsure(&mut self, cid: Cid, owner: u32) {
        let unsure = &mut self.remembered.unsure;
        if unsure.len() >= MAX_REMEMBERED {
            let _ = unsure.remove(0);
        }
        let _ = unsure.push((cid, owner), GFP_KERNEL);
    }

    /// Whether owners are to be asked how commits of ours ended.
    pub(super) fn has_unsure(&self) -> bool {
        let mut unsure = self.remembered.unsure.iter();
        unsure.any(|(_, owner)| !self.is_out(*owner))
    }

    /// What became of a commit of ours, as far as we know.
    pub(super) fn fate(&self, cid: Cid) -> Outcome {
        let unsure = self.remembered.unsure.iter().find(|(of, _)| *of == cid);
        match (self.commits.get(&cid), unsure) {
            (Some(Commit::Active(_)), _) => Outcome::Pending,
            (Some(Commit::Decided { .. }), _) => Outcome::Committed,
            (None, Some((_, owner))) if self.is_out(*owner) => Outcome::Forgotten,
            (None, Some(_)) => Outcome::Pending,
            (None, None) if self.remembered.published.contains(&cid) => Outcome::Committed,
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
        match found == Part::Unknown && self.has_published(cid) {
            true => Part::Published,
            false => found,
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
    if known != Outcome::Forgotten {
        return Ok(known);
    }
    let peers = host.with(|node| {
        let mut peers = KVec::new();
        for peer in node.map.up().filter(|peer| peer.id != us) {
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

/// Whether traces of a commit are here.
pub(super) fn on_ask_trace<H: Host>(host: &H, cid: Cid) -> Part {
    host.with(|node| node.trace(cid))
}

/// Asks owners how commits of ours ended: in the background.
pub(super) async fn ask_unsure<H: Host>(host: &H, until: u64) -> Result {
    let unsure = host.with(|node| {
        let mut doubted = core::mem::take(&mut node.remembered.doubted);
        doubted.retain(|cid| node.is_abort_untold(*cid));
        node.remembered.doubted = doubted;
        let mut unsure = KVec::new();
        for (cid, owner) in &node.remembered.unsure {
            if !node.is_out(*owner) {
                unsure.push((*cid, *owner), GFP_KERNEL)?;
            }
        }
        Ok::<_, Error>(unsure)
    })?;
    let mut result = Ok(());
    for (cid, owner) in &unsure {
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
            node.remembered.unsure.retain(|(of, _)| of != cid);
            Ok::<_, Error>(())
        })?;
    }
    result
}
