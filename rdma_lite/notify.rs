// SPDX-License-Identifier: GPL-2.0

//! Modules that want to know when a map is in force.

use kernel::{new_mutex, prelude::*, sync::Mutex};

/// As `lite_map_notify_t`.
pub(crate) type Callback = unsafe extern "C" fn(ctx: *mut c_void, epoch: u64);

struct Notifier {
    cookie: u64,
    callback: Callback,
    ctx: *mut c_void,
}

// SAFETY: The context is a token of its owner's, handed back to its callback on any thread, as
// whoever registers it agrees to.
unsafe impl Send for Notifier {}

struct List {
    next: u64,
    list: KVec<Notifier>,
}

/// Whom a node tells about maps.
#[pin_data]
pub(crate) struct Notifiers {
    #[pin]
    inner: Mutex<List>,
}

impl Notifiers {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- new_mutex!(List { next: 1, list: KVec::new() }, "lite_notifiers"),
        })
    }

    /// Adds one; returns its cookie.
    ///
    /// # Safety
    ///
    /// `callback` must be callable with `ctx`, on any thread, until [`Self::remove`] returned.
    pub(crate) unsafe fn add(&self, callback: Callback, ctx: *mut c_void) -> Result<u64> {
        let mut inner = self.inner.lock();
        let cookie = inner.next;
        inner.list.push(
            Notifier {
                cookie,
                callback,
                ctx,
            },
            GFP_KERNEL,
        )?;
        inner.next += 1;
        Ok(cookie)
    }

    /// Removes one; it is not called after this returns. Not to be called by the callback itself.
    pub(crate) fn remove(&self, cookie: u64) {
        self.inner.lock().list.retain(|n| n.cookie != cookie);
    }

    /// Tells all of them.
    pub(crate) fn tell(&self, epoch: u64) {
        for n in self.inner.lock().list.iter() {
            // SAFETY: Registered, and removal waits for the lock that is held.
            unsafe { (n.callback)(n.ctx, epoch) };
        }
    }
}
