// SPDX-License-Identifier: GPL-2.0

//! Names of datasets. The central dispatcher (CD) decides, every node keeps all
//! records on its PM; the record with the higher generation is right.

use super::{
    commit,
    format::{
        dataset::{
            DatasetRecord, Mode, Name, MAX_CHUNK, MAX_NODES, MIN_CHUNK, WINDOW_END, WINDOW_START,
        },
        Block, Timestamp, PAGE_BYTES, PAGE_SIZE,
    },
    handler,
    host::{CallError, Host, Level, PageKey, Piece, Sleep},
    msg::{wire_struct, AskRecords, ChangeNames, Reader, Request, SetRecord, Wire, Writer},
    node::{Node, GENERAL, WORKER},
    persist::Batch,
    space::Space,
    truncate::drop_pages,
};
use kernel::{prelude::*, rbtree::RBTree};

/// Default bytes of a chunk.
pub const DEFAULT_CHUNK: u64 = 4 << 20;
/// Default bytes of addresses.
pub const DEFAULT_RESERVE: u64 = 16 << 30;

/// A dataset to make; 0 takes the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDataset {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub permissions: u32,
    /// Degree of replication.
    pub replicas: u32,
    /// `enum hotpot_mode`.
    pub mode: u32,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Bytes of addresses.
    pub reserve: u64,
    /// Now.
    pub time: Timestamp,
}

/// What to change of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Now.
    pub time: Timestamp,
    /// Bytes.
    pub size: Option<u64>,
    /// `size` is a lower bound: a larger dataset stays as it is.
    pub grow_only: bool,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permission bits.
    pub permissions: Option<u32>,
    /// Time of the last change of data.
    pub modified: Option<Timestamp>,
    /// Degree of replication; like what follows only while the size is 0 (EBUSY).
    pub replicas: Option<u32>,
    /// `enum hotpot_mode`.
    pub mode: Option<u32>,
    /// Bytes of a chunk.
    pub chunk_size: Option<u64>,
    /// Bytes of addresses.
    pub reserve: Option<u64>,
}

/// A change of names, as it goes to the CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameChange<'a> {
    /// Make a dataset. EEXIST.
    Create {
        /// Its name.
        name: &'a [u8],
        /// Its properties.
        new: NewDataset,
    },
    /// Remove it. ENOENT.
    Unlink {
        /// Its name.
        name: &'a [u8],
        /// Now.
        time: Timestamp,
    },
    /// Give it another name. ENOENT; EEXIST unless `replace`.
    Rename {
        /// Its name.
        from: &'a [u8],
        /// The other.
        to: &'a [u8],
        /// Remove what has the other name.
        replace: bool,
        /// Now.
        time: Timestamp,
    },
    /// Change its properties. ENOENT.
    Change {
        /// Its id.
        dataset: u64,
        /// How.
        change: Change,
    },
}

impl<'a> Wire<'a> for NameChange<'a> {
    fn put(&self, to: &mut Writer) -> Result {
        match self {
            NameChange::Create { name, new } => {
                to.u8(0)?;
                name.put(to)?;
                new.put(to)
            }
            NameChange::Unlink { name, time } => {
                to.u8(1)?;
                name.put(to)?;
                time.put(to)
            }
            NameChange::Rename {
                from,
                to: name,
                replace,
                time,
            } => {
                to.u8(2)?;
                from.put(to)?;
                name.put(to)?;
                replace.put(to)?;
                time.put(to)
            }
            NameChange::Change { dataset, change } => {
                to.u8(3)?;
                dataset.put(to)?;
                change.put(to)
            }
        }
    }

    fn get(from: &mut Reader<'a>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => NameChange::Create {
                name: Wire::get(from)?,
                new: Wire::get(from)?,
            },
            1 => NameChange::Unlink {
                name: Wire::get(from)?,
                time: Wire::get(from)?,
            },
            2 => NameChange::Rename {
                from: Wire::get(from)?,
                to: Wire::get(from)?,
                replace: Wire::get(from)?,
                time: Wire::get(from)?,
            },
            3 => NameChange::Change {
                dataset: Wire::get(from)?,
                change: Wire::get(from)?,
            },
            _ => return Err(EBADMSG),
        })
    }
}

