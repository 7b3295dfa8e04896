// SPDX-License-Identifier: GPL-2.0

//! Mount and umount: what is on the device becomes the state of the node, and
//! what was in flight when the node stopped is brought to its end.

use super::{
    apart, background,
    cluster::State,
    ending,
    format::{
        commit_record, dataset, redo_log, slot, superblock, Block, Cid, Damage, Geometry,
        RedoRecord, Superblock, Timestamp, LINE_SIZE, PAGE_BYTES, PAGE_SIZE,
    },
    guest::{Guest, Share},
    host::{Host, Level, PageKey, Piece, Sleep},
    names::Names,
    node::{Commit, Greeting, Node, Phase, Txn, TxnPage, TxnState, GENERAL, MIN_MESSAGE, WORKER},
    pages::{Clean, Released, Staged},
    persist::{self, Batch},
    space::Space,
};
use kernel::prelude::*;

/// Slots and descriptors read at once.
const LINES: usize = 1024;

/// A staged version that nothing is known of but its slot.
struct Loose {
    key: PageKey,
    staged: Staged,
    stager: Option<slot::Stager>,
}

/// Reads the device and takes part from then on. The node must have a map.
///
/// Errors are those of [`FormatError::errno`](super::format::FormatError::errno), each with a log line.
pub async fn mount<H: Host>(host: &H, time: Timestamp) -> Result {
    let config = host.with(|node| node.config);
    if config.max_msg < MIN_MESSAGE {
        host.log(
            Level::Error,
            format_args!(
                "messages of {} bytes are too small, {MIN_MESSAGE} are needed",
                config.max_msg
            ),
        );
        return Err(EINVAL);
    }
    let geometry = read_superblock(host, time).await?;
    read_records(host, &geometry)?;
    let mut loose: KVec<Loose> = KVec::new();
    let mut unused: KVec<Released> = KVec::new();
    read_slots(host, &geometry, &mut loose, &mut unused)?;
    let decided = read_log(host, &geometry)?;
    read_commits(host, &geometry)?;
    adopt_staged(host, &loose, &mut unused)?;
    // What was decided is finished before anybody can ask.
    for cid in &decided {
        ending::finish(host, *cid).await?;
    }
    persist::free(host, &unused).await?;
    drop_stray_pages(host).await?;
    host.with(|node| {
        let us = node.id();
        let mut greetings = KVec::new();
        for peer in node.map.peers.iter().filter(|peer| peer.id != us) {
            let greeting = Greeting {
                node: peer.id,
                restarted: true,
                away: false,
            };
            greetings.push(greeting, GFP_KERNEL)?;
        }
        node.greetings = greetings;
        node.phase = Phase::Ready;
        node.wake(WORKER);
        Ok::<_, Error>(())
    })?;
    apart(|| async { Ok(background::run(host).await) }).await?;
    Ok(())
}

/// Leaves: dirty pages are dropped, the device is marked as clean.
pub async fn unmount<H: Host>(host: &H) -> Result {
    host.with(|node| node.phase = Phase::Gone);
    update_superblock(host, |superblock| {
        superblock.clean = true;
        Ok(())
    })
    .await
}

