// SPDX-License-Identifier: GPL-2.0

//! Messages that come.

use super::{
    super::{
        class::Class,
        connection::Generation,
        membership::{judge, Verdict},
        session::{Arrival, CallRef},
        wire::{Header, Imm, Kind, Refusal, WireError, HEADER_LEN},
    },
    Config, Peer,
};
use kernel::prelude::*;

/// Why a connection was broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A message could not be decoded.
    Wire(WireError),
    /// A message or a credit does not fit the ring.
    Ring,
    /// A message has another cluster, or another incarnation than the hello.
    Identity,
}

impl From<WireError> for Violation {
    fn from(e: WireError) -> Self {
        Self::Wire(e)
    }
}

impl From<Violation> for Error {
    fn from(v: Violation) -> Error {
        match v {
            Violation::Wire(e) => e.into(),
            Violation::Ring => EPROTO,
            Violation::Identity => ESTALE,
        }
    }
}

/// A call to execute. Its payload stands in our ring until the next
/// [`Peer::poll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// To name it in [`Peer::executed`] or [`Peer::refuse`].
    pub call: CallRef,
    /// Port called.
    pub port: u16,
    /// Payload: bytes from the start of our ring.
    pub offset: u32,
    /// Payload: length.
    pub len: u32,
    /// Bytes of reply that the caller takes.
    pub reply_cap: u32,
    /// The caller wants no reply, only to know that it was taken in.
    pub notify: bool,
    /// Its class of service.
    pub class: Class,
    /// The caller's incarnation.
    pub src_incarnation: u64,
    /// Epoch, the caller's and ours.
    pub epoch: u64,
    /// When the caller gives up, by our clock, at the latest.
    pub expires: u64,
}

/// What came of a received message.
#[derive(Debug)]
pub enum Received<C> {
    /// Nothing for the edge to do but [`Peer::poll`].
    Nothing,
    /// Execute it.
    Execute(Request),
    /// A call of ours has its reply. Its payload stands in our ring until the
    /// next [`Peer::poll`], or was written to the caller's buffer.
    Reply {
        /// What was given with the call.
        token: C,
        /// What the handler returned if negative, else 0.
        status: i32,
        /// Bytes from the start of our ring; `None` when it was written to the
        /// caller's buffer.
        offset: Option<u32>,
        /// Bytes of the reply; not more than the call's `reply.cap`.
        len: u32,
    },
    /// A call of ours got a reply that is larger than it takes; it fails.
    Failed {
        /// What was given with the call.
        token: C,
        /// Why.
        error: Error,
    },
}

impl<C, R> Peer<C, R> {
    /// A receive completed with immediate data (host order). Gives the offset
    /// in our ring where a message begins, whose header then goes to
    /// [`Self::message`].
    pub fn immediate(
        &mut self,
        now: u64,
        generation: Generation,
        imm: u32,
    ) -> Result<Option<u32>, Violation> {
        if !self.flows(now, generation) {
            return Ok(None);
        }
        let result = self.try_immediate(now, imm);
        if result.is_err() {
            self.break_off(now);
        }
        result
    }

    fn try_immediate(&mut self, now: u64, imm: u32) -> Result<Option<u32>, Violation> {
        match Imm::decode(imm)? {
            Imm::Message { offset } if self.rx.expects(offset) => Ok(Some(offset)),
            Imm::Message { .. } => Err(Violation::Ring),
            Imm::Credit { consumed } => {
                self.tx.credit(consumed).map_err(|_| Violation::Ring)?;
                self.heartbeat.heard(now);
                Ok(None)
            }
        }
    }

    /// The header of the message at `offset`. A violation breaks the connection
    /// off; the edge may log it.
    pub fn message(
        &mut self,
        now: u64,
        generation: Generation,
        offset: u32,
        header: &[u8],
    ) -> Result<Received<C>, Violation> {
        if !self.flows(now, generation) {
            return Ok(Received::Nothing);
        }
        let result = self.try_message(now, offset, header);
        if result.is_err() {
            self.break_off(now);
        }
        result
    }

    fn break_off(&mut self, now: u64) {
        self.connection.break_off(now);
        self.disconnected();
        self.heartbeat.disconnected();
    }

    fn try_message(
        &mut self,
        now: u64,
        offset: u32,
        header: &[u8],
    ) -> Result<Received<C>, Violation> {
        let header = Header::decode(header, self.config.max_payload())?;
        let verdict = judge(&self.local, &self.view, self.life, &header);
        if verdict == Verdict::Violation {
            return Err(Violation::Identity);
        }
        let len = HEADER_LEN as u32 + header.ring_payload();
        self.rx.consume(offset, len).map_err(|_| Violation::Ring)?;
        self.tx.credit(header.credit).map_err(|_| Violation::Ring)?;
        self.connection.proven();
        self.heartbeat.heard(now);
        self.see_epoch(header.epoch);
        if !self.view.pinned && header.epoch == self.view.epoch {
            self.view.pinned = true;
            self.met = Some(header.src_incarnation);
        }
        Ok(match header.kind {
            Kind::Call => self.call(now, offset, &header, verdict),
            Kind::Reply => self.reply(offset, &header),
            Kind::Refuse => {
                if let Some(refusal) = header.refusal() {
                    self.calls.refused(now, header.call, refusal);
                }
                Received::Nothing
            }
            Kind::Heartbeat => Received::Nothing,
        })
    }

    fn call(&mut self, now: u64, offset: u32, header: &Header, verdict: Verdict) -> Received<C> {
        let known = self.session.knows(header.call);
        match verdict {
            Verdict::Refuse(refusal) if !known => {
                let refusal = match refusal {
                    Refusal::StaleEpoch => self.session.stale(header.epoch),
                    refusal => refusal,
                };
                self.session.refuse_now(header.call, refusal);
                return Received::Nothing;
            }
            _ => {}
        }
        let wait = u64::from(header.arg).saturating_mul(Config::MS);
        let expires = now.saturating_add(wait);
        let class = header.class;
        match self
            .session
            .arrive(header.call, class, header.reply, expires)
        {
            Arrival::Known => Received::Nothing,
            Arrival::Execute(call) => Received::Execute(Request {
                call,
                port: header.port,
                offset: offset + HEADER_LEN as u32,
                len: header.len,
                reply_cap: header.reply.cap,
                notify: header.notify,
                class,
                src_incarnation: header.src_incarnation,
                epoch: header.epoch,
                expires,
            }),
        }
    }

    fn reply(&mut self, offset: u32, header: &Header) -> Received<C> {
        let Some(cap) = self.calls.reply_cap(header.call) else {
            return Received::Nothing;
        };
        let Some(token) = self.calls.take(header.call) else {
            return Received::Nothing;
        };
        if header.len > cap {
            return Received::Failed {
                token,
                error: EMSGSIZE,
            };
        }
        Received::Reply {
            token,
            status: header.arg as i32,
            offset: (!header.direct).then_some(offset + HEADER_LEN as u32),
            len: header.len,
        }
    }
}
