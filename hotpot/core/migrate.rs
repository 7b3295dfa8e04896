// SPDX-License-Identifier: GPL-2.0

//! Chunk migration [2.5.5]: a chunk goes to the node that reads and commits most of it.
//!
//! The owner counts what each node moves to and from a chunk in a window of time. When another node
//! would save enough (benefit) for what has to be copied to it (cost), the owner has that node fetch
//! the pages it lacks, while everything goes on. Then the CD writes into the dataset's record who the
//! new owner is. A node that has the new record drops the validity of its copies of the chunk, takes them out of its page
//! tables, and asks the new owner from then on. The new owner takes the chunk over like that
//! of a node that is lost ([`takeover`](super::takeover)), but does not begin before the owner before has told
//! what it has: which it does once it knows the record, and its last commits on the chunk have ended.
//! So there is one owner at most at any time, whoever fails: nothing but the record decides.
//! At last the CD takes the owner before out of the record.

mod arrive;
mod benefit;
mod handover;
mod leave;
mod offer;
mod relieve;

use super::{
    host::{Host, PageKey},
    names::pages_of,
    node::Node,
    pages::Clean,
};
use kernel::{prelude::*, rbtree::RBTree};

pub(super) use handover::unmap_moved;
pub(super) use offer::on_offer;
pub use offer::Offer;

/// When chunks move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether they do.
    pub enabled: bool,
    /// Over how long traffic is counted, ns.
    pub window: u64,
    /// Bytes that a node must save in a window.
    pub min_benefit: u64,
    /// Bytes that may be copied for the moves of a window; no move costs more than it saves in four
    /// windows.
    pub max_cost: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            window: 2_000_000_000,
            min_benefit: 256 << 10,
            max_cost: 64 << 20,
        }
    }
}

/// What has moved of a dataset since the mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Chunks that have left this node.
    pub left: u64,
    /// Chunks that have come.
    pub came: u64,
    /// Moves that were given up: no room there, the CD refused, or a page cannot be read.
    pub stayed: u64,
}

/// A dataset and the number of one of its chunks.
type Chunk = (u64, u64);

/// A chunk of ours that is to go.
#[derive(Clone, Copy)]
struct Leaving {
    of: Chunk,
    to: u16,
    /// Most of that node's device that may be pages of its own then, of [`relieve::WHOLE`].
    limit: u64,
    /// We are in need of its room.
    for_room: bool,
    /// That node lets it in.
    let_in: bool,
    /// Pages before are copied.
    at: PageKey,
}

impl Leaving {
    /// For its benefit. `at` is its first page.
    fn new(of: Chunk, to: u16, at: PageKey) -> Self {
        Self {
            of,
            to,
            limit: offer::HALF,
            for_room: false,
            let_in: false,
            at,
        }
    }
}

/// Chunks that move, at one node.
#[derive(Default)]
pub struct Migration {
    /// When.
    pub policy: Policy,
    /// How many, by dataset.
    counts: RBTree<u64, Counts>,
    /// Bytes that nodes have moved in this window, by chunk of ours.
    traffic: RBTree<Chunk, KVec<(u32, u64)>>,
    /// When the window ends, ns.
    window_end: u64,
    leaving: KVec<Leaving>,
    /// Chunks that stay as a page of theirs is damaged, and which one, of which the operator was told.
    told: KVec<(Chunk, u64)>,
    /// Chunks that have come to us, all of whose pages are here: in this life.
    arrived: KVec<Chunk>,
    /// Chunks with another owner than before, which are still in page tables, and when we learnt that.
    unmap: KVec<(Chunk, u64)>,
    /// How many pages are ours.
    pub(super) own: offer::OwnPages,
    relief: relieve::Relief,
    serial: u64,
}

impl Migration {
    /// What has moved of a dataset, from this node and to it.
    pub fn counts(&self, dataset: u64) -> Counts {
        self.counts.get(&dataset).copied().unwrap_or_default()
    }

