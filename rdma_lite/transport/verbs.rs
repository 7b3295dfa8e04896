// SPDX-License-Identifier: GPL-2.0

//! A link over a reliable connected queue pair of any verbs device.
//!
//! Events of the connection manager and completions only note what happened; the link's work item
//! acts on it, so that nothing is torn down by a callback that the teardown would wait for.
//!
//! A ring can be registered only once the queue pair sends. So each side, once connected, registers
//! its ring and then sends an empty message; a link is up when that of the peer has come.

use super::{
    window::{Regions, Window},
    Down, Link, LinkUser, Piece, //
};
use crate::{
    core::wire::{ReplyBuffer, RingAddress},
    host::Queues, //
};
use kernel::{
    impl_has_work,
    net::{Net, SockAddr},
    new_spinlock, new_work,
    prelude::*,
    rdma::{
        cm::{CmId, ConnectRequest, Event, EventHandler},
        Access, Completion, CompletionHandler, CompletionQueue, DmaBuffer, FastRegMr, Pd,
        PollContext, QueuePair, QueuePairOptions, RemoteAddr, Segment, SendOp, //
    },
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, ArcBorrow, SpinLock, UniqueArc, //
    },
    time::msecs_to_jiffies,
    workqueue::{self, Work, WorkItem},
};

/// How long the route to a peer may take to be found.
const RESOLVE_MS: u32 = 2000;
/// How long the address of a peer may take to be found. The kernel may miss that it was, and looks
/// again only when this is over; a slower network is asked again by the next attempt.
const RESOLVE_ADDR_MS: u32 = 200;
/// An invalidation is local work of the device: later than this, the link is broken.
const INVALIDATE_MS: u32 = 5000;

/// A message is sent again after 268 ms (4096 ns << 16) without an acknowledgement, and after 7
/// times the link is broken: better a new connection than one that is stuck for half a minute.
const ACK_TIMEOUT: u8 = 16;

/// Tokens of work requests: a kind, and an index below it.
const TOKEN_MESSAGE: u64 = 0;
const TOKEN_SETUP: u64 = 1;
const TOKEN_PUT: u64 = 2;
const TOKEN_OPEN: u64 = 3;
const TOKEN_HIDE: u64 = 4;

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
    registered: bool,
    up: bool,
}

struct State<U: LinkUser> {
    id: Option<Arc<CmId>>,
    endpoint: Option<KBox<Endpoint<U>>>,
    regions: Regions,
    inbox: Inbox,
    /// `down` was called or is about to be; or the user has no interest any more.
    over: bool,
}

/// A link over verbs.
#[pin_data]
pub(crate) struct VerbsLink<U: LinkUser> {
    user: Arc<U>,
    size: RingSize,
    queues: Arc<Queues>,
    /// What the user knows the link by.
    tag: Atomic<u32>,
    /// Completed once nothing of the link is left at the device.
    #[pin]
    gone: kernel::sync::Completion,
    #[pin]
    state: SpinLock<State<U>>,
    #[pin]
    work: Work<VerbsLink<U>>,
}

/// The shape of our own ring.
#[derive(Copy, Clone)]
pub(crate) struct RingSize {
    pub(crate) size_log2: u8,
    pub(crate) depth_log2: u8,
    pub(crate) slots_log2: u8,
}

impl_has_work! {
    impl{U: LinkUser} HasWork<Self> for VerbsLink<U> { self.work }
}

