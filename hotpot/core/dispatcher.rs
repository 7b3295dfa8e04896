// SPDX-License-Identifier: GPL-2.0

//! The central dispatcher (CD): plans each change of the names, keeps the new records and
//! has all nodes keep them before it answers.

use super::{
    format::{
        dataset::{DatasetRecord, Mode, Moved, Name, MAX_CHUNK, MIN_CHUNK, NOBODY},
        Block, Timestamp,
    },
    handler,
    host::{CallError, Host, Sleep},
    msg::SetRecord,
    names::{
        check_names, pages_of, row_owner, Change, NameChange, NewDataset, DEFAULT_CHUNK,
        DEFAULT_RESERVE,
    },
    node::{Node, GENERAL, WORKER},
    records::{apply, synchronize},
    survey, tombstones,
    truncate::drop_pages,
};
use kernel::prelude::*;

/// At the CD: makes a change, and has all nodes keep it before it answers.
pub(super) async fn change_at_dispatcher<H: Host>(
    host: &H,
    change: &NameChange<'_>,
    until: u64,
) -> Result<u64> {
    check_names(change)?;
    loop {
        let ticket = host.with(|node| {
            if node.map.dispatcher()? != node.id() {
                return Err(ESTALE);
            }
            let ticket = node.ticket(GENERAL);
            let free = !node.names.changing;
            node.names.changing = true;
            Ok((!free).then_some(ticket))
        })?;
        let Some(ticket) = ticket else {
            break;
        };
        if host.now() >= until {
            return Err(ETIMEDOUT);
        }
        host.wait(ticket, until, Sleep::Uninterruptible).await?;
    }
    let result = make_change(host, change, until).await;
    host.with(|node| {
        node.names.changing = false;
        node.wake(GENERAL);
    });
    result
}

async fn make_change<H: Host>(host: &H, change: &NameChange<'_>, until: u64) -> Result<u64> {
    while host.with(|node| node.names.stale) {
        synchronize(host, until).await?;
        if host.now() >= until {
            return Err(ETIMEDOUT);
        }
    }
    // Not needed for the change; it is tried again with the next one.
    let _ = tombstones::retire(host, until).await;
    let (id, records) = host.with(|node| node.plan_change(change))?;
    let mut result = Ok(id);
    // What we have kept all have to hear of: first all that can fail.
    let mut changes = KVec::with_capacity(records.len(), GFP_KERNEL)?;
    for record in records {
        let mut block = Block::zeroed()?;
        record.encode(block.array_mut()?)?;
        changes.push((record, block), GFP_KERNEL)?;
    }
    host.with(|node| node.names.unsent.reserve(changes.len(), GFP_KERNEL))?;
    for (record, block) in changes {
        let (id, generation) = (record.id, record.generation);
        let applied = apply(host, record, until).await;
        let entry = |node: &mut Node| {
            let known = node.names.entries.get(&id);
            known.is_some_and(|known| known.record.generation >= generation)
        };
        if applied.is_err() && !host.with(entry) {
            return applied.map(|()| id);
        }
        let sent = multicast(host, &block[..], until).await;
        if let Err(error) = applied.and(sent) {
            host.with(|node| {
                if !node.names.unsent.contains(&id) {
                    node.names.unsent.push(id, GFP_KERNEL)?;
                }
                node.wake(WORKER);
                Ok::<_, Error>(())
            })?;
            result = Err(error);
        }
    }
    host.with(|node| {
        // A dataset has grown whose nodes are all out.
        if node.has_ownerless() {
            node.wake(WORKER);
        }
    });
    result
}

/// At the CD: brings records that some node did not get to all nodes, and drops what they cut off here.
pub(super) async fn send_unsent<H: Host>(host: &H, until: u64) -> Result {
    loop {
        let next = host.with(|node| {
            let id = *node.names.unsent.first()?;
            let mut block = Block::zeroed().ok()?;
            let record = &node.names.entries.get(&id)?.record;
            record.encode(block.array_mut().ok()?).ok()?;
            let end = node.names.get(id).map_or(0, |record| record.nr_pages());
            Some((id, block, end))
        });
        let Some((id, block, end)) = next else {
            return Ok(());
        };
        drop_pages(host, id, end, until).await?;
        multicast(host, &block[..], until).await?;
        host.with(|node| node.names.unsent.retain(|other| *other != id));
    }
}

async fn multicast<H: Host>(host: &H, record: &[u8], until: u64) -> Result {
    let others = host.with(|node| node.others())?;
    let until = handler::call_until(host, until);
    let mut result = Ok(());
    for answer in &survey::each(host, &others, &SetRecord { record }, until).await? {
        match *answer {
            Ok(()) => {}
            // Not mounted: it asks when it is.
            Err(CallError::Handler(ENOTCONN)) | Err(CallError::NotExecuted(ENOENT | EHOSTDOWN)) => {
            }
            Err(error) => result = Err(handler::errno(error)),
        }
    }
    result
}

