// SPDX-License-Identifier: GPL-2.0

//! RPC messages of hotpot. Each request is a type with its reply type; decoding is
//! total: any bytes give a value or an error.
//!
//! All fields are little-endian and unaligned. A request begins with
//!
//! ```text
//!  0  u16  opcode
//!  2  u16  version, 3
//!  4  u32  zero
//!  8  u64  epoch of the sender's map
//! ```
//!
//! and goes on as the types below say, field by field; a list is a `u32` count and
//! its elements. Data that rides along (areas, pages, records) stands at the end.

use super::{
    area::Span,
    format::{Cid, Timestamp, PAGE_SIZE},
    host::PageKey,
    node::Share,
};
use kernel::prelude::*;

/// Version of the messages.
pub const VERSION: u16 = 3;

/// Writes fields one behind the other.
#[derive(Default)]
pub struct Writer {
    bytes: KVec<u8>,
}

impl Writer {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.bytes.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// Appends a number.
    pub fn u8(&mut self, value: u8) -> Result {
        self.bytes(&[value])
    }

    /// Appends a number.
    pub fn u16(&mut self, value: u16) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number.
    pub fn u32(&mut self, value: u32) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number.
    pub fn u64(&mut self, value: u64) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends bytes with their count.
    pub fn text(&mut self, bytes: &[u8]) -> Result {
        self.u32(bytes.len() as u32)?;
        self.bytes(bytes)
    }

    /// What was written.
    pub fn finish(self) -> KVec<u8> {
        self.bytes
    }
}

/// Reads fields; EBADMSG when there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or(EBADMSG)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(EBADMSG)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// The next number.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes with their count.
    pub fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }

    /// EBADMSG when something is left.
    pub fn end(self) -> Result {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(EBADMSG)
        }
    }
}

/// Something that stands in a message.
pub trait Wire<'a>: Sized {
    /// Appends it.
    fn put(&self, to: &mut Writer) -> Result;
    /// Reads it.
    fn get(from: &mut Reader<'a>) -> Result<Self>;
}

macro_rules! wire_number {
    ($($type:ident)*) => {$(
        impl Wire<'_> for $type {
            fn put(&self, to: &mut Writer) -> Result {
                to.$type(*self)
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                from.$type()
            }
        }
    )*};
}
wire_number!(u8 u16 u32 u64);

impl Wire<'_> for () {
    fn put(&self, _: &mut Writer) -> Result {
        Ok(())
    }
    fn get(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl Wire<'_> for bool {
    fn put(&self, to: &mut Writer) -> Result {
        to.u8(u8::from(*self))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EBADMSG),
        }
    }
}

impl Wire<'_> for Cid {
    fn put(&self, to: &mut Writer) -> Result {
        to.u64(self.0)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Cid(from.u64()?))
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for KVec<T> {
    fn put(&self, to: &mut Writer) -> Result {
        to.u32(self.len() as u32)?;
        self.iter().try_for_each(|item| item.put(to))
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        let mut items = KVec::new();
        for _ in 0..from.u32()? {
            items.push(T::get(from)?, GFP_KERNEL)?;
        }
        Ok(items)
    }
}

/// Bytes with their count.
impl<'a> Wire<'a> for &'a [u8] {
    fn put(&self, to: &mut Writer) -> Result {
        to.text(self)
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        from.text()
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn put(&self, to: &mut Writer) -> Result {
        self.is_some().put(to)?;
        self.as_ref().map_or(Ok(()), |value| value.put(to))
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        Ok(match bool::get(from)? {
            true => Some(T::get(from)?),
            false => None,
        })
    }
}

/// A struct whose fields stand one behind the other.
macro_rules! wire_struct {
    ($name:ident $(<$lt:lifetime>)? { $($field:ident),* $(,)? }) => {
        impl<'a> Wire<'a> for wire_struct!(@type $name $($lt)?) {
            fn put(&self, to: &mut Writer) -> Result {
                $( Wire::put(&self.$field, to)?; )*
                Ok(())
            }
            fn get(from: &mut Reader<'a>) -> Result<Self> {
                Ok(Self { $( $field: Wire::get(from)?, )* })
            }
        }
    };
    (@type $name:ident $lt:lifetime) => { $name<'a> };
    (@type $name:ident) => { $name };
}

pub(super) use wire_struct;

/// An enum of numbers.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl Wire<'_> for $name {
            fn put(&self, to: &mut Writer) -> Result {
                to.u8(*self as u8)
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                match from.u8()? {
                    $($value => Ok(Self::$variant),)*
                    _ => Err(EBADMSG),
                }
            }
        }
    };
}