wire_struct!(NewDataset {
    uid,
    gid,
    permissions,
    replicas,
    mode,
    chunk_size,
    reserve,
    time
});
wire_struct!(Change {
    time,
    size,
    grow_only,
    uid,
    gid,
    permissions,
    modified,
    replicas,
    mode,
    chunk_size,
    reserve
});

struct Entry {
    record: DatasetRecord,
    /// Pair of records on PM, and the copy that the next update writes.
    pair: u64,
    next: u8,
}

/// All datasets that the node knows, removed ones too.
pub struct Names {
    entries: RBTree<u64, Entry>,
    pairs: Space,
    /// There may be records that we have not seen: the CD has to be asked.
    pub(super) stale: bool,
    /// A record is being written.
    writing: bool,
    /// At the CD: a change is being made.
    changing: bool,
    /// At the CD: records that not all nodes have.
    pub(super) unsent: KVec<u64>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            entries: RBTree::new(),
            pairs: Space::default(),
            stale: true,
            writing: false,
            changing: false,
            unsent: KVec::new(),
        }
    }
}

impl Names {
    /// Begins with `pairs` pairs of records on PM.
    pub(super) fn with_pairs(pairs: u64) -> Result<Self> {
        Ok(Self {
            pairs: Space::new(pairs)?,
            ..Self::default()
        })
    }

