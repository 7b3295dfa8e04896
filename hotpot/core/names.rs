// SPDX-License-Identifier: GPL-2.0

//! Names of datasets. The central dispatcher (CD) decides, every node keeps all
//! records on its PM; the record with the higher generation is right.

use super::{
    area::ByteRange,
    commit,
    dispatcher::change_at_dispatcher,
    format::{
        dataset::{DatasetRecord, Mode, Name, WINDOW_END, WINDOW_START},
        Timestamp, PAGE_BYTES,
    },
    grants, handler,
    host::{Host, PageKey},
    msg::{wire_struct, ChangeNames, Reader, Wire, Writer},
    space::Space,
    tombstones::Retired,
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

    /// The owner of a page, whether or not the dataset reaches that far: round robin, past the
    /// nodes that are out. EHOSTDOWN when all are.
    pub fn owner(&self, key: PageKey) -> Result<u32> {
        let record = self.get(key.dataset)?;
        let (before, from) = record.nodes.split_at(first_choice(record, key)?);
        let mut order = Iterator::chain(from.iter(), before.iter());
        let node = order.find(|id| !self.out.contains(id)).ok_or(EHOSTDOWN)?;
        Ok(u32::from(*node))
    }

    /// Whether a page has the owner that it has because another one is out.
    pub(super) fn is_inherited(&self, key: PageKey) -> bool {
        let Ok(record) = self.get(key.dataset) else {
            return false;
        };
        let first = first_choice(record, key).ok();
        first
            .and_then(|at| record.nodes.get(at))
            .is_some_and(|id| self.out.contains(id))
    }

    /// Whether `node` owns chunks of nodes that are out of a dataset with one copy of each page.
    pub(super) fn inherits_alone(&self, node: u32) -> bool {
        let mut alone = self.live().filter(|record| record.replicas == 1);
        alone.any(|record| {
            let per_chunk = record.chunk_size / PAGE_BYTES;
            (0..record.nodes.len() as u64).any(|chunk| {
                let key = PageKey {
                    dataset: record.id,
                    page: chunk * per_chunk,
                };
                key.page < record.nr_pages()
                    && self.is_inherited(key)
                    && self.owner(key) == Ok(node)
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

/// Place in the record's nodes of the one that owns a page first.
fn first_choice(record: &DatasetRecord, key: PageKey) -> Result<usize> {
    let chunk = key.page.saturating_mul(PAGE_BYTES) / record.chunk_size.max(1);
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

pub(super) fn check_names(change: &NameChange<'_>) -> Result {
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
