// SPDX-License-Identifier: GPL-2.0

//! What processes ask to be made durable and visible: HOTPOT_IOC_COMMIT, msync and
//! fsync, write(2).

use super::{
    area::{self, Area, ByteRange, Span},
    commit_node,
    fault::{self, PAUSE},
    format::{
        dataset::{DatasetRecord, Mode},
        Cid, Timestamp, PAGE_BYTES, PAGE_SIZE,
    },
    freeze::{self, Frozen},
    grants::Opener,
    host::{Host, Level, PageKey, Piece},
    names,
    node::Node,
    rebase::Rebase,
};
use kernel::prelude::*;

/// Most bytes of one [`write`].
pub const MAX_WRITE: usize = 1 << 20;

/// What became of a commit.
#[derive(Debug)]
pub struct Committed {
    /// Its id; 0 when it did not even get one.
    pub cid: Cid,
    /// `Ok`: durable at all copies, and nobody reads what was before. `EINPROGRESS`: not known.
    /// Any other error: nothing was published.
    pub result: Result,
}

impl Committed {
    fn failed(error: Error) -> Self {
        Self {
            cid: Cid(0),
            result: Err(error),
        }
    }
}

/// Publishes `ranges`, as far as they lie in pages that are dirty here: all of these bytes, stored here or
/// not, as the dirty copies have them once the pages are frozen. `replicas` 0 is the dataset's degree.
pub async fn commit<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    ranges: &[ByteRange],
    replicas: u32,
    until: u64,
) -> Committed {
    match try_commit(host, opener, dataset, ranges, replicas, until).await {
        Ok(committed) => committed,
        Err(error) => Committed::failed(error),
    }
}

async fn try_commit<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    ranges: &[ByteRange],
    replicas: u32,
    until: u64,
) -> Result<Committed> {
    let record = record_of(host, dataset)?;
    let spans = area::split(dataset, record.size, ranges)?;
    let keys = keys_of(&spans)?;
    let frozen = freeze::freeze(host, keys, &spans, until).await?;
    let terms = Terms {
        writer: Some(opener).filter(|_| record.mode == Mode::Mrsw),
        release: true,
        replicas: degree(replicas, &record),
        until,
    };
    let committed = match dirty_areas(host, &spans) {
        Ok(areas) => publish(host, &frozen, &areas, &terms).await,
        Err(error) => Committed::failed(error),
    };
    freeze::thaw(host, frozen);
    Ok(committed)
}

/// Publishes all dirty bytes of a range, as one commit.
pub async fn sync<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    range: ByteRange,
    until: u64,
) -> Committed {
    match try_sync(host, opener, dataset, range, until).await {
        Ok(committed) => committed,
        Err(error) => Committed::failed(error),
    }
}

async fn try_sync<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    range: ByteRange,
    until: u64,
) -> Result<Committed> {
    let record = record_of(host, dataset)?;
    let end = range.offset.saturating_add(range.len).min(record.size);
    let mut keys = KVec::new();
    host.with(|node| {
        let mut at = PageKey {
            dataset,
            page: range.offset / PAGE_BYTES,
        };
        while let Some((key, page)) = node.pages.next(at) {
            if key.dataset != dataset || key.page.saturating_mul(PAGE_BYTES) >= end {
                break;
            }
            let theirs = record.mode == Mode::Mrmw || node.grants.is_held(opener, key);
            if page.dirty.is_some() && theirs {
                keys.push(key, GFP_KERNEL)?;
            }
            at.page = key.page + 1;
        }
        Ok::<_, Error>(())
    })?;
    if keys.is_empty() {
        return Ok(Committed {
            cid: Cid(0),
            result: Ok(()),
        });
    }
    let frozen = freeze::freeze(host, keys, &[], until).await?;
    let terms = Terms {
        writer: Some(opener).filter(|_| record.mode == Mode::Mrsw),
        release: true,
        replicas: record.replicas,
        until,
    };
    let committed = match changed_areas(host, &frozen.keys, end) {
        Ok(areas) => publish(host, &frozen, &areas, &terms).await,
        Err(error) => Committed::failed(error),
    };
    freeze::thaw(host, frozen);
    Ok(committed)
}

