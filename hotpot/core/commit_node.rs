// SPDX-License-Identifier: GPL-2.0

//! Committing node (CN): splits a commit by owners, leads it through its phases and
//! decides it when there are several owners.

use super::{
    area::Area,
    commit::Committed,
    data_node,
    fault::PAUSE,
    format::{commit_record, Cid, CommitRecord, BODY_SIZE},
    handler,
    host::{CallError, Host, Piece, Sleep},
    msg::{AskOutcome, Forget, Outcome, Prepare, PrepareData, Publish, Request},
    node::{Commit, Node, Notice, NoticeKind, GENERAL},
    participant,
    persist::Batch,
    recovery, transaction,
};
use kernel::prelude::*;

/// What a span takes in a message, and what a [`Prepare`] takes at most beside its spans.
const SPAN_HEAD: usize = 20;
const PREPARE_HEAD: usize = 128 + 8 * MAX_RELEASES;
/// Most commits that one [`Prepare`] releases.
const MAX_RELEASES: usize = 64;

/// The part of a commit that goes to one owner.
struct Share<'a> {
    owner: u32,
    areas: KVec<Area<'a>>,
}

/// A message of a share: some of its areas.
struct Letter<'a> {
    header: KVec<u8>,
    data: KVec<Piece<'a>>,
}

/// How often a commit is tried again whose owner says that it is not, at most.
const MAX_PAUSES: u32 = 16;

/// What is to be committed, and how.
pub(super) struct Order<'a> {
    /// In order.
    pub(super) areas: &'a [Area<'a>],
    /// MRSW [2.6.3]: once all owners have promised it is done; they publish soon after.
    pub(super) single_phase: bool,
    /// MRSW: the owners free the pages.
    pub(super) release: bool,
    /// Durable copies.
    pub(super) replicas: u32,
    pub(super) until: u64,
}

/// How a share is to be prepared.
#[derive(Clone, Copy)]
struct Terms<'a> {
    cid: Cid,
    nr_owners: u32,
    /// Their ids when there are several.
    owners: &'a [u16],
    single_phase: bool,
    release: bool,
    replicas: u32,
    wait: bool,
    until: u64,
}

