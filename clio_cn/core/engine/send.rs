// SPDX-License-Identifier: GPL-2.0

//! Requests and packets.

use super::super::{
    op::{Data, Kind, Stage},
    peer::Peer,
    request::{Order, Request, State, MAX_FRAGMENTS, SLOT_BITS},
    space::Route,
    table::Key,
    wire::{self, rights, Header, Path},
};
use super::{Engine, Packet};
use kernel::prelude::*;

/// Requests that an operation may have outstanding.
const PARALLEL: u32 = 16;
/// Times that an allocation asks for regions.
const GROWTHS: u32 = 8;
/// Shortest timeout of what a worker does, ns.
const SLOW_TIMEOUT: u64 = 20_000_000;

/// What became of making a request.
enum Made {
    /// Made; perhaps there are more to make.
    Yes,
    /// Nothing to make for now, or the operation is over.
    No,
}

impl<D: Data> Engine<D> {
    /// Makes requests for the operations that can go on.
    pub(super) fn advance_ready(&mut self, now: u64) {
        while self.requests.room() != 0 {
            let Some(key) = self.ready.pop(&mut self.ops) else {
                return;
            };
            while let Made::Yes = self.make(key, now) {
                if self.requests.room() == 0 {
                    self.go_on(key);
                    return;
                }
            }
        }
    }

    fn make(&mut self, key: Key, now: u64) -> Made {
        let Some(op) = self.ops.get(key) else {
            return Made::No;
        };
        let (kind, outstanding) = (op.new.kind, op.outstanding);
        if op.stage != Stage::Running || outstanding >= PARALLEL {
            return Made::No;
        }
        match kind {
            Kind::Alloc { .. } if op.fallback => {}
            _ if op.result.is_err() => return self.end(key),
            _ => {}
        }
        match kind {
            Kind::Release => self.end(key),
            Kind::Fence if outstanding != 0 => Made::No,
            Kind::Fence => self.make_fence(key, now),
            Kind::Alloc { .. } if outstanding != 0 => Made::No,
            Kind::Alloc { rights } if !op.fallback => self.make_alloc(key, rights, now),
            Kind::FlushFetch { write } => self.make_flush_fetch(key, write, now),
            _ => self.make_piece(key, now),
        }
    }

    /// Nothing is left to make: an operation without requests is over.
    fn end(&mut self, key: Key) -> Made {
        if let Some(op) = self.ops.get(key).filter(|op| op.outstanding == 0) {
            let result = op.result;
            self.finish(key, result);
        }
        Made::No
    }

    fn make_fence(&mut self, key: Key, now: u64) -> Made {
        let next = self.ops.get(key).and_then(|op| {
            let space = self.spaces.get(op.new.space)?;
            let (node, index) = space.node_above(op.cursor)?;
            Some((node, space.start(index)))
        });
        let Some((node, addr)) = next else {
            return self.end(key);
        };
        if let Some(op) = self.ops.get_mut(key) {
            op.cursor = node.into();
        }
        let order = order(wire::Op::Fence, addr);
        self.request(key, now, order)
    }

    fn make_alloc(&mut self, key: Key, rights: u32, now: u64) -> Made {
        let Some(op) = self.ops.get_mut(key) else {
            return Made::No;
        };
        let Some(space) = self.spaces.get(op.new.space) else {
            return Made::No;
        };
        let len = op.new.len;
        if op.base != 0 {
            let part = (len - op.cursor.min(len)).min(space.region_size());
            let mut argument = rights | rights::FIXED;
            if op.cursor != 0 {
                argument |= rights::CONTINUES;
            }
            let order = Order {
                argument,
                operand: part,
                ..order(wire::Op::Alloc, op.base.saturating_add(op.cursor))
            };
            return self.request(key, now, order);
        }
        let mut from = op.cursor as u32;
        while let Some(index) = space.with_room(from, len) {
            let addr = space.start(index);
            // Not where the node is down, nor where it lost the region, whatever the home knows.
            if locate(&self.peers, space.route(addr)).is_ok() {
                op.cursor = index.into();
                let order = Order {
                    argument: rights,
                    operand: len,
                    ..order(wire::Op::Alloc, addr)
                };
                return self.request(key, now, order);
            }
            from = index.saturating_add(1);
        }
        if op.attempts >= GROWTHS {
            self.finish(key, Err(ENOSPC));
        } else {
            self.change_stage(key, Stage::Growing);
            self.growing.push(&mut self.ops, key);
        }
        Made::No
    }

