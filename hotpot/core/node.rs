// SPDX-License-Identifier: GPL-2.0

//! The volatile state of one mount.

use super::{
    area::Span,
    barrier::Barriers,
    cluster::{Map, State},
    draft::Draft,
    format::{superblock, Cid, Geometry, Superblock, Timestamp, Uuid},
    grants::Grants,
    guest::Guest,
    host::{PageKey, Ticket, NR_QUEUES},
    migrate::Migration,
    names::Names,
    outcome::Remembered,
    pages::{self, Pages},
    rooms::Rooms,
    space::Space,
    spread::Spread,
    takeover::Takeover,
    writers::Writers,
};
use kernel::{prelude::*, rbtree::RBTree};

/// What the mount is told.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Our node id.
    pub node: u32,
    /// The cluster.
    pub cluster: Uuid,
    /// Bytes of the device.
    pub device_len: u64,
    /// Largest request and reply of the RPC layer; at least [`MIN_MESSAGE`].
    pub max_msg: usize,
    /// Default deadline of a call, ns.
    pub timeout: u64,
}

/// Smallest `max_msg` with which the protocol works: a page and what goes with it.
pub const MIN_MESSAGE: usize = 8192;

/// The queue of the worker.
pub const WORKER: u8 = 0;
/// The queue of everything that is no page.
pub const GENERAL: u8 = (NR_QUEUES - 1) as u8;

/// How far the mount is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Reading the device: we answer nobody.
    Mounting,
    /// Serving.
    Ready,
    /// Others know later lives of our device: it is an old copy, and nothing of it counts.
    Outdated,
    /// Unmounted.
    Gone,
}

/// The last life of a node that it told us of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownLife {
    pub(super) node: u32,
    /// Mounts of its device by then.
    pub(super) life: u64,
    /// Of the sender, when it told us.
    pub(super) incarnation: u64,
}

/// A node that has a copy of a page, or a mapped hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub node: u32,
    /// Its incarnation when it asked.
    pub incarnation: u64,
}

/// A node that does not know how things stand with us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its id.
    pub node: u32,
    /// We began a new life; else it was away, or we have missed maps.
    pub restarted: bool,
    /// It was not mounted when we tried: nobody reads there what our earlier life told
    /// it, yet its PM may hold records of our earlier commits.
    pub away: bool,
}

/// A page of a chunk that we own.
#[derive(Default)]
pub struct Owned {
    /// Who has a copy, besides us.
    pub holders: KVec<Holder>,
    /// The commit that is in flight on it.
    pub txn: Option<Cid>,
    /// Nodes that are known to have this version durably; it counts while they are holders.
    pub kept: KVec<(u32, u64)>,
    /// Copies that the last commit asked for.
    pub degree: u32,
}

/// How far a commit is at an owner node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TxnState {
    /// The new versions are being built and staged.
    Preparing,
    /// Promised; the committing node decides.
    Prepared,
    /// Being published or undone.
    Finishing,
    /// Undone here. Its pages stay locked until no data node that is up has anything of it: what is
    /// staged there would have the version of the next commit, and may be taken for promised
    /// without us.
    Undone,
    /// Published; the log record stays until the committing node knows.
    Published,
}

/// What is still to be done about a commit in [`TxnState::Finishing`] that nobody is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is to be published.
    Publish,
    /// It is to be undone.
    Undo,
    /// It was published, and its log record is to be freed.
    DropRecord,
}

/// One page of a commit at an owner node.
#[derive(Clone, Copy, Debug)]
pub struct TxnPage {
    /// The page.
    pub key: PageKey,
    /// Committed version before.
    pub base: u64,
    /// The commit that made it; 0 when there is none, or it is not needed any more.
    pub before: Cid,
    /// PM page of the new version, `base + 1`.
    pub pm: u64,
}

