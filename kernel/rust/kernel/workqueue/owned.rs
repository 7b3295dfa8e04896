// SPDX-License-Identifier: GPL-2.0

//! Work queues that a module creates for itself, and taking work back.

use super::{HasDelayedWork, HasWork, Queue, Work, WorkItem};
use crate::{
    bindings,
    error::code::ENOMEM,
    prelude::*,
    sync::Arc,
    time::Jiffies, //
};
use core::{ops::Deref, ptr::NonNull};

/// How a work queue runs its items.
#[derive(Copy, Clone)]
pub struct QueueFlags(c_uint);

impl QueueFlags {
    /// Items run on the processor that queued them.
    pub const BOUND: Self = Self(bindings::wq_flags_WQ_PERCPU);
    /// Items run on any processor; long ones do not hold up short ones.
    pub const UNBOUND: Self = Self(bindings::wq_flags_WQ_UNBOUND);
    /// Items run at high priority.
    pub const HIGHPRI: Self = Self(bindings::wq_flags_WQ_HIGHPRI);
    /// There is always a thread for the queue, so that memory reclaim may wait for it.
    pub const MEM_RECLAIM: Self = Self(bindings::wq_flags_WQ_MEM_RECLAIM);
}

impl core::ops::BitOr for QueueFlags {
    type Output = Self;

    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

/// A work queue of one's own, drained and destroyed on drop.
///
/// Dropping it waits for all of its items, so an item must not drop the last reference to the
/// queue that it runs on.
///
/// # Invariants
///
/// The pointer is a live work queue that nobody else destroys.
///
/// # Examples
///
/// ```
/// use kernel::workqueue::{OwnedQueue, QueueFlags};
///
/// let queue = OwnedQueue::new(c"example", QueueFlags::UNBOUND, 4)?;
/// queue.try_spawn(GFP_KERNEL, || pr_info!("from my own queue\n"))?;
/// queue.flush();
/// # Ok::<(), Error>(())
/// ```
pub struct OwnedQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Any thread may use or destroy a work queue.
unsafe impl Send for OwnedQueue {}
// SAFETY: Work queues do their own locking.
unsafe impl Sync for OwnedQueue {}

impl OwnedQueue {
    /// Creates a queue that runs at most `max_active` items at a time (0: the kernel's default).
    pub fn new(name: &CStr, flags: QueueFlags, max_active: u16) -> Result<Self> {
        // SAFETY: The format takes one string, and C copies the name.
        let raw = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                flags.0,
                c_int::from(max_active),
                name.as_char_ptr(),
            )
        };
        // INVARIANT: A non-null result is a new queue, ours to destroy.
        NonNull::new(raw).map(Self).ok_or(ENOMEM)
    }

    /// Has a delayed item run after `delay`, whether it was waiting for another time or for none.
    pub fn enqueue_or_move<T, const ID: u64>(&self, item: Arc<T>, delay: Jiffies)
    where
        T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID> + Send + Sync + 'static,
    {
        let this = Arc::into_raw(item).cast_mut();
        // SAFETY: The reference that was just leaked keeps the value alive.
        let work = unsafe { Work::raw_get(T::raw_get_work(this)) };
        // SAFETY: By `HasDelayedWork` the work is the field of an initialised `delayed_work`, whose
        // function takes over one leaked reference; the queue is live.
        let was_waiting = unsafe {
            bindings::mod_delayed_work_on(
                bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
                self.0.as_ptr(),
                crate::container_of!(work, bindings::delayed_work, work),
                delay,
            )
        };
        if was_waiting {
            // SAFETY: The function will be called once, for the reference that was leaked first.
            drop(unsafe { Arc::from_raw(this) });
        }
    }

    /// Waits until all items that were queued before the call have run.
    pub fn flush(&self) {
        // SAFETY: The queue is live by the type invariant.
        unsafe { bindings::__flush_workqueue(self.0.as_ptr()) };
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: The queue is live as long as `self` is.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: The queue is live by the type invariant, and nobody can use it after this.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// Takes a delayed work item back and waits for it if it is running.
///
/// On return it neither runs nor is queued, provided that nobody queues it anew. Returns whether it
/// was still waiting for its time; the reference that the queue held is dropped then.
///
/// Must not be called by the work item itself.
pub fn cancel_delayed_work_sync<T, const ID: u64>(item: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasDelayedWork<T, ID>,
{
    let this: *const T = &**item;
    // SAFETY: `item` keeps the value alive.
    let work = unsafe { Work::raw_get(T::raw_get_work(this.cast_mut())) };
    // SAFETY: By `HasDelayedWork` the work is the field of an initialised `delayed_work`.
    let pending = unsafe {
        bindings::cancel_delayed_work_sync(crate::container_of!(work, bindings::delayed_work, work))
    };
    if pending {
        // SAFETY: Enqueuing leaked one reference, for the function that will now not be called.
        drop(unsafe { Arc::from_raw(this) });
    }
    pending
}

/// Takes a work item back and waits for it if it is running; see [`cancel_delayed_work_sync`].
pub fn cancel_work_sync<T, const ID: u64>(item: &Arc<T>) -> bool
where
    T: WorkItem<ID, Pointer = Arc<T>> + HasWork<T, ID>,
{
    let this: *const T = &**item;
    // SAFETY: `item` keeps the value alive.
    let work = unsafe { Work::raw_get(T::raw_get_work(this.cast_mut())) };
    // SAFETY: The work was initialised when its container was.
    let pending = unsafe { bindings::cancel_work_sync(work) };
    if pending {
        // SAFETY: Enqueuing leaked one reference, for the function that will now not be called.
        drop(unsafe { Arc::from_raw(this) });
    }
    pending
}
