// SPDX-License-Identifier: GPL-2.0

//! Messages of commits [2.6.2]: between committing node, owners and data nodes.

use super::{
    super::{area::Span, format::Cid, host::PageKey},
    request::{request, Request},
    wire::{wire_enum, wire_struct, Reader, Wire, Writer},
};
use kernel::prelude::*;

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

/// Committing node to owner: give these commits up, or forget them. EBUSY while something of them
/// is left at the owner, or at its data nodes, where its successor would find it.
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
    /// The commit that made the version before it, and so was published; 0 for none.
    pub before: Cid,
    /// All bytes of the page, not the changed ones only.
    pub whole: bool,
    /// The receiver is the committing node, and the bytes are those of its commit in flight: they
    /// do not come, only their crc32c.
    pub draft: Option<u32>,
    /// The copy is needed for the degree of replication: make one even when there was none.
    pub must: bool,
    /// Spans of it among the spans of the message (0 when `whole`).
    pub nr_spans: u32,
}
wire_struct!(StagePage {
    key,
    version,
    before,
    whole,
    draft,
    must,
    nr_spans
});

/// Owner to data node: make these versions durable; block readers until the outcome.
/// Behind it for each page the bytes of its spans, or the whole page, unless they are left out.
#[derive(Debug)]
pub struct Stage {
    /// The commit.
    pub cid: Cid,
    /// Pages of the sender in the commit: who looks for what it left knows whether that is all.
    pub part: u32,
    /// The commit asks for one copy of each page: its pages need not be staged anywhere.
    pub alone: bool,
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
    alone,
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
        /// The base, or what was left out, is not here: send the whole page.
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
