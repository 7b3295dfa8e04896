// SPDX-License-Identifier: GPL-2.0

//! /dev/clio. An open acts for the node of the opener's network namespace.

use crate::{
    control::{self, Wish},
    core::{
        cache::Policy,
        control::{Name, Secret, REGION_SHIFT, VA_BASE},
    },
    mapping::PAGE,
    operation::Operation,
    session::Session,
    uapi::{self, Completion, Info, Op, Poll, Ras, Submit},
    THIS_MODULE,
};
use kernel::{
    bindings,
    fs::{File, Owner},
    miscdevice::{MiscDevice, MiscDeviceRegistration},
    mm::virt::VmaNew,
    prelude::*,
    sync::{poll::PollTable, Arc, ArcBorrow},
    ThisModule,
};

/// A region of a RAS whose creator did not say: 1 GiB.
const REGION_SHIFT_DEFAULT: u8 = 30;
/// Most lines of a local cache: 1 TiB.
const MOST_LINES: usize = 1 << 28;

#[vtable]
impl MiscDevice for Session {
    type Ptr = Arc<Self>;

    const OWNER: Option<&'static ThisModule> = Some(&THIS_MODULE);

    fn open(_file: &File, _device: &MiscDeviceRegistration<Self>) -> Result<Arc<Self>> {
        Self::new()
    }

    fn release(this: Arc<Self>, _file: &File) {
        Self::close(this);
    }

    fn mmap(this: ArcBorrow<'_, Self>, _file: &File, vma: &VmaNew) -> Result {
        this.map(vma)
    }

    fn fsync(
        this: ArcBorrow<'_, Self>,
        _file: &File,
        range: ::core::ops::RangeInclusive<u64>,
    ) -> Result {
        this.write_back(range.start() / PAGE, range.end() / PAGE)
    }

    fn poll(this: ArcBorrow<'_, Self>, file: &File, table: PollTable<'_>) -> u32 {
        table.register_wait(file, &this.shared.changed);
        if this.count().0 != 0 {
            bindings::POLLIN | bindings::POLLRDNORM
        } else {
            0
        }
    }

    fn ioctl(this: ArcBorrow<'_, Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        match cmd {
            uapi::IOC_INFO => this.info(arg)?,
            uapi::IOC_CREATE => this.create(arg)?,
            uapi::IOC_ATTACH => this.attach_by(arg)?,
            uapi::IOC_DETACH => this.detach(this.station.deadline(0))?,
            uapi::IOC_DESTROY => this.destroy(arg)?,
            uapi::IOC_SUBMIT => this.submit_all(arg)?,
            uapi::IOC_POLL => this.reap(arg)?,
            uapi::IOC_CACHE => this.set_cache(arg)?,
            uapi::IOC_SYNC => this.sync(arg)?,
            uapi::IOC_DROP => this.drop_range(arg)?,
            _ => this.administer(cmd, arg)?,
        }
        Ok(0)
    }
}

/// Name and key of what is asked for.
fn identity(ras: &Ras) -> Result<(Name, Secret)> {
    if ras.reserved != [0; 4] {
        return Err(EINVAL);
    }
    let end = ras.name.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
    let name = Name::new(ras.name.get(..end).ok_or(EINVAL)?)?;
    Ok((name, Secret(ras.key)))
}

impl Session {
    fn info(&self, arg: usize) -> Result {
        let node = self.node();
        let attached = self.attached.lock();
        let (ras, region_size) = match attached.as_ref() {
            Some(attached) => (
                attached.info.id,
                1 << attached.info.region_shift.min(*REGION_SHIFT.end()),
            ),
            None => (0, 0),
        };
        drop(attached);
        uapi::write(
            arg,
            &Info {
                abi_version: uapi::ABI_VERSION,
                node: node.id().into(),
                epoch: node.epoch(),
                incarnation: node.incarnation(),
                ras,
                base: VA_BASE,
                region_size,
                outstanding: self.outstanding() as u32,
                ..Info::default()
            },
        )
    }

    fn create(&self, arg: usize) -> Result {
        let mut ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        let region_shift = match ras.region_size {
            0 => REGION_SHIFT_DEFAULT,
            size if size.is_power_of_two() => size.trailing_zeros() as u8,
            _ => return Err(EINVAL),
        };
        if !REGION_SHIFT.contains(&region_shift) {
            return Err(EINVAL);
        }
        let wish = Wish {
            name,
            key,
            region_shift,
            home: u16::try_from(ras.home).map_err(|_| EINVAL)?,
            owner: Owner::current().uid,
            quota: match ras.quota {
                0 => u64::MAX,
                quota => quota,
            },
        };
        let info = control::create(self.node(), &wish, ras.timeout_ms).inspect_err(|error| {
            pr_err!("cannot create the RAS {name:?}: {error:?}\n");
        })?;
        ras.id = info.id;
        ras.region_size = 1 << region_shift;
        uapi::write(arg, &ras)
    }

