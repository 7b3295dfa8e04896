// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of pages by processes of this node: page faults and `read(2)`.

use super::{
    eviction,
    format::{crc32c, slot, Geometry, PageVersion, PAGE_BYTES, PAGE_SIZE},
    handler,
    host::{Action, CallError, Host, Mapping, PageKey, Piece, Sleep, Ticket},
    integrity,
    msg::{self, Fetch, Reader, Request, Wire},
    node::{Node, GENERAL},
    pages::{Clean, Dirty},
    persist::{self, NewPage},
    resolve::wait_for,
};
use kernel::prelude::*;

/// What a process wants to do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Load.
    Read,
    /// Store.
    Write,
}

/// Pause between two tries of something remote, ns.
pub(super) const PAUSE: u64 = 20_000_000;

enum Step {
    Wait(Ticket),
    /// The dirty copy, or zeros.
    Map(Mapping),
    /// The clean copy, when it is intact.
    MapClean(Clean, Geometry),
    /// The clean copy is damaged.
    Damaged,
    /// Ask this owner; we have this version.
    Fetch {
        owner: u32,
        have: u64,
    },
    /// Copy `from` (the clean copy, or zeros) to `to`, the dirty copy.
    Copy {
        from: Clean,
        to: u64,
    },
}

/// Resolves a page fault by one [`Host::map`]. EFAULT beyond the end of the dataset, EACCES for a
/// store to a page of an MRSW dataset that nobody here has acquired, ESTALE when that was lost,
/// ENOSPC without room for a copy, ETIMEDOUT or EHOSTDOWN when the owner does
/// not answer until `until`.
pub async fn fault<H: Host>(host: &H, key: PageKey, access: Access, until: u64) -> Result {
    // What was just written here is not checked again.
    let mut fresh = None;
    loop {
        let step = match host.with(|node| node.plan_fault(key, access)) {
            Err(ENOSPC) => match make_room(host, until).await? {
                true => continue,
                false => return Err(ENOSPC),
            },
            step => step?,
        };
        let mapping = match step {
            Step::Wait(ticket) => {
                wait_for(host, key, ticket, until).await?;
                continue;
            }
            Step::Fetch { owner, have } => {
                if let Fetched::Written(pm) = fetch(host, key, owner, have, None, until).await? {
                    fresh = Some(pm);
                }
                continue;
            }
            Step::Damaged => {
                heal(host, key, until).await?;
                continue;
            }
            Step::Copy { from, to } => {
                match is_usable(host, key, &from, fresh, Some(to))? {
                    true => copy(host, key, from.pm, to).await?,
                    false => heal(host, key, until).await?,
                }
                continue;
            }
            Step::MapClean(clean, geometry) => {
                if !is_usable(host, key, &clean, fresh, None)? {
                    heal(host, key, until).await?;
                    continue;
                }
                match clean.pm {
                    None => Mapping::Zeros,
                    Some(pm) => Mapping::ReadOnly {
                        offset: geometry.page(pm),
                    },
                }
            }
            Step::Map(mapping) => mapping,
        };
        let mapped = host.map(key, mapping).await;
        release(host, key, None);
        return mapped;
    }
}

/// Ends a step that used the copies of a page, which took `unused` in vain.
fn release<H: Host>(host: &H, key: PageKey, unused: Option<u64>) {
    host.with(|node| {
        if let Some(page) = node.pages.get_mut(key) {
            page.busy = page.busy.saturating_sub(1);
        }
        if let Some(pm) = unused {
            node.space.give(pm);
        }
        node.wake_page(key);
    });
}

/// Whether the clean copy of a page, in use by a step that took `unused` for it, is what was committed; `fresh`
/// was just checked. Unless it is, the step has ended.
fn is_usable<H: Host>(
    host: &H,
    key: PageKey,
    clean: &Clean,
    fresh: Option<u64>,
    unused: Option<u64>,
) -> Result<bool> {
    let intact = match clean.pm.is_none() || clean.pm == fresh {
        true => Ok(true),
        false => {
            let geometry = host.with(|node| node.geometry());
            integrity::is_intact(host, &geometry, key, clean)
        }
    };
    if intact != Ok(true) {
        release(host, key, unused);
    }
    intact
}

/// Has a damaged copy healed. While nobody can be asked for a good one it is tried again.
async fn heal<H: Host>(host: &H, key: PageKey, until: u64) -> Result {
    match integrity::mend(host, key, until).await {
        Ok(_) => Ok(()),
        Err(error @ (EIO | ENOMEM | EINTR | ENOENT)) => Err(error),
        Err(error) => {
            let now = host.now();
            if now.saturating_add(PAUSE) >= until {
                return Err(error);
            }
            let ticket = host.with(|node| node.page_ticket(key));
            host.wait(ticket, now + PAUSE, Sleep::Killable).await
        }
    }
}