    /// Counts one thing more; without memory for it, not.
    fn count(&mut self, dataset: u64, which: fn(&mut Counts) -> &mut u64) {
        if self.counts.get(&dataset).is_none() {
            let _ = self
                .counts
                .try_create_and_insert(dataset, Counts::default(), GFP_KERNEL);
        }
        if let Some(counts) = self.counts.get_mut(&dataset) {
            *which(counts) += 1;
        }
    }
}

/// Most chunks of which it is remembered that the operator was told.
const MAX_TOLD: usize = 64;

/// How many requests for pages there are in one round of the worker.
const ROUNDS: usize = 8;

impl Node {
    /// Whether chunks are on their way, from us or to us.
    pub(super) fn has_moves(&self) -> bool {
        !self.migration.leaving.is_empty()
            || !self.migration.unmap.is_empty()
            || self.arriving().map_or(true, |all| !all.is_empty())
    }

    /// Whether chunks that have another owner now are still in page tables.
    pub(super) fn has_unmaps(&self) -> bool {
        !self.migration.unmap.is_empty()
    }

    /// The first page of a chunk.
    fn first_of(&self, of: Chunk) -> Result<PageKey> {
        Ok(pages_of(self.names.get(of.0)?, of.1).0)
    }

    /// Checks that a chunk exists and is ours.
    fn check_owned_chunk(&self, of: Chunk) -> Result {
        self.check_owned(self.first_of(of)?)
    }

    /// The pages of a chunk that are here and were committed.
    fn committed_pages(&self, of: Chunk) -> Result<impl Iterator<Item = (PageKey, Clean)> + '_> {
        let (first, count) = pages_of(self.names.get(of.0)?, of.1);
        let end = first.page.saturating_add(count);
        let mut at = first;
        Ok(core::iter::from_fn(move || loop {
            let (key, page) = self.pages.next(at)?;
            if key.dataset != first.dataset || key.page >= end {
                return None;
            }
            at.page = key.page + 1;
            if let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) {
                return Some((key, clean));
            }
        }))
    }

    /// Has a chunk of ours go to another node, by the worker. ESTALE when it is not ours.
    pub fn move_chunk(&mut self, dataset: u64, chunk: u64, to: u32) -> Result {
        self.check_ready()?;
        let of = (dataset, chunk);
        self.check_owned_chunk(of)?;
        match to == self.id() {
            true => Err(EINVAL),
            false => self.send_away(Leaving::new(of, u16::try_from(to)?, self.first_of(of)?)),
        }
    }

    /// Whether we serve a page as its owner. Two nodes never do, of those that the map has up.
    pub fn serves(&self, key: PageKey) -> bool {
        self.check_ready().is_ok() && self.check_owned(key).is_ok()
    }
}

/// One round of the worker. `true`, or an error: something is on its way.
pub(super) async fn run<H: Host>(host: &H) -> Result<bool> {
    handover::unmap_moved(host).await?;
    // A chunk that cannot come yet keeps no other from going.
    let arrived = arrive::arrive(host).await;
    let now = host.now();
    host.with(|node| node.choose_moves(now))?;
    for _ in 0..ROUNDS {
        let next = host.with(|node| {
            let next = node.migration.leaving.remove(0).ok()?;
            node.migration.relief.is_sending = next.for_room;
            Some(next)
        });
        let Some(leaving) = next else {
            break;
        };
        let (dataset, to, for_room) = (leaving.of.0, u32::from(leaving.to), leaving.for_room);
        let sent = leave::send_off(host, leaving).await;
        let now = host.now();
        host.with(|node| {
            let moves = &mut node.migration;
            moves.relief.is_sending = false;
            let gone = match sent {
                Ok(Some(again)) if moves.leaving.push(again, GFP_KERNEL).is_ok() => return,
                Ok(None) => true,
                _ => false,
            };
            if !gone {
                moves.count(dataset, |of| &mut of.stayed);
            }
            if for_room {
                moves.relief.end(to, gone, now);
            }
        });
    }
    arrived?;
    Ok(host.with(|node| node.has_moves()))
}
