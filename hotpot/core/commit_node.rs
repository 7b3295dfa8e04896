// SPDX-License-Identifier: GPL-2.0

//! Committing node (CN): splits a commit by owners, leads it through its phases and
//! decides it when there are several owners.

mod decided;
mod letters;
mod several;
mod single;

use super::{
    area::Area,
    commit::Committed,
    data_node,
    fault::PAUSE,
    format::Cid,
    host::{Host, Sleep},
    node::{Notice, NoticeKind, GENERAL},
    recovery, transaction,
};
use kernel::prelude::*;
use {several::several, single::single};

pub(super) use decided::tell_owners;

/// The part of a commit that goes to one owner.
struct Share<'a> {
    owner: u32,
    areas: KVec<Area<'a>>,
}

/// How long a commit of several owners goes to one of them first after another one met one with the
/// same bytes, ns.
const CONTENTION: u64 = 1_000_000_000;

/// How often a commit is tried again whose owner says that it is not, at most.
pub(super) const MAX_PAUSES: u32 = 16;

/// What is to be committed, and how.
pub(super) struct Order<'a> {
    /// In order.
    pub(super) areas: &'a [Area<'a>],
    /// MRSW [2.6.3]: once all owners have promised it is done; they publish soon after.
    pub(super) single_phase: bool,
    /// MRSW: the owners free the pages.
    pub(super) release: bool,
    /// Durable copies.
    pub(super) replicas: u32,
    pub(super) until: u64,
}

/// How a share is to be prepared.
#[derive(Clone, Copy)]
struct Terms<'a> {
    cid: Cid,
    nr_owners: u32,
    /// Their ids when there are several.
    owners: &'a [u16],
    single_phase: bool,
    release: bool,
    replicas: u32,
    wait: bool,
    until: u64,
}

/// Commits areas: all or nothing.
pub(super) async fn run<H: Host>(host: &H, order: &Order<'_>) -> Committed {
    let mut cid = Cid(0);
    let mut result = attempts(host, order, &mut cid).await;
    let mut pauses = 0;
    while result == Err(ESTALE) && pauses < MAX_PAUSES {
        // An owner that says that a page is not its own: the chunk may have moved, and the record
        // that says so is on its way to us.
        let now = host.now();
        if now.saturating_add(PAUSE) >= order.until || host.with(|node| node.check_ready()).is_err()
        {
            break;
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let pause = (PAUSE / 4) << pauses.min(2);
        if let Err(error) = host.wait(ticket, now + pause, Sleep::Killable).await {
            result = Err(error);
            break;
        }
        pauses += 1;
        result = attempts(host, order, &mut cid).await;
    }
    if result.is_ok() && data_node::finish(host, cid).await.is_err() {
        // What owners staged at us as a data node is ours to publish now; published it is.
        return Committed {
            cid,
            result: Err(EINPROGRESS),
        };
    }
    Committed { cid, result }
}

async fn attempts<H: Host>(host: &H, order: &Order<'_>, cid: &mut Cid) -> Result {
    let (us, up) = host.with(|node| (node.id(), node.map.up().count()));
    if up < order.replicas as usize {
        return Err(EHOSTDOWN);
    }
    let shares = split(host, order.areas)?;
    let mut owners = KVec::new();
    if shares.len() > 1 {
        for share in &shares {
            owners.push(share.owner as u16, GFP_KERNEL)?;
        }
    }
    let mut terms = Terms {
        cid: new_cid(host).await?,
        nr_owners: shares.len() as u32,
        owners: &owners,
        single_phase: order.single_phase,
        release: order.release,
        replicas: order.replicas,
        wait: shares.len() == 1,
        until: order.until,
    };
    *cid = terms.cid;
    let Some(first) = shares.first() else {
        return host.with(|node| node.note_published(terms.cid));
    };
    if shares.len() == 1 {
        return match first.owner == us {
            true => {
                host.with(|node| node.reserve_memory())?;
                // A quarter of the time is for the data nodes to confirm that it was undone.
                let left = order.until.saturating_sub(host.now());
                let terms = Terms {
                    until: order.until - left / 4,
                    ..terms
                };
                let prepared = prepare_here(host, first, &terms).await;
                if prepared == Err(EINPROGRESS) {
                    host.with(|node| {
                        node.note_doubted(terms.cid, KVec::new());
                        node.leave_doubt(terms.cid);
                    });
                }
                prepared
            }
            false => single(host, first, &terms).await,
        };
    }
    // Nodes that commit the same bytes, each its own part first, would all be refused by all
    // others: who gets the part of the first owner gets all.
    let contended = host.with(|node| node.contended_until) > host.now();
    let result = match several(host, &shares, &terms, usize::from(contended)).await {
        // Somebody else's commit of other bytes is in flight on a page: one owner after
        // the other in the order of their ids, so that no two commits wait for each other.
        Err(EBUSY) => {
            terms.cid = new_cid(host).await?;
            *cid = terms.cid;
            several(host, &shares, &terms, shares.len()).await
        }
        result => result,
    };
    if result == Err(EAGAIN) {
        let until = host.now().saturating_add(CONTENTION);
        host.with(|node| node.contended_until = until);
    }
    result
}

fn split<'a, H: Host>(host: &H, areas: &[Area<'a>]) -> Result<KVec<Share<'a>>> {
    let mut shares: KVec<Share<'a>> = KVec::new();
    host.with(|node| {
        for area in areas {
            let owner = node.owner(area.key)?;
            if !node.is_up(owner) {
                return Err(EHOSTDOWN);
            }
            let at = match shares.iter().position(|share| share.owner == owner) {
                Some(at) => at,
                None => {
                    let areas = KVec::new();
                    shares.push(Share { owner, areas }, GFP_KERNEL)?;
                    shares.len() - 1
                }
            };
            if let Some(share) = shares.get_mut(at) {
                share.areas.push(*area, GFP_KERNEL)?;
            }
        }
        Ok(())
    })?;
    shares.sort_unstable_by_key(|share| share.owner);
    Ok(shares)
}

/// An id that no commit ever had.
pub(super) async fn new_cid<H: Host>(host: &H) -> Result<Cid> {
    loop {
        let next = host.with(|node| {
            let (superblock, _) = node.superblock.ok_or(ENOTCONN)?;
            let counter = node.next_counter;
            if counter < superblock.cid_limit {
                node.next_counter += 1;
                return Ok(Some(Cid::new(node.id() as u16, counter)));
            }
            Ok::<_, Error>(None)
        })?;
        if let Some(cid) = next {
            return Ok(cid);
        }
        recovery::update_superblock(host, |superblock| {
            superblock.reserve_cids().map(|_| ()).ok_or(EOVERFLOW)
        })
        .await?;
    }
}

async fn prepare_here<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    let cn = host.with(|node| node.us());
    transaction::prepare(
        host,
        &transaction::Prepare {
            cid: terms.cid,
            life: 0,
            cn,
            nr_owners: terms.nr_owners,
            owners: terms.owners,
            release: terms.release,
            replicas: terms.replicas,
            wait: terms.wait,
            areas: &share.areas,
            until: terms.until,
        },
    )
    .await
}

fn give_up<H: Host>(host: &H, owner: u32, cid: Cid) {
    host.with(|node| {
        node.notify(Notice {
            node: owner,
            cid,
            kind: NoticeKind::GiveUp,
        });
    });
}
