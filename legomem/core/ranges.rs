// SPDX-License-Identifier: GPL-2.0

//! The allocation tree of an address space: which pages were allocated together,
//! and with which rights (section 4.4.2). Pages are counted from the beginning of
//! the address space.

use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
};

/// An allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Its first page.
    pub first: u32,
    /// Its pages.
    pub pages: u32,
    /// Bits of [`rights`](super::wire::rights).
    pub rights: u32,
}

impl Allocation {
    /// The first page behind it.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.pages)
    }
}

/// The tree, by first pages. Allocations do not overlap.
#[derive(Default)]
pub struct Ranges {
    tree: RBTree<u32, Allocation>,
}

impl Ranges {
    /// The allocation that has this page.
    pub fn containing(&self, page: u32) -> Option<Allocation> {
        self.at_or_before(page).filter(|found| found.end() > page)
    }

    /// The allocation that begins at this page.
    pub fn get(&self, first: u32) -> Option<Allocation> {
        self.tree.get(&first).copied()
    }

    fn at_or_before(&self, page: u32) -> Option<Allocation> {
        match self.tree.cursor_lower_bound(&page) {
            Some(cursor) => match cursor.current() {
                (first, found) if *first == page => Some(*found),
                _ => cursor.peek_prev().map(|(_, found)| *found),
            },
            None => Some(*self.tree.cursor_back()?.current().1),
        }
    }

    /// The first allocation that begins at `page` or behind it, but before `end`.
    pub fn next(&self, page: u32, end: u32) -> Option<Allocation> {
        let cursor = self.tree.cursor_lower_bound(&page)?;
        let found = *cursor.current().1;
        (found.first < end).then_some(found)
    }

    /// The first place at `from` or behind it where `pages` pages before `end` are
    /// not allocated.
    pub fn gap(&self, from: u32, pages: u32, end: u32) -> Option<u32> {
        let mut at = match self.containing(from) {
            Some(inside) => inside.end(),
            None => from,
        };
        loop {
            let behind = at.checked_add(pages).filter(|behind| *behind <= end)?;
            match self.next(at, behind) {
                Some(next) => at = next.end(),
                None => return Some(at),
            }
        }
    }

    /// Makes the memory for one more.
    pub fn node(allocation: Allocation) -> Result<RBTreeNode<u32, Allocation>> {
        RBTreeNode::new(allocation.first, allocation, GFP_KERNEL)
    }

    /// Adds one.
    pub fn insert(&mut self, node: RBTreeNode<u32, Allocation>) {
        self.tree.insert(node);
    }

    /// Changes the rights of one.
    pub fn set_rights(&mut self, first: u32, rights: u32) {
        if let Some(allocation) = self.tree.get_mut(&first) {
            allocation.rights = rights;
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, first: u32) -> Option<Allocation> {
        self.tree.remove(&first)
    }

    /// Whether pages `first..first + pages` are whole allocations, without a gap.
    pub fn are_whole(&self, first: u32, pages: u32) -> bool {
        let end = first.saturating_add(pages);
        let mut at = first;
        while at < end {
            match self.get(at) {
                Some(found) => at = found.end(),
                None => return false,
            }
        }
        at == end && pages != 0
    }
}
