// SPDX-License-Identifier: GPL-2.0

//! What a mount consists of, how it begins and how it ends.

use super::{
    cluster::{self, Service},
    core::{
        self as protocol,
        format::{self, Uuid},
        host::{Level, PageKey, NR_QUEUES},
        migrate::Policy,
        node::{Config, Node},
    },
    dataset, rdma_lite, uapi,
    world::{self, World},
};
use core::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};
use kernel::{
    dax::PmemRegion,
    fs::{
        FileSystem, FsContext, Inode, NewSuperBlock, Parameter, SetAttr, StatFs, SuperBlock,
        Timestamp,
    },
    new_condvar, new_mutex,
    prelude::*,
    rbtree::RBTree,
    seq_file::SeqFile,
    seq_print,
    str::CString,
    sync::{aref::ARef, Arc, CondVar, Mutex},
    time::{Instant, Monotonic},
};

/// Wait queue of the worker; see [`protocol::background`].
const WORKER_QUEUE: u32 = 0;

/// The mount options.
#[derive(Default)]
pub(crate) struct Options {
    /// `node=`: name of the node's configfs directory.
    node: Option<CString>,
    /// `timeout_ms=`: deadline of what a user waits for; 0 is the node's default.
    timeout_ms: u32,
    /// `replicas=`, `mode=`, `chunk_size=`, `reserve=`: of datasets that are created here.
    pub(crate) new: NewDatasets,
    /// `migrate=`, `migrate_window_ms=`, `migrate_benefit=`, `migrate_cost=`: when chunks of ours move.
    migrate: Policy,
}

/// What datasets begin with.
#[derive(Clone, Copy)]
pub(crate) struct NewDatasets {
    pub(crate) replicas: u32,
    pub(crate) mode: u32,
    pub(crate) chunk_size: u64,
    pub(crate) reserve: u64,
}

impl Default for NewDatasets {
    fn default() -> Self {
        Self {
            replicas: 1,
            mode: 1,
            chunk_size: 4 << 20,
            reserve: 16 << 30,
        }
    }
}

const PARAMETERS: &[Parameter<Options>] = &[
    Parameter::string(c"node", |options, name| {
        options.node = Some(CString::try_from(name)?);
        Ok(())
    }),
    Parameter::u32(c"timeout_ms", |options, value| {
        if !(10..=3_600_000).contains(&value) {
            return Err(EINVAL);
        }
        options.timeout_ms = value;
        Ok(())
    }),
    Parameter::u32(c"replicas", |options, value| {
        if value == 0 || value > 0xffff {
            return Err(EINVAL);
        }
        options.new.replicas = value;
        Ok(())
    }),
    Parameter::size(c"chunk_size", |options, value| {
        if !value.is_power_of_two() || !((64 << 10)..=(1 << 30)).contains(&value) {
            return Err(EINVAL);
        }
        options.new.chunk_size = value;
        Ok(())
    }),
    Parameter::size(c"reserve", |options, value| {
        if value == 0 || value % format::PAGE_BYTES != 0 {
            return Err(EINVAL);
        }
        options.new.reserve = value;
        Ok(())
    }),
    Parameter::one_of(c"mode", &[(c"mrmw", 1), (c"mrsw", 2)], |options, mode| {
        options.new.mode = mode;
        Ok(())
    }),
    Parameter::one_of(c"migrate", &[(c"off", 0), (c"on", 1)], |options, on| {
        options.migrate.enabled = on != 0;
        Ok(())
    }),
    Parameter::u32(c"migrate_window_ms", |options, value| {
        if !(10..=3_600_000).contains(&value) {
            return Err(EINVAL);
        }
        options.migrate.window = u64::from(value) * NSEC_PER_MSEC;
        Ok(())
    }),
    Parameter::size(c"migrate_benefit", |options, value| {
        if value == 0 {
            return Err(EINVAL);
        }
        options.migrate.min_benefit = value;
        Ok(())
    }),
    Parameter::size(c"migrate_cost", |options, value| {
        options.migrate.max_cost = value;
        Ok(())
    }),
];

const NSEC_PER_MSEC: u64 = 1_000_000;

/// Datasets that are open, and so may be mapped.
struct OpenDataset {
    inode: ARef<Inode<HotpotFs>>,
    count: usize,
}

