// SPDX-License-Identifier: GPL-2.0

//! A node that is switched on: its map, its peers, and where it listens.

use crate::{
    core::{
        Class, Config, Hello, Local, MapNode, Membership, NodeAddress, Policy, Published, Reject,
        RejectReason, View,
    },
    device::operations::workers::AccessTurns,
    events,
    node::{Node, Settings},
    peer::Peer,
    region::Regions,
    releases::Releases,
    sync::Sync,
    trace,
    transport::{
        guests::Attachment,
        listener::{Acceptor, Listener},
        verbs::{self, VerbsLink},
        RingSize, //
    },
    uapi,
};
use ::core::net::{IpAddr, SocketAddr};
use kernel::{
    fmt, impl_has_delayed_work, impl_has_work,
    net::SockAddr,
    new_delayed_work, new_mutex, new_spinlock, new_work,
    prelude::*,
    rdma::{cm::ConnectRequest, Device},
    str::BStr,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc,
        Mutex,
        SpinLock, //
    },
    workqueue::{self, DelayedWork, OwnedQueue, QueueFlags, Work, WorkItem},
};

/// Accesses of the accesses queue that run at a time.
const ACCESSES: u16 = 64;

/// The work queues of the module.
pub(crate) struct Queues {
    /// What moves connections: short work, never waiting for a peer.
    pub(crate) links: OwnedQueue,
    /// Handlers: they may sleep and make calls themselves.
    pub(crate) handlers: OwnedQueue,
    /// Those of the high class, which do not wait behind those of the normal one.
    express: OwnedQueue,
    /// Accesses to regions that nobody waits for. They wait for handlers, so they have a queue of
    /// their own, where they cannot take all places that handlers have.
    accesses: OwnedQueue,
    /// What looks into memory that kernels share, for as long as a node is on.
    pub(crate) rounds: OwnedQueue,
    /// Which of them.
    turns: Arc<AccessTurns>,
    /// Those of the high class.
    express_accesses: OwnedQueue,
    express_turns: Arc<AccessTurns>,
}

impl Queues {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let unbound = QueueFlags::UNBOUND;
        let queues = Self {
            links: OwnedQueue::new(c"rdma_lite_links", unbound | QueueFlags::HIGHPRI, 0)?,
            handlers: OwnedQueue::new(
                c"rdma_lite_handlers",
                QueueFlags::BOUND | QueueFlags::HIGHPRI,
                0,
            )?,
            express: OwnedQueue::new(c"rdma_lite_express", unbound | QueueFlags::HIGHPRI, 0)?,
            accesses: OwnedQueue::new(c"rdma_lite_accesses", unbound, ACCESSES)?,
            express_accesses: OwnedQueue::new(
                c"rdma_lite_express_accesses",
                unbound | QueueFlags::HIGHPRI,
                ACCESSES,
            )?,
            rounds: OwnedQueue::new(c"rdma_lite_rounds", unbound | QueueFlags::HIGHPRI, 0)?,
            turns: AccessTurns::new(ACCESSES)?,
            express_turns: AccessTurns::new(ACCESSES)?,
        };
        Ok(Arc::new(queues, GFP_KERNEL)?)
    }

    /// Where handlers run for calls of this class.
    pub(crate) fn handlers_of(&self, class: Class) -> &OwnedQueue {
        match class {
            Class::Normal => &self.handlers,
            Class::High => &self.express,
        }
    }

    /// Where accesses of this class run that nobody waits for.
    pub(crate) fn accesses_of(&self, class: Class) -> &OwnedQueue {
        match class {
            Class::Normal => &self.accesses,
            Class::High => &self.express_accesses,
        }
    }

    /// Which of them run next.
    pub(crate) fn turns_of(&self, class: Class) -> &Arc<AccessTurns> {
        match class {
            Class::Normal => &self.turns,
            Class::High => &self.express_turns,
        }
    }
}

/// Waits for all work of the module before the module goes.
pub(crate) struct Drained(pub(crate) Arc<Queues>);

impl Drop for Drained {
    fn drop(&mut self) {
        // What is given up after an access is told to its owner by handlers.
        self.0.accesses.flush();
        self.0.express_accesses.flush();
        // Handlers may have left work for links, which leaves none for handlers.
        self.0.express.flush();
        self.0.handlers.flush();
        self.0.links.flush();
        self.0.handlers.flush();
    }
}

/// An address, for people.
pub(crate) struct Ip(pub(crate) IpAddr);

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ::core::fmt::Display::fmt(&self.0, f)
    }
}

