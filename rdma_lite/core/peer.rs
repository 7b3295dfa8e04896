// SPDX-License-Identifier: GPL-2.0

//! One other node, with all that we know and want of it.
//!
//! See the documentation of the parent module for how to drive it.

use super::{
    calls::{Calls, NewCall, Retry},
    connection::{Connection, Generation, Role, State, Step, Timing},
    heartbeat::{Health, Heartbeat},
    membership::{judge, Local, NodeState, Verdict, View},
    ring::{max_message, RingSlot, RxRing, TxRing},
    session::{Answer, Arrival, CallRef, Session},
    wire::{
        digest, CallId, Header, Hello, Imm, Kind, Refusal, Reject, RejectReason, ReplyBuffer,
        RingAddress, WireError, HEADER_LEN,
    },
};
use kernel::prelude::*;

/// Sizes and times of a node; times in ns.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Our rings have `1 << ring_log2` bytes.
    pub ring_log2: u8,
    /// They take `1 << depth_log2` messages: post that many receives and
    /// [`Config::SPARE_RECEIVES`] more.
    pub depth_log2: u8,
    /// Calls at a time with a peer, each way: `1 << slots_log2`.
    pub slots_log2: u8,
    /// Replies of at least so many bytes go straight into the caller's buffer,
    /// if it has one.
    pub direct_min: u32,
    /// Bytes of replies kept for repetitions, for each peer.
    pub reply_cache: usize,
    /// Heartbeats are this far apart.
    pub heartbeat: u64,
    /// A peer is suspected after so many silent periods.
    pub misses: u32,
    /// A call is repeated after so long a silence (doubles).
    pub retransmit: u64,
    /// A call is repeated so long after a refusal that is worth another try
    /// (doubles five times, up to `retransmit`).
    pub retry: u64,
    /// Shortest wait before connecting again.
    pub backoff_min: u64,
    /// Longest wait before connecting again.
    pub backoff_max: u64,
    /// Time to establish a connection.
    pub connect_timeout: u64,
    /// A caller polls at most so long before it sleeps; 0: never.
    pub poll: u64,
}

impl Config {
    /// Receives to post beyond the depth, for messages that take no ring.
    pub const SPARE_RECEIVES: usize = 16;

    pub(crate) const MS: u64 = 1_000_000;

    /// What fits a node that nothing is known about.
    pub const DEFAULT: Self = Self {
        ring_log2: 20,
        depth_log2: 10,
        slots_log2: 10,
        direct_min: 32 * 1024,
        reply_cache: 1 << 20,
        heartbeat: 500 * Self::MS,
        misses: 4,
        retransmit: 1000 * Self::MS,
        retry: 2 * Self::MS,
        backoff_min: 10 * Self::MS,
        backoff_max: 1000 * Self::MS,
        connect_timeout: 3000 * Self::MS,
        poll: 50_000,
    };

