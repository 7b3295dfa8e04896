// SPDX-License-Identifier: GPL-2.0

//! Room on a node's PM when it runs short [2.5.4]: copies of pages that other nodes own are
//! dropped, redundant ones before committed ones, those not used lately first. A dirty page
//! is never dropped, nor one that its owner counts on: then the owner makes another copy first.
//!
//! Approximate LRU: a hand goes over the pages like that of a clock. A page that a fault or a new
//! version has touched since the hand was there is passed over once.

use super::{
    cluster::Sender,
    fault::PAUSE,
    handler,
    host::{Action, Host, PageKey, Sleep},
    msg::{wire_enum, wire_struct, Copied, Request, Wire},
    msg::{Reader, Writer},
    node::{Node, GENERAL},
    pages::{Clean, Released},
    persist,
};
use kernel::prelude::*;

/// Copies that an owner is asked about at once.
const BATCH: usize = 32;
/// Copies that must stay before it is given up.
const MAX_TRIED: usize = 512;
/// Pages that the hand passes at once.
const LOOKS: usize = 8192;

/// Data node to owner: may I drop these copies?
#[derive(Debug)]
pub struct Evict {
    /// The sender's copies; it does not read them until it hears.
    pub copies: KVec<Copied>,
}
wire_struct!(Evict { copies });
impl Request<'_> for Evict {
    const OPCODE: u16 = 35;
    type Reply = KVec<Leave>;
}

wire_enum! {
    /// The owner's word on a copy that is to go.
    Leave {
        /// Drop it: the sender is no holder any more.
        Drop = 0,
        /// Keep it, for now.
        Keep = 1,
        /// Keep it until there is another copy, which is being made.
        Wait = 2,
    }
}

impl Node {
    fn may_leave(&mut self, from: Sender, copy: &Copied) -> Result<Leave> {
        match self.check_owned(copy.key) {
            Ok(()) => {}
            Err(ENOENT | EFAULT) => return Ok(Leave::Drop),
            Err(_) => return Ok(Leave::Keep),
        }
        if !self.is_fenced() {
            return Ok(Leave::Wait);
        }
        if self.has_commit(copy.key) {
            return Ok(Leave::Keep);
        }
        let page = self.pages.get(copy.key);
        let ours = page.and_then(|page| page.clean).map_or(0, |of| of.version);
        if ours < copy.version {
            // It knows more than we do: not the moment to lose anything.
            return Ok(Leave::Keep);
        }
        let outdated = ours > copy.version;
        let enough = self.durable_copies(copy.key, Some(from.node)) >= self.degree_of(copy.key);
        // Until there are enough of the newer version, an outdated one may be all that is left one day.
        let void = outdated && !self.has_too_few(copy.key, Some(from.node));
        if void || enough {
            if let Some(owned) = self.owned.get_mut(&copy.key) {
                owned.holders.retain(|holder| holder.node != from.node);
                owned.kept.retain(|(id, _)| *id != from.node);
            }
            return Ok(Leave::Drop);
        }
        Ok(match self.want_copy(copy.key, Some(from.node))? {
            true => Leave::Wait,
            false => Leave::Keep,
        })
    }
}

/// Answers a node that is short of room.
pub(super) fn on_evict<H: Host>(host: &H, from: Sender, evict: &Evict) -> Result<KVec<Leave>> {
    let mut words = KVec::with_capacity(evict.copies.len(), GFP_KERNEL)?;
    host.with(|node| {
        for copy in &evict.copies {
            words.push(node.may_leave(from, copy)?, GFP_KERNEL)?;
        }
        Ok::<_, Error>(())
    })?;
    Ok(words)
}

/// A copy that is taken out of use to be dropped.
#[derive(Clone, Copy)]
struct Victim {
    owner: u32,
    key: PageKey,
    clean: Clean,
    pm: u64,
    /// Of the page, after it was taken.
    sequence: u32,
    mapped: bool,
}

