// SPDX-License-Identifier: GPL-2.0

//! Write permission in MRSW datasets [2.6.3]: what processes of this node have acquired.
//!
//! A page that an open file has acquired is written by no other node and by no other open
//! file of this one, until the file commits, aborts or closes. Without it a store faults and a
//! commit is refused, so that there is one dirty version of a page in the cluster at most.

use super::{
    area::{self, ByteRange},
    commit::keys_of,
    commit_node,
    fault::{self, Access, PAUSE},
    format::{dataset::Mode, Cid},
    freeze, handler,
    host::{Call, CallError, Host, PageKey, Piece},
    msg::{Acquire, AskGrants, Claim, Release, Request},
    node::{Node, GENERAL, WORKER},
    persist,
};
use kernel::{prelude::*, rbtree::RBTree};

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
/// Pages in one message take at most the rest of its room.
const HEAD: usize = 64;
const KEY_SIZE: usize = 16;

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

    /// Notes what is to be acquired; returns what the owners must be asked for.
    fn begin_acquire(
        &mut self,
        opener: Opener,
        id: Cid,
        keys: &[PageKey],
    ) -> Result<KVec<PageKey>> {
        self.check_ready()?;
        let mut missing = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
        for key in keys {
            match self.grants.pages.get(key) {
                None => missing.push(*key, GFP_KERNEL)?,
                Some(grant) if grant.opener != opener => return Err(EAGAIN),
                Some(grant) => match grant.state {
                    State::Held => {}
                    State::Lost => return Err(ESTALE),
                    State::Asking | State::Leaving => return Err(EAGAIN),
                },
            }
        }
        let grant = Grant {
            opener,
            id,
            state: State::Asking,
        };
        // Whatever comes, the owners can be told to free it.
        self.grants
            .unreleased
            .reserve(self.map.peers.len(), GFP_KERNEL)?;
        for key in &missing {
            let inserted = self
                .grants
                .pages
                .try_create_and_insert(*key, grant, GFP_KERNEL);
            if inserted.is_err() {
                self.grants.remove_if(|_, grant| grant.id == id);
                return Err(ENOMEM);
            }
        }
        Ok(missing)
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

    /// Notes that the owner of a page has to free it; there is room for the note.
    fn unrelease(&mut self, key: PageKey, grant: Cid) {
        let us = self.id();
        match self.owner(key) {
            Ok(owner) if owner == us => {
                let _ = self.free_grant(grant, &[key]);
            }
            Ok(owner) => {
                let note = Unreleased {
                    owner,
                    grant,
                    key: Some(key),
                };
                let _ = self.grants.unreleased.push(note, GFP_KERNEL);
            }
            // Nobody owns it: the dataset is no more.
            Err(_) => {}
        }
    }

    /// Gives pages that an open file holds back. The owners hear of it in the background.
    pub(super) fn give_back(&mut self, opener: Opener, keys: &[PageKey]) -> Result {
        self.grants.unreleased.reserve(keys.len(), GFP_KERNEL)?;
        for key in keys {
            let theirs = self.grants.pages.get(key).copied();
            if let Some(grant) = theirs.filter(|grant| grant.opener == opener) {
                self.grants.pages.remove(key);
                self.unrelease(*key, grant.id);
            }
        }
        self.wake(WORKER);
        self.wake(GENERAL);
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

/// Acquires the pages of areas, all or none; what the file has already is no obstacle.
///
/// EAGAIN: a page has another writer; with `wait`, ETIMEDOUT when that stays so until the deadline.
/// EINVAL: not an MRSW dataset, or as [`area::split`] says. ESTALE: the file lost pages, and must
/// abort first.
pub async fn acquire<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    ranges: &[ByteRange],
    wait: bool,
    until: u64,
) -> Result {
    let size = host.with(|node| {
        node.check_ready()?;
        let record = node.names.get(dataset)?;
        match record.mode {
            Mode::Mrsw => Ok(record.size),
            Mode::Mrmw => Err(EINVAL),
        }
    })?;
    let keys = keys_of(&area::split(dataset, size, ranges)?)?;
    loop {
        let again = match try_acquire(host, opener, &keys, until).await {
            Err(EAGAIN) => wait,
            // The owner is just learning who writes.
            Err(EBUSY) => true,
            result => return result,
        };
        let now = host.now();
        if !again || now >= until {
            return Err(if wait { ETIMEDOUT } else { EAGAIN });
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        match fault::wait(host, ticket, until.min(now + PAUSE / 4)).await {
            Err(ETIMEDOUT) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn try_acquire<H: Host>(host: &H, opener: Opener, keys: &[PageKey], until: u64) -> Result {
    let id = commit_node::new_cid(host).await?;
    let (missing, begun) = host.with(|node| {
        let missing = node.begin_acquire(opener, id, keys)?;
        Ok::<_, Error>((missing, node.generation))
    })?;
    let mut asked = KVec::new();
    let result = ask_owners(host, id, &missing, &mut asked, until).await;
    host.with(|node| {
        // An owner that began a new life meanwhile may not know of it.
        let valid = match result {
            Ok(()) if node.generation != begun => Err(EBUSY),
            result => result,
        };
        for key in &missing {
            match node.grants.pages.get_mut(key) {
                Some(grant) if grant.id == id && valid.is_ok() => grant.state = State::Held,
                Some(grant) if grant.id == id => {
                    node.grants.pages.remove(key);
                }
                _ => {}
            }
        }
        if valid.is_err() {
            let us = node.id();
            for owner in &asked {
                if *owner == us {
                    node.free_grant(id, &[])?;
                    continue;
                }
                let note = Unreleased {
                    owner: *owner,
                    grant: id,
                    key: None,
                };
                node.grants.unreleased.push(note, GFP_KERNEL)?;
            }
            node.wake(WORKER);
        }
        node.wake(GENERAL);
        valid
    })
}

/// Asks one owner after the other, in the order of their ids. `asked` are those that
/// have given something, or may have.
async fn ask_owners<H: Host>(
    host: &H,
    grant: Cid,
    keys: &[PageKey],
    asked: &mut KVec<u32>,
    until: u64,
) -> Result {
    let mut owned: KVec<(u32, PageKey)> = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
    let (us, room) = host.with(|node| {
        for key in keys {
            let owner = node.names.check(*key)?;
            if !node.is_greeted(owner) {
                // It would take what it gives us now for what it gave to our earlier life.
                return Err(EBUSY);
            }
            owned.push((owner, *key), GFP_KERNEL)?;
        }
        Ok::<_, Error>((node.us(), node.config.max_msg - HEAD))
    })?;
    owned.sort_unstable();
    let mut rest = &owned[..];
    while let Some((owner, _)) = rest.first() {
        let owner = *owner;
        let same = rest.partition_point(|(of, _)| *of == owner);
        let (these, more) = rest.split_at(same.min(room / KEY_SIZE));
        rest = more;
        let mut pages = KVec::with_capacity(these.len(), GFP_KERNEL)?;
        for (_, key) in these {
            pages.push(*key, GFP_KERNEL)?;
        }
        let known = asked.contains(&owner);
        if !known {
            asked.push(owner, GFP_KERNEL)?;
        }
        let answer = match owner == us.node {
            true => host
                .with(|node| node.grant(us, grant, &pages))
                .map_err(CallError::Handler),
            false => {
                let acquire = Acquire { grant, pages };
                let call_until = handler::call_until(host, until);
                handler::ask(host, owner, &acquire, call_until).await
            }
        };
        if let (Err(CallError::Handler(_) | CallError::NotExecuted(_)), false) = (answer, known) {
            // It has given nothing.
            asked.pop();
        }
        answer.map_err(handler::errno)?;
    }
    Ok(())
}

/// Drops what an open file stored to pages that it acquired, and gives them back: all pages
/// of `ranges`, or all that it has when there are none. EACCES when it has not acquired one of them.
pub async fn abort<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    ranges: &[ByteRange],
    until: u64,
) -> Result {
    let keys = match ranges {
        [] => host.with(|node| node.grants.of(opener))?,
        ranges => {
            let size = host.with(|node| node.names.get(dataset).map(|record| record.size))?;
            keys_of(&area::split(dataset, size, ranges)?)?
        }
    };
    abort_pages(host, opener, keys, until).await
}

impl Node {
    /// An open file is closed: what it has acquired is dropped, by the worker.
    pub fn close_opener(&mut self, opener: Opener) {
        let theirs = |grant: &&mut Grant| grant.opener == opener;
        let mut some = false;
        for grant in self.grants.pages.values_mut().filter(theirs) {
            // Nobody asks or aborts through a file that is being closed.
            grant.opener = Opener::CLOSED;
            grant.state = State::Lost;
            some = true;
        }
        if some {
            self.wake(WORKER);
        }
    }
}

/// What the worker does about closed files.
pub(super) async fn drop_closed<H: Host>(host: &H, until: u64) -> Result {
    let keys = host.with(|node| node.grants.of(Opener::CLOSED))?;
    abort_pages(host, Opener::CLOSED, keys, until).await
}

async fn abort_pages<H: Host>(host: &H, opener: Opener, keys: KVec<PageKey>, until: u64) -> Result {
    host.with(|node| {
        for key in &keys {
            match node.grants.pages.get(key) {
                Some(grant) if grant.opener == opener => match grant.state {
                    State::Held | State::Lost => {}
                    State::Asking | State::Leaving => return Err(EAGAIN),
                },
                _ => return Err(EACCES),
            }
        }
        for key in &keys {
            if let Some(grant) = node.grants.pages.get_mut(key) {
                // No store from here on.
                grant.state = State::Leaving;
            }
        }
        Ok(())
    })?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut all = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
    all.extend_from_slice(&keys, GFP_KERNEL)?;
    let frozen = freeze::freeze(host, all, &[], until).await;
    let result = match frozen {
        Ok(frozen) => {
            let dropped = discard(host, &keys).await;
            let given = dropped.and_then(|()| host.with(|node| node.give_back(opener, &keys)));
            freeze::thaw(host, frozen);
            given
        }
        Err(error) => Err(error),
    };
    if result.is_err() {
        // Still the file's, but what it stored may be gone: it can only abort again.
        host.with(|node| {
            for key in &keys {
                if let Some(grant) = node.grants.pages.get_mut(key) {
                    grant.state = State::Lost;
                }
            }
        });
    }
    result
}

/// Drops the dirty copies of frozen pages.
async fn discard<H: Host>(host: &H, keys: &[PageKey]) -> Result {
    let mut unused = KVec::with_capacity(2 * keys.len(), GFP_KERNEL)?;
    host.with(|node| {
        for key in keys {
            let Some(page) = node.pages.get_mut(*key) else {
                continue;
            };
            if let Some(dirty) = page.dirty.take() {
                page.mapped = false;
                let base = dirty.base.filter(|_| dirty.owns_base);
                for pm in Iterator::chain(base.into_iter(), [dirty.pm]) {
                    unused.push(persist::released(pm), GFP_KERNEL)?;
                }
            }
        }
        Ok::<_, Error>(())
    })?;
    persist::free(host, &unused).await
}

/// Tells owners what they have not heard of yet: some at a time.
pub(super) async fn tell_releases<H: Host>(host: &H, until: u64) -> Result {
    let (batch, epoch) = host.with(|node| {
        let mut batch: KVec<Unreleased> = KVec::new();
        for note in node.grants.unreleased.iter().take(MAX_CLAIMS) {
            batch.push(*note, GFP_KERNEL)?;
        }
        Ok::<_, Error>((batch, node.map.epoch))
    })?;
    let mut releases: KVec<(u32, KVec<u8>, KVec<Unreleased>)> = KVec::new();
    for note in &batch {
        if releases.iter().any(|(_, _, notes)| notes.contains(note)) {
            continue;
        }
        let mut notes = KVec::new();
        let mut pages = KVec::new();
        let same = |other: &&Unreleased| {
            other.owner == note.owner
                && other.grant == note.grant
                && other.key.is_some() == note.key.is_some()
        };
        for other in batch.iter().filter(same) {
            notes.push(*other, GFP_KERNEL)?;
            if let Some(key) = other.key {
                pages.push(key, GFP_KERNEL)?;
            }
        }
        let release = Release {
            grant: note.grant,
            pages,
        };
        releases.push((note.owner, release.encode(epoch)?, notes), GFP_KERNEL)?;
    }
    let mut calls: KVec<Call<'_>> = KVec::with_capacity(releases.len(), GFP_KERNEL)?;
    for (owner, header, _) in &releases {
        let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
        request.push(Piece::Bytes(header), GFP_KERNEL)?;
        calls.push(handler::call(*owner, request, 64, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    let mut result = Ok(());
    host.with(|node| {
        for (call, (owner, _, notes)) in calls.iter().zip(&releases) {
            let answer = handler::reply_of::<Release>(call).map_err(handler::errno);
            let out = node.is_out(*owner);
            if let (Err(error), false) = (answer, out) {
                result = Err(error);
                continue;
            }
            node.grants.unreleased.retain(|note| !notes.contains(note));
        }
    });
    result
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
