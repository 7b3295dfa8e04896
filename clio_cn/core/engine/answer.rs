// SPDX-License-Identifier: GPL-2.0

//! Answers.

use super::super::{
    op::{Data, Kind, Stage},
    request::SLOT_BITS,
    table::Key,
    wire::{self, Header, Path, Remedy, Status},
};
use super::Engine;
use kernel::{prelude::*, siphash};

impl<D: Data> Engine<D> {
    fn request_of(&self, header: &Header) -> Option<Key> {
        let slot = header.id & ((1 << SLOT_BITS) - 1);
        let (key, request) = self.requests.at(slot as usize)?;
        let space = self.spaces.get(request.space)?;
        (request.answers_to(header.id)
            && header.is_response()
            && header.op == request.order.op
            && header.ras == space.ras
            && header.node == self.config.node
            && header.incarnation == self.config.incarnation)
            .then_some(key)
    }

    /// The key that an answer has to be sealed with (`wire::Header::verify`), before
    /// it is [`Engine::answer`]ed. `None`: nobody waits for it.
    pub fn key_for(&mut self, header: &Header) -> Option<siphash::Key> {
        let key = self
            .request_of(header)
            .and_then(|key| self.requests.get(key))
            .and_then(|request| self.spaces.get(request.space))
            .map(|space| space.key);
        self.stats.stray += u64::from(key.is_none());
        key
    }

    /// An answer came: it was sealed with the right key, or is
    /// [`wire::flags::UNSIGNED`].
    pub fn answer(&mut self, now: u64, header: &Header, payload: &[u8]) {
        let taken = self
            .request_of(header)
            .and_then(|key| self.take(key, now, header, payload));
        self.stats.stray += u64::from(taken.is_none());
    }

    fn take(&mut self, key: Key, now: u64, header: &Header, payload: &[u8]) -> Option<()> {
        let hint = header.flags & wire::flags::UNSIGNED != 0;
        match (header.status, header.status.remedy()) {
            (Status::Ok, _) if !hint => self.take_part(key, now, header, payload),
            // Anybody can say so; that the home is asked does no harm.
            (Status::NoSpaceId, _) => self.take_refusal(key, now, header),
            _ if hint => None,
            (_, Remedy::None) => self.take_failure(key, now, header),
            _ => self.take_refusal(key, now, header),
        }
    }

    fn take_part(&mut self, key: Key, now: u64, header: &Header, payload: &[u8]) -> Option<()> {
        let request = self.requests.get_mut(key)?;
        let before = request.in_flight();
        let part = request.part(header, payload.len())?;
        let bit = 1 << part;
        if request.got & bit != 0 {
            return None;
        }
        request.got |= bit;
        request.result = header.operand;
        let gone = before.saturating_sub(request.in_flight());
        let came = request.expected.min(payload.len() as u64);
        request.expected -= came;
        let packet = if request.is_split() { part } else { 0 };
        let delay = request.delay(packet, now);
        let measured = header.id == request.id && header.op.path() == Path::Fast;
        let (of, node, tries, at) = (request.of, request.node, request.tries, request.order.at);
        let over = request.is_over();
        self.iwnd.settle(came);
        if let Some(peer) = self.find(node).and_then(|at| self.peers.get_mut(at)) {
            if measured {
                peer.rtt.sample(now, delay);
            }
            // Of an offload's answers there may be fewer than were expected.
            let fewer = if gone != 0 && measured {
                peer.cwnd.answered(now, delay, &peer.rtt);
                gone - 1
            } else {
                gone
            };
            peer.cwnd.gone(fewer);
            let timeout = now.saturating_add(peer.rtt.timeout(tries));
            if let Some(request) = self.requests.get_mut(key) {
                request.timeout = request.timeout.max(timeout);
            }
        }
        if let Some(op) = self.ops.get_mut(of) {
            if header.op == wire::Op::Offload {
                op.new.data.output(header.len as usize);
            }
            if !payload.is_empty() {
                let offset = usize::try_from(header.offset).ok()?;
                op.new.data.store(at.checked_add(offset)?, payload);
            }
        }
        if over {
            self.request_over(key, now);
        }
        Some(())
    }

