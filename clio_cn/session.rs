// SPDX-License-Identifier: GPL-2.0

//! What belongs to an open of /dev/clio, and ends with it: the RAS that it is attached to, its
//! operations, its locks.

use crate::{
    core::{
        cache::{Config, Policy},
        control::{Name, RasInfo, Secret},
        op::{Kind, NewOp, PAGE_SHIFT},
        table::Key,
        wire::WORD,
    },
    job::{Half, Job},
    lite::Node,
    mapping::Cached,
    operation::Operation,
    station::{self, now, Station, Use},
    uapi,
};
use kernel::{
    impl_has_work,
    mm::virt::VmaNew,
    net::Net,
    new_mutex, new_poll_condvar, new_spinlock_bh, new_work,
    prelude::*,
    sync::{
        atomic::Relaxed,
        poll::PollCondVar,
        Arc,
        CondVarTimeoutResult,
        Mutex,
        SpinLockBh, //
    },
    time::msecs_to_jiffies,
    workqueue::{Work, WorkItem},
};

/// Bytes of user data that an open may have in the kernel.
const MOST_BYTES: usize = 64 << 20;
const MS: u64 = 1_000_000;

/// A lock word that this open has, or may have.
#[derive(Clone, Copy)]
struct Held {
    addr: u64,
    who: u32,
    /// It is ours; else it is being taken, or nobody knows.
    ours: bool,
}

/// Lock words of an open.
#[pin_data]
pub(crate) struct Locks {
    #[pin]
    held: SpinLockBh<KVec<Held>>,
}

impl Locks {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            held <- new_spinlock_bh!(KVec::new(), "clio_locks"),
        })
    }

    /// A lock is about to be taken.
    fn take(&self, addr: u64, who: u32) -> Result {
        // Room for it is made without the lock, which must not be held over an allocation that
        // sleeps.
        let mut room = KVec::new();
        loop {
            let needed = {
                let mut held = self.held.lock();
                if held.len() == held.capacity() && room.capacity() > held.len() {
                    for old in held.drain_all() {
                        room.push_within_capacity(old)?;
                    }
                    ::core::mem::swap(&mut *held, &mut room);
                }
                let new = Held {
                    addr,
                    who,
                    ours: false,
                };
                if held.push_within_capacity(new).is_ok() {
                    return Ok(());
                }
                held.len() + 1
            };
            room = KVec::with_capacity(needed, GFP_KERNEL)?;
        }
    }

    /// By whom the lock at an address was taken. `EPERM`: it was not.
    fn owner(&self, addr: u64) -> Result<u32> {
        let held = self.held.lock();
        let found = held.iter().find(|held| held.addr == addr && held.ours);
        found.map(|held| held.who).ok_or(EPERM)
    }

    fn forget(&self, who: u32) {
        self.held.lock().retain(|held| held.who != who);
    }

    /// An operation ended.
    pub(crate) fn settle(&self, kind: Kind, result: Result<u64>) {
        match (kind, result) {
            (Kind::Lock { who }, Ok(_)) => {
                for held in self.held.lock().iter_mut().filter(|held| held.who == who) {
                    held.ours = true;
                }
            }
            // These leave open whether it was taken: it is given back at the end.
            (Kind::Lock { .. }, Err(ETIMEDOUT | EHOSTDOWN)) => {}
            (Kind::Lock { who }, Err(_)) | (Kind::Unlock { who }, Ok(_)) => self.forget(who),
            _ => {}
        }
    }

    fn pop(&self) -> Option<Held> {
        self.held.lock().pop()
    }
}

/// What the operations of an open have of it.
#[pin_data]
pub(crate) struct Shared {
    #[pin]
    pub(crate) locks: Locks,
    /// Operations that ended, of those ever begun.
    #[pin]
    count: SpinLockBh<u64>,
    #[pin]
    pub(crate) changed: PollCondVar,
}

impl Shared {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                locks <- Locks::new(),
                count <- new_spinlock_bh!(0, "clio_ended"),
                changed <- new_poll_condvar!("clio_changed"),
            }),
            GFP_KERNEL,
        )
    }

    /// One more ended.
    pub(crate) fn ended(&self) {
        *self.count.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits until `done`, which only changes when an operation ends.
    pub(crate) fn wait(&self, until: u64, mut done: impl FnMut() -> bool) -> Result {
        loop {
            let mut count = self.count.lock();
            let seen = *count;
            drop(count);
            if done() {
                return Ok(());
            }
            let left = until.saturating_sub(now());
            if left == 0 {
                return Err(ETIMEDOUT);
            }
            count = self.count.lock();
            if *count != seen {
                continue;
            }
            let jiffies = msecs_to_jiffies(left.div_ceil(MS).min(u64::from(u32::MAX)) as u32);
            match self.changed.wait_interruptible_timeout(&mut count, jiffies) {
                CondVarTimeoutResult::Signal { .. } => return Err(EINTR),
                _ => continue,
            }
        }
    }
}

