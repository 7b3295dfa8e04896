// SPDX-License-Identifier: GPL-2.0

//! Guests: what commits have staged at a data node for the owners of the pages, until it is known
//! whether they are published.
//!
//! What is known of the owners decides when these are lost (see [`remains`](super::remains)).
//! After a restart it is read from the slots of the staged versions.

use super::{cluster::Sender, format::Cid, host::PageKey, msg::Stage, node::Node};
use kernel::prelude::*;

/// Pages that a commit staged here for other owners, not known to be published.
#[derive(Default)]
pub struct Guest {
    /// The pages.
    pub keys: KVec<PageKey>,
    /// Who staged them: the owner then.
    pub stagers: KVec<(PageKey, u32)>,
    /// The owners that staged them, and how many pages each has in the commit.
    pub parts: KVec<Share>,
    /// How many owners the commit has; 0 when that is not known.
    pub nr_owners: u32,
    /// All of them when there are several; after a restart as far as slots name them.
    pub owners: KVec<u16>,
    /// The commit asks for one copy of each page.
    pub alone: bool,
}

impl Guest {
    /// What is known of the owners of the commit: how many, and all or some of several.
    pub(super) fn add_owners(
        &mut self,
        nr_owners: u32,
        some: impl Iterator<Item = u16>,
        alone: bool,
    ) -> Result {
        self.nr_owners = nr_owners;
        self.alone |= alone;
        for owner in some.filter(|_| nr_owners > 1) {
            if !self.owners.contains(&owner) {
                self.owners.push(owner, GFP_KERNEL)?;
            }
        }
        Ok(())
    }

    /// One page more, that is staged for an owner with `part` pages in the commit.
    pub(super) fn add_stager(&mut self, key: PageKey, part: Share) -> Result {
        if !self.parts.iter().any(|known| known.owner == part.owner) {
            self.parts.push(part, GFP_KERNEL)?;
        }
        Ok(self.stagers.push((key, part.owner), GFP_KERNEL)?)
    }

    /// Who staged a page; `None` when its slot does not tell. The last one: it may have been
    /// staged by an owner before, too.
    pub(super) fn stager(&self, key: PageKey) -> Option<u32> {
        let mut stagers = self.stagers.iter().rev();
        stagers.find(|(of, _)| *of == key).map(|(_, owner)| *owner)
    }
}

/// An owner's part of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The owner.
    pub owner: u32,
    /// Its pages.
    pub pages: u32,
}

impl Node {
    /// Makes room for one more page of a commit, which [`Node::add_guest`] follows.
    pub(super) fn guest_room(&mut self, from: Sender, stage: &Stage, key: PageKey) -> Result {
        let cid = stage.cid;
        if self.guests.get(&cid).is_none() {
            self.guests
                .try_create_and_insert(cid, Guest::default(), GFP_KERNEL)?;
        }
        let guest = self.guests.get_mut(&cid).ok_or(ENOMEM)?;
        let nr_owners = stage.owners.len().max(1) as u32;
        guest.add_owners(nr_owners, stage.owners.iter().copied(), stage.alone)?;
        let part = Share {
            owner: from.node,
            pages: stage.part,
        };
        guest.add_stager(key, part)?;
        Ok(guest.keys.reserve(1, GFP_KERNEL)?)
    }

    /// A page of a commit is being staged, or none is; what has no pages then is no guest.
    pub(super) fn add_guest(&mut self, cid: Cid, key: Option<PageKey>) {
        if let Some(guest) = self.guests.get_mut(&cid) {
            if let Some(key) = key {
                let _ = guest.keys.push_within_capacity(key);
            }
            if guest.keys.is_empty() {
                self.guests.remove(&cid);
            }
        }
    }

    /// Whether there are some whose owner, as far as we know it, is up and can be asked.
    pub(super) fn has_guests_to_ask_about(&self) -> bool {
        let is_up = |key: &PageKey| self.owner(*key).map_or(true, |owner| self.is_up(owner));
        let mut guests = self.guests.values();
        guests.any(|guest| guest.keys.iter().any(is_up))
    }

    /// Forgets staged versions that newer ones have made void.
    pub(super) fn forget_guests(&mut self) {
        let pages = &self.pages;
        let staged = |key: &PageKey, cid: &Cid| {
            pages
                .get(*key)
                .is_some_and(|page| page.staged.iter().any(|staged| staged.cid == *cid))
        };
        for (cid, guest) in self.guests.iter_mut() {
            guest.keys.retain(|key| staged(key, cid));
        }
        while let Some(cid) = self.void_guest() {
            self.guests.remove(&cid);
        }
    }

    fn void_guest(&self) -> Option<Cid> {
        let mut guests = self.guests.iter();
        let void = guests.find(|(_, guest)| guest.keys.is_empty());
        void.map(|(cid, _)| *cid)
    }
}
