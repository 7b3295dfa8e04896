// SPDX-License-Identifier: GPL-2.0

//! A commit with several owners: all have to promise it, then it is decided here.

use super::{
    super::{
        data_node,
        draft::Draft,
        fault::PAUSE,
        format::{self, commit_record, CommitRecord, BODY_SIZE},
        handler,
        host::{Host, Piece},
        msg::{Forget, Prepare, Request},
        node::Commit,
        participant,
        persist::Batch,
        transaction,
    },
    decided::{publish_soon, tell_owners},
    give_up,
    letters::{call_of, letters, send_ahead},
    prepare_here, Share, Terms,
};
use kernel::prelude::*;

/// A commit with several owners: we decide. The first `in_turn` of them are asked one after the other,
/// and wait for what is in the way: as all do so in the same order, no two wait for each other.
pub(super) async fn several<H: Host>(
    host: &H,
    shares: &[Share<'_>],
    terms: &Terms<'_>,
    in_turn: usize,
) -> Result {
    // With room for all: who was asked must not be forgotten.
    let mut asked = KVec::with_capacity(shares.len(), GFP_KERNEL)?;
    let mut unheard = KVec::with_capacity(shares.len(), GFP_KERNEL)?;
    let us = host.with(|node| node.id());
    // As they are before they are asked.
    for share in shares.iter().filter(|share| share.owner != us) {
        unheard.push(host.with(|node| node.holder(share.owner)), GFP_KERNEL)?;
    }
    let theirs = shares.iter().filter(|share| share.owner != us);
    let areas = theirs.flat_map(|share| share.areas.iter());
    let draft = Draft::of(host, areas, terms.replicas);
    host.with(|node| {
        node.reserve_memory()?;
        Ok::<_, Error>(node.commits.try_create_and_insert(
            terms.cid,
            Commit::Active(draft),
            GFP_KERNEL,
        )?)
        .map(|_| ())
    })?;
    let (first, rest) = shares.split_at(in_turn.min(shares.len()));
    let prepared = match prepare_in_turn(host, first, terms, &mut asked).await {
        Ok(()) => prepare_at_once(host, rest, terms, &mut asked).await,
        Err(error) => Err(error),
    };
    let decided = match prepared {
        Ok(()) if host.now() >= terms.until => Err(ETIMEDOUT),
        Ok(()) if terms.single_phase => promised(host, shares, terms),
        Ok(()) => decide(host, shares, terms).await,
        Err(error) => Err(error),
    };
    if let Err(error) = decided {
        unheard.retain(|owner| asked.contains(&owner.node));
        host.with(|node| {
            node.note_doubted(terms.cid, unheard);
            node.commits.remove(&terms.cid);
        });
        // As long as all others may have promised, nobody can say that it is not published: when
        // we are gone the owners decide.
        return match abort(host, &asked, terms).await {
            Ok(true) => {
                host.with(|node| node.end_doubt(terms.cid));
                Err(error)
            }
            _ => {
                host.with(|node| node.leave_doubt(terms.cid));
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

async fn prepare_in_turn<H: Host>(
    host: &H,
    shares: &[Share<'_>],
    terms: &Terms<'_>,
    asked: &mut KVec<u32>,
) -> Result {
    let us = host.with(|node| node.id());
    let terms = &Terms {
        wait: true,
        ..*terms
    };
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
            content_crc: format::crc32c(&content),
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
            Ok(()) => sure |= host.with(|node| node.heard(call.dst, terms.cid)),
            Err(_) => give_up(host, call.dst, terms.cid),
        }
    }
    // Whom our part was staged at; nobody when we own none of it.
    undone &= transaction::confirm_undone(host, terms.cid, terms.until).await?;
    if sure && undone {
        // What others have staged here: after a restart we would not know that it is void.
        undone = data_node::abort(host, terms.cid).await?;
    }
    Ok(sure && undone)
}