/// Which pages the hand takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Not mapped by a process.
    Redundant,
    /// Those that are, too.
    Committed,
}

impl Node {
    /// Takes up to a batch of copies out of use, where the hand is.
    fn take_victims(&mut self, class: Class, tried: &[PageKey]) -> Result<KVec<Victim>> {
        let us = self.id();
        let start = self.hand;
        let mut wrapped = false;
        let mut victims: KVec<Victim> = KVec::with_capacity(BATCH, GFP_KERNEL)?;
        for _ in 0..LOOKS {
            if victims.len() == BATCH {
                break;
            }
            let Some((key, _)) = self.pages.next(self.hand) else {
                if wrapped {
                    break;
                }
                wrapped = true;
                self.hand = PageKey {
                    dataset: 0,
                    page: 0,
                };
                continue;
            };
            if wrapped && key >= start {
                break;
            }
            self.hand = PageKey {
                page: key.page.saturating_add(1),
                ..key
            };
            let owner = self.owner(key).unwrap_or(us);
            let up = self.is_up(owner) && self.is_greeted(owner);
            let Some(page) = self.pages.get_mut(key) else {
                continue;
            };
            let Some((clean, pm)) = page.clean.and_then(|clean| Some((clean, clean.pm?))) else {
                continue;
            };
            let used = page.dirty.is_some() || page.is_blocked();
            if owner == us || !up || used || tried.contains(&key) {
                continue;
            }
            if page.mapped && class == Class::Redundant {
                continue;
            }
            if core::mem::take(&mut page.referenced) {
                continue;
            }
            // Nobody begins to use it, and no answer that is on its way makes it valid again.
            page.busy = 1;
            page.sequence = page.sequence.wrapping_add(1);
            let victim = Victim {
                owner,
                key,
                clean,
                pm,
                sequence: page.sequence,
                mapped: core::mem::take(&mut page.mapped),
            };
            if let Some(clean) = &mut page.clean {
                clean.valid = false;
            }
            victims.push(victim, GFP_KERNEL)?;
        }
        Ok(victims)
    }

    /// Does with a victim what its owner said. `gone` has room.
    fn leave(&mut self, victim: &Victim, word: Option<Leave>, gone: &mut KVec<Released>) {
        let Some(page) = self.pages.get_mut(victim.key) else {
            return;
        };
        page.busy = page.busy.saturating_sub(1);
        let same = page.sequence == victim.sequence;
        let alone = page.busy == 0 && !page.fetching && page.staged.is_empty();
        match word {
            Some(Leave::Drop) => {
                // From here on nobody tells us what becomes of the page.
                page.sequence = page.sequence.wrapping_add(1);
                let unchanged = page.clean.is_some_and(|of| of.pm == Some(victim.pm));
                if let Some(clean) = page.clean.as_mut().filter(|_| unchanged) {
                    clean.valid = false;
                }
                if unchanged && alone && page.dirty.is_none() && !page.frozen {
                    if let Some(released) = page.take_clean() {
                        let _ = gone.push_within_capacity(released);
                    }
                }
            }
            // It counts on us as before, and tells us of changes.
            Some(Leave::Keep | Leave::Wait) if same => {
                if let Some(clean) = &mut page.clean {
                    clean.valid = victim.clean.valid;
                }
            }
            // It is asked again before it is read.
            _ => {}
        }
        self.pages.prune(victim.key);
        self.wake_page(victim.key);
    }
}

/// What a round came to.
#[derive(Default)]
struct Round {
    freed: usize,
    /// Owners are making other copies.
    wait: bool,
    /// Nothing was found to be dropped.
    empty: bool,
    /// An owner did not answer: it costs a whole deadline each time.
    silent: bool,
}

