// SPDX-License-Identifier: GPL-2.0

//! How versions of pages become durable, committed and free on the PM device.
//! Nothing committed is written in place: a new page, persisted, then one word.

use super::{
    area::Area,
    format::{slot, Cid, Geometry, PageVersion, BODY_SIZE, PAGE_BYTES, PAGE_SIZE},
    host::{Action, Host, PageKey, Piece, Sleep},
    node::Node,
    pages::{Clean, Released, Staged},
};
use kernel::prelude::*;

/// A version of a page that is to be written.
pub(super) struct NewPage<'a> {
    /// PM page, with a slot that is durably FREE.
    pub(super) pm: u64,
    /// What it will be.
    pub(super) of: PageVersion,
    /// Who has it staged.
    pub(super) stager: Option<slot::Stager>,
    /// All its bytes, before the areas.
    pub(super) base: Piece<'a>,
    /// What differs, all of this page.
    pub(super) areas: &'a [Area<'a>],
}

/// The actions of one step.
#[derive(Default)]
pub(super) struct Batch<'a> {
    actions: KVec<Action<'a>>,
}

impl<'a> Batch<'a> {
    /// With room for so many swings and a fence, so that those need no memory.
    pub(super) fn for_swings(swings: usize) -> Result<Self> {
        Ok(Self {
            actions: KVec::with_capacity(2 * swings + 1, GFP_KERNEL)?,
        })
    }

    pub(super) fn push(&mut self, action: Action<'a>) -> Result {
        Ok(self.actions.push(action, GFP_KERNEL)?)
    }

    pub(super) fn write(&mut self, offset: u64, data: Piece<'a>) -> Result {
        self.push(Action::Write { offset, data })
    }

    pub(super) fn flush(&mut self, offset: u64, len: u64) -> Result {
        self.push(Action::Flush { offset, len })
    }

    pub(super) fn fence(&mut self) -> Result {
        self.push(Action::Fence)
    }

    /// Swings a word and has it written back; durable after the next fence.
    pub(super) fn swing(&mut self, offset: u64, word: u64) -> Result {
        self.push(Action::Swing { offset, word })?;
        self.flush(offset, 8)
    }

    pub(super) async fn run<H: Host>(self, host: &H) -> Result {
        host.run(&self.actions).await
    }
}