impl<U: LinkUser> VerbsLink<U> {
    fn new(user: Arc<U>, size: RingSize, queues: &Arc<Queues>) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                user,
                size,
                queues: queues.clone(),
                tag: Atomic::new(0),
                gone <- kernel::sync::Completion::new(),
                state <- new_spinlock!(State {
                    id: None,
                    endpoint: None,
                    regions: Regions::new(),
                    inbox: Inbox::default(),
                    over: false,
                }, "lite_link"),
                work <- new_work!("VerbsLink::work"),
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
        net: &Net,
        from: &SockAddr,
        to: &SockAddr,
    ) -> Result<Arc<Self>> {
        let this = Self::new(user, size, queues)?;
        this.set_tag(tag);
        let id = Arc::new(CmId::new(net, this.clone(), crate::OWNER)?, GFP_KERNEL)?;
        this.state.lock().id = Some(id.clone());
        if let Err(e) = id.resolve_addr(Some(from), to, RESOLVE_ADDR_MS) {
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
        let this = Self::new(user, size, queues)?;
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
        workqueue::cancel_work_sync(self);
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
        let _ = self.queues.links.enqueue(self.clone());
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

    fn dismantle(&self) {
        let (id, endpoint, regions) = {
            let mut state = self.state.lock();
            (
                state.id.take(),
                state.endpoint.take(),
                state.regions.take_all(),
            )
        };
        if let (Some(id), Some(_)) = (&id, &endpoint) {
            // Tells the peer; fails when there is no connection, which is as well.
            let _ = id.disconnect();
        }
        // Drains the queue pair: completions of it come until then, and find nothing to do.
        drop(endpoint);
        drop(regions);
        drop(id);
        self.gone.complete_all();
    }

    /// Makes everything that hangs on the device.
    fn build(self: &Arc<Self>, id: &Arc<CmId>) -> Result<KBox<Endpoint<U>>> {
        id.set_ack_timeout(ACK_TIMEOUT)?;
        let device = id.device()?;
        let depth = 1u32 << self.size.depth_log2;
        let limit = device.max_work_requests().saturating_sub(1);
        let options = QueuePairOptions {
            send: (depth * 4).min(limit),
            recv: (depth * 2).min(limit),
        };
        let pd = Pd::new(&device, crate::OWNER)?;
        let capacity = options.send + options.recv + 2;
        let cq = CompletionQueue::new(&device, capacity, PollContext::Workqueue, crate::OWNER)?;
        let size = 1usize << self.size.size_log2;
        let ring = DmaBuffer::new(&device, size)?;
        let pages = (size / kernel::page::PAGE_SIZE) as u32;
        let ring_mr = FastRegMr::new(&pd, pages)?;
        ring_mr.map(&ring)?;
        let qp = QueuePair::new(id, &pd, &cq, options, self.clone())?;
        for _ in 0..options.recv {
            qp.post_recv(token(TOKEN_MESSAGE, 0), None)?;
        }
        Ok(KBox::new(
            Endpoint {
                qp,
                pd,
                ring,
                ring_mr,
                staging: None,
                remote: RemoteAddr { addr: 0, rkey: 0 },
                registered: false,
                up: false,
            },
            GFP_KERNEL,
        )?)
    }

    fn own_hello(&self, endpoint: &Endpoint<U>) -> Result<KVec<u8>> {
        self.user.hello(RingAddress {
            addr: endpoint.ring_mr.addr(),
            rkey: endpoint.ring_mr.rkey(),
            size_log2: self.size.size_log2,
            depth_log2: self.size.depth_log2,
            slots_log2: self.size.slots_log2,
        })
    }

    /// Lets the peer into our ring, and tells it so.
    fn register_ring(&self) -> Result {
        let mut state = self.state.lock();
        let endpoint = state.endpoint.as_mut().ok_or(ENOTCONN)?;
        endpoint.qp.post_send(
            token(TOKEN_SETUP, 0),
            SendOp::RegMr {
                mr: &endpoint.ring_mr,
                access: Access::REMOTE_WRITE,
            },
        )?;
        // A write of nothing needs no key, and comes after the registration.
        endpoint.qp.post_send(
            token(TOKEN_SETUP, 0),
            SendOp::WriteImm {
                local: None,
                remote: endpoint.remote,
                imm: READY,
            },
        )?;
        endpoint.registered = true;
        Ok(())
    }

    fn has_remote(&self) -> bool {
        let state = self.state.lock();
        state.endpoint.as_ref().is_some_and(|e| e.staging.is_some())
    }

    /// Sets where we write to.
    fn set_remote(&self, id: &CmId, ring: RingAddress) -> Result {
        let device = id.device()?;
        let staging = DmaBuffer::new(&device, ring.size() as usize)?;
        let mut state = self.state.lock();
        let endpoint = state.endpoint.as_mut().ok_or(ENOTCONN)?;
        endpoint.staging = Some(staging);
        endpoint.remote = RemoteAddr {
            addr: ring.addr,
            rkey: ring.rkey,
        };
        Ok(())
    }

    /// Acts on what was noted. `Ok(true)`: the link has just come up.
    fn advance(self: &Arc<Self>) -> Result<bool> {
        let (inbox, id) = {
            let mut state = self.state.lock();
            if state.over {
                return Ok(false);
            }
            if state.inbox.down.is_some() {
                return Err(ENOTCONN);
            }
            let up = state.endpoint.as_ref().is_some_and(|e| e.up);
            (
                core::mem::take(&mut state.inbox),
                (!up).then(|| state.id.clone()).flatten(),
            )
        };
        let Some(id) = id else { return Ok(false) };
        if inbox.addr_resolved {
            id.resolve_route(RESOLVE_MS)?;
        }
        if inbox.route_resolved {
            let endpoint = self.build(&id)?;
            let hello = self.own_hello(&endpoint)?;
            self.state.lock().endpoint = Some(endpoint);
            id.connect(&hello)?;
        }
        if let Some(hello) = inbox.requested {
            let ring = match self.user.requested(self, &hello) {
                Ok(ring) => ring,
                Err(why) => {
                    id.reject(&why)?;
                    return Err(ECONNREFUSED);
                }
            };
            let endpoint = self.build(&id)?;
            let hello = self.own_hello(&endpoint)?;
            self.state.lock().endpoint = Some(endpoint);
            self.set_remote(&id, ring)?;
            id.accept(&hello)?;
        }
        if let Some(hello) = inbox.established {
            if !self.has_remote() {
                let ring = self.user.greeted(self, &hello)?;
                self.set_remote(&id, ring)?;
            }
            self.register_ring()?;
        }
        let mut state = self.state.lock();
        let State {
            endpoint, inbox: later, ..
        } = &mut *state;
        match endpoint {
            Some(endpoint) if endpoint.registered && inbox.peer_ready => {
                endpoint.up = true;
                Ok(true)
            }
            _ => {
                // The peer was quicker than the word that we are connected.
                later.peer_ready |= inbox.peer_ready;
                Ok(false)
            }
        }
    }
}

/// The immediate of the first message of a link: no message of the protocol has it.
const READY: u32 = u32::MAX;

impl<U: LinkUser> WorkItem for VerbsLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let result = this.advance();
        if let Ok(true) = result {
            this.user.up(&this);
        }
        let why = {
            let mut state = this.state.lock();
            let noted = state.inbox.down.take();
            match (state.over, noted, result) {
                (true, ..) | (_, None, Ok(_)) => return,
                (_, Some(why), _) => {
                    state.over = true;
                    why
                }
                (_, None, Err(e)) => {
                    state.over = true;
                    Down::Failed(e)
                }
            }
        };
        this.dismantle();
        this.user.down(&this, why);
    }
}

