// SPDX-License-Identifier: GPL-2.0

//! The dirty copies of frozen pages after a commit: they keep what was not published, on top of what was.

use super::{
    area::{self, Area},
    format::{Geometry, PAGE_SIZE},
    host::{Host, PageKey, Piece},
    integrity,
    pages::{Clean, Dirty, Released},
    persist::{self, Batch},
};
use kernel::prelude::*;

/// Brings the dirty copies of a commit's pages up to it. What it takes to let go of them is there before
/// the commit, so that it is not missed after it.
pub(super) struct Rebase {
    /// All that was dirty is published: no copy stays, whatever memory there is.
    all: bool,
    unused: KVec<Released>,
}

impl Rebase {
    /// For at most so many pages. `all`: the commit leaves none of their bytes dirty.
    pub(super) fn of(pages: usize, all: bool) -> Result<Self> {
        Ok(Self {
            all,
            // A copy and its base.
            unused: KVec::with_capacity(2 * pages, GFP_KERNEL)?,
        })
    }

    /// After a commit of `areas` of a frozen page: the dirty copy keeps what it has beyond them, on top of
    /// the newest clean copy, or goes when nothing is left. On an error it stays as it is.
    pub(super) async fn page<H: Host>(
        &mut self,
        host: &H,
        key: PageKey,
        areas: &[Area<'_>],
    ) -> Result {
        let Some((dirty, clean)) = claim(host, key).await? else {
            return Ok(());
        };
        let kept = match self.all {
            true => Ok(None),
            false => rest(host, key, &dirty, clean, areas).await,
        };
        host.with(|node| {
            if let Some(page) = node.pages.get_mut(key) {
                page.busy = 0;
                if let Ok(kept) = kept {
                    let base = kept.and_then(|kept| kept.base);
                    let old_base = dirty.base.filter(|_| dirty.owns_base && dirty.base != base);
                    let old = kept.is_none().then_some(dirty.pm);
                    for pm in Iterator::chain(old_base.into_iter(), old) {
                        // There is room.
                        let _ = self.unused.push_within_capacity(persist::released(pm));
                    }
                    page.dirty = kept;
                }
            }
            node.wake_page(key);
        });
        kept.map(|_| ())
    }

    /// Frees the copies that are gone.
    pub(super) async fn end<H: Host>(self, host: &H) -> Result {
        persist::free(host, &self.unused).await
    }
}

/// Marks a page as busy that nobody uses; what there is of it, if it has a dirty copy.
async fn claim<H: Host>(host: &H, key: PageKey) -> Result<Option<(Dirty, Option<Clean>)>> {
    let until = host.with(|node| node.config.timeout) + host.now();
    loop {
        persist::wait_idle(host, key, until).await?;
        let found = host.with(|node| {
            let page = node.pages.get_mut(key)?;
            let dirty = page.dirty?;
            if page.busy != 0 {
                return Some(None);
            }
            page.busy = 1;
            Some(Some((dirty, page.clean.filter(|clean| clean.valid))))
        });
        match found {
            None => return Ok(None),
            Some(None) => {}
            Some(found) => return Ok(found),
        }
    }
}

/// What is left of a dirty copy without `areas`, written; `None` is nothing.
async fn rest<H: Host>(
    host: &H,
    key: PageKey,
    dirty: &Dirty,
    clean: Option<Clean>,
    areas: &[Area<'_>],
) -> Result<Option<Dirty>> {
    let geometry = host.with(|node| node.geometry());
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
        return Ok(None);
    }
    let Some(clean) = clean else {
        return on_own_base(host, &geometry, dirty, areas).await.map(Some);
    };
    let below = whole(&geometry, clean.pm);
    let mut batch = Batch::default();
    for gap in &area::gaps(key, &left)? {
        batch.write(
            geometry.page(dirty.pm) + u64::from(gap.offset),
            below.part(usize::from(gap.offset), usize::from(gap.len)),
        )?;
    }
    batch.run(host).await?;
    Ok(Some(Dirty {
        base: clean.pm,
        owns_base: false,
        ..*dirty
    }))
}

/// Without a clean copy the base gets the published bytes, to be no difference any more.
async fn on_own_base<H: Host>(
    host: &H,
    geometry: &Geometry,
    dirty: &Dirty,
    areas: &[Area<'_>],
) -> Result<Dirty> {
    let own = dirty.base.filter(|_| dirty.owns_base);
    let taken = match own {
        Some(_) => None,
        None => match host.with(|node| node.space.take()) {
            // No room: they count as dirty still. Committed once more they are the same.
            None => return Ok(*dirty),
            taken => taken,
        },
    };
    let Some(base) = own.or(taken) else {
        return Ok(*dirty);
    };
    let written = async {
        let mut batch = Batch::default();
        if taken.is_some() {
            batch.write(geometry.page(base), whole(geometry, dirty.base))?;
        }
        for area in areas {
            let at = u64::from(area.offset);
            batch.write(geometry.page(base) + at, area.bytes)?;
            if let Piece::Bytes(_) = area.bytes {
                batch.write(geometry.page(dirty.pm) + at, area.bytes)?;
            }
        }
        batch.run(host).await
    }
    .await;
    if let (Err(error), Some(pm)) = (written, taken) {
        host.with(|node| node.space.give(pm));
        return Err(error);
    }
    written.map(|()| Dirty {
        base: Some(base),
        owns_base: true,
        ..*dirty
    })
}

/// A copy's bytes; `None` is a hole.
fn whole(geometry: &Geometry, pm: Option<u64>) -> Piece<'static> {
    match pm {
        Some(pm) => Piece::Pm {
            offset: geometry.page(pm),
            len: PAGE_SIZE,
        },
        None => Piece::Zeros(PAGE_SIZE),
    }
}