/// A RAS that an open is attached to.
pub(crate) struct Attached {
    pub(crate) space: Key,
    pub(crate) info: RasInfo,
}

/// An open.
#[pin_data]
pub(crate) struct Session {
    pub(crate) station: Use,
    pub(crate) stream: Key,
    pub(crate) shared: Arc<Shared>,
    /// Held while the RAS changes, which asks other nodes: [`Self::attached`] is not held then, as
    /// mapping wants it.
    #[pin]
    attaching: Mutex<()>,
    #[pin]
    pub(crate) attached: Mutex<Option<Attached>>,
    #[pin]
    operations: Mutex<KVec<Arc<Operation>>>,
    /// The local cache of its mappings, once there is one.
    #[pin]
    pub(crate) cached: Mutex<Option<Arc<Cached>>>,
    #[pin]
    pub(crate) wish: Mutex<CacheWish>,
    #[pin]
    ending: Work<Session>,
}

impl_has_work! {
    impl HasWork<Self> for Session { self.ending }
}

/// What the local cache is to be like, and what it is to know.
pub(crate) struct CacheWish {
    pub(crate) config: Config,
    /// Others write what this open allocates.
    pub(crate) is_shared: bool,
    /// Pages that this open allocated and nobody wrote: first, and how many.
    fresh: KVec<(u64, u64)>,
}

/// Bytes of a local cache, and lines of its sets, unless something else is asked for.
const CACHE: usize = 64 << 20;
const WAYS: usize = 64;

impl CacheWish {
    fn new() -> Self {
        Self {
            config: Config {
                lines: CACHE >> PAGE_SHIFT,
                ways: WAYS,
                policy: Policy::Lru,
            },
            is_shared: false,
            fresh: KVec::new(),
        }
    }
}

impl Session {
    /// An open by the current task.
    pub(crate) fn new() -> Result<Arc<Self>> {
        let station = Station::of(&Net::current())?;
        let shared = Shared::new()?;
        let stream = station.with(|inner| inner.engine.add_stream())?;
        let again = (*station).clone();
        let this = Arc::pin_init(
            pin_init!(Self {
                station,
                stream,
                shared,
                attaching <- new_mutex!((), "clio_attaching"),
                attached <- new_mutex!(None, "clio_attached"),
                operations <- new_mutex!(KVec::new(), "clio_operations"),
                cached <- new_mutex!(None, "clio_cached"),
                wish <- new_mutex!(CacheWish::new(), "clio_wish"),
                ending <- new_work!("Session::ending"),
            }),
            GFP_KERNEL,
        );
        if this.is_err() {
            again.with(|inner| inner.engine.remove_stream(stream));
        }
        this
    }

    pub(crate) fn node(&self) -> &Node {
        &self.station.node
    }

    /// Attaches to a RAS. `EBUSY`: this open is attached already.
    pub(crate) fn attach(&self, name: Name, key: &Secret, timeout_ms: u32) -> Result<u64> {
        let _attaching = self.attaching.lock();
        if self.attached.lock().is_some() {
            return Err(EBUSY);
        }
        let info = self.station.attach(name, key, timeout_ms)?;
        let id = info.id;
        let space = self
            .station
            .with(|inner| inner.engine.add_space(id, key.key(), info.region_shift));
        match space {
            Ok(space) => *self.attached.lock() = Some(Attached { space, info }),
            Err(error) => {
                self.station.detach(id);
                return Err(error);
            }
        }
        Ok(id)
    }