/// One mount.
///
/// # Locks
///
/// `node` is the only lock that operations of the core take; it is held for memory accesses only.
/// `open` is independent of it and a leaf too.
#[pin_data]
pub(crate) struct Mount {
    /// The device's name, for messages.
    id: CString,
    /// Our node's configfs name.
    node_name: CString,
    /// The device.
    pub(crate) pm: PmemRegion,
    /// Our node.
    pub(crate) lite: Arc<rdma_lite::Node>,
    /// What datasets begin with here.
    pub(crate) new: NewDatasets,
    /// Default deadline of what a user waits for, ns.
    timeout: u64,
    /// When this clock was 0.
    start: Instant<Monotonic>,
    /// The worker is to look again.
    kicked: AtomicBool,
    /// There is a map that could not be taken over when it came.
    missed_map: AtomicBool,
    /// The worker is to end.
    stopped: AtomicBool,
    /// The protocol's state.
    #[pin]
    pub(crate) node: Mutex<Node>,
    #[pin]
    queues: [CondVar; NR_QUEUES],
    #[pin]
    open: Mutex<RBTree<u64, OpenDataset>>,
}

impl Mount {
    /// Runs `f` on the protocol's state and wakes whom it names.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        let mut node = self.node.lock();
        let result = f(&mut node);
        let wakes = node.take_wakes();
        drop(node);
        self.wake(wakes);
        result
    }

    fn wake(&self, mut queues: u32) {
        if queues & (1 << WORKER_QUEUE) != 0 {
            self.kicked.store(true, Ordering::Release);
        }
        while queues != 0 {
            let queue = queues.trailing_zeros();
            queues &= queues - 1;
            self.queue(queue as usize).notify_all();
        }
    }

    /// A wait queue of the core's.
    pub(crate) fn queue(&self, nr: usize) -> &CondVar {
        &self.queues[nr % NR_QUEUES]
    }

    /// Time since the mount, ns.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(0)
    }

    /// When something that begins now is to end; `timeout_ms` 0 is the default.
    pub(crate) fn deadline(&self, timeout_ms: u32) -> u64 {
        let timeout = match timeout_ms {
            0 => self.timeout,
            ms => u64::from(ms) * 1_000_000,
        };
        self.now().saturating_add(timeout)
    }

    /// Ends the worker.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake_worker();
    }

    fn wake_worker(&self) {
        // After the lock, so that the worker is either before its check or asleep.
        drop(self.node.lock());
        self.wake(1 << WORKER_QUEUE);
    }

    /// Has the worker take over the present map, which could not be done when it came.
    pub(crate) fn miss_map(&self) {
        self.missed_map.store(true, Ordering::Release);
        self.wake_worker();
    }

    fn take_missed_map(&self) -> Result {
        match self.missed_map.swap(false, Ordering::AcqRel) {
            true => cluster::take_map(self)
                .inspect_err(|_| self.missed_map.store(true, Ordering::Release)),
            false => Ok(()),
        }
    }

    /// The worker's loop; see [`protocol::background::run`].
    pub(crate) fn work(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            self.kicked.store(false, Ordering::Release);
            let world = World::new(self);
            let ran = self
                .take_missed_map()
                .and_then(|()| world::run(|| protocol::background::run(&world)));
            let next = match ran {
                Ok(next) => next,
                // No memory: look again soon.
                Err(_) => self.now() + 100_000_000,
            };
            let mut node = self.node.lock();
            loop {
                let now = self.now();
                if now >= next
                    || self.kicked.load(Ordering::Acquire)
                    || self.stopped.load(Ordering::Acquire)
                {
                    break;
                }
                let _ = self
                    .queue(WORKER_QUEUE as usize)
                    .wait_killable_timeout(&mut node, world::jiffies_until(now, next));
            }
        }
    }

    /// Notes that a dataset has one open file more.
    pub(crate) fn opened(&self, inode: &Inode<HotpotFs>) -> Result {
        let mut open = self.open.lock();
        if let Some(dataset) = open.get_mut(&inode.ino()) {
            dataset.count += 1;
            return Ok(());
        }
        let dataset = OpenDataset {
            inode: inode.into(),
            count: 1,
        };
        open.try_create_and_insert(inode.ino(), dataset, GFP_KERNEL)?;
        Ok(())
    }

    /// Notes that a dataset has one open file less.
    pub(crate) fn closed(&self, inode: &Inode<HotpotFs>) {
        let mut open = self.open.lock();
        let last = open.get_mut(&inode.ino()).is_some_and(|dataset| {
            dataset.count -= 1;
            dataset.count == 0
        });
        let removed = if last {
            open.remove(&inode.ino())
        } else {
            None
        };
        drop(open);
        // Drops the inode's reference outside of the lock, as that may sleep.
        drop(removed);
    }

    /// Takes pages of a dataset out of all page tables of this node.
    pub(crate) fn unmap(&self, first: PageKey, count: u64) {
        let inode = {
            let open = self.open.lock();
            open.get(&first.dataset)
                .map(|dataset| dataset.inode.clone())
        };
        // What nobody has open nobody has mapped.
        let Some(inode) = inode else { return };
        let last = u64::MAX / format::PAGE_BYTES;
        let page = first.page.min(last);
        // CAST: 64-bit machines only.
        inode.unmap_pages(page as usize, count.min(last - page) as usize);
    }

    /// Takes all pages of all datasets out of all page tables of this node.
    pub(crate) fn unmap_all(&self) {
        let mut id = Some(0);
        while let Some(from) = id {
            let next = {
                let open = self.open.lock();
                open.cursor_lower_bound(&from)
                    .map(|cursor| *cursor.current().0)
            };
            let Some(dataset) = next else { break };
            self.unmap(PageKey { dataset, page: 0 }, u64::MAX);
            id = dataset.checked_add(1);
        }
    }

    /// Prints a line for the operator.
    pub(crate) fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        match level {
            Level::Error => pr_err!("{}: {}\n", &*self.id, line),
            Level::Warning => pr_warn!("{}: {}\n", &*self.id, line),
            Level::Info => pr_info!("{}: {}\n", &*self.id, line),
        }
    }

    /// Says once for a user that something is not there yet.
    pub(crate) fn not_yet(&self, what: &str) -> Error {
        self.log(Level::Warning, format_args!("{what} is not supported yet"));
        EOPNOTSUPP
    }
}

