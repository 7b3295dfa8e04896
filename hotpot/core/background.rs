// SPDX-License-Identifier: GPL-2.0

//! What the mount's worker does: it tells, asks and repeats, until nothing is
//! left in doubt.

use super::{
    apart, appoint, commit_node, data_node, dispatcher, ending, eviction,
    format::Cid,
    grants, handler,
    host::{Host, PageKey},
    lives, migrate,
    msg::{Copied, Forget, Hello, Inventory, Settle, Verdict},
    node::{Commit, Greeting, Node, Notice, NoticeKind, TxnState},
    outcome, persist, records, resolve, rooms, spread,
    takeover::{self, Takeover},
    transaction, writers,
};
use kernel::prelude::*;

/// Pause between two runs when something is left to do, and when nothing is; ns.
const SOON: u64 = 50_000_000;
const LATER: u64 = 1_000_000_000;
/// Least pause while chunks of a lost owner wait for us, ns. Nodes hear of the map of the loss, and
/// of records, within moments of each other.
const AT_ONCE: u64 = 5_000_000;
/// How old a doubt is before somebody is asked, ns.
const DOUBT: u64 = 100_000_000;
/// Copies asked about at once, and commits told at once.
const BATCH: usize = 64;

/// One round. Returns when the next should be, unless the worker's queue is woken before.
pub async fn run<H: Host>(host: &H) -> u64 {
    if host.with(|node| node.check_ready()).is_err() {
        return host.now() + LATER;
    }
    // What does not succeed now is tried again in the next round.
    let mut left = false;
    left |= apart(|| greet(host)).await.is_err();
    if host.with(|node| node.check_ready()).is_err() {
        // It was told that its device is an old copy.
        return host.now() + LATER;
    }
    left |= match host.with(|node| node.names.stale) {
        true => apart(|| records::synchronize(host, soon(host)))
            .await
            .is_err(),
        false => false,
    };
    left |= apart(|| dispatcher::send_unsent(host, soon(host)))
        .await
        .is_err();
    left |= apart(|| ending::go_on(host)).await.is_err();
    left |= apart(|| publish_decided(host)).await.is_err();
    left |= apart(|| deliver(host)).await.is_err();
    left |= apart(|| resolve::resolve(host, soon(host))).await.is_err();
    left |= apart(|| outcome::ask_unsure(host, soon(host)))
        .await
        .is_err();
    left |= apart(|| takeover::run(host)).await.is_err();
    left |= apart(|| appoint::run(host, soon(host))).await.is_err();
    left |= apart(|| grants::tell_releases(host, soon(host)))
        .await
        .is_err();
    left |= apart(|| grants::drop_closed(host, soon(host)))
        .await
        .is_err();
    left |= apart(|| ask_owners(host)).await.is_err();
    left |= apart(|| rooms::ask_all(host)).await.is_err();
    left |= apart(|| spread::run(host)).await != Ok(false);
    left |= apart(|| eviction::run(host)).await.is_err();
    left |= apart(|| migrate::run(host)).await != Ok(false);
    let now = host.now();
    left |= host.with(|node| {
        node.barriers.expire(now);
        node.expire_incoming(now);
        node.has_doubts()
    });
    let next = now + host.with(|node| node.pause(left, now));
    match host.with(|node| node.spread.begins()) {
        repair if repair > now => next.min(repair),
        _ => next,
    }
}

fn soon<H: Host>(host: &H) -> u64 {
    handler::call_until(host, u64::MAX)
}

impl Node {
    /// Data whose `Prepare` never came.
    fn expire_incoming(&mut self, now: u64) {
        let limit = self.config.timeout.saturating_mul(4);
        while let Some(cid) = self
            .incoming
            .iter()
            .find(|(_, incoming)| incoming.since.saturating_add(limit) < now)
            .map(|(cid, _)| *cid)
        {
            self.incoming.remove(&cid);
        }
    }

    /// How long the worker may pause, ns. While nobody serves chunks that we are to take over that
    /// is a part of the time since the map of the loss.
    fn pause(&self, left: bool, now: u64) -> u64 {
        match (left, self.takeover) {
            (false, _) => LATER,
            (true, Takeover::Done) => SOON,
            (true, Takeover::Pending) => {
                let since = now.saturating_sub(self.spread.since);
                (since / 4).clamp(AT_ONCE, SOON)
            }
        }
    }

