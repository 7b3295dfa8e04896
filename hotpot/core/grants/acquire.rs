// SPDX-License-Identifier: GPL-2.0

//! Acquiring pages: all or none, of one owner after the other.

use super::{
    super::{
        area::{self, ByteRange},
        commit::keys_of,
        commit_node,
        fault::{self, PAUSE},
        format::{dataset::Mode, Cid},
        handler,
        host::{CallError, Host, PageKey},
        msg::Acquire,
        node::{Node, GENERAL, WORKER},
    },
    Grant, Opener, State, Unreleased,
};
use kernel::prelude::*;

/// Pages in one message take at most the rest of its room.
const HEAD: usize = 64;
const KEY_SIZE: usize = 16;

impl Node {
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

    /// Whether an ESTALE for these pages may be an owner's whose chunk has moved: it is not about us, nor
    /// about pages that were lost.
    fn may_have_moved(&self, keys: &[PageKey]) -> bool {
        let is_lost = |key| {
            let grant = self.grants.pages.get(key);
            grant.is_some_and(|grant| grant.state == State::Lost)
        };
        self.check_ready().is_ok() && !keys.iter().any(is_lost)
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
    let mut pauses = 0;
    loop {
        let again = match try_acquire(host, opener, &keys, until).await {
            Err(EAGAIN) => wait,
            // The owner is just learning who writes.
            Err(EBUSY) => true,
            // It says that a page is not its own: the chunk may have moved, and the record that says so is on
            // its way to us.
            Err(ESTALE)
                if pauses < commit_node::MAX_PAUSES
                    && host.with(|node| node.may_have_moved(&keys)) =>
            {
                pauses += 1;
                true
            }
            result => return result,
        };
        let now = host.now();
        if !again || now >= until {
            return Err(if wait { ETIMEDOUT } else { EAGAIN });
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let pause = (PAUSE / 4) << pauses.min(2);
        match fault::wait(host, ticket, until.min(now + pause)).await {
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