/// Reads bytes of a dataset as processes of this node see them; returns how many
/// there were before its end.
pub async fn read<H: Host>(
    host: &H,
    dataset: u64,
    offset: u64,
    to: &mut [u8],
    until: u64,
) -> Result<usize> {
    let size = host.with(|node| node.names.get(dataset).map(|record| record.size))?;
    let len = (to.len() as u64).min(size.saturating_sub(offset)) as usize;
    let mut page = integrity::page_buffer()?;
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let key = PageKey {
            dataset,
            page: at / PAGE_BYTES,
        };
        let within = at % PAGE_BYTES;
        let count = (len - done).min(PAGE_SIZE - within as usize);
        let buf = to.get_mut(done..done + count).ok_or(EINVAL)?;
        match host.with(|node| node.load(host, key, within, buf, &mut page))? {
            None => done += count,
            Some(Step::Wait(ticket)) => wait_for(host, key, ticket, until).await?,
            Some(Step::Fetch { owner, have }) => {
                let spill = Spill { within, to: buf };
                if let Fetched::Spilled = fetch(host, key, owner, have, Some(spill), until).await? {
                    done += count;
                }
            }
            Some(Step::Damaged) => heal(host, key, until).await?,
            Some(_) => return Err(EIO),
        }
    }
    Ok(len)
}

/// Gets a copy of a page of another node, and keeps it durably. ETIMEDOUT when something is staged on
/// it for more than a moment: who tells us what became of it may be the worker that waits for our answer.
pub(super) async fn keep<H: Host>(host: &H, key: PageKey, until: u64) -> Result {
    let moment = until.min(host.now().saturating_add(PAUSE));
    loop {
        match host.with(|node| node.plan_keep(key))? {
            None => return Ok(()),
            Some(Step::Wait(ticket)) => wait(host, ticket, moment).await?,
            Some(Step::Fetch { owner, have }) => {
                fetch(host, key, owner, have, None, until).await?;
            }
            Some(_) => return Err(EIO),
        }
    }
}

/// Drops other copies until there is room for one; `false` when that cannot be.
async fn make_room<H: Host>(host: &H, until: u64) -> Result<bool> {
    let now = host.now();
    if now >= until {
        return Ok(false);
    }
    eviction::make_room(host, 1, until.saturating_sub((until - now) / 4)).await
}

/// Where the bytes of a page go when there is no room to keep it.
struct Spill<'a> {
    /// First byte in the page.
    within: u64,
    to: &'a mut [u8],
}

/// What a fetch did.
enum Fetched {
    /// We look again: ours was found to be right, or someone was faster.
    Stored,
    /// We look again: a good copy is in this PM page now.
    Written(u64),
    /// There was no room on this node; the bytes were handed on without keeping them.
    Spilled,
}

pub(super) async fn wait<H: Host>(host: &H, ticket: Ticket, until: u64) -> Result {
    if host.now() >= until {
        return Err(ETIMEDOUT);
    }
    host.wait(ticket, until, Sleep::Killable).await
}

impl Node {
    fn plan_fault(&mut self, key: PageKey, access: Access) -> Result<Step> {
        self.check_ready()?;
        let Some(owner) = self.owner_if_any(key)? else {
            return Ok(Step::Wait(self.ticket(GENERAL)));
        };
        self.check_access(key, access)?;
        let ticket = self.page_ticket(key);
        let us = self.id();
        let geometry = self.geometry();
        let greeted = self.is_greeted(owner);
        let general = self.ticket(GENERAL);
        if owner == us && (self.is_pending(key) || !self.is_recognized()) {
            return Ok(Step::Wait(general));
        }
        let page = self.pages.entry(key)?;
        if page.is_blocked() {
            return Ok(Step::Wait(ticket));
        }
        if let Some(dirty) = page.dirty {
            page.busy = 1;
            page.mapped = true;
            page.referenced = true;
            return Ok(Step::Map(Mapping::Writable {
                offset: geometry.page(dirty.pm),
            }));
        }
        if page.clean.is_none() && owner == us {
            page.clean = Some(hole());
        }
        match page.clean {
            Some(clean) if clean.valid || owner == us => match access {
                Access::Read => {
                    page.busy = 1;
                    page.mapped = true;
                    page.referenced = true;
                    Ok(Step::MapClean(clean, geometry))
                }
                Access::Write => {
                    let Some(to) = self.space.take() else {
                        return Err(ENOSPC);
                    };
                    page.busy = 1;
                    Ok(Step::Copy { from: clean, to })
                }
            },
            _ if !greeted => Ok(Step::Wait(general)),
            clean => {
                page.fetching = true;
                Ok(Step::Fetch {
                    owner,
                    have: clean.map_or(0, |clean| clean.version),
                })
            }
        }
    }

