// SPDX-License-Identifier: GPL-2.0

//! Messages about copies of pages: to read them, to check them after a restart, and to take chunks
//! over [2.6.4] or have them come [2.5.5].

use super::{
    super::{format::Cid, guest::Share, host::PageKey},
    request::{request, Request},
    wire::{wire_enum, wire_struct, Reader, Wire, Writer},
};
use kernel::prelude::*;

/// A node began a new life, or cannot know what others still have mapped of it:
/// the receiver drops what it knows of the sender as a holder and committing node,
/// and stops using copies of pages that the sender owns until it has asked again.
///
/// Answered with the highest counter of a commit of the sender's of which the receiver has a copy (0: none,
/// or not restarted): one that the sender has yet to give out says that its device is an old copy. EUCLEAN:
/// the receiver knows a later life of the sender's device.
#[derive(Debug)]
pub struct Hello {
    /// The sender's state is new: it is no holder, and its old commits are over.
    pub restarted: bool,
    /// Mounts of the sender's device so far: one that comes late tells nothing new.
    pub life: u64,
    /// Counter of the sender's first commit in this life: it may have made some before this arrives.
    pub first: u64,
    /// Its device was just formatted when it mounted it, and it has no page yet.
    pub empty: bool,
}
wire_struct!(Hello {
    restarted,
    life,
    first,
    empty
});
request!(Hello = 1 => u64);

/// Data node to owner: a page, to read it.
#[derive(Debug)]
pub struct Fetch {
    /// Which.
    pub key: PageKey,
    /// The version that the sender has a copy of; 0 for none.
    pub have: u64,
}
wire_struct!(Fetch { key, have });
request!(Fetch = 2 => FetchReply);

/// Behind it come the 4,096 bytes of the page, when it has data that the sender has not.
#[derive(Debug)]
pub struct FetchReply {
    /// Committed version; 0 is a hole.
    pub version: u64,
    /// The commit that made it.
    pub cid: Cid,
    /// crc32c of the bytes of the page; 0 without them.
    pub crc: u32,
}
wire_struct!(FetchReply { version, cid, crc });

/// A version of a page that a data node has.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// The page.
    pub key: PageKey,
    /// The version.
    pub version: u64,
    /// The commit that made it; not looked at for a committed version.
    pub cid: Cid,
    /// Staged, not known to be committed.
    pub staged: bool,
}
wire_struct!(Copied {
    key,
    version,
    cid,
    staged
});

/// Data node to owner: are these versions the committed ones?
#[derive(Debug)]
pub struct Inventory {
    /// The sender's copies.
    pub copies: KVec<Copied>,
}
wire_struct!(Inventory { copies });
request!(Inventory = 10 => KVec<Verdict>);

wire_enum! {
    /// The owner's word on a copy.
    Verdict {
        /// Committed, and the newest: keep it; the sender is a holder now.
        Right = 0,
        /// Old, or never committed: drop it.
        Wrong = 1,
        /// A commit is in flight: ask again.
        Later = 2,
    }
}

/// New owner to any node: which copies of the pages do you have whose owner I am since
/// theirs is out? Answered in order, some at a time; none is the end.
#[derive(Debug)]
pub struct AskCopies {
    /// First page.
    pub from: PageKey,
    /// Of this chunk, which has moved to the sender; EAGAIN while its owner before has commits
    /// on it, or while the answering node does not know that it has moved.
    pub moved: Option<MovedChunk>,
}
wire_struct!(AskCopies { from, moved });
request!(AskCopies = 20 => KVec<Copied>);

/// A chunk that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedChunk {
    /// The dataset.
    pub dataset: u64,
    /// The chunk.
    pub chunk: u64,
    /// Generation of the record that says so.
    pub generation: u64,
}
wire_struct!(MovedChunk {
    dataset,
    chunk,
    generation
});

/// Who has to settle a commit without an owner that is out, to any node: what do you have of it?
/// EAGAIN while something of it is just being staged.
#[derive(Debug)]
pub struct AskStaged {
    /// The commit.
    pub cid: Cid,
    /// First page: pages are told in order, some at a time.
    pub from: PageKey,
}
wire_struct!(AskStaged { cid, from });
request!(AskStaged = 24 => Remains);

/// What a node has of a commit for owners that are out.
#[derive(Debug)]
pub struct Remains {
    /// It was published here, for some owner.
    pub published: bool,
    /// It was given up here, and is never published: an owner has undone its promise, or has none.
    pub given_up: bool,
    /// Parts of owners that are out.
    pub parts: KVec<Share>,
    /// Owners in the commit; 0 when that is not known.
    pub nr_owners: u32,
    /// All of them when there are several, as far as they are known.
    pub owners: KVec<u16>,
    /// The commit asks for one copy of each page: its pages need not be staged anywhere.
    pub alone: bool,
    /// Their staged pages, in order.
    pub pages: KVec<LeftPage>,
}
wire_struct!(Remains {
    published,
    given_up,
    parts,
    nr_owners,
    owners,
    alone,
    pages
});
wire_struct!(Share { owner, pages });

/// A page that is staged for an owner that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftPage {
    /// Which.
    pub key: PageKey,
    /// The owner; 0 when its slot does not tell.
    pub owner: u32,
}
wire_struct!(LeftPage { key, owner });

/// New owner to data node: your copies of pages, whatever I have said of them before. As many as
/// the answer holds.
#[derive(Debug)]
pub struct TakeCopies {
    /// Which.
    pub keys: KVec<PageKey>,
}
wire_struct!(TakeCopies { keys });
request!(TakeCopies = 21 => KVec<TakenCopy>);

wire_enum! {
    /// How a data node found a copy that it was asked for.
    Found {
        /// It comes.
        Whole = 0,
        /// There is none.
        Absent = 1,
        /// It is not what was committed.
        Damaged = 2,
    }
}

/// What there is of a page of a [`TakeCopies`]. Behind those of all pages come the 4,096 bytes of
/// each that is whole, in this order.
#[derive(Clone, Copy, Debug)]
pub struct TakenCopy {
    /// Whether it comes.
    pub found: Found,
    /// Committed version; 0 when there is none.
    pub version: u64,
    /// The commit that made it.
    pub cid: Cid,
    /// crc32c of the bytes of the page: when they are damaged, what it should be; 0 when that is
    /// not known.
    pub crc: u32,
}
wire_struct!(TakenCopy {
    found,
    version,
    cid,
    crc
});

impl TakenCopy {
    /// Bytes that one takes in a message.
    pub const LEN: usize = 21;
}