/// Commits areas: all or nothing.
pub(super) async fn run<H: Host>(host: &H, order: &Order<'_>) -> Committed {
    let mut cid = Cid(0);
    let mut result = attempts(host, order, &mut cid).await;
    let mut pauses = 0;
    while result == Err(ESTALE) && pauses < MAX_PAUSES {
        // An owner that says that a page is not its own: the chunk may have moved, and the record
        // that says so is on its way to us.
        let now = host.now();
        if now.saturating_add(PAUSE) >= order.until || host.with(|node| node.check_ready()).is_err()
        {
            break;
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let pause = (PAUSE / 4) << pauses.min(2);
        if let Err(error) = host.wait(ticket, now + pause, Sleep::Killable).await {
            result = Err(error);
            break;
        }
        pauses += 1;
        result = attempts(host, order, &mut cid).await;
    }
    if result.is_ok() && data_node::finish(host, cid).await.is_err() {
        // What owners staged at us as a data node is ours to publish now; published it is.
        return Committed {
            cid,
            result: Err(EINPROGRESS),
        };
    }
    Committed { cid, result }
}

async fn attempts<H: Host>(host: &H, order: &Order<'_>, cid: &mut Cid) -> Result {
    let (us, up) = host.with(|node| (node.id(), node.map.up().count()));
    if up < order.replicas as usize {
        return Err(EHOSTDOWN);
    }
    let shares = split(host, order.areas)?;
    let mut owners = KVec::new();
    if shares.len() > 1 {
        for share in &shares {
            owners.push(share.owner as u16, GFP_KERNEL)?;
        }
    }
    let mut terms = Terms {
        cid: new_cid(host).await?,
        nr_owners: shares.len() as u32,
        owners: &owners,
        single_phase: order.single_phase,
        release: order.release,
        replicas: order.replicas,
        wait: shares.len() == 1,
        until: order.until,
    };
    *cid = terms.cid;
    let Some(first) = shares.first() else {
        return host.with(|node| node.note_published(terms.cid));
    };
    if shares.len() == 1 {
        return match first.owner == us {
            true => {
                host.with(|node| node.reserve_memory())?;
                // A quarter of the time is for the data nodes to confirm that it was undone.
                let left = order.until.saturating_sub(host.now());
                let terms = Terms {
                    until: order.until - left / 4,
                    ..terms
                };
                let prepared = prepare_here(host, first, &terms).await;
                host.with(|node| match prepared {
                    Ok(()) => {
                        let _ = node.note_published(terms.cid);
                    }
                    Err(EINPROGRESS) => node.note_doubted(terms.cid),
                    Err(_) => {}
                });
                prepared
            }
            false => single(host, first, &terms).await,
        };
    }
    match several(host, &shares, &terms).await {
        // Somebody else's commit of other bytes is in flight on a page: one owner after
        // the other in the order of their ids, so that no two commits wait for each other.
        Err(EBUSY) => {
            terms.cid = new_cid(host).await?;
            terms.wait = true;
            *cid = terms.cid;
            several(host, &shares, &terms).await
        }
        result => result,
    }
}

fn split<'a, H: Host>(host: &H, areas: &[Area<'a>]) -> Result<KVec<Share<'a>>> {
    let mut shares: KVec<Share<'a>> = KVec::new();
    host.with(|node| {
        for area in areas {
            let owner = node.owner(area.key)?;
            if !node.is_up(owner) {
                return Err(EHOSTDOWN);
            }
            let at = match shares.iter().position(|share| share.owner == owner) {
                Some(at) => at,
                None => {
                    let areas = KVec::new();
                    shares.push(Share { owner, areas }, GFP_KERNEL)?;
                    shares.len() - 1
                }
            };
            if let Some(share) = shares.get_mut(at) {
                share.areas.push(*area, GFP_KERNEL)?;
            }
        }
        Ok(())
    })?;
    shares.sort_unstable_by_key(|share| share.owner);
    Ok(shares)
}

/// An id that no commit ever had.
pub(super) async fn new_cid<H: Host>(host: &H) -> Result<Cid> {
    loop {
        let next = host.with(|node| {
            let (superblock, _) = node.superblock.ok_or(ENOTCONN)?;
            let counter = node.next_counter;
            if counter < superblock.cid_limit {
                node.next_counter += 1;
                return Ok(Some(Cid::new(node.id() as u16, counter)));
            }
            Ok::<_, Error>(None)
        })?;
        if let Some(cid) = next {
            return Ok(cid);
        }
        recovery::update_superblock(host, |superblock| {
            superblock.reserve_cids().map(|_| ()).ok_or(EOVERFLOW)
        })
        .await?;
    }
}

async fn prepare_here<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    let cn = host.with(|node| node.us());
    transaction::prepare(
        host,
        &transaction::Prepare {
            cid: terms.cid,
            life: 0,
            cn,
            nr_owners: terms.nr_owners,
            owners: terms.owners,
            release: terms.release,
            replicas: terms.replicas,
            wait: terms.wait,
            areas: &share.areas,
            until: terms.until,
        },
    )
    .await
}

