// SPDX-License-Identifier: GPL-2.0

//! The request engine of a compute node: all state that a memory node does not
//! keep (section 4.4.5, T1 to T4). How to drive it is in [`super`].

mod answer;
mod order;
mod send;
mod spaces;
mod time;

use super::{
    op::{Data, Kind, NewOp, Op, Stream, IN_QUEUE},
    peer::Peer,
    request::{Request, MAX_FRAGMENTS, SLOT_BITS},
    rtt,
    space::Space,
    table::{Key, Queue, Table},
    window::{self, Iwnd},
    wire,
};
use core::ops::Range;
use kernel::{prelude::*, siphash};

/// What may be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Our id.
    pub node: u32,
    /// Our life.
    pub incarnation: u64,
    /// Most bytes of payload in a packet.
    pub payload: u32,
    /// Most operations that are not over.
    pub ops: usize,
    /// Most requests that are outstanding, below 65536.
    pub requests: usize,
    /// Most streams, and most address spaces.
    pub users: usize,
    /// Round trips.
    pub rtt: rtt::Config,
    /// Windows.
    pub window: window::Config,
    /// Shortest and longest pause between attempts at a lock, or at a region
    /// that is paused, ns.
    pub pause: Range<u64>,
}

/// A packet to be sent.
#[derive(Debug)]
pub struct Packet<B> {
    /// The memory node, and the UDP port of its legomem.
    pub to: (u32, u16),
    /// All but the tag.
    pub header: wire::Header,
    /// Seals it.
    pub key: siphash::Key,
    /// The payload: a range of these bytes.
    pub payload: Option<(B, Range<usize>)>,
}

/// What the edge is to do.
#[derive(Debug)]
pub enum Action<D: Data> {
    /// Send a packet.
    Send(Packet<D::Bytes>),
    /// An operation is over.
    Done {
        /// Which.
        op: Key,
        /// What it was.
        kind: Kind,
        /// The edge's half.
        data: D,
        /// The result, as [`Kind`] says; 0 where that says nothing.
        result: Result<u64>,
    },
    /// Ask the home of a RAS for its regions: [`Engine::learn`], or
    /// [`Engine::no_regions`].
    Ask {
        /// Which.
        space: Key,
        /// Its id.
        ras: u64,
    },
    /// Ask the home of a RAS for regions (`control::Grow`): [`Engine::learn`] what it
    /// says, then [`Engine::grown`].
    Grow {
        /// Which.
        space: Key,
        /// Its id.
        ras: u64,
        /// The allocation that needs them.
        op: Key,
        /// Bytes.
        len: u64,
        /// A region that had no room, plus 1; or 0.
        not: u32,
        /// When to give up, ns.
        until: u64,
    },
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Operations that were submitted.
    pub submitted: u64,
    /// Operations that are over.
    pub done: u64,
    /// Those that failed.
    pub failed: u64,
    /// Packets sent.
    pub packets: u64,
    /// Packets of them that were sent again.
    pub retries: u64,
    /// Answers that nobody waited for.
    pub stray: u64,
    /// Times that a request went to another node.
    pub moved: u64,
    /// Times that a request had to pause.
    pub paused: u64,
    /// Times that an operation waited for another one.
    pub blocked: u64,
}

/// The engine of one node.
#[derive(Debug)]
pub struct Engine<D: Data> {
    config: Config,
    ops: Table<Op<D>, 2>,
    requests: Table<Request, 2>,
    streams: Table<Stream, 0>,
    spaces: Table<Space, 0>,
    /// By id.
    peers: KVec<Peer>,
    /// The peer that sends next.
    turn: usize,
    iwnd: Iwnd,
    epoch: u32,
    /// Operations that can go on; that are over.
    ready: Queue<IN_QUEUE>,
    done: Queue<IN_QUEUE>,
    /// Allocations that need more regions.
    growing: Queue<IN_QUEUE>,
    /// Address spaces whose home should be asked.
    stale: usize,
    /// Not before this is there anything to do for [`Engine::tick`].
    wake: u64,
    sequence: u64,
    order: u64,
    stats: Stats,
}

