// SPDX-License-Identifier: GPL-2.0

//! Who may ask: the nodes of the map, as the fast path needs them. A node of the
//! map takes 32 bytes here; its processes take none.

use super::wire::{fold, lock_holder};
use kernel::prelude::*;

/// A node of the map that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: u32,
    /// Its life; 0 while the map does not know it.
    pub incarnation: u64,
    /// Largest first id of an effect of this life that was forgotten: whether
    /// requests up to it were executed, nobody knows any more.
    horizon: u64,
}

impl Member {
    /// A node in one of its lives.
    pub fn new(node: u32, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            horizon: 0,
        }
    }
}

/// The nodes of a map that are up.
#[derive(Debug, Default)]
pub struct Members {
    /// Low bits of the map's epoch.
    pub epoch: u32,
    list: KVec<Member>,
}

impl Members {
    /// Of a map; `list` in the order of node ids.
    pub fn new(epoch: u32, list: KVec<Member>) -> Self {
        Self { epoch, list }
    }

    fn find(&self, node: u32) -> Option<usize> {
        self.list
            .binary_search_by_key(&node, |member| member.node)
            .ok()
    }

    /// A node that is up.
    pub fn get(&self, node: u32) -> Option<&Member> {
        self.list.get(self.find(node)?)
    }

    /// Whether the map has this node in this life.
    pub fn has(&self, node: u32, incarnation: u64) -> bool {
        self.get(node)
            .is_some_and(|member| member.incarnation == incarnation)
    }

    /// Whether a lock is held by one whom the map dropped.
    pub fn dropped(&self, word: u64) -> bool {
        let (node, life, _) = lock_holder(word);
        self.get(node)
            .is_none_or(|member| fold(member.incarnation) != life)
    }

    /// Notes that an effect was forgotten.
    pub fn forgot(&mut self, node: u32, incarnation: u64, first: u64) {
        if let Some(member) = self.find(node).and_then(|at| self.list.get_mut(at)) {
            if member.incarnation == incarnation {
                member.horizon = member.horizon.max(first);
            }
        }
    }

    /// Whether a request that nobody remembers could have been executed before.
    pub fn is_beyond_memory(&self, node: u32, first: u64) -> bool {
        self.get(node).is_some_and(|member| first <= member.horizon)
    }

    /// Up to where effects of each node were forgotten.
    pub fn horizons(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        let known = self.list.iter().filter(|member| member.horizon != 0);
        known.map(|member| (member.node, member.incarnation, member.horizon))
    }

    /// Takes over what an older map's list knows of lives that go on.
    pub fn inherit(&mut self, older: &Self) {
        for member in self.list.iter_mut() {
            if let Some(before) = older.get(member.node) {
                if before.incarnation == member.incarnation {
                    member.horizon = before.horizon;
                }
            }
        }
    }
}