    /// Writes and reads in one message if one node has both, else in two.
    fn make_flush_fetch(&mut self, key: Key, write: u64, now: u64) -> Made {
        let most = self.request_max();
        let Some(op) = self.ops.get_mut(key) else {
            return Made::No;
        };
        let (addr, len) = (op.new.addr, op.new.len);
        if !op.fallback && op.cursor == 0 {
            let routes = self
                .spaces
                .get(op.new.space)
                .map(|space| (space.route(addr), space.route(write)));
            let together = match routes {
                Some((
                    Route::To { node, left, .. },
                    Route::To {
                        node: other,
                        left: room,
                        ..
                    },
                )) => node == other && len <= left.min(room) && len <= most,
                _ => false,
            };
            op.fallback = !together;
            if together {
                op.cursor = len;
                let order = Order {
                    operand: write,
                    len: len as u32,
                    send: len as u32,
                    ..order(wire::Op::FlushFetch, addr)
                };
                return self.request(key, now, order);
            }
        }
        if !op.fallback {
            return self.end(key);
        }
        self.make_piece(key, now)
    }

    /// Most bytes of a request that reads or writes.
    fn request_max(&self) -> u64 {
        let most = u64::from(self.config.payload) * u64::from(MAX_FRAGMENTS);
        most.min(u64::from(wire::MAX_READ))
    }

    /// The next piece of a range: within a region, and what one request takes.
    fn make_piece(&mut self, key: Key, now: u64) -> Made {
        let most = self.request_max();
        let unit = self.config.payload;
        let Some(op) = self.ops.get(key) else {
            return Made::No;
        };
        let (new, cursor) = (&op.new, op.cursor);
        // A flush-and-fetch in two steps writes all first.
        let (base, total, done, kind) = match new.kind {
            Kind::FlushFetch { write } if cursor < new.len => (write, new.len, cursor, Kind::Write),
            Kind::FlushFetch { .. } => (
                new.addr,
                new.len,
                cursor.saturating_sub(new.len),
                Kind::Read,
            ),
            Kind::Alloc { .. } => (new.addr, new.len, cursor, Kind::Free),
            Kind::Offload { .. } => (new.addr, 1, cursor, new.kind),
            kind => (new.addr, new.len, cursor, kind),
        };
        if done >= total {
            return self.end(key);
        }
        let addr = base.saturating_add(done);
        let Some(left) = self.spaces.get(new.space).map(|space| {
            let size = space.region_size();
            size - (addr & (size - 1))
        }) else {
            return Made::No;
        };
        let mut piece = (total - done).min(left);
        if matches!(kind, Kind::Read | Kind::Write) {
            piece = piece.min(most);
        }
        let at = done as usize;
        let size = piece as u32;
        let mut order = match kind {
            Kind::Read => Order {
                len: size,
                argument: unit,
                at,
                ..order(wire::Op::Read, addr)
            },
            Kind::Write => Order {
                len: size,
                send: size,
                at,
                ..order(wire::Op::Write, addr)
            },
            Kind::TestAndSet => word(wire::Op::Tas, addr),
            Kind::CompareAndSwap { expected } => Order {
                operand: expected,
                send: 8,
                ..word(wire::Op::Cas, addr)
            },
            Kind::FetchAndAdd { value } => Order {
                operand: value,
                ..word(wire::Op::Faa, addr)
            },
            Kind::Lock { who } => Order {
                argument: who,
                ..word(wire::Op::Lock, addr)
            },
            Kind::Unlock { who } => Order {
                argument: who,
                ..word(wire::Op::Unlock, addr)
            },
            Kind::Free | Kind::Alloc { .. } => Order {
                operand: piece,
                ..order(wire::Op::Free, addr)
            },
            Kind::Zero => Order {
                operand: piece,
                ..order(wire::Op::Zero, addr)
            },
            Kind::Protect { rights } => Order {
                operand: piece,
                argument: rights,
                ..order(wire::Op::Protect, addr)
            },
            Kind::Offload {
                id,
                function,
                output,
            } => Order {
                len: new.len as u32,
                send: new.len as u32,
                argument: unit,
                operand: wire::offload_operand(wire::Offload {
                    id,
                    function,
                    output,
                }),
                ..order(wire::Op::Offload, addr)
            },
            Kind::FlushFetch { .. } | Kind::Release | Kind::Fence => return Made::No,
        };
        if done != 0 {
            order.flags = wire::flags::CONTINUED;
        }
        if let Some(op) = self.ops.get_mut(key) {
            op.cursor = cursor.saturating_add(piece);
        }
        let made = self.request(key, now, order);
        if let Made::No = made {
            // To be made once there is a route.
            if let Some(op) = self.ops.get_mut(key) {
                op.cursor = cursor;
            }
        }
        made
    }