    /// Maps a range of the RAS through the local cache, which is made if there is none yet.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        // Held, so that this RAS is not left before its cache knows that it is mapped.
        let attached = self.attached.lock();
        let space = attached.as_ref().ok_or(ENOTCONN)?.space;
        self.cache(space)?.map(vma)
    }

    fn cache(&self, space: Key) -> Result<Arc<Cached>> {
        let mut cached = self.cached.lock();
        if let Some(cached) = cached.as_ref() {
            return Ok(cached.clone());
        }
        let wish = self.wish.lock();
        let fresh = if wish.is_shared {
            &[][..]
        } else {
            &wish.fresh[..]
        };
        let made = Cached::new((*self.station).clone(), space, wish.config, fresh)?;
        *cached = Some(made.clone());
        Ok(made)
    }

    /// This open allocated a range: its first touch is zeros.
    pub(crate) fn note_fresh(&self, addr: u64, len: u64) {
        let (first, count) = (addr >> PAGE_SHIFT, len >> PAGE_SHIFT);
        let cached = self.cached.lock().clone();
        let mut wish = self.wish.lock();
        if count == 0 || wish.is_shared {
            return;
        }
        match cached {
            Some(cached) => cached.add_fresh(first, count),
            // Without memory for it, it is fetched.
            None => drop(wish.fresh.push((first, count), GFP_KERNEL)),
        }
    }

    /// A range may be written otherwise than through the cache.
    fn note_written(&self, addr: u64, len: u64) {
        let first = addr >> PAGE_SHIFT;
        let end = (addr.saturating_add(len.max(1) - 1) >> PAGE_SHIFT).saturating_add(1);
        if let Some(cached) = self.cached.lock().as_ref() {
            cached.forget_fresh(first, end - first);
        }
        let mut wish = self.wish.lock();
        wish.fresh
            .retain(|known| known.0 >= end || known.0.saturating_add(known.1) <= first);
    }

    /// Detaches, once what is outstanding there is over.
    pub(crate) fn detach(&self, until: u64) -> Result {
        let _attaching = self.attaching.lock();
        let attached = self.leave()?;
        *self.wish.lock() = CacheWish::new();
        let idle = || !self.station.with(|inner| inner.engine.is_busy(self.stream));
        if let Err(error) = self.shared.wait(until, idle) {
            *self.attached.lock() = Some(attached);
            return Err(error);
        }
        self.part(&attached);
        Ok(())
    }

    /// Takes the RAS from the open, and its cache. `EBUSY`: it is mapped.
    fn leave(&self) -> Result<Attached> {
        let mut slot = self.attached.lock();
        if slot.is_none() {
            return Err(ENOTCONN);
        }
        let mut cached = self.cached.lock();
        if cached.as_ref().is_some_and(|cached| cached.is_mapped()) {
            return Err(EBUSY);
        }
        let old = cached.take();
        drop(cached);
        let attached = slot.take();
        drop(slot);
        // This waits for what the cache has outstanding.
        drop(old);
        attached.ok_or(ENOTCONN)
    }

    /// Has no more to do with a RAS.
    fn part(&self, attached: &Attached) {
        self.give_locks_back(attached.space);
        self.station
            .with(|inner| inner.engine.remove_space(attached.space));
        self.station.detach(attached.info.id);
    }

    /// Operations that are not over, or not told of.
    pub(crate) fn outstanding(&self) -> usize {
        self.operations.lock().len()
    }

    /// Begins an operation, and remembers it if it is asynchronous.
    pub(crate) fn begin(
        &self,
        request: &uapi::Op,
        is_async: bool,
        timeout_ms: u32,
    ) -> Result<Arc<Operation>> {
        let space = self.attached.lock().as_ref().ok_or(ENOTCONN)?.space;
        let until = self.station.deadline(timeout_ms);
        let who = match request.opcode {
            uapi::opcode::LOCK => {
                let who = self.station.next_who();
                self.shared.locks.take(request.addr, who)?;
                who
            }
            uapi::opcode::UNLOCK => self.shared.locks.owner(request.addr)?,
            _ => 0,
        };
        let begun = self.submit(request, space, who, is_async, until);
        if begun.is_err() && request.opcode == uapi::opcode::LOCK {
            self.shared.locks.forget(who);
        }
        begun
    }

    fn submit(
        &self,
        request: &uapi::Op,
        space: Key,
        who: u32,
        is_async: bool,
        until: u64,
    ) -> Result<Arc<Operation>> {
        let (operation, len) = Operation::new(self.shared.clone(), request, who, is_async)?;
        match operation.kind {
            Kind::Read | Kind::Alloc { .. } | Kind::Release | Kind::Fence => {}
            // What an offload writes nobody here knows.
            Kind::Offload { .. } => self.note_written(0, u64::MAX),
            _ => self.note_written(request.addr, len),
        }
        let mut operations = self.operations.lock();
        let weight: usize = operations.iter().map(|known| known.weight()).sum();
        if weight.saturating_add(operation.weight()) > MOST_BYTES
            || operations.len() >= uapi::MAX_BATCH as usize
        {
            return Err(EAGAIN);
        }
        operations.push(operation.clone(), GFP_KERNEL)?;
        let new = NewOp {
            stream: self.stream,
            space,
            kind: operation.kind,
            addr: request.addr,
            len,
            until,
            data: Half(operation.clone()),
        };
        if let Err(error) = self.station.submit_more(new) {
            operations.pop();
            return Err(error);
        }
        Ok(operation)
    }

    /// Forgets an operation that its user heard the end of.
    pub(crate) fn forget(&self, operation: &Arc<Operation>) {
        self.operations
            .lock()
            .retain(|known| !Arc::ptr_eq(known, operation));
    }

    /// An asynchronous operation that is over, to tell its user of: then it is forgotten, or put back.
    pub(crate) fn next_done(&self) -> Option<Arc<Operation>> {
        let operations = self.operations.lock();
        let is_next = |known: &&Arc<Operation>| {
            known.is_async && !known.telling.load(Relaxed) && known.result().is_some()
        };
        let next = operations.iter().find(is_next)?;
        next.telling.store(true, Relaxed);
        Some(next.clone())
    }

    /// The user could not be told of its end.
    pub(crate) fn put_back(&self, operation: &Operation) {
        let _operations = self.operations.lock();
        operation.telling.store(false, Relaxed);
    }

    /// Asynchronous operations that are over, and that are not.
    pub(crate) fn count(&self) -> (usize, usize) {
        let operations = self.operations.lock();
        let count = |over: bool| {
            operations
                .iter()
                .filter(|known| known.is_async && !known.telling.load(Relaxed))
                .filter(|known| known.result().is_some() == over)
                .count()
        };
        (count(true), count(false))
    }

    /// Gives all locks back that this open has, or may have.
    fn give_locks_back(&self, space: Key) {
        let Ok(stream) = self.station.with(|inner| inner.engine.add_stream()) else {
            return;
        };
        let until = self.station.deadline(0);
        while let Some(held) = self.shared.locks.pop() {
            let Ok(job) = Arc::new(Parting(self.shared.clone()), GFP_KERNEL) else {
                continue;
            };
            // Nothing else can be done about one that fails; the lock goes with our incarnation.
            let _ = self.station.submit_more(NewOp {
                stream,
                space,
                kind: Kind::Unlock { who: held.who },
                addr: held.addr,
                len: WORD,
                until,
                data: Half(job),
            });
        }
        let idle = || !self.station.with(|inner| inner.engine.is_busy(stream));
        self.shared.settle(until, idle);
        self.station
            .with(|inner| inner.engine.remove_stream(stream));
    }

    /// Ends what belongs to the open. May take as long as operations may.
    fn end(&self) {
        self.station
            .with(|inner| inner.engine.close_stream(self.stream));
        let idle = || !self.station.with(|inner| inner.engine.is_busy(self.stream));
        self.shared.settle(u64::MAX, idle);
        let cached = self.cached.lock().take();
        drop(cached);
        let attached = self.attached.lock().take();
        if let Some(attached) = attached {
            self.part(&attached);
        }
        self.station
            .with(|inner| inner.engine.remove_stream(self.stream));
        station::settle();
    }

    /// The file is closed: nobody waits for what is left to do.
    pub(crate) fn close(this: Arc<Self>) {
        let queue = this.station.queue().clone();
        // An open is closed once, so it is not queued yet.
        let _ = queue.enqueue::<_, 0>(this);
    }
}

