// SPDX-License-Identifier: GPL-2.0

//! The engine of one rdma_lite node, and what it lives on: a UDP socket in the node's network
//! namespace, a timer, the node's map. All opens and disks of a node share it.

use crate::{
    control,
    core::{
        control::{Name, RasInfo, Secret},
        engine::{Action, Config, Engine, Packet, Stats},
        op::NewOp,
        peer::MapNode,
        rtt,
        table::Key,
        window,
        wire::{flags, Header, HEADER_LEN},
    },
    job::{Half, Job},
    lite::{self, Node},
    statistics::{self, Statistics},
    timer::Started,
    THIS_MODULE,
};
use ::core::net::{IpAddr, SocketAddr};
use kernel::{
    bindings, debugfs, impl_has_work,
    net::{
        udp::{self, Reception, Socket},
        Net,
    },
    new_mutex, new_spinlock_bh, new_work,
    prelude::*,
    sync::{Arc, Mutex, SpinLockBh},
    time::{hrtimer::HrTimer, ClockSource, Monotonic},
    workqueue::{self, OwnedQueue, QueueFlags, Work},
};

/// Operations of a node that are not over, and requests that are outstanding.
const OPS: usize = 4096;
const REQUESTS: usize = 1024;
/// Streams and address spaces of a node.
const USERS: usize = 4096;
/// Most nodes of a map.
const MAX_NODES: usize = 65536;
/// Payload of packets on a way of which nothing is known.
const PAYLOAD: usize = 1344;
const MS: u64 = 1_000_000;

/// Ns of CLOCK_MONOTONIC, the clock of the engine.
pub(crate) fn now() -> u64 {
    Monotonic::ktime_get().max(0) as u64
}

/// Waits until packets that are being received have let go of the operations that they ended: who
/// calls this before it drops what operations refer to is not outlived by them where it must not
/// sleep. May sleep.
pub(crate) fn settle() {
    // SAFETY: We may sleep, as the caller promises.
    unsafe { bindings::synchronize_rcu() };
}

kernel::sync::global_lock! {
    // SAFETY: The module's `init` initialises it before anything else.
    pub(crate) unsafe(uninit) static STATIONS: Mutex<Stations> = Stations {
        list: KVec::new(),
        queue: None,
        statistics: None,
        sequence: 0,
    };
}

/// What a station that stops may still number of requests.
const LAST_REQUESTS: u64 = 1 << 20;

/// The stations that are in use.
pub(crate) struct Stations {
    list: KVec<Live>,
    queue: Option<Arc<OwnedQueue>>,
    statistics: Option<debugfs::Dir>,
    /// No request was numbered higher, by whichever station.
    sequence: u64,
}

/// The module's work queue, which is drained when this is dropped.
pub(crate) struct Drained(());

impl Drained {
    pub(crate) fn new() -> Result<Self> {
        let flags = QueueFlags::UNBOUND | QueueFlags::MEM_RECLAIM;
        let queue = OwnedQueue::new(c"clio", flags, 0)?;
        let mut stations = STATIONS.lock();
        stations.queue = Some(Arc::new(queue, GFP_KERNEL)?);
        stations.statistics = Some(debugfs::Dir::new(c"clio_cn"));
        drop(stations);
        Ok(Self(()))
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        let mut stations = STATIONS.lock();
        let queue = stations.queue.take();
        let directory = stations.statistics.take();
        drop(stations);
        drop(directory);
        if let Some(queue) = queue {
            queue.flush();
        }
    }
}

/// A station, and what keeps it going.
struct Live {
    station: Arc<Station>,
    users: usize,
    _reception: Reception<Ear>,
    _map: lite::MapNotifyRegistration<Ear>,
    _statistics: Pin<KBox<Statistics>>,
}

impl Live {
    /// Packets and maps come in from now on.
    fn begin(station: &Arc<Station>, directory: &debugfs::Dir) -> Result<Self> {
        let ear = Arc::new(Ear(station.clone()), GFP_KERNEL)?;
        let map = lite::MapNotifyRegistration::new(station.node.clone(), ear.clone())?;
        let reception = Reception::new(station.socket.clone(), ear)?;
        station.take_map()?;
        Ok(Self {
            station: station.clone(),
            users: 1,
            _reception: reception,
            _map: map,
            _statistics: statistics::publish(directory, station)?,
        })
    }
}

/// Hears packets and maps for a station.
struct Ear(Arc<Station>);

/// A use of a station; the last one to go ends it.
pub(crate) struct Use(Arc<Station>);

impl ::core::ops::Deref for Use {
    type Target = Arc<Station>;