    /// `EINVAL` when a size is not one that the wire can say, or a time is 0.
    pub fn check(&self) -> Result {
        let times = [
            self.heartbeat,
            self.retransmit,
            self.retry,
            self.backoff_min,
            self.connect_timeout,
            self.misses.into(),
        ];
        let sound = self.ring(0, 0).is_sound()
            && !times.contains(&0)
            && self.backoff_max >= self.backoff_min;
        if sound {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Largest request, and largest reply that goes through the ring.
    pub fn max_payload(&self) -> u32 {
        max_message(1 << self.ring_log2) - HEADER_LEN as u32
    }

    fn ring(&self, addr: u64, rkey: u32) -> RingAddress {
        RingAddress {
            addr,
            rkey,
            size_log2: self.ring_log2,
            depth_log2: self.depth_log2,
            slots_log2: self.slots_log2,
        }
    }
}

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
            calls: Calls::new(slots, retry),
            session: Session::new(slots, config.reply_cache),
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
        }
    }

    // The map.

    /// A map is in force (or, with the same epoch, the peer was met). A view
    /// that a newer one overtook is ignored.
    pub fn set_view(&mut self, now: u64, view: View) {
        let order = (view.epoch, view.incarnation).cmp(&(self.view.epoch, self.view.incarnation));
        if view.epoch < self.view.epoch || view.epoch == self.view.epoch && order.is_lt() {
            return;
        }
        let new_epoch = view.epoch > self.view.epoch;
        if self.view.epoch == 0 {
            // Another object may have stood for the peer before.
            self.session.forgets_before(view.epoch);
        }
        self.view = view;
        if view.incarnation != 0 && self.life != 0 && view.incarnation != self.life {
            self.new_life(now, view.incarnation);
        }
        if new_epoch {
            self.calls.new_epoch(view.epoch);
        }
        let up = view.is_up() && !self.shut_down;
        if !up {
            self.calls.fail_all(EHOSTDOWN);
            if self.connection.state() == State::Connected {
                self.disconnected();
            }
        }
        if matches!(view.state, Some(NodeState::Out) | None) {
            self.session.void();
            self.session.forgets_before(view.epoch);
            self.life = 0;
        }
        self.connection.want(now, up);
        self.heartbeat.watch(now, up);
    }

    fn new_life(&mut self, now: u64, incarnation: u64) {
        self.life = incarnation;
        self.session.void();
        self.calls.new_life();
        if self.connection.state() == State::Connected {
            self.disconnected();
        }
        self.connection.break_off(now);
    }

    /// Our node is switched off: all calls end by `ESHUTDOWN`.
    pub fn shut_down(&mut self, now: u64) {
        self.shut_down = true;
        self.calls.fail_all(ESHUTDOWN);
        self.session.void();
        self.connection.want(now, false);
        self.heartbeat.watch(now, false);
        self.disconnected();
    }

    // The connection.

    /// The peer asks for a connection; [`super::membership::Membership::admit`]
    /// said yes to its hello, with this view. On success: tear the second
    /// generation down if there is one, then accept the first with our hello.
    pub fn connect_request(
        &mut self,
        now: u64,
        hello: &Hello,
        view: View,
    ) -> Result<(Generation, Option<Generation>), Reject> {
        self.set_view(now, view);
        let reject = |reason| Reject {
            reason,
            epoch: self.view.epoch,
        };
        if !self.view.is_up() || self.shut_down {
            return Err(reject(RejectReason::NotMember));
        }
        if self.view.incarnation != hello.incarnation {
            return Err(reject(RejectReason::Incarnation));
        }
        let Some((generation, old)) = self.connection.request(now) else {
            return Err(reject(RejectReason::Direction));
        };
        self.disconnected();
        self.welcome(now, hello);
        Ok((generation, old))
    }

    /// The peer accepted our attempt with this hello, and `admit` said yes.
    /// When it said no, report [`Self::lost`] instead.
    pub fn connect_reply(&mut self, now: u64, generation: Generation, hello: &Hello, view: View) {
        self.set_view(now, view);
        if !self.connection.is_attempt(generation) {
            return;
        }
        if self.view.incarnation == hello.incarnation {
            self.welcome(now, hello);
        } else {
            self.connection.break_off(now);
        }
    }

    fn welcome(&mut self, now: u64, hello: &Hello) {
        // Another life than the last was noticed by `set_view`. Calls that were
        // made before any was known are for this one.
        self.life = hello.incarnation;
        self.see_epoch(hello.epoch);
        let size = hello.ring.size();
        self.max_payload = max_message(size) - HEADER_LEN as u32;
        self.calls.limit(1 << hello.ring.slots_log2);
        self.tx.open(size, 1 << hello.ring.depth_log2);
        self.rx
            .open(1 << self.config.ring_log2, 1 << self.config.depth_log2);
        self.heartbeat.heard(now);
    }

    /// The connection is established: both hellos were exchanged.
    pub fn established(&mut self, now: u64, generation: Generation) {
        if self.rx.is_open() && self.connection.established(generation) {
            self.heartbeat.sent(now);
            self.calls.resend();
        }
    }

    /// Whether messages of this connection count. The first one may overtake
    /// the word that the connection is established, and says as much.
    fn flows(&mut self, now: u64, generation: Generation) -> bool {
        self.established(now, generation);
        self.connection.is_connected(generation)
    }

    /// An attempt failed, or a connection broke; the edge has torn it down.
    /// `reject` is what the peer said, if it did.
    pub fn lost(&mut self, now: u64, generation: Generation, reject: Option<Reject>) {
        if self.connection.lost(now, generation) {
            self.disconnected();
            self.heartbeat.disconnected();
        }
        if let Some(reject) = reject {
            self.see_epoch(reject.epoch);
        }
    }

    fn disconnected(&mut self) {
        self.tx.close();
        self.rx.close();
        self.session.disconnected();
    }

    fn see_epoch(&mut self, epoch: u64) {
        if epoch > self.view.epoch && epoch > self.fenced_epoch {
            self.fenced_epoch = epoch;
            self.fenced = Some(epoch);
        }
    }

    // Messages.

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
        match self.session.arrive(header.call, header.reply, expires) {
            Arrival::Known => Received::Nothing,
            Arrival::Execute(call) => Received::Execute(Request {
                call,
                port: header.port,
                offset: offset + HEADER_LEN as u32,
                len: header.len,
                reply_cap: header.reply.cap,
                notify: header.notify,
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

    /// The next message for which there is room: answers before calls, since
    /// they end something.
    fn next_message(&mut self, now: u64) -> Option<(RingSlot, Header)> {
        if let Some(header) = self.next_answer(now) {
            let slot = self.room(&header)?;
            self.session.sent();
            return Some((slot, self.sign(header)));
        }
        while let Some(sending) = self.calls.to_send() {
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
                ..self.blank(Kind::Call, sending.id)
            };
            let slot = self.room(&header)?;
            self.calls.sent(now, sending.id);
            return Some((slot, self.sign(header)));
        }
        if self.heartbeat.due(now) {
            let header = self.blank(Kind::Heartbeat, CallId::new(0, 0));
            let slot = self.room(&header)?;
            return Some((slot, self.sign(header)));
        }
        None
    }

    fn next_answer(&mut self, now: u64) -> Option<Header> {
        let (id, answer) = self.session.to_send()?;
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
