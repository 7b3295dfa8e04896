// SPDX-License-Identifier: GPL-2.0

//! Aborting: what was stored to acquired pages is dropped, and they are given back.

use super::{
    super::{
        area::{self, ByteRange},
        commit::keys_of,
        freeze,
        host::{Host, PageKey},
        node::{Node, WORKER},
        persist,
    },
    Grant, Opener, State,
};
use kernel::prelude::*;

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
pub(in super::super) async fn drop_closed<H: Host>(host: &H, until: u64) -> Result {
    let keys = host.with(|node| node.grants.of(Opener::CLOSED))?;
    abort_pages(host, Opener::CLOSED, keys, until).await
}

async fn abort_pages<H: Host>(host: &H, opener: Opener, keys: KVec<PageKey>, until: u64) -> Result {
    // Before a grant is marked: whoever marks it goes on with it.
    let mut all = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
    all.extend_from_slice(&keys, GFP_KERNEL)?;
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
