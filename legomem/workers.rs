// SPDX-License-Identifier: GPL-2.0

//! What a memory node does where it may sleep: slow path, offloads, cleaning of pages, migration,
//! and once a second what has to be looked after.

use crate::{
    cluster,
    core::{
        migrate, offload,
        pool::Pool,
        slow::Fast,
        wire::{Header, Path, Status, MAX_PAYLOAD, MAX_READ},
    },
    node::MemoryNode,
};
use ::core::net::SocketAddr;
use kernel::{
    debugfs, impl_has_delayed_work, impl_has_work, new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
    time::msecs_to_jiffies,
    workqueue::{self, cancel_delayed_work_sync, cancel_work_sync, OwnedQueue, QueueFlags},
};

/// Pages that are cleaned before others get the thread.
const PAGES_AT_ONCE: usize = 64;

/// Hints that may be sent in a second.
const HINTS: u32 = 1000;

/// The work queues of the module, and where its statistics are.
pub(crate) struct Queues {
    /// Slow path and chores: not waiting for other nodes. Memory reclaim may wait for it.
    short: OwnedQueue,
    /// Offloads, one at a time for each memory node.
    offloads: OwnedQueue,
    /// Migration, which waits for other nodes.
    long: OwnedQueue,
    pub(crate) statistics: debugfs::Dir,
}

impl Queues {
    pub(crate) fn new(statistics: debugfs::Dir) -> Result<Arc<Self>> {
        let unbound = QueueFlags::UNBOUND;
        let first = unbound | QueueFlags::HIGHPRI | QueueFlags::MEM_RECLAIM;
        let queues = Self {
            short: OwnedQueue::new(c"legomem", first, 0)?,
            offloads: OwnedQueue::new(c"legomem_offload", unbound | QueueFlags::HIGHPRI, 0)?,
            long: OwnedQueue::new(c"legomem_migrate", unbound, 0)?,
            statistics,
        };
        Ok(Arc::new(queues, GFP_KERNEL)?)
    }
}

/// Waits for all work of the module before the module goes.
pub(crate) struct Drained(pub(crate) Arc<Queues>);

impl Drop for Drained {
    fn drop(&mut self) {
        self.0.long.flush();
        self.0.offloads.flush();
        self.0.short.flush();
    }
}

/// A request that waits for a worker.
pub(crate) struct Request {
    header: Header,
    from: SocketAddr,
    input: KVec<u8>,
}

impl Request {
    /// In softirq context: without memory it is tried again.
    pub(crate) fn new(header: &Header, from: &SocketAddr, payload: &[u8]) -> Result<Self> {
        let mut input = KVec::new();
        input.extend_from_slice(payload, GFP_ATOMIC | __GFP_NOWARN)?;
        Ok(Self {
            header: *header,
            from: *from,
            input,
        })
    }
}

/// Requests that wait, in the order of their arrival.
pub(crate) struct Waiting {
    slots: KVec<Option<Request>>,
    head: usize,
    len: usize,
}

impl Waiting {
    pub(crate) fn new(capacity: usize) -> Result<Self> {
        let mut slots = KVec::with_capacity(capacity, GFP_KERNEL)?;
        for _ in 0..capacity {
            slots.push(None, GFP_KERNEL)?;
        }
        Ok(Self {
            slots,
            head: 0,
            len: 0,
        })
    }

    /// `EBUSY` when there is no room.
    pub(crate) fn push(&mut self, request: Request) -> Result {
        let capacity = self.slots.len().max(1);
        let slot = self.slots.get_mut((self.head + self.len) % capacity);
        match slot {
            Some(slot) if self.len < capacity => {
                *slot = Some(request);
                self.len += 1;
                Ok(())
            }
            _ => Err(EBUSY),
        }
    }

    fn pop(&mut self) -> Option<Request> {
        self.len = self.len.checked_sub(1)?;
        let request = self.slots.get_mut(self.head)?.take();
        self.head = (self.head + 1) % self.slots.len().max(1);
        request
    }
}