/// The time of day, as records keep it.
pub(crate) fn time() -> format::Timestamp {
    to_record_time(Timestamp::now())
}

/// A time of the VFS as records keep it.
pub(crate) fn to_record_time(time: Timestamp) -> format::Timestamp {
    format::Timestamp {
        sec: time.sec,
        nsec: time.nsec,
    }
}

/// A mount while it is mounted: what serves others, and the rest.
#[pin_data]
pub(crate) struct Mounted {
    pub(crate) mount: Arc<Mount>,
    #[pin]
    service: Service,
}

/// The file system type.
pub(crate) struct HotpotFs;

impl HotpotFs {
    fn start(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &mut Options,
        context: &FsContext<Self>,
    ) -> Result<Pin<KBox<Mounted>>> {
        let mounted = Self::prepare(sb, options, context)?;
        let mount = &mounted.mount;
        let world = World::new(mount);
        world::run(|| protocol::recovery::mount(&world, time()))
            .flatten_ok()
            .and_then(|()| mounted.service.begin_work(mount))
            .inspect_err(|&error| {
                // What is wrong with the device the core has said already.
                if !matches!(error, EINVAL | EOPNOTSUPP | EXDEV | ENXIO | EUCLEAN) {
                    context.error(fmt!("hotpot: cannot be mounted: {:?}", error));
                }
                mounted.service.stop(mount);
            })?;
        Ok(mounted)
    }

    /// A mount that serves others and has not recovered yet. In a frame of its own: recovery wants
    /// what it takes of the stack.
    #[inline(never)]
    fn prepare(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &mut Options,
        context: &FsContext<Self>,
    ) -> Result<Pin<KBox<Mounted>>> {
        if sb.is_read_only() {
            context.error(fmt!("hotpot: a read-only mount is not supported yet"));
            return Err(EOPNOTSUPP);
        }
        let Some(name) = options.node.take() else {
            return Err(context.invalid(fmt!(
                "hotpot: node= is missing: the name of a configfs node"
            )));
        };
        let pm = PmemRegion::new(sb).inspect_err(|_| {
            context.error(fmt!(
                "hotpot: {} is not persistent memory with DAX (a namespace in fsdax mode)",
                sb.id()
            ));
        })?;
        let lite = rdma_lite::Node::get(&name, &super::THIS_MODULE).inspect_err(|&error| {
            context.error(fmt!(
                "hotpot: node={}: no such node, or it is switched off ({:?})",
                &*name,
                error
            ));
        })?;

        let lite = Arc::new(lite, GFP_KERNEL)?;
        let timeout_ms = match options.timeout_ms {
            0 => lite.timeout_ms(),
            ms => ms,
        };
        let timeout = u64::from(timeout_ms) * 1_000_000;
        let config = Config {
            node: lite.id().into(),
            cluster: Uuid(lite.cluster()),
            device_len: pm.len() as u64,
            max_msg: lite.max_msg(),
            timeout,
        };
        let migrate = options.migrate;
        let mount = Arc::pin_init(
            try_pin_init!(Mount {
                id: CString::try_from(sb.id())?,
                node_name: name,
                pm,
                lite,
                new: options.new,
                timeout,
                start: Instant::now(),
                kicked: AtomicBool::new(false),
                missed_map: AtomicBool::new(false),
                stopped: AtomicBool::new(false),
                node <- new_mutex!(Node::new(config), "hotpot::node"),
                queues <- pin_init::pin_init_array_from_fn(|_| new_condvar!("hotpot::queue")),
                open <- new_mutex!(RBTree::new(), "hotpot::open"),
            }? Error),
            GFP_KERNEL,
        )?;

        mount.with(|node| node.migration.policy = migrate);

        let service = Service::start(&mount)?;
        KBox::pin_init(
            try_pin_init!(Mounted {
                mount,
                service <- service,
            }? Error),
            GFP_KERNEL,
        )
    }
}

