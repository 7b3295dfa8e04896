// SPDX-License-Identifier: GPL-2.0

//! A mapping as its holder has it: the keys to chunks that it got from the owner, and which accesses
//! are under way.
//!
//! Each access runs between [`Keys::begin`] and [`Keys::end`]. A recall takes the keys away at once;
//! it is answered when the accesses that were under way have ended.

use super::Rights;
use kernel::{prelude::*, rbtree::RBTree};

/// Opens a chunk, on the connection `C` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<C> {
    /// Where the chunk begins, for the owner's device.
    pub addr: u64,
    /// The key of the owner's device.
    pub rkey: u32,
    /// On which connection it is of use.
    pub connection: C,
}

/// An access that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Begun {
    generation: u64,
}

/// See the module.
pub struct Keys<C> {
    rights: Rights,
    freed: bool,
    /// Counts recalls.
    generation: u64,
    /// Accesses that began after the last recall.
    present: u32,
    /// Accesses that began before it.
    older: u32,
    keys: RBTree<u32, Key<C>>,
}

impl<C: Copy + PartialEq> Keys<C> {
    /// Of a mapping with these rights.
    pub fn new(rights: Rights) -> Self {
        Self {
            rights,
            freed: false,
            generation: 0,
            present: 0,
            older: 0,
            keys: RBTree::new(),
        }
    }

    /// What the mapping may do.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// The owner said what the mapping may do, in answer to the request that made it. A recall that
    /// overtook that answer stays in force.
    pub fn mapped(&mut self, rights: Rights) {
        if self.generation == 0 {
            self.rights = rights;
        }
    }

    /// Begins an access. `ESTALE`: the region was freed; `EACCES`: the mapping has not these rights,
    /// or not any more.
    pub fn begin(&mut self, need: Rights) -> Result<Begun> {
        if self.freed {
            return Err(ESTALE);
        }
        if !self.rights.includes(need) || self.rights.is_none() {
            return Err(EACCES);
        }
        self.present += 1;
        Ok(Begun {
            generation: self.generation,
        })
    }

    /// The key to a chunk, if there is one that is good on `connection`.
    pub fn key(&self, begun: &Begun, chunk: u32, connection: C) -> Option<Key<C>> {
        let key = self.keys.get(&chunk).copied()?;
        (key.connection == connection && begun.generation == self.generation).then_some(key)
    }

    /// The owner gave a key, asked for by this access. It is not kept when the mapping was recalled
    /// meanwhile, and must then not be used. Without memory it is good for this access alone.
    pub fn learned(&mut self, begun: &Begun, chunk: u32, key: Key<C>) -> bool {
        if begun.generation != self.generation {
            return false;
        }
        match self.keys.get_mut(&chunk) {
            Some(old) => *old = key,
            None => {
                let _ = self.keys.try_create_and_insert(chunk, key, GFP_KERNEL);
            }
        }
        true
    }

    /// A key turned out to be of no use.
    pub fn forget(&mut self, chunk: u32) {
        self.keys.remove(&chunk);
    }

    /// Ends an access; true when a recall waited for it alone.
    pub fn end(&mut self, begun: Begun) -> bool {
        if begun.generation == self.generation {
            self.present -= 1;
            return false;
        }
        self.older -= 1;
        self.older == 0
    }

    /// The owner takes rights away. Wait until [`Self::is_recalled`] before it is answered.
    pub fn recall(&mut self, rights: Rights, freed: bool) {
        self.rights = self.rights.and(rights);
        self.freed |= freed;
        self.generation += 1;
        self.older += self.present;
        self.present = 0;
        self.keys = RBTree::new();
    }

    /// Whether no access is under way that began before the last recall.
    pub fn is_recalled(&self) -> bool {
        self.older == 0
    }
}
