// SPDX-License-Identifier: GPL-2.0

//! What owner nodes do about commits that they have promised and not heard of again: they ask
//! the committing node, and each other when it cannot say.
//!
//! With several owners a commit is decided once all of them have promised it (PREPARED), and a
//! committing node tells its user that nothing was published only when at least one of them has
//! undone its promise, and has nothing left at its data nodes. So the owners can find the decision
//! without the committing node. To be able to tell others an owner keeps its record until all have
//! published (phase 3).

use super::{
    cluster::{Sender, State},
    format::Cid,
    handler,
    host::{Host, PageKey, Sleep, Ticket},
    msg::{AskOutcome, AskPart, Outcome, Part},
    node::{Node, TxnState, WORKER},
    participant,
    remains::{self, Lost},
    transaction,
};
use kernel::prelude::*;

/// How old a doubt is before somebody is asked, ns.
pub(super) const DOUBT: u64 = 100_000_000;

struct Doubt {
    cid: Cid,
    prepared: bool,
    several: bool,
}

impl Node {
    /// Somebody waits for a page of ours. When that is for a commit that was promised a while ago and nobody has
    /// told us the end of, the worker asks now: it may sleep, as others usually tell us sooner.
    pub(super) fn hurry(&mut self, key: PageKey, now: u64) {
        let cid = self.owned.get(&key).and_then(|owned| owned.txn);
        let txn = cid.and_then(|cid| self.txns.get(&cid));
        let in_doubt = txn.is_some_and(|txn| {
            txn.state == TxnState::Prepared && txn.since.saturating_add(DOUBT) <= now
        });
        if in_doubt {
            self.wake(WORKER);
        }
    }

    /// Commits that somebody must be asked about.
    fn doubts(&mut self, now: u64) -> Result<KVec<Doubt>> {
        let mut doubts = KVec::new();
        let map = &self.map;
        let out = |id: u32| map.peer(id).is_some_and(|peer| peer.state == State::Out);
        for (cid, txn) in self.txns.iter_mut() {
            let several = !txn.owners.is_empty();
            let in_doubt = match txn.state {
                TxnState::Prepared => true,
                TxnState::Published => several || out(u32::from(cid.node())),
                TxnState::Preparing | TxnState::Finishing | TxnState::Undone => false,
            };
            if in_doubt && txn.since.saturating_add(DOUBT) <= now {
                txn.since = now;
                let doubt = Doubt {
                    cid: *cid,
                    prepared: txn.state == TxnState::Prepared,
                    several,
                };
                doubts.push(doubt, GFP_KERNEL)?;
            }
        }
        Ok(doubts)
    }
}

/// Waits until a page can be used, or a while: then we look whether the worker has to ask what it waits for.
pub(super) async fn wait_for<H: Host>(
    host: &H,
    key: PageKey,
    ticket: Ticket,
    until: u64,
) -> Result {
    let now = host.now();
    host.with(|node| node.hurry(key, now));
    if now >= until {
        return Err(ETIMEDOUT);
    }
    let a_while = until.min(now.saturating_add(DOUBT));
    host.wait(ticket, a_while, Sleep::Killable).await
}

/// One round of questions.
pub(super) async fn resolve<H: Host>(host: &H, until: u64) -> Result {
    let now = host.now();
    let doubts = host.with(|node| node.doubts(now))?;
    let mut result = Ok(());
    for doubt in &doubts {
        if let Err(error) = resolve_one(host, doubt, until).await {
            result = Err(error);
        }
    }
    result
}