/// `Result::flatten`, which is not stable yet.
trait FlattenOk<T> {
    fn flatten_ok(self) -> Result<T>;
}

impl<T> FlattenOk<T> for Result<Result<T>> {
    fn flatten_ok(self) -> Result<T> {
        self?
    }
}

#[vtable]
impl FileSystem for HotpotFs {
    const NAME: &'static CStr = c"hotpot";
    const PARAMETERS: &'static [Parameter<Options>] = PARAMETERS;
    const CACHE_INODES: bool = false;

    type Options = Options;
    type Data = Pin<KBox<Mounted>>;
    type InodeData = ();

    fn fill_super(
        sb: &mut NewSuperBlock<'_, Self>,
        options: &mut Options,
        context: &FsContext<Self>,
    ) -> Result<Pin<KBox<Mounted>>> {
        sb.set_magic(uapi::SUPER_MAGIC).set_time_granularity(1);
        let mounted = Self::start(sb, options, context)?;
        let uuid = mounted.mount.with(|node| {
            node.superblock
                .map_or([0; 16], |(superblock, _)| superblock.device.0)
        });
        sb.set_uuid(uuid);
        Ok(mounted)
    }

    fn root(sb: &SuperBlock<Self>) -> Result<ARef<Inode<Self>>> {
        dataset::root(sb)
    }

    fn reuse(_sb: &SuperBlock<Self>, _options: &Options, context: &FsContext<Self>) -> Result {
        context.error(fmt!("hotpot: the device is mounted already"));
        Err(EBUSY)
    }

    fn shutdown(sb: &SuperBlock<Self>) {
        let mounted = sb.data();
        mounted.service.stop(&mounted.mount);
    }

    fn put_super(sb: &SuperBlock<Self>) {
        let mount = &sb.data().mount;
        let world = World::new(mount);
        let done = world::run(|| protocol::recovery::unmount(&world)).flatten_ok();
        if let Err(error) = done {
            mount.log(
                Level::Warning,
                format_args!("not marked clean ({error:?}): the next mount replays its log"),
            );
        }
    }

    fn statfs(sb: &SuperBlock<Self>) -> Result<StatFs> {
        let (room, files, files_max) = sb.data().mount.with(|node| {
            (
                protocol::info::room(node),
                node.names.count() as u64,
                node.geometry().nr_records(),
            )
        });
        Ok(StatFs {
            block_size: format::PAGE_SIZE as u32,
            blocks: room.pages,
            blocks_free: room.free,
            blocks_available: room.free,
            files: files_max,
            files_free: files_max.saturating_sub(files),
        })
    }

    fn show_options(sb: &SuperBlock<Self>, seq: &SeqFile) -> Result {
        let mount = &sb.data().mount;
        let migrate = mount.with(|node| node.migration.policy);
        seq_print!(
            seq,
            ",node={},replicas={},chunk_size={},reserve={},timeout_ms={},migrate={},migrate_window_ms={},\
             migrate_benefit={},migrate_cost={}",
            &*mount.node_name,
            mount.new.replicas,
            mount.new.chunk_size,
            mount.new.reserve,
            mount.timeout / NSEC_PER_MSEC,
            if migrate.enabled { "on" } else { "off" },
            migrate.window / NSEC_PER_MSEC,
            migrate.min_benefit,
            migrate.max_cost
        );
        Ok(())
    }

    fn revalidate(_dir: &Inode<Self>, name: &[u8], inode: &Inode<Self>) -> Result<bool> {
        dataset::is_named(inode, name)
    }

    fn getattr(inode: &Inode<Self>) -> Result {
        dataset::refresh(inode)?;
        dataset::count_blocks(inode);
        Ok(())
    }

    fn setattr(inode: &Inode<Self>, attr: &SetAttr<'_, Self>) -> Result {
        dataset::set_attributes(inode, attr)
    }
}

/// The mount of an inode.
pub(crate) fn of(inode: &Inode<HotpotFs>) -> &Mount {
    &inode.super_block().data().get_ref().mount
}

static_assert!(kernel::page::PAGE_SIZE == format::PAGE_SIZE);
