// SPDX-License-Identifier: GPL-2.0

//! What was given up and whose owner has not heard it yet: mappings, locks, places at barriers. The
//! owner is told again and again, until it answers or its life is over.

use crate::{
    ask::{ask, To},
    call::Signals,
    core::{holder::Life, Class},
    host::Host,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
    time::msecs_to_jiffies,
    workqueue::WorkItem,
};

/// Told again after so long.
const AGAIN_MS: u32 = 1000;
/// One attempt.
const ATTEMPT_MS: u32 = 2000;

/// One thing to give back.
pub(crate) struct Release {
    /// Whose it is. Life 0: whichever.
    pub(crate) owner: Life,
    /// What to say, to which port.
    pub(crate) port: u16,
    pub(crate) message: KVec<u8>,
}

struct List {
    waiting: KVec<Release>,
    /// Things that may have to be given back: there is room for so many.
    promised: usize,
    stopped: bool,
}

/// See the module.
#[pin_data]
pub(crate) struct Releases {
    #[pin]
    list: Mutex<List>,
}

/// Room for one release: giving back cannot fail.
pub(crate) struct Promise {
    host: Arc<Host>,
    release: Option<Release>,
}

impl Releases {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            list <- new_mutex!(List {
                waiting: KVec::new(),
                promised: 0,
                stopped: false,
            }, "lite_releases"),
        })
    }

    /// Nothing is told any more.
    pub(crate) fn stop(&self) {
        let mut list = self.list.lock();
        list.stopped = true;
        list.waiting = KVec::new();
    }
}

impl Promise {
    /// Makes room for a release, which is made when this is dropped, unless it is kept from it.
    pub(crate) fn new(host: &Arc<Host>, release: Release) -> Result<Self> {
        let mut list = host.releases.list.lock();
        let room = list.promised + 1;
        list.waiting.reserve(room, GFP_KERNEL)?;
        list.promised = room;
        drop(list);
        Ok(Self {
            host: host.clone(),
            release: Some(release),
        })
    }

    /// The life of the owner became known.
    pub(crate) fn set_owner(&mut self, owner: Life, message: &[u8]) {
        if let Some(release) = &mut self.release {
            release.owner = owner;
            if release.message.len() == message.len() {
                release.message.copy_from_slice(message);
            }
        }
    }

    /// There is nothing to give back (any more).
    pub(crate) fn cancel(mut self) {
        self.release = None;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut list = self.host.releases.list.lock();
        list.promised -= 1;
        let Some(release) = self.release.take() else {
            return;
        };
        if !list.stopped && list.waiting.push_within_capacity(release).is_ok() {
            // Under the lock: once it was stopped nothing is queued any more.
            let queue = &self.host.queues().handlers;
            queue.enqueue_or_move::<_, 1>(self.host.clone(), 0);
        }
    }
}

impl WorkItem<1> for Host {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // One after the other: who gives up something more meanwhile finds room.
        let mut left = this.releases.list.lock().waiting.len();
        let mut again = false;
        while left > 0 {
            left -= 1;
            let release = match this.releases.list.lock().waiting.remove(0) {
                Ok(release) => release,
                Err(_) => break,
            };
            if this.is_told(&release) {
                continue;
            }
            again = true;
            let mut list = this.releases.list.lock();
            if list.stopped {
                return;
            }
            // Its room may have been promised to another meanwhile.
            let reserved = list.waiting.reserve(1, GFP_KERNEL);
            if reserved.is_err() || list.waiting.push_within_capacity(release).is_err() {
                pr_err!("{}: no memory to give something back\n", this.node.name());
            }
        }
        let list = this.releases.list.lock();
        if again && !list.stopped {
            let queue = &this.queues().handlers;
            queue.enqueue_or_move::<_, 1>(this.clone(), msecs_to_jiffies(AGAIN_MS));
        }
    }
}

impl Host {
    /// Tells an owner; false when it has to be told again.
    fn is_told(self: &Arc<Self>, release: &Release) -> bool {
        let owner = release.owner;
        if self.is_over(owner) {
            return true;
        }
        let to = To {
            node: owner.node,
            port: release.port,
            timeout_ms: ATTEMPT_MS,
            signals: Signals::Fatal,
            class: Class::Normal,
        };
        let mut reply = match KVec::from_elem(0u8, 64, GFP_KERNEL) {
            Ok(reply) => reply,
            Err(_) => return false,
        };
        matches!(
            ask(self, to, &release.message, &[], &mut reply),
            Ok(Ok(_)) | Ok(Err(_))
        )
    }
}
