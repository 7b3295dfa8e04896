// SPDX-License-Identifier: GPL-2.0

//! What follows a decision: the owners are told until all have published, then the records go.

use super::super::{
    cluster::State,
    fault::PAUSE,
    format::Cid,
    handler,
    host::{Host, Piece, Sleep},
    msg::{Publish, Request},
    node::{Commit, Node, Notice, NoticeKind, GENERAL, WORKER},
    participant,
    persist::Batch,
};
use kernel::prelude::*;

impl Node {
    /// The worker tells the owners of a decided commit again.
    pub(in super::super) fn leave_to_worker(&mut self, cid: Cid) {
        if let Some(Commit::Decided { busy, .. }) = self.commits.get_mut(&cid) {
            *busy = false;
        }
        self.wake(WORKER);
    }
}

/// Publishes what is ours of a decided commit; the worker tells the other owners.
pub(super) async fn publish_soon<H: Host>(host: &H, cid: Cid) -> Result {
    let us = host.with(|node| node.id());
    // What does not succeed now is tried again by the worker.
    let published = participant::publish(host, cid).await.is_ok();
    host.with(|node| {
        if let Some(Commit::Decided {
            owners, told, busy, ..
        }) = node.commits.get_mut(&cid)
        {
            if published && owners.contains(&us) && told.push(us, GFP_KERNEL).is_ok() {
                owners.retain(|owner| *owner != us);
            }
            *busy = false;
        }
        node.wake(WORKER);
    });
    Ok(())
}

/// Tells the owners of a decided commit (marked as busy) until all have published or
/// the time is over; then the worker goes on. Nobody reads old bytes meanwhile.
pub(in super::super) async fn tell_owners<H: Host>(host: &H, cid: Cid, until: u64) -> Result {
    let us = host.with(|node| node.id());
    loop {
        let left = host.with(|node| {
            let mut left = KVec::new();
            let Node { commits, map, .. } = node;
            if let Some(Commit::Decided { owners, .. }) = commits.get_mut(&cid) {
                // Who takes the place of one that is out asks us.
                owners.retain(|id| map.peer(*id).is_none_or(|peer| peer.state != State::Out));
                left.extend_from_slice(owners, GFP_KERNEL)?;
            }
            Ok::<_, Error>(left)
        })?;
        if left.is_empty() {
            return forget(host, cid).await;
        }
        let epoch = host.with(|node| node.map.epoch);
        let header = Publish { cid }.encode(epoch)?;
        let call_until = handler::call_until(host, until);
        let mut done = KVec::with_capacity(left.len(), GFP_KERNEL)?;
        let mut calls = KVec::with_capacity(left.len(), GFP_KERNEL)?;
        for owner in &left {
            if *owner == us {
                if participant::publish(host, cid).await.is_ok() {
                    done.push(us, GFP_KERNEL)?;
                }
                continue;
            }
            let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
            request.push(Piece::Bytes(&header), GFP_KERNEL)?;
            calls.push(handler::call(*owner, request, 64, call_until)?, GFP_KERNEL)?;
        }
        host.call(&mut calls).await;
        for call in &calls {
            if handler::reply_of::<Publish>(call).is_ok() {
                done.push(call.dst, GFP_KERNEL)?;
            }
        }
        let (over, ticket) = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            if let Some(Commit::Decided { owners, told, .. }) = node.commits.get_mut(&cid) {
                for owner in &done {
                    if owners.contains(owner) {
                        told.push(*owner, GFP_KERNEL)?;
                        owners.retain(|other| other != owner);
                    }
                }
                return Ok((owners.is_empty(), ticket));
            }
            Ok::<_, Error>((true, ticket))
        })?;
        let now = host.now();
        if !over && now >= until {
            host.with(|node| node.leave_to_worker(cid));
            return Ok(());
        }
        if !over {
            let soon = until.min(now + PAUSE);
            host.wait(ticket, soon, Sleep::Uninterruptible).await?;
        }
    }
}

/// Phase 3: all owners have published, the records are of no use any more.
async fn forget<H: Host>(host: &H, cid: Cid) -> Result {
    let found = host.with(|node| match node.commits.get(&cid) {
        Some(Commit::Decided { record, .. }) => Some((*record, node.geometry())),
        _ => None,
    });
    let Some(((first, blocks), geometry)) = found else {
        return Ok(());
    };
    if blocks != 0 {
        let mut batch = Batch::default();
        batch.swing(geometry.commit_descriptor(first), 0)?;
        batch.fence()?;
        batch.run(host).await?;
    }
    let ours = host.with(|node| {
        let us = node.id();
        let Some(Commit::Decided { told, .. }) = node.commits.remove(&cid) else {
            return false;
        };
        node.records.give_run(first, blocks);
        // Without memory for it a successor of a lost owner hears that it was aborted only when
        // no other node shows that it was published.
        let _ = node.note_published(cid);
        for owner in told.iter().filter(|owner| **owner != us) {
            node.notify(Notice {
                node: *owner,
                cid,
                kind: NoticeKind::Release,
            });
        }
        told.contains(&us)
    });
    match ours {
        true => participant::release_one(host, cid).await,
        false => Ok(()),
    }
}
