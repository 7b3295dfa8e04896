// SPDX-License-Identifier: GPL-2.0

//! The further queue pairs of a link, for accesses to regions (core/lanes.rs says which goes where).
//!
//! Each has a connection of its own, which whoever connected the link makes once the link is up; its
//! hello names the ring of the link, by which the peer finds that. A link does without those that
//! cannot be made, and ends when one of them breaks, since who breaks one uses keys that are void.
//! Callbacks only note what happened; the link's work item acts on it.

use super::{
    route::{resolve_path, Route},
    setup::ACK_TIMEOUT,
    token, VerbsLink, TOKEN_ACCESS,
};
use crate::{
    core::{lanes, Class, Hello},
    transport::{Link, LinkUser},
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    rdma::{
        cm::{CmId, ConnectRequest, Event, EventHandler},
        Completion,
        CompletionHandler,
        CompletionQueue,
        PollContext,
        QueuePair,
        QueuePairOptions,
        SendOp, //
    },
    sync::{Arc, ArcBorrow, SpinLockBh, UniqueArc},
};

/// Accesses that a lane takes at a time: all that a link has.
const DEPTH: u32 = crate::transport::access::MOST as u32;

/// What was noted by callbacks.
#[derive(Default)]
struct Noted {
    addr_resolved: bool,
    route_resolved: bool,
    requested: bool,
    established: bool,
    down: Option<Error>,
}

/// What callbacks of a lane know.
#[pin_data]
pub(super) struct Lane<U: LinkUser> {
    link: Arc<VerbsLink<U>>,
    number: usize,
    #[pin]
    noted: SpinLockBh<Noted>,
}

/// A lane as its link has it.
pub(super) struct Entry<U: LinkUser> {
    lane: Arc<Lane<U>>,
    id: Arc<CmId>,
    qp: Option<KBox<QueuePair<Lane<U>>>>,
    up: bool,
}

impl<U: LinkUser> Drop for Entry<U> {
    fn drop(&mut self) {
        if self.qp.is_some() {
            // Tells the peer; fails when there is no connection, which is as well.
            let _ = self.id.disconnect();
        }
        // The queue pair is drained, and then no callback comes any more.
    }
}

/// The lanes of a link but the first.
pub(super) struct Lanes<U: LinkUser> {
    entries: [Option<KBox<Entry<U>>>; lanes::MOST - 1],
    turn: usize,
}

impl<U: LinkUser> Lanes<U> {
    pub(super) const fn new() -> Self {
        Self {
            entries: [const { None }; lanes::MOST - 1],
            turn: 0,
        }
    }

    /// The queue pair for an access, if it is not that of messages.
    fn choose(&mut self, class: Class) -> Option<&QueuePair<Lane<U>>> {
        let up = |entry: &&KBox<Entry<U>>| entry.up;
        let lanes = 1 + self.entries.iter().flatten().filter(up).count();
        self.turn = self.turn.wrapping_add(1);
        let at = lanes::for_access(class, lanes, self.turn).checked_sub(1)?;
        let entry = self.entries.iter().flatten().filter(up).nth(at)?;
        entry.qp.as_deref()
    }

    /// All of them; they may be dropped where that may sleep.
    pub(super) fn take_all(&mut self) -> Self {
        ::core::mem::replace(self, Self::new())
    }
}

impl<U: LinkUser> Lane<U> {
    fn new(link: &Arc<VerbsLink<U>>, number: usize) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                link: link.clone(),
                number,
                noted <- new_spinlock_bh!(Noted::default(), "lite_lane"),
            }),
            GFP_KERNEL,
        )
    }

    fn note(&self, f: impl FnOnce(&mut Noted)) {
        f(&mut self.noted.lock());
        self.link.kick();
    }

    fn note_down(&self, why: Error) {
        self.note(|noted| {
            noted.down.get_or_insert(why);
        });
    }
}

