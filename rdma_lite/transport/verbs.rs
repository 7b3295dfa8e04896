// SPDX-License-Identifier: GPL-2.0

//! A link over a reliable connected queue pair of any verbs device.
//!
//! Events of the connection manager and completions only note what happened; the link's work item
//! acts on it, so that nothing is torn down by a callback that the teardown would wait for. Messages
//! are handed to the user where their completion comes, in softirq context; one that may have to
//! sleep goes to the [`backlog`], and all that follow it.
//!
//! A ring can be registered only once the queue pair sends. So each side registers its own as soon as
//! it may, and sends an empty message when it is connected; a link is up when that of the peer has
//! come.

mod access;
mod backlog;
mod io;
mod lane;
mod route;
mod setup;

pub(crate) use self::{route::Route, setup::domain};

use self::lane::Lanes;
use super::{access::Accesses, window::Regions, Down, LinkUser, RingSize};
use crate::{core::Backlog, host::Queues};
use kernel::{
    impl_has_work, new_spinlock_bh, new_work,
    prelude::*,
    rdma::{
        cm::{CmId, ConnectRequest},
        DmaBuffer,
        FastRegMr,
        Pd,
        QueuePair,
        RemoteAddr, //
    },
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        SpinLockBh,
        UniqueArc, //
    },
    workqueue::{self, Work},
};

/// Tokens of work requests: a kind, and an index below it.
const TOKEN_MESSAGE: u64 = 0;
const TOKEN_SETUP: u64 = 1;
const TOKEN_PUT: u64 = 2;
const TOKEN_OPEN: u64 = 3;
const TOKEN_HIDE: u64 = 4;
const TOKEN_ACCESS: u64 = 5;

const fn token(kind: u64, index: usize) -> u64 {
    kind << 32 | index as u64
}

/// What was noted by callbacks, for the work item.
#[derive(Default)]
struct Inbox {
    addr_resolved: bool,
    route_resolved: bool,
    established: Option<KVec<u8>>,
    requested: Option<KVec<u8>>,
    peer_ready: bool,
    down: Option<Down>,
}

/// All that exists once the link is bound to a device.
struct Endpoint<U: LinkUser> {
    qp: QueuePair<VerbsLink<U>>,
    pd: Arc<Pd>,
    /// Where the peer writes its messages.
    ring: Arc<DmaBuffer>,
    ring_mr: Arc<FastRegMr>,
    /// Where our messages wait to be fetched by the device: mirrors the peer's ring.
    staging: Option<Arc<DmaBuffer>>,
    remote: RemoteAddr,
    /// The peer can write to `ring`.
    registered: bool,
    /// Both hellos were said, and ours was told to be ready.
    greeted: bool,
    up: bool,
}

struct State<U: LinkUser> {
    id: Option<Arc<CmId>>,
    endpoint: Option<KBox<Endpoint<U>>>,
    regions: Regions,
    accesses: Accesses,
    lanes: Lanes<U>,
    inbox: Inbox,
    backlog: Backlog,
    /// `down` was called or is about to be; or the user has no interest any more.
    over: bool,
}

/// A link over verbs.
#[pin_data]
pub(crate) struct VerbsLink<U: LinkUser> {
    user: Arc<U>,
    size: RingSize,
    /// Where it was connected to, by us.
    route: Option<Route>,
    queues: Arc<Queues>,
    /// What the user knows the link by.
    tag: Atomic<u32>,
    /// Completed once nothing of the link is left at the device.
    #[pin]
    gone: kernel::sync::Completion,
    #[pin]
    state: SpinLockBh<State<U>>,
    #[pin]
    work: Work<VerbsLink<U>>,
    #[pin]
    backlog_work: Work<VerbsLink<U>, 1>,
}

impl_has_work! {
    impl{U: LinkUser} HasWork<Self> for VerbsLink<U> { self.work }
}
impl_has_work! {
    impl{U: LinkUser} HasWork<Self, 1> for VerbsLink<U> { self.backlog_work }
}

/// The immediate of the first message of a link: no message of the protocol has it.
const READY: u32 = u32::MAX;

const fn token_message() -> u64 {
    token(TOKEN_MESSAGE, 0)
}

