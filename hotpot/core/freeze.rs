// SPDX-License-Identifier: GPL-2.0

//! Pages that a commit of this node works on: no process loads from or stores to
//! them meanwhile, so that what is published is one moment's bytes.

use super::{
    area::{self, Area, Span},
    fault,
    format::PAGE_SIZE,
    host::{Action, Host, PageKey, Ticket},
    node::Node,
    persist::Batch,
};
use kernel::prelude::*;

/// Frozen pages; [`thaw`] them.
pub(super) struct Frozen {
    number: u64,
    /// In order.
    pub(super) keys: KVec<PageKey>,
}

/// Freezes pages (in order), all or none. `spans` are the bytes to be published:
/// EAGAIN when some of them are just being published; without spans, waits.
pub(super) async fn freeze<H: Host>(
    host: &H,
    keys: KVec<PageKey>,
    spans: &[Span],
    until: u64,
) -> Result<Frozen> {
    let number = host.with(|node| {
        node.next_number += 1;
        node.next_number
    });
    while let Some(ticket) = host.with(|node| node.try_freeze(number, &keys, spans))? {
        fault::wait(host, ticket, until).await?;
    }
    let frozen = Frozen { number, keys };
    match unmap(host, &frozen.keys).await {
        Ok(()) => Ok(frozen),
        Err(error) => {
            thaw(host, frozen);
            Err(error)
        }
    }
}

/// Takes the pages that have dirty copies out of the page tables.
async fn unmap<H: Host>(host: &H, keys: &[PageKey]) -> Result {
    let mut batch = Batch::default();
    host.with(|node| {
        for key in keys {
            if let Some(page) = node.pages.get_mut(*key) {
                if page.dirty.is_some() {
                    page.mapped = false;
                    batch.push(Action::Unmap {
                        first: *key,
                        count: 1,
                    })?;
                }
            }
        }
        Ok::<_, Error>(())
    })?;
    batch.run(host).await
}

/// Lets processes at the pages again.
pub(super) fn thaw<H: Host>(host: &H, frozen: Frozen) {
    host.with(|node| {
        node.freezes.remove(&frozen.number);
        for key in &frozen.keys {
            if let Some(page) = node.pages.get_mut(*key) {
                page.frozen = false;
            }
            node.pages.prune(*key);
            node.wake_page(*key);
        }
    });
}

impl Node {
    fn try_freeze(
        &mut self,
        number: u64,
        keys: &[PageKey],
        spans: &[Span],
    ) -> Result<Option<Ticket>> {
        self.check_ready()?;
        for key in keys {
            let Some(page) = self.pages.get(*key) else {
                continue;
            };
            if page.frozen {
                let mut theirs = self.freezes.values().flat_map(|spans| spans.iter());
                if theirs.any(|theirs| spans.iter().any(|span| span.overlaps(theirs))) {
                    return Err(EAGAIN);
                }
            }
            if page.frozen || page.busy != 0 || page.fetching {
                return Ok(Some(self.page_ticket(*key)));
            }
        }
        let mut own = KVec::new();
        own.extend_from_slice(spans, GFP_KERNEL)?;
        for key in keys {
            self.pages.entry(*key)?;
        }
        self.freezes
            .try_create_and_insert(number, own, GFP_KERNEL)?;
        for key in keys {
            if let Some(page) = self.pages.get_mut(*key) {
                page.frozen = true;
            }
        }
        Ok(None)
    }
}

/// Whether a commit of `areas` (in order) of frozen pages leaves some of their bytes dirty.
pub(super) fn leaves_dirty<H: Host>(
    host: &H,
    keys: &[PageKey],
    areas: &[Area<'_>],
) -> Result<bool> {
    let mut ours = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let mut theirs = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    for key in keys {
        let dirty = host.with(|node| node.pages.get(*key).and_then(|page| page.dirty));
        let Some(dirty) = dirty else {
            continue;
        };
        let geometry = host.with(|node| node.geometry());
        host.read(geometry.page(dirty.pm), &mut ours)?;
        match dirty.base {
            Some(base) => host.read(geometry.page(base), &mut theirs)?,
            None => theirs.fill(0),
        }
        let mut published = KVec::new();
        for area in areas.iter().filter(|area| area.key == *key) {
            published.push(area.span(), GFP_KERNEL)?;
        }
        let all = area::differences(*key, &ours, &theirs)?;
        if !area::without(&all, &published)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}
