// SPDX-License-Identifier: GPL-2.0

//! The pages of datasets on this node: an index in memory, one entry for each
//! page that the node knows something of.

use super::{
    format::Cid,
    host::{PageKey, NR_QUEUES},
};
use kernel::{prelude::*, rbtree::RBTree};

/// A clean copy: what the owner node has committed, or had when it was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clean {
    /// PM page; `None` is a hole: never written, all zeros.
    pub pm: Option<u64>,
    /// Version; 0 for a hole.
    pub version: u64,
    /// The commit that made it.
    pub cid: Cid,
    /// The owner node has confirmed the version, counts us as a holder and asks us
    /// before it changes. Without it the copy is not read.
    pub valid: bool,
}

/// A dirty copy: private to this node, gone after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirty {
    /// PM page.
    pub pm: u64,
    /// PM page of the clean copy from which it was made; `None` for zeros.
    pub base: Option<u64>,
    /// The base is no clean copy any more: it lives and is freed with the dirty copy.
    pub owns_base: bool,
}

/// A new version that is durable here, or is just becoming it, not yet known to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The commit.
    pub cid: Cid,
    /// The version.
    pub version: u64,
    /// PM page.
    pub pm: u64,
    /// Durable.
    pub ready: bool,
    /// Aborted while it was being made: whoever makes it drops it.
    pub cancelled: bool,
    /// When it came, ns.
    pub since: u64,
    /// The node's [generation](super::node::Node) then: the copy is valid when it
    /// is published if it is still the same.
    pub generation: u64,
}

/// What a node knows of one page.
#[derive(Default)]
pub struct Page {
    /// The clean copy.
    pub clean: Option<Clean>,
    /// The dirty copy.
    pub dirty: Option<Dirty>,
    /// New versions in doubt, oldest first. While there is one, nobody reads the page.
    pub staged: KVec<Staged>,
    /// A commit of this node works on the page: no faults.
    pub frozen: bool,
    /// The owner node is being asked for it.
    pub fetching: bool,
    /// Local steps that use the copies outside of the mutex: copies are neither
    /// replaced nor freed until they are done.
    pub busy: u16,
    /// Changes whenever an answer of the owner node that is on its way may have become wrong.
    pub sequence: u32,
    /// A process has mapped it since it was last unmapped.
    pub mapped: bool,
    /// A process or a commit has used it since the hand of eviction passed.
    pub referenced: bool,
    /// The clean copy was found damaged and could not be healed so far.
    pub damaged: bool,
}

impl Page {
    /// Whether the entry says nothing.
    pub fn is_empty(&self) -> bool {
        self.clean.is_none()
            && self.dirty.is_none()
            && self.staged.is_empty()
            && !self.frozen
            && !self.fetching
            && self.busy == 0
    }

    /// Whether a fault must wait.
    pub fn is_blocked(&self) -> bool {
        self.frozen || self.fetching || self.busy != 0 || !self.staged.is_empty()
    }

    /// Takes the clean copy out. Its PM page, if nobody needs it any more: the
    /// base of a dirty copy stays. The slot must be freed in either case.
    pub fn take_clean(&mut self) -> Option<Released> {
        self.damaged = false;
        let pm = self.clean.take()?.pm?;
        Some(self.release(pm))
    }

    /// Puts a newer clean copy in the place of the older.
    pub fn replace_clean(&mut self, new: Clean) -> Option<Released> {
        let old = self.take_clean();
        self.clean = Some(new);
        old
    }

    fn release(&mut self, pm: u64) -> Released {
        let mut keep = false;
        if let Some(dirty) = &mut self.dirty {
            if dirty.base == Some(pm) {
                dirty.owns_base = true;
                keep = true;
            }
        }
        Released { pm, keep }
    }
}

/// A PM page that is no copy any more: its slot must become FREE, durably, before
/// the page is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// PM page.
    pub pm: u64,
    /// Not given back: it lives on as the base of a dirty copy.
    pub keep: bool,
}

/// All pages.
pub struct Pages {
    tree: RBTree<PageKey, Page>,
}

impl Pages {
    /// None.
    pub fn new() -> Self {
        Self {
            tree: RBTree::new(),
        }
    }

    /// What is known of a page.
    pub fn get(&self, key: PageKey) -> Option<&Page> {
        self.tree.get(&key)
    }

    /// To change it.
    pub fn get_mut(&mut self, key: PageKey) -> Option<&mut Page> {
        self.tree.get_mut(&key)
    }

    /// The entry, made when there was none. [`Pages::prune`] it when it may be empty again.
    pub fn entry(&mut self, key: PageKey) -> Result<&mut Page> {
        if self.tree.get(&key).is_none() {
            self.tree
                .try_create_and_insert(key, Page::default(), GFP_KERNEL)?;
        }
        self.tree.get_mut(&key).ok_or(ENOMEM)
    }

    /// Forgets an entry that says nothing.
    pub fn prune(&mut self, key: PageKey) {
        if self.tree.get(&key).is_some_and(Page::is_empty) {
            self.tree.remove(&key);
        }
    }

    /// The first page from `from` on.
    pub fn next(&self, from: PageKey) -> Option<(PageKey, &Page)> {
        let cursor = self.tree.cursor_lower_bound(&from)?;
        let (key, page) = cursor.current();
        // The cursor borrows the tree, its references live as long as the cursor.
        let key = *key;
        let _ = page;
        self.tree.get(&key).map(|page| (key, page))
    }

    /// All pages in order.
    pub fn iter(&self) -> impl Iterator<Item = (&PageKey, &Page)> {
        self.tree.iter()
    }

    /// All pages in order, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&PageKey, &mut Page)> {
        self.tree.iter_mut()
    }
}

impl Default for Pages {
    fn default() -> Self {
        Self::new()
    }
}

/// The queue on which who waits for a page sleeps; never 0, the worker's.
pub fn queue(key: PageKey) -> u8 {
    let hash = (key.dataset ^ key.page.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    1 + ((hash >> 32) % (NR_QUEUES as u64 - 2)) as u8
}