    /// The owner of a page that exists; `None` while the CD is looking for one, as all that could be are out.
    fn owner_if_any(&self, key: PageKey) -> Result<Option<u32>> {
        match self.names.check(key) {
            Err(EHOSTDOWN) => Ok(None),
            owner => owner.map(Some),
        }
    }

    fn plan_keep(&mut self, key: PageKey) -> Result<Option<Step>> {
        self.check_ready()?;
        let owner = self.names.check(key)?;
        if owner == self.id() {
            return Err(ESTALE);
        }
        let ticket = self.page_ticket(key);
        let general = self.ticket(GENERAL);
        let greeted = self.is_greeted(owner);
        let page = self.pages.entry(key)?;
        if page.is_blocked() {
            return Ok(Some(Step::Wait(ticket)));
        }
        match page.clean {
            Some(clean) if clean.valid => Ok(None),
            _ if !greeted => Ok(Some(Step::Wait(general))),
            clean => {
                page.fetching = true;
                Ok(Some(Step::Fetch {
                    owner,
                    have: clean.map_or(0, |clean| clean.version),
                }))
            }
        }
    }

    fn load<H: Host>(
        &mut self,
        host: &H,
        key: PageKey,
        within: u64,
        to: &mut [u8],
        whole: &mut [u8],
    ) -> Result<Option<Step>> {
        self.check_ready()?;
        let Some(owner) = self.owner_if_any(key)? else {
            return Ok(Some(Step::Wait(self.ticket(GENERAL))));
        };
        self.check_access(key, Access::Read)?;
        let ticket = self.page_ticket(key);
        let geometry = self.geometry();
        let us = self.id();
        let greeted = self.is_greeted(owner);
        let general = self.ticket(GENERAL);
        if owner == us && (self.is_pending(key) || !self.is_recognized()) {
            return Ok(Some(Step::Wait(general)));
        }
        let page = self.pages.entry(key)?;
        if page.frozen || page.fetching || !page.staged.is_empty() {
            return Ok(Some(Step::Wait(ticket)));
        }
        match (page.dirty, page.clean) {
            (Some(dirty), _) => host.read(geometry.page(dirty.pm) + within, to)?,
            (None, Some(clean)) if clean.valid || owner == us => match clean.pm {
                Some(pm) => {
                    let copy = (pm, clean.version);
                    if integrity::read_copy(host, &geometry, key, copy, whole).is_none() {
                        return Ok(Some(Step::Damaged));
                    }
                    let first = within as usize;
                    let bytes = whole.get(first..first + to.len()).ok_or(EINVAL)?;
                    to.copy_from_slice(bytes);
                }
                None => to.fill(0),
            },
            (None, None) if owner == us => to.fill(0),
            _ if !greeted => return Ok(Some(Step::Wait(general))),
            (None, clean) => {
                page.fetching = true;
                return Ok(Some(Step::Fetch {
                    owner,
                    have: clean.map_or(0, |clean| clean.version),
                }));
            }
        };
        self.pages.prune(key);
        Ok(None)
    }
}

fn hole() -> Clean {
    Clean {
        pm: None,
        version: 0,
        cid: super::format::Cid(0),
        valid: true,
    }
}

/// Makes the dirty copy of a page. The clean copy leaves the page tables, so that
/// all processes of this node see the same bytes.
async fn copy<H: Host>(host: &H, key: PageKey, from: Option<u64>, to: u64) -> Result {
    let geometry = host.with(|node| node.geometry());
    let data = match from {
        Some(pm) => Piece::Pm {
            offset: geometry.page(pm),
            len: PAGE_SIZE,
        },
        None => Piece::Zeros(PAGE_SIZE),
    };
    let done = host
        .run(&[
            Action::Write {
                offset: geometry.page(to),
                data,
            },
            Action::Unmap {
                first: key,
                count: 1,
            },
        ])
        .await;
    host.with(|node| {
        match node.pages.get_mut(key) {
            Some(page) => {
                page.busy = 0;
                page.mapped = false;
                if done.is_ok() {
                    page.dirty = Some(Dirty {
                        pm: to,
                        base: from,
                        owns_base: false,
                    });
                } else {
                    node.space.give(to);
                }
            }
            None => node.space.give(to),
        }
        node.wake_page(key);
    });
    done
}