/// Publishes bytes, at most [`MAX_WRITE`] (EFBIG), and has the dataset reach over them. Pages of
/// an MRSW dataset must have been acquired (EACCES), and stay so.
pub async fn write<H: Host>(
    host: &H,
    opener: Opener,
    dataset: u64,
    offset: u64,
    bytes: &[u8],
    time: Timestamp,
    until: u64,
) -> Result {
    if bytes.is_empty() {
        return Ok(());
    }
    if bytes.len() > MAX_WRITE {
        return Err(EFBIG);
    }
    let record = record_of(host, dataset)?;
    let end = offset.checked_add(bytes.len() as u64).ok_or(EFBIG)?;
    if end > record.size {
        names::extend(host, dataset, end, time, until).await?;
    }
    let range = ByteRange {
        offset,
        len: bytes.len() as u64,
    };
    let spans = area::split(dataset, end.max(record.size), &[range])?;
    let mut areas = KVec::with_capacity(spans.len(), GFP_KERNEL)?;
    let mut rest = Piece::Bytes(bytes);
    for span in &spans {
        let len = usize::from(span.len);
        areas.push(
            Area {
                key: span.key,
                offset: span.offset,
                bytes: rest.part(0, len),
            },
            GFP_KERNEL,
        )?;
        rest = rest.part(len, rest.len());
    }
    let frozen = freeze::freeze(host, keys_of(&spans)?, &[], until).await?;
    let terms = Terms {
        writer: Some(opener).filter(|_| record.mode == Mode::Mrsw),
        release: false,
        replicas: record.replicas,
        until,
    };
    let result = loop {
        let result = publish(host, &frozen, &areas, &terms).await.result;
        let now = host.now();
        if result != Err(EAGAIN) || now + PAUSE >= until {
            break result;
        }
        // Two writers of the same bytes: one after the other.
        let ticket = host.with(|node| node.ticket(super::node::GENERAL));
        if let Err(error) = fault::wait(host, ticket, now + PAUSE).await {
            if error == EINTR {
                break Err(EINTR);
            }
        }
    };
    freeze::thaw(host, frozen);
    result
}

/// How areas are to be published.
struct Terms {
    /// MRSW: the open file that must have acquired the pages.
    writer: Option<Opener>,
    /// MRSW: pages that are clean afterwards have no writer any more.
    release: bool,
    replicas: u32,
    until: u64,
}