    /// Whether the worker has something to do that nobody will wake it for. A new map does: what
    /// waits for nodes that are down is none of it.
    fn has_doubts(&self) -> bool {
        self.has_guests_to_ask_about()
            || self.notices.iter().any(|notice| self.is_up(notice.node))
            || self.names.stale
            || !self.names.unsent.is_empty()
            || self
                .greetings
                .iter()
                .any(|greeting| self.is_up(greeting.node))
            || self
                .commits
                .values()
                .any(|commit| matches!(commit, Commit::Decided { .. }))
            || self.grants.has_work()
            || self.has_unsure_to_ask()
            || self.takeover == Takeover::Pending
            || self.txns.values().any(|txn| {
                txn.unfinished.is_some()
                    || matches!(txn.state, TxnState::Prepared | TxnState::Undone)
                    || txn.state == TxnState::Published && !txn.owners.is_empty()
            })
    }
}

/// Tells other nodes that we are new, until each has answered.
async fn greet<H: Host>(host: &H) -> Result {
    let ids = host.with(|node| {
        let mut ids = KVec::new();
        for greeting in node.greetings.iter().filter(|of| node.is_up(of.node)) {
            ids.push((greeting.node, greeting.restarted), GFP_KERNEL)?;
        }
        Ok::<_, Error>(ids)
    })?;
    let mut result = Ok(());
    let mut taken = false;
    let (life, first, empty) = host.with(|node| {
        let life = node.superblock.map_or(0, |(of, _)| of.incarnation);
        (life, node.first_counter, node.is_empty(life))
    });
    for (id, restarted) in &ids {
        let hello = Hello {
            restarted: *restarted,
            life,
            first,
            empty,
        };
        let answer = handler::ask(host, *id, &hello, soon(host)).await;
        let outdated = match answer {
            // A commit of ours that we have not made yet, or a life that is over.
            Ok(highest) => host.with(|node| highest >= node.next_counter),
            Err(error) => *restarted && handler::errno(error) == EUCLEAN,
        };
        if outdated {
            lives::learn_outdated(host, *id).await?;
            return Err(ESTALE);
        }
        let answer = match answer {
            // Nothing is changed, and nobody may write, before we know who does.
            Ok(_) => writers::rebuild(host, &[*id], &[], soon(host)).await,
            Err(error) => Err(handler::errno(error)),
        };
        match answer {
            Ok(()) => {
                taken = true;
                host.with(|node| {
                    node.greetings.retain(|greeting| greeting.node != *id);
                    node.wake(super::node::GENERAL);
                });
            }
            Err(error) => {
                result = Err(error);
                if error == EHOSTDOWN {
                    host.with(|node| {
                        let theirs = |of: &&mut Greeting| of.node == *id;
                        if let Some(greeting) = node.greetings.iter_mut().find(theirs) {
                            greeting.away = true;
                        }
                        node.wake(super::node::GENERAL);
                    });
                }
            }
        }
    }
    if taken {
        // Nobody whom we reach knows better.
        host.with(|node| {
            node.recognized = true;
            node.wake(super::node::GENERAL);
        });
    }
    result
}

/// Brings commits that we decided to the owners that have not published yet.
async fn publish_decided<H: Host>(host: &H) -> Result {
    let mut cids = KVec::new();
    host.with(|node| {
        let Node { commits, .. } = node;
        for (cid, commit) in commits.iter_mut() {
            if let Commit::Decided { busy, .. } = commit {
                if !*busy {
                    *busy = true;
                    cids.push(*cid, GFP_KERNEL)?;
                }
            }
        }
        Ok::<_, Error>(())
    })?;
    let mut result = Ok(());
    for cid in &cids {
        let until = host.now() + SOON;
        let told = commit_node::tell_owners(host, *cid, until).await;
        if told.is_err() {
            host.with(|node| node.leave_to_worker(*cid));
        }
        data_node::finish(host, *cid).await?;
        result = result.and(told);
    }
    result
}