    fn attach_by(&self, arg: usize) -> Result {
        let mut ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        if ras.quota != 0 || ras.region_size != 0 || ras.home != 0 {
            return Err(EINVAL);
        }
        ras.id = self
            .attach(name, &key, ras.timeout_ms)
            .inspect_err(|error| pr_err!("cannot attach to the RAS {name:?}: {error:?}\n"))?;
        uapi::write(arg, &ras)
    }

    fn destroy(&self, arg: usize) -> Result {
        let ras: Ras = uapi::read(arg)?;
        let (name, key) = identity(&ras)?;
        self.station
            .destroy(name, &key, ras.timeout_ms)
            .inspect_err(|error| pr_err!("cannot destroy the RAS {name:?}: {error:?}\n"))
    }

    fn submit_all(&self, arg: usize) -> Result {
        let mut submit: Submit = uapi::read(arg)?;
        if submit.reserved != [0; 2]
            || submit.flags & !uapi::ASYNC != 0
            || submit.nr == 0
            || submit.nr > uapi::MAX_BATCH
        {
            return Err(EINVAL);
        }
        let is_async = submit.flags & uapi::ASYNC != 0;
        let mut begun: KVVec<(usize, Op, Result<Arc<Operation>>)> = KVVec::new();
        begun.reserve(if is_async { 0 } else { submit.nr as usize }, GFP_KERNEL)?;
        submit.done = 0;
        let mut refused = Ok(());
        for at in 0..submit.nr as usize {
            let from = (submit.ops as usize)
                .checked_add(at * size_of::<Op>())
                .ok_or(EFAULT)?;
            let operation = uapi::read::<Op>(from)
                .and_then(|op| Ok((op, self.begin_or_wait(&op, is_async, submit.timeout_ms)?)));
            match operation {
                Ok((op, operation)) => {
                    if !is_async {
                        begun.push((from, op, Ok(operation)), GFP_KERNEL)?;
                    }
                }
                Err(error) if is_async || error == EFAULT => {
                    refused = Err(error);
                    break;
                }
                // One that cannot be is over: the others go on.
                Err(error) => {
                    let op = uapi::read::<Op>(from)?;
                    begun.push((from, op, Err(error)), GFP_KERNEL)?;
                }
            }
            submit.done += 1;
        }
        self.station.with(|_| ());
        let mut waited = Ok(());
        for (to, op, operation) in &mut begun {
            let result = match operation {
                Ok(operation) => {
                    let over = || operation.result().is_some();
                    if waited.is_ok() {
                        waited = self.shared.wait(u64::MAX, over);
                    }
                    let result = match waited {
                        Ok(()) => operation.deliver(),
                        Err(error) => Err(error),
                    };
                    if op.opcode == uapi::opcode::OFFLOAD {
                        op.len = operation.output_len();
                    }
                    if let (uapi::opcode::ALLOC, Ok(addr)) = (op.opcode, result) {
                        self.note_fresh(addr, op.len);
                    }
                    self.forget(operation);
                    result
                }
                Err(error) => Err(*error),
            };
            op.value = result.unwrap_or(0);
            op.error = result.err().map_or(0, |error| error.to_errno());
            uapi::write(*to, op)?;
        }
        waited?;
        if submit.done == 0 {
            refused?;
        }
        uapi::write(arg, &submit)
    }

    /// Begins an operation; a synchronous one waits for room.
    fn begin_or_wait(&self, op: &Op, is_async: bool, timeout_ms: u32) -> Result<Arc<Operation>> {
        let until = self.station.deadline(timeout_ms);
        loop {
            match self.begin(op, is_async, timeout_ms) {
                Err(error) if error == EAGAIN && !is_async => {
                    self.station.with(|_| ());
                    let before = self.outstanding();
                    let step = until.min(crate::station::now().saturating_add(10_000_000));
                    match self.shared.wait(step, || self.outstanding() < before) {
                        Err(ETIMEDOUT) if crate::station::now() < until => {}
                        other => other?,
                    }
                }
                other => return other,
            }
        }
    }

