// SPDX-License-Identifier: GPL-2.0

//! Another node: drives its [protocol](crate::core::Peer) by what happens on the link, by time and
//! by calls, and does what the protocol says.
//!
//! Messages are sent under the peer's lock, in the order in which the protocol gives them. Softirqs
//! take it too, as that is where messages come in. What may sleep (making and ending links, the
//! map's lock) is left to a work item.

mod chores;
mod messages;
mod reply;
mod send;

pub(crate) use reply::Reply;

use crate::{
    call::Pending,
    core::{
        stats::{PortStats, Stats},
        wire::{Header, HEADER_LEN},
        Action,
        CallId,
        CallRef,
        Choice,
        Health,
        NewCall,
        Recent,
        Refusal,
        Transport,
        View, //
    },
    events::{self, now},
    host::Host,
    trace,
    transport::NodeLink,
    uapi,
};
use kernel::{
    fmt, impl_has_delayed_work, impl_has_work, new_delayed_work, new_spinlock_bh, new_work,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        SpinLockBh, //
    },
    time::msecs_to_jiffies,
    workqueue::{self, DelayedWork, Work},
};

const MS: u64 = 1_000_000;
/// Ports share what is known of the time that their calls take, modulo this.
const PORT_KINDS: usize = 8;
/// The same complaint about a peer is made again after this long.
const COMPLAIN_AGAIN: u64 = 60_000 * MS;

pub(crate) type PeerLink = NodeLink<Peer>;
type Protocol = crate::core::Peer<Arc<Pending>, Reply>;

/// What is left to the work item.
#[derive(Default)]
struct Chores {
    connect: Option<u32>,
    end: KVec<PeerLink>,
    /// The peer showed this incarnation.
    met: Option<u64>,
}

impl Chores {
    fn end_later(&mut self, link: PeerLink) {
        if self.end.push(link.clone(), GFP_ATOMIC).is_err() {
            // It ends by itself, and is reported when it has.
            link.fail(ENOMEM);
        }
    }

    fn is_empty(&self) -> bool {
        self.connect.is_none() && self.end.is_empty() && self.met.is_none()
    }
}

struct State {
    protocol: Protocol,
    link: Option<PeerLink>,
    /// Over what the next attempt to connect goes.
    choice: Choice,
    /// The newest generation that was to be torn down.
    torn_down: Option<u32>,
    chores: Chores,
    /// When the timer runs next.
    armed: u64,
    stopped: bool,
    /// What was complained about lately, and when.
    complaints: [(u32, u64); 8],
}

/// Another node.
#[pin_data]
pub(crate) struct Peer {
    host: Arc<Host>,
    id: u16,
    #[pin]
    state: SpinLockBh<State>,
    #[pin]
    stats: SpinLockBh<Stats>,
    pub(crate) accessed: Accessed,
    /// What recent calls took, by port.
    recent: [Atomic<u64>; PORT_KINDS],
    #[pin]
    timer: DelayedWork<Peer, 0>,
    #[pin]
    chores: Work<Peer, 1>,
}

/// Parts of regions of a peer that were read or written.
pub(crate) struct Accessed {
    /// By us alone: RDMA, or a copy.
    pub(crate) one_sided: Atomic<u64>,
    /// By the peer, which was called for that.
    pub(crate) by_calls: Atomic<u64>,
}

impl Accessed {
    const fn none() -> Self {
        Self {
            one_sided: Atomic::new(0),
            by_calls: Atomic::new(0),
        }
    }
}

impl_has_delayed_work! {
    impl HasDelayedWork<Peer, 0> for Peer { self.timer }
}
impl_has_work! {
    impl HasWork<Peer, 1> for Peer { self.chores }
}

/// Kinds of complaints, to tell repeated ones.
mod complaint {
    pub(super) const CONNECT: u32 = 1 << 16;
    pub(super) const REJECTED: u32 = 2 << 16;
    pub(super) const VIOLATION: u32 = 3 << 16;
    pub(super) const HELLO: u32 = 4 << 16;
    pub(super) const CALL: u32 = 5 << 16;
    pub(super) const LOST: u32 = 6 << 16;
    pub(super) const ACCESS: u32 = 7 << 16;
}

