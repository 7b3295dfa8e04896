// SPDX-License-Identifier: GPL-2.0

//! Names of datasets. The central dispatcher (CD) decides, every node keeps all
//! records on its PM; the record with the higher generation is right.

use super::{
    area::ByteRange,
    commit,
    dispatcher::change_at_dispatcher,
    format::{
        dataset::{DatasetRecord, Mode, Moved, Name, NOBODY, WINDOW_END, WINDOW_START},
        Timestamp, PAGE_BYTES,
    },
    grants, handler,
    host::{Host, PageKey},
    msg::ChangeNames,
    space::Space,
    tombstones::Retired,
};
use kernel::{prelude::*, rbtree::RBTree};

pub use super::name_change::{Change, NameChange, NewDataset, DEFAULT_CHUNK, DEFAULT_RESERVE};

pub(super) struct Entry {
    pub(super) record: DatasetRecord,
    /// Pair of records on PM, and the copy that the next update writes.
    pub(super) pair: u64,
    pub(super) next: u8,
}

/// All datasets that the node knows, removed ones too.
pub struct Names {
    pub(super) entries: RBTree<u64, Entry>,
    pub(super) pairs: Space,
    /// There may be records that we have not seen: the CD has to be asked.
    pub(super) stale: bool,
    /// A record is being written.
    pub(super) writing: bool,
    /// At the CD: a change is being made.
    pub(super) changing: bool,
    /// At the CD: records that not all nodes have.
    pub(super) unsent: KVec<u64>,
    /// Pairs of forgotten tombstones.
    pub(super) retired: KVec<Retired>,
    /// The highest generation that was forgotten since mount.
    pub(super) forgotten: u64,
    /// Nodes that are out: what they owned the next ones own.
    pub(super) out: KVec<u16>,
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
            retired: KVec::new(),
            forgotten: 0,
            out: KVec::new(),
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

    /// The owner of a page, whether or not the dataset reaches that far: to whom its chunk has
    /// moved, else round robin, and for a node that is out its successor. EHOSTDOWN when all are.
    pub fn owner(&self, key: PageKey) -> Result<u32> {
        let record = self.get(key.dataset)?;
        let chunk = chunk_of(record, key);
        if let Some(moved) = record.moved(chunk) {
            if !self.out.contains(&moved.node) {
                return Ok(u32::from(moved.node));
            }
        }
        self.owner_by_row(record, chunk)
    }

    /// Whether a page has the owner that it has because another one is out.
    pub(super) fn is_inherited(&self, key: PageKey) -> bool {
        self.appointed(key).is_some_and(|id| self.out.contains(&id))
    }

    /// The node that owns a page unless it is out.
    pub(super) fn appointed(&self, key: PageKey) -> Option<u16> {
        let record = self.get(key.dataset).ok()?;
        if let Some(moved) = record.moved(chunk_of(record, key)) {
            return Some(moved.node);
        }
        let first = first_choice(record, key).ok()?;
        record.nodes.get(first).copied()
    }

    /// Whether a page belongs to a node since its dataset was made, by the row of its nodes.
    pub(super) fn is_of_row(&self, key: PageKey, node: u16) -> bool {
        let Ok(record) = self.get(key.dataset) else {
            return false;
        };
        record.moved(chunk_of(record, key)).is_none() && self.appointed(key) == Some(node)
    }

    /// The chunk of a page that is on its way to its owner.
    pub(super) fn arriving(&self, key: PageKey) -> Option<Moved> {
        let record = self.get(key.dataset).ok()?;
        let moved = record.moved(chunk_of(record, key))?;
        let open = moved.from != NOBODY && !self.out.contains(&moved.node);
        open.then_some(moved)
    }

    /// The dataset and chunk of a page.
    pub(super) fn chunk(&self, key: PageKey) -> Result<(u64, u64)> {
        let record = self.get(key.dataset)?;
        Ok((key.dataset, chunk_of(record, key)))
    }