/// The messages that prepare a share; the last one is the `Prepare`.
fn letters<'a, H: Host>(
    host: &H,
    share: &Share<'a>,
    terms: &Terms<'_>,
    released: &[Cid],
) -> Result<KVec<Letter<'a>>> {
    let (epoch, max_msg) = host.with(|node| (node.map.epoch, node.config.max_msg));
    let room = max_msg.saturating_sub(PREPARE_HEAD + 2 * terms.owners.len());
    let mut letters = KVec::new();
    let mut rest = &share.areas[..];
    loop {
        let mut size = 0;
        let count = rest
            .iter()
            .take_while(|area| {
                size += SPAN_HEAD + area.bytes.len();
                size <= room
            })
            .count();
        let (these, more) = rest.split_at(count);
        if count == 0 {
            return Err(EMSGSIZE);
        }
        let mut spans = KVec::with_capacity(count, GFP_KERNEL)?;
        let mut data = KVec::with_capacity(count, GFP_KERNEL)?;
        for area in these {
            spans.push(area.span(), GFP_KERNEL)?;
            data.push(area.bytes, GFP_KERNEL)?;
        }
        let last = more.is_empty();
        let header = if last {
            let mut known = KVec::new();
            known.extend_from_slice(released, GFP_KERNEL)?;
            let mut owners = KVec::new();
            owners.extend_from_slice(terms.owners, GFP_KERNEL)?;
            Prepare {
                cid: terms.cid,
                nr_owners: terms.nr_owners,
                replicas: terms.replicas,
                budget_ms: handler::budget_ms(host, terms.until),
                wait: terms.wait,
                ahead: letters.len() as u32,
                release: terms.release,
                owners,
                released: known,
                spans,
            }
            .encode(epoch)?
        } else {
            PrepareData {
                cid: terms.cid,
                number: letters.len() as u32,
                spans,
            }
            .encode(epoch)?
        };
        letters.push(Letter { header, data }, GFP_KERNEL)?;
        if last {
            return Ok(letters);
        }
        rest = more;
    }
}

/// Sends the data that goes ahead; returns the `Prepare`.
async fn send_ahead<'a, H: Host>(
    host: &H,
    owner: u32,
    mut letters: KVec<Letter<'a>>,
    until: u64,
) -> Result<Letter<'a>, CallError> {
    let last = letters.pop().ok_or(CallError::NotExecuted(EINVAL))?;
    for letter in &letters {
        let mut calls = [call_of(owner, letter, until).map_err(CallError::NotExecuted)?];
        host.call(&mut calls).await;
        let [call] = calls;
        handler::reply_of::<PrepareData>(&call)?;
    }
    Ok(last)
}

fn call_of<'a>(owner: u32, letter: &'a Letter<'_>, until: u64) -> Result<super::host::Call<'a>> {
    let mut request = KVec::with_capacity(1 + letter.data.len(), GFP_KERNEL)?;
    request.push(Piece::Bytes(&letter.header), GFP_KERNEL)?;
    request.extend_from_slice(&letter.data, GFP_KERNEL)?;
    handler::call(owner, request, 64, until)
}

/// A commit with one owner, which is another node: it decides. Who takes its place when it is
/// lost asks us how it ended.
async fn single<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    host.with(|node| {
        node.reserve_memory()?;
        node.commits
            .try_create_and_insert(terms.cid, Commit::Active, GFP_KERNEL)?;
        Ok::<_, Error>(())
    })?;
    let result = ask_single(host, share, terms).await;
    host.with(|node| {
        node.commits.remove(&terms.cid);
        if result.is_ok() {
            // There was room; without it a successor finds it published at other nodes, or not at all.
            let _ = node.note_published(terms.cid);
        }
    });
    result
}

