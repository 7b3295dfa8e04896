// SPDX-License-Identifier: GPL-2.0

//! A node: a directory in configfs, bound to the network namespace of the task that made it.

use crate::{
    core::Policy,
    events::Readers,
    host::{Host, Queues},
    notify::Notifiers,
    port::{self, Ports},
    region, sync,
    users::Users,
};
use kernel::{
    configfs::{Directory, Keep},
    net::Net,
    new_mutex, new_spinlock,
    prelude::*,
    str::CString,
    sync::{aref::ARef, Arc, Mutex, SpinLock},
    time::{ClockSource, RealTime},
};

kernel::sync::global_lock! {
    // SAFETY: The module's `init` initialises it before anything else.
    pub(crate) unsafe(uninit) static REGISTRY: Mutex<KVec<Arc<Node>>> = KVec::new();
}

/// Most bytes of the name of a verbs device.
pub(crate) const DEVICE_NAME: usize = 63;

/// What is set in configfs before a node is switched on.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    /// 0 until it is set.
    pub(crate) id: u16,
    pub(crate) addr: Option<::core::net::IpAddr>,
    pub(crate) port: u16,
    /// Verbs device, up to the first zero; empty for whichever has the address.
    device: [u8; DEVICE_NAME],
    /// All zeroes until it is set.
    pub(crate) cluster: [u8; 16],
    pub(crate) timeout_ms: u32,
    pub(crate) config: crate::core::Config,
    /// What may carry connections.
    pub(crate) policy: Policy,
    /// Bytes of regions that all nodes together may have here.
    pub(crate) memory_limit: u64,
    /// Chunks have no keys of their own: peers are given that of all memory.
    pub(crate) unsafe_global_rkey: bool,
}

impl Settings {
    fn new() -> Self {
        Self {
            id: 0,
            addr: None,
            port: 18515,
            device: [0; DEVICE_NAME],
            cluster: [0; 16],
            timeout_ms: 10_000,
            config: crate::core::Config {
                depth_log2: 7,
                slots_log2: 8,
                ..crate::core::Config::DEFAULT
            },
            policy: Policy::Verbs,
            memory_limit: 256 << 20,
            unsafe_global_rkey: false,
        }
    }

    /// Name of the verbs device; empty for whichever has the address.
    pub(crate) fn device(&self) -> &[u8] {
        let len = self.device.iter().position(|byte| *byte == 0);
        &self.device[..len.unwrap_or(DEVICE_NAME)]
    }

    /// [`EINVAL`]: no verbs device has so long a name.
    pub(crate) fn set_device(&mut self, name: &[u8]) -> Result {
        let mut device = [0; DEVICE_NAME];
        let place = device.get_mut(..name.len()).ok_or(EINVAL)?;
        place.copy_from_slice(name);
        self.device = device;
        Ok(())
    }
}

/// A node, on or off.
#[pin_data]
pub(crate) struct Node {
    name: CString,
    net: ARef<Net>,
    queues: Arc<Queues>,
    /// Held while the node is switched or its settings change; [`Self::settings`] is not, as those
    /// who ask for it may hold locks that the end of a connection waits for.
    #[pin]
    pub(crate) power: Mutex<()>,
    #[pin]
    settings: SpinLock<Settings>,
    /// Of the last life; 0 before the first.
    #[pin]
    incarnation: SpinLock<u64>,
    #[pin]
    host: SpinLock<Option<Arc<Host>>>,
    /// Its directory is kept from being removed while it is on.
    #[pin]
    kept: Mutex<Option<Keep>>,
    #[pin]
    pub(crate) ports: Ports,
    #[pin]
    pub(crate) readers: Readers,
    #[pin]
    pub(crate) notifiers: Notifiers,
    #[pin]
    pub(crate) users: Users,
}

