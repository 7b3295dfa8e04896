// SPDX-License-Identifier: GPL-2.0

//! RPC messages of hotpot. Each request is a type with its reply type; decoding is
//! total: any bytes give a value or an error.
//!
//! All fields are little-endian and unaligned. A request begins with
//!
//! ```text
//!  0  u16  opcode
//!  2  u16  version, 6
//!  4  u32  zero
//!  8  u64  epoch of the sender's map
//! ```
//!
//! and goes on as the types below say, field by field; a list is a `u32` count and
//! its elements. Data that rides along (areas, pages, records) stands at the end.

mod commit;
mod copies;
mod names;
pub mod request;
mod wire;
mod writers;

pub use commit::{
    AskOutcome, AskPart, AskTrace, Fate, Forget, Outcome, Part, Prepare, PrepareData, Publish,
    Settle, Stage, StagePage, Staging,
};
pub use copies::{
    AskCopies, AskStaged, Copied, Fetch, FetchReply, Found, Hello, Inventory, LeftPage, MovedChunk,
    Remains, TakeCopies, TakenCopy, Verdict,
};
pub use names::{Arrive, AskRecords, ChangeNames, Removed, Retire, SetRecord};
pub use request::{Head, Request};
pub(super) use wire::{wire_enum, wire_struct};
pub use wire::{Reader, Wire, Writer};
pub use writers::{Acquire, AskGrants, AskWriters, Claim, Release};