impl Node {
    /// The records that a change makes, and the id of the dataset.
    fn plan_change(&self, change: &NameChange<'_>) -> Result<(u64, KVec<DatasetRecord>)> {
        let names = &self.names;
        let mut records = KVec::new();
        let mut generation = names.generation();
        let mut add = |mut record: DatasetRecord, time: Timestamp| {
            generation += 1;
            record.generation = generation;
            record.changed = time;
            let id = record.id;
            records.push(record, GFP_KERNEL).map(|()| id)
        };
        let id = match change {
            NameChange::Create { name, new } => {
                if names.lookup(name).is_some() {
                    return Err(EEXIST);
                }
                add(self.new_record(name, new)?, new.time)?
            }
            NameChange::Unlink { name, time } => {
                let mut record = names.lookup(name).ok_or(ENOENT)?.try_clone()?;
                record.tombstone = true;
                add(record, *time)?
            }
            NameChange::Rename {
                from,
                to,
                replace,
                time,
            } => {
                let mut record = names.lookup(from).ok_or(ENOENT)?.try_clone()?;
                if let Some(other) = names.lookup(to).filter(|other| other.id != record.id) {
                    if !replace {
                        return Err(EEXIST);
                    }
                    let mut other = other.try_clone()?;
                    other.tombstone = true;
                    add(other, *time)?;
                }
                record.name = Name::new(to).ok_or(EINVAL)?;
                add(record, *time)?
            }
            NameChange::Change { dataset, change } => {
                let old = names.get(*dataset)?;
                match self.changed_record(old, change)? {
                    Some(record) => add(record, change.time)?,
                    None => *dataset,
                }
            }
            NameChange::Move {
                dataset,
                chunk,
                from,
                to,
            } => {
                let record = self.moved_record(names.get(*dataset)?, *chunk, *from, *to)?;
                let time = record.changed;
                add(record, time)?
            }
            NameChange::Appoint {
                dataset,
                chunk,
                node,
            } => match self.appointed_record(names.get(*dataset)?, *chunk, *node)? {
                Some(record) => {
                    let time = record.changed;
                    add(record, time)?
                }
                None => *dataset,
            },
            NameChange::Arrived {
                dataset,
                chunk,
                node,
            } => match arrived_record(names.get(*dataset)?, *chunk, *node)? {
                Some(record) => {
                    let time = record.changed;
                    add(record, time)?
                }
                None => *dataset,
            },
        };
        Ok((id, records))
    }

    /// A chunk gets another owner, which is to take it over.
    fn moved_record(
        &self,
        old: &DatasetRecord,
        chunk: u32,
        from: u16,
        to: u16,
    ) -> Result<DatasetRecord> {
        let (first, _) = pages_of(old, u64::from(chunk));
        // One that is on its way may go back.
        let arriving = self.names.arriving(first);
        if self.names.owner(first)? != u32::from(from)
            || self.names.is_inherited(first)
            || arriving.is_some_and(|of| of.from != to)
        {
            return Err(ESTALE);
        }
        if to == NOBODY || from == to || first.page >= old.nr_pages() {
            return Err(EINVAL);
        }
        if !self.is_up(u32::from(to)) || !self.is_up(u32::from(from)) {
            return Err(EHOSTDOWN);
        }
        with_moved(
            old,
            Moved {
                chunk,
                node: to,
                from,
            },
        )
    }

    /// A chunk without an owner gets one; `None` when it has one.
    fn appointed_record(
        &self,
        old: &DatasetRecord,
        chunk: u32,
        node: u16,
    ) -> Result<Option<DatasetRecord>> {
        let (first, _) = pages_of(old, u64::from(chunk));
        if self.names.owner(first).is_ok() || first.page >= old.nr_pages() {
            return Ok(None);
        }
        if node == NOBODY || !self.is_up(u32::from(node)) {
            return Err(EHOSTDOWN);
        }
        let from = self.names.appointed(first).ok_or(EUCLEAN)?;
        with_moved(old, Moved { chunk, node, from }).map(Some)
    }

