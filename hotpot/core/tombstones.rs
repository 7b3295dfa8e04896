// SPDX-License-Identifier: GPL-2.0

//! What is remembered of removed datasets, and when it can be forgotten.
//!
//! The record of a removed dataset stays as a tombstone, so that a node that missed the
//! removal does not bring the dataset back. Once all nodes of the map have it, nobody can:
//! the CD has them forget, in two rounds. In the first each node says that it has no live
//! record of the dataset, nor pages; in the second it frees the pair of records. On PM the
//! tombstone stays until another record takes its place: a node that restarts before knows
//! it again, which does no harm.
//!
//! A record that is not known and not newer than what was forgotten is a late message.

use super::{
    cluster::State,
    handler,
    host::{CallError, Host, PageKey, Piece},
    msg::{Removed, Request, Retire},
    names::Names,
    node::Node,
};
use kernel::prelude::*;

/// The CD has tombstones forgotten when there are so many.
const RETIRE_AT: usize = 4;
/// At most so many at a time.
const BATCH: usize = 64;

/// A pair of records that holds a forgotten tombstone.
#[derive(Clone, Copy)]
pub(super) struct Retired {
    pub(super) pair: u64,
    /// The copy to write first, and the sequence that is to be exceeded.
    pub(super) next: u8,
    pub(super) sequence: u64,
}

impl Names {
    /// A pair for a new record.
    pub(super) fn free_pair(&mut self) -> Result<Retired> {
        if let Some(retired) = self.retired.pop() {
            return Ok(retired);
        }
        let pair = self.pairs.take().ok_or(ENOSPC)?;
        Ok(Retired {
            pair,
            next: 0,
            sequence: 0,
        })
    }

    /// Tombstones that are to be forgotten. Ids and generations count up from the highest
    /// ones, which stay therefore.
    fn removed(&self) -> Result<KVec<Removed>> {
        let mut removed = KVec::new();
        let last = self.entries.keys().last().copied().unwrap_or(0);
        let newest = self.generation();
        let tombstones = self.entries.values().map(|entry| &entry.record);
        for record in tombstones.filter(|record| record.tombstone) {
            if record.id != last && record.generation != newest && removed.len() < BATCH {
                let one = Removed {
                    dataset: record.id,
                    generation: record.generation,
                };
                removed.push(one, GFP_KERNEL)?;
            }
        }
        Ok(removed)
    }
}

impl Node {
    /// The tombstones to retire and the nodes to ask; `None` when there are few, or when
    /// not everybody can be asked.
    fn to_retire(&self) -> Result<Option<(KVec<Removed>, KVec<u32>)>> {
        let us = self.id();
        let names = &self.names;
        let members = || self.map.peers.iter().filter(|p| p.state != State::Out);
        if names.stale || !names.unsent.is_empty() || members().any(|p| p.state != State::Up) {
            return Ok(None);
        }
        let removed = names.removed()?;
        if removed.len() < RETIRE_AT {
            return Ok(None);
        }
        let mut nodes = KVec::new();
        for peer in members().filter(|peer| peer.id != us) {
            nodes.push(peer.id, GFP_KERNEL)?;
        }
        Ok(Some((removed, nodes)))
    }

    /// EAGAIN or EBUSY while a tombstone is still needed here.
    fn check_retirable(&self, removed: &[Removed]) -> Result {
        if self.names.stale {
            return Err(EAGAIN);
        }
        for one in removed {
            let first = PageKey {
                dataset: one.dataset,
                page: 0,
            };
            let has_pages =
                matches!(self.pages.next(first), Some((key, _)) if key.dataset == one.dataset);
            let lives = match self.names.entries.get(&one.dataset) {
                Some(entry) => !entry.record.tombstone,
                None => false,
            };
            if has_pages || lives {
                return Err(EBUSY);
            }
        }
        Ok(())
    }

    fn retire(&mut self, removed: &[Removed]) -> Result {
        let names = &mut self.names;
        names.retired.reserve(removed.len(), GFP_KERNEL)?;
        for one in removed {
            let known = names.entries.get(&one.dataset).map(|entry| &entry.record);
            if known.is_some_and(|r| r.tombstone && r.generation == one.generation) {
                if let Some(entry) = names.entries.remove(&one.dataset) {
                    let retired = Retired {
                        pair: entry.pair,
                        next: entry.next,
                        sequence: entry.record.sequence,
                    };
                    // There is room: reserved above.
                    let _ = names.retired.push_within_capacity(retired);
                }
            }
            names.forgotten = names.forgotten.max(one.generation);
        }
        Ok(())
    }
}

/// At the CD, which makes no change meanwhile: has all nodes forget what was removed, when
/// there is much of it and all of them can. What fails is tried again with the next change.
pub(super) async fn retire<H: Host>(host: &H, until: u64) -> Result {
    let Some((removed, nodes)) = host.with(|node| {
        let found = node.to_retire()?;
        if let Some((removed, _)) = &found {
            node.check_retirable(removed)?;
        }
        Ok::<_, Error>(found)
    })?
    else {
        return Ok(());
    };
    for forget in [false, true] {
        let mut request = Retire {
            forget,
            removed: KVec::with_capacity(removed.len(), GFP_KERNEL)?,
        };
        request.removed.extend_from_slice(&removed, GFP_KERNEL)?;
        ask_all(host, &request, &nodes, until).await?;
    }
    host.with(|node| node.retire(&removed))
}

async fn ask_all<H: Host>(host: &H, request: &Retire, nodes: &[u32], until: u64) -> Result {
    let epoch = host.with(|node| node.map.epoch);
    let header = request.encode(epoch)?;
    let until = handler::call_until(host, until);
    let mut calls = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    for dst in nodes {
        let mut pieces = KVec::with_capacity(1, GFP_KERNEL)?;
        pieces.push(Piece::Bytes(&header), GFP_KERNEL)?;
        calls.push(handler::call(*dst, pieces, 64, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    calls.iter().try_for_each(|call| {
        let reply: Result<(), CallError> = handler::reply_of::<Retire>(call);
        reply.map_err(handler::errno)
    })
}

/// From the CD.
pub(super) fn on_retire<H: Host>(host: &H, request: &Retire) -> Result {
    host.with(|node| {
        node.check_retirable(&request.removed)?;
        match request.forget {
            true => node.retire(&request.removed),
            false => Ok(()),
        }
    })
}