async fn read_superblock<H: Host>(host: &H, time: Timestamp) -> Result<Geometry> {
    let config = host.with(|node| node.config);
    let mut a = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let mut b = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    if config.device_len >= superblock::REGION {
        host.read(superblock::Copy::A.offset(), &mut a)?;
        host.read(superblock::Copy::B.offset(), &mut b)?;
    }
    let chosen = superblock::choose(&a, &b).and_then(|chosen| {
        chosen.superblock.check_device(config.device_len)?;
        chosen
            .superblock
            .check_owner(config.cluster, config.node as u16)?;
        Ok(chosen)
    });
    let chosen = match chosen {
        Ok(chosen) => chosen,
        Err(error) => {
            host.log(Level::Error, fmt!("cannot mount: {error}"));
            return Err(error.errno());
        }
    };
    if let superblock::OtherCopy::Unusable(error) = chosen.other {
        let other = chosen.copy.other();
        host.log(
            Level::Warning,
            fmt!("superblock {other:?} is unusable ({error}), the other one serves"),
        );
    }
    if chosen.superblock.is_read_only() {
        host.log(
            Level::Error,
            format_args!("has features that this version can only read"),
        );
        return Err(EROFS);
    }
    if chosen.superblock.outdated {
        host.log(
            Level::Error,
            format_args!(
                "cannot mount: this device is a copy of an earlier time, as another node knew; bring the right one"
            ),
        );
        return Err(ESTALE);
    }
    let geometry = chosen.superblock.geometry;
    host.with(|node| {
        node.superblock = Some((chosen.superblock, chosen.copy));
        // Counters that were reserved in an earlier life may have been used.
        node.next_counter = chosen.superblock.cid_limit;
        node.first_counter = chosen.superblock.cid_limit;
        node.space = Space::new(geometry.nr_pages())?;
        node.log = Space::new(geometry.nr_log_blocks())?;
        node.records = Space::new(geometry.nr_commit_blocks())?;
        let out = core::mem::take(&mut node.names.out);
        node.names = Names::with_pairs(geometry.nr_records())?;
        node.names.out = out;
        Ok::<_, Error>(())
    })?;
    update_superblock(host, |superblock| {
        // Whoever mounts it first owns it from then on.
        superblock
            .adopt(config.cluster, config.node as u16)
            .map_err(|error| error.errno())?;
        superblock.clean = false;
        superblock.incarnation += 1;
        superblock.mounted = time;
        superblock.reserve_cids().map(|_| ()).ok_or(EOVERFLOW)
    })
    .await?;
    Ok(geometry)
}

/// Writes the superblock anew, to the copy that does not count.
pub(super) async fn update_superblock<H: Host>(
    host: &H,
    change: impl FnOnce(&mut Superblock) -> Result,
) -> Result {
    let old = loop {
        let found = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            if node.superblock_busy {
                return Ok(Err(ticket));
            }
            let old = node.superblock.ok_or(ENOTCONN)?;
            node.superblock_busy = true;
            Ok::<_, Error>(Ok((old, node.next_counter)))
        })?;
        match found {
            Ok((old, next)) if next < old.0.cid_limit => break old,
            Ok((old, _)) => break old,
            Err(ticket) => {
                let soon = host.now().saturating_add(1_000_000_000);
                host.wait(ticket, soon, Sleep::Uninterruptible).await?;
            }
        }
    };
    let (mut superblock, copy) = old;
    let written = async {
        change(&mut superblock)?;
        superblock.sequence += 1;
        let mut block = Block::zeroed()?;
        superblock.encode(block.array_mut()?);
        let offset = copy.other().offset();
        let mut batch = Batch::default();
        batch.write(offset, Piece::Bytes(&block[..]))?;
        batch.flush(offset, PAGE_BYTES)?;
        batch.fence()?;
        batch.run(host).await
    }
    .await;
    host.with(|node| {
        node.superblock_busy = false;
        if written.is_ok() {
            node.superblock = Some((superblock, copy.other()));
        }
        node.wake(GENERAL);
    });
    written
}

fn read_records<H: Host>(host: &H, geometry: &Geometry) -> Result {
    let mut a = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    let mut b = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
    for pair in 0..geometry.nr_records() {
        host.read(geometry.record(pair, 0), &mut a)?;
        host.read(geometry.record(pair, 1), &mut b)?;
        match dataset::choose(&a, &b) {
            Ok(dataset::Pair { record: None, .. }) => {}
            Ok(dataset::Pair {
                record: Some(record),
                next,
                ..
            }) => host.with(|node| node.names.found(pair, Some((record, next))))?,
            Err(dataset::RecordError::NoMemory) => return Err(ENOMEM),
            Err(dataset::RecordError::Damaged(damage)) => {
                host.log(
                    Level::Error,
                    fmt!("both copies of dataset record {pair} are damaged ({damage})"),
                );
                host.with(|node| node.names.found(pair, None))?;
            }
        }
    }
    Ok(())
}