    fn new_record(&self, name: &[u8], new: &NewDataset) -> Result<DatasetRecord> {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let chunk_size = or(new.chunk_size, DEFAULT_CHUNK);
        let reserve = or(new.reserve, DEFAULT_RESERVE);
        let mode = mode_of(if new.mode == 0 { 1 } else { new.mode })?;
        check_layout(chunk_size, reserve)?;
        let last = self.names.entries.keys().last().copied().unwrap_or(0);
        let id = last + 1;
        let nodes = self.place(id)?;
        Ok(DatasetRecord {
            sequence: 1,
            id,
            generation: 1,
            tombstone: false,
            name: Name::new(name).ok_or(EINVAL)?,
            uid: new.uid,
            gid: new.gid,
            permissions: new.permissions & 0o7777,
            size: 0,
            base: self.names.find_base(reserve, chunk_size, id)?,
            reserve,
            chunk_size,
            replicas: new.replicas.max(1),
            mode,
            created: new.time,
            modified: new.time,
            changed: new.time,
            nodes,
            moved: KVec::new(),
        })
    }

    /// `None` when nothing is to change.
    fn changed_record(
        &self,
        old: &DatasetRecord,
        change: &Change,
    ) -> Result<Option<DatasetRecord>> {
        let mut record = old.try_clone()?;
        let setup = change.replicas.is_some()
            || change.mode.is_some()
            || change.chunk_size.is_some()
            || change.reserve.is_some();
        if setup && old.size != 0 {
            return Err(EBUSY);
        }
        if let Some(size) = change.size {
            if size > old.reserve {
                return Err(EFBIG);
            }
            if change.grow_only && size <= old.size {
                return Ok(None);
            }
            if size < old.size {
                // An owner that is away would bring back what was cut off; one that is out never will.
                let moved = old.moved.iter().map(|of| &of.node);
                let mut owners = Iterator::chain(old.nodes.iter(), moved).map(|id| u32::from(*id));
                if !owners.all(|id| self.is_up(id) || self.is_out(id)) {
                    return Err(EHOSTDOWN);
                }
            }
            if size > old.size && self.names.unsent.contains(&old.id) {
                // Somebody may not have cut it off yet.
                return Err(EAGAIN);
            }
            record.size = size;
            record.modified = change.time;
        }
        record.uid = change.uid.unwrap_or(old.uid);
        record.gid = change.gid.unwrap_or(old.gid);
        record.permissions = change.permissions.unwrap_or(old.permissions) & 0o7777;
        record.modified = change.modified.unwrap_or(record.modified);
        record.replicas = change.replicas.unwrap_or(old.replicas);
        record.mode = change.mode.map_or(Ok(old.mode), mode_of)?;
        record.chunk_size = change.chunk_size.unwrap_or(old.chunk_size);
        record.reserve = change.reserve.unwrap_or(old.reserve);
        check_layout(record.chunk_size, record.reserve)?;
        if record.replicas == 0 {
            return Err(EINVAL);
        }
        if record.reserve != old.reserve || record.chunk_size != old.chunk_size {
            record.base = self
                .names
                .find_base(record.reserve, record.chunk_size, old.id)?;
        }
        Ok(Some(record))
    }
}

/// A record that says that a chunk moves. ENOSPC: there is no room for one more.
fn with_moved(old: &DatasetRecord, moved: Moved) -> Result<DatasetRecord> {
    let mut record = old.try_clone()?;
    match record
        .moved
        .binary_search_by_key(&moved.chunk, |of| of.chunk)
    {
        Ok(at) => {
            if let Some(of) = record.moved.get_mut(at) {
                *of = moved;
            }
        }
        Err(at) => {
            if record.room_to_move() == 0 {
                return Err(ENOSPC);
            }
            record.moved.push(moved, GFP_KERNEL)?;
            if let Some(behind) = record.moved.get_mut(at..) {
                behind.rotate_right(1);
            }
        }
    }
    Ok(record)
}

/// A chunk is with its new owner; `None` when that was known.
fn arrived_record(old: &DatasetRecord, chunk: u32, node: u16) -> Result<Option<DatasetRecord>> {
    let here = |of: &Moved| of.node == node && of.from != NOBODY;
    if !old.moved(u64::from(chunk)).as_ref().is_some_and(here) {
        return Ok(None);
    }
    let mut record = old.try_clone()?;
    if row_owner(old, u64::from(chunk)) == Some(node) {
        // It is back.
        record.moved.retain(|of| of.chunk != chunk);
    } else if let Some(of) = record.moved.iter_mut().find(|of| of.chunk == chunk) {
        of.from = NOBODY;
    }
    Ok(Some(record))
}

fn mode_of(number: u32) -> Result<Mode> {
    Mode::from_number(number).ok_or(EINVAL)
}

fn check_layout(chunk_size: u64, reserve: u64) -> Result {
    let chunk = chunk_size.is_power_of_two() && (MIN_CHUNK..=MAX_CHUNK).contains(&chunk_size);
    match chunk && reserve != 0 && reserve % chunk_size == 0 {
        true => Ok(()),
        false => Err(EINVAL),
    }
}