    /// Makes a request to the node that has its address.
    fn request(&mut self, key: Key, now: u64, order: Order) -> Made {
        let Some((space_key, missed)) = self.ops.get(key).map(|op| (op.new.space, op.missed))
        else {
            return Made::No;
        };
        let Some(space) = self.spaces.get(space_key) else {
            return Made::No;
        };
        let version = space.version;
        let (node, port) = match locate(&self.peers, space.route(order.addr)) {
            Ok(found) => found,
            Err((error, final_)) => {
                if final_ || missed.is_some_and(|missed| missed != version) {
                    self.finish(key, Err(error));
                } else {
                    if let Some(op) = self.ops.get_mut(key) {
                        op.missed = Some(version);
                    }
                    self.change_stage(key, Stage::Asking);
                }
                self.mark_stale(space_key, now);
                return Made::No;
            }
        };
        let request = Request::new(key, space_key, (node, port), order, self.config.payload);
        let Ok(request) = self.requests.insert(request) else {
            return Made::No;
        };
        if let Some(op) = self.ops.get_mut(key) {
            op.outstanding += 1;
            op.requests.push(&mut self.requests, request);
        }
        self.start(request);
        Made::Yes
    }

    /// Queues a request for a (new) try.
    fn start(&mut self, key: Key) {
        self.sequence += 1;
        let id = (self.sequence << SLOT_BITS) | key.index() as u64;
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        request.set_id(id);
        request.state = State::Sending;
        let node = request.node;
        if let Some(peer) = self.find(node).and_then(|at| self.peers.get_mut(at)) {
            peer.sending.push(&mut self.requests, key);
        }
    }

    /// Stops waiting for the answers to what was sent; `lost`: they should have come.
    pub(super) fn stop(&mut self, key: Key, now: u64, lost: bool) {
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        let (node, packets) = (request.node, request.in_flight());
        self.iwnd.settle(request.expected);
        request.expected = 0;
        request.sent = 0;
        let unrouted = request.state == State::Unrouted;
        let space = request.space;
        request.state = State::Waiting;
        if unrouted {
            if let Some(space) = self.spaces.get_mut(space) {
                space.unrouted.remove(&mut self.requests, key);
            }
        } else if let Some(peer) = self.find(node).and_then(|at| self.peers.get_mut(at)) {
            peer.sending.remove(&mut self.requests, key);
            if lost {
                peer.cwnd.lost(now, packets, &peer.rtt);
            } else {
                peer.cwnd.gone(packets);
            }
        }
    }

    /// Sends a request that was stopped again, as a new one that names the first
    /// (T4 of section 4.4.5).
    pub(super) fn try_again(&mut self, key: Key, _now: u64) {
        self.start(key);
    }

    /// A request that was stopped is tried again at `again`.
    pub(super) fn pause_request(&mut self, key: Key, again: u64) {
        if let Some(request) = self.requests.get_mut(key) {
            request.state = State::Paused(again);
        }
        self.wake_at(again);
    }

    /// A request goes where the home says.
    pub(super) fn unroute(&mut self, key: Key, now: u64, refused: bool) {
        self.stop(key, now, false);
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        request.state = State::Unrouted;
        let (space, tries) = (request.space, request.tries);
        // At first at once; when what the home says was refused, after a while.
        let delay = match tries {
            0 => 0,
            _ if refused => self.pause(tries),
            _ => 0,
        };
        if let Some(space) = self.spaces.get_mut(space) {
            space.unrouted.push(&mut self.requests, key);
        }
        self.mark_stale(space, now.saturating_add(delay));
    }

    /// The table is new: a request that was taken out of the unrouted goes on.
    pub(super) fn reroute(&mut self, key: Key, _now: u64) {
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        request.state = State::Waiting;
        let (of, space, order) = (request.of, request.space, request.order);
        let Some(space) = self.spaces.get(space) else {
            return self.finish(of, Err(ENOENT));
        };
        let mut route = locate(&self.peers, space.route(order.addr));
        if order.op == wire::Op::FlushFetch {
            let flush = locate(&self.peers, space.route(order.operand));
            if flush != route {
                // One node has not both any more: write first, read then.
                route = flush;
                if let Some(request) = self.requests.get_mut(key) {
                    request.only_write();
                }
                if let Some(op) = self.ops.get_mut(of) {
                    op.fallback = true;
                    op.cursor = op.new.len;
                }
            }
        }
        match route {
            Ok((node, port)) => {
                if let Some(request) = self.requests.get_mut(key) {
                    request.node = node;
                    request.port = port;
                }
                self.start(key);
                self.go_on(of);
            }
            Err((error, _)) => self.finish(of, Err(error)),
        }
    }