/// Delivers notices, all of one node at once.
async fn deliver<H: Host>(host: &H) -> Result {
    let mut nodes: KVec<u32> = KVec::new();
    host.with(|node| {
        for notice in &node.notices {
            if !nodes.contains(&notice.node) && node.is_up(notice.node) {
                nodes.push(notice.node, GFP_KERNEL)?;
            }
        }
        Ok::<_, Error>(())
    })?;
    let mut result = Ok(());
    for dst in &nodes {
        let mut batch: KVec<Notice> = KVec::new();
        host.with(|node| {
            let theirs = node.notices.iter().filter(|notice| notice.node == *dst);
            for notice in theirs.take(BATCH) {
                batch.push(*notice, GFP_KERNEL)?;
            }
            Ok::<_, Error>(())
        })?;
        let of = |kind: NoticeKind| {
            let mut cids: KVec<Cid> = KVec::new();
            for notice in batch.iter().filter(|notice| notice.kind == kind) {
                cids.push(notice.cid, GFP_KERNEL)?;
            }
            Ok::<_, Error>(cids)
        };
        let settle = Settle {
            committed: of(NoticeKind::Committed)?,
            aborted: of(NoticeKind::Aborted)?,
        };
        let forget = Forget {
            aborted: of(NoticeKind::GiveUp)?,
            released: of(NoticeKind::Release)?,
        };
        let mut told = Ok(());
        if !settle.committed.is_empty() || !settle.aborted.is_empty() {
            told = handler::ask(host, *dst, &settle, soon(host)).await;
        }
        if told.is_ok() && (!forget.aborted.is_empty() || !forget.released.is_empty()) {
            told = handler::ask(host, *dst, &forget, soon(host)).await;
        }
        host.with(|node| {
            let undone = batch.iter().filter(|of| of.kind == NoticeKind::Aborted);
            match told {
                Ok(()) => {
                    node.notices.retain(|notice| !batch.contains(notice));
                    undone.for_each(|of| node.confirmed(of.node, of.cid));
                    for of in batch.iter().filter(|of| of.kind == NoticeKind::GiveUp) {
                        node.heard(of.node, of.cid);
                    }
                }
                Err(error) if transaction::is_away(error) => {
                    undone.for_each(|of| node.expect_no_more(of.node, of.cid));
                }
                Err(_) => {}
            }
        });
        result = result.and(told.map_err(handler::errno));
    }
    result
}

/// Drops staged versions of datasets that were removed: nobody can say what became of them.
async fn drop_removed<H: Host>(host: &H) -> Result {
    loop {
        let found = host.with(|node| {
            node.guests.iter().find_map(|(cid, guest)| {
                let removed = |key: &&PageKey| node.names.is_removed(key.dataset);
                guest.keys.iter().find(removed).map(|key| (*cid, *key))
            })
        });
        let Some((cid, key)) = found else {
            return Ok(());
        };
        persist::settle(host, cid, &[key], false).await?;
        host.with(|node| {
            if let Some(guest) = node.guests.get_mut(&cid) {
                guest.keys.retain(|other| *other != key);
            }
        });
    }
}