/// Calls `f` with the number and the bytes of each of `count` lines.
fn for_lines<H: Host>(
    host: &H,
    first: u64,
    count: u64,
    mut f: impl FnMut(u64, &[u8]) -> Result,
) -> Result {
    let mut buf = KVec::from_elem(0u8, LINES * LINE_SIZE, GFP_KERNEL)?;
    let mut nr = 0;
    while nr < count {
        let lines = (count - nr).min(LINES as u64) as usize;
        let bytes = buf.get_mut(..lines * LINE_SIZE).ok_or(EINVAL)?;
        host.read(first + nr * LINE_SIZE as u64, bytes)?;
        for line in bytes.chunks_exact(LINE_SIZE) {
            f(nr, line)?;
            nr += 1;
        }
    }
    Ok(())
}

fn read_slots<H: Host>(
    host: &H,
    geometry: &Geometry,
    loose: &mut KVec<Loose>,
    unused: &mut KVec<Released>,
) -> Result {
    for_lines(host, geometry.slot(0), geometry.nr_pages(), |pm, line| {
        let (state, found) = match slot::Slot::decode(pm, line) {
            Ok(None) => return Ok(()),
            Ok(Some(found)) => found,
            Err(damage) => {
                host.log(
                    Level::Error,
                    fmt!("the slot of PM page {pm} is damaged ({damage}): not used"),
                );
                host.with(|node| node.space.mark(pm));
                return Ok(());
            }
        };
        let key = PageKey {
            dataset: found.of.dataset,
            page: found.of.page,
        };
        host.with(|node| {
            node.space.mark(pm);
            match state {
                slot::State::Staged => {
                    let staged = Staged {
                        cid: found.of.cid,
                        version: found.of.version,
                        pm,
                        ready: true,
                        cancelled: false,
                        since: 0,
                        generation: u64::MAX,
                    };
                    let stager = found.stager;
                    loose.push(
                        Loose {
                            key,
                            staged,
                            stager,
                        },
                        GFP_KERNEL,
                    )?;
                }
                slot::State::Committed => {
                    let new = Clean {
                        pm: Some(pm),
                        version: found.of.version,
                        cid: found.of.cid,
                        valid: false,
                    };
                    let page = node.pages.entry(key)?;
                    let old = page.clean.map_or(0, |clean| clean.version);
                    if old >= new.version {
                        unused.push(persist::released(pm), GFP_KERNEL)?;
                    } else if let Some(old) = page.replace_clean(new) {
                        unused.push(old, GFP_KERNEL)?;
                    }
                }
            }
            Ok(())
        })
    })
}

/// The redo log: commits to finish are returned, those in doubt become commits that are
/// in flight.
fn read_log<H: Host>(host: &H, geometry: &Geometry) -> Result<KVec<Cid>> {
    let mut decided = KVec::new();
    let mut behind = 0;
    let count = geometry.nr_log_blocks();
    for_lines(host, geometry.log_descriptor(0), count, |block, line| {
        if block < behind {
            return Ok(());
        }
        match redo_log::Descriptor::decode(geometry, block, line) {
            Ok(None) => {}
            Ok(Some((state, descriptor))) => {
                behind = block + descriptor.of.nr_blocks();
                if !read_log_record(host, geometry, block, state, &descriptor)? {
                    return Ok(());
                }
                if state == redo_log::State::Committed {
                    decided.push(descriptor.of.cid, GFP_KERNEL)?;
                }
            }
            Err(damage) => damaged(host, "redo log", block, damage)?,
        }
        Ok(())
    })?;
    Ok(decided)
}

fn damaged<H: Host>(host: &H, what: &str, block: u64, damage: Damage) -> Result {
    host.log(
        Level::Error,
        fmt!("block {block} of the {what} is damaged ({damage}): run fsck.hotpot"),
    );
    Err(EUCLEAN)
}

