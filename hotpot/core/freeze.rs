// SPDX-License-Identifier: GPL-2.0

//! Pages that a commit of this node works on: no process loads from or stores to
//! them meanwhile, so that what is published is one moment's bytes. Afterwards
//! their dirty copies are brought on top of what was published.

use super::{
    area::{self, Area, Span},
    fault,
    format::PAGE_SIZE,
    host::{Action, Host, PageKey, Piece, Ticket},
    integrity,
    node::Node,
    persist::{self, Batch},
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

/// After a commit of `areas` of a frozen page: the dirty copy keeps what it has beyond
/// them, on top of the newest clean copy, or goes when nothing is left.
pub(super) async fn rebase<H: Host>(host: &H, key: PageKey, areas: &[Area<'_>]) -> Result {
    let until = host.with(|node| node.config.timeout) + host.now();
    // What it takes to let go of pages is there before anything changes.
    let mut unused = KVec::with_capacity(2, GFP_KERNEL)?;
    let freeing = Batch::for_swings(2)?;
    let (dirty, clean, geometry) = loop {
        persist::wait_idle(host, key, until).await?;
        let found = host.with(|node| {
            let geometry = node.geometry();
            let page = node.pages.get_mut(key)?;
            let dirty = page.dirty?;
            if page.busy != 0 {
                return Some(None);
            }
            page.busy = 1;
            Some(Some((
                dirty,
                page.clean.filter(|clean| clean.valid),
                geometry,
            )))
        });
        match found {
            None => return Ok(()),
            Some(None) => {}
            Some(Some(found)) => break found,
        }
    };
    let mut new = dirty;
    let mut drop = false;
    let mut taken = None;
    let result = async {
        // What is damaged is not laid below what is left.
        let clean = match clean {
            Some(clean) if !integrity::is_intact(host, &geometry, key, &clean)? => None,
            clean => clean,
        };
        let mut theirs = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        let mut ours = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        host.read(geometry.page(dirty.pm), &mut ours)?;
        if let Some(base) = dirty.base {
            host.read(geometry.page(base), &mut theirs)?;
        }
        let mut published = KVec::with_capacity(areas.len(), GFP_KERNEL)?;
        for area in areas {
            published.push(area.span(), GFP_KERNEL)?;
        }
        let all = area::differences(key, &ours, &theirs)?;
        let left = area::without(&all, &published)?;
        if left.is_empty() {
            drop = true;
            return Ok(());
        }
        let mut batch = Batch::default();
        let to = geometry.page(dirty.pm);
        if let Some(clean) = clean {
            let below = match clean.pm {
                Some(pm) => Piece::Pm {
                    offset: geometry.page(pm),
                    len: PAGE_SIZE,
                },
                None => Piece::Zeros(PAGE_SIZE),
            };
            for gap in &area::gaps(key, &left)? {
                batch.write(
                    to + u64::from(gap.offset),
                    below.part(usize::from(gap.offset), usize::from(gap.len)),
                )?;
            }
            new.base = clean.pm;
            new.owns_base = false;
            return batch.run(host).await;
        }
        // Without a clean copy the base gets the published bytes, to be no difference any more.
        let base = match dirty.base {
            Some(base) if dirty.owns_base => base,
            base => {
                let Some(pm) = host.with(|node| node.space.take()) else {
                    // No room: they count as dirty still. Committed once more they are the same.
                    return Ok(());
                };
                let below = match base {
                    Some(pm) => Piece::Pm {
                        offset: geometry.page(pm),
                        len: PAGE_SIZE,
                    },
                    None => Piece::Zeros(PAGE_SIZE),
                };
                taken = Some(pm);
                batch.write(geometry.page(pm), below)?;
                new.base = Some(pm);
                new.owns_base = true;
                pm
            }
        };
        for area in areas {
            let at = u64::from(area.offset);
            batch.write(geometry.page(base) + at, area.bytes)?;
            if let Piece::Bytes(_) = area.bytes {
                batch.write(to + at, area.bytes)?;
            }
        }
        batch.run(host).await
    }
    .await;
    host.with(|node| {
        if let (Err(_), Some(pm)) = (result, taken) {
            node.space.give(pm);
        }
        if let Some(page) = node.pages.get_mut(key) {
            page.busy = 0;
            if result.is_ok() {
                let old_base = dirty
                    .base
                    .filter(|base| dirty.owns_base && (drop || new.base != Some(*base)));
                for pm in Iterator::chain(old_base.into_iter(), drop.then_some(dirty.pm)) {
                    let _ = unused.push_within_capacity(persist::released(pm));
                }
                page.dirty = (!drop).then_some(new);
            }
        }
        node.wake_page(key);
    });
    persist::free_by(host, freeing, &unused).await?;
    result
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