    fn deref(&self) -> &Arc<Station> {
        &self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut stations = STATIONS.lock();
        let at = stations
            .list
            .iter()
            .position(|live| Arc::ptr_eq(&live.station, &self.0));
        let Some(at) = at else { return };
        if let Some(live) = stations.list.get_mut(at) {
            live.users -= 1;
            if live.users != 0 {
                return;
            }
        }
        let live = stations.list.remove(at);
        let used = self.0.inner.lock().engine.sequence();
        stations.sequence = stations.sequence.max(used + LAST_REQUESTS);
        if stations.list.is_empty() {
            // Nothing drops a static: the last one gives the memory back.
            stations.list = KVec::new();
        }
        drop(stations);
        drop(live);
        self.0.stop();
    }
}

/// How the engine sees a node.
pub(crate) struct PeerFigures {
    pub(crate) id: u32,
    pub(crate) up: bool,
    /// Round trip, smoothed and shortest, ns.
    pub(crate) rtt: u64,
    pub(crate) shortest: u64,
    /// Window, in 1/1000 packets.
    pub(crate) window: u64,
    pub(crate) outstanding: u64,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine<Half>,
    /// The timer runs, or is about to.
    pub(crate) waiting: bool,
    /// Addresses of nodes, in the order of their ids.
    addresses: KVec<(u32, IpAddr)>,
    /// What homes are to be asked.
    pub(crate) questions: KVec<crate::chores::Question>,
    pub(crate) dropped: u64,
    who: u32,
}

/// The engine of a node.
#[pin_data]
pub(crate) struct Station {
    pub(crate) node: Arc<Node>,
    socket: Arc<Socket>,
    incarnation: u64,
    queue: Arc<OwnedQueue>,
    /// Address spaces that this node is attached to, and their users.
    #[pin]
    attached: Mutex<KVec<(u64, usize)>>,
    #[pin]
    pub(crate) inner: SpinLockBh<Inner>,
    #[pin]
    pub(crate) timer: HrTimer<Station>,
    #[pin]
    pub(crate) started: SpinLockBh<Started>,
    #[pin]
    chores: Work<Station, 1>,
}

impl_has_work! {
    impl HasWork<Station, 1> for Station { self.chores }
}

impl Station {
    /// The station of the node of a network namespace.
    ///
    /// `ENXIO`: it has no node; `ESHUTDOWN`: that is switched off.
    pub(crate) fn of(net: &Net) -> Result<Use> {
        let node = Node::get_net(net, &THIS_MODULE)?;
        let incarnation = node.incarnation();
        let mut stations = STATIONS.lock();
        let known = stations.list.iter_mut().find(|live| {
            live.station.incarnation == incarnation && *live.station.node.net() == *net
        });
        if let Some(live) = known {
            live.users += 1;
            return Ok(Use(live.station.clone()));
        }
        let queue = stations.queue.clone().ok_or(ENODEV)?;
        let directory = stations.statistics.as_ref().ok_or(ENODEV)?;
        let station = Self::new(node, queue)?;
        // Also above all that were numbered before the module was loaded: that were fewer
        // than one in a microsecond.
        let sequence = stations.sequence.max(now() / 1000);
        station.inner.lock().engine.begin_at(sequence);
        let live = Live::begin(&station, directory).inspect_err(|_| station.stop())?;
        stations
            .list
            .push(live, GFP_KERNEL)
            .inspect_err(|_| station.stop())?;
        Ok(Use(station))
    }

    fn new(node: Node, queue: Arc<OwnedQueue>) -> Result<Arc<Self>> {
        let node = Arc::new(node, GFP_KERNEL)?;
        let mut own = SocketAddr::from(node.peer_address(node.id())?);
        own.set_port(0);
        let socket = Arc::new(Socket::new(node.net(), own)?, GFP_KERNEL)?;
        let incarnation = node.incarnation();
        let engine = Engine::new(Config {
            node: node.id().into(),
            incarnation,
            payload: payload_of(&node, &socket)?,
            ops: OPS,
            requests: REQUESTS,
            users: USERS,
            rtt: rtt::Config::DEFAULT,
            window: window::Config::DEFAULT,
            pause: MS / 2..20 * MS,
        })?;
        Arc::pin_init(
            pin_init!(Self {
                node,
                socket,
                incarnation,
                queue,
                attached <- new_mutex!(KVec::new(), "clio_spaces"),
                inner <- new_spinlock_bh!(Inner {
                    engine,
                    waiting: false,
                    addresses: KVec::new(),
                    questions: KVec::new(),
                    dropped: 0,
                    who: 0,
                }, "clio_station"),
                timer <- HrTimer::new(),
                started <- new_spinlock_bh!(Started::default(), "clio_timer"),
                chores <- new_work!("Station::chores"),
            }),
            GFP_KERNEL,
        )
    }