/// Commits areas of frozen pages and brings their dirty copies up to it.
async fn publish<H: Host>(
    host: &H,
    frozen: &Frozen,
    areas: &[Area<'_>],
    terms: &Terms,
) -> Committed {
    match try_publish(host, frozen, areas, terms).await {
        Ok(committed) => committed,
        Err(error) => Committed::failed(error),
    }
}

async fn try_publish<H: Host>(
    host: &H,
    frozen: &Frozen,
    areas: &[Area<'_>],
    terms: &Terms,
) -> Result<Committed> {
    let mut release = false;
    // For what follows the commit, which must not fail for want of it then.
    let given = Given {
        freed: KVec::with_capacity(frozen.keys.len(), GFP_KERNEL)?,
        left: KVec::with_capacity(frozen.keys.len(), GFP_KERNEL)?,
    };
    let begun = host.with(|node| {
        if let Some(opener) = terms.writer {
            node.check_held(opener, &frozen.keys)?;
        }
        Ok::<_, Error>(node.generation)
    })?;
    if terms.writer.is_some() && terms.release {
        // What stays dirty stays acquired: there is one dirty version only.
        release = !freeze::leaves_dirty(host, &frozen.keys, areas)?;
    }
    let mut rebase = Rebase::of(frozen.keys.len(), release)?;
    let order = commit_node::Order {
        areas,
        single_phase: terms.writer.is_some(),
        release,
        replicas: terms.replicas,
        until: terms.until,
    };
    let committed = commit_node::run(host, &order).await;
    if committed.result.is_err() {
        if terms.writer.is_some() && committed.result == Err(EINPROGRESS) {
            // The owners may have freed the pages: nobody may go on writing here.
            host.with(|node| node.doubt_grants(&frozen.keys));
        }
        return Ok(committed);
    }
    for key in &frozen.keys {
        let from = areas.partition_point(|area| area.key < *key);
        let to = areas.partition_point(|area| area.key <= *key);
        let these = areas.get(from..to).unwrap_or(&[]);
        if let Err(error) = rebase.page(host, *key, these).await {
            // It is published; the page here just stays dirty.
            host.log(
                Level::Warning,
                format_args!(
                    "page {} of dataset {} keeps its dirty copy after commit {:#x}: {error:?}",
                    key.page, key.dataset, committed.cid.0
                ),
            );
            if release {
                // The owners have freed it: nobody may go on writing here, nor read what it is not.
                host.with(|node| node.doubt_grants(&[*key]));
            }
        }
    }
    if let Err(error) = rebase.end(host).await {
        host.log(
            Level::Warning,
            format_args!(
                "commit {:#x} keeps the room of its dirty copies: {error:?}",
                committed.cid.0
            ),
        );
    }
    if let Some(opener) = terms.writer.filter(|_| terms.release) {
        let given = host.with(|node| {
            let told = release && node.generation == begun;
            released(node, opener, frozen, areas, told, given)
        });
        if let Err(error) = given {
            // It is published; who wrote can still give back what it acquired, or close the file.
            host.log(
                Level::Warning,
                format_args!(
                    "commit {:#x} keeps pages acquired: {error:?}",
                    committed.cid.0
                ),
            );
        }
    }
    Ok(committed)
}

/// Pages that are given back after a commit: by the owners already, and those that they are to be told of.
struct Given {
    freed: KVec<PageKey>,
    left: KVec<PageKey>,
}

/// After a commit: pages that are clean now are given back, if the owners have not freed them. `told`: they
/// have, and none of them began a new life meanwhile, and may have asked for our grants in between.
fn released(
    node: &mut Node,
    opener: Opener,
    frozen: &Frozen,
    areas: &[Area<'_>],
    told: bool,
    mut given: Given,
) -> Result {
    for key in &frozen.keys {
        if node
            .pages
            .get(*key)
            .is_some_and(|page| page.dirty.is_some())
        {
            continue;
        }
        match told && areas.binary_search_by(|area| area.key.cmp(key)).is_ok() {
            true => given.freed.push(*key, GFP_KERNEL)?,
            false => given.left.push(*key, GFP_KERNEL)?,
        }
    }
    node.forget_grants(&given.freed);
    node.give_back(opener, &given.left)
}

fn record_of<H: Host>(host: &H, dataset: u64) -> Result<DatasetRecord> {
    host.with(|node| {
        node.check_ready()?;
        Ok::<_, Error>(node.names.get(dataset)?.try_clone()?)
    })
}

fn degree(asked: u32, record: &DatasetRecord) -> u32 {
    match asked {
        0 => record.replicas,
        asked => asked,
    }
}

pub(super) fn keys_of(spans: &[Span]) -> Result<KVec<PageKey>> {
    let mut keys: KVec<PageKey> = KVec::new();
    for span in spans {
        if keys.last() != Some(&span.key) {
            keys.push(span.key, GFP_KERNEL)?;
        }
    }
    Ok(keys)
}

/// Of `spans`, the ones in pages with a dirty copy; of frozen pages.
fn dirty_areas<H: Host>(host: &H, spans: &[Span]) -> Result<KVec<Area<'static>>> {
    let mut areas = KVec::new();
    host.with(|node| {
        let geometry = node.geometry();
        for span in spans {
            if let Some(dirty) = node.pages.get(span.key).and_then(|page| page.dirty) {
                areas.push(area_at(span, geometry.page(dirty.pm)), GFP_KERNEL)?;
            }
        }
        Ok(areas)
    })
}

fn area_at(span: &Span, page: u64) -> Area<'static> {
    Area {
        key: span.key,
        offset: span.offset,
        bytes: Piece::Pm {
            offset: page + u64::from(span.offset),
            len: usize::from(span.len),
        },
    }
}

/// All bytes of frozen pages in which the dirty copy differs from its base, up to `end`.
fn changed_areas<H: Host>(host: &H, keys: &[PageKey], end: u64) -> Result<KVec<Area<'static>>> {
    let mut areas = KVec::new();
    let mut new = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let mut old = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    for key in keys {
        let found = host.with(|node| {
            let dirty = node.pages.get(*key)?.dirty?;
            Some((dirty, node.geometry()))
        });
        let Some((dirty, geometry)) = found else {
            continue;
        };
        host.read(geometry.page(dirty.pm), &mut new)?;
        match dirty.base {
            Some(base) => host.read(geometry.page(base), &mut old)?,
            None => old.fill(0),
        }
        let begin = key.page * PAGE_BYTES;
        let len = end.saturating_sub(begin).min(PAGE_BYTES) as usize;
        let changed = area::differences(
            *key,
            new.get(..len).unwrap_or(&[]),
            old.get(..len).unwrap_or(&[]),
        )?;
        for span in &changed {
            areas.push(area_at(span, geometry.page(dirty.pm)), GFP_KERNEL)?;
        }
    }
    Ok(areas)
}