impl Node {
    /// A new node of the current namespace. [`EEXIST`] when that has one.
    pub(crate) fn make(name: &CStr, queues: &Arc<Queues>) -> Result<Arc<Self>> {
        let name: CString = name.try_into()?;
        let this = Arc::pin_init(
            pin_init!(Self {
                name,
                net: Net::current(),
                queues: queues.clone(),
                power <- new_mutex!((), "lite_power"),
                settings <- new_spinlock!(Settings::new(), "lite_settings"),
                incarnation <- new_spinlock!(0, "lite_incarnation"),
                host <- new_spinlock!(None, "lite_host"),
                kept <- new_mutex!(None, "lite_kept"),
                ports <- Ports::new(),
                readers <- Readers::new(),
                notifiers <- Notifiers::new(),
                users <- Users::new(),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: `echo` needs no context.
        unsafe {
            this.ports
                .register(port::ECHO, port::echo, ::core::ptr::null_mut(), true)?
        };
        let ctx = Arc::as_ptr(&this).cast_mut().cast();
        // SAFETY: A handler runs for a host, which keeps its node; both expect one as their context.
        unsafe {
            this.ports
                .register(region::PORT, region::owner::handle, ctx, false)?;
            this.ports.register(sync::PORT, sync::handle, ctx, false)?;
        }
        let mut registry = REGISTRY.lock();
        if registry.iter().any(|node| *node.net == *this.net) {
            pr_err!(
                "{}: this network namespace has a node already\n",
                this.name()
            );
            return Err(EEXIST);
        }
        registry.push(this.clone(), GFP_KERNEL)?;
        drop(registry);
        Ok(this)
    }

    /// The directory goes: switches the node off and forgets it.
    pub(crate) fn remove(self: &Arc<Self>) {
        {
            let _power = self.power.lock();
            self.switch_off();
        }
        let mut registry = REGISTRY.lock();
        registry.retain(|node| !Arc::ptr_eq(node, self));
        if registry.is_empty() {
            // Nothing drops a static: the last one gives the memory back.
            *registry = KVec::new();
        }
    }

    /// The node of the current namespace.
    pub(crate) fn here() -> Result<Arc<Self>> {
        Self::of(&Net::current())
    }

    /// The node of this namespace.
    pub(crate) fn of(net: &Net) -> Result<Arc<Self>> {
        let registry = REGISTRY.lock();
        let node = registry.iter().find(|node| *node.net == *net);
        node.cloned().ok_or(ENXIO)
    }

    /// The node of this name.
    pub(crate) fn named(name: &[u8]) -> Result<Arc<Self>> {
        let registry = REGISTRY.lock();
        let node = registry.iter().find(|node| node.name.to_bytes() == name);
        node.cloned().ok_or(ENODEV)
    }

    /// A node of this kernel that is on and answers to this.
    pub(crate) fn hosts(is_it: impl Fn(&Host) -> bool) -> Option<Arc<Host>> {
        let registry = REGISTRY.lock();
        let mut on = registry.iter().filter_map(|node| node.host().ok());
        on.find(|host| is_it(host))
    }

    /// Name of its directory.
    pub(crate) fn name(&self) -> &CStr {
        &self.name
    }

    /// Its network namespace.
    pub(crate) fn net(&self) -> &Net {
        &self.net
    }

    /// The work queues of the module.
    pub(crate) fn queues(&self) -> &Arc<Queues> {
        &self.queues
    }

    /// What is set in its directory.
    pub(crate) fn settings(&self) -> Settings {
        *self.settings.lock()
    }

    /// Changes a setting; [`EBUSY`] while the node is on.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Settings) -> Result) -> Result {
        let _power = self.power.lock();
        if self.host().is_ok() {
            return Err(EBUSY);
        }
        let mut settings = self.settings();
        change(&mut settings)?;
        *self.settings.lock() = settings;
        Ok(())
    }

    /// What it is while it is on; [`ESHUTDOWN`] while it is off.
    pub(crate) fn host(&self) -> Result<Arc<Host>> {
        self.host.lock().clone().ok_or(ESHUTDOWN)
    }

    /// Start of its present or last life, 0 before the first.
    pub(crate) fn incarnation(&self) -> u64 {
        *self.incarnation.lock()
    }

    /// Switches the node on; [`Self::power`] is held. Its directory is kept until it is off again.
    pub(crate) fn switch_on(self: &Arc<Self>, directory: &Directory<'_>) -> Result {
        let settings = self.settings();
        let kept = directory.keep()?;
        let incarnation = {
            let mut last = self.incarnation.lock();
            *last = (RealTime::ktime_get().max(1) as u64).max(*last + 1);
            *last
        };
        let host = Host::start(self, &settings, incarnation)?;
        *self.host.lock() = Some(host);
        *self.kept.lock() = Some(kept);
        pr_info!("{}: node {} is on\n", self.name(), settings.id);
        Ok(())
    }

    /// Switches the node off, if it is on; [`Self::power`] is held: all calls end, all connections go.
    pub(crate) fn switch_off(&self) {
        let host = self.host.lock().take();
        if let Some(host) = host {
            host.stop();
            let kept = self.kept.lock().take();
            drop(kept);
            pr_info!("{}: node {} is off\n", self.name(), host.local.id);
        }
    }
}
