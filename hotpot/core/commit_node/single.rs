// SPDX-License-Identifier: GPL-2.0

//! A commit with one owner: that one decides.

use super::{
    super::{
        draft::Draft,
        fault::PAUSE,
        format::Cid,
        handler,
        host::{CallError, Host, Sleep},
        msg::{AskOutcome, Outcome, Prepare},
        node::{Commit, Holder, Notice, NoticeKind, GENERAL},
    },
    give_up,
    letters::{call_of, letters, releases_for, send_ahead},
    Share, Terms,
};
use kernel::prelude::*;

/// A commit with one owner, which is another node: it decides. Who takes its place when it is
/// lost asks us how it ended.
pub(super) async fn single<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    let draft = Draft::of(host, share.areas.iter(), terms.replicas);
    host.with(|node| {
        node.reserve_memory()?;
        // Untold that we know how it ended its owner keeps its record as long as we live.
        node.notices.reserve(1, GFP_KERNEL)?;
        node.commits
            .try_create_and_insert(terms.cid, Commit::Active(draft), GFP_KERNEL)?;
        Ok::<_, Error>(())
    })?;
    let result = ask_single(host, share, terms).await;
    host.with(|node| {
        node.commits.remove(&terms.cid);
        if result.is_ok() {
            // There was room; without it a successor finds it published at other nodes, or not at all.
            let _ = node.note_published(terms.cid);
        }
    });
    result
}

async fn ask_single<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    let owner = share.owner;
    let asked = host.with(|node| node.holder(owner));
    let now = host.now();
    let left = terms.until.saturating_sub(now);
    let terms = Terms {
        until: now + (left - left / 4),
        ..*terms
    };
    let released = releases_for(host, owner)?;
    let letters = letters(host, share, &terms, &released)?;
    let last = match send_ahead(host, owner, letters, terms.until).await {
        Ok(last) => last,
        Err(error) => {
            give_up(host, owner, terms.cid);
            return Err(handler::errno(error));
        }
    };
    let answer = {
        let mut calls = [call_of(owner, &last, terms.until)?];
        host.call(&mut calls).await;
        let [call] = calls;
        handler::reply_of::<Prepare>(&call)
    };
    if answer.is_ok() {
        host.with(|node| {
            node.notices
                .retain(|n| n.kind != NoticeKind::Release || !released.contains(&n.cid));
        });
    }
    let outcome = match answer {
        Ok(()) => Ok(()),
        // It has undone it, or not, and cannot yet promise that its successor will not publish it.
        Err(CallError::Lost(_) | CallError::Handler(EINPROGRESS)) => {
            outcome(host, asked, terms.cid, now + left).await
        }
        Err(error) => {
            if matches!(error, CallError::NotExecuted(_)) {
                give_up(host, owner, terms.cid);
            }
            return Err(handler::errno(error));
        }
    };
    if outcome == Err(EINPROGRESS) {
        give_up(host, owner, terms.cid);
        // Its record is needed until we know.
        host.with(|node| node.note_unsure(terms.cid, asked));
        return outcome;
    }
    host.with(|node| {
        node.notify(Notice {
            node: owner,
            cid: terms.cid,
            kind: NoticeKind::Release,
        });
    });
    outcome
}

/// Asks the only owner what became of a commit. EINPROGRESS when it does not say
/// until the deadline, ETIMEDOUT when it was aborted.
async fn outcome<H: Host>(host: &H, asked: Holder, cid: Cid, until: u64) -> Result {
    let owner = asked.node;
    loop {
        let call_until = handler::call_until(host, until);
        match handler::ask(host, owner, &AskOutcome { cid }, call_until).await {
            Ok(Outcome::Committed) => return Ok(()),
            // In an earlier life it may have staged what it does not know of: its successor would.
            Ok(Outcome::Aborted) if host.with(|node| node.is_other_life(asked)) => {
                return Err(EINPROGRESS)
            }
            Ok(Outcome::Aborted) => return Err(ETIMEDOUT),
            Ok(Outcome::Pending | Outcome::Forgotten) | Err(_) => {}
        }
        let now = host.now();
        if now >= until || host.with(|node| node.is_out(owner)) {
            return Err(EINPROGRESS);
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let soon = until.min(now + PAUSE);
        host.wait(ticket, soon, Sleep::Uninterruptible).await?;
    }
}
