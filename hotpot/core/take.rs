// SPDX-License-Identifier: GPL-2.0

//! A new owner fetches the copies of its pages that are newer than its own: as many in one answer
//! as that holds, and from all nodes at once ([2.6.4], [2.5.5]). What becomes of a page of which
//! there are damaged copies only is [`unreadable`](super::unreadable)'s.

use super::{
    format::{crc32c, slot, Cid, PageVersion, PAGE_SIZE},
    handler,
    host::{Call, Host, PageKey, Piece},
    integrity,
    msg::{Found, Reader, Request, TakeCopies, TakenCopy, Wire},
    node::Node,
    pages::{Clean, Released},
    persist::{self, NewPage},
    takeover::Best,
    unreadable::Unreadable,
};
use kernel::{prelude::*, rbtree::RBTree};

/// Most pages that are on their way to us.
const IN_FLIGHT: usize = 64;
/// Most bytes of an answer, where messages may be larger: there are as many as it takes for all
/// that is on its way, and each is memory in one piece.
const ROOM: usize = 32 << 10;
/// What one page takes of an answer, and what stands before all.
const PAGE_ROOM: usize = TakenCopy::LEN + PAGE_SIZE;
const HEAD: usize = 4;

/// A page of which another node has a newer copy than we.
struct Lacking<'a> {
    key: PageKey,
    of: &'a Best,
    /// The node that is asked for it.
    from: u32,
    /// The holder that was asked first, and how many were asked.
    first: usize,
    asked: usize,
    /// Why none gave it so far.
    error: Error,
    /// It is here.
    taken: bool,
    /// All that were asked have a damaged copy.
    damaged: bool,
    /// crc32c of its bytes, as a damaged copy has it; 0 when none does.
    crc: u32,
}

/// What there was to take.
#[derive(Default)]
pub(super) struct Taken {
    /// Pages that were fetched.
    pub(super) fetched: u64,
    /// Pages of which all nodes that have the newest version have a damaged copy.
    pub(super) unreadable: KVec<Unreadable>,
}

impl Lacking<'_> {
    /// Turns to the next node that has it; whether there is one.
    fn turn(&mut self, us: u32) -> bool {
        let holders = &self.of.holders;
        while self.asked < holders.len() {
            let at = self.first.wrapping_add(self.asked) % holders.len();
            self.asked += 1;
            if let Some(holder) = holders.get(at).filter(|holder| holder.node != us) {
                self.from = holder.node;
                return true;
            }
        }
        false
    }

    /// The node that was asked gave none.
    fn note(&mut self, error: Error) {
        self.damaged &= error == EIO;
        self.error = worse(Some(self.error), error);
    }

    fn as_unreadable(&self) -> Unreadable {
        Unreadable {
            key: self.key,
            version: self.of.version,
            cid: self.of.cid,
            crc: self.crc,
        }
    }
}

/// A good copy from another node.
struct GoodCopy<'a> {
    key: PageKey,
    version: u64,
    cid: Cid,
    data: &'a [u8],
}

impl Node {
    fn lacks(&self, key: PageKey, of: &Best) -> bool {
        let clean = self.pages.get(key).and_then(|page| page.clean);
        of.node != self.id() && clean.map_or(0, |clean| clean.version) < of.version
    }

    /// Pages in an answer to us.
    fn pages_in_answer(&self) -> usize {
        let room = self.config.max_msg.min(ROOM);
        (room.saturating_sub(HEAD) / PAGE_ROOM).max(1)
    }
}

/// Gets all pages that we own now of which ours is not the newest copy.
///
/// A copy that is damaged, or not there any more, is as good as none: the next node that has the
/// version is asked. A page of which all have a damaged copy is told, and the others are asked for.
/// When the last node gave none otherwise no more pages are asked for: EIO when one had it
/// damaged, else EAGAIN, or why the last one did not answer. ENOSPC without room here. ETIMEDOUT at
/// `until`, ns. What was fetched stays.
pub(super) async fn take_all<H: Host>(
    host: &H,
    us: u32,
    best: &RBTree<PageKey, Best>,
    until: u64,
) -> Result<Taken> {
    let together = host.with(|node| node.pages_in_answer());
    let mut lacking: KVec<Lacking<'_>> = KVec::with_capacity(IN_FLIGHT, GFP_KERNEL)?;
    let mut rest = best.iter();
    let mut looked: usize = 0;
    let mut all = Taken::default();
    let mut result = Ok(());
    loop {
        // Who does not answer is not waited for again and again.
        while result.is_ok() && lacking.len() < IN_FLIGHT {
            let Some((key, of)) = rest.next() else {
                break;
            };
            looked = looked.wrapping_add(1);
            if !host.with(|node| node.lacks(*key, of)) {
                continue;
            }
            let mut page = Lacking {
                key: *key,
                of,
                from: us,
                // Of the nodes that have pages each is asked for its share of them.
                first: looked,
                asked: 0,
                error: EAGAIN,
                taken: false,
                damaged: true,
                crc: 0,
            };
            match page.turn(us) {
                true => lacking.push(page, GFP_KERNEL)?,
                false => result = Err(worse(result.err(), page.error)),
            }
        }
        if lacking.is_empty() {
            break;
        }
        if host.now() >= until {
            return Err(ETIMEDOUT);
        }
        // Retried pages go with those that are new.
        lacking.sort_unstable_by_key(|page| (page.from, page.key));
        let until = handler::call_until(host, until);
        take(host, &mut lacking, together, until).await?;
        lacking.retain(|page| {
            if page.taken {
                all.fetched += 1;
            } else if page.turn(us) {
                return true;
            } else if page.damaged {
                let told = all.unreadable.push(page.as_unreadable(), GFP_KERNEL);
                result = result.and(told.map_err(Error::from));
            } else {
                result = Err(worse(result.err(), page.error));
            }
            false
        });
    }
    result.map(|()| all)
}