impl Peer {
    /// A peer that no map named yet.
    pub(crate) fn new(host: &Arc<Host>, id: u16) -> Result<Arc<Self>> {
        let protocol = Protocol::new(host.config, host.local, id)?;
        Arc::pin_init(
            pin_init!(Self {
                host: host.clone(),
                id,
                stats <- new_spinlock_bh!(Stats::new(), "lite_stats"),
                accessed: Accessed::none(),
                recent: [const { Atomic::new(0) }; PORT_KINDS],
                state <- new_spinlock_bh!(State {
                    protocol,
                    link: None,
                    choice: Choice::new(),
                    torn_down: None,
                    chores: Chores::default(),
                    armed: u64::MAX,
                    stopped: false,
                    complaints: [(0, 0); 8],
                }, "lite_peer"),
                timer <- new_delayed_work!("Peer::timer"),
                chores <- new_work!("Peer::chores"),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    pub(crate) fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Whether it is suspected.
    pub(crate) fn is_suspect(&self) -> bool {
        self.state.lock().protocol.is_suspect()
    }

    /// Says what went wrong, unless that was said lately.
    fn complain(&self, state: &mut State, what: u32, text: fmt::Arguments<'_>) {
        let now = now();
        let recent = |at: u64| at != 0 && now < at.saturating_add(COMPLAIN_AGAIN);
        let known = |&(said, at): &(u32, u64)| said == what && recent(at);
        if state.complaints.iter().any(known) {
            return;
        }
        // Instead of the oldest one.
        if let Some(entry) = state.complaints.iter_mut().min_by_key(|(_, at)| *at) {
            *entry = (what, now);
        }
        pr_warn!("{}: node {}: {}\n", self.host.node.name(), self.id, text);
    }

    /// A map is in force.
    pub(crate) fn set_view(self: &Arc<Self>, view: View) {
        self.with(|state| {
            state.complaints = [(0, 0); 8];
            state.protocol.set_view(now(), view);
        });
    }

    /// Does something with the protocol, and then what the protocol says.
    fn with<T>(self: &Arc<Self>, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state);
        self.drive(&mut state);
        result
    }

    /// The peer showed its incarnation in a message.
    fn meet(self: &Arc<Self>, incarnation: u64) {
        let view = self.host.learn(|map| map.met(self.id, incarnation));
        if let Ok(view) = view {
            self.with(|state| state.protocol.set_view(now(), view));
        }
    }

    /// Does what the protocol says.
    fn drive(self: &Arc<Self>, state: &mut State) {
        let now = now();
        let State {
            protocol,
            link,
            torn_down,
            chores,
            ..
        } = state;
        while let Some(action) = protocol.poll(now) {
            match action {
                Action::Connect(generation) => chores.connect = Some(generation),
                Action::Disconnect(generation) => {
                    *torn_down = Some(generation);
                    trace::link_down(self.host.node.name(), self.id.into(), generation, 0);
                    if chores.connect == Some(generation) {
                        chores.connect = None;
                    }
                    if let Some(old) = link.take_if(|link| link.tag() == generation) {
                        chores.end_later(old);
                    }
                }
                Action::Transmit {
                    generation,
                    slot,
                    imm,
                    header,
                    payload,
                    len,
                    direct,
                } => {
                    let Some(link) = link.as_ref().filter(|link| link.tag() == generation) else {
                        continue;
                    };
                    let sent = send::transmit(link, slot.offset, imm, header, payload, len, direct);
                    self.trace_message(trace::message_sent, &header);
                    if let Err(e) = sent {
                        link.fail(e);
                    }
                }
                Action::Credit { generation, imm } => {
                    if let Some(link) = link.as_ref().filter(|link| link.tag() == generation) {
                        if let Err(e) = link.ring_bell(imm) {
                            link.fail(e);
                        }
                    }
                }
                Action::Complete { token, error } => token.finish(Err(error)),
                Action::Health(health) => self.tell_health(health),
                Action::Fenced(epoch) => {
                    let event = events::event(uapi::EVENT_FENCED, self.id, 0, epoch, 0);
                    self.host.node.readers.tell(event);
                    let name = self.host.node.name();
                    pr_warn!("{name}: node {}: lives in newer epoch {epoch}\n", self.id);
                }
                Action::Met(incarnation) => chores.met = Some(incarnation),
            }
        }
        if state.stopped {
            return;
        }
        if !state.chores.is_empty() {
            // Queued already: it will find the new chores as well.
            let _ = self.host.queues().links.enqueue::<_, 1>(self.clone());
        }
        let next = state.protocol.next_tick();
        if next < state.armed {
            state.armed = next;
            let wait = msecs_to_jiffies(next.saturating_sub(now).div_ceil(MS).min(60_000) as u32);
            let links = &self.host.queues().links;
            links.enqueue_or_move::<_, 0>(self.clone(), wait);
        }
    }

    /// Tells of a message with this header.
    fn trace_message(&self, tell: fn(&CStr, u32, u32, u32, u32, u64), header: &[u8; HEADER_LEN]) {
        if !cfg!(CONFIG_TRACEPOINTS) {
            return;
        }
        if let Ok(header) = Header::decode(header, u32::MAX) {
            tell(
                self.host.node.name(),
                self.id.into(),
                header.kind as u32,
                header.port.into(),
                header.len,
                u64::from(header.call.slot()) << 48 | header.call.seq(),
            );
        }
    }

    fn tell_health(&self, health: Health) {
        let (kind, reason) = match health {
            Health::Suspect(reason) => (uapi::EVENT_SUSPECT, reason as u32),
            Health::Alive => (uapi::EVENT_ALIVE, 0),
        };
        let name = self.host.node.name();
        match health {
            Health::Suspect(why) => pr_info!("{name}: node {} is suspected: {why:?}\n", self.id),
            Health::Alive => pr_info!("{name}: node {} answers again\n", self.id),
        }
        let event = events::event(kind, self.id, reason, self.host.epoch(), 0);
        self.host.node.readers.tell(event);
    }

    /// Makes a call; its end comes to `pending`.
    pub(crate) fn submit(self: &Arc<Self>, call: NewCall, pending: Arc<Pending>) -> Result<CallId> {
        let submitted = self.with(|state| state.protocol.submit(call, pending));
        submitted.map_err(|(e, _)| e)
    }

    /// Gives a call up; false when its end has come or is coming.
    pub(crate) fn cancel(self: &Arc<Self>, id: CallId) -> bool {
        self.with(|state| state.protocol.cancel(id)).is_some()
    }

    /// Time has passed.
    pub(crate) fn tick(self: &Arc<Self>) {
        self.with(|state| state.protocol.tick(now()));
    }

    /// How long to poll for the end of a call of this port, in ns.
    pub(crate) fn poll_window(&self, port: u16) -> u64 {
        let recent = self.recent[usize::from(port) % PORT_KINDS].load(Relaxed);
        Recent(recent).window(self.host.config.poll)
    }

    /// Counters of one port, in no order.
    pub(crate) fn stats_of(&self, nr: usize) -> Option<PortStats> {
        self.stats.lock().iter().nth(nr).copied()
    }

    /// A call that we executed for the peer ended, after so many ns.
    pub(crate) fn note_executed(
        &self,
        port: u16,
        ns: u64,
        request: usize,
        result: Result<(i32, usize)>,
    ) {
        let mut stats = self.stats.lock();
        stats.port(port).executed.ended(ns, request, result);
        drop(stats);
        let (status, reply) = result.unwrap_or((0, 0));
        trace::executed(
            self.host.node.name(),
            self.id.into(),
            port.into(),
            reply as u32,
            status,
            trace::errno(&result),
            ns,
        );
    }

    /// A call of this port ended, after so many ns.
    pub(crate) fn note_call(
        &self,
        port: u16,
        ns: u64,
        request: usize,
        result: Result<(i32, usize)>,
    ) {
        self.stats.lock().port(port).made.ended(ns, request, result);
        let recent = &self.recent[usize::from(port) % PORT_KINDS];
        let new = Recent(recent.load(Relaxed)).after(ns, self.host.config.poll);
        // Of two at once one may be lost, which matters little.
        recent.store(new.0, Relaxed);
    }

    /// The link that messages flow on now.
    pub(crate) fn link(&self) -> Option<PeerLink> {
        self.state.lock().link.clone()
    }

    /// What carries the connection, while there is one.
    pub(crate) fn transport(&self) -> Option<Transport> {
        let state = self.state.lock();
        let link = state.link.as_ref()?;
        let is_up = state.protocol.is_connected(link.tag());
        is_up.then(|| link.transport())
    }

    /// A call failed in a way that an operator should hear of.
    pub(crate) fn call_failed(&self, port: u16, timeout_ms: u32, e: Error) {
        let code = complaint::CALL | e.to_errno().unsigned_abs();
        self.complain(
            &mut self.state.lock(),
            code,
            fmt!("call of port {port} failed: {e:?} (deadline {timeout_ms} ms)"),
        );
    }

    /// RDMA into or out of a region of the peer failed in a way that an operator should hear of.
    pub(crate) fn access_failed(&self, what: &str, bytes: u32, timeout_ms: u64, e: Error) {
        let code = complaint::ACCESS | e.to_errno().unsigned_abs();
        self.complain(
            &mut self.state.lock(),
            code,
            fmt!("{what} of {bytes} bytes of its region failed: {e:?} (deadline {timeout_ms} ms)"),
        );
    }

    /// A handler returned.
    pub(crate) fn executed(
        self: &Arc<Self>,
        call: CallRef,
        result: Result<usize>,
        reply: Option<Reply>,
    ) {
        self.with(|state| match result {
            Ok(len) if reply.as_ref().is_some_and(Reply::is_heap) => {
                let protocol = &mut state.protocol;
                protocol.executed_in_ring(call, 0, len as u32, reply);
            }
            Ok(len) => state.protocol.executed(call, 0, len as u32, reply),
            Err(e) => state.protocol.executed(call, e.to_errno(), 0, None),
        });
    }

    /// A call was not executed, for this reason.
    pub(crate) fn refuse(self: &Arc<Self>, call: CallRef, why: Refusal) {
        self.with(|state| state.protocol.refuse(call, why));
    }

    /// Ends everything, and waits for it.
    pub(crate) fn stop(self: &Arc<Self>) {
        let (link, chores) = {
            let mut state = self.state.lock();
            state.protocol.shut_down(now());
            self.drive(&mut state);
            state.stopped = true;
            (state.link.take(), core::mem::take(&mut state.chores))
        };
        workqueue::cancel_work_sync::<Self, 1>(self);
        workqueue::cancel_delayed_work_sync::<Self, 0>(self);
        for link in Iterator::chain(chores.end.iter(), &link) {
            link.shutdown();
        }
        // A link that the chores made meanwhile.
        let late = self.state.lock().link.take();
        if let Some(late) = late {
            late.shutdown();
        }
    }
}