impl<U: LinkUser> EventHandler for VerbsLink<U> {
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>) {
        let this: Arc<Self> = this.into();
        let copy = |data: &[u8]| {
            let mut copy = KVec::new();
            copy.extend_from_slice(data, GFP_KERNEL).map(|()| copy)
        };
        match event {
            Event::AddrResolved => this.note(|inbox| inbox.addr_resolved = true),
            Event::RouteResolved => this.note(|inbox| inbox.route_resolved = true),
            Event::Established { data } => match copy(data) {
                Ok(hello) => this.note(|inbox| inbox.established = Some(hello)),
                Err(_) => this.note_down(Down::Failed(ENOMEM)),
            },
            Event::Rejected { data, .. } => match copy(data) {
                // The connection manager refuses in our peer's stead, when nobody listens there.
                Ok(data) if data.iter().any(|byte| *byte != 0) => this.note_down(Down::Rejected(data)),
                _ => this.note_down(Down::Failed(ECONNREFUSED)),
            },
            Event::Failed(e) => this.note_down(Down::Failed(e)),
            Event::Disconnected => this.note_down(Down::Failed(ECONNRESET)),
            Event::DeviceRemoval => this.note_down(Down::Failed(ENODEV)),
            Event::AddrChange => this.note_down(Down::Failed(ENETDOWN)),
            // Requests come to listeners alone.
            Event::ConnectRequest(_) | Event::Other(_) => {}
        }
    }
}

impl<U: LinkUser> VerbsLink<U> {
    fn post(&self, token: u64, op: SendOp<'_>) -> Result {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        endpoint.qp.post_send(token, op)
    }
}

impl<U: LinkUser> CompletionHandler for VerbsLink<U> {
    fn send_done(this: ArcBorrow<'_, Self>, token: u64, completion: &Completion<'_>) {
        let result = completion.result();
        if token >> 32 == TOKEN_HIDE && result.is_ok() {
            let region = this.state.lock().regions.at(token as u32 as usize);
            if let Some(region) = region {
                region.hidden.complete();
            }
        }
        if let Err(e) = result {
            Self::fail(&this.into(), e);
        }
    }

    fn recv_done(this: ArcBorrow<'_, Self>, _token: u64, completion: &Completion<'_>) {
        let this: Arc<Self> = this.into();
        if let Err(e) = completion.result() {
            return this.fail(e);
        }
        let imm = completion.imm().unwrap_or(READY);
        if imm == READY {
            this.note(|inbox| inbox.peer_ready = true);
        } else {
            this.user.message(&this, imm);
        }
        // Only now: what was just read must not be overwritten before.
        let reposted = match &this.state.lock().endpoint {
            Some(endpoint) => endpoint.qp.post_recv(token_message(), None),
            None => Ok(()),
        };
        if let Err(e) = reposted {
            this.fail(e);
        }
    }
}