/// A commit at an owner node.
pub struct Txn {
    /// The committing node has begun a new life and will not ask for the outcome.
    pub orphan: bool,
    /// How far.
    pub state: TxnState,
    /// The committing node gave it up while it was being prepared.
    pub cancelled: bool,
    /// Owner nodes in the commit.
    pub nr_owners: u32,
    /// Their ids when there are several.
    pub owners: KVec<u16>,
    /// MRSW: its pages have no writer any more when it is published.
    pub release: bool,
    /// Copies asked for.
    pub replicas: u32,
    /// Epoch in which it was prepared.
    pub epoch: u64,
    /// Its pages, in order.
    pub pages: KVec<TxnPage>,
    /// Its bytes, in order.
    pub spans: KVec<Span>,
    /// Holders after it, of page `.0` in `pages`.
    pub staged: KVec<(u32, Holder)>,
    /// Nodes that may have staged some of it, and have not confirmed that it is undone.
    pub asked: KVec<u32>,
    /// First block of its log record, and blocks.
    pub log: (u64, u64),
    /// What could not be done for want of memory: the worker does it.
    pub unfinished: Option<Ending>,
    /// When it was last asked about, ns.
    pub since: u64,
}

/// How far a commit is at its committing node.
pub enum Commit {
    /// Not decided. Its pages are frozen as long as it is.
    Active(Draft),
    /// Decided; these owner nodes have not published yet.
    Decided {
        /// Owner nodes.
        owners: KVec<u32>,
        /// Those that have published and keep their records until all have.
        told: KVec<u32>,
        /// First block of the commit record, and blocks.
        record: (u64, u64),
        /// An operation is telling them.
        busy: bool,
    },
}

/// Data of a commit that came ahead of its `Prepare`.
pub struct Incoming {
    /// The messages, one behind the other, each as `u32` length and bytes.
    pub bytes: KVVec<u8>,
    /// How many.
    pub count: u32,
    /// When the last came, ns.
    pub since: u64,
}

/// Something to tell a node in the background; repeated until it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// To whom.
    pub node: u32,
    /// Which commit.
    pub cid: Cid,
    /// What.
    pub kind: NoticeKind,
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Owner to data node: committed.
    Committed,
    /// Owner to data node: aborted.
    Aborted,
    /// Committing node to owner: give it up.
    GiveUp,
    /// Committing node to owner: I know, drop the record.
    Release,
}

/// Most notices that are kept; what is lost beyond is found by asking.
const MAX_NOTICES: usize = 4096;
/// Most commits of other owners that are remembered as published.
const MAX_SETTLED: usize = 1024;
/// Most refused commits that are remembered.
const MAX_REFUSED: usize = 1024;

/// The volatile state of one mount. Pure data; see [`core`](super).
pub struct Node {
    /// As told.
    pub config: Config,
    /// How far the mount is.
    pub phase: Phase,
    /// The superblock, and the copy that counts.
    pub superblock: Option<(Superblock, superblock::Copy)>,
    /// Next CID counter; below the superblock's limit.
    pub(super) next_counter: u64,
    /// Somebody writes the superblock.
    pub(super) superblock_busy: bool,
    /// The last map.
    pub map: Map,
    /// Maps whose changes are not yet in our page tables: processes may load what successors replace.
    pub(super) unmapping: u32,
    /// Changes when copies stop being valid as a whole.
    pub(super) generation: u64,
    /// Until when commits of ours expect others of the same bytes, ns.
    pub(super) contended_until: u64,
    /// Nodes to say hello to.
    pub(super) greetings: KVec<Greeting>,
    /// Some node took us for who we say we are, in this life.
    pub(super) recognized: bool,
    /// Datasets.
    pub names: Names,
    /// Pages.
    pub pages: Pages,
    /// Pages of the chunks that we own.
    pub(super) owned: RBTree<PageKey, Owned>,
    /// Free data pages.
    pub space: Space,
    /// Free blocks of the redo log.
    pub(super) log: Space,
    /// Free blocks of commit records.
    pub(super) records: Space,
    /// Commits at us as an owner.
    pub(super) txns: RBTree<Cid, Txn>,
    /// Commits that we will never prepare.
    pub(super) refused: KVec<Cid>,
    /// Data ahead of their `Prepare`.
    pub(super) incoming: RBTree<Cid, Incoming>,
    /// The last life of each node that it told us of.
    pub(super) lives: KVec<KnownLife>,
    /// Who writes pages of ours in MRSW datasets.
    pub writers: Writers,
    /// What we write in MRSW datasets.
    pub grants: Grants,
    /// The first counter of a commit of this life.
    pub(super) first_counter: u64,
    /// Chunks of owners that are out.
    pub(super) takeover: Takeover,
    /// What we remember of commits of ours that are over.
    pub(super) remembered: Remembered,
    /// Our own commits.
    pub(super) commits: RBTree<Cid, Commit>,
    /// Pages staged here by other owners, by commit.
    pub(super) guests: RBTree<Cid, Guest>,
    /// Commits that were published here for other owners, or with them: the last ones.
    pub(super) settled: KVec<Cid>,
    /// What to tell whom.
    pub(super) notices: KVec<Notice>,
    /// Bytes that commits of processes of this node are publishing, by operation.
    pub(super) freezes: RBTree<u64, KVec<Span>>,
    /// Barriers, at the CD.
    pub(super) barriers: Barriers,
    /// Next number of a barrier's participant, of a freeze, or of an open file.
    pub(super) next_number: u64,
    /// Next page whose version the background asks for.
    pub(super) inventory: PageKey,
    /// Where eviction looks next.
    pub(super) hand: PageKey,
    /// Copies to be made elsewhere.
    pub(super) spread: Spread,
    /// Room of other nodes.
    pub(super) rooms: Rooms,
    /// Chunks that move.
    pub migration: Migration,
    wakes: u32,
    counts: [u32; NR_QUEUES],
}