impl<U: LinkUser> VerbsLink<U> {
    /// Gives an access to the device, on the lane for its class.
    pub(super) fn post_access(&self, class: Class, slot: usize, op: SendOp<'_>) -> Result {
        let mut state = self.state.lock();
        let state = &mut *state;
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        let token = token(TOKEN_ACCESS, slot);
        match state.lanes.choose(class) {
            Some(qp) => qp.post_send(token, op),
            None => endpoint.qp.post_send(token, op),
        }
    }

    /// Starts to make the lanes of a link that is up, and that we connected.
    pub(super) fn connect_lanes(self: &Arc<Self>) {
        let Some(route) = &self.route else { return };
        for number in 1..usize::from(self.size.lanes).min(lanes::MOST) {
            if let Err(e) = self.connect_lane(route, number) {
                pr_info!("queue pair {number} of a connection cannot be made: {e:?}\n");
                return;
            }
        }
    }

    fn connect_lane(self: &Arc<Self>, route: &Route, number: usize) -> Result {
        let lane = Lane::new(self, number)?;
        let id = CmId::new(route.net(), lane.clone(), crate::OWNER)?;
        let id = Arc::new(id, GFP_KERNEL)?;
        let entry = KBox::new(
            Entry {
                lane,
                id: id.clone(),
                qp: None,
                up: false,
            },
            GFP_KERNEL,
        )?;
        let old = self.add_lane(number, entry);
        drop(old);
        let resolving = route.resolve(&id);
        if resolving.is_err() {
            let entry = self.take_lane(number - 1);
            drop(entry);
        }
        resolving
    }

    /// Returns the entry that had this place.
    fn add_lane(&self, number: usize, entry: KBox<Entry<U>>) -> Option<KBox<Entry<U>>> {
        let mut state = self.state.lock();
        let place = state.lanes.entries.get_mut(number.wrapping_sub(1));
        match place {
            Some(place) => place.replace(entry),
            None => Some(entry),
        }
    }

    /// Takes the lane at this place away.
    fn take_lane(&self, at: usize) -> Option<KBox<Entry<U>>> {
        self.state.lock().lanes.entries.get_mut(at)?.take()
    }

    /// Acts on what was noted of the lanes. By the work item, while the link is not over.
    pub(super) fn advance_lanes(self: &Arc<Self>) {
        for at in 0..lanes::MOST - 1 {
            let found = {
                let state = self.state.lock();
                let entry = state.lanes.entries[at].as_ref();
                entry.map(|entry| (entry.lane.clone(), entry.id.clone(), entry.up))
            };
            let Some((lane, id, up)) = found else {
                continue;
            };
            match self.advance_lane(at, &lane, &id) {
                Ok(()) => {}
                Err(e) if up => self.fail(e),
                Err(e) => {
                    let entry = self.take_lane(at);
                    drop(entry);
                    // A peer may want fewer than we do.
                    if e != ECONNREFUSED {
                        let number = lane.number;
                        pr_info!("queue pair {number} of a connection cannot be made: {e:?}\n");
                    }
                }
            }
        }
    }

    fn advance_lane(self: &Arc<Self>, at: usize, lane: &Arc<Lane<U>>, id: &Arc<CmId>) -> Result {
        let noted = ::core::mem::take(&mut *lane.noted.lock());
        if let Some(e) = noted.down {
            return Err(e);
        }
        if noted.addr_resolved {
            resolve_path(id)?;
        }
        if noted.route_resolved || noted.requested {
            let qp = self.build_lane(lane, id)?;
            if let Some(entry) = &mut self.state.lock().lanes.entries[at] {
                entry.qp = Some(qp);
            }
            if noted.requested {
                id.accept(&[])?;
            } else {
                let ring = self.ring_address().ok_or(ENOTCONN)?;
                let mut hello = Hello::decode(&self.user.hello(ring)?)?;
                hello.lane = lane.number as u8;
                id.connect(&hello.encode())?;
            }
        }
        if noted.established {
            if let Some(entry) = &mut self.state.lock().lanes.entries[at] {
                entry.up = true;
            }
        }
        Ok(())
    }