    /// When an operation that begins now is to be over; 0 ms: the node's default.
    pub(crate) fn deadline(&self, timeout_ms: u32) -> u64 {
        let ms = match timeout_ms {
            0 => self.node.timeout_ms(),
            ms => ms,
        };
        now().saturating_add(u64::from(ms) * MS)
    }

    /// Lets sending use the reserves of memory: pages are going to be written out through it.
    pub(crate) fn use_reserves(&self) {
        self.socket.use_reserves();
    }

    pub(crate) fn queue(&self) -> &Arc<OwnedQueue> {
        &self.queue
    }

    /// A number that tells one holder of a lock from others of this node: 24 bits.
    pub(crate) fn next_who(&self) -> u32 {
        let mut inner = self.inner.lock();
        inner.who = (inner.who + 1) & 0xff_ffff;
        inner.who
    }

    /// Finds a RAS and attaches our node to it, or counts one more user of it.
    pub(crate) fn attach(&self, name: Name, key: &Secret, timeout_ms: u32) -> Result<RasInfo> {
        let mut attached = self.attached.lock();
        attached.reserve(1, GFP_KERNEL)?;
        let info = control::attach(&self.node, name, key, timeout_ms)?;
        match attached.iter_mut().find(|known| known.0 == info.id) {
            Some(known) => known.1 += 1,
            None => attached.push((info.id, 1), GFP_KERNEL)?,
        }
        Ok(info)
    }

    /// One user of a RAS less.
    pub(crate) fn detach(&self, ras: u64) {
        let mut attached = self.attached.lock();
        let Some(at) = attached.iter().position(|known| known.0 == ras) else {
            return;
        };
        if let Some(known) = attached.get_mut(at) {
            known.1 -= 1;
            if known.1 != 0 {
                return;
            }
        }
        let _ = attached.remove(at);
        if let Err(error) = control::detach(&self.node, ras) {
            // The home drops us when the map does.
            pr_warn!(
                "node {}: detaching from RAS {ras:x}: {error:?}\n",
                self.node.id()
            );
        }
    }

    /// Ends a RAS. `EBUSY`: somebody uses it.
    pub(crate) fn destroy(&self, name: Name, key: &Secret, timeout_ms: u32) -> Result {
        let attached = self.attached.lock();
        let info = control::attach(&self.node, name, key, timeout_ms)?;
        if attached.iter().any(|known| known.0 == info.id) {
            return Err(EBUSY);
        }
        control::destroy(&self.node, &info, key, timeout_ms).inspect_err(|_| {
            let _ = control::detach(&self.node, info.id);
        })
    }

    /// Changes the engine's state, and lets it go on.
    pub(crate) fn with<R>(self: &Arc<Self>, f: impl FnOnce(&mut Inner) -> R) -> R {
        let result = f(&mut self.inner.lock());
        self.pump();
        result
    }

    /// What the engine did, its operations that are not over, and packets that went nowhere.
    pub(crate) fn figures(&self) -> (Stats, usize, u64) {
        let inner = self.inner.lock();
        (
            inner.engine.stats(),
            inner.engine.outstanding(),
            inner.dropped,
        )
    }

    /// How the engine sees a node, by its place in the map.
    pub(crate) fn peer_figures(&self, at: usize) -> Option<PeerFigures> {
        let inner = self.inner.lock();
        let peer = inner.engine.peers().get(at)?;
        Some(PeerFigures {
            id: peer.node().id,
            up: peer.node().up,
            rtt: peer.rtt().smoothed(),
            shortest: peer.rtt().shortest(),
            window: peer.cwnd().milli(),
            outstanding: peer.cwnd().outstanding(),
        })
    }

    /// Begins an operation; `EAGAIN` when too many are outstanding. Does not allocate or sleep.
    pub(crate) fn submit(self: &Arc<Self>, new: NewOp<Half>) -> Result<Key> {
        let key = self.submit_more(new)?;
        self.pump();
        Ok(key)
    }

    /// As [`Self::submit`], in [`Job::done`] or before another one: it is sent when that returns,
    /// or with that.
    pub(crate) fn submit_more(self: &Arc<Self>, new: NewOp<Half>) -> Result<Key> {
        let result = self.inner.lock().engine.submit(new);
        // The job is dropped, if it is, without the lock.
        result.map_err(|(error, _job)| error)
    }