async fn resolve_one<H: Host>(host: &H, doubt: &Doubt, until: u64) -> Result {
    let cid = doubt.cid;
    let cn = u32::from(cid.node());
    let (us, out) = host.with(|node| (node.id(), node.is_out(cn)));
    let answer = match () {
        () if out => Outcome::Forgotten,
        () if cn == us => participant::on_ask_outcome(host, cid)?,
        () => handler::ask(host, cn, &AskOutcome { cid }, until)
            .await
            .map_err(handler::errno)?,
    };
    match (doubt.prepared, answer) {
        (_, Outcome::Pending) | (false, Outcome::Committed) => Ok(()),
        (true, Outcome::Committed) => participant::publish(host, cid).await,
        (true, Outcome::Aborted) => undo(host, cid).await,
        // It has heard of all owners, and has no more questions.
        (false, Outcome::Aborted) => participant::release_one(host, cid).await,
        (_, Outcome::Forgotten) if doubt.several => ask_owners(host, doubt, until).await,
        (true, Outcome::Forgotten) => undo(host, cid).await,
        (false, Outcome::Forgotten) => participant::release_one(host, cid).await,
    }
}

/// Undoes a commit, and has its data nodes say that they have nothing of it any more: until then
/// nobody else has its pages. The worker goes on with those that do not say so at once.
async fn undo<H: Host>(host: &H, cid: Cid) -> Result {
    participant::give_up(host, cid).await?;
    transaction::confirm_undone(host, cid, 0).await.map(|_| ())
}

/// Asks the other owners of a commit how far they are, and does what follows from it.
async fn ask_owners<H: Host>(host: &H, doubt: &Doubt, until: u64) -> Result {
    let cid = doubt.cid;
    let owners = host.with(|node| {
        let mut owners = KVec::new();
        let us = node.id();
        if let Some(txn) = node.txns.get(&cid) {
            let others = txn.owners.iter().map(|id| u32::from(*id));
            for owner in others.filter(|id| *id != us) {
                owners.push(owner, GFP_KERNEL)?;
            }
        }
        Ok::<_, Error>(owners)
    })?;
    let (mut published, mut unknown, mut open) = (false, false, false);
    let mut missing = Ok(());
    let mut lost = false;
    for owner in &owners {
        if host.with(|node| node.is_out(*owner)) {
            lost = true;
            continue;
        }
        let part = handler::ask(host, *owner, &AskPart { cid }, until).await;
        match part.map_err(handler::errno) {
            Ok(Part::Published) => published = true,
            Ok(Part::Unknown) => unknown = true,
            Ok(Part::Prepared) => open = true,
            Ok(Part::Preparing) => missing = Err(EAGAIN),
            Err(error) => missing = Err(error),
        }
    }
    if !doubt.prepared {
        // Once nobody is in doubt any more nobody will ask us.
        missing?;
        return match open {
            true => Ok(()),
            false => participant::release_one(host, cid).await,
        };
    }
    if lost && !published && !unknown {
        // What it had promised is at its data nodes; its successor settles that.
        let alone = host.with(|node| node.txns.get(&cid).is_some_and(|txn| txn.replicas == 1));
        match remains::look(host, cid, until).await? {
            Lost::Published => published = true,
            Lost::GivenUp => unknown = true,
            // With one copy of each page it is lost with its owner.
            Lost::Partial | Lost::Nothing if !alone => unknown = true,
            _ => {}
        }
    }
    match () {
        () if published => participant::publish(host, cid).await,
        () if unknown => undo(host, cid).await,
        () => {
            missing?;
            participant::publish(host, cid).await
        }
    }
}

/// How far we are with our part of a commit; what we do not know of we never prepare.
///
/// EAGAIN for an owner that has seen a newer map than we: the committing node may be out there and
/// still be heard here.
pub(super) fn on_ask_part<H: Host>(host: &H, from: Sender, cid: Cid) -> Result<Part> {
    host.with(|node| {
        if from.epoch > node.map.epoch {
            return Err(EAGAIN);
        }
        match node.txns.get(&cid).map(|txn| txn.state) {
            Some(TxnState::Published) => Ok(Part::Published),
            Some(TxnState::Prepared) => Ok(Part::Prepared),
            Some(TxnState::Preparing | TxnState::Finishing) => Ok(Part::Preparing),
            None if node.has_published(cid) => Ok(Part::Published),
            // Nothing of it is published any more.
            Some(TxnState::Undone) | None => {
                node.refuse(cid)?;
                node.incoming.remove(&cid);
                Ok(Part::Unknown)
            }
        }
    })
}