/// A region that is to be migrated.
#[derive(Clone, Copy)]
struct Move {
    ras: u64,
    index: u32,
    to: u16,
}

/// What workers need beside their requests.
#[pin_data]
pub(crate) struct Chores {
    /// The migration that runs or is about to.
    #[pin]
    next: Mutex<Option<Move>>,
    /// Output of offloads.
    #[pin]
    output: Mutex<KVVec<u8>>,
    /// Requests up to the last second.
    seen: Atomic<u64>,
}

impl Chores {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            next <- new_mutex!(None, "legomem_next"),
            output <- new_mutex!(
                KVVec::from_elem(0u8, MAX_READ as usize, GFP_KERNEL)?, "legomem_output"),
            seen: Atomic::new(0),
        })
    }
}

impl_has_work! {
    impl HasWork<Self, 0> for MemoryNode { self.allocating }
    impl HasWork<Self, 1> for MemoryNode { self.calling }
    impl HasWork<Self, 2> for MemoryNode { self.cleaning }
    impl HasWork<Self, 3> for MemoryNode { self.migrating }
    impl HasWork<Self, 5> for MemoryNode { self.looking }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, 4> for MemoryNode { self.second }
}

impl workqueue::WorkItem<0> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.allocate();
    }
}

impl workqueue::WorkItem<1> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.run_offloads();
    }
}

impl workqueue::WorkItem<2> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.clean_some();
    }
}

impl workqueue::WorkItem<3> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.migrate();
    }
}

impl workqueue::WorkItem<4> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.each_second();
    }
}

impl workqueue::WorkItem<5> for MemoryNode {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.look_at_map();
    }
}

impl MemoryNode {
    /// Has a worker see what waits for it.
    pub(crate) fn wake(self: &Arc<Self>, path: Path) {
        // It is queued already, or is now.
        let _ = match path {
            Path::Extend => self.queues.offloads.enqueue::<_, 1>(self.clone()).is_ok(),
            _ => self.queues.short.enqueue::<_, 0>(self.clone()).is_ok(),
        };
    }

    /// Has a worker clean pages that were freed.
    pub(crate) fn clean_pages(self: &Arc<Self>) {
        if !self.is_stopping() {
            let _ = self.queues.short.enqueue::<_, 2>(self.clone());
        }
    }

    /// Has a worker look whether more is known of the nodes of the map: somebody was refused whom
    /// rdma_lite may have met since.
    pub(crate) fn meet_nodes(self: &Arc<Self>) {
        if !self.is_stopping() {
            let _ = self.queues.short.enqueue::<_, 5>(self.clone());
        }
    }

    fn look_at_map(self: &Arc<Self>) {
        // Without memory it is looked at again in a second.
        let _ = cluster::take_map(self);
    }

    pub(crate) fn start_chores(self: &Arc<Self>) {
        self.clean_pages();
        self.again_in_a_second();
    }

    /// Nothing runs, and nothing is queued, when this returns.
    pub(crate) fn stop_chores(self: &Arc<Self>) {
        cancel_delayed_work_sync::<_, 4>(self);
        cancel_work_sync::<_, 3>(self);
        cancel_work_sync::<_, 1>(self);
        cancel_work_sync::<_, 0>(self);
        cancel_work_sync::<_, 5>(self);
        cancel_work_sync::<_, 2>(self);
    }

    fn again_in_a_second(self: &Arc<Self>) {
        if !self.is_stopping() {
            let queue = &self.queues.short;
            queue.enqueue_or_move::<_, 4>(self.clone(), msecs_to_jiffies(1000));
        }
    }

    fn allocate(self: &Arc<Self>) {
        loop {
            let Some(request) = self.allocations.lock().pop() else {
                break;
            };
            let header = &request.header;
            let (status, operand) = self.slow.lock().execute(&**self, &self.pages, header);
            self.finish(&request.from, header, status, operand);
        }
        self.clean_pages();
    }

