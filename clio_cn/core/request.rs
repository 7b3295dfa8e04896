// SPDX-License-Identifier: GPL-2.0

//! A request: at most [`MAX_FRAGMENTS`] packets to one memory node, and their
//! answers, in any order (T1 of section 4.4.5).

use super::{table::Key, wire};
use core::ops::Range;

/// Most packets of a request, and of its answer.
pub const MAX_FRAGMENTS: u32 = 64;
/// Bits of an id that name a slot of the table of requests.
pub const SLOT_BITS: u32 = 16;
/// Tries of a request whose answers are still taken.
const LATE: usize = 2;

/// Links of a request: among those that have something to send to a node, or
/// that wait for a route.
pub(super) const SENDING: usize = 0;
/// Links of a request: among those of its operation.
pub(super) const OF_OP: usize = 1;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Something is to be sent, when the windows let it.
    Sending,
    /// All is sent.
    Waiting,
    /// To be sent again, not before then.
    Paused(u64),
    /// To be sent again once the regions are known.
    Unrouted,
}

/// What a request is to do: the parts of the header that stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) op: wire::Op,
    pub(super) addr: u64,
    pub(super) len: u32,
    pub(super) argument: u32,
    pub(super) operand: u64,
    /// [`wire::flags::CONTINUED`] or 0.
    pub(super) flags: u8,
    /// Bytes that are sent, from `at` on in those of the operation.
    pub(super) send: u32,
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct Request {
    pub(super) of: Key,
    pub(super) space: Key,
    pub(super) node: u32,
    pub(super) port: u16,
    pub(super) order: Order,
    /// Largest payload of its packets.
    pub(super) unit: u32,
    pub(super) state: State,
    pub(super) id: u64,
    pub(super) first: u64,
    late: [u64; LATE],
    pub(super) tries: u32,
    /// Packets sent in this try; answers that came in any; answers there are.
    pub(super) sent: u64,
    pub(super) got: u64,
    pub(super) need: u64,
    /// When each packet of this try was sent, in us.
    sent_at: [u32; MAX_FRAGMENTS as usize],
    /// When to stop waiting for an answer, ns.
    pub(super) timeout: u64,
    /// Bytes of answers that were asked for and did not come.
    pub(super) expected: u64,
    pub(super) error: Option<wire::Status>,
    pub(super) result: u64,
}

/// The `count` lowest bits.
fn mask(count: u32) -> u64 {
    match count {
        0 => 0,
        64.. => u64::MAX,
        _ => (1 << count) - 1,
    }
}

impl Request {
    pub(super) fn new(
        of: Key,
        space: Key,
        (node, port): (u32, u16),
        order: Order,
        unit: u32,
    ) -> Self {
        let answer = match order.op {
            wire::Op::Read => order.len,
            wire::Op::Write | wire::Op::FlushFetch => order.send,
            // As long as nothing is known of it: the longest output.
            wire::Op::Offload => order.operand as u32,
            _ => 0,
        };
        Self {
            of,
            space,
            node,
            port,
            unit,
            state: State::Sending,
            id: 0,
            first: 0,
            late: [0; LATE],
            tries: 0,
            sent: 0,
            got: 0,
            need: mask(answer.div_ceil(unit).max(1)),
            sent_at: [0; MAX_FRAGMENTS as usize],
            timeout: u64::MAX,
            expected: 0,
            error: None,
            result: 0,
            order,
        }
    }

    /// Lets a flush-and-fetch only write. What the node remembers of it counts on.
    pub(super) fn only_write(&mut self) {
        self.order = Order {
            op: wire::Op::Write,
            addr: self.order.operand,
            operand: 0,
            ..self.order
        };
        self.got = 0;
        self.late = [0; LATE];
    }

    /// Whether each packet has an answer of its own; else one packet has all.
    pub(super) fn is_split(&self) -> bool {
        matches!(self.order.op, wire::Op::Write | wire::Op::FlushFetch)
    }