/// The error to tell of two: a damaged copy says more than one that is not there.
fn worse(known: Option<Error>, new: Error) -> Error {
    match known {
        Some(EIO) => EIO,
        _ => new,
    }
}

/// Asks once for each of the pages, which are sorted by the node to ask: `together` of them in a
/// message.
async fn take<H: Host>(
    host: &H,
    lacking: &mut [Lacking<'_>],
    together: usize,
    until: u64,
) -> Result {
    let epoch = host.with(|node| node.map.epoch);
    let mut letters: KVec<(u32, usize, KVec<u8>)> = KVec::new();
    let mut rest = &*lacking;
    while let Some(page) = rest.first() {
        let same = rest.iter().take(together);
        let count = same.take_while(|of| of.from == page.from).count();
        let (these, more) = rest.split_at(count);
        let mut keys = KVec::with_capacity(count, GFP_KERNEL)?;
        for page in these {
            keys.push(page.key, GFP_KERNEL)?;
        }
        let header = TakeCopies { keys }.encode(epoch)?;
        letters.push((page.from, count, header), GFP_KERNEL)?;
        rest = more;
    }
    let mut calls = KVec::with_capacity(letters.len(), GFP_KERNEL)?;
    for (from, count, header) in &letters {
        let mut request = KVec::new();
        request.push(Piece::Bytes(header), GFP_KERNEL)?;
        let room = HEAD + count * PAGE_ROOM;
        calls.push(handler::call(*from, request, room, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    let mut rest = lacking;
    for ((_, count, _), call) in letters.iter().zip(&calls) {
        let (these, more) = rest.split_at_mut((*count).min(rest.len()));
        let copies = copies_in(call, these)?;
        store(host, &copies, until).await?;
        for page in these {
            page.taken = copies.iter().any(|copy| copy.key == page.key);
        }
        rest = more;
    }
    Ok(())
}

/// The good copies in an answer; the other pages are told what is wrong with theirs.
fn copies_in<'a>(call: &'a Call<'_>, pages: &mut [Lacking<'_>]) -> Result<KVec<GoodCopy<'a>>> {
    let mut copies = KVec::with_capacity(pages.len(), GFP_KERNEL)?;
    let answer = call.answer.map_err(handler::errno);
    let mut body = Reader::new(match answer {
        Ok(len) => call.reply.get(..len).unwrap_or(&[]),
        Err(_) => &[],
    });
    let heads: Result<KVec<TakenCopy>> = match answer {
        Ok(_) => Wire::get(&mut body).map_err(|error| match error {
            ENOMEM => ENOMEM,
            _ => EAGAIN,
        }),
        Err(error) => Err(error),
    };
    for (nr, page) in pages.iter_mut().enumerate() {
        let copy = match &heads {
            Ok(heads) => good(heads.get(nr), &mut body, page),
            Err(error) => Err(*error),
        };
        match copy {
            Ok(copy) => copies.push(copy, GFP_KERNEL)?,
            Err(error) => page.note(error),
        }
    }
    Ok(copies)
}

/// The copy of a page with its bytes, which are next in the answer. EIO when it is damaged there,
/// EAGAIN when there is none of this version.
fn good<'a>(
    head: Option<&TakenCopy>,
    body: &mut Reader<'a>,
    page: &mut Lacking<'_>,
) -> Result<GoodCopy<'a>> {
    let head = head.ok_or(EAGAIN)?;
    match head.found {
        Found::Whole => {}
        Found::Absent => return Err(EAGAIN),
        Found::Damaged if head.version == page.of.version => {
            if head.crc != 0 {
                page.crc = head.crc;
            }
            return Err(EIO);
        }
        // It has been replaced meanwhile.
        Found::Damaged => return Err(EAGAIN),
    }
    let data = body.bytes(PAGE_SIZE).map_err(|_| EAGAIN)?;
    // Damaged on its way: it is asked for again.
    if crc32c(data) != head.crc || head.version < page.of.version {
        return Err(EAGAIN);
    }
    Ok(GoodCopy {
        key: page.key,
        version: head.version,
        cid: head.cid,
        data,
    })
}

