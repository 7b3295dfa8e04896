// SPDX-License-Identifier: GPL-2.0

//! The protocol core of clio_cn: plain safe Rust without clock, lock, I/O or allocation that cannot
//! fail, the same in the module and on the host. How it works is in `Documentation/design/clio.md`.
//!
//! # How to drive the engine
//!
//! A node has one [`engine::Engine`], behind one lock. Times are ns of a monotonic clock. `D` is the
//! edge's half of an operation ([`op::Data`]): its bytes, and whom to tell.
//!
//! After each event, call [`poll`](engine::Engine::poll) until it returns `None`, and carry each
//! [`Action`](engine::Action) out; the lock need not be held over that. Then arm a timer for
//! [`next_tick`](engine::Engine::next_tick), whose expiry is [`tick`](engine::Engine::tick).
//!
//! - *Packets*: [`wire::Header::seal`] and send. One that cannot be sent is a lost packet.
//! - *Answers*: [`wire::Header::parse`], [`key_for`](engine::Engine::key_for),
//!   [`wire::Header::verify`], then [`answer`](engine::Engine::answer).
//! - *A new map*: [`set_map`](engine::Engine::set_map) with all nodes that are not out.
//! - *Questions*: ask the home, then [`learn`](engine::Engine::learn) all rows of its table, or
//!   [`no_regions`](engine::Engine::no_regions); for [`Grow`](engine::Action::Grow) learn the rows of
//!   the answer and then [`grown`](engine::Engine::grown).
//! - *Users*: a stream each ([`add_stream`](engine::Engine::add_stream)); to end one,
//!   [`close_stream`](engine::Engine::close_stream), wait until it is not
//!   [busy](engine::Engine::is_busy), and [`remove_stream`](engine::Engine::remove_stream).
//!
//! How to drive the local cache stands at [`cache`].

// The module keeps the core to itself; tools and the simulator see it from other crates.

pub mod cache;
#[path = "../../legomem/core/control.rs"]
pub mod control;
pub mod disk;
pub mod engine;
pub mod op;
pub mod peer;
mod request;
pub mod rtt;
mod space;
pub mod table;
pub mod window;
#[path = "../../legomem/core/wire.rs"]
pub mod wire;
