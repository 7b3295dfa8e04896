// SPDX-License-Identifier: GPL-2.0

//! What a node can tell about datasets and room without asking anybody.

use super::{host::PageKey, node::Node};
use kernel::prelude::*;

/// Pages of a dataset on this node by state (section 2.5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Clean, and mapped by a process.
    pub committed: u64,
    /// Clean, not mapped.
    pub redundant: u64,
    /// With uncommitted stores.
    pub dirty: u64,
    /// Of our own, with fewer durable copies than they are to have.
    pub missing: u64,
}

/// `struct hotpot_chunk`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkInfo {
    /// Its owner node.
    pub owner: u32,
    /// Pages that we have a clean copy of.
    pub nr_local: u32,
    /// Pages with uncommitted stores.
    pub nr_dirty: u32,
    /// At the owner: committed pages that exist.
    pub nr_pages: u32,
    /// At the owner: durable copies of the page that has the fewest, as far as it knows.
    pub min_replicas: u32,
}

/// Room for data, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Data pages of the device.
    pub pages: u64,
    /// Free ones.
    pub free: u64,
}

/// Pages of a dataset by state.
pub fn pages(node: &Node, dataset: u64) -> PageCounts {
    let mut counts = PageCounts::default();
    let mut at = PageKey { dataset, page: 0 };
    while let Some((key, page)) = node
        .pages
        .next(at)
        .filter(|(key, _)| key.dataset == dataset)
    {
        let clean = page.clean.is_some_and(|clean| clean.pm.is_some());
        if clean && node.owns(key) && node.durable_copies(key, None) < node.degree_of(key) {
            counts.missing += 1;
        }
        if page.dirty.is_some() {
            counts.dirty += 1;
        } else if clean && page.mapped {
            counts.committed += 1;
        } else if clean {
            counts.redundant += 1;
        }
        at.page = key.page + 1;
    }
    counts
}

/// One chunk of a dataset. ENOENT; EINVAL beyond the end.
pub fn chunk(node: &Node, dataset: u64, chunk: u64) -> Result<ChunkInfo> {
    let record = node.names.get(dataset)?;
    let per_chunk = record.chunk_size / super::format::PAGE_BYTES;
    let first = chunk.checked_mul(per_chunk).ok_or(EINVAL)?;
    if first >= record.nr_pages() {
        return Err(EINVAL);
    }
    let mut at = PageKey {
        dataset,
        page: first,
    };
    let owner = node.names.owner(at)?;
    let ours = owner == node.id();
    let mut info = ChunkInfo {
        owner,
        ..ChunkInfo::default()
    };
    let mut min = u32::MAX;
    while let Some((key, page)) = node
        .pages
        .next(at)
        .filter(|(key, _)| key.dataset == dataset && key.page < first + per_chunk)
    {
        at.page = key.page + 1;
        info.nr_dirty += u32::from(page.dirty.is_some());
        if page.clean.is_some_and(|clean| clean.pm.is_some()) {
            info.nr_local += 1;
            if ours {
                info.nr_pages += 1;
                min = min.min(node.durable_copies(key, None) as u32);
            }
        }
    }
    if info.nr_pages > 0 {
        info.min_replicas = min;
    }
    Ok(info)
}

/// Room on the device.
pub fn room(node: &Node) -> Room {
    Room {
        pages: node.space.len(),
        free: node.space.free(),
    }
}

impl Node {
    /// What is in flight or in doubt on this node, if anything: nothing of it stays for ever.
    ///
    /// What, and the id of a commit that has to do with it (or 0).
    pub fn left_over(&self) -> Option<(&'static str, u64)> {
        if let Some((cid, txn)) = self.txns.iter().next() {
            let what = match txn.state {
                super::node::TxnState::Preparing => "a commit being prepared at the owner",
                super::node::TxnState::Prepared => "a prepared commit at the owner",
                super::node::TxnState::Finishing => "a commit being finished at the owner",
                super::node::TxnState::Undone => "pages of an undone commit at the owner",
                super::node::TxnState::Published => "a published commit at the owner",
            };
            return Some((what, cid.0));
        }
        let guest = Iterator::chain(self.guests.keys(), self.commits.keys()).next();
        let guest = guest.map_or(0, |cid| cid.0);
        let pages =
            |is: fn(&super::pages::Page) -> bool| self.pages.iter().any(|(_, page)| is(page));
        let checks = [
            (!self.commits.is_empty(), "commits at the committing node"),
            (!self.guests.is_empty(), "staged versions of other owners"),
            (!self.notices.is_empty(), "notices"),
            (!self.incoming.is_empty(), "data without a Prepare"),
            (!self.freezes.is_empty(), "freezes"),
            (
                !self.names.unsent.is_empty(),
                "records that not all nodes have",
            ),
            (self.names.stale, "records that were not asked for"),
            (
                self.greetings
                    .iter()
                    .any(|greeting| self.is_up(greeting.node)),
                "nodes that do not know us yet",
            ),
            (
                self.takeover == super::takeover::Takeover::Pending,
                "chunks that are being taken over",
            ),
            (
                self.has_unsure(),
                "commits whose owner is to say how they ended",
            ),
            (self.grants.has_work(), "pages that are to be released"),
            (self.has_moves(), "chunks on their way"),
            (self.log.free() != self.log.len(), "blocks of the redo log"),
            (self.records.free() != self.records.len(), "commit records"),
            (pages(|page| page.busy != 0), "busy pages"),
            (pages(|page| page.frozen), "frozen pages"),
            (pages(|page| page.fetching), "pages being fetched"),
            (pages(|page| !page.staged.is_empty()), "staged pages"),
            (
                self.owned.values().any(|owned| owned.txn.is_some()),
                "locked pages",
            ),
        ];
        checks
            .iter()
            .find(|(is, _)| *is)
            .map(|(_, what)| (*what, guest))
    }
}