/// Tries to drop a batch of copies.
async fn round<H: Host>(host: &H, tried: &mut KVec<PageKey>) -> Result<Round> {
    // Before any is taken: each is given back, or dropped.
    let mut gone = KVec::with_capacity(BATCH, GFP_KERNEL)?;
    let mut words: KVec<Option<Leave>> = KVec::from_elem(None, BATCH, GFP_KERNEL)?;
    let mut victims = KVec::new();
    // Twice each: once to take the marks of use away.
    for class in [
        Class::Redundant,
        Class::Redundant,
        Class::Committed,
        Class::Committed,
    ] {
        victims = host.with(|node| node.take_victims(class, tried))?;
        if !victims.is_empty() {
            break;
        }
    }
    let mut done = Round {
        empty: victims.is_empty(),
        ..Round::default()
    };
    let mut result = Ok(());
    let asked = ask(host, &victims, &mut words).await;
    for (victim, word) in victims.iter().zip(&words) {
        done.wait |= *word == Some(Leave::Wait);
        done.silent |= word.is_none();
        host.with(|node| node.leave(victim, *word, &mut gone));
        if *word != Some(Leave::Drop) {
            result = result.and(tried.push(victim.key, GFP_KERNEL).map_err(Error::from));
        }
    }
    done.freed = gone.len();
    persist::free(host, &gone).await?;
    result.and(asked).map(|()| done)
}

/// Unmaps victims and asks their owners; a word that does not come stays `None`.
async fn ask<H: Host>(host: &H, victims: &[Victim], words: &mut [Option<Leave>]) -> Result {
    for victim in victims.iter().filter(|victim| victim.mapped) {
        host.run(&[Action::Unmap {
            first: victim.key,
            count: 1,
        }])
        .await?;
    }
    let mut owners: KVec<u32> = KVec::new();
    for victim in victims {
        if !owners.contains(&victim.owner) {
            owners.push(victim.owner, GFP_KERNEL)?;
        }
    }
    for owner in &owners {
        let mut copies = KVec::new();
        for victim in victims.iter().filter(|victim| victim.owner == *owner) {
            let copied = Copied {
                key: victim.key,
                version: victim.clean.version,
                cid: victim.clean.cid,
                staged: false,
            };
            copies.push(copied, GFP_KERNEL)?;
        }
        let until = handler::call_until(host, u64::MAX);
        let Ok(answer) = handler::ask(host, *owner, &Evict { copies }, until).await else {
            continue;
        };
        let theirs = victims.iter().zip(words.iter_mut());
        let theirs = theirs.filter(|(victim, _)| victim.owner == *owner);
        for ((_, word), said) in theirs.zip(&answer) {
            *word = Some(*said);
        }
    }
    Ok(())
}

/// Sees to it that `want` pages are free, by `until`; whether they are. Waits for other copies to
/// be made where there is nothing else to drop, unless `until` is over at once.
pub async fn make_room<H: Host>(host: &H, want: u64, until: u64) -> Result<bool> {
    let mut tried = KVec::new();
    let mut wait = false;
    loop {
        if host.with(|node| node.space.free() >= want) {
            return Ok(true);
        }
        let done = round(host, &mut tried).await?;
        wait |= done.wait;
        if !done.empty && !done.silent && tried.len() < MAX_TRIED {
            continue;
        }
        let now = host.now();
        wait |= host.with(|node| node.relieve(now))?;
        if !wait || now >= until {
            return Ok(host.with(|node| node.space.free() >= want));
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let soon = until.min(now.saturating_add(PAUSE));
        host.wait(ticket, soon, Sleep::Killable).await?;
        tried.clear();
        wait = false;
    }
}

/// Free pages below which the worker begins to drop copies, and how many it wants.
pub(super) fn low(pages: u64) -> u64 {
    pages / 32
}

/// One round of the worker: keeps some room, so that faults and commits need not wait for it.
pub(super) async fn run<H: Host>(host: &H) -> Result {
    let (free, low) = host.with(|node| (node.space.free(), low(node.space.len())));
    if free < low {
        make_room(host, low + low / 2, 0).await?;
    }
    Ok(())
}
