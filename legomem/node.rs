// SPDX-License-Identifier: GPL-2.0

//! A memory node that is switched on.

use crate::{
    answer::Buffers,
    cluster::{Known, Service},
    core::{
        board::{Board, Config},
        home::Life,
        slow::{Fast, Slow},
    },
    pages::Pages,
    rdma_lite,
    receive::Packets,
    settings::Settings,
    statistics::{self, Statistics},
    workers::{Chores, Queues, Waiting},
    THIS_MODULE,
};
use ::core::net::{IpAddr, Ipv4Addr, SocketAddr};
use kernel::{
    net::udp::{Reception, Socket},
    new_delayed_work, new_mutex, new_spinlock_bh, new_work,
    prelude::*,
    random::get_random_u64,
    str::{BStr, CString},
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex, SpinLockBh,
    },
    workqueue::{DelayedWork, Work},
};

/// Requests that wait for a worker, at most, for each path.
const WAITING: usize = 256;

/// See the file's beginning.
#[pin_data]
pub(crate) struct MemoryNode {
    name: CString,
    pub(crate) lite: Arc<rdma_lite::Node>,
    pub(crate) me: Life,
    pub(crate) queues: Arc<Queues>,
    pub(crate) pages: Pages,
    pub(crate) socket: Arc<Socket>,
    pub(crate) buffers: Buffers,
    #[pin]
    pub(crate) board: SpinLockBh<Board>,
    #[pin]
    pub(crate) slow: Mutex<Slow>,
    #[pin]
    pub(crate) known: Known,
    /// Requests for the slow path.
    #[pin]
    pub(crate) allocations: SpinLockBh<Waiting>,
    /// Calls of offloads.
    #[pin]
    pub(crate) calls: SpinLockBh<Waiting>,
    #[pin]
    pub(crate) chores: Chores,
    #[pin]
    pub(crate) allocating: Work<MemoryNode, 0>,
    #[pin]
    pub(crate) calling: Work<MemoryNode, 1>,
    #[pin]
    pub(crate) cleaning: Work<MemoryNode, 2>,
    #[pin]
    pub(crate) migrating: Work<MemoryNode, 3>,
    #[pin]
    pub(crate) second: DelayedWork<MemoryNode, 4>,
    #[pin]
    pub(crate) looking: Work<MemoryNode, 5>,
    /// Requests of the last second.
    pub(crate) load: Atomic<u64>,
    /// Nothing new is begun.
    stopping: Atomic<bool>,
    #[pin]
    running: Mutex<Option<Running>>,
}

/// What brings work in. In this order it ends.
struct Running {
    _statistics: Pin<KBox<Statistics>>,
    _reception: Reception<Packets>,
    _service: Service,
}

impl Fast for MemoryNode {
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        f(&mut self.board.lock())
    }
}

impl MemoryNode {
    /// Switches a memory node on, and says in the log why it cannot.
    pub(crate) fn start(
        name: &CStr,
        settings: &Settings,
        queues: &Arc<Queues>,
    ) -> Result<Arc<Self>> {
        let lite = Arc::new(Self::lite_node(name, settings)?, GFP_KERNEL)?;
        let me = Life {
            node: lite.id(),
            incarnation: lite.incarnation(),
        };
        let pages = Pages::new(name, settings)?;
        let config = Config {
            pages: pages.count(),
            page_shift: settings.page_shift,
            clean: pages.are_clean(),
            overcommit: settings.overcommit,
            dedup: settings.dedup as usize,
            spaces: settings.spaces as usize,
            key: [get_random_u64(), get_random_u64()],
        };
        let board = Board::new(&config)?;
        let slow = Slow::new(&config)?;
        let socket = Arc::new(Self::socket(name, &lite, settings.udp_port)?, GFP_KERNEL)?;
        let name: CString = name.try_into()?;
        let buffers = Buffers::new()?;
        let (allocations, calls) = (Waiting::new(WAITING)?, Waiting::new(WAITING)?);
        let this = Arc::pin_init(
            try_pin_init!(Self {
                name,
                lite,
                me,
                queues: queues.clone(),
                pages,
                socket,
                buffers,
                board <- new_spinlock_bh!(board, "legomem_board"),
                slow <- new_mutex!(slow, "legomem_slow"),
                known <- Known::new(),
                allocations <- new_spinlock_bh!(allocations, "legomem_allocations"),
                calls <- new_spinlock_bh!(calls, "legomem_calls"),
                chores <- Chores::new(),
                allocating <- new_work!("legomem::allocating"),
                calling <- new_work!("legomem::calling"),
                cleaning <- new_work!("legomem::cleaning"),
                migrating <- new_work!("legomem::migrating"),
                second <- new_delayed_work!("legomem::second"),
                looking <- new_work!("legomem::looking"),
                load: Atomic::new(0),
                stopping: Atomic::new(false),
                running <- new_mutex!(None, "legomem_running"),
            }? Error),
            GFP_KERNEL,
        )?;
        this.begin().inspect_err(|_| this.stop())?;
        Ok(this)
    }

    fn begin(self: &Arc<Self>) -> Result {
        let service = Service::start(self)?;
        let packets = Arc::new(Packets(self.clone()), GFP_KERNEL)?;
        let running = Running {
            _statistics: statistics::publish(self)?,
            _reception: Reception::new(self.socket.clone(), packets)?,
            _service: service,
        };
        *self.running.lock() = Some(running);
        self.start_chores();
        pr_info!(
            "{}: node {} serves {} pages of {} KiB at UDP port {}\n",
            self.name(),
            self.me.node,
            self.pages.count(),
            self.fast(|board| board.page_size()) >> 10,
            self.port_number()
        );
        Ok(())
    }

    fn lite_node(name: &CStr, settings: &Settings) -> Result<rdma_lite::Node> {
        let found = if settings.node.is_empty() {
            rdma_lite::Node::get_net(&kernel::net::Net::current(), &THIS_MODULE)
        } else {
            let node = CString::try_from_fmt(fmt!("{}", BStr::from_bytes(&settings.node)))?;
            rdma_lite::Node::get(&node, &THIS_MODULE)
        };
        found.inspect_err(|error| {
            pr_err!(
                "{name}: no rdma_lite node \"{}\" that is on: {error:?}\n",
                BStr::from_bytes(&settings.node)
            );
        })
    }

    /// At the address of the node, so that answers come from where requests went to.
    fn socket(name: &CStr, lite: &rdma_lite::Node, port: u16) -> Result<Socket> {
        let ip = match lite.peer_address(lite.id()) {
            Ok(address) => SocketAddr::from(address).ip(),
            // No map yet.
            Err(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        };
        Socket::new(lite.net(), SocketAddr::new(ip, port)).inspect_err(|error| {
            pr_err!("{name}: cannot receive at UDP port {port}: {error:?}\n");
        })
    }

    /// Its name in configfs.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Its UDP port.
    pub(crate) fn port_number(&self) -> u16 {
        self.socket.local().port()
    }

    /// Whether it is being switched off.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Switches it off: nothing comes in and nothing runs when this returns. What it holds is lost.
    pub(crate) fn stop(self: &Arc<Self>) {
        self.stopping.store(true, Relaxed);
        let running = self.running.lock().take();
        // Waits for packets that are being received, and for handlers.
        drop(running);
        self.stop_chores();
    }
}