impl<D: Data> Engine<D> {
    /// An engine that knows no node yet.
    pub fn new(config: Config) -> Result<Self> {
        if config.payload < 64 || config.requests == 0 || config.requests > 1 << SLOT_BITS {
            return Err(EINVAL);
        }
        Ok(Self {
            ops: Table::new(config.ops)?,
            requests: Table::new(config.requests)?,
            streams: Table::new(config.users)?,
            spaces: Table::new(config.users)?,
            peers: KVec::new(),
            turn: 0,
            iwnd: Iwnd::new(&config.window),
            epoch: 0,
            ready: Queue::default(),
            done: Queue::default(),
            growing: Queue::default(),
            stale: 0,
            wake: u64::MAX,
            sequence: 0,
            order: 0,
            stats: Stats::default(),
            config,
        })
    }

    /// Numbers requests from there on. A memory node takes a number that it has seen from
    /// this node in its present life for a repetition (T4): the edge keeps them apart
    /// when it makes one engine after the other.
    pub fn begin_at(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Requests were numbered up to this.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How often what happened.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Memory nodes that it knows.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// Operations that are not over, or of which the edge has not heard.
    pub fn outstanding(&self) -> usize {
        self.ops.len()
    }

    /// Operations that may still be submitted.
    pub fn room(&self) -> usize {
        self.ops.room()
    }

    /// Begins an operation. On an error it was not begun, and the edge's half
    /// comes back: `EAGAIN` when too many are outstanding, `ENOENT` when there is
    /// no such stream or RAS, `EINVAL` for what cannot be, `EFAULT` for an
    /// address that wraps.
    pub fn submit(&mut self, new: NewOp<D>) -> Result<Key, (Error, D)> {
        if let Err(error) = self.check(&new) {
            return Err((error, new.data));
        }
        self.order += 1;
        let (stream, until) = (new.stream, new.until);
        let op = Op::new(new, self.order);
        let blockers = self.blockers(&op);
        let key = self.ops.insert(op).map_err(|op| (EAGAIN, op.new.data))?;
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.ops.push(&mut self.ops, key);
        }
        self.stats.submitted += 1;
        self.begin(key, blockers);
        self.wake_at(until);
        Ok(key)
    }

    fn check(&self, new: &NewOp<D>) -> Result {
        let stream = self.streams.get(new.stream).ok_or(ENOENT)?;
        if stream.closed || self.spaces.get(new.space).is_none() {
            return Err(ENOENT);
        }
        let fits = |addr: u64| addr.checked_add(new.len).is_some();
        match new.kind {
            Kind::Release | Kind::Fence => return Ok(()),
            kind if kind.is_word() && (new.addr % wire::WORD != 0 || new.len != wire::WORD) => {
                return Err(EINVAL);
            }
            Kind::Offload { output, .. } => {
                let most = self.config.payload.saturating_mul(MAX_FRAGMENTS);
                if new.len > wire::MAX_PAYLOAD as u64 || output > wire::MAX_READ.min(most) {
                    return Err(EMSGSIZE);
                }
            }
            _ if new.len == 0 => return Err(EINVAL),
            Kind::FlushFetch { write } if !fits(write) => return Err(EFAULT),
            Kind::FlushFetch { write } if write.abs_diff(new.addr) < new.len => return Err(EINVAL),
            Kind::Alloc { .. } => return Ok(()),
            _ => {}
        }
        if fits(new.addr) {
            Ok(())
        } else {
            Err(EFAULT)
        }
    }

    /// The next thing to do. After every event, until it returns `None`.
    pub fn poll(&mut self, now: u64) -> Option<Action<D>> {
        if let Some(key) = self.done.pop(&mut self.ops) {
            return self.take_done(key);
        }
        if let Some(action) = self.next_question(now) {
            return Some(action);
        }
        self.advance_ready(now);
        if let Some(key) = self.done.pop(&mut self.ops) {
            return self.take_done(key);
        }
        if let Some(action) = self.next_question(now) {
            return Some(action);
        }
        self.next_packet(now).map(Action::Send)
    }

    fn take_done(&mut self, key: Key) -> Option<Action<D>> {
        let stream = self.ops.get(key)?.new.stream;
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.ops.remove(&mut self.ops, key);
        }
        let op = self.ops.remove(key)?;
        self.stats.done += 1;
        if op.result.is_err() {
            self.stats.failed += 1;
        }
        Some(Action::Done {
            op: key,
            kind: op.new.kind,
            data: op.new.data,
            result: op.result,
        })
    }
}