/// Gets the committed version of a page from its owner, or hears that ours is it.
/// The page is marked as fetching; afterwards it is not, and the caller looks again.
async fn fetch<H: Host>(
    host: &H,
    key: PageKey,
    owner: u32,
    have: u64,
    spill: Option<Spill<'_>>,
    until: u64,
) -> Result<Fetched> {
    let result = try_fetch(host, key, owner, have, spill, until).await;
    host.with(|node| {
        if let Some(page) = node.pages.get_mut(key) {
            page.fetching = false;
        }
        node.pages.prune(key);
        node.wake_page(key);
    });
    let error = match result {
        Ok(fetched) => return Ok(fetched),
        Err(CallError::Handler(ENOSPC)) if make_room(host, until).await? => {
            return Ok(Fetched::Stored)
        }
        Err(CallError::Handler(error @ (EFAULT | ENOENT | ENOSPC | EIO | ENOMEM | EINTR))) => {
            return Err(error)
        }
        Err(error) => handler::errno(error),
    };
    // The owner is away or behind: it may be back before the deadline.
    let now = host.now();
    if now.saturating_add(PAUSE) >= until {
        return Err(match error {
            EHOSTDOWN => EHOSTDOWN,
            _ => ETIMEDOUT,
        });
    }
    let ticket = host.with(|node| node.page_ticket(key));
    host.wait(ticket, now + PAUSE, Sleep::Killable).await?;
    Ok(Fetched::Stored)
}

async fn try_fetch<H: Host>(
    host: &H,
    key: PageKey,
    owner: u32,
    have: u64,
    spill: Option<Spill<'_>>,
    until: u64,
) -> Result<Fetched, CallError> {
    let local = CallError::Handler;
    let (epoch, begun, geometry) = host
        .with(|node| {
            let page = node.pages.get(key).ok_or(EAGAIN)?;
            Ok::<_, Error>((
                node.map.epoch,
                (page.sequence, node.generation),
                node.geometry(),
            ))
        })
        .map_err(local)?;
    let header = Fetch { key, have }.encode(epoch).map_err(local)?;
    let mut request = KVec::new();
    request
        .push(Piece::Bytes(&header), GFP_KERNEL)
        .map_err(|_| local(ENOMEM))?;
    let call_until = handler::call_until(host, until);
    let mut calls = [handler::call(owner, request, 64 + PAGE_SIZE, call_until).map_err(local)?];
    host.call(&mut calls).await;
    let [call] = calls;
    let len = call.answer?;
    let mut body = Reader::new(call.reply.get(..len).unwrap_or(&[]));
    let head = msg::FetchReply::get(&mut body).map_err(handler::unread)?;
    let data = body.rest();
    if head.version == have || head.version == 0 {
        // Ours is right, or there is none.
        let old = host.with(|node| {
            let page = node.pages.get_mut(key)?;
            if (page.sequence, node.generation) != begun {
                return None;
            }
            match &mut page.clean {
                Some(clean) if clean.version == head.version => {
                    clean.valid = true;
                    None
                }
                _ if head.version == 0 && page.busy == 0 => page.replace_clean(hole()),
                _ => None,
            }
        });
        return match old {
            Some(old) => persist::free(host, &[old])
                .await
                .map(|()| Fetched::Stored)
                .map_err(local),
            None => Ok(Fetched::Stored),
        };
    }
    if data.len() != PAGE_SIZE || crc32c(data) != head.crc {
        // Damaged on its way.
        return Err(CallError::Lost(ETIMEDOUT));
    }
    let Some(pm) = host.with(|node| node.space.take()) else {
        let spill = spill.ok_or(local(ENOSPC))?;
        let first = spill.within as usize;
        let bytes = data
            .get(first..first + spill.to.len())
            .ok_or(local(EINVAL))?;
        spill.to.copy_from_slice(bytes);
        return Ok(Fetched::Spilled);
    };
    let of = PageVersion {
        dataset: key.dataset,
        page: key.page,
        version: head.version,
        cid: head.cid,
    };
    let new = NewPage {
        pm,
        of,
        stager: None,
        base: Piece::Bytes(data),
        areas: &[],
    };
    let written = persist::write_versions(host, &geometry, &[new], slot::State::Committed).await;
    let (stored, released) = host.with(|node| {
        let current = |node: &Node| {
            node.pages
                .get(key)
                .is_some_and(|page| (page.sequence, node.generation) == begun && page.busy == 0)
        };
        let unused = Some(persist::released(pm));
        if written.is_err() || !current(node) {
            return (false, unused);
        }
        match node.pages.get_mut(key) {
            Some(page) => {
                let new = Clean {
                    pm: Some(pm),
                    version: head.version,
                    cid: head.cid,
                    valid: true,
                };
                (true, page.replace_clean(new))
            }
            None => (false, unused),
        }
    });
    if let Some(released) = released {
        persist::free(host, &[released]).await.map_err(local)?;
    }
    let done = match stored {
        true => Fetched::Written(pm),
        false => Fetched::Stored,
    };
    written.map(|()| done).map_err(local)
}
