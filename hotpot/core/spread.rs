// SPDX-License-Identifier: GPL-2.0

//! One more copy of a page somewhere: what eviction needs before it may drop one [2.5.4], and
//! what a page with too few copies needs [2.6.4].
//!
//! The owner names a node and that node fetches the page like a reader: so all that keeps a
//! reader's copy valid keeps this one valid too.

use super::{
    fault, handler,
    host::{Host, PageKey},
    msg::{wire_enum, wire_struct, Reader, Request, Wire, Writer},
    node::Node,
    rooms,
};
use kernel::prelude::*;

/// Pages that a node is asked to take at once.
const BATCH: usize = 16;
/// Most pages that wait for a copy; what is beyond is found again.
const MAX_WANTED: usize = 1024;
/// Pages that one round of the repair looks at.
const LOOKS: usize = 4096;
/// Least time from one round over all pages to the next, ns.
const ROUND: u64 = 2_000_000_000;
/// How long a node fetches pages that it is asked to take, ns: the worker that asks it has other things to do,
/// without which others do not go on. What it does not get in this time it takes later.
const PATIENCE: u64 = 1_000_000_000;
/// How long the map must have been the same before copies that it took are made anew, ns:
/// who comes back tells what it has.
const REPAIR_AFTER: u64 = 2_000_000_000;

/// Owner to another node: fetch these pages and keep them.
#[derive(Debug)]
pub struct Adopt {
    /// The pages.
    pub keys: KVec<PageKey>,
}
wire_struct!(Adopt { keys });
impl Request<'_> for Adopt {
    const OPCODE: u16 = 34;
    type Reply = KVec<Adopted>;
}

wire_enum! {
    /// What became of a page of an [`Adopt`].
    Adoption {
        /// A durable copy is here.
        Kept = 0,
        /// No room.
        NoSpace = 1,
        /// Not now.
        Later = 2,
    }
}

/// The answer for one page.
#[derive(Clone, Copy, Debug)]
pub struct Adopted {
    /// What became of it.
    pub adoption: Adoption,
    /// The version that is kept.
    pub version: u64,
}
wire_struct!(Adopted { adoption, version });

/// A page of ours that needs one more copy, and a node that must not count for it.
type Wanted = (PageKey, Option<u32>);

/// Copies that are to be made.
#[derive(Default)]
pub struct Spread {
    /// Pages that wait for one.
    wanted: KVec<Wanted>,
    /// Where the repair goes on.
    at: Option<PageKey>,
    /// When the repair begins its next round over all pages, ns.
    next: u64,
    /// When the map last changed, or we mounted, ns.
    pub(super) since: u64,
    /// Epoch of the map then.
    epoch: u64,
    /// Pages with too few copies in the last round over all, and in this one.
    pub(super) missing: u64,
    counting: u64,
    /// Copies made since the mount.
    pub(super) made: u64,
}

impl Spread {
    /// When the repair begins to make copies anew that a node took with it, ns.
    pub(super) fn begins(&self) -> u64 {
        self.since.saturating_add(REPAIR_AFTER)
    }

    /// Whether pages wait for a copy.
    pub(super) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }
}

impl Node {
    /// Copies of a page of ours that are durable as far as we know, ours among them, but not the
    /// one on `but`.
    pub(super) fn durable_copies(&self, key: PageKey, but: Option<u32>) -> usize {
        let page = self.pages.get(key);
        let Some((page, clean)) = page.and_then(|page| Some((page, page.clean?))) else {
            return 0;
        };
        let others = self.owned.get(&key).map_or(0, |owned| {
            let kept = owned.kept.iter();
            kept.filter(|(id, version)| {
                *version == clean.version
                    && Some(*id) != but
                    && owned.holders.iter().any(|holder| holder.node == *id)
            })
            .count()
        });
        usize::from(!page.damaged) + others
    }

    /// How many copies a page is to have.
    pub(super) fn degree_of(&self, key: PageKey) -> usize {
        let dataset = self.names.get(key.dataset).map_or(1, |of| of.replicas);
        let commit = self.owned.get(&key).map_or(0, |owned| owned.degree);
        dataset.max(commit) as usize
    }

    /// A node has a durable copy of this version of a page of ours.
    pub(super) fn keep(&mut self, key: PageKey, node: u32, version: u64) -> Result {
        let owned = self.owned_entry(key)?;
        match owned.kept.iter_mut().find(|(id, _)| *id == node) {
            Some((_, known)) => *known = version,
            None => owned.kept.push((node, version), GFP_KERNEL)?,
        }
        Ok(())
    }