    /// Does what the engine wants done.
    fn pump(self: &Arc<Self>) {
        loop {
            let mut inner = self.inner.lock();
            match inner.engine.poll(now()) {
                Some(Action::Send(packet)) => {
                    let to = inner.address(packet.to);
                    drop(inner);
                    self.send(to, &packet);
                }
                Some(Action::Done { data, result, .. }) => {
                    drop(inner);
                    data.0.done(result);
                }
                Some(Action::Ask { space, ras }) => {
                    inner.ask(crate::chores::Question::table(space, ras));
                    drop(inner);
                    let _ = self.queue.enqueue::<_, 1>(self.clone());
                }
                Some(Action::Grow {
                    space,
                    ras,
                    op,
                    len,
                    not,
                    until,
                }) => {
                    inner.ask(crate::chores::Question::grow(
                        space, ras, op, len, not, until,
                    ));
                    drop(inner);
                    let _ = self.queue.enqueue::<_, 1>(self.clone());
                }
                None => {
                    let begins = inner.begins_to_wait();
                    drop(inner);
                    if begins {
                        self.start_timer();
                    }
                    return;
                }
            }
        }
    }

    fn send(&self, to: Option<SocketAddr>, packet: &Packet<Arc<dyn Job>>) {
        let payload = match &packet.payload {
            Some((job, range)) => job.bytes().get(range.clone()).unwrap_or(&[]),
            None => &[],
        };
        let head: [u8; HEADER_LEN] = packet.header.seal(&packet.key, payload);
        let sent = to
            .ok_or(EHOSTUNREACH)
            .and_then(|to| self.socket.send(&to, &[&head, payload]));
        if sent.is_err() {
            // As if it had been lost on the way: it is sent again.
            self.inner.lock().dropped += 1;
        }
    }

    /// The node has a new map.
    fn take_map(self: &Arc<Self>) -> Result {
        let (epoch, peers) = self.node.peers()?;
        let mut nodes = KVec::with_capacity(peers.len().min(MAX_NODES), GFP_KERNEL)?;
        let mut addresses = KVec::with_capacity(peers.len(), GFP_KERNEL)?;
        for peer in peers.iter().filter(|peer| peer.state != lite::NODE_OUT) {
            nodes.push(
                MapNode {
                    id: peer.id.into(),
                    up: peer.state == lite::NODE_UP,
                    incarnation: peer.incarnation,
                },
                GFP_KERNEL,
            )?;
            if let Ok(address) = self.node.peer_address(peer.id) {
                let address = SocketAddr::from(address).ip();
                addresses.push((u32::from(peer.id), address), GFP_KERNEL)?;
            }
        }
        self.with(|inner| {
            inner.addresses = addresses;
            inner.engine.set_map(now(), epoch, &nodes)
        })
    }

    /// Nobody uses it any more.
    fn stop(self: &Arc<Self>) {
        self.stop_timer();
        workqueue::cancel_work_sync::<Self, 1>(self);
    }
}

/// Most payload of a packet that needs no fragments on the way to any node of the map.
fn payload_of(node: &Node, socket: &Socket) -> Result<u32> {
    let (_, peers) = node.peers()?;
    let mut most = usize::MAX;
    for peer in peers.iter().filter(|peer| peer.id != node.id()) {
        let Ok(to) = node.peer_address(peer.id) else {
            continue;
        };
        if let Ok(room) = socket.max_payload(&to.into()) {
            most = most.min(room.saturating_sub(HEADER_LEN));
        }
    }
    // Whole pages if it can be, so that a page is not torn.
    let payload = match most {
        usize::MAX => PAYLOAD,
        4096.. => (most & !4095).min(16384),
        1024.. => most & !63,
        _ => PAYLOAD,
    };
    Ok(payload as u32)
}

impl Inner {
    fn address(&self, (node, port): (u32, u16)) -> Option<SocketAddr> {
        let at = self.addresses.iter().position(|known| known.0 == node)?;
        Some(SocketAddr::new(self.addresses.get(at)?.1, port))
    }

    /// Leaves a question to the work item; without memory it is as if the home had not answered.
    fn ask(&mut self, question: crate::chores::Question) {
        match self.questions.reserve(1, GFP_ATOMIC) {
            Ok(()) => drop(self.questions.push_within_capacity(question)),
            Err(_) => question.fail(&mut self.engine, ENOMEM),
        }
    }
}

impl udp::Receiver for Ear {
    fn receive(&self, packet: &mut udp::Packet<'_>) {
        let station = &self.0;
        let Ok(bytes) = packet.bytes() else { return };
        let Ok((header, payload)) = Header::parse(bytes) else {
            station.inner.lock().dropped += 1;
            return;
        };
        let key = station.inner.lock().engine.key_for(&header);
        let Some(key) = key else { return };
        if header.flags & flags::UNSIGNED == 0 && Header::verify(bytes, &key).is_err() {
            station.inner.lock().dropped += 1;
            return;
        }
        station.with(|inner| inner.engine.answer(now(), &header, payload));
    }
}

impl lite::MapNotify for Ear {
    fn new_map(&self, epoch: u64) {
        if self.0.take_map().is_err() {
            pr_err!("node {}: no memory for map {epoch}\n", self.0.node.id());
        }
    }
}