impl WorkItem for Session {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.end();
    }
}

impl Shared {
    /// Waits for `done`, of an operation that has a deadline; `EINTR` when a fatal signal comes.
    pub(crate) fn wait_killable(&self, mut done: impl FnMut() -> bool) -> Result {
        loop {
            let seen = *self.count.lock();
            if done() {
                return Ok(());
            }
            let mut count = self.count.lock();
            if *count != seen {
                continue;
            }
            let tick = msecs_to_jiffies(1000);
            if let CondVarTimeoutResult::Signal { .. } =
                self.changed.wait_killable_timeout(&mut count, tick)
            {
                return Err(EINTR);
            }
        }
    }

    /// Waits for `done` whatever happens. Each operation has its deadline, so this ends.
    pub(crate) fn settle(&self, until: u64, mut done: impl FnMut() -> bool) {
        while !done() && now() < until {
            let mut count = self.count.lock();
            // Not only on word of an end: it may have come before we slept.
            self.changed.wait_timeout(&mut count, msecs_to_jiffies(10));
        }
    }
}

/// A lock that is given back at the end.
struct Parting(Arc<Shared>);

impl Job for Parting {
    fn bytes(&self) -> &[u8] {
        &[]
    }

    fn store(&self, _offset: usize, _bytes: &[u8]) {}

    fn done(&self, _result: Result<u64>) {
        self.0.ended();
    }
}