async fn ask_single<H: Host>(host: &H, share: &Share<'_>, terms: &Terms<'_>) -> Result {
    let owner = share.owner;
    let now = host.now();
    let left = terms.until.saturating_sub(now);
    let terms = Terms {
        until: now + (left - left / 4),
        ..*terms
    };
    let released = releases_for(host, owner)?;
    let letters = letters(host, share, &terms, &released)?;
    let last = match send_ahead(host, owner, letters, terms.until).await {
        Ok(last) => last,
        Err(error) => {
            give_up(host, owner, terms.cid);
            return Err(handler::errno(error));
        }
    };
    let answer = {
        let mut calls = [call_of(owner, &last, terms.until)?];
        host.call(&mut calls).await;
        let [call] = calls;
        handler::reply_of::<Prepare>(&call)
    };
    if answer.is_ok() {
        host.with(|node| {
            node.notices
                .retain(|n| n.kind != NoticeKind::Release || !released.contains(&n.cid));
        });
    }
    let outcome = match answer {
        Ok(()) => Ok(()),
        // It has undone it, or not, and cannot yet promise that its successor will not publish it.
        Err(CallError::Lost | CallError::Handler(EINPROGRESS)) => {
            outcome(host, owner, terms.cid, now + left).await
        }
        Err(error) => {
            if matches!(error, CallError::NotExecuted(_)) {
                give_up(host, owner, terms.cid);
            }
            return Err(handler::errno(error));
        }
    };
    if outcome == Err(EINPROGRESS) {
        give_up(host, owner, terms.cid);
        // Its record is needed until we know.
        host.with(|node| node.note_unsure(terms.cid, owner));
        return outcome;
    }
    host.with(|node| {
        node.notify(Notice {
            node: owner,
            cid: terms.cid,
            kind: NoticeKind::Release,
        });
    });
    outcome
}

fn give_up<H: Host>(host: &H, owner: u32, cid: Cid) {
    host.with(|node| {
        node.notify(Notice {
            node: owner,
            cid,
            kind: NoticeKind::GiveUp,
        });
    });
}

/// Commits at an owner whose outcome we know, which it may forget.
fn releases_for<H: Host>(host: &H, owner: u32) -> Result<KVec<Cid>> {
    let mut cids = KVec::new();
    host.with(|node| {
        let of = |n: &&Notice| n.node == owner && n.kind == NoticeKind::Release;
        for notice in node.notices.iter().filter(of).take(MAX_RELEASES) {
            cids.push(notice.cid, GFP_KERNEL)?;
        }
        Ok(cids)
    })
}

/// Asks the only owner what became of a commit. EINPROGRESS when it does not say
/// until the deadline, ETIMEDOUT when it was aborted.
async fn outcome<H: Host>(host: &H, owner: u32, cid: Cid, until: u64) -> Result {
    loop {
        let call_until = handler::call_until(host, until);
        match handler::ask(host, owner, &AskOutcome { cid }, call_until).await {
            Ok(Outcome::Committed) => return Ok(()),
            Ok(Outcome::Aborted) => return Err(ETIMEDOUT),
            Ok(Outcome::Pending | Outcome::Forgotten) | Err(_) => {}
        }
        let now = host.now();
        if now >= until || host.with(|node| node.is_out(owner)) {
            return Err(EINPROGRESS);
        }
        let ticket = host.with(|node| node.ticket(GENERAL));
        let soon = until.min(now + PAUSE);
        host.wait(ticket, soon, Sleep::Uninterruptible).await?;
    }
}

