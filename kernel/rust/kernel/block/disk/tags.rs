// SPDX-License-Identifier: GPL-2.0

//! The requests that a disk has.

use super::{operations::Operations, Driver, Limits};
use crate::{
    bindings,
    prelude::*,
    sync::{atomic::Atomic, Arc},
    types::Opaque,
};

/// The requests of a disk, of all its queues.
///
/// # Invariants
///
/// `set` is a tag set that was allocated, whose driver data are `driver`.
#[pin_data(PinnedDrop)]
pub(super) struct Tags<D: Driver> {
    #[pin]
    set: Opaque<bindings::blk_mq_tag_set>,
    driver: Arc<D>,
    /// No more opens.
    closing: Atomic<bool>,
}

// SAFETY: A tag set may be used by any task.
unsafe impl<D: Driver> Send for Tags<D> {}
// SAFETY: The block layer synchronises what it does with the set.
unsafe impl<D: Driver> Sync for Tags<D> {}

impl<D: Driver> Tags<D> {
    pub(super) fn new(limits: &Limits, driver: Arc<D>) -> Result<impl PinInit<Self, Error>> {
        let raw = bindings::blk_mq_tag_set {
            ops: Operations::<D>::QUEUE,
            nr_hw_queues: limits.queues,
            numa_node: bindings::NUMA_NO_NODE,
            queue_depth: limits.depth,
            cmd_size: u32::try_from(size_of::<D::Data>())?,
            driver_data: Arc::as_ptr(&driver).cast_mut().cast(),
            nr_maps: 1,
            ..pin_init::zeroed()
        };
        // A request's private part is aligned as a request is.
        build_assert!(align_of::<D::Data>() <= align_of::<bindings::request>());
        Ok(try_pin_init!(Self {
            driver,
            closing: Atomic::new(false),
            // INVARIANT: Allocated here, with the driver that `driver` keeps.
            set <- Opaque::try_ffi_init(move |set: *mut bindings::blk_mq_tag_set| {
                // SAFETY: `set` is a place for a set that will not move.
                unsafe {
                    set.write(raw);
                    Operations::<D>::alloc(set)
                }
            }),
        }? Error))
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::blk_mq_tag_set {
        self.set.get()
    }

    pub(super) fn driver(&self) -> &Arc<D> {
        &self.driver
    }

    pub(super) fn closing(&self) -> &Atomic<bool> {
        &self.closing
    }
}

#[pinned_drop]
impl<D: Driver> PinnedDrop for Tags<D> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the set was allocated; its disk is gone.
        unsafe { bindings::blk_mq_free_tag_set(self.set.get()) };
    }
}
