// SPDX-License-Identifier: GPL-2.0

//! The records of datasets: every node keeps all of them on its PM, and asks for those that
//! it has missed. The one with the higher generation is right.

use super::{
    cluster::Sender,
    format::{dataset::DatasetRecord, Block, PAGE_BYTES, PAGE_SIZE},
    handler,
    host::{CallError, Host, Level, Piece, Sleep},
    migrate,
    msg::{AskRecords, Reader, Request},
    names::Entry,
    node::{Node, GENERAL, WORKER},
    persist::Batch,
    tombstones::Retired,
    truncate::drop_pages,
};
use kernel::{prelude::*, rbtree::RBTreeNodeReservation};

/// A record from the CD.
pub(super) async fn on_set_record<H: Host>(host: &H, bytes: &[u8]) -> Result {
    let record = decode(bytes)?;
    let until = handler::call_until(host, u64::MAX);
    // The caller must hear of it before its own deadline.
    let now = host.now();
    apply(host, record, now + (until - now) / 2).await
}

fn decode(bytes: &[u8]) -> Result<DatasetRecord> {
    match DatasetRecord::decode(bytes) {
        Ok(Some(record)) => Ok(record),
        _ => Err(EBADMSG),
    }
}

/// Keeps a record, durably, if it is newer than ours; drops the pages beyond its end.
pub(super) async fn apply<H: Host>(host: &H, mut record: DatasetRecord, until: u64) -> Result {
    enum Step {
        Old,
        Wait(super::host::Ticket),
        Write { pair: u64, first: u8, both: bool },
    }
    let id = record.id;
    // Once it is on PM nothing may keep us from knowing it.
    let reservation = RBTreeNodeReservation::new(GFP_KERNEL)?;
    let mut before = KVec::new();
    loop {
        let step = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            if node.names.writing {
                return Ok(Step::Wait(ticket));
            }
            before = node.room_for_owners(&record)?;
            let names = &mut node.names;
            let step = match names.entries.get(&id) {
                Some(known) if known.record.generation >= record.generation => Step::Old,
                Some(known) => {
                    record.sequence = known.record.sequence + 1;
                    Step::Write {
                        pair: known.pair,
                        first: known.next,
                        both: false,
                    }
                }
                None if record.generation <= names.forgotten => Step::Old,
                None => {
                    let Retired {
                        pair,
                        next,
                        sequence,
                    } = names.free_pair()?;
                    record.sequence = sequence + 1;
                    Step::Write {
                        pair,
                        first: next,
                        both: true,
                    }
                }
            };
            names.writing = matches!(step, Step::Write { .. });
            Ok::<_, Error>(step)
        })?;
        match step {
            Step::Old => break,
            Step::Wait(ticket) => {
                if host.now() >= until {
                    return Err(ETIMEDOUT);
                }
                host.wait(ticket, until, Sleep::Uninterruptible).await?;
            }
            Step::Write { pair, first, both } => {
                let written = write_record(host, &record, pair, first, both).await;
                host.with(|node| {
                    node.names.writing = false;
                    node.wake(GENERAL);
                    if written.is_err() && both {
                        node.names.pairs.give(pair);
                    }
                    written?;
                    let entry = Entry {
                        record,
                        pair,
                        next: 1 - first,
                    };
                    node.owners_before(&entry.record, &mut before);
                    node.names.entries.insert(reservation.into_node(id, entry));
                    node.note_moved(id, &before);
                    Ok::<_, Error>(())
                })?;
                break;
            }
        }
    }
    // What does not succeed now the worker tries again.
    let _ = migrate::unmap_moved(host).await;
    let end = host.with(|node| match node.names.get(id) {
        Ok(record) => record.nr_pages(),
        Err(_) => 0,
    });
    drop_pages(host, id, end, until).await
}

async fn write_record<H: Host>(
    host: &H,
    record: &DatasetRecord,
    pair: u64,
    first: u8,
    both: bool,
) -> Result {
    let geometry = host.with(|node| node.geometry());
    let mut block = Block::zeroed()?;
    record.encode(block.array_mut()?)?;
    let mut batch = Batch::default();
    for copy in [first, 1 - first]
        .into_iter()
        .take(if both { 2 } else { 1 })
    {
        let offset = geometry.record(pair, copy);
        batch.write(offset, Piece::Bytes(&block[..]))?;
        batch.flush(offset, PAGE_BYTES)?;
        batch.fence()?;
    }
    batch.run(host).await
}