/// Asks owners about staged versions in doubt, and about copies that are not valid (some at a time).
async fn ask_owners<H: Host>(host: &H) -> Result {
    drop_removed(host).await?;
    let now = host.now();
    let mut asks: KVec<(u32, PageKey, Copied, u32)> = KVec::new();
    let mut own: KVec<(PageKey, u64, Cid, bool)> = KVec::new();
    host.with(|node| {
        node.forget_guests();
        let us = node.id();
        let mut late = false;
        for (cid, guest) in node.guests.iter() {
            for key in &guest.keys {
                let Some(page) = node.pages.get(*key) else {
                    continue;
                };
                let old = page
                    .staged
                    .iter()
                    .find(|s| s.cid == *cid && s.ready && s.since.saturating_add(DOUBT) <= now);
                if let (Some(staged), Ok(owner)) = (old, node.owner(*key)) {
                    let inherited = node.names.is_inherited(*key);
                    if owner == us && inherited && node.is_remains(*key, *cid) {
                        // Of a lost owner, and late.
                        late = true;
                        continue;
                    }
                    if owner == us {
                        // Of the owner before us, or of one before the lost one. Once the chunk is
                        // here we know what it has published.
                        if !node.is_pending(*key) {
                            let right = page.clean.is_some_and(|clean| {
                                (clean.version, clean.cid) == (staged.version, *cid)
                            });
                            own.push((*key, staged.version, *cid, right), GFP_KERNEL)?;
                        }
                        continue;
                    }
                    if !node.is_up(owner) || !node.is_greeted(owner) {
                        continue;
                    }
                    let copied = Copied {
                        key: *key,
                        version: staged.version,
                        cid: *cid,
                        staged: true,
                    };
                    asks.push((owner, *key, copied, page.sequence), GFP_KERNEL)?;
                }
            }
        }
        if late {
            node.takeover = Takeover::Pending;
        }
        node.stale_copies(&mut asks)
    })?;
    for (key, version, cid, right) in &own {
        let copied = Copied {
            key: *key,
            version: *version,
            cid: *cid,
            staged: true,
        };
        let verdict = match right {
            true => Verdict::Right,
            false => Verdict::Wrong,
        };
        heed(host, &copied, 0, 0, verdict).await?;
    }
    let mut owners: KVec<u32> = KVec::new();
    for (owner, ..) in &asks {
        if !owners.contains(owner) {
            owners.push(*owner, GFP_KERNEL)?;
        }
    }
    let mut result = Ok(());
    for owner in &owners {
        let begun = host.with(|node| node.generation);
        let mut copies = KVec::new();
        let mut sequences = KVec::new();
        for (_, _, copied, sequence) in asks.iter().filter(|ask| ask.0 == *owner).take(BATCH) {
            copies.push(*copied, GFP_KERNEL)?;
            sequences.push(*sequence, GFP_KERNEL)?;
        }
        let inventory = Inventory { copies };
        match handler::ask(host, *owner, &inventory, soon(host)).await {
            Ok(verdicts) => {
                let copies = inventory.copies.iter().zip(&sequences);
                for ((copied, sequence), verdict) in copies.zip(&verdicts) {
                    heed(host, copied, *sequence, begun, *verdict).await?;
                }
            }
            Err(error) => result = Err(handler::errno(error)),
        }
    }
    result
}

impl Node {
    /// Some copies that are not valid, and from which on to look the next time.
    fn stale_copies(&mut self, asks: &mut KVec<(u32, PageKey, Copied, u32)>) -> Result {
        let us = self.id();
        let mut at = self.inventory;
        let mut looked = 0;
        let mut found = 0;
        while looked < 64 * BATCH && found < BATCH {
            let Some((key, page)) = self.pages.next(at) else {
                at = PageKey {
                    dataset: 0,
                    page: 0,
                };
                break;
            };
            looked += 1;
            at = PageKey {
                page: key.page.saturating_add(1),
                ..key
            };
            let idle = page.staged.is_empty() && !page.fetching && page.busy == 0;
            let Some(clean) = page.clean.filter(|clean| !clean.valid && idle) else {
                continue;
            };
            match self.owner(key) {
                Ok(owner) if owner != us && self.is_up(owner) && self.is_greeted(owner) => {
                    let copied = Copied {
                        key,
                        version: clean.version,
                        cid: clean.cid,
                        staged: false,
                    };
                    asks.push((owner, key, copied, page.sequence), GFP_KERNEL)?;
                    found += 1;
                }
                _ => {}
            }
        }
        self.inventory = at;
        Ok(())
    }
}

/// Does with a copy what its owner said.
async fn heed<H: Host>(
    host: &H,
    copied: &Copied,
    sequence: u32,
    begun: u64,
    verdict: Verdict,
) -> Result {
    let key = copied.key;
    match (verdict, copied.staged) {
        (Verdict::Later, _) => Ok(()),
        (verdict, true) => {
            persist::settle(host, copied.cid, &[key], verdict == Verdict::Right).await?;
            host.with(|node| {
                if verdict == Verdict::Right {
                    node.note_settled(copied.cid);
                }
                if let Some(guest) = node.guests.get_mut(&copied.cid) {
                    guest.keys.retain(|other| *other != key);
                    if guest.keys.is_empty() {
                        node.guests.remove(&copied.cid);
                    }
                }
            });
            Ok(())
        }
        (verdict, false) => {
            let drop = host.with(|node| {
                let same = node.generation == begun;
                let Some(page) = node.pages.get_mut(key) else {
                    return false;
                };
                let same = same && page.sequence == sequence;
                match &mut page.clean {
                    Some(clean) if clean.version == copied.version && !clean.valid => {
                        if verdict == Verdict::Right {
                            clean.valid = same;
                            return false;
                        }
                        !page.is_blocked()
                    }
                    _ => false,
                }
            });
            match drop {
                true => persist::drop_clean(host, key).await,
                false => Ok(()),
            }
        }
    }
}