pub(super) use wire_enum;

wire_struct!(PageKey { dataset, page });
wire_struct!(Timestamp { sec, nsec });

impl Wire<'_> for i64 {
    fn put(&self, to: &mut Writer) -> Result {
        to.u64(*self as u64)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(from.u64()? as i64)
    }
}

/// A span is checked to lie in its page.
impl Wire<'_> for Span {
    fn put(&self, to: &mut Writer) -> Result {
        self.key.put(to)?;
        to.u16(self.offset)?;
        to.u16(self.len)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let span = Span {
            key: Wire::get(from)?,
            offset: from.u16()?,
            len: from.u16()?,
        };
        if span.len == 0 || span.end() > PAGE_SIZE {
            return Err(EBADMSG);
        }
        Ok(span)
    }
}

/// A request: it goes with its data, if it has any, behind it.
pub trait Request<'a>: Wire<'a> {
    /// Which request.
    const OPCODE: u16;
    /// What is answered when all went well.
    type Reply: for<'b> Wire<'b>;

    /// The bytes before the data.
    fn encode(&self, epoch: u64) -> Result<KVec<u8>> {
        let mut to = Writer::default();
        to.u16(Self::OPCODE)?;
        to.u16(VERSION)?;
        to.u32(0)?;
        to.u64(epoch)?;
        self.put(&mut to)?;
        Ok(to.finish())
    }
}

/// What stands before every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which request.
    pub opcode: u16,
    /// Epoch of the sender's map.
    pub epoch: u64,
}

impl Head {
    /// Reads it; EBADMSG when it is cut short, EPROTONOSUPPORT for another version.
    pub fn get(from: &mut Reader<'_>) -> Result<Self> {
        let opcode = from.u16()?;
        if from.u16()? != VERSION {
            return Err(EPROTONOSUPPORT);
        }
        if from.u32()? != 0 {
            return Err(EBADMSG);
        }
        Ok(Self {
            opcode,
            epoch: from.u64()?,
        })
    }
}

macro_rules! request {
    ($name:ident $(<$lt:lifetime>)? = $opcode:literal => $reply:ty) => {
        impl<'a> Request<'a> for wire_struct!(@type $name $($lt)?) {
            const OPCODE: u16 = $opcode;
            type Reply = $reply;
        }
    };
}

/// A node began a new life, or cannot know what others still have mapped of it:
/// the receiver drops what it knows of the sender as a holder and committing node,
/// and stops using copies of pages that the sender owns until it has asked again.
#[derive(Debug)]
pub struct Hello {
    /// The sender's state is new: it is no holder, and its old commits are over.
    pub restarted: bool,
    /// Mounts of the sender's device so far: one that comes late tells nothing new.
    pub life: u64,
    /// Counter of the sender's first commit in this life: it may have made some before this arrives.
    pub first: u64,
}
wire_struct!(Hello {
    restarted,
    life,
    first
});
request!(Hello = 1 => ());

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

/// Committing node to owner: spans of a commit, ahead of its `Prepare`; their bytes behind it.
#[derive(Debug)]
pub struct PrepareData {
    /// The commit.
    pub cid: Cid,
    /// Number of the message, from 0.
    pub number: u32,
    /// What is to be written.
    pub spans: KVec<Span>,
}
wire_struct!(PrepareData { cid, number, spans });
request!(PrepareData = 3 => ());

/// Committing node to owner: phase 1. The bytes of the spans behind it.
#[derive(Debug)]
pub struct Prepare {
    /// The commit.
    pub cid: Cid,
    /// Owner nodes in it; 1: decide and publish at once.
    pub nr_owners: u32,
    /// Durable copies to make.
    pub replicas: u32,
    /// How long to try, ms.
    pub budget_ms: u32,
    /// Wait for other commits in flight on the pages; else EBUSY.
    pub wait: bool,
    /// `PrepareData` messages that came before.
    pub ahead: u32,
    /// MRSW: with the commit the sender gives its pages back.
    pub release: bool,
    /// Ids of all owner nodes when there are several.
    pub owners: KVec<u16>,
    /// Earlier commits with this owner whose outcome the sender knows.
    pub released: KVec<Cid>,
    /// What is to be written.
    pub spans: KVec<Span>,
}
wire_struct!(Prepare {
    cid,
    nr_owners,
    replicas,
    budget_ms,
    wait,
    ahead,
    release,
    owners,
    released,
    spans
});
request!(Prepare = 4 => ());

