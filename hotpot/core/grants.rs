// SPDX-License-Identifier: GPL-2.0

//! Write permission in MRSW datasets [2.6.3]: what processes of this node have acquired.
//!
//! A page that an open file has acquired is written by no other node and by no other open
//! file of this one, until the file commits, aborts or closes. Without it a store faults and a
//! commit is refused, so that there is one dirty version of a page in the cluster at most.

mod abort;
mod acquire;
mod release;

use super::{
    fault::Access,
    format::{dataset::Mode, Cid},
    host::{Host, PageKey},
    msg::{AskGrants, Claim},
    node::{Node, GENERAL},
};
use kernel::{prelude::*, rbtree::RBTree};

pub use {abort::abort, acquire::acquire};
pub(super) use {abort::drop_closed, release::tell_releases};

/// An open file that acquires, commits and aborts; a number is never used again on a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener(pub u64);

impl Opener {
    /// Files that are closed: what they had is dropped by the worker.
    const CLOSED: Opener = Opener(u64::MAX);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The owner is being asked.
    Asking,
    /// It may be written.
    Held,
    /// The map had us out of the cluster, or a commit whose end is not known has given it back:
    /// others may write it now. What was stored is neither read nor published any more; it goes
    /// with an abort.
    Lost,
    /// It is being given back.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Grant {
    opener: Opener,
    id: Cid,
    state: State,
}

/// A release that the owner has not answered yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unreleased {
    owner: u32,
    grant: Cid,
    /// `None`: all of the grant.
    key: Option<PageKey>,
}

/// What this node may write.
#[derive(Default)]
pub struct Grants {
    pages: RBTree<PageKey, Grant>,
    unreleased: KVec<Unreleased>,
}

/// Claims in one reply.
const MAX_CLAIMS: usize = 256;

impl Grants {
    /// Whether nothing is acquired, or left to be released.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty() && self.unreleased.is_empty()
    }

    /// Whether the worker has something to do: files were closed, or owners must hear of
    /// releases.
    pub(super) fn has_work(&self) -> bool {
        let closed = |grant: &Grant| grant.opener == Opener::CLOSED;
        !self.unreleased.is_empty() || self.pages.values().any(closed)
    }

    /// Whether an open file may write a page.
    pub fn is_held(&self, opener: Opener, key: PageKey) -> bool {
        self.pages
            .get(&key)
            .is_some_and(|grant| grant.opener == opener && grant.state == State::Held)
    }

    /// Whether any open file of this node may write a page.
    pub fn is_held_here(&self, key: PageKey) -> bool {
        self.pages
            .get(&key)
            .is_some_and(|grant| grant.state == State::Held)
    }

    /// The pages that an open file has, in order.
    fn of(&self, opener: Opener) -> Result<KVec<PageKey>> {
        let mut keys = KVec::new();
        for (key, _) in self.pages.iter().filter(|(_, of)| of.opener == opener) {
            keys.push(*key, GFP_KERNEL)?;
        }
        Ok(keys)
    }

    fn remove_if(&mut self, gone: impl Fn(&PageKey, &Grant) -> bool) {
        let mut cursor = self.pages.cursor_front_mut();
        while let Some(at) = cursor {
            let (key, grant) = at.current();
            cursor = match gone(key, grant) {
                true => at.remove_current().0,
                false => at.move_next(),
            };
        }
    }

    /// Forgets pages of a dataset from `first` on: they are no more.
    pub(super) fn drop_pages(&mut self, dataset: u64, first: u64) {
        self.remove_if(|key, grant| {
            key.dataset == dataset && key.page >= first && grant.state != State::Asking
        });
    }
}

impl Node {
    /// A number for a file that is just being opened.
    pub fn new_opener(&mut self) -> Opener {
        self.next_number += 1;
        Opener(self.next_number)
    }

    /// Whether processes may do this with a page: EACCES for a store without permission, ESTALE
    /// when the permission was lost.
    pub(super) fn check_access(&self, key: PageKey, access: Access) -> Result {
        if self.mode(key)? == Mode::Mrmw {
            return Ok(());
        }
        match (self.grants.pages.get(&key).map(|of| of.state), access) {
            (Some(State::Lost), _) => Err(ESTALE),
            (Some(State::Held), _) | (_, Access::Read) => Ok(()),
            (_, Access::Write) => Err(EACCES),
        }
    }

    /// Whether an open file may publish pages.
    pub(super) fn check_held(&self, opener: Opener, keys: &[PageKey]) -> Result {
        for key in keys {
            match self.grants.pages.get(key) {
                Some(grant) if grant.opener != opener => return Err(EACCES),
                Some(grant) if grant.state == State::Held => {}
                Some(grant) if grant.state == State::Lost => return Err(ESTALE),
                _ => return Err(EACCES),
            }
        }
        Ok(())
    }

    /// What the map's having had us out does to what we hold.
    pub(super) fn lose_grants(&mut self) -> Result {
        let mut held = KVec::new();
        for (key, grant) in self.grants.pages.iter() {
            if grant.state == State::Held {
                held.push((*key, *grant), GFP_KERNEL)?;
            }
        }
        self.grants.unreleased.reserve(held.len(), GFP_KERNEL)?;
        for (key, grant) in &held {
            self.unrelease(*key, grant.id);
            if let Some(grant) = self.grants.pages.get_mut(key) {
                grant.state = State::Lost;
            }
        }
        Ok(())
    }

    /// It is not known whether the owners have freed pages with a commit: the file can only abort.
    pub(super) fn doubt_grants(&mut self, keys: &[PageKey]) {
        for key in keys {
            if let Some(grant) = self.grants.pages.get_mut(key) {
                grant.state = State::Lost;
            }
        }
    }

    /// Forgets pages whose owners have freed them with a commit.
    pub(super) fn forget_grants(&mut self, keys: &[PageKey]) {
        for key in keys {
            self.grants.pages.remove(key);
        }
        self.wake(GENERAL);
    }
}

impl Node {
    /// What we write of the pages of `owner`, in order, `most` at most: also of those that are on their way
    /// from it, as it may not know that yet.
    pub(super) fn claims(&self, owner: u32, from: PageKey, most: usize) -> Result<KVec<Claim>> {
        let leaving = |key: PageKey| {
            let moved = self.names.arriving(key);
            owner != self.id() && moved.is_some_and(|moved| u32::from(moved.from) == owner)
        };
        let mut claims = KVec::new();
        let pages = self.grants.pages.iter();
        for (key, grant) in pages.filter(|(key, _)| **key >= from) {
            if claims.len() == most {
                break;
            }
            let theirs = self.owner(*key) == Ok(owner) || leaving(*key);
            if grant.state == State::Held && theirs {
                let claim = Claim {
                    key: *key,
                    grant: grant.id,
                };
                claims.push(claim, GFP_KERNEL)?;
            }
        }
        Ok(claims)
    }
}

/// An owner asks what we write of its pages.
pub(super) fn on_ask_grants<H: Host>(host: &H, owner: u32, ask: &AskGrants) -> Result<KVec<Claim>> {
    host.with(|node| node.claims(owner, ask.from, MAX_CLAIMS))
}
