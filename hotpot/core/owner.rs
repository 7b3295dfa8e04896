// SPDX-License-Identifier: GPL-2.0

//! Owner node (ON): knows the committed version of each page of its chunks and who
//! has copies. What it does for commits is in [`super::transaction`] and
//! [`super::participant`].

use super::{
    cluster::Sender,
    format::{Cid, PAGE_SIZE},
    handler,
    host::{Host, PageKey, Sleep, Ticket},
    integrity,
    msg::{self, Verdict},
    node::{Holder, Node, GENERAL},
};
use kernel::prelude::*;

/// Answers a data node that wants to read a page.
pub(super) async fn on_fetch<H: Host>(
    host: &H,
    from: Sender,
    fetch: &msg::Fetch,
    reply: &mut [u8],
) -> Result<usize> {
    let until = handler::call_until(host, u64::MAX);
    loop {
        let ticket = match host.with(|node| node.serve(host, from, fetch, reply))? {
            Served::Reply(len) => return Ok(len),
            Served::Wait(ticket) => ticket,
            Served::Damaged => {
                integrity::mend(host, fetch.key, until).await?;
                continue;
            }
        };
        if host.now() >= until {
            return Err(EAGAIN);
        }
        host.wait(ticket, until, Sleep::Uninterruptible).await?;
    }
}

/// How a [`msg::Fetch`] is answered.
enum Served {
    /// With so many bytes.
    Reply(usize),
    /// Not yet.
    Wait(Ticket),
    /// Not before our copy is healed.
    Damaged,
}

impl Node {
    /// Checks that a page exists and is ours.
    pub(super) fn check_owned(&self, key: PageKey) -> Result {
        match self.names.check(key)? == self.id() {
            // We do not know yet what its owner that is out had.
            true if self.is_pending(key) => Err(EAGAIN),
            true => Ok(()),
            false => Err(ESTALE),
        }
    }

    fn serve<H: Host>(
        &mut self,
        host: &H,
        from: Sender,
        fetch: &msg::Fetch,
        reply: &mut [u8],
    ) -> Result<Served> {
        self.check_owned(fetch.key)?;
        if !self.is_recognized() {
            return Ok(Served::Wait(self.ticket(GENERAL)));
        }
        let in_flight = self.has_commit(fetch.key);
        let blocked = self
            .pages
            .get(fetch.key)
            .is_some_and(|page| !page.staged.is_empty());
        if in_flight || blocked {
            self.hurry(fetch.key, host.now());
            return Ok(Served::Wait(self.page_ticket(fetch.key)));
        }
        let clean = self.pages.get(fetch.key).and_then(|page| page.clean);
        let version = clean.map_or(0, |clean| clean.version);
        let mut head = msg::FetchReply {
            version,
            cid: clean.map_or(Cid(0), |clean| clean.cid),
            crc: 0,
        };
        let len = handler::put(&head, reply)?;
        let len = match clean.and_then(|clean| clean.pm) {
            Some(pm) if fetch.have != version => {
                let to = reply.get_mut(len..len + PAGE_SIZE).ok_or(EMSGSIZE)?;
                let copy = (pm, version);
                let Some(crc) = integrity::read_copy(host, &self.geometry(), fetch.key, copy, to)
                else {
                    return Ok(Served::Damaged);
                };
                head.crc = crc;
                handler::put(&head, reply)?;
                len + PAGE_SIZE
            }
            _ => len,
        };
        self.add_holder(fetch.key, from)?;
        match fetch.have == version && version != 0 {
            true => self.keep(fetch.key, from.node, version)?,
            false => self.lose(fetch.key, from.node),
        }
        self.rooms.count(1);
        self.note_traffic(fetch.key, from.node, len);
        Ok(Served::Reply(len))
    }

    fn add_holder(&mut self, key: PageKey, from: Sender) -> Result {
        let holder = Holder {
            node: from.node,
            incarnation: from.incarnation,
        };
        let owned = self.owned_entry(key)?;
        match owned.holders.iter_mut().find(|h| h.node == from.node) {
            Some(known) => *known = holder,
            None => owned.holders.push(holder, GFP_KERNEL)?,
        }
        Ok(())
    }
}

/// Tells a data node what its copies are worth.
pub(super) fn on_inventory<H: Host>(
    host: &H,
    from: Sender,
    inventory: &msg::Inventory,
) -> Result<KVec<Verdict>> {
    let mut verdicts = KVec::with_capacity(inventory.copies.len(), GFP_KERNEL)?;
    host.with(|node| {
        for copy in &inventory.copies {
            verdicts.push(node.judge(from, copy)?, GFP_KERNEL)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(verdicts)
}

impl Node {
    fn judge(&mut self, from: Sender, copy: &msg::Copied) -> Result<Verdict> {
        match self.check_owned(copy.key) {
            Ok(()) => {}
            // Unlinked or truncated; or not our business.
            Err(ENOENT | EFAULT) => return Ok(Verdict::Wrong),
            Err(_) => return Ok(Verdict::Later),
        }
        if self.has_commit(copy.key) || !self.is_recognized() {
            return Ok(Verdict::Later);
        }
        let clean = self.pages.get(copy.key).and_then(|page| page.clean);
        let right = clean.is_some_and(|clean| {
            clean.version == copy.version && (!copy.staged || clean.cid == copy.cid)
        });
        if right {
            self.add_holder(copy.key, from)?;
            self.keep(copy.key, from.node, copy.version)?;
            return Ok(Verdict::Right);
        }
        let outdated = clean.is_some_and(|clean| clean.version > copy.version);
        if outdated && !copy.staged && self.has_too_few(copy.key, None) {
            // When those few are lost, too, this is the newest one.
            return Ok(Verdict::Later);
        }
        Ok(Verdict::Wrong)
    }
}