    /// A node has no copy of a page of ours that counts.
    pub(super) fn lose(&mut self, key: PageKey, node: u32) {
        if let Some(owned) = self.owned.get_mut(&key) {
            owned.kept.retain(|(id, _)| *id != node);
        }
    }

    /// Asks for one more copy of a page of ours; `false` when there is no node for it.
    pub(super) fn want_copy(&mut self, key: PageKey, but: Option<u32>) -> Result<bool> {
        if self.choose_for(key, but).is_none() {
            return Ok(false);
        }
        let known = self.spread.wanted.iter().any(|(other, _)| *other == key);
        if !known && self.spread.wanted.len() < MAX_WANTED {
            self.spread.wanted.push((key, but), GFP_KERNEL)?;
            self.wake(super::node::WORKER);
        }
        Ok(true)
    }

    /// Whether a page of ours has fewer copies than it is to have, and there is a node for one more;
    /// none of them on `but`.
    pub(super) fn has_too_few(&self, key: PageKey, but: Option<u32>) -> bool {
        let enough = self.durable_copies(key, but) >= self.degree_of(key);
        !enough && self.choose_for(key, but).is_some()
    }

    fn choose_for(&self, key: PageKey, but: Option<u32>) -> Option<u32> {
        let page = self.pages.get(key)?;
        // A damaged page has to be healed first.
        let version = page.clean.filter(|_| !page.damaged)?.version;
        let kept = self.owned.get(&key).map_or(&[][..], |owned| &owned.kept);
        self.choose(key, |id| {
            Some(id) == but || kept.iter().any(|(of, has)| *of == id && *has == version)
        })
    }