/// Committing node to owner: decided, publish. Repeated until it is answered.
#[derive(Debug)]
pub struct Publish {
    /// The commit.
    pub cid: Cid,
}
wire_struct!(Publish { cid });
request!(Publish = 5 => ());

/// Committing node to owner: give these commits up, or forget them.
#[derive(Debug)]
pub struct Forget {
    /// Not to be prepared, or to be undone.
    pub aborted: KVec<Cid>,
    /// The sender knows that they are published.
    pub released: KVec<Cid>,
}
wire_struct!(Forget { aborted, released });
request!(Forget = 6 => ());

wire_enum! {
    /// What became of a commit.
    Outcome {
        /// Not published, and never will be.
        Aborted = 0,
        /// Published, or will be whatever happens.
        Committed = 1,
        /// Not decided yet.
        Pending = 2,
        /// The committing node has forgotten, with an earlier life: the owners know.
        Forgotten = 3,
    }
}

/// Owner to committing node, or committing node to its only owner: what became of a commit?
/// Who is asked and has not heard of it takes care that it is aborted for good.
#[derive(Debug)]
pub struct AskOutcome {
    /// The commit.
    pub cid: Cid,
}
wire_struct!(AskOutcome { cid });
request!(AskOutcome = 7 => Outcome);

/// One page of a [`Stage`].
#[derive(Clone, Copy, Debug)]
pub struct StagePage {
    /// Which.
    pub key: PageKey,
    /// The new version.
    pub version: u64,
    /// The whole page comes, not the changed bytes only.
    pub whole: bool,
    /// The copy is needed for the degree of replication: make one even when there was none.
    pub must: bool,
    /// Spans of it among the spans of the message (0 when `whole`).
    pub nr_spans: u32,
}
wire_struct!(StagePage {
    key,
    version,
    whole,
    must,
    nr_spans
});

/// Owner to data node: make these versions durable; block readers until the outcome.
/// Behind it for each page the bytes of its spans, or the whole page.
#[derive(Debug)]
pub struct Stage {
    /// The commit.
    pub cid: Cid,
    /// Pages of the sender in the commit: who looks for what it left knows whether that is all.
    pub part: u32,
    /// All owners in the commit when there are several.
    pub owners: KVec<u16>,
    /// The pages.
    pub pages: KVec<StagePage>,
    /// Their spans.
    pub spans: KVec<Span>,
}
wire_struct!(Stage {
    cid,
    part,
    owners,
    pages,
    spans
});
request!(Stage = 8 => KVec<Staging>);

wire_enum! {
    /// What a data node did with a page of a [`Stage`].
    Staging {
        /// The new version is durable here, readers wait.
        Durable = 0,
        /// The base is not here: send the whole page.
        NeedWhole = 1,
        /// No copy is here, now; the sender is a holder no longer.
        Dropped = 2,
        /// No room.
        NoSpace = 3,
    }
}

/// Owner to data node: the outcome of commits that were staged there.
#[derive(Debug)]
pub struct Settle {
    /// They are published.
    pub committed: KVec<Cid>,
    /// They are not.
    pub aborted: KVec<Cid>,
}
wire_struct!(Settle { committed, aborted });
request!(Settle = 9 => ());

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

/// Any node to the CD and back: dataset records with ids from `from` on.
#[derive(Debug)]
pub struct AskRecords {
    /// First id.
    pub from: u64,
}
wire_struct!(AskRecords { from });
/// The reply's count; as many encoded records (4,096 bytes each) come behind it.
/// Fewer than fit into the reply: these were all.
impl Request<'_> for AskRecords {
    const OPCODE: u16 = 11;
    type Reply = u32;
}