/// Writes pages and their slots durably, in state `state`.
pub(super) async fn write_versions<H: Host>(
    host: &H,
    geometry: &Geometry,
    pages: &[NewPage<'_>],
    state: slot::State,
) -> Result {
    let mut batch = Batch::default();
    for page in pages {
        let offset = geometry.page(page.pm);
        batch.write(offset, page.base)?;
        for area in page.areas {
            batch.write(offset + u64::from(area.offset), area.bytes)?;
        }
        batch.flush(offset, PAGE_BYTES)?;
    }
    batch.run(host).await?;
    let mut bodies: KVec<[u8; BODY_SIZE]> = KVec::with_capacity(pages.len(), GFP_KERNEL)?;
    let mut bytes = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    for page in pages {
        host.read(geometry.page(page.pm), &mut bytes)?;
        let slot = slot::Slot {
            of: page.of,
            data_crc: super::format::crc32c(&bytes),
            stager: page.stager,
        };
        bodies.push(slot.encode(page.pm), GFP_KERNEL)?;
    }
    let mut batch = Batch::default();
    for (page, body) in pages.iter().zip(&bodies) {
        let offset = geometry.slot(page.pm) + 8;
        batch.write(offset, Piece::Bytes(body))?;
        batch.flush(offset, BODY_SIZE as u64)?;
    }
    batch.fence()?;
    for page in pages {
        batch.swing(geometry.slot(page.pm), page.of.word(page.pm, state).0)?;
    }
    batch.fence()?;
    batch.run(host).await
}

/// Frees the slots of pages durably and gives the pages back. Needs no memory.
pub(super) async fn free<H: Host>(host: &H, released: &[Released]) -> Result {
    if released.is_empty() {
        return Ok(());
    }
    let geometry = host.with(|node| node.geometry());
    match Batch::for_swings(released.len()) {
        Ok(mut batch) => {
            for page in released {
                batch.swing(geometry.slot(page.pm), 0)?;
            }
            batch.fence()?;
            batch.run(host).await?;
        }
        // Without room for all of them each has a fence of its own.
        Err(_) => {
            for page in released {
                let offset = geometry.slot(page.pm);
                let swing = Action::Swing { offset, word: 0 };
                host.run(&[swing, Action::Flush { offset, len: 8 }, Action::Fence])
                    .await?;
            }
        }
    }
    host.with(|node| {
        for page in released.iter().filter(|page| !page.keep) {
            node.space.give(page.pm);
        }
    });
    Ok(())
}

/// Waits until no local step uses the copies of a page. EBUSY at `until`.
pub(super) async fn wait_idle<H: Host>(host: &H, key: PageKey, until: u64) -> Result {
    loop {
        let ticket = host.with(|node| {
            let busy = node.pages.get(key).is_some_and(|page| page.busy != 0);
            busy.then(|| node.page_ticket(key))
        });
        let Some(ticket) = ticket else {
            return Ok(());
        };
        if host.now() >= until {
            return Err(EBUSY);
        }
        host.wait(ticket, until, Sleep::Uninterruptible).await?;
    }
}

enum Claim {
    Gone,
    Busy(super::host::Ticket),
    Got(Staged),
}

impl Node {
    fn claim(&mut self, key: PageKey, cid: Cid, committed: bool) -> Claim {
        let ticket = self.page_ticket(key);
        let Some(page) = self.pages.get_mut(key) else {
            return Claim::Gone;
        };
        let busy = page.busy != 0;
        let Some(staged) = page.staged.iter_mut().find(|staged| staged.cid == cid) else {
            return Claim::Gone;
        };
        if !staged.ready && !committed {
            // Who makes it finds out when it is done.
            staged.cancelled = true;
            return Claim::Gone;
        }
        if busy || !staged.ready {
            return Claim::Busy(ticket);
        }
        let staged = *staged;
        page.busy = 1;
        Claim::Got(staged)
    }

    /// Gives claims back: somebody else may settle these pages.
    fn unclaim(&mut self, claimed: &[(PageKey, Staged)]) {
        for (key, _) in claimed {
            if let Some(page) = self.pages.get_mut(*key) {
                page.busy = 0;
            }
            self.wake_page(*key);
        }
    }

    /// Room for all that settling these pages releases.
    fn room_to_settle(&self, claimed: &[(PageKey, Staged)]) -> Result<KVec<Released>> {
        let most = claimed.iter().map(|(key, _)| {
            let page = self.pages.get(*key);
            // All that is staged but this one, and the clean copy.
            page.map_or(0, |page| page.staged.len() + 1)
        });
        Ok(KVec::with_capacity(most.sum(), GFP_KERNEL)?)
    }

    /// One page was settled on PM. `released` has room.
    fn settled(
        &mut self,
        key: PageKey,
        of: &Staged,
        committed: bool,
        released: &mut KVec<Released>,
    ) {
        let generation = self.generation;
        let owns = self.owns(key);
        let Some(page) = self.pages.get_mut(key) else {
            return;
        };
        let mut release = |what: Released| {
            let _ = released.push_within_capacity(what);
        };
        page.busy = 0;
        page.staged.retain(|staged| staged.cid != of.cid);
        if committed {
            if page.clean.is_some_and(|clean| clean.version >= of.version) {
                release(self::released(of.pm));
            } else {
                // What was staged before is older, whatever became of it.
                for old in page.staged.iter_mut() {
                    if old.version <= of.version {
                        if old.ready {
                            release(self::released(old.pm));
                        } else {
                            old.cancelled = true;
                        }
                    }
                }
                page.staged
                    .retain(|old| old.version > of.version || !old.ready);
                let old = page.replace_clean(Clean {
                    pm: Some(of.pm),
                    version: of.version,
                    cid: of.cid,
                    valid: owns || of.generation == generation,
                });
                if let Some(old) = old {
                    release(old);
                }
                page.sequence = page.sequence.wrapping_add(1);
            }
        } else {
            self.space.give(of.pm);
        }
        self.pages.prune(key);
        self.wake_page(key);
    }
}

/// Publishes or drops what commit `cid` staged here on the pages `keys` (in order).
/// What is not staged (any more) is left alone. After an error it can be done again.
pub(super) async fn settle<H: Host>(
    host: &H,
    cid: Cid,
    keys: &[PageKey],
    committed: bool,
) -> Result {
    let mut claimed: KVec<(PageKey, Staged)> = KVec::with_capacity(keys.len(), GFP_KERNEL)?;
    let settled = match swing_claimed(host, cid, keys, committed, &mut claimed).await {
        Ok(()) => host.with(|node| {
            let mut released = node.room_to_settle(&claimed)?;
            for (key, staged) in &claimed {
                node.settled(*key, staged, committed, &mut released);
            }
            Ok(released)
        }),
        Err(error) => Err(error),
    };
    match settled {
        Ok(released) => free(host, &released).await,
        Err(error) => {
            host.with(|node| node.unclaim(&claimed));
            Err(error)
        }
    }
}

/// Claims what there is of a commit, and gives its slots their last words.
async fn swing_claimed<H: Host>(
    host: &H,
    cid: Cid,
    keys: &[PageKey],
    committed: bool,
    claimed: &mut KVec<(PageKey, Staged)>,
) -> Result {
    let mut batch = Batch::for_swings(keys.len())?;
    for key in keys {
        loop {
            match host.with(|node| node.claim(*key, cid, committed)) {
                Claim::Gone => break,
                Claim::Got(staged) => {
                    let _ = claimed.push_within_capacity((*key, staged));
                    break;
                }
                Claim::Busy(ticket) => {
                    let soon = host.now().saturating_add(1_000_000_000);
                    host.wait(ticket, soon, Sleep::Uninterruptible).await?;
                }
            }
        }
    }
    let geometry = host.with(|node| node.geometry());
    for (key, staged) in claimed.iter() {
        let version = PageVersion {
            dataset: key.dataset,
            page: key.page,
            version: staged.version,
            cid,
        };
        let word = match committed {
            true => version.word(staged.pm, slot::State::Committed).0,
            false => 0,
        };
        batch.swing(geometry.slot(staged.pm), word)?;
    }
    batch.fence()?;
    batch.run(host).await
}

/// Drops the clean copy of a page that nobody needs (or may read) any more.
/// A page that becomes busy meanwhile is left alone; EBUSY then.
pub(super) async fn drop_clean<H: Host>(host: &H, key: PageKey) -> Result {
    let until = host.with(|node| node.config.timeout) + host.now();
    wait_idle(host, key, until).await?;
    let taken = host.with(|node| {
        let page = node.pages.get_mut(key)?;
        if page.busy != 0 {
            return None;
        }
        page.busy = 1;
        page.mapped = false;
        page.sequence = page.sequence.wrapping_add(1);
        Some(())
    });
    if taken.is_none() {
        return Ok(());
    }
    let unmapped = host
        .run(&[Action::Unmap {
            first: key,
            count: 1,
        }])
        .await;
    let released = host.with(|node| {
        let released = node.pages.get_mut(key).and_then(|page| {
            page.busy = 0;
            match unmapped {
                Ok(()) => page.take_clean(),
                Err(_) => None,
            }
        });
        node.pages.prune(key);
        node.wake_page(key);
        released
    });
    unmapped?;
    match released {
        Some(released) => free(host, &[released]).await,
        None => Ok(()),
    }
}

/// A PM page that is of no use.
pub(super) fn released(pm: u64) -> Released {
    Released { pm, keep: false }
}