    fn build_lane(&self, lane: &Arc<Lane<U>>, id: &Arc<CmId>) -> Result<KBox<QueuePair<Lane<U>>>> {
        id.set_ack_timeout(ACK_TIMEOUT)?;
        let pd = match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.pd.clone(),
            None => return Err(ENOTCONN),
        };
        let device = id.device()?;
        let options = QueuePairOptions {
            send: DEPTH.min(device.max_work_requests().saturating_sub(1)),
            recv: 1,
        };
        let capacity = options.send + options.recv + 2;
        let cq = CompletionQueue::new(&device, capacity, PollContext::Softirq, crate::OWNER)?;
        let qp = QueuePair::new(id, &pd, &cq, options, lane.clone())?;
        Ok(KBox::new(qp, GFP_KERNEL)?)
    }

    /// The peer asks for another queue pair of this link, and is refused if it cannot have it.
    pub(crate) fn accept_lane(self: &Arc<Self>, request: ConnectRequest<'_>, hello: &Hello) {
        let number = usize::from(hello.lane);
        let wanted = number != 0 && number < usize::from(self.size.lanes).min(lanes::MOST);
        let ring = self.peer_ring();
        let is_ours =
            ring.is_some_and(|ring| (ring.addr, ring.rkey) == (hello.ring.addr, hello.ring.rkey));
        let is_free = number
            .checked_sub(1)
            .and_then(|at| self.state.lock().lanes.entries.get(at).map(Option::is_none));
        // Who connected makes the lanes too.
        if self.route.is_some() || !wanted || !is_ours || is_free != Some(true) {
            return;
        }
        // First what can fail: the id must not be dropped by this handler of its event.
        let made = Lane::new(self, number).and_then(|lane| {
            let id = UniqueArc::new_uninit(GFP_KERNEL)?;
            let entry = KBox::new_uninit(GFP_KERNEL)?;
            Ok((lane, id, entry))
        });
        let Ok((lane, id, entry)) = made else {
            return;
        };
        let id = Arc::from(id.write(request.into_id(lane.clone())));
        let entry = entry.write(Entry {
            lane: lane.clone(),
            id,
            qp: None,
            up: false,
        });
        // Nobody else makes lanes here, so the place is free still. If the link has ended just now, its
        // work item drops what it finds.
        let old = self.add_lane(number, entry);
        lane.note(|noted| noted.requested = true);
        drop(old);
    }
}

impl<U: LinkUser> CompletionHandler for Lane<U> {
    fn send_done(this: ArcBorrow<'_, Self>, token: u64, completion: &Completion<'_>) {
        let result = completion.result();
        this.link.accessed(token as u32 as usize, result);
        if let Err(e) = result {
            this.link.fail(e);
        }
    }

    fn recv_done(this: ArcBorrow<'_, Self>, _token: u64, _completion: &Completion<'_>) {
        // None are posted.
        this.link.fail(EPROTO);
    }
}

impl<U: LinkUser> EventHandler for Lane<U> {
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>) {
        match event {
            Event::AddrResolved => this.note(|noted| noted.addr_resolved = true),
            Event::RouteResolved => this.note(|noted| noted.route_resolved = true),
            Event::Established { .. } => this.note(|noted| noted.established = true),
            Event::Rejected { .. } => this.note_down(ECONNREFUSED),
            Event::Failed(e) => this.note_down(e),
            Event::Disconnected => this.note_down(ECONNRESET),
            Event::DeviceRemoval => this.note_down(ENODEV),
            Event::AddrChange => this.note_down(ENETDOWN),
            Event::ConnectRequest(_) | Event::Other(_) => {}
        }
    }
}