    /// Says what the cache is to be like, or tells what it did.
    fn set_cache(&self, arg: usize) -> Result {
        let mut cache: uapi::Cache = uapi::read(arg)?;
        if cache.reserved0 != 0 || cache.reserved != [0; 4] {
            return Err(EINVAL);
        }
        let cached = self.cached.lock().clone();
        if (cache.size, cache.ways, cache.policy, cache.flags) != (0, 0, 0, 0) {
            if cached.is_some() {
                return Err(EBUSY);
            }
            let mut wish = self.wish.lock();
            let mut config = wish.config;
            if cache.size != 0 {
                config.lines = usize::try_from(cache.size / PAGE)?;
            }
            if cache.ways != 0 {
                config.ways = cache.ways as usize;
            }
            config.ways = config.ways.min(config.lines);
            config.policy = match cache.policy {
                uapi::LRU => Policy::Lru,
                uapi::FIFO => Policy::Fifo,
                _ => return Err(EINVAL),
            };
            if cache.flags & !uapi::CACHE_SHARED != 0
                || config.lines == 0
                || config.lines > MOST_LINES
            {
                return Err(EINVAL);
            }
            wish.config = config;
            wish.is_shared = cache.flags & uapi::CACHE_SHARED != 0;
        }
        let stats = cached.map_or_else(Default::default, |cached| cached.stats());
        cache.hits = stats.hits;
        cache.fetches = stats.fetches;
        cache.zeros = stats.zeros;
        cache.evictions = stats.evictions;
        cache.write_backs = stats.write_backs;
        uapi::write(arg, &cache)
    }

    /// First and last page of a range that a user names.
    fn pages(arg: usize) -> Result<(u64, u64)> {
        let range: uapi::Range = uapi::read(arg)?;
        let end = range.addr.checked_add(range.len).ok_or(EINVAL)?;
        if range.len == 0 || range.addr % PAGE != 0 || end % PAGE != 0 {
            return Err(EINVAL);
        }
        Ok((range.addr / PAGE, end / PAGE - 1))
    }

    fn sync(&self, arg: usize) -> Result {
        let (first, last) = Self::pages(arg)?;
        self.write_back(first, last)
    }

    fn write_back(&self, first: u64, last: u64) -> Result {
        let cached = self.cached.lock().clone();
        cached.map_or(Ok(()), |cached| cached.flush(first, last))
    }

    fn drop_range(&self, arg: usize) -> Result {
        let (first, last) = Self::pages(arg)?;
        let cached = self.cached.lock().clone();
        cached.map_or(Ok(()), |cached| cached.drop_pages(first, last))
    }

    /// Tells of asynchronous operations.
    fn reap(&self, arg: usize) -> Result {
        let mut poll: Poll = uapi::read(arg)?;
        if poll.flags != 0 || poll.reserved != [0; 2] || poll.nr == 0 || poll.min > poll.nr {
            return Err(EINVAL);
        }
        let until = self.station.deadline(poll.timeout_ms);
        let wanted = poll.min as usize;
        let waited = self.shared.wait(until, || {
            let (over, outstanding) = self.count();
            over >= wanted || outstanding == 0
        });
        let mut all = KVVec::with_capacity(poll.nr.min(uapi::MAX_BATCH) as usize, GFP_KERNEL)?;
        let told = self.tell(&poll, &mut all);
        poll.nr = all.len() as u32;
        let heard = match poll.nr {
            0 if told.is_err() => told,
            0 if wanted != 0 => waited,
            _ => Ok(()),
        };
        // What the user cannot know to have heard is told again.
        let heard = heard.and_then(|()| uapi::write(arg, &poll));
        for operation in &all {
            match heard {
                Ok(()) => self.forget(operation),
                Err(_) => self.put_back(operation),
            }
        }
        heard
    }

    /// Tells of operations that are over, as many as there is room for; which.
    fn tell(&self, poll: &Poll, all: &mut KVVec<Arc<Operation>>) -> Result {
        while all.len() < poll.nr.min(uapi::MAX_BATCH) as usize {
            let to = all.len() * size_of::<Completion>();
            let to = usize::try_from(poll.completions)?
                .checked_add(to)
                .ok_or(EFAULT)?;
            let Some(operation) = self.next_done() else {
                break;
            };
            let result = operation.deliver();
            if let (uapi::opcode::ALLOC, Ok(addr)) = (operation.request.opcode, result) {
                self.note_fresh(addr, operation.request.len);
            }
            let completion = Completion {
                cookie: operation.request.cookie,
                value: result.unwrap_or(0),
                error: result.err().map_or(0, |error| error.to_errno()),
                opcode: operation.request.opcode,
            };
            let told = uapi::write(to, &completion);
            if told.is_err() || all.push_within_capacity(operation.clone()).is_err() {
                self.put_back(&operation);
                return told;
            }
        }
        Ok(())
    }
}
