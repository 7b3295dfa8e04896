// SPDX-License-Identifier: GPL-2.0

//! The protocol of rdma_lite: plain safe Rust without clock, lock, I/O or
//! allocation that cannot fail. The kernel edge around it does what it says.
//!
//! # How it is compiled
//!
//! These files are compiled twice: as `mod core` of the module, and on the host
//! (tools/rdma-lite-core) against a stand-in for the kernel crate. A module
//! named `core` shadows the language's crate in the file that declares it, so
//! that file, like these, writes `::core::…`; files of this directory name each
//! other by `super::`, never by `crate::`.
//!
//! # How to drive it
//!
//! A node has one [`Membership`] under its own lock, and one [`Peer`] for each
//! other node of the map, each under a lock of its own. Lock order: membership
//! before peer. `C` is the edge's half of a call (its request bytes, reply
//! buffer, and whom to wake); `R` owns the bytes of a reply. Times are ns of a
//! monotonic clock. Both are handed back, or dropped, under the peer's lock.
//!
//! Events are methods of [`Peer`]. After each one, still under the lock, call
//! [`Peer::poll`] until it returns `None`, and carry the [`Action`]s out in
//! their order; then arm a timer for [`Peer::next_tick`] if that is earlier than
//! the one armed, whose expiry is [`Peer::tick`].
//!
//! - *A new map*: [`Membership::publish`]; if it is `New`, make peers for new
//!   nodes, then [`Peer::set_view`] with [`Membership::view`] for each. A peer
//!   that the map no longer has can go once it was polled empty, and no handler
//!   runs for it.
//! - *Connecting* (the lower id does): on [`Action::Connect`] resolve and connect
//!   with [`Peer::hello`] as private data. The reply's private data is the
//!   peer's hello: [`Membership::admit`] it, then [`Peer::connect_reply`], finish,
//!   then [`Peer::established`]. Refused, failed, or not admitted:
//!   [`Peer::lost`] (once the edge has torn it down).
//! - *Listening*: [`Hello::decode`], [`Membership::admit`] (else answer with a
//!   [`wire::Reject`]), [`Peer::connect_request`], tear down the older generation
//!   that it names, accept with [`Peer::hello`], and [`Peer::established`].
//! - The edge tags everything of a connection with its [`Generation`]; events of
//!   an older one are ignored. Before an older one is reported lost, or torn
//!   down, all its completions must have been reaped: nothing that it received
//!   may be handed in later under a newer generation.
//! - *Sending*: [`Action::Transmit`] names a slot of the peer's ring. Keep a
//!   staging buffer as large as that ring: put header and payload at the slot's
//!   offset and post one RDMA write with immediate data. The slot of the staging
//!   buffer is not given again before the peer consumed the message, so no
//!   completion is needed; `direct` first writes the payload elsewhere, and its
//!   bytes must live until that write completed (so let `R` count references).
//! - *Receiving*: [`Peer::immediate`] with the immediate data; if it gives an
//!   offset, copy the 80 bytes of header from there to the stack, and
//!   [`Peer::message`]. Copy the payload out before the next `poll` (which may
//!   give the space back).
//! - *Executing*: run the handler without the lock and then [`Peer::executed`];
//!   or [`Peer::refuse`] when there is no such port, or no memory.
//! - *Calling*: [`Peer::submit`]; then wait for the token. A call to ourselves
//!   does not come here. A large reply is written into the caller's buffer by
//!   RDMA: revoke that key before the call's buffer goes back to its owner, on
//!   every path that ends it.
//! - *Leaving*: [`Peer::shut_down`], poll, done.

pub mod account;
pub mod admission;
pub mod backlog;
pub mod bells;
pub mod calls;
pub mod class;
pub mod connection;
pub mod gate;
pub mod guests;
pub mod handshake;
pub mod heartbeat;
pub mod holder;
pub mod lanes;
pub mod membership;
pub mod openings;
pub mod outstanding;
pub mod peer;
pub mod polling;
pub mod queue;
pub mod receive;
pub mod region;
pub mod ring;
pub mod session;
pub mod stats;
pub mod sync;
pub mod transport;
pub mod turns;
pub mod wire;

pub use self::{
    admission::Admission,
    backlog::Backlog,
    bells::{Bells, Turn},
    calls::{Group, NewCall},
    class::{Class, FairTurns, Places, Share},
    connection::Generation,
    gate::Gate,
    heartbeat::{Health, Suspicion},
    membership::{Local, MapNode, Membership, NodeAddress, NodeState, Published, View},
    openings::{Allowed, Openings},
    peer::{Action, Config, Payload, Peer, Received, Request, Violation},
    polling::Recent,
    receive::{Bounds, ReceiveQueue, Refused, Token},
    session::CallRef,
    transport::{Choice, Policy, Transport, Ways},
    wire::{CallId, Hello, Refusal, Reject, RejectReason, ReplyBuffer},
};