impl<U: LinkUser> VerbsLink<U> {
    fn new(
        user: Arc<U>,
        size: RingSize,
        route: Option<Route>,
        queues: &Arc<Queues>,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                user,
                size,
                route,
                queues: queues.clone(),
                tag: Atomic::new(0),
                gone <- kernel::sync::Completion::new(),
                state <- new_spinlock_bh!(State {
                    id: None,
                    endpoint: None,
                    regions: Regions::new(),
                    accesses: Accesses::new(size.share),
                    lanes: Lanes::new(),
                    inbox: Inbox::default(),
                    backlog: Backlog::default(),
                    over: false,
                }, "lite_link"),
                work <- new_work!("VerbsLink::work"),
                backlog_work <- new_work!("VerbsLink::backlog_work"),
            }),
            GFP_KERNEL,
        )
    }

    /// Starts to connect to a peer. Ends in `up` or `down` of the user.
    pub(crate) fn connect(
        user: Arc<U>,
        tag: u32,
        size: RingSize,
        queues: &Arc<Queues>,
        route: Route,
    ) -> Result<Arc<Self>> {
        let this = Self::new(user, size, Some(route), queues)?;
        let route = this.route.as_ref().ok_or(EINVAL)?;
        this.set_tag(tag);
        let id = CmId::new(route.net(), this.clone(), crate::OWNER)?;
        let id = Arc::new(id, GFP_KERNEL)?;
        this.state.lock().id = Some(id.clone());
        if let Err(e) = route.resolve(&id) {
            this.state.lock().over = true;
            this.dismantle();
            return Err(e);
        }
        Ok(this)
    }

    /// Takes a peer's request. Ends in `up` or `down` of the user.
    pub(crate) fn accept(
        user: Arc<U>,
        size: RingSize,
        queues: &Arc<Queues>,
        request: ConnectRequest<'_>,
    ) -> Result<Arc<Self>> {
        let this = Self::new(user, size, None, queues)?;
        let mut hello = KVec::new();
        hello.extend_from_slice(request.data(), GFP_KERNEL)?;
        // First what can fail: the id must not be dropped by this handler of its event.
        let slot = UniqueArc::new_uninit(GFP_KERNEL)?;
        let id = Arc::from(slot.write(request.into_id(this.clone())));
        {
            let mut state = this.state.lock();
            state.id = Some(id);
            state.inbox.requested = Some(hello);
        }
        this.kick();
        Ok(this)
    }

    /// Ends the link without telling the user, and waits until nothing of it is left.
    ///
    /// Not to be called by the user's callbacks.
    pub(crate) fn shutdown(self: &Arc<Self>) {
        self.state.lock().over = true;
        workqueue::cancel_work_sync::<Self, 0>(self);
        self.dismantle();
    }

    /// What the user knows the link by.
    pub(crate) fn tag(&self) -> u32 {
        self.tag.load(Relaxed)
    }

    /// Sets what the user knows the link by.
    pub(crate) fn set_tag(&self, tag: u32) {
        self.tag.store(tag, Relaxed);
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().over
    }

    fn kick(self: &Arc<Self>) {
        // Queued already: it will see what was noted.
        let _ = self.queues.links.enqueue::<_, 0>(self.clone());
    }

    fn note(self: &Arc<Self>, f: impl FnOnce(&mut Inbox)) {
        f(&mut self.state.lock().inbox);
        self.kick();
    }

    fn note_down(self: &Arc<Self>, why: Down) {
        self.note(|inbox| {
            inbox.down.get_or_insert(why);
        });
    }

    fn dismantle(self: &Arc<Self>) {
        let (id, endpoint, lanes, regions) = {
            let mut state = self.state.lock();
            (
                state.id.take(),
                state.endpoint.take(),
                state.lanes.take_all(),
                state.regions.take_all(),
            )
        };
        if let (Some(id), Some(_)) = (&id, &endpoint) {
            // Tells the peer; fails when there is no connection, which is as well.
            let _ = id.disconnect();
        }
        // Drains the queue pair: completions of it come until then, and find nothing to do.
        drop(endpoint);
        drop(lanes);
        // No completion adds to it any more, and nothing of it can be read.
        workqueue::cancel_work_sync::<Self, 1>(self);
        drop(regions);
        drop(id);
        self.gone.complete_all();
    }
}