    /// Looks at some pages of ours; those with too few copies are wanted.
    fn look_for_missing(&mut self, now: u64) -> Result {
        if self.spread.epoch != self.map.epoch {
            self.spread.epoch = self.map.epoch;
            self.spread.since = now;
            self.spread.next = now;
            self.spread.at = None;
            self.migration.own.forget();
        }
        let quiet = self.is_fenced() && now >= self.spread.begins();
        let pause = self.spread.at.is_none() && now < self.spread.next;
        if !quiet || pause || self.spread.wanted.len() > MAX_WANTED / 2 {
            return Ok(());
        }
        let mut at = self.spread.at.unwrap_or(PageKey {
            dataset: 0,
            page: 0,
        });
        if self.spread.at.is_none() {
            self.spread.counting = 0;
            self.migration.own.begin();
        }
        for _ in 0..LOOKS {
            let Some((key, page)) = self.pages.next(at) else {
                self.spread.missing = self.spread.counting;
                self.migration.own.end();
                self.spread.at = None;
                self.spread.next = now.saturating_add(ROUND);
                return Ok(());
            };
            at = PageKey {
                page: key.page.saturating_add(1),
                ..key
            };
            self.spread.at = Some(at);
            let real = page.clean.is_some_and(|clean| clean.pm.is_some());
            // Who has what of a chunk that is on its way to us we do not know yet.
            if !real || page.damaged || self.check_owned(key).is_err() {
                continue;
            }
            self.migration.own.count();
            if self.durable_copies(key, None) < self.degree_of(key) {
                self.spread.counting += 1;
                self.want_copy(key, None)?;
                if self.spread.wanted.len() > MAX_WANTED / 2 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Pages for one node to take, and their versions.
    fn next_adoption(&mut self) -> Result<Option<(u32, KVec<Wanted>)>> {
        let mut batch = KVec::new();
        let mut to = None;
        let mut nr = 0;
        while nr < self.spread.wanted.len() && batch.len() < BATCH {
            let Some((key, but)) = self.spread.wanted.get(nr).copied() else {
                break;
            };
            let enough = self.durable_copies(key, but) >= self.degree_of(key);
            let in_flight = self.is_in_flight(key);
            // Who fetches from us what we do not serve yet waits for this worker, which would wait for it.
            if enough || self.check_owned(key).is_err() {
                let _ = self.spread.wanted.remove(nr);
                continue;
            }
            match self.choose_for(key, but) {
                // It is found again when there is a node for it.
                None => {
                    let _ = self.spread.wanted.remove(nr);
                }
                Some(id) if !in_flight && *to.get_or_insert(id) == id => {
                    batch.push((key, but), GFP_KERNEL)?;
                    let _ = self.spread.wanted.remove(nr);
                }
                Some(_) => nr += 1,
            }
        }
        Ok(to.filter(|_| !batch.is_empty()).map(|to| (to, batch)))
    }

    /// Whether a page of ours is not served just now: what is staged on it our worker may have to settle.
    pub(super) fn is_in_flight(&self, key: PageKey) -> bool {
        self.has_commit(key)
            || self
                .pages
                .get(key)
                .is_some_and(|page| !page.staged.is_empty())
    }

    pub(super) fn adopted(&mut self, key: PageKey, by: u32, version: u64) -> Result {
        let current = self.pages.get(key).and_then(|page| page.clean);
        let holds = self
            .owned
            .get(&key)
            .is_some_and(|owned| owned.holders.iter().any(|holder| holder.node == by));
        if holds && current.is_some_and(|clean| clean.version == version) {
            self.keep(key, by, version)?;
            self.spread.made += 1;
        }
        Ok(())
    }
}

/// One round of the worker: makes copies that are wanted. An error, or `true`: not all are made.
pub(super) async fn run<H: Host>(host: &H) -> Result<bool> {
    let now = host.now();
    host.with(|node| node.look_for_missing(now))?;
    for _ in 0..MAX_WANTED / BATCH {
        let Some((to, batch)) = host.with(Node::next_adoption)? else {
            break;
        };
        let mut keys = KVec::with_capacity(batch.len(), GFP_KERNEL)?;
        for (key, _) in &batch {
            keys.push(*key, GFP_KERNEL)?;
        }
        let until = handler::call_until(host, u64::MAX);
        let answers = match handler::ask(host, to, &Adopt { keys }, until).await {
            Ok(answers) => answers,
            Err(error) => {
                host.with(|node| node.spread.wanted.extend_from_slice(&batch, GFP_KERNEL))?;
                return Err(handler::errno(error));
            }
        };
        let mut again = false;
        for ((key, but), answer) in batch.iter().zip(&answers) {
            host.with(|node| {
                match answer.adoption {
                    Adoption::Kept => node.adopted(*key, to, answer.version)?,
                    Adoption::NoSpace => {
                        node.rooms.is_full(to);
                        node.want_copy(*key, *but)?;
                    }
                    Adoption::Later => {
                        again = true;
                        node.want_copy(*key, *but)?;
                    }
                }
                // Who evicts waits for it.
                node.wake(super::node::GENERAL);
                Ok::<_, Error>(())
            })?;
        }
        if again {
            return Ok(true);
        }
    }
    Ok(host.with(|node| !node.spread.is_idle()))
}

/// Takes copies for an owner.
pub(super) async fn on_adopt<H: Host>(host: &H, adopt: &Adopt) -> Result<KVec<Adopted>> {
    if adopt.keys.len() > BATCH {
        return Err(EBADMSG);
    }
    let until = handler::call_until(host, u64::MAX);
    let until = until - until.saturating_sub(host.now()) / 4;
    let until = until.min(host.now().saturating_add(PATIENCE));
    let mut answers = KVec::with_capacity(adopt.keys.len(), GFP_KERNEL)?;
    for key in &adopt.keys {
        let room = host.with(|node| node.space.free() > rooms::keeps(node.space.len()));
        let here = host.with(|node| node.valid_copy(*key)).is_some();
        let result = match here || room {
            true => fault::keep(host, *key, until).await,
            false => Err(ENOSPC),
        };
        let answer = match (result, host.with(|node| node.valid_copy(*key))) {
            (Ok(()), Some(version)) => Adopted {
                adoption: Adoption::Kept,
                version,
            },
            (Err(ENOSPC), _) => Adopted {
                adoption: Adoption::NoSpace,
                version: 0,
            },
            _ => Adopted {
                adoption: Adoption::Later,
                version: 0,
            },
        };
        answers.push(answer, GFP_KERNEL)?;
    }
    Ok(answers)
}

impl Node {
    /// The version of the valid copy of a page that is here durably.
    fn valid_copy(&self, key: PageKey) -> Option<u64> {
        let page = self.pages.get(key)?;
        let clean = page
            .clean
            .filter(|clean| clean.valid && clean.pm.is_some())?;
        (!page.damaged).then_some(clean.version)
    }
}
