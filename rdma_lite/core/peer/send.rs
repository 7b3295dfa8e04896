// SPDX-License-Identifier: GPL-2.0

//! Messages to send, and what else the edge has to do.

use super::{
    super::{
        class::Class,
        connection::{Generation, State, Step},
        heartbeat::Health,
        ring::RingSlot,
        session::Answer,
        wire::{digest, CallId, Header, Imm, Kind, Refusal, ReplyBuffer, HEADER_LEN},
    },
    Config, Peer,
};
use kernel::prelude::*;

/// What stands behind the header of a message to send.
#[derive(Debug)]
pub enum Payload<'a, C, R> {
    /// Nothing.
    None,
    /// The request of the call with this token.
    Request(&'a C),
    /// This reply.
    Reply(&'a R),
}

/// What the edge has to do.
#[derive(Debug)]
pub enum Action<'a, C, R> {
    /// Start to connect, with [`Peer::hello`] as private data.
    Connect(Generation),
    /// Tear a connection or an attempt down; report nothing more of it.
    Disconnect(Generation),
    /// Write a message into the peer's ring, in the order of these actions.
    Transmit {
        /// On this connection.
        generation: Generation,
        /// Where in the ring; the same place of a staging buffer of the same
        /// size is free, and stays taken until the peer has consumed it.
        slot: RingSlot,
        /// Immediate data, in host order.
        imm: u32,
        /// Stands at the start of the slot.
        header: [u8; HEADER_LEN],
        /// Follows the header, or goes to `direct`.
        payload: Payload<'a, C, R>,
        /// Bytes of payload.
        len: u32,
        /// When given, write the payload here first (same connection), and only
        /// the header to the ring.
        direct: Option<ReplyBuffer>,
    },
    /// Write nothing, with immediate data.
    Credit {
        /// On this connection.
        generation: Generation,
        /// Immediate data, in host order.
        imm: u32,
    },
    /// A call of ours ended without a reply.
    Complete {
        /// What was given with the call.
        token: C,
        /// As include/linux/rdma_lite.h says.
        error: Error,
    },
    /// Report to the control plane: SUSPECT or ALIVE.
    Health(Health),
    /// Report to the control plane: FENCED, a peer lives in this newer epoch.
    Fenced(u64),
    /// Once the peer is unlocked, call [`super::membership::Membership::met`]
    /// and hand the view to [`Peer::set_view`] (no new map).
    Met(u64),
}