/// Makes copies durable here, together, and puts them in the place of ours. Where there is no room
/// for all they go one part after the other, since what they replace makes room; ENOSPC when there
/// is none at all.
async fn store<H: Host>(host: &H, copies: &[GoodCopy<'_>], until: u64) -> Result {
    let mut rest = copies;
    while !rest.is_empty() {
        // Memory before, so that no PM page is lost for want of it.
        let mut new = KVec::with_capacity(rest.len(), GFP_KERNEL)?;
        let mut unused: KVec<Released> = KVec::with_capacity(rest.len(), GFP_KERNEL)?;
        let geometry = host.with(|node| {
            for copy in rest {
                let Some(pm) = node.space.take() else {
                    break;
                };
                let _ = new.push_within_capacity(NewPage {
                    pm,
                    of: PageVersion {
                        dataset: copy.key.dataset,
                        page: copy.key.page,
                        version: copy.version,
                        cid: copy.cid,
                    },
                    stager: None,
                    base: Piece::Bytes(copy.data),
                    areas: &[],
                });
            }
            node.geometry()
        });
        if new.is_empty() {
            return Err(ENOSPC);
        }
        let written = persist::write_versions(host, &geometry, &new, slot::State::Committed).await;
        let mut result = written;
        for page in &new {
            let installed = match written {
                Ok(()) => install(host, (page.pm, page.of), false, until).await,
                Err(error) => Err(error),
            };
            let released = installed.unwrap_or_else(|error| {
                result = Err(error);
                Some(persist::released(page.pm))
            });
            if let Some(released) = released {
                let _ = unused.push_within_capacity(released);
            }
        }
        persist::free(host, &unused).await?;
        result?;
        rest = rest.get(new.len()..).unwrap_or(&[]);
    }
    Ok(())
}

/// Puts a copy in the place of ours; what is of no use any more. EBUSY at `until`.
pub(super) async fn install<H: Host>(
    host: &H,
    (pm, of): (u64, PageVersion),
    damaged: bool,
    until: u64,
) -> Result<Option<Released>> {
    let key = PageKey {
        dataset: of.dataset,
        page: of.page,
    };
    loop {
        persist::wait_idle(host, key, until).await?;
        let done = host.with(|node| {
            let page = node.pages.entry(key)?;
            if page.busy != 0 {
                return Ok(None);
            }
            if page.clean.is_some_and(|old| old.version >= of.version) {
                return Ok(Some(Some(persist::released(pm))));
            }
            let old = page.replace_clean(Clean {
                pm: Some(pm),
                version: of.version,
                cid: of.cid,
                valid: true,
            });
            page.damaged = damaged;
            Ok::<_, Error>(Some(old))
        })?;
        if let Some(unused) = done {
            return Ok(unused);
        }
    }
}

/// Gives a new owner our copies of pages.
pub(super) fn on_take_copies<H: Host>(
    host: &H,
    take: &TakeCopies,
    reply: &mut [u8],
) -> Result<usize> {
    let mut heads = KVec::with_capacity(take.keys.len(), GFP_KERNEL)?;
    let mut len = HEAD + take.keys.len() * TakenCopy::LEN;
    for key in &take.keys {
        let head = host.with(|node| {
            let mut head = TakenCopy {
                found: Found::Absent,
                version: 0,
                cid: Cid(0),
                crc: 0,
            };
            let clean = node.pages.get(*key).and_then(|page| page.clean);
            let Some((clean, pm)) = clean.and_then(|clean| Some((clean, clean.pm?))) else {
                return Ok(head);
            };
            let to = reply.get_mut(len..len + PAGE_SIZE).ok_or(EMSGSIZE)?;
            let copy = (pm, clean.version);
            match integrity::read_copy(host, &node.geometry(), *key, copy, to) {
                Some(crc) => {
                    head.found = Found::Whole;
                    head.version = clean.version;
                    head.cid = clean.cid;
                    head.crc = crc;
                }
                None => {
                    head.found = Found::Damaged;
                    head.version = clean.version;
                    head.crc = integrity::known_crc(host, &node.geometry(), *key, copy);
                }
            }
            Ok::<_, Error>(head)
        })?;
        if head.found == Found::Whole {
            len += PAGE_SIZE;
        }
        heads.push(head, GFP_KERNEL)?;
    }
    handler::put(&heads, reply)?;
    Ok(len)
}