/// Releases for an owner that wait for the next commit, or for the worker's next round.
const RELEASES_WAIT: usize = 4;

impl Node {
    /// Before the mount.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            phase: Phase::Mounting,
            superblock: None,
            next_counter: 0,
            superblock_busy: false,
            map: Map::default(),
            unmapping: 0,
            generation: 0,
            contended_until: 0,
            greetings: KVec::new(),
            recognized: false,
            names: Names::default(),
            pages: Pages::new(),
            owned: RBTree::new(),
            space: Space::default(),
            log: Space::default(),
            records: Space::default(),
            txns: RBTree::new(),
            refused: KVec::new(),
            incoming: RBTree::new(),
            lives: KVec::new(),
            writers: Writers::default(),
            grants: Grants::default(),
            first_counter: 0,
            takeover: Takeover::default(),
            remembered: Remembered::default(),
            commits: RBTree::new(),
            guests: RBTree::new(),
            settled: KVec::new(),
            notices: KVec::new(),
            freezes: RBTree::new(),
            barriers: Barriers::default(),
            next_number: 0,
            inventory: PageKey {
                dataset: 0,
                page: 0,
            },
            hand: PageKey {
                dataset: 0,
                page: 0,
            },
            spread: Spread::default(),
            rooms: Rooms::default(),
            migration: Migration::default(),
            wakes: 0,
            counts: [0; NR_QUEUES],
        }
    }

    /// Our id.
    pub fn id(&self) -> u32 {
        self.config.node
    }

    /// Where things are on the device; all zero before the mount.
    pub fn geometry(&self) -> Geometry {
        self.superblock
            .map(|(superblock, _)| superblock.geometry)
            .unwrap_or_default()
    }

    /// ENOTCONN unless the mount serves; ESTALE when the map has us out: others have taken
    /// our place.
    pub fn check_ready(&self) -> Result {
        match self.phase {
            Phase::Ready if self.is_out(self.id()) => Err(ESTALE),
            Phase::Ready => Ok(()),
            Phase::Outdated => Err(ESTALE),
            Phase::Mounting | Phase::Gone => Err(ENOTCONN),
        }
    }

    /// The owner node of a page; ENOENT when there is no such dataset.
    pub fn owner(&self, key: PageKey) -> Result<u32> {
        self.names.owner(key)
    }

    /// Whether we own the page.
    pub fn owns(&self, key: PageKey) -> bool {
        self.owner(key) == Ok(self.id())
    }

    /// Whether a node takes part in hotpot, as the map says.
    pub fn is_up(&self, node: u32) -> bool {
        self.map
            .peer(node)
            .is_some_and(|peer| peer.state == State::Up)
    }

    /// Whether a node is gone for good, as the map says.
    pub(super) fn is_out(&self, node: u32) -> bool {
        self.map
            .peer(node)
            .is_some_and(|peer| peer.state == State::Out)
    }

    /// The owner's entry of a page, made when there was none.
    pub(super) fn owned_entry(&mut self, key: PageKey) -> Result<&mut Owned> {
        if self.owned.get(&key).is_none() {
            self.owned
                .try_create_and_insert(key, Owned::default(), GFP_KERNEL)?;
        }
        self.owned.get_mut(&key).ok_or(ENOMEM)
    }

    /// Whether a commit is refused for good.
    pub(super) fn is_refused(&self, cid: Cid) -> bool {
        self.refused.contains(&cid)
    }

    /// Makes sure that a commit is never prepared here.
    pub(super) fn refuse(&mut self, cid: Cid) -> Result {
        if !self.is_refused(cid) {
            if self.refused.len() >= MAX_REFUSED {
                let _ = self.refused.remove(0);
            }
            self.refused.push(cid, GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Whether a commit is among the last that were published here for other owners, or with them.
    /// It is mostly one of the very last that somebody asks for, or builds on.
    pub(super) fn is_settled(&self, cid: Cid) -> bool {
        self.settled.iter().rev().any(|settled| *settled == cid)
    }

    /// A commit is published here for other owners, or with them.
    pub(super) fn note_settled(&mut self, cid: Cid) {
        if !self.is_settled(cid) {
            if self.settled.len() >= MAX_SETTLED {
                let _ = self.settled.remove(0);
            }
            // Without memory for it its pages tell, until they are overwritten.
            let _ = self.settled.push(cid, GFP_KERNEL);
        }
    }

    /// Which life of a node this is, as far as it told us.
    pub(super) fn life_of(&self, node: u32) -> u64 {
        self.lives
            .iter()
            .find(|known| known.node == node)
            .map_or(0, |known| known.life)
    }

    /// Puts a notice down for the worker. One that finds no room is dropped (`false`):
    /// whoever waits for it asks.
    pub(super) fn notify(&mut self, notice: Notice) -> bool {
        let deaf = notice.node == self.id() || self.is_out(notice.node);
        if deaf || self.notices.contains(&notice) {
            return true;
        }
        // As long as data nodes have not heard that a commit is undone it has its pages, so that
        // these notices are not too many.
        let full = self.notices.len() >= MAX_NOTICES && notice.kind != NoticeKind::Aborted;
        if full || self.notices.push(notice, GFP_KERNEL).is_err() {
            return false;
        }
        // The next commit takes releases along; only a few may wait for it.
        let waits = |other: &&Notice| other.node == notice.node && other.kind == notice.kind;
        let few = self.notices.iter().filter(waits).count() <= RELEASES_WAIT;
        if notice.kind != NoticeKind::Release || !few {
            self.wake(WORKER);
        }
        true
    }

    /// Whether a node has yet to hear that a commit was aborted.
    pub(super) fn is_abort_untold(&self, cid: Cid) -> bool {
        self.is_abort_untold_at(cid, |_| true)
    }

    /// Whether one of the nodes for which `at` says so has yet to hear it.
    pub(super) fn is_abort_untold_at(&self, cid: Cid, at: impl Fn(u32) -> bool) -> bool {
        let untold = [NoticeKind::Aborted, NoticeKind::GiveUp];
        let mut notices = self.notices.iter().filter(|notice| at(notice.node));
        notices.any(|notice| notice.cid == cid && untold.contains(&notice.kind))
    }

    /// Wakes who waits on a queue.
    pub fn wake(&mut self, queue: u8) {
        if let Some(count) = self.counts.get_mut(usize::from(queue)) {
            *count = count.wrapping_add(1);
            self.wakes |= 1 << queue;
        }
    }

    /// Wakes who waits for a page.
    pub fn wake_page(&mut self, key: PageKey) {
        self.wake(pages::queue(key));
    }

    /// A ticket for the next wake of a queue.
    pub fn ticket(&self, queue: u8) -> Ticket {
        Ticket {
            queue,
            seen: self.counts.get(usize::from(queue)).copied().unwrap_or(0),
        }
    }

    /// A ticket for the next change of a page.
    pub fn page_ticket(&self, key: PageKey) -> Ticket {
        self.ticket(pages::queue(key))
    }

    /// A ticket for the next work of the worker; for the host to sleep on between
    /// two runs of [`background::run`](super::background::run).
    pub fn worker_ticket(&self) -> Ticket {
        self.ticket(WORKER)
    }

    /// Whether the wake that the ticket is for has come.
    pub fn is_due(&self, ticket: Ticket) -> bool {
        self.counts.get(ticket.queue()) != Some(&ticket.seen)
    }

    /// The queues to wake after a change: bit i is queue i. Taken by the host at
    /// the end of each `with`.
    pub fn take_wakes(&mut self) -> u32 {
        core::mem::take(&mut self.wakes)
    }
}

/// Time as a dataset record keeps it.
pub type Time = Timestamp;
