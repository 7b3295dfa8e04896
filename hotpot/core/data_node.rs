// SPDX-License-Identifier: GPL-2.0

//! Data node (DN): keeps copies for the owners of pages.

use super::{
    area::Area,
    cluster::Sender,
    draft, eviction,
    format::{slot, Cid, PageVersion, PAGE_SIZE},
    host::{Action, Host, PageKey, Piece},
    integrity,
    msg::{Reader, Settle, Stage, StagePage, Staging},
    node::Node,
    pages::Staged,
    persist::{self, NewPage},
};
use kernel::prelude::*;

/// How a page of a `Stage` is to be made.
enum Plan {
    Done(Staging),
    /// Drop the copy that is here.
    Drop,
    /// Into this PM page, from this clean copy (else from the message).
    Build {
        pm: u64,
        from: Option<u64>,
    },
    /// As `Build`, but the clean copy is damaged: it is undone.
    Damaged,
}

impl Node {
    /// `there`: the bytes are, sent or our own.
    fn plan_stage(
        &mut self,
        from: Sender,
        cid: Cid,
        (stage, there): (&StagePage, bool),
        now: u64,
    ) -> Result<Plan> {
        // The last commits of an owner from which the chunk has moved: the new one has not counted
        // what we are given now.
        let owner = self.owner(stage.key) == Ok(from.node);
        let generation = match owner && self.is_greeted(from.node) {
            true => self.generation,
            false => u64::MAX,
        };
        if self.is_refused(cid) {
            // A message from the past: its owner has told that it was given up.
            return Err(ECANCELED);
        }
        let page = self.pages.entry(stage.key)?;
        // Whatever answer about this page is on its way to us may be older than this commit.
        page.sequence = page.sequence.wrapping_add(1);
        if page.staged.iter().any(|staged| staged.cid == cid) {
            return Err(EALREADY);
        }
        let base = stage.version.saturating_sub(1);
        if page.clean.is_some_and(|clean| clean.version > base) {
            // A message from the past: the commit was given up long ago.
            return Err(ESTALE);
        }
        let keep = stage.must || page.dirty.is_some() || page.frozen;
        let from = match page.clean {
            _ if stage.whole || base == 0 => None,
            Some(clean) if clean.version == base => clean.pm,
            // The base may be among what is staged and in doubt.
            _ if keep || !page.staged.is_empty() => return Ok(Plan::Done(Staging::NeedWhole)),
            _ => return Ok(Plan::Drop),
        };
        if !there {
            return Ok(Plan::Done(Staging::NeedWhole));
        }
        page.staged.reserve(1, GFP_KERNEL)?;
        let Some(pm) = self.space.take() else {
            if keep {
                return Ok(Plan::Done(Staging::NoSpace));
            }
            // The owner will not ask us again about what becomes of older versions.
            for staged in page.staged.iter_mut() {
                staged.generation = u64::MAX;
            }
            return Ok(Plan::Drop);
        };
        if let Some(page) = self.pages.get_mut(stage.key) {
            // From here on nobody begins to read the page.
            let _ = page.staged.push_within_capacity(Staged {
                cid,
                version: stage.version,
                pm,
                ready: false,
                cancelled: false,
                since: now,
                generation,
            });
            page.busy += 1;
            page.referenced = true;
        }
        Ok(Plan::Build { pm, from })
    }
}

