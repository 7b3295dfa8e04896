// SPDX-License-Identifier: GPL-2.0

//! One other node, with all that we know and want of it.
//!
//! See the documentation of the parent module for how to drive it.

mod config;
mod life;
mod receive;
mod send;

pub use config::Config;
pub use receive::{Received, Request, Violation};
pub use send::{Action, Payload};

use super::{
    calls::{Calls, NewCall, Retry},
    class::FairTurns,
    connection::{Connection, Generation, Role, State, Timing},
    heartbeat::Heartbeat,
    membership::{Local, View},
    ring::{RxRing, TxRing},
    session::{CallRef, Session},
    wire::{CallId, Hello, Refusal},
};
use kernel::prelude::*;

/// Positions in the two rings of a connection, in units since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rings {
    /// We handed out so much of the peer's ring.
    pub sent: u64,
    /// The peer told that it consumed so much of it.
    pub credited: u64,
    /// We consumed so much of ours.
    pub received: u64,
    /// We told the peer that we consumed so much.
    pub told: u64,
}

/// One other node; see the parent module.
#[derive(Debug)]
pub struct Peer<C, R> {
    config: Config,
    local: Local,
    id: u16,
    view: View,
    connection: Connection,
    /// The life that the session and the calls in flight belong to; 0 for none.
    life: u64,
    /// Payload that the peer's ring takes.
    max_payload: u32,
    tx: TxRing,
    rx: RxRing,
    calls: Calls<C>,
    session: Session<R>,
    turns: FairTurns,
    heartbeat: Heartbeat,
    met: Option<u64>,
    fenced: Option<u64>,
    fenced_epoch: u64,
    shut_down: bool,
}

impl<C, R> Peer<C, R> {
    /// A peer that the map does not know yet.
    pub fn new(config: Config, local: Local, id: u16) -> Result<Self> {
        config.check()?;
        let timing = Timing {
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
            timeout: config.connect_timeout,
        };
        let retry = Retry {
            silence: config.retransmit,
            refused: config.retry,
        };
        let slots = 1 << config.slots_log2;
        Ok(Self {
            config,
            local,
            id,
            view: View::NONE,
            connection: Connection::new(Role::of(local.id, id), timing),
            life: 0,
            max_payload: config.max_payload(),
            tx: TxRing::new(1 << config.depth_log2)?,
            rx: RxRing::default(),
            calls: Calls::new(slots, retry, config.share),
            session: Session::new(slots, config.reply_cache),
            turns: FairTurns::new(config.share),
            heartbeat: Heartbeat::new(config.heartbeat, config.misses),
            met: None,
            fenced: None,
            fenced_epoch: 0,
            shut_down: false,
        })
    }

    /// Its node id.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What the map says of it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether it is suspected.
    pub fn is_suspect(&self) -> bool {
        self.heartbeat.is_suspect()
    }

    /// Where the connection stands.
    pub fn connection(&self) -> State {
        self.connection.state()
    }

    /// How many times the time of a first attempt to connect the present one has, for each step of it.
    pub fn patience(&self) -> u32 {
        self.connection.patience()
    }

    /// Whether messages flow on this connection.
    pub fn is_connected(&self, generation: Generation) -> bool {
        self.connection.is_connected(generation)
    }

    /// What we say first on a connection; the edge knows where our ring is.
    pub fn hello(&self, ring_addr: u64, ring_rkey: u32) -> Hello {
        Hello {
            src: self.local.id,
            dst: self.id,
            cluster: self.local.cluster,
            incarnation: self.local.incarnation,
            epoch: self.view.epoch,
            ring: self.config.ring(ring_addr, ring_rkey),
            lane: 0,
        }
    }

    // Calls.

    /// Makes a call. `ESHUTDOWN`, `EHOSTDOWN`, `EMSGSIZE`; `EAGAIN` when there
    /// are too many at a time (wait for one to end); `ENOMEM`. The token comes
    /// back with the error, and otherwise exactly once: in a [`Received`], an
    /// [`Action::Complete`], or from [`Self::cancel`].
    pub fn submit(&mut self, call: NewCall, token: C) -> Result<CallId, (Error, C)> {
        if self.shut_down {
            return Err((ESHUTDOWN, token));
        }
        if !self.view.is_up() {
            return Err((EHOSTDOWN, token));
        }
        if call.len > self.max_payload {
            return Err((EMSGSIZE, token));
        }
        self.calls.submit(self.view.epoch, call, token)
    }

    /// Gives a call up; `None` when it has ended already (its token comes, or
    /// came, the other way).
    pub fn cancel(&mut self, id: CallId) -> Option<C> {
        self.calls.take(id)
    }

    /// Calls that have not ended, or whose end was not polled yet.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    // Execution.

    /// The handler returned: a negative errno, or 0 and `len` bytes in `reply`.
    pub fn executed(&mut self, call: CallRef, status: i32, len: u32, reply: Option<R>) {
        self.session.executed(call, status, len, reply, false);
    }

    /// As [`Self::executed`], with a reply in memory that the device cannot write from: it goes
    /// through the ring whatever the caller offers.
    pub fn executed_in_ring(&mut self, call: CallRef, status: i32, len: u32, reply: Option<R>) {
        self.session.executed(call, status, len, reply, true);
    }

    /// The call is not executed: [`Refusal::NoPort`] for good, or
    /// [`Refusal::Busy`] for now.
    pub fn refuse(&mut self, call: CallRef, refusal: Refusal) {
        match refusal {
            Refusal::Busy | Refusal::BehindEpoch => self.session.not_executed(call, refusal),
            _ => self.session.refused(call, refusal),
        }
    }

    /// Whether the caller may still want the result of a call.
    pub fn is_wanted(&mut self, call: CallRef) -> bool {
        self.session.is_wanted(call)
    }

    /// Replies shorter than this go through the ring, whatever the caller offers.
    pub fn direct_min(&self) -> u32 {
        self.config.direct_min.min(self.max_payload)
    }

    /// Calls of the peer that are executing.
    pub fn executions(&self) -> usize {
        self.session.executions()
    }

    /// Bytes of replies that are kept for repetitions.
    pub fn cached(&self) -> usize {
        self.session.cached()
    }

    /// How far the rings of the present connection are, for diagnosis.
    pub fn rings(&self) -> Rings {
        Rings {
            sent: self.tx.sent(),
            credited: self.tx.sent() - self.tx.used(),
            received: self.rx.consumed(),
            told: self.rx.told(),
        }
    }

    // Time and actions.

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        if let Some(sent) = self.calls.tick(now) {
            self.heartbeat.timed_out(sent);
        }
        let connected = self.connection.state() == State::Connected;
        self.connection.tick(now);
        if connected && self.connection.state() != State::Connected {
            self.disconnected();
        }
        self.heartbeat.tick(now);
        self.session.expire(now);
    }

    /// Call [`Self::tick`] at this time, or earlier (`u64::MAX`: no need).
    pub fn next_tick(&self) -> u64 {
        let connected = self.connection.state() == State::Connected;
        self.calls
            .next()
            .min(self.connection.next())
            .min(self.heartbeat.next(connected))
    }
}