    /// Answers a request that a worker executed.
    fn finish(&self, to: &SocketAddr, request: &Header, status: Status, operand: u64) {
        let (key, answer) = self.fast(|board| {
            (
                board.key(request.ras),
                board.finish(request, status, operand),
            )
        });
        // Without a key the address space went away meanwhile, and so will the requester.
        if let Some(key) = key {
            self.send(to, &key, &answer, &[]);
        }
    }

    fn run_offloads(self: &Arc<Self>) {
        let mut output = self.chores.output.lock();
        loop {
            let Some(request) = self.calls.lock().pop() else {
                break;
            };
            self.call_offload(&request.from, &request.header, &request.input, &mut output);
        }
    }

    /// Calls an offload and answers with its output, in as many packets as that takes.
    pub(crate) fn call_offload(
        &self,
        to: &SocketAddr,
        request: &Header,
        input: &[u8],
        output: &mut [u8],
    ) {
        let room = (request.offload().output as usize).min(output.len());
        let memory = offload::Inside {
            fast: self,
            pool: &self.pages,
            ras: request.ras,
        };
        let output = output.get_mut(..room).unwrap_or_default();
        let done = offload::call(&memory, request, input, output);
        let done = match done {
            Ok(done) => done,
            Err(status) => return self.finish(to, request, status, 0),
        };
        let (key, answer) = self.fast(|board| {
            board.stats.offloads += 1;
            (
                board.key(request.ras),
                board.finish(request, Status::Ok, done.result),
            )
        });
        let Some(key) = key else { return };
        let bytes = output.get(..done.len).unwrap_or_default();
        let answer = Header {
            len: bytes.len() as u32,
            offset: 0,
            ..answer
        };
        if bytes.is_empty() {
            return self.send(to, &key, &answer, &[]);
        }
        let most = (request.argument as usize).clamp(1, MAX_PAYLOAD);
        for (at, part) in bytes.chunks(most).enumerate() {
            let header = Header {
                offset: (at * most) as u32,
                ..answer
            };
            self.send(to, &key, &header, part);
        }
    }

    fn clean_some(self: &Arc<Self>) {
        for _ in 0..PAGES_AT_ONCE {
            let (frame, size) =
                self.fast(|board| (board.free_pages().start_cleaning(), board.page_size()));
            let Some(frame) = frame else { return };
            // Nobody else knows it, so no lock is needed.
            self.pages.zero(frame, 0, size);
            self.fast(|board| board.free_pages().cleaned(frame));
        }
        self.clean_pages();
    }

    /// Has a worker migrate a region. `EBUSY` while it migrates another.
    pub(crate) fn queue_migration(self: &Arc<Self>, ras: u64, index: u32, to: u16) -> Result {
        if self.is_stopping() {
            return Err(ESHUTDOWN);
        }
        let mut next = self.chores.next.lock();
        if next.is_some() {
            return Err(EBUSY);
        }
        *next = Some(Move { ras, index, to });
        drop(next);
        let _ = self.queues.long.enqueue::<_, 3>(self.clone());
        Ok(())
    }

    fn migrate(self: &Arc<Self>) {
        let Some(one) = *self.chores.next.lock() else {
            return;
        };
        let moved = cluster::run(migrate::migrate(self, one.ras, one.index, one.to));
        *self.chores.next.lock() = None;
        // A node that is drained goes on at once, unless nobody takes what it has.
        if matches!(moved, Ok(Ok(()))) {
            self.consider_migration();
        }
    }

    fn consider_migration(self: &Arc<Self>) {
        if let Some((ras, index)) = migrate::next_to_leave(self) {
            // One is being migrated already.
            let _ = self.queue_migration(ras, index, 0);
        }
    }

    fn each_second(self: &Arc<Self>) {
        let requests = self.fast(|board| {
            board.allow_hints(HINTS);
            board.stats.requests()
        });
        let before = self.chores.seen.xchg(requests, Relaxed);
        self.load.store(requests.wrapping_sub(before), Relaxed);
        self.look_at_map();
        self.consider_migration();
        self.clean_pages();
        self.again_in_a_second();
    }
}
