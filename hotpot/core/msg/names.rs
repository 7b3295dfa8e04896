// SPDX-License-Identifier: GPL-2.0

//! Messages from and to the CD: dataset records, changes of names, barriers.

use super::{
    super::names::NameChange,
    request::{request, Request},
    wire::{wire_struct, Reader, Wire, Writer},
};
use kernel::prelude::*;

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
    pub change: NameChange<'a>,
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