/// CD to all: a dataset record, encoded.
#[derive(Debug)]
pub struct SetRecord<'a> {
    /// 4,096 bytes.
    pub record: &'a [u8],
}
wire_struct!(SetRecord<'a> { record });
request!(SetRecord<'a> = 12 => ());

/// Any node to the CD: change a name.
#[derive(Debug)]
pub struct ChangeNames<'a> {
    /// How.
    pub change: super::names::NameChange<'a>,
    /// How long to try, ms.
    pub budget_ms: u32,
}
wire_struct!(ChangeNames<'a> { change, budget_ms });
request!(ChangeNames<'a> = 13 => u64);

/// Any node to the CD: a participant is at the barrier, or leaves it. Repeated.
#[derive(Debug)]
pub struct Arrive<'a> {
    /// Of the barrier.
    pub name: &'a [u8],
    /// Participants that it waits for.
    pub count: u32,
    /// Number of the participant at its node; never used again.
    pub participant: u64,
    /// It gives up.
    pub leave: bool,
    /// How long it is still there, ms.
    pub budget_ms: u32,
}
wire_struct!(Arrive<'a> { name, count, participant, leave, budget_ms });
request!(Arrive<'a> = 14 => bool);

/// A dataset that was removed.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    /// Its id.
    pub dataset: u64,
    /// Generation of its tombstone.
    pub generation: u64,
}
wire_struct!(Removed {
    dataset,
    generation
});

/// CD to all, twice: whether the tombstones are all that is left of these datasets; then, to
/// forget them.
#[derive(Debug)]
pub struct Retire {
    /// Forget them.
    pub forget: bool,
    /// The datasets.
    pub removed: KVec<Removed>,
}
wire_struct!(Retire { forget, removed });
request!(Retire = 15 => ());

/// Committing node to owner: the sender wants to write these pages, all or none [2.6.3].
#[derive(Debug)]
pub struct Acquire {
    /// Of the acquisition; from the ids of commits.
    pub grant: Cid,
    /// In order.
    pub pages: KVec<PageKey>,
}
wire_struct!(Acquire { grant, pages });
request!(Acquire = 16 => ());

/// Committing node to owner: it will not write these pages any more.
#[derive(Debug)]
pub struct Release {
    /// Of the acquisition.
    pub grant: Cid,
    /// None: all that it got, and what it may still get from a message that comes late.
    pub pages: KVec<PageKey>,
}
wire_struct!(Release { grant, pages });
request!(Release = 17 => ());

/// A page that a node may write.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// The page.
    pub key: PageKey,
    /// Of the acquisition.
    pub grant: Cid,
}
wire_struct!(Claim { key, grant });

/// Owner to any node: which pages of mine do you write? Answered in order, some at a
/// time; none is the end.
#[derive(Debug)]
pub struct AskGrants {
    /// First page.
    pub from: PageKey,
}
wire_struct!(AskGrants { from });
request!(AskGrants = 18 => KVec<Claim>);

wire_enum! {
    /// How far an owner node is with its part of a commit.
    Part {
        /// It knows nothing of it, and will never prepare it.
        Unknown = 0,
        /// Not promised yet.
        Preparing = 1,
        /// Promised, durably.
        Prepared = 2,
        /// Published.
        Published = 3,
    }
}

/// Owner to owner: how far are you? When the committing node cannot say what it decided,
/// a commit that all owners have promised is decided.
#[derive(Debug)]
pub struct AskPart {
    /// The commit.
    pub cid: Cid,
}
wire_struct!(AskPart { cid });
request!(AskPart = 19 => Part);

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

/// New owner of a chunk that has moved to the one before: who writes its pages? Answered like
/// [`AskGrants`].
#[derive(Debug)]
pub struct AskWriters {
    /// The chunk.
    pub moved: MovedChunk,
    /// First page.
    pub from: PageKey,
}
wire_struct!(AskWriters { moved, from });
request!(AskWriters = 25 => KVec<Claim>);

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
    /// Parts of owners that are out.
    pub parts: KVec<Share>,
    /// All owners when there are several, as far as they are known.
    pub owners: KVec<u16>,
    /// Their staged pages.
    pub keys: KVec<PageKey>,
}
wire_struct!(Remains {
    published,
    parts,
    owners,
    keys
});
wire_struct!(Share { owner, pages });

/// New owner to data node: your copy of a page, whatever I have said of it before. Answered
/// like a [`Fetch`].
#[derive(Debug)]
pub struct TakeCopy {
    /// Which.
    pub key: PageKey,
}
wire_struct!(TakeCopy { key });
request!(TakeCopy = 21 => FetchReply);

/// To the committing node: what became of a commit? New owners ask that whose own owner is out, and
/// nodes one of whose users asks.
#[derive(Debug)]
pub struct Fate {
    /// The commit.
    pub cid: Cid,
    /// A user will be told: aborted only when nobody can publish it any more, even without us.
    pub for_user: bool,
}
wire_struct!(Fate { cid, for_user });
request!(Fate = 22 => Outcome);

/// Any node to any node: is there a trace of this commit at yours? Unlike [`AskPart`] it
/// decides nothing.
#[derive(Debug)]
pub struct AskTrace {
    /// The commit.
    pub cid: Cid,
}
wire_struct!(AskTrace { cid });
request!(AskTrace = 23 => Part);