    /// Takes a request out of everything.
    pub(super) fn drop_request(&mut self, key: Key) {
        self.stop(key, 0, false);
        if let Some(request) = self.requests.get(key) {
            let of = request.of;
            if let Some(op) = self.ops.get_mut(of) {
                op.requests.remove(&mut self.requests, key);
                op.outstanding = op.outstanding.saturating_sub(1);
            }
        }
        self.requests.remove(key);
    }

    /// The next packet that the windows let go.
    pub(super) fn next_packet(&mut self, now: u64) -> Option<Packet<D::Bytes>> {
        for _ in 0..self.peers.len() {
            let at = self.turn % self.peers.len().max(1);
            self.turn = at + 1;
            if let Some(packet) = self.packet_to(at, now) {
                return Some(packet);
            }
        }
        None
    }

    fn packet_to(&mut self, at: usize, now: u64) -> Option<Packet<D::Bytes>> {
        loop {
            let peer = self.peers.get_mut(at)?;
            let key = peer.sending.first(&self.requests)?;
            if !peer.cwnd.has_room(now) {
                if let Some(until) = peer.cwnd.paced_until() {
                    self.wake_at(until);
                }
                return None;
            }
            let request = self.requests.get_mut(key)?;
            let Some(packet) = request.next() else {
                request.state = State::Waiting;
                peer.sending.remove(&mut self.requests, key);
                continue;
            };
            let expected = request.answer_len(packet);
            if expected != 0 && !self.iwnd.has_room(expected) {
                return None;
            }
            self.iwnd.expect(expected);
            request.expected = request.expected.saturating_add(expected);
            let before = request.in_flight();
            request.sent(packet, now);
            let answers = request.in_flight().saturating_sub(before);
            peer.cwnd.sent(now, answers, &peer.rtt);
            let mut timeout = peer.rtt.timeout(request.tries);
            if request.order.op.path() != Path::Fast {
                timeout = timeout.max(SLOW_TIMEOUT);
            }
            request.timeout = now.saturating_add(timeout);
            let until = request.timeout;
            self.stats.packets += 1;
            self.stats.retries += u64::from(request.tries != 0);
            let space = self.spaces.get(request.space)?;
            let order = request.order;
            let retry = request.id != request.first;
            let header = Header {
                flags: order.flags | if retry { wire::flags::RETRY } else { 0 },
                epoch: self.epoch,
                first: request.first,
                offset: if request.is_split() {
                    packet * request.unit
                } else {
                    0
                },
                node: self.config.node,
                argument: order.argument,
                incarnation: self.config.incarnation,
                operand: order.operand,
                ..Header::request(order.op, space.ras, request.id, order.addr, order.len)
            };
            let payload = match request.payload(packet) {
                Some(range) => Some((self.ops.get(request.of)?.new.data.bytes(), range)),
                None => None,
            };
            let sent = Packet {
                to: (request.node, request.port),
                header,
                key: space.key,
                payload,
            };
            self.wake_at(until);
            return Some(sent);
        }
    }
}

fn order(op: wire::Op, addr: u64) -> Order {
    Order {
        op,
        addr,
        len: 0,
        argument: 0,
        operand: 0,
        flags: 0,
        send: 0,
        at: 0,
    }
}

fn word(op: wire::Op, addr: u64) -> Order {
    Order {
        len: 8,
        ..order(op, addr)
    }
}

/// The node of a route, or the error when there is none, and whether a new table could not change
/// that.
fn locate(peers: &[Peer], route: Route) -> Result<(u32, u16), (Error, bool)> {
    match route {
        Route::Nowhere => Err((EFAULT, false)),
        Route::Lost => Err((EIO, false)),
        Route::To {
            node,
            port,
            incarnation,
            ..
        } => {
            let at = peers.binary_search_by(|peer| peer.node.id.cmp(&node));
            let peer = at.ok().and_then(|at| peers.get(at));
            let peer = peer.ok_or((EHOSTDOWN, false))?;
            let known = peer.node.incarnation != 0 && incarnation != 0;
            if !peer.node.up {
                Err((EHOSTDOWN, true))
            } else if known && peer.node.incarnation != incarnation {
                Err((EIO, false))
            } else {
                Ok((node, port))
            }
        }
    }
}