/// A commit with several owners: we decide.
async fn several<H: Host>(host: &H, shares: &[Share<'_>], terms: &Terms<'_>) -> Result {
    host.with(|node| {
        Ok::<_, Error>(
            node.commits
                .try_create_and_insert(terms.cid, Commit::Active, GFP_KERNEL)?,
        )
        .map(|_| ())
    })?;
    let mut asked = KVec::new();
    let prepared = match terms.wait {
        false => prepare_at_once(host, shares, terms, &mut asked).await,
        true => prepare_in_order(host, shares, terms, &mut asked).await,
    };
    let decided = match prepared {
        Ok(()) if host.now() >= terms.until => Err(ETIMEDOUT),
        Ok(()) if terms.single_phase => promised(host, shares, terms),
        Ok(()) => decide(host, shares, terms).await,
        Err(error) => Err(error),
    };
    if let Err(error) = decided {
        host.with(|node| node.commits.remove(&terms.cid));
        // As long as all others may have promised, nobody can say that it is not published: when
        // we are gone the owners decide.
        return match abort(host, &asked, terms).await {
            Ok(true) => Err(error),
            _ => {
                host.with(|node| node.note_doubted(terms.cid));
                Err(EINPROGRESS)
            }
        };
    }
    if terms.single_phase {
        return publish_soon(host, terms.cid).await;
    }
    if tell_owners(host, terms.cid, terms.until).await.is_err() {
        // It is decided: the worker goes on.
        host.with(|node| node.leave_to_worker(terms.cid));
    }
    Ok(())
}

impl Node {
    /// The worker tells the owners of a decided commit again.
    pub(super) fn leave_to_worker(&mut self, cid: Cid) {
        if let Some(Commit::Decided { busy, .. }) = self.commits.get_mut(&cid) {
            *busy = false;
        }
        self.wake(super::node::WORKER);
    }
}

/// MRSW: all owners have promised, which decides it. Nothing is to be made durable here.
fn promised<H: Host>(host: &H, shares: &[Share<'_>], terms: &Terms<'_>) -> Result {
    let mut owners = KVec::with_capacity(shares.len(), GFP_KERNEL)?;
    for share in shares {
        owners.push(share.owner, GFP_KERNEL)?;
    }
    host.with(|node| match node.commits.get_mut(&terms.cid) {
        Some(commit) => {
            *commit = Commit::Decided {
                owners,
                told: KVec::new(),
                record: (0, 0),
                busy: true,
            };
            Ok(())
        }
        None => Err(ECANCELED),
    })
}

/// Publishes what is ours of a decided commit; the worker tells the other owners.
async fn publish_soon<H: Host>(host: &H, cid: Cid) -> Result {
    let us = host.with(|node| node.id());
    // What does not succeed now is tried again by the worker.
    let published = participant::publish(host, cid).await.is_ok();
    host.with(|node| {
        if let Some(Commit::Decided {
            owners, told, busy, ..
        }) = node.commits.get_mut(&cid)
        {
            if published && owners.contains(&us) && told.push(us, GFP_KERNEL).is_ok() {
                owners.retain(|owner| *owner != us);
            }
            *busy = false;
        }
        node.wake(super::node::WORKER);
    });
    Ok(())
}

async fn prepare_at_once<H: Host>(
    host: &H,
    shares: &[Share<'_>],
    terms: &Terms<'_>,
    asked: &mut KVec<u32>,
) -> Result {
    let us = host.with(|node| node.id());
    for share in shares.iter().filter(|share| share.owner == us) {
        prepare_here(host, share, terms).await?;
        asked.push(us, GFP_KERNEL)?;
    }
    let mut lasts = KVec::new();
    for share in shares.iter().filter(|share| share.owner != us) {
        asked.push(share.owner, GFP_KERNEL)?;
        let letters = letters(host, share, terms, &[])?;
        let last = send_ahead(host, share.owner, letters, terms.until)
            .await
            .map_err(handler::errno)?;
        lasts.push((share.owner, last), GFP_KERNEL)?;
    }
    let mut calls = KVec::with_capacity(lasts.len(), GFP_KERNEL)?;
    for (owner, last) in &lasts {
        calls.push(call_of(*owner, last, terms.until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    let mut result = Ok(());
    for call in &calls {
        if let Err(error) = handler::reply_of::<Prepare>(call) {
            let error = handler::errno(error);
            // Bytes in conflict say more than a page in use.
            if result.is_ok() || result == Err(EBUSY) {
                result = Err(error);
            }
        }
    }
    result
}

async fn prepare_in_order<H: Host>(
    host: &H,
    shares: &[Share<'_>],
    terms: &Terms<'_>,
    asked: &mut KVec<u32>,
) -> Result {
    let us = host.with(|node| node.id());
    for share in shares {
        if share.owner == us {
            prepare_here(host, share, terms).await?;
            asked.push(us, GFP_KERNEL)?;
            continue;
        }
        asked.push(share.owner, GFP_KERNEL)?;
        let letters = letters(host, share, terms, &[])?;
        let last = send_ahead(host, share.owner, letters, terms.until)
            .await
            .map_err(handler::errno)?;
        let mut calls = [call_of(share.owner, &last, terms.until)?];
        host.call(&mut calls).await;
        let [call] = calls;
        handler::reply_of::<Prepare>(&call).map_err(handler::errno)?;
    }
    Ok(())
}

/// Makes the decision durable: from here on the commit happens.
async fn decide<H: Host>(host: &H, shares: &[Share<'_>], terms: &Terms<'_>) -> Result {
    let mut owners = KVec::with_capacity(shares.len(), GFP_KERNEL)?;
    let mut ids = KVec::with_capacity(shares.len(), GFP_KERNEL)?;
    for share in shares {
        owners.push(share.owner, GFP_KERNEL)?;
        ids.push(share.owner as u16, GFP_KERNEL)?;
    }
    let (record, first, geometry) = host.with(|node| {
        let record = CommitRecord {
            cid: terms.cid,
            epoch: node.map.epoch,
            nr_owners: terms.nr_owners,
            replicas: terms.replicas,
            nr_pages: 0,
        };
        let first = node.records.take_run(record.nr_blocks()).ok_or(ENOSPC)?;
        Ok::<_, Error>((record, first, node.geometry()))
    })?;
    let written = async {
        let mut content = KVec::from_elem(0u8, record.content_len() as usize, GFP_KERNEL)?;
        record.encode_content(&ids, &[], &mut content)?;
        let body = commit_record::Descriptor {
            of: record,
            content_crc: super::format::crc32c(&content),
        }
        .encode(first);
        let (block, descriptor) = (
            geometry.commit_block(first),
            geometry.commit_descriptor(first),
        );
        let mut batch = Batch::default();
        batch.write(block, Piece::Bytes(&content))?;
        batch.flush(block, content.len() as u64)?;
        batch.write(descriptor + 8, Piece::Bytes(&body))?;
        batch.flush(descriptor + 8, BODY_SIZE as u64)?;
        batch.fence()?;
        batch.swing(
            descriptor,
            record.word(first, commit_record::State::Decided).0,
        )?;
        batch.fence()?;
        batch.run(host).await
    }
    .await;
    host.with(|node| match (written, node.commits.get_mut(&terms.cid)) {
        (Ok(()), Some(commit)) => {
            *commit = Commit::Decided {
                owners,
                told: KVec::new(),
                record: (first, record.nr_blocks()),
                busy: true,
            };
            Ok(())
        }
        (Err(error), _) => {
            node.records.give_run(first, record.nr_blocks());
            Err(error)
        }
        (Ok(()), None) => Err(ECANCELED),
    })
}

/// Tells the owners of a decided commit (marked as busy) until all have published or
/// the time is over; then the worker goes on. Nobody reads old bytes meanwhile.
pub(super) async fn tell_owners<H: Host>(host: &H, cid: Cid, until: u64) -> Result {
    let us = host.with(|node| node.id());
    loop {
        let left = host.with(|node| {
            let mut left = KVec::new();
            let Node { commits, map, .. } = node;
            if let Some(Commit::Decided { owners, .. }) = commits.get_mut(&cid) {
                // Who takes the place of one that is out asks us.
                owners.retain(|id| {
                    map.peer(*id)
                        .is_none_or(|peer| peer.state != super::cluster::State::Out)
                });
                left.extend_from_slice(owners, GFP_KERNEL)?;
            }
            Ok::<_, Error>(left)
        })?;
        if left.is_empty() {
            return forget(host, cid).await;
        }
        let epoch = host.with(|node| node.map.epoch);
        let header = Publish { cid }.encode(epoch)?;
        let call_until = handler::call_until(host, until);
        let mut done = KVec::with_capacity(left.len(), GFP_KERNEL)?;
        let mut calls = KVec::with_capacity(left.len(), GFP_KERNEL)?;
        for owner in &left {
            if *owner == us {
                if participant::publish(host, cid).await.is_ok() {
                    done.push(us, GFP_KERNEL)?;
                }
                continue;
            }
            let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
            request.push(Piece::Bytes(&header), GFP_KERNEL)?;
            calls.push(handler::call(*owner, request, 64, call_until)?, GFP_KERNEL)?;
        }
        host.call(&mut calls).await;
        for call in &calls {
            if handler::reply_of::<Publish>(call).is_ok() {
                done.push(call.dst, GFP_KERNEL)?;
            }
        }
        let (over, ticket) = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            if let Some(Commit::Decided { owners, told, .. }) = node.commits.get_mut(&cid) {
                for owner in &done {
                    if owners.contains(owner) {
                        told.push(*owner, GFP_KERNEL)?;
                        owners.retain(|other| other != owner);
                    }
                }
                return Ok((owners.is_empty(), ticket));
            }
            Ok::<_, Error>((true, ticket))
        })?;
        let now = host.now();
        if !over && now >= until {
            host.with(|node| node.leave_to_worker(cid));
            return Ok(());
        }
        if !over {
            let soon = until.min(now + PAUSE);
            host.wait(ticket, soon, Sleep::Uninterruptible).await?;
        }
    }
}

/// Phase 3: all owners have published, the records are of no use any more.
async fn forget<H: Host>(host: &H, cid: Cid) -> Result {
    let found = host.with(|node| match node.commits.get(&cid) {
        Some(Commit::Decided { record, .. }) => Some((*record, node.geometry())),
        _ => None,
    });
    let Some(((first, blocks), geometry)) = found else {
        return Ok(());
    };
    if blocks != 0 {
        let mut batch = Batch::default();
        batch.swing(geometry.commit_descriptor(first), 0)?;
        batch.fence()?;
        batch.run(host).await?;
    }
    let ours = host.with(|node| {
        let us = node.id();
        let Some(Commit::Decided { told, .. }) = node.commits.remove(&cid) else {
            return false;
        };
        node.records.give_run(first, blocks);
        // Without memory for it a successor of a lost owner hears that it was aborted only when
        // no other node shows that it was published.
        let _ = node.note_published(cid);
        for owner in told.iter().filter(|owner| **owner != us) {
            node.notify(Notice {
                node: *owner,
                cid,
                kind: NoticeKind::Release,
            });
        }
        told.contains(&us)
    });
    match ours {
        true => participant::release_one(host, cid).await,
        false => Ok(()),
    }
}

/// Undoes a commit at the owners that were asked. Whether it can never be published, even when we
/// are lost: one owner at least besides us has not promised it, and what we have staged as an owner
/// is gone.
async fn abort<H: Host>(host: &H, asked: &[u32], terms: &Terms<'_>) -> Result<bool> {
    let us = host.with(|node| node.id());
    let mut others = terms.owners.iter().map(|id| u32::from(*id));
    let mut sure = others.any(|id| id != us && !asked.contains(&id));
    let mut undone = true;
    if asked.contains(&us) {
        undone = participant::give_up(host, terms.cid).await?;
    }
    let mut aborted = KVec::new();
    aborted.push(terms.cid, GFP_KERNEL)?;
    let message = Forget {
        aborted,
        released: KVec::new(),
    };
    let epoch = host.with(|node| node.map.epoch);
    let header = message.encode(epoch)?;
    let until = handler::call_until(host, terms.until.max(host.now() + PAUSE));
    let mut calls = KVec::new();
    for owner in asked.iter().filter(|owner| **owner != us) {
        let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
        request.push(Piece::Bytes(&header), GFP_KERNEL)?;
        calls.push(handler::call(*owner, request, 64, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    for call in &calls {
        match handler::reply_of::<Forget>(call) {
            Ok(()) => sure = true,
            Err(_) => give_up(host, call.dst, terms.cid),
        }
    }
    // Whom our part was staged at; nobody when we own none of it.
    undone &= transaction::confirm_undone(host, terms.cid, terms.until).await?;
    Ok(sure && undone)
}
