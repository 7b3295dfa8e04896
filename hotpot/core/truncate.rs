// SPDX-License-Identifier: GPL-2.0

//! Pages beyond the end of a dataset, which was cut off or unlinked, are dropped.

use super::{
    fault::PAUSE,
    host::{Action, Host, PageKey, Sleep, Ticket},
    node::Node,
    pages::Released,
    persist,
};
use kernel::prelude::*;

/// Pages that are dropped in one step.
const DROP_BATCH: usize = 128;

/// Drops all copies of pages from `first` on: they are beyond the end of the dataset.
/// EBUSY when commits on them do not come to an end before the deadline.
pub(super) async fn drop_pages<H: Host>(host: &H, dataset: u64, first: u64, until: u64) -> Result {
    let mut from = PageKey {
        dataset,
        page: first,
    };
    let mut keys = KVec::with_capacity(DROP_BATCH, GFP_KERNEL)?;
    host.with(|node| {
        node.grants.drop_pages(dataset, first);
        node.writers
            .free(|key, _| key.dataset == dataset && key.page >= first);
    });
    loop {
        // At most a dirty copy, its base and a clean copy each; there is no way back later.
        let unused = KVec::with_capacity(3 * DROP_BATCH, GFP_KERNEL)?;
        keys.clear();
        let blocked = host.with(|node| node.claim_droppable(from, &mut keys));
        if let Some(last) = keys.last() {
            from.page = last.page + 1;
            drop_claimed(host, &keys, unused).await?;
        } else if let Some(ticket) = blocked {
            if host.now() >= until {
                return Err(EBUSY);
            }
            let soon = until.min(host.now() + PAUSE);
            host.wait(ticket, soon, Sleep::Uninterruptible).await?;
        } else {
            return Ok(());
        }
    }
}

impl Node {
    /// Makes pages of a dataset busy, from `from` on in order, until one is blocked (its
    /// ticket), `keys` is full, or there are no more.
    fn claim_droppable(&mut self, from: PageKey, keys: &mut KVec<PageKey>) -> Option<Ticket> {
        let mut next = from;
        while keys.len() < DROP_BATCH {
            let (key, page) = self.pages.next(next)?;
            if key.dataset != from.dataset {
                return None;
            }
            if page.is_blocked() {
                return Some(self.page_ticket(key));
            }
            keys.push_within_capacity(key).ok()?;
            if let Some(page) = self.pages.get_mut(key) {
                page.busy = 1;
                page.sequence = page.sequence.wrapping_add(1);
            }
            next.page = key.page + 1;
        }
        None
    }
}

/// Drops pages of one dataset that are busy for us.
async fn drop_claimed<H: Host>(host: &H, keys: &[PageKey], mut unused: KVec<Released>) -> Result {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Ok(());
    };
    // What lies between them is unmapped too, and faults in again.
    let unmap = Action::Unmap {
        first: *first,
        count: last.page - first.page + 1,
    };
    let unmapped = host.run(&[unmap]).await;
    host.with(|node| {
        for &key in keys {
            if let Some(page) = node.pages.get_mut(key) {
                page.busy = 0;
                page.mapped = false;
                if unmapped.is_ok() {
                    if let Some(dirty) = page.dirty.take() {
                        let base = dirty.base.filter(|_| dirty.owns_base);
                        for pm in Iterator::chain(base.into_iter(), [dirty.pm]) {
                            let _ = unused.push_within_capacity(persist::released(pm));
                        }
                    }
                    if let Some(clean) = page.take_clean() {
                        let _ = unused.push_within_capacity(clean);
                    }
                }
            }
            node.owned.remove(&key);
            node.pages.prune(key);
            node.wake_page(key);
        }
    });
    unmapped?;
    persist::free(host, &unused).await
}
