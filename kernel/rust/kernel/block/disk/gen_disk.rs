// SPDX-License-Identifier: GPL-2.0

//! A disk that the system sees.

use super::{operations::Operations, tags::Tags, Driver, Limits};
use crate::{
    bindings,
    error::{from_err_ptr, to_result},
    fmt::{self, Write},
    page::PAGE_SIZE,
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::{atomic::Relaxed, Arc},
    types::{ForeignOwnable, ScopeGuard},
};

/// A disk, from when it is made until this is dropped. Both may sleep.
///
/// # Invariants
///
/// `disk` was added to the system. Its queue's data are an `Arc<D>` that is lent to it, its
/// private data are `tags`.
pub struct Disk<D: Driver> {
    disk: *mut bindings::gendisk,
    tags: Pin<KBox<Tags<D>>>,
}

// SAFETY: A disk may be removed by any task.
unsafe impl<D: Driver> Send for Disk<D> {}
// SAFETY: A shared reference only calls what the block layer synchronises.
unsafe impl<D: Driver> Sync for Disk<D> {}

impl<D: Driver> Disk<D> {
    /// Makes a disk that appears as /dev/`name`, with what is found on it as its partitions: the
    /// driver serves requests before this returns.
    ///
    /// [`EINVAL`] for limits that contradict each other or a name that is too long.
    pub fn new(name: fmt::Arguments<'_>, limits: &Limits, driver: Arc<D>) -> Result<Self> {
        let mut queue_limits = limits.check()?;
        let tags = KBox::pin_init(Tags::new(limits, driver)?, GFP_KERNEL)?;
        let lent = tags.driver().clone().into_foreign();
        let lent = ScopeGuard::new_with_data(lent, |lent| {
            // SAFETY: Lent above, and given to nobody.
            drop(unsafe { Arc::<D>::from_foreign(lent) });
        });
        // SAFETY: The set was allocated, the limits are filled in.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tags.as_ptr(),
                &mut queue_limits,
                *lent,
                static_lock_class!().as_ptr(),
            )
        })?;
        // Undone first, since the queue has the driver.
        let disk = ScopeGuard::new_with_data(disk, |disk| {
            // SAFETY: Allocated above and not added: its queue goes with it.
            unsafe { bindings::put_disk(disk) };
        });
        let raw = *disk;
        // SAFETY: The disk is ours alone until it is added.
        unsafe {
            (*raw).fops = Operations::<D>::DEVICE;
            (*raw).private_data = core::ptr::from_ref(&*tags).cast_mut().cast();
            let mut to = NullTerminatedFormatter::new(&mut (*raw).disk_name).ok_or(EINVAL)?;
            to.write_fmt(name).map_err(|_| EINVAL)?;
            bindings::set_capacity(raw, limits.size >> bindings::SECTOR_SHIFT);
            let (parent, groups) = (core::ptr::null_mut(), core::ptr::null_mut());
            to_result(bindings::device_add_disk(parent, raw, groups))?;
        }
        lent.dismiss();
        // INVARIANT: Just added, with these data.
        Ok(Self {
            disk: disk.dismiss(),
            tags,
        })
    }

    /// What serves its requests.
    pub fn driver(&self) -> &Arc<D> {
        self.tags.driver()
    }

    /// Lets nobody open it any more, so that it can be dropped without harm; [`EBUSY`] when
    /// somebody has it open, as by mounting it or by swapping to it.
    pub fn close(&self) -> Result {
        // SAFETY: By the type invariant the disk is valid. Opens are done under the same mutex.
        unsafe {
            let lock = &raw mut (*self.disk).open_mutex;
            bindings::mutex_lock(lock);
            let open = bindings::disk_openers(self.disk) != 0;
            if !open {
                self.tags.closing().store(true, Relaxed);
            }
            bindings::mutex_unlock(lock);
            if open {
                return Err(EBUSY);
            }
        }
        Ok(())
    }
}

impl<D: Driver> Drop for Disk<D> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the disk was added. When it is deleted its requests are
        // over, and no new ones come; then the driver that was lent to the queue comes back.
        unsafe {
            let lent = (*(*self.disk).queue).queuedata;
            bindings::del_gendisk(self.disk);
            bindings::put_disk(self.disk);
            drop(Arc::<D>::from_foreign(lent));
        }
    }
}

impl Limits {
    /// As the block layer wants them.
    fn check(&self) -> Result<bindings::queue_limits> {
        let block = |size: u32| size.is_power_of_two() && (512..=PAGE_SIZE as u32).contains(&size);
        let page = PAGE_SIZE as u32;
        if !block(self.logical_block)
            || !self.physical_block.is_power_of_two()
            || self.physical_block < self.logical_block
            || self.max_bytes == 0
            || self.max_bytes % page != 0
            || self.size == 0
            || self.size % u64::from(self.logical_block) != 0
            || self.queues == 0
            || self.depth == 0
        {
            return Err(EINVAL);
        }
        let mut raw: bindings::queue_limits = pin_init::zeroed();
        raw.logical_block_size = self.logical_block;
        raw.physical_block_size = self.physical_block;
        raw.io_min = self.physical_block;
        raw.max_hw_sectors = self.max_bytes >> bindings::SECTOR_SHIFT;
        raw.max_segments = u16::try_from(self.max_bytes / page).unwrap_or(u16::MAX);
        raw.max_segment_size = self.max_bytes.max(page);
        raw.max_hw_discard_sectors = self.max_discard >> bindings::SECTOR_SHIFT;
        raw.discard_granularity = self.discard_granularity;
        raw.max_write_zeroes_sectors = self.max_write_zeroes >> bindings::SECTOR_SHIFT;
        if self.write_cache {
            raw.features |= bindings::BLK_FEAT_WRITE_CACHE | bindings::BLK_FEAT_FUA;
        }
        if self.stable_writes {
            raw.features |= bindings::BLK_FEAT_STABLE_WRITES;
        }
        Ok(raw)
    }
}