fn read_log_record<H: Host>(
    host: &H,
    geometry: &Geometry,
    block: u64,
    state: redo_log::State,
    descriptor: &redo_log::Descriptor,
) -> Result<bool> {
    let of: &RedoRecord = &descriptor.of;
    let mut entries = KVVec::from_elem(0u8, usize::try_from(of.entries_len())?, GFP_KERNEL)?;
    host.read(geometry.log_block(block), &mut entries)?;
    let mut data = KVVec::from_elem(0u8, usize::try_from(of.data_len)?, GFP_KERNEL)?;
    host.read(geometry.log_block(block) + of.entries_len(), &mut data)?;
    if let Err(damage) = descriptor.check(&entries, &data) {
        damaged(host, "redo log", block, damage)?;
    }
    let mut txn = Txn {
        orphan: false,
        state: match state {
            redo_log::State::Prepared => TxnState::Prepared,
            redo_log::State::Committed => TxnState::Finishing,
        },
        cancelled: false,
        nr_owners: of.nr_owners,
        owners: owners_of(of, &data)?,
        // Who could go on writing has asked for it again by then.
        release: true,
        replicas: of.replicas,
        epoch: of.epoch,
        pages: KVec::new(),
        spans: KVec::new(),
        staged: KVec::new(),
        asked: KVec::new(),
        log: (block, of.nr_blocks()),
        unfinished: None,
        since: 0,
    };
    host.with(|node| {
        // Who has staged it we do not know any more: should it be undone all are told.
        let others = node.map.peers.iter().filter(|peer| peer.id != node.id());
        for peer in others.filter(|peer| peer.state != State::Out) {
            txn.asked.push(peer.id, GFP_KERNEL)?;
        }
        for bytes in entries.chunks_exact(redo_log::ENTRY_SIZE) {
            let entry = redo_log::Entry::decode(geometry, bytes)?;
            let key = PageKey {
                dataset: entry.dataset,
                page: entry.page,
            };
            let page = TxnPage {
                key,
                base: entry.base_version,
                before: Cid(0),
                pm: entry.staged,
            };
            txn.pages.push(page, GFP_KERNEL)?;
            if state == redo_log::State::Prepared {
                node.owned_entry(key)?.txn = Some(of.cid);
            }
        }
        for block in txn.log.0..txn.log.0 + txn.log.1 {
            node.log.mark(block);
        }
        node.txns.try_create_and_insert(of.cid, txn, GFP_KERNEL)?;
        Ok(true)
    })
}

/// The ids of all owners, behind the entries of a record of a commit with several.
fn owners_of(of: &RedoRecord, data: &[u8]) -> Result<KVec<u16>> {
    let mut owners = KVec::new();
    if of.nr_owners > 1 {
        for id in data.chunks_exact(2) {
            let id = <[u8; 2]>::try_from(id).map_err(|_| EUCLEAN)?;
            owners.push(u16::from_le_bytes(id), GFP_KERNEL)?;
        }
    }
    Ok(owners)
}

/// Commit records: decided commits are published again by the worker.
fn read_commits<H: Host>(host: &H, geometry: &Geometry) -> Result {
    let mut behind = 0;
    let count = geometry.nr_commit_blocks();
    for_lines(host, geometry.commit_descriptor(0), count, |block, line| {
        if block < behind {
            return Ok(());
        }
        let (state, descriptor) = match commit_record::Descriptor::decode(geometry, block, line) {
            Ok(None) => return Ok(()),
            Ok(Some(found)) => found,
            Err(damage) => return damaged(host, "commit records", block, damage),
        };
        let of = &descriptor.of;
        behind = block + of.nr_blocks();
        let len = usize::try_from(of.content_len())?;
        let mut content = KVVec::from_elem(0u8, len, GFP_KERNEL)?;
        host.read(geometry.commit_block(block), &mut content)?;
        if let Err(damage) = descriptor.check(&content) {
            return damaged(host, "commit records", block, damage);
        }
        let mut owners = KVec::new();
        if state == commit_record::State::Decided {
            for owner in of.owners(&content) {
                owners.push(u32::from(owner), GFP_KERNEL)?;
            }
        }
        host.with(|node| {
            for block in block..behind {
                node.records.mark(block);
            }
            // Without owners there is nothing left but to free the record.
            let commit = Commit::Decided {
                owners,
                told: KVec::new(),
                record: (block, of.nr_blocks()),
                busy: false,
            };
            node.commits
                .try_create_and_insert(of.cid, commit, GFP_KERNEL)?;
            Ok(())
        })
    })
}

