// SPDX-License-Identifier: GPL-2.0

//! Messages about who writes pages of MRSW datasets [2.6.3].

use super::{
    super::{format::Cid, host::PageKey},
    copies::MovedChunk,
    request::{request, Request},
    wire::{wire_struct, Reader, Wire, Writer},
};
use kernel::prelude::*;

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