    /// Gives it the id of a new try.
    pub(super) fn set_id(&mut self, id: u64) {
        if self.first == 0 {
            self.first = id;
        } else {
            // An answer to an earlier try of these says as much as one to the last.
            if matches!(
                self.order.op,
                wire::Op::Read | wire::Op::Write | wire::Op::FlushFetch
            ) {
                self.late.rotate_right(1);
                self.late[0] = self.id;
            }
            self.tries = self.tries.saturating_add(1);
        }
        self.id = id;
        self.sent = 0;
    }

    /// Whether an answer with this id is one to it.
    pub(super) fn answers_to(&self, id: u64) -> bool {
        id != 0 && (self.id == id || self.late.contains(&id))
    }

    /// The next packet to send.
    pub(super) fn next(&self) -> Option<u32> {
        let left = if self.is_split() {
            self.need & !self.got & !self.sent
        } else {
            1 & !self.sent
        };
        (left != 0 && !self.is_over()).then(|| left.trailing_zeros())
    }

    /// Answers that are to come, of those that were asked for in this try.
    pub(super) fn in_flight(&self) -> u64 {
        let asked = match self.is_split() {
            true => self.sent,
            false if self.sent != 0 => self.need,
            false => 0,
        };
        (asked & !self.got).count_ones().into()
    }

    /// Whether all answers came.
    pub(super) fn is_over(&self) -> bool {
        self.got & self.need == self.need
    }

    /// Bytes of the answers to a packet.
    pub(super) fn answer_len(&self, packet: u32) -> u64 {
        match self.order.op {
            wire::Op::Read => self.order.len.into(),
            wire::Op::Offload => self.order.operand & 0xffff_ffff,
            wire::Op::FlushFetch => self.range(packet).len() as u64,
            _ => 0,
        }
    }

    /// The bytes that a packet sends, in those that the request sends.
    fn range(&self, packet: u32) -> Range<usize> {
        let from = packet.saturating_mul(self.unit).min(self.order.send);
        let to = from.saturating_add(self.unit).min(self.order.send);
        match self.is_split() {
            true => from as usize..to as usize,
            false => 0..self.order.send as usize,
        }
    }

    /// The bytes that a packet sends, in those of the operation.
    pub(super) fn payload(&self, packet: u32) -> Option<Range<usize>> {
        let range = self.range(packet);
        let at = self.order.at;
        (!range.is_empty()).then(|| at + range.start..at + range.end)
    }

    /// A packet was sent at `now`.
    pub(super) fn sent(&mut self, packet: u32, now: u64) {
        self.sent |= 1 << packet;
        if let Some(at) = self.sent_at.get_mut(packet as usize) {
            *at = (now / 1000) as u32;
        }
    }

    /// How long the answer took that came at `now`, ns.
    pub(super) fn delay(&self, packet: u32, now: u64) -> u64 {
        let at = self.sent_at.get(packet as usize).copied().unwrap_or(0);
        u64::from(((now / 1000) as u32).wrapping_sub(at)) * 1000
    }

    /// Which of the answers a packet of it is; `None` if it is none of them.
    pub(super) fn part(&mut self, header: &wire::Header, payload: usize) -> Option<u32> {
        let unit = self.unit;
        if header.offset % unit != 0 || payload > unit as usize {
            return None;
        }
        let at = u64::from(header.offset) + payload as u64;
        let part = header.offset / unit;
        let whole = match self.order.op {
            wire::Op::Write => return self.is_wanted(part).then_some(part),
            wire::Op::Read | wire::Op::FlushFetch => self.order.len,
            wire::Op::Offload => {
                if u64::from(header.len) > self.order.operand & 0xffff_ffff {
                    return None;
                }
                self.need = mask(header.len.div_ceil(unit).clamp(1, MAX_FRAGMENTS));
                header.len
            }
            _ => return (part == 0 && payload == 0).then_some(0),
        };
        // All that belongs there, and no more.
        let end = (u64::from(header.offset) + u64::from(unit)).min(whole.into());
        (at == end && self.is_wanted(part)).then_some(part)
    }

    /// Whether there is such an answer.
    pub(super) fn is_wanted(&self, part: u32) -> bool {
        part < MAX_FRAGMENTS && self.need & (1 << part) != 0
    }
}