const fn token_message() -> u64 {
    token(TOKEN_MESSAGE, 0)
}

impl<U: LinkUser> Link for VerbsLink<U> {
    type Window = Window;
    type Buffer = Arc<DmaBuffer>;

    unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result {
        let (staging, remote) = {
            let state = self.state.lock();
            let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
            (
                endpoint.staging.clone().ok_or(ENOTCONN)?,
                endpoint.remote,
            )
        };
        let start = offset as usize;
        let mut end = start + header.len();
        staging.write(start, header)?;
        for piece in payload {
            // SAFETY: Readable, as the caller promises.
            unsafe { staging.write_raw(end, piece.ptr, piece.len)? };
            end += piece.len;
        }
        let local = Segment::new(&staging, start..end)?;
        self.post(token_message(), SendOp::WriteImm {
                local: Some(local),
                remote: RemoteAddr {
                    addr: remote.addr + u64::from(offset),
                    rkey: remote.rkey,
                },
                imm,
            })
    }

    fn ring_bell(&self, imm: u32) -> Result {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        let bell = SendOp::WriteImm {
            local: None,
            remote: endpoint.remote,
            imm,
        };
        endpoint.qp.post_send(token_message(), bell)
    }

    fn read(&self, offset: u32, into: &mut [u8]) -> Result {
        let ring = match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.ring.clone(),
            None => return Err(ENOTCONN),
        };
        ring.read(offset as usize, into)
    }

    unsafe fn expose(self: &Arc<Self>, ptr: *mut u8, len: usize) -> Result<Window> {
        let ptr = core::ptr::NonNull::new(ptr).ok_or(EFAULT)?;
        let (idle, pd) = {
            let mut state = self.state.lock();
            let pd = state.endpoint.as_ref().ok_or(ENOTCONN)?.pd.clone();
            (state.regions.take_idle(), pd)
        };
        let region = match idle {
            Some(region) => region,
            None => Regions::make(&pd)?,
        };
        // SAFETY: The caller keeps the memory until `hide()`, which unmaps or drops the region.
        unsafe { region.mr.map_foreign(ptr, len)? };
        let window = self.state.lock().regions.open(region.clone())?;
        let posted = self.post(token(TOKEN_OPEN, window.slot), SendOp::RegMr {
                mr: &region.mr,
                access: Access::REMOTE_WRITE,
            });
        match posted {
            Ok(()) => Ok(window),
            Err(e) => {
                self.retire(window, false);
                Err(e)
            }
        }
    }

    fn hide(self: &Arc<Self>, window: Window) {
        let posted = self.post(token(TOKEN_HIDE, window.slot), SendOp::LocalInv {
                mr: &window.region.mr,
            });
        let timeout = msecs_to_jiffies(INVALIDATE_MS);
        let done = posted.and_then(|()| {
            let hidden = &window.region.hidden;
            hidden.wait_for_completion_timeout(timeout)
        });
        if let Err(e) = done {
            self.fail(e);
            // The region dies with the last work request that names it.
            self.gone.wait_for_completion();
        }
        self.retire(window, done.is_ok());
    }

    fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        let pd = match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.pd.clone(),
            None => return Err(ENOTCONN),
        };
        DmaBuffer::new(pd.device(), len)
    }

    fn put(&self, buffer: &Arc<DmaBuffer>, len: usize, to: &ReplyBuffer) -> Result {
        let local = Segment::new(buffer, 0..len)?;
        self.post(token(TOKEN_PUT, 0), SendOp::Write {
                local,
                remote: RemoteAddr {
                    addr: to.addr,
                    rkey: to.rkey,
                },
            })
    }

    fn fail(self: &Arc<Self>, why: Error) {
        self.note_down(Down::Failed(why));
    }
}

impl<U: LinkUser> VerbsLink<U> {
    /// Lets go of the memory of a window: by unmapping it when the device says that it is shut,
    /// else by destroying its region, which shuts it for certain.
    fn retire(&self, window: Window, hidden: bool) {
        let reuse = hidden && window.region.mr.unmap().is_ok();
        let mut state = self.state.lock();
        let reuse = reuse && state.endpoint.is_some() && !state.over;
        let dropped = state.regions.close(window, reuse);
        drop(state);
        drop(dropped);
    }
}