impl<C, R> Peer<C, R> {
    /// The next thing to do. Call until `None`, after each event.
    pub fn poll(&mut self, now: u64) -> Option<Action<'_, C, R>> {
        match self.connection.step() {
            Some(Step::Disconnect(generation)) => return Some(Action::Disconnect(generation)),
            Some(Step::Connect(generation)) => return Some(Action::Connect(generation)),
            None => {}
        }
        if let Some((token, error)) = self.calls.pop_done() {
            return Some(Action::Complete { token, error });
        }
        if let Some(health) = self.heartbeat.report() {
            return Some(Action::Health(health));
        }
        if let Some(epoch) = self.fenced.take() {
            return Some(Action::Fenced(epoch));
        }
        if let Some(incarnation) = self.met.take() {
            return Some(Action::Met(incarnation));
        }
        if self.connection.state() != State::Connected {
            return None;
        }
        self.poll_send(now)
    }

    fn poll_send(&mut self, now: u64) -> Option<Action<'_, C, R>> {
        let generation = self.connection.generation();
        if let Some((slot, header)) = self.next_message(now) {
            self.heartbeat.sent(now);
            let payload = match header.kind {
                Kind::Call => self
                    .calls
                    .token(header.call)
                    .map_or(Payload::None, Payload::Request),
                Kind::Reply => self
                    .session
                    .bytes(header.call)
                    .map_or(Payload::None, Payload::Reply),
                Kind::Refuse | Kind::Heartbeat => Payload::None,
            };
            return Some(Action::Transmit {
                generation,
                slot,
                imm: Imm::Message {
                    offset: slot.offset,
                }
                .encode(),
                header: header.encode(),
                payload,
                len: header.len,
                direct: header.direct.then_some(header.reply),
            });
        }
        if self.heartbeat.due(now) {
            // No room: what is in flight says as much.
            self.heartbeat.sent(now);
        }
        if self.rx.credit_due() {
            let consumed = self.rx.tell();
            self.heartbeat.sent(now);
            return Some(Action::Credit {
                generation,
                imm: Imm::Credit { consumed }.encode(),
            });
        }
        None
    }

    /// The next message for which there is room. The class whose turn it is; of a class, answers
    /// before calls, since they end something.
    fn next_message(&mut self, now: u64) -> Option<(RingSlot, Header)> {
        while let Some(class) = self
            .turns
            .next(|class| self.session.has_to_send(class) || self.calls.has_to_send(class))
        {
            if let Some(header) = self.next_answer(now, class) {
                let slot = self.room(&header)?;
                self.session.sent(class);
                self.turns.sent(class, slot.len);
                return Some((slot, self.sign(header)));
            }
            let sending = self.calls.to_send(class)?;
            if sending.call.len > self.max_payload {
                self.calls.fail(sending.id, EMSGSIZE);
                continue;
            }
            let left = sending.call.deadline.saturating_sub(now);
            let header = Header {
                port: sending.call.port,
                len: sending.call.len,
                epoch: sending.epoch,
                arg: u32::try_from(left.div_ceil(Config::MS)).unwrap_or(u32::MAX),
                reply: sending.call.reply,
                notify: sending.call.notify,
                class,
                ..self.blank(Kind::Call, sending.id)
            };
            let slot = self.room(&header)?;
            self.calls.sent(now, sending.id);
            self.turns.sent(class, slot.len);
            return Some((slot, self.sign(header)));
        }
        if self.heartbeat.due(now) {
            let header = self.blank(Kind::Heartbeat, CallId::new(0, 0));
            let slot = self.room(&header)?;
            return Some((slot, self.sign(header)));
        }
        None
    }

    fn next_answer(&mut self, now: u64, class: Class) -> Option<Header> {
        let (id, answer) = self.session.to_send(class)?;
        let (status, len, reply_to, expires, ring_only) = match answer {
            Answer::Refuse(refusal) => return Some(self.refusal(id, refusal)),
            Answer::Reply {
                status,
                len,
                reply_to,
                expires,
                ring_only,
                ..
            } => (status, len, reply_to, expires, ring_only),
        };
        let has_buffer = reply_to.rkey != 0 && !ring_only;
        let direct = has_buffer && len >= self.direct_min();
        if direct && now >= expires {
            // A write to a window that is shut would break the connection.
            self.session.give_up_reply(id, Refusal::Forgotten);
            return Some(self.refusal(id, Refusal::Forgotten));
        }
        if len > reply_to.cap || !direct && len > self.max_payload {
            self.session.give_up_reply(id, Refusal::TooLarge);
            return Some(self.refusal(id, Refusal::TooLarge));
        }
        Some(Header {
            direct,
            len,
            arg: status as u32,
            reply: reply_to,
            ..self.blank(Kind::Reply, id)
        })
    }

    fn refusal(&self, id: CallId, refusal: Refusal) -> Header {
        Header {
            arg: refusal as u32,
            ..self.blank(Kind::Refuse, id)
        }
    }

    fn blank(&self, kind: Kind, call: CallId) -> Header {
        Header {
            kind,
            direct: false,
            notify: false,
            class: Class::Normal,
            port: 0,
            len: 0,
            cluster: digest(&self.local.cluster),
            epoch: self.view.epoch,
            src_incarnation: self.local.incarnation,
            dst_incarnation: self.life,
            call,
            arg: 0,
            credit: 0,
            reply: ReplyBuffer::default(),
        }
    }

    fn room(&mut self, header: &Header) -> Option<RingSlot> {
        self.tx.alloc(HEADER_LEN as u32 + header.ring_payload())
    }

    fn sign(&mut self, header: Header) -> Header {
        Header {
            credit: self.rx.tell(),
            ..header
        }
    }
}