/// Finds the commit of each staged version: one of ours as an owner, else one
/// that its owner has to be asked about; and drops what nobody promised.
fn adopt_staged<H: Host>(host: &H, loose: &[Loose], unused: &mut KVec<Released>) -> Result {
    host.with(|node| {
        for Loose {
            key,
            staged,
            stager,
        } in loose
        {
            let promised = node.txns.get(&staged.cid).is_some_and(|txn| {
                txn.pages
                    .iter()
                    .any(|page| page.key == *key && page.pm == staged.pm)
            });
            let owner = node.owner(*key);
            let by_us = stager.is_some_and(|of| u32::from(of.owner) == node.id());
            let ours = by_us
                || owner == Ok(node.id())
                    && !node.names.is_inherited(*key)
                    && node.names.arriving(*key).is_none();
            if !promised && (ours || node.names.is_removed(key.dataset)) {
                unused.push(persist::released(staged.pm), GFP_KERNEL)?;
                continue;
            }
            node.pages.entry(*key)?.staged.push(*staged, GFP_KERNEL)?;
            if !promised {
                if node.guests.get(&staged.cid).is_none() {
                    node.guests
                        .try_create_and_insert(staged.cid, Guest::default(), GFP_KERNEL)?;
                }
                if let Some(guest) = node.guests.get_mut(&staged.cid) {
                    guest.keys.push(*key, GFP_KERNEL)?;
                    if let Some(of) = stager {
                        guest.add_owners(u32::from(of.nr_owners), of.named(), of.alone)?;
                        let part = Share {
                            owner: u32::from(of.owner),
                            pages: of.pages,
                        };
                        guest.add_stager(*key, part)?;
                    }
                }
            }
        }
        let mut overtaken: KVec<Cid> = KVec::new();
        for (_, page) in node.pages.iter_mut() {
            page.staged.sort_unstable_by_key(|staged| staged.version);
            if let (Some(clean), false) = (page.clean, page.staged.is_empty()) {
                overtaken.push(clean.cid, GFP_KERNEL)?;
            }
        }
        // The newer version, once published, leaves nothing of it, and others may yet ask for it.
        for cid in &overtaken {
            node.note_settled(*cid);
        }
        node.own_what_is_ours();
        Ok(())
    })
}

impl Node {
    /// Where we are the owner our copy is the truth.
    fn own_what_is_ours(&mut self) {
        let us = self.id();
        let names = &self.names;
        for (key, page) in self.pages.iter_mut() {
            if let Some(clean) = &mut page.clean {
                clean.valid = names.owner(*key) == Ok(us);
            }
        }
    }
}

/// Drops pages of datasets that were removed or cut while we were writing it down.
async fn drop_stray_pages<H: Host>(host: &H) -> Result {
    let mut stray = KVec::new();
    host.with(|node| {
        for (key, page) in node.pages.iter() {
            let beyond = match node.names.get(key.dataset) {
                Ok(record) => key.page >= record.nr_pages(),
                Err(_) => node.names.is_removed(key.dataset),
            };
            if beyond && page.staged.is_empty() {
                stray.push(*key, GFP_KERNEL)?;
            }
        }
        Ok::<_, Error>(())
    })?;
    for key in &stray {
        persist::drop_clean(host, *key).await?;
    }
    Ok(())
}