fn ip_of(at: &NodeAddress) -> IpAddr {
    if at.ipv6 {
        IpAddr::from(at.addr)
    } else {
        IpAddr::from([at.addr[0], at.addr[1], at.addr[2], at.addr[3]])
    }
}

/// A node that is on.
#[pin_data]
pub(crate) struct Host {
    pub(crate) node: Arc<Node>,
    pub(crate) local: Local,
    pub(crate) config: Config,
    pub(crate) timeout_ms: u32,
    ip: IpAddr,
    port: u16,
    /// What may carry connections.
    pub(crate) policy: Policy,
    global_rkey: bool,
    /// Our part in memory that other kernels map too.
    #[pin]
    guests: SpinLock<Option<Arc<Attachment<Peer>>>>,
    #[pin]
    pub(crate) map: Mutex<Membership>,
    /// That of the map, for those who cannot lock it.
    epoch: Atomic<u64>,
    #[pin]
    peers: SpinLock<KVec<Arc<Peer>>>,
    #[pin]
    listener: Mutex<Option<Listener>>,
    /// Tells of what was learnt since the map was published.
    #[pin]
    news: Work<Host, 0>,
    #[pin]
    pub(crate) regions: Regions,
    #[pin]
    pub(crate) sync: Sync,
    #[pin]
    pub(crate) releases: Releases,
    #[pin]
    release: DelayedWork<Host, 1>,
    stopped: Atomic<bool>,
}

impl_has_work! {
    impl HasWork<Host, 0> for Host { self.news }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Host, 1> for Host { self.release }
}