    /// Whether `node` owns chunks of nodes that are out of a dataset with one copy of each page.
    pub(super) fn inherits_alone(&self, node: u32) -> bool {
        let mut alone = self.live().filter(|record| record.replicas == 1);
        alone.any(|record| {
            let chunks = record.size.div_ceil(record.chunk_size.max(1));
            // Then successors come again.
            let turns = (record.nodes.len() as u64).saturating_pow(2);
            (0..chunks.min(turns)).any(|chunk| {
                let (key, _) = pages_of(record, chunk);
                self.is_inherited(key) && self.owner(key) == Ok(node)
            })
        })
    }

    /// The owner of a page that exists. EFAULT beyond the end.
    pub(super) fn check(&self, key: PageKey) -> Result<u32> {
        let record = self.get(key.dataset)?;
        if key.page >= record.nr_pages() {
            return Err(if self.stale { EAGAIN } else { EFAULT });
        }
        self.owner(key)
    }

    pub(super) fn generation(&self) -> u64 {
        self.entries
            .values()
            .map(|entry| entry.record.generation)
            .max()
            .unwrap_or(0)
    }

    /// A free range of addresses, first fit, aligned to 2 MiB and the chunk.
    pub(super) fn find_base(&self, reserve: u64, chunk_size: u64, but: u64) -> Result<u64> {
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

fn chunk_of(record: &DatasetRecord, key: PageKey) -> u64 {
    key.page.saturating_mul(PAGE_BYTES) / record.chunk_size.max(1)
}

/// The pages of a chunk: the first one, and how many it may have.
pub(super) fn pages_of(record: &DatasetRecord, chunk: u64) -> (PageKey, u64) {
    let count = record.chunk_size / PAGE_BYTES;
    let first = PageKey {
        dataset: record.id,
        page: chunk.saturating_mul(count),
    };
    (first, count)
}

/// The row's owner of a chunk.
pub(super) fn row_owner(record: &DatasetRecord, chunk: u64) -> Option<u16> {
    let at = first_choice(record, pages_of(record, chunk).0).ok()?;
    record.nodes.get(at).copied()
}

/// Place in the record's nodes of the one that owns a page first.
fn first_choice(record: &DatasetRecord, key: PageKey) -> Result<usize> {
    let chunk = chunk_of(record, key);
    match record.nodes.len() {
        0 => Err(EUCLEAN),
        count => Ok((chunk % count as u64) as usize),
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
            write_tail(host, dataset, size, tail, change.time, until).await?;
        }
    }
    let change = NameChange::Change {
        dataset,
        change: *change,
    };
    send(host, &change, until).await.map(|_| ())
}

/// Commits zeros, as the writer of the page where the mode wants one.
async fn write_tail<H: Host>(
    host: &H,
    dataset: u64,
    offset: u64,
    len: u64,
    time: Timestamp,
    until: u64,
) -> Result {
    let zeros = KVec::from_elem(0u8, len as usize, GFP_KERNEL)?;
    let (mode, opener) = host.with(|node| {
        let mode = node.names.get(dataset)?.mode;
        Ok::<_, Error>((mode, node.new_opener()))
    })?;
    let tail = [ByteRange { offset, len }];
    if mode == Mode::Mrsw {
        grants::acquire(host, opener, dataset, &tail, true, until).await?;
    }
    let written = commit::write(host, opener, dataset, offset, &zeros, time, until).await;
    if mode == Mode::Mrsw {
        grants::abort(host, opener, dataset, &tail, until).await?;
    }
    written
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

/// Has the CD make a change.
pub(super) async fn send<H: Host>(host: &H, change: &NameChange<'_>, until: u64) -> Result<u64> {
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

pub(super) fn check_names(change: &NameChange<'_>) -> Result {
    let check = |name: &[u8]| match Name::new(name) {
        Some(_) => Ok(()),
        None if name.len() > super::format::dataset::NAME_MAX => Err(ENAMETOOLONG),
        None => Err(EINVAL),
    };
    match change {
        NameChange::Create { name, .. } | NameChange::Unlink { name, .. } => check(name),
        NameChange::Rename { from, to, .. } => check(from).and(check(to)),
        NameChange::Change { .. }
        | NameChange::Move { .. }
        | NameChange::Appoint { .. }
        | NameChange::Arrived { .. } => Ok(()),
    }
}