/// Makes new versions durable, and has readers of the pages wait for the outcome.
pub(super) async fn on_stage<H: Host>(
    host: &H,
    from: Sender,
    stage: &Stage,
    data: &[u8],
) -> Result<KVec<Staging>> {
    let mut bytes = integrity::page_buffer()?;
    let left_out = draft::left_out(host, stage, &mut bytes)?;
    let areas = areas_of(stage, data, &left_out.bytes)?;
    let now = host.now();
    let mut plans = KVec::with_capacity(stage.pages.len(), GFP_KERNEL)?;
    let want = stage.pages.len() as u64;
    // What it finds is enough, or the owner hears of it.
    let _ = eviction::make_room(host, want, 0).await?;
    publish_before(host, from, stage).await?;
    let geometry = host.with(|node| {
        if node.is_out(from.node) {
            // That it is we learnt while we made room: its successor may have heard what we have.
            return Err(ESTALE);
        }
        node.rooms.count(want);
        for (page, there) in stage.pages.iter().zip(&left_out.there) {
            let plan = node
                .guest_room(from, stage, page.key)
                .and_then(|()| node.plan_stage(from, stage.cid, (page, *there), now));
            node.add_guest(
                stage.cid,
                matches!(plan, Ok(Plan::Build { .. })).then_some(page.key),
            );
            node.pages.prune(page.key);
            plans.push(plan, GFP_KERNEL)?;
        }
        Ok::<_, Error>(node.geometry())
    })?;
    for (page, plan) in stage.pages.iter().zip(&mut plans) {
        if let Ok(Plan::Build {
            from: Some(from), ..
        }) = plan
        {
            let base = (*from, page.version - 1);
            if integrity::read_copy(host, &geometry, page.key, base, &mut bytes).is_none() {
                // What is damaged must not become part of a new version.
                *plan = Ok(Plan::Damaged);
            }
        }
    }
    let result = build(host, from, stage, (&areas, &plans), &geometry).await;
    host.with(|node| {
        for (page, plan) in stage.pages.iter().zip(&plans) {
            if !matches!(plan, Ok(Plan::Build { .. } | Plan::Damaged)) {
                continue;
            }
            if let Some(entry) = node.pages.get_mut(page.key) {
                entry.busy = entry.busy.saturating_sub(1);
                for staged in entry.staged.iter_mut().filter(|s| s.cid == stage.cid) {
                    staged.ready = true;
                    staged.cancelled |= result.is_err() || matches!(plan, Ok(Plan::Damaged));
                }
            }
            node.wake_page(page.key);
        }
    });
    let until = host.with(|node| node.config.timeout) + now;
    let mut done = KVec::with_capacity(plans.len(), GFP_KERNEL)?;
    for (page, plan) in stage.pages.iter().zip(&plans) {
        let staging = match plan {
            Err(error) => return Err(*error),
            Ok(Plan::Done(staging)) => *staging,
            Ok(Plan::Drop) => {
                persist::drop_clean(host, page.key).await?;
                Staging::Dropped
            }
            Ok(Plan::Damaged) => {
                persist::settle(host, stage.cid, &[page.key], false).await?;
                host.with(|node| {
                    if let Some(guest) = node.guests.get_mut(&stage.cid) {
                        guest.keys.retain(|key| *key != page.key);
                    }
                    node.add_guest(stage.cid, None);
                });
                Staging::NeedWhole
            }
            Ok(Plan::Build { .. }) => {
                block_readers(host, page.key, until).await?;
                let cancelled = host.with(|node| {
                    node.pages.get(page.key).is_none_or(|entry| {
                        !entry
                            .staged
                            .iter()
                            .any(|s| s.cid == stage.cid && !s.cancelled)
                    })
                });
                if cancelled {
                    persist::settle(host, stage.cid, &[page.key], false).await?;
                    Staging::Dropped
                } else {
                    Staging::Durable
                }
            }
        };
        done.push(staging, GFP_KERNEL)?;
    }
    result.map(|()| done)
}

/// Publishes what is staged here of the commits on which an owner builds.
async fn publish_before<H: Host>(host: &H, from: Sender, stage: &Stage) -> Result {
    let mut noted = Cid(0);
    for page in &stage.pages {
        if page.before != noted && page.before != Cid(0) {
            // What we published of it in an earlier life the newer version leaves nothing of.
            host.with(|node| node.note_settled(page.before));
            noted = page.before;
        }
        if host.with(|node| node.is_out(from.node)) {
            // Its successor may have heard what we have.
            return Err(ESTALE);
        }
        publish_known(host, page.before).await?;
    }
    Ok(())
}

/// Publishes all that is staged here of a commit on which a newer version of one of its pages is
/// built: its owner may not have come to tell us yet, and the newer version, once published, drops
/// what is staged of that page. When the owner is lost then, the commit's other pages would look
/// like those of one that was never promised.
pub(super) async fn publish_known<H: Host>(host: &H, cid: Cid) -> Result {
    match host.with(|node| node.guests.get(&cid).is_some()) {
        true => finish(host, cid).await,
        false => Ok(()),
    }
}

