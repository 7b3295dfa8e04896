// SPDX-License-Identifier: GPL-2.0

//! Whose the bytes of a node's regions are.
//!
//! They are charged to the user that made a region, wherever in the cluster it runs, until the region is
//! gone: also while nobody has it mapped. Nodes trust each other with the ids of their users, as NFS
//! servers trust clients with AUTH_SYS.

use kernel::{prelude::*, rbtree::RBTree};

/// A user id of the cluster, or the kernel itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Payer(pub u32);

impl Payer {
    /// Modules, which have no limit. No user has this id.
    pub const KERNEL: Self = Self(u32::MAX);
}

/// Bytes by user; who has none is not there.
pub struct Shares(RBTree<u32, u64>);

impl Shares {
    /// Nobody has any.
    pub fn new() -> Self {
        Self(RBTree::new())
    }

    /// Bytes of a user.
    pub fn of(&self, payer: Payer) -> u64 {
        self.0.get(&payer.0).copied().unwrap_or(0)
    }

    /// Charges `bytes`; `EDQUOT` when the user then has more than `limit` (0: no limit).
    pub fn take(&mut self, payer: Payer, bytes: u64, limit: u64) -> Result {
        let sum = self.of(payer).checked_add(bytes).ok_or(EDQUOT)?;
        if limit != 0 && sum > limit && payer != Payer::KERNEL {
            return Err(EDQUOT);
        }
        match self.0.get_mut(&payer.0) {
            Some(share) => *share = sum,
            None => {
                self.0.try_create_and_insert(payer.0, sum, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// So many bytes are gone.
    pub fn give(&mut self, payer: Payer, bytes: u64) {
        let Some(share) = self.0.get_mut(&payer.0) else {
            return;
        };
        *share = share.saturating_sub(bytes);
        if *share == 0 {
            self.0.remove(&payer.0);
        }
    }

    /// All users, by id, and their bytes.
    pub fn iter(&self) -> impl Iterator<Item = (Payer, u64)> + '_ {
        self.0.iter().map(|(id, bytes)| (Payer(*id), *bytes))
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::new()
    }
}