/// Answers with records. EAGAIN at a CD that has not collected all of them itself, or when the asking node
/// knows a newer map: who has asked in the present epoch has every record that some node had when it began.
pub(super) fn on_ask_records<H: Host>(
    host: &H,
    from: Sender,
    ask: &AskRecords,
    reply: &mut [u8],
) -> Result<usize> {
    host.with(|node| {
        let collecting = node.names.stale && node.map.dispatcher() == Ok(node.id());
        if from.epoch > node.map.epoch || collecting {
            return Err(EAGAIN);
        }
        let mut count = 0u32;
        let mut len = 4;
        let entries = node.names.entries.iter().filter(|(id, _)| **id >= ask.from);
        for (_, entry) in entries {
            let Some(block) = reply
                .get_mut(len..)
                .and_then(|rest| rest.first_chunk_mut::<PAGE_SIZE>())
            else {
                break;
            };
            entry.record.encode(block)?;
            count += 1;
            len += PAGE_SIZE;
        }
        handler::put(&count, reply)?;
        Ok(len)
    })
}

/// Asks for records that we have missed: the CD, or, as the CD, everybody.
pub(super) async fn synchronize<H: Host>(host: &H, until: u64) -> Result {
    let mut sources = KVec::new();
    let epoch = host.with(|node| {
        let us = node.id();
        let dispatcher = node.map.dispatcher()?;
        let from = |id: u32| id != us && (dispatcher == us || dispatcher == id);
        for peer in node.map.up().filter(|peer| from(peer.id)) {
            sources.push(peer.id, GFP_KERNEL)?;
        }
        Ok::<_, Error>(node.map.epoch)
    })?;
    for source in &sources {
        match pull(host, *source, until).await {
            Ok(()) | Err(CallError::Handler(ENOTCONN)) => {}
            Err(CallError::NotExecuted(ENOENT | EHOSTDOWN)) => {}
            Err(error) => return Err(handler::errno(error)),
        }
    }
    host.with(|node| {
        if node.map.epoch == epoch {
            node.names.stale = false;
        }
        node.wake(GENERAL);
    });
    // What a node without its records, or a stale one, may have kept.
    let ids = host.with(|node| {
        let mut ids = KVec::new();
        for id in node.names.entries.keys() {
            ids.push(
                (*id, node.names.get(*id).map_or(0, |r| r.nr_pages())),
                GFP_KERNEL,
            )?;
        }
        Ok::<_, Error>(ids)
    })?;
    for (id, end) in &ids {
        drop_pages(host, *id, *end, until).await?;
    }
    Ok(())
}

impl Node {
    /// The CD finds a record that the one before it made, at another node: not all may have it.
    fn note_found(&mut self, record: &DatasetRecord) -> Result {
        let known = self.names.entries.get(&record.id);
        let newer = known.is_none_or(|known| known.record.generation < record.generation)
            && record.generation > self.names.forgotten;
        if newer
            && self.map.dispatcher() == Ok(self.id())
            && !self.names.unsent.contains(&record.id)
        {
            self.names.unsent.push(record.id, GFP_KERNEL)?;
            self.wake(WORKER);
        }
        Ok(())
    }
}

async fn pull<H: Host>(host: &H, source: u32, until: u64) -> Result<(), CallError> {
    let local = CallError::Handler;
    let (epoch, room) = host.with(|node| (node.map.epoch, node.config.max_msg));
    let room = room.min(64 << 10);
    let per_reply = (room - 4) / PAGE_SIZE;
    let mut from = 0;
    loop {
        let header = AskRecords { from }.encode(epoch).map_err(local)?;
        let mut request = KVec::new();
        request
            .push(Piece::Bytes(&header), GFP_KERNEL)
            .map_err(|_| local(ENOMEM))?;
        let call_until = handler::call_until(host, until);
        let mut calls = [handler::call(source, request, room, call_until).map_err(local)?];
        host.call(&mut calls).await;
        let [call] = calls;
        let count = handler::reply_of::<AskRecords>(&call)? as usize;
        let mut body = Reader::new(call.reply.get(4..call.answer?).unwrap_or(&[]));
        for _ in 0..count {
            let bytes = body.bytes(PAGE_SIZE).map_err(handler::unread)?;
            let record = decode(bytes).map_err(handler::unread)?;
            from = record.id + 1;
            host.with(|node| node.note_found(&record)).map_err(local)?;
            if let Err(error) = apply(host, record, until).await {
                host.log(
                    Level::Warning,
                    format_args!(
                        "could not take over a dataset record of node {source}: {error:?}"
                    ),
                );
                return Err(local(error));
            }
        }
        if count < per_reply {
            return Ok(());
        }
    }
}