impl Host {
    /// Starts to listen. Complains if it cannot.
    pub(crate) fn start(
        node: &Arc<Node>,
        settings: &Settings,
        incarnation: u64,
    ) -> Result<Arc<Self>> {
        let complete = settings.id != 0 && settings.cluster != [0; 16];
        let (true, Some(ip)) = (complete, settings.addr) else {
            pr_err!("{}: set id, addr and cluster before power\n", node.name());
            return Err(EINVAL);
        };
        let local = Local {
            id: settings.id,
            incarnation,
            cluster: settings.cluster,
        };
        let deadline = u64::from(settings.timeout_ms) * crate::core::Config::MS;
        let this = Arc::pin_init(
            pin_init!(Self {
                node: node.clone(),
                local,
                config: settings.config.for_deadline(deadline),
                timeout_ms: settings.timeout_ms,
                ip,
                port: settings.port,
                policy: settings.policy,
                global_rkey: settings.unsafe_global_rkey,
                guests <- new_spinlock!(None, "lite_guests"),
                map <- new_mutex!(Membership::new(*local), "lite_map"),
                epoch: Atomic::new(0),
                peers <- new_spinlock!(KVec::new(), "lite_peers"),
                listener <- new_mutex!(None, "lite_listener"),
                news <- new_work!("Host::news"),
                regions <- Regions::new(settings.memory_limit),
                sync <- Sync::new(),
                releases <- Releases::new(),
                release <- new_delayed_work!("Host::release"),
                stopped: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        this.attach(settings)?;
        this.listen(settings).inspect_err(|_| this.detach())?;
        Ok(this)
    }

    /// Takes part in memory that other kernels map too, if that is wanted.
    fn attach(self: &Arc<Self>, settings: &Settings) -> Result {
        let name = self.node.name();
        let path = settings.shared_memory();
        match (self.policy, path) {
            (Policy::Guests, []) => {
                pr_err!("{name}: set shared_memory before power, for transport guests\n");
                return Err(EINVAL);
            }
            (Policy::Verbs, _) | (_, []) => return Ok(()),
            _ => {}
        }
        let local = &self.local;
        let node = (local.id, local.cluster, local.incarnation);
        let (size, queues) = (self.ring_size(), self.queues());
        let attachment = Attachment::new(name, path, node, size, queues, self.clone())?;
        *self.guests.lock() = Some(attachment);
        Ok(())
    }

    /// Takes part no more. All links over it are shut.
    fn detach(&self) {
        let attachment = self.guests.lock().take();
        if let Some(attachment) = attachment {
            attachment.stop();
        }
    }

    /// Our part in memory that other kernels map too.
    pub(crate) fn guests(&self) -> Option<Arc<Attachment<Peer>>> {
        self.guests.lock().clone()
    }

    fn listen(self: &Arc<Self>, settings: &Settings) -> Result {
        let (this, node, ip) = (self, &self.node, self.ip);
        let addr = SocketAddr::new(ip, settings.port);
        let listener = Listener::new(node.net(), &addr.into(), this.clone()).inspect_err(|e| {
            let name = node.name();
            pr_err!(
                "{name}: cannot listen at {} port {}: {e:?}\n",
                Ip(ip),
                settings.port
            );
        })?;
        if !settings.device().is_empty() && !listener.is_at(settings.device()) {
            pr_err!(
                "{}: {} is not an address of verbs device {}\n",
                node.name(),
                Ip(ip),
                BStr::from_bytes(settings.device())
            );
            return Err(ENODEV);
        }
        if settings.unsafe_global_rkey {
            this.check_global_rkey(&*listener.device()?)?;
        }
        *this.listener.lock() = Some(listener);
        Ok(())
    }

    /// Says what `unsafe_global_rkey` means, or that the device cannot.
    fn check_global_rkey(&self, device: &Device) -> Result {
        let name = self.node.name();
        let domain = verbs::domain(device, true).inspect_err(|e| {
            pr_err!("{name}: the verbs device has no key for unsafe_global_rkey: {e:?}\n");
        })?;
        drop(domain);
        pr_warn!(
            "{name}: unsafe_global_rkey: peers can read and write all memory of this machine, and only \
             their own nodes keep them from what was revoked or freed\n"
        );
        Ok(())
    }

    /// Ends all calls and connections.
    pub(crate) fn stop(self: &Arc<Self>) {
        self.stopped.store(true, Relaxed);
        self.releases.stop();
        let listener = self.listener.lock().take();
        drop(listener);
        if let Some(attachment) = self.guests() {
            attachment.close_door();
        }
        let peers = ::core::mem::take(&mut *self.peers.lock());
        for peer in &peers {
            peer.stop();
        }
        self.detach();
        workqueue::cancel_delayed_work_sync::<Self, 1>(self);
        self.drop_regions();
    }

    /// Whether the node was switched off.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// The verbs device that has our address.
    pub(crate) fn device(&self) -> Result<ARef<Device>> {
        self.listener.lock().as_ref().ok_or(ESHUTDOWN)?.device()
    }

    pub(crate) fn queues(&self) -> &Arc<Queues> {
        self.node.queues()
    }

    /// Our own address, as what connections come from.
    pub(crate) fn source(&self) -> SockAddr {
        SocketAddr::new(self.ip, 0).into()
    }

    /// Where a node of the map listens.
    pub(crate) fn address_of(&self, id: u16) -> Option<SockAddr> {
        let at = self.map.lock().node(id)?.address;
        Some(SocketAddr::new(ip_of(&at), at.port).into())
    }

    /// The node of this kernel that the map has under this id, while it is on, if we may share memory
    /// with any.
    pub(crate) fn neighbour(&self, id: u16) -> Option<Arc<Host>> {
        if self.policy == Policy::Verbs {
            return None;
        }
        let at = self.map.lock().node(id)?.address;
        Node::hosts(|host| host.local.id == id && host.is_at(&self.local.cluster, &at))
    }

    /// Whether we listen at this address, for nodes of this cluster.
    fn is_at(&self, cluster: &[u8; 16], at: &NodeAddress) -> bool {
        self.local.cluster == *cluster && self.port == at.port && self.ip == ip_of(at)
    }

    /// Shape of the rings that peers write to.
    pub(crate) fn ring_size(&self) -> RingSize {
        RingSize {
            size_log2: self.config.ring_log2,
            depth_log2: self.config.depth_log2,
            slots_log2: self.config.slots_log2,
            share: self.config.share,
            lanes: self.config.lanes,
            global_rkey: self.global_rkey,
        }
    }

    /// The peer of this id, if a map ever named it.
    pub(crate) fn peer(&self, id: u16) -> Option<Arc<Peer>> {
        let peers = self.peers.lock();
        peers.iter().find(|peer| peer.id() == id).cloned()
    }

    /// All peers that a map ever named.
    pub(crate) fn all_peers(&self) -> Result<KVec<Arc<Peer>>> {
        let mut all = KVec::new();
        loop {
            let wanted = self.peers.lock().len();
            all.reserve(wanted, GFP_KERNEL)?;
            let peers = self.peers.lock();
            if peers.len() <= all.capacity() {
                for peer in peers.iter() {
                    // There is room.
                    let _ = all.push_within_capacity(peer.clone());
                }
                return Ok(all);
            }
        }
    }

    /// Puts a map in force.
    pub(crate) fn publish(self: &Arc<Self>, epoch: u64, nodes: &[MapNode]) -> Result {
        let mut map = self.map.lock();
        // Peers first: without memory for them there is no new map.
        for node in nodes {
            if node.id != self.local.id && self.peer(node.id).is_none() {
                let peer = Peer::new(self, node.id)?;
                self.peers.lock().push(peer, GFP_ATOMIC)?;
            }
        }
        let mut views: KVec<(Arc<Peer>, View)> = KVec::new();
        for peer in self.peers.lock().iter() {
            views.push((peer.clone(), View::NONE), GFP_ATOMIC)?;
        }
        if map.publish(epoch, nodes)? == Published::Same {
            return Ok(());
        }
        for (peer, view) in views.iter_mut() {
            *view = map.view(peer.id());
        }
        self.epoch.store(epoch, Relaxed);
        drop(map);
        trace::map(self.node.name(), epoch, nodes.len() as u32);
        for (peer, view) in &views {
            peer.set_view(*view);
        }
        let event = events::event(
            uapi::EVENT_MAP,
            self.local.id,
            0,
            epoch,
            self.local.incarnation,
        );
        self.node.readers.tell(event);
        self.node.notifiers.tell(epoch);
        self.drop_holders();
        Ok(())
    }

    /// Who was dropped by the map, or lives anew, holds nothing of ours any more.
    pub(crate) fn drop_holders(self: &Arc<Self>) {
        let this = self.clone();
        let spawned = self.queues().handlers.try_spawn(GFP_KERNEL, move || {
            this.drop_waiters();
            this.drop_mappings();
        });
        if spawned.is_err() {
            self.drop_waiters();
            self.drop_mappings();
        }
    }

    /// Lets the map learn from a message. Those who hear of maps hear of it once more when a node
    /// of it lives another life than was known: not from here, where they may have called from.
    pub(crate) fn learn<T>(self: &Arc<Self>, f: impl FnOnce(&mut Membership) -> T) -> T {
        let (result, is_news) = {
            let mut map = self.map.lock();
            let before = map.learnt();
            let result = f(&mut map);
            (result, map.learnt() != before)
        };
        if is_news {
            // Queued already: it will be told with that.
            let _ = self.queues().handlers.enqueue::<_, 0>(self.clone());
        }
        result
    }

    /// Epoch of the map in force, 0 without one.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }
}

impl WorkItem<0> for Host {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let is_on = this.node.host().is_ok_and(|host| Arc::ptr_eq(&host, &this));
        if is_on {
            this.node.notifiers.tell(this.epoch());
            this.drop_holders();
        }
    }
}

impl Acceptor for Host {
    fn request(this: &Arc<Self>, request: ConnectRequest<'_>) {
        let reason = match Hello::decode(request.data()) {
            Err(_) => RejectReason::Protocol,
            Ok(hello) if hello.cluster != this.local.cluster => RejectReason::Cluster,
            Ok(hello) => match this.peer(hello.src) {
                None => RejectReason::NotMember,
                Some(peer) if hello.lane != 0 => {
                    // Dropped by whoever does not take it: refused.
                    if let Some(link) = peer.link() {
                        link.accept_lane(request, &hello);
                    }
                    return;
                }
                Some(peer) => {
                    let link = VerbsLink::accept(peer, this.ring_size(), this.queues(), request);
                    if let Err(e) = link {
                        pr_err!(
                            "{}: cannot take the connection of node {}: {e:?}\n",
                            this.node.name(),
                            hello.src
                        );
                    }
                    return;
                }
            },
        };
        let reject = Reject {
            reason,
            epoch: this.epoch(),
        };
        // The peer hears no reason, then; it is refused all the same.
        let _ = request.reject(&reject.encode());
    }

    fn device_gone(this: &Arc<Self>) {
        pr_err!("{}: the verbs device is going away\n", this.node.name());
        this.node.queues().when_device_gone(&this.node);
    }
}

impl Queues {
    /// Switches a node off from where that cannot be waited for.
    fn when_device_gone(&self, node: &Arc<Node>) {
        let node = node.clone();
        let spawned = self.handlers.try_spawn(GFP_KERNEL, move || {
            let _power = node.power.lock();
            node.switch_off();
        });
        if spawned.is_err() {
            pr_err!("no memory to switch a node off: the device waits for it\n");
        }
    }
}