async fn build<H: Host>(
    host: &H,
    from: Sender,
    stage: &Stage,
    (areas, plans): (&[KVec<Area<'_>>], &[Result<Plan>]),
    geometry: &super::format::Geometry,
) -> Result {
    // Whose it is we know after a restart, too.
    let stager = slot::Stager::new(from.node as u16, stage.part, &stage.owners, stage.alone);
    let mut new = KVec::new();
    for ((page, plan), areas) in stage.pages.iter().zip(plans).zip(areas) {
        if let Ok(Plan::Build { pm, from }) = plan {
            let base = match from {
                Some(from) => Piece::Pm {
                    offset: geometry.page(*from),
                    len: PAGE_SIZE,
                },
                None => Piece::Zeros(PAGE_SIZE),
            };
            new.push(
                NewPage {
                    pm: *pm,
                    of: PageVersion {
                        dataset: page.key.dataset,
                        page: page.key.page,
                        version: page.version,
                        cid: stage.cid,
                    },
                    stager: Some(stager),
                    base,
                    areas,
                },
                GFP_KERNEL,
            )?;
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    persist::write_versions(host, geometry, &new, slot::State::Staged).await
}

/// Takes a page out of all page tables, when nobody maps it just now. The page
/// has a staged version, so that nobody begins to.
pub(super) async fn block_readers<H: Host>(host: &H, key: PageKey, until: u64) -> Result {
    persist::wait_idle(host, key, until).await?;
    let mapped = host.with(|node| {
        node.pages
            .get_mut(key)
            .is_some_and(|page| page.dirty.is_none() && core::mem::take(&mut page.mapped))
    });
    if mapped {
        host.run(&[Action::Unmap {
            first: key,
            count: 1,
        }])
        .await?;
    }
    Ok(())
}

/// The areas of each page of a `Stage`, of bytes that came with it or were left out; EBADMSG when
/// its parts do not fit together.
fn areas_of<'a>(stage: &Stage, sent: &'a [u8], left_out: &'a [u8]) -> Result<KVec<KVec<Area<'a>>>> {
    let mut pages = KVec::with_capacity(stage.pages.len(), GFP_KERNEL)?;
    let mut spans = stage.spans.iter();
    let (mut sent, mut left_out) = (Reader::new(sent), Reader::new(left_out));
    for page in &stage.pages {
        if page.version == 0 || (page.whole && page.nr_spans != 0) {
            return Err(EBADMSG);
        }
        let from = match page.draft {
            Some(_) => &mut left_out,
            None => &mut sent,
        };
        let mut areas = KVec::new();
        if page.whole {
            areas.push(
                Area {
                    key: page.key,
                    offset: 0,
                    bytes: Piece::Bytes(from.bytes(PAGE_SIZE)?),
                },
                GFP_KERNEL,
            )?;
        }
        for _ in 0..page.nr_spans {
            let span = spans.next().filter(|s| s.key == page.key).ok_or(EBADMSG)?;
            areas.push(
                Area {
                    key: page.key,
                    offset: span.offset,
                    bytes: Piece::Bytes(from.bytes(usize::from(span.len))?),
                },
                GFP_KERNEL,
            )?;
        }
        pages.push(areas, GFP_KERNEL)?;
    }
    if spans.next().is_some() {
        return Err(EBADMSG);
    }
    sent.end()?;
    left_out.end()?;
    Ok(pages)
}

/// The outcome of commits that staged pages here.
pub(super) async fn on_settle<H: Host>(host: &H, settle: &Settle) -> Result {
    for cid in &settle.committed {
        finish(host, *cid).await?;
    }
    let mut result = Ok(());
    for cid in &settle.aborted {
        if !abort(host, *cid).await? {
            result = Err(EBUSY);
        }
    }
    result
}

/// Publishes all that a commit staged here for other owners. After an error it can be done again.
pub(super) async fn finish<H: Host>(host: &H, cid: Cid) -> Result {
    let mut keys = KVec::new();
    host.with(|node| {
        if let Some(guest) = node.guests.get(&cid) {
            keys.extend_from_slice(&guest.keys, GFP_KERNEL)?;
            // Nothing of it is staged any more from here on.
            node.note_settled(cid);
        }
        Ok::<_, Error>(())
    })?;
    if keys.is_empty() {
        return Ok(());
    }
    keys.sort_unstable();
    persist::settle(host, cid, &keys, true).await?;
    host.with(|node| node.guests.remove(&cid));
    Ok(())
}

/// Drops all that a commit staged here for other owners, and stages nothing of it any more:
/// an owner may tell its user then that nothing was published. Whether nothing is left; else
/// what is just being staged will be dropped soon.
pub(super) async fn abort<H: Host>(host: &H, cid: Cid) -> Result<bool> {
    let mut keys = KVec::new();
    host.with(|node| {
        node.refuse(cid)?;
        if let Some(theirs) = node.guests.get(&cid) {
            keys.extend_from_slice(&theirs.keys, GFP_KERNEL)?;
        }
        Ok::<_, Error>(())
    })?;
    keys.sort_unstable();
    persist::settle(host, cid, &keys, false).await?;
    Ok(host.with(|node| {
        node.forget_guests();
        node.guests.get(&cid).is_none()
    }))
}