    /// Takes over what mount found; `None` for a pair that cannot be read.
    pub(super) fn found(&mut self, pair: u64, record: Option<(DatasetRecord, u8)>) -> Result {
        self.pairs.mark(pair);
        if let Some((record, next)) = record {
            let entry = Entry { record, pair, next };
            self.entries
                .try_create_and_insert(entry.record.id, entry, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// A dataset by id. ENOENT; EAGAIN while we may have missed it.
    pub fn get(&self, id: u64) -> Result<&DatasetRecord> {
        match self.entries.get(&id) {
            Some(entry) if !entry.record.tombstone => Ok(&entry.record),
            None if self.stale => Err(EAGAIN),
            _ => Err(ENOENT),
        }
    }

    /// A dataset by name.
    pub fn lookup(&self, name: &[u8]) -> Option<&DatasetRecord> {
        self.live().find(|record| record.name.as_bytes() == name)
    }

    /// Datasets that there are.
    pub fn count(&self) -> usize {
        self.live().count()
    }

    /// The dataset with the lowest id above `id`: the next entry of the directory.
    pub fn after(&self, id: u64) -> Option<&DatasetRecord> {
        self.live().find(|record| record.id > id)
    }

    fn live(&self) -> impl Iterator<Item = &DatasetRecord> {
        self.entries
            .values()
            .map(|entry| &entry.record)
            .filter(|record| !record.tombstone)
    }

    /// Whether a dataset was removed.
    pub(super) fn is_removed(&self, id: u64) -> bool {
        self.entries
            .get(&id)
            .is_some_and(|entry| entry.record.tombstone)
    }

    /// The owner of a page, whether or not the dataset reaches that far.
    pub fn owner(&self, key: PageKey) -> Result<u32> {
        let record = self.get(key.dataset)?;
        let chunk = key.page.saturating_mul(PAGE_BYTES) / record.chunk_size.max(1);
        let at = chunk % record.nodes.len().max(1) as u64;
        let node = record.nodes.get(at as usize).copied().ok_or(EUCLEAN)?;
        Ok(u32::from(node))
    }

    /// The owner of a page that exists. EFAULT beyond the end.
    pub(super) fn check(&self, key: PageKey) -> Result<u32> {
        let record = self.get(key.dataset)?;
        if key.page >= record.nr_pages() {
            return Err(if self.stale { EAGAIN } else { EFAULT });
        }
        self.owner(key)
    }

    fn generation(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| entry.record.generation)
            .max()
            .unwrap_or(0)
    }

    /// A free range of addresses, first fit, aligned to 2 MiB and the chunk.
    fn find_base(&self, reserve: u64, chunk_size: u64, but: u64) -> Result<u64> {
        let align = chunk_size.max(2 << 20);
        let mut base = WINDOW_START;
        loop {
            let end = base.checked_add(reserve).filter(|end| *end <= WINDOW_END);
            let end = end.ok_or(ENOSPC)?;
            let taken = self
                .live()
                .filter(|other| other.id != but)
                .find(|other| other.base < end && base < other.base + other.reserve);
            match taken {
                None => return Ok(base),
                Some(other) => base = (other.base + other.reserve).next_multiple_of(align),
            }
        }
    }
}

/// Makes a dataset; its id. EINVAL for no name, ENAMETOOLONG, EEXIST.
pub async fn create<H: Host>(host: &H, name: &[u8], new: &NewDataset, until: u64) -> Result<u64> {
    send(host, &NameChange::Create { name, new: *new }, until).await
}

/// Removes a dataset and its pages on all nodes.
pub async fn unlink<H: Host>(host: &H, name: &[u8], time: Timestamp, until: u64) -> Result {
    send(host, &NameChange::Unlink { name, time }, until)
        .await
        .map(|_| ())
}

/// Gives a dataset another name.
pub async fn rename<H: Host>(
    host: &H,
    from: &[u8],
    to: &[u8],
    replace: bool,
    time: Timestamp,
    until: u64,
) -> Result {
    let change = NameChange::Rename {
        from,
        to,
        replace,
        time,
    };
    send(host, &change, until).await.map(|_| ())
}

/// Changes properties of a dataset; a smaller size drops what is beyond, on all nodes.
pub async fn change<H: Host>(host: &H, dataset: u64, change: &Change, until: u64) -> Result {
    if let Some(size) = change.size {
        let old = host.with(|node| node.names.get(dataset).map(|record| record.size))?;
        let tail = size
            .next_multiple_of(PAGE_BYTES)
            .min(old)
            .saturating_sub(size);
        if !change.grow_only && size < old && tail > 0 {
            // Whoever grows it again finds zeros.
            let zeros = KVec::from_elem(0u8, tail as usize, GFP_KERNEL)?;
            commit::write(host, dataset, size, &zeros, change.time, until).await?;
        }
    }
    let change = NameChange::Change {
        dataset,
        change: *change,
    };
    send(host, &change, until).await.map(|_| ())
}

/// Has a dataset reach at least to `size`. EFBIG beyond its reservation.
pub async fn extend<H: Host>(
    host: &H,
    dataset: u64,
    size: u64,
    time: Timestamp,
    until: u64,
) -> Result {
    let change = NameChange::Change {
        dataset,
        change: Change {
            time,
            size: Some(size),
            grow_only: true,
            ..Change::default()
        },
    };
    send(host, &change, until).await.map(|_| ())
}

async fn send<H: Host>(host: &H, change: &NameChange<'_>, until: u64) -> Result<u64> {
    check_names(change)?;
    let here = host.with(|node| {
        node.check_ready()?;
        let dispatcher = node.map.dispatcher()?;
        Ok::<_, Error>((dispatcher != node.id()).then_some(dispatcher))
    })?;
    match here {
        None => change_at_dispatcher(host, change, until).await,
        Some(dispatcher) => {
            let request = ChangeNames {
                change: *change,
                budget_ms: handler::budget_ms(host, until),
            };
            handler::ask(host, dispatcher, &request, until)
                .await
                .map_err(handler::errno)
        }
    }
}

fn check_names(change: &NameChange<'_>) -> Result {
    let check = |name: &[u8]| match Name::new(name) {
        Some(_) => Ok(()),
        None if name.len() > super::format::dataset::NAME_MAX => Err(ENAMETOOLONG),
        None => Err(EINVAL),
    };
    match change {
        NameChange::Create { name, .. } | NameChange::Unlink { name, .. } => check(name),
        NameChange::Rename { from, to, .. } => check(from).and(check(to)),
        NameChange::Change { .. } => Ok(()),
    }
}

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
    let (id, records) = host.with(|node| node.plan_change(change))?;
    let mut result = Ok(id);
    for record in records {
        let id = record.id;
        let mut block = Block::zeroed()?;
        record.encode(block.array_mut()?)?;
        apply(host, record, until).await?;
        if let Err(error) = multicast(host, &block[..], until).await {
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
    result
}

/// At the CD: brings records that some node did not get to all nodes.
pub(super) async fn send_unsent<H: Host>(host: &H, until: u64) -> Result {
    loop {
        let next = host.with(|node| {
            let id = *node.names.unsent.first()?;
            let mut block = Block::zeroed().ok()?;
            node.names
                .entries
                .get(&id)?
                .record
                .encode(block.array_mut().ok()?)
                .ok()?;
            Some((id, block))
        });
        let Some((id, block)) = next else {
            return Ok(());
        };
        multicast(host, &block[..], until).await?;
        host.with(|node| node.names.unsent.retain(|other| *other != id));
    }
}

async fn multicast<H: Host>(host: &H, record: &[u8], until: u64) -> Result {
    let (epoch, nodes) = host.with(|node| {
        let us = node.id();
        let mut nodes = KVec::new();
        for peer in node.map.up().filter(|peer| peer.id != us) {
            nodes.push(peer.id, GFP_KERNEL)?;
        }
        Ok::<_, Error>((node.map.epoch, nodes))
    })?;
    let header = SetRecord { record }.encode(epoch)?;
    let until = handler::call_until(host, until);
    let mut calls = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    for dst in &nodes {
        let mut request = KVec::with_capacity(1, GFP_KERNEL)?;
        request.push(Piece::Bytes(&header), GFP_KERNEL)?;
        calls.push(handler::call(*dst, request, 64, until)?, GFP_KERNEL)?;
    }
    host.call(&mut calls).await;
    let mut result = Ok(());
    for call in &calls {
        match handler::reply_of::<SetRecord<'_>>(call) {
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
        };
        Ok((id, records))
    }

    fn new_record(&self, name: &[u8], new: &NewDataset) -> Result<DatasetRecord> {
        let or = |value: u64, default: u64| if value == 0 { default } else { value };
        let chunk_size = or(new.chunk_size, DEFAULT_CHUNK);
        let reserve = or(new.reserve, DEFAULT_RESERVE);
        let mode = mode_of(if new.mode == 0 { 1 } else { new.mode })?;
        check_layout(chunk_size, reserve)?;
        let last = self.names.entries.keys().last().copied().unwrap_or(0);
        let id = last + 1;
        let mut nodes = KVec::new();
        for peer in self.map.up() {
            nodes.push(peer.id as u16, GFP_KERNEL)?;
        }
        nodes.sort_unstable();
        nodes.truncate(MAX_NODES);
        if nodes.is_empty() {
            return Err(EHOSTDOWN);
        }
        // Small datasets do not all go to the same node.
        let turn = (id % nodes.len() as u64) as usize;
        nodes.rotate_left(turn);
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
                // An owner that is away would bring back what was cut off.
                let all_up = old.nodes.iter().all(|id| self.is_up(u32::from(*id)));
                if !all_up {
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

fn mode_of(number: u32) -> Result<Mode> {
    match Mode::from_number(number) {
        Some(Mode::Mrmw) => Ok(Mode::Mrmw),
        Some(Mode::Mrsw) => Err(EOPNOTSUPP),
        None => Err(EINVAL),
    }
}

fn check_layout(chunk_size: u64, reserve: u64) -> Result {
    let chunk = chunk_size.is_power_of_two() && (MIN_CHUNK..=MAX_CHUNK).contains(&chunk_size);
    match chunk && reserve != 0 && reserve % chunk_size == 0 {
        true => Ok(()),
        false => Err(EINVAL),
    }
}

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
async fn apply<H: Host>(host: &H, mut record: DatasetRecord, until: u64) -> Result {
    enum Step {
        Old,
        Wait(super::host::Ticket),
        Write { pair: u64, first: u8, both: bool },
    }
    let id = record.id;
    loop {
        let step = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            let names = &mut node.names;
            if names.writing {
                return Ok(Step::Wait(ticket));
            }
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
                None => {
                    record.sequence = 1;
                    Step::Write {
                        pair: names.pairs.take().ok_or(ENOSPC)?,
                        first: 0,
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
                    written?;
                    let entry = Entry {
                        record,
                        pair,
                        next: 1 - first,
                    };
                    node.names
                        .entries
                        .try_create_and_insert(id, entry, GFP_KERNEL)?;
                    Ok::<_, Error>(())
                })?;
                break;
            }
        }
    }
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

/// Answers with records.
pub(super) fn on_ask_records<H: Host>(
    host: &H,
    ask: &AskRecords,
    reply: &mut [u8],
) -> Result<usize> {
    host.with(|node| {
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
            let bytes = body.bytes(PAGE_SIZE).map_err(|_| CallError::Lost)?;
            let record = decode(bytes).map_err(|_| CallError::Lost)?;
            from = record.id + 1;
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