    /// Not executed for now, or not there.
    fn take_refusal(&mut self, key: Key, now: u64, header: &Header) -> Option<()> {
        let request = self.requests.get_mut(key)?;
        if header.id != request.id {
            return None;
        }
        if header.status.remedy() == Remedy::Route {
            self.stats.moved += 1;
            self.unroute(key, now, true);
        } else {
            self.stats.paused += 1;
            let tries = request.tries;
            let again = now.saturating_add(self.pause(tries));
            self.stop(key, now, false);
            self.pause_request(key, again);
        }
        Some(())
    }

    fn take_failure(&mut self, key: Key, now: u64, header: &Header) -> Option<()> {
        let request = self.requests.get_mut(key)?;
        if header.id != request.id {
            return None;
        }
        request.error = Some(header.status);
        self.request_over(key, now);
        Some(())
    }

    /// A request has its answer.
    fn request_over(&mut self, key: Key, now: u64) {
        let Some(request) = self.requests.get(key) else {
            return;
        };
        let (of, status, value) = (request.of, request.error, request.result);
        let (order, space) = (request.order, request.space);
        self.drop_request(key);
        let Some(op) = self.ops.get_mut(of) else {
            return;
        };
        match (op.new.kind, status) {
            (Kind::Lock { .. }, Some(Status::Held)) => {
                op.attempts = op.attempts.saturating_add(1);
                let attempts = op.attempts;
                let again = now.saturating_add(self.pause(attempts));
                self.change_stage(of, Stage::Waiting(again));
                return self.wake_at(again);
            }
            (Kind::Alloc { .. }, _) if !op.fallback => {
                return self.allocated(of, &order, status, value);
            }
            (Kind::Free, None) => {
                if let Some(space) = self.spaces.get_mut(space) {
                    let size = space.region_size();
                    if let Some(index) = space.index(order.addr) {
                        space.set_room(index, |room| room.saturating_add(order.operand).min(size));
                    }
                }
            }
            (_, None) if op.result.is_ok() => op.result = Ok(value),
            _ => {}
        }
        if let Some(error) = status.and_then(|status| status.to_result().err()) {
            self.fail(of, error);
        }
        self.go_on(of);
    }

    /// An operation fails, once the requests of it that were sent are over.
    fn fail(&mut self, key: Key, error: Error) {
        let Some(op) = self.ops.get_mut(key) else {
            return;
        };
        if op.result.is_ok() {
            op.result = Err(error);
        }
        let mut next = op.requests.first(&self.requests);
        while let Some(request) = next {
            next = self
                .ops
                .get(key)
                .and_then(|op| op.requests.after(&self.requests, request));
            let sent = self
                .requests
                .get(request)
                .is_some_and(|request| request.sent | request.got != 0 || request.tries != 0);
            if !sent {
                self.drop_request(request);
            }
        }
    }

    /// An operation has one request less: it makes more, or is over.
    pub(super) fn go_on(&mut self, key: Key) {
        if self
            .ops
            .get(key)
            .is_some_and(|op| op.stage == Stage::Running)
        {
            self.ready.push(&mut self.ops, key);
        }
    }

    /// A region answered an allocation, or a part of one.
    fn allocated(
        &mut self,
        key: Key,
        order: &super::super::request::Order,
        status: Option<Status>,
        value: u64,
    ) {
        let Some(op) = self.ops.get_mut(key) else {
            return;
        };
        let len = op.new.len;
        let Some(space) = self.spaces.get_mut(op.new.space) else {
            return self.finish(key, Err(ENOENT));
        };
        match status {
            None if op.base == 0 => return self.finish(key, Ok(value)),
            None => {
                op.cursor = op.cursor.saturating_add(order.operand);
                if op.cursor >= len {
                    let base = op.base;
                    return self.finish(key, Ok(base));
                }
            }
            // The quota of one region: its home knows that of all.
            Some(Status::NoSpace | Status::Quota) if op.base == 0 => {
                let index = space.index(order.addr).unwrap_or(0);
                space.set_room(index, |room| room.min(len.saturating_sub(1)));
                op.cursor = u64::from(index) + 1;
                op.not = index.saturating_add(1);
            }
            Some(status) => {
                let error = status.to_result().err().unwrap_or(EPROTO);
                op.result = Err(error);
                // What it got of the regions before goes back.
                op.fallback = true;
                op.new.len = if op.base == 0 { 0 } else { op.cursor };
                op.new.addr = op.base;
                op.cursor = 0;
            }
        }
        self.go_on(key);
    }
}
