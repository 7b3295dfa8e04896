// SPDX-License-Identifier: GPL-2.0

//! Disks whose requests have data: block devices that a driver serves asynchronously.
//!
//! A [`Driver`] gets [`Request`]s in any context but hard interrupts, each of them as an owned
//! value: it keeps it for as long as the work takes, moves data out of its memory or into it, and
//! ends it, from wherever it likes. A request that is dropped fails, so none is ever lost. Each
//! request has [`Driver::Data`] that were made together with its tag, so that serving it needs no
//! memory: what a disk must have that pages are swapped to.
//!
//! [`mq`](super::mq) is for drivers whose requests are found again by their tags.
//!
//! C headers: [`include/linux/blk-mq.h`](srctree/include/linux/blk-mq.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

mod gen_disk;
mod operations;
mod request;
mod segments;
mod tags;

pub use gen_disk::Disk;
pub use request::{Operation, Request};

use crate::{prelude::*, sync::ArcBorrow};

/// What serves the requests of a [`Disk`].
///
/// # Examples
///
/// ```
/// use kernel::{
///     block::disk::{Disk, Driver, Limits, Operation, Request},
///     fmt,
///     new_mutex,
///     prelude::*,
///     sync::{Arc, ArcBorrow},
/// };
///
/// /// Reads as zeroes; nothing is kept.
/// struct Null;
///
/// impl Driver for Null {
///     type Data = ();
///
///     fn new_data(&self) -> impl PinInit<(), Error> {
///         Ok::<(), Error>(())
///     }
///
///     fn queue(_this: ArcBorrow<'_, Self>, mut request: Request<Self>, _last: bool) {
///         let result = match request.operation() {
///             Operation::Read => request.zero(0, request.len()),
///             _ => Ok(()),
///         };
///         request.end(result);
///     }
/// }
///
/// fn make() -> Result<Disk<Null>> {
///     let limits = Limits { size: 1 << 20, ..Limits::DEFAULT };
///     Disk::new(fmt!("null-example"), &limits, Arc::new(Null, GFP_KERNEL)?)
/// }
/// ```
pub trait Driver: Sized + Send + Sync + 'static {
    /// What each request has of the driver's own. It is made with the disk and stays for as long
    /// as that, from one use of the request to the next.
    type Data: Send + Sync;

    /// The module that these operations are in, usually `Some(&THIS_MODULE)`.
    ///
    /// It cannot be unloaded while the disk is open. `None` is only right for code that cannot be
    /// unloaded at all.
    const OWNER: Option<&'static ThisModule> = None;

    /// Makes the data of one request.
    fn new_data(&self) -> impl PinInit<Self::Data, Error>;

    /// Serves a request, now or later. Must not sleep. `last` is false when more will follow at
    /// once: those may be begun together, at the latest in [`Driver::commit`].
    fn queue(this: ArcBorrow<'_, Self>, request: Request<Self>, last: bool);

    /// No more requests follow for now, although the last one said so. Must not sleep.
    fn commit(_this: ArcBorrow<'_, Self>) {}
}

/// What a disk can do.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the disk, a multiple of `logical_block`.
    pub size: u64,
    /// Requests begin and end at multiples of this, a power of two from 512 bytes to a page.
    pub logical_block: u32,
    /// What is written at once, a power of two of at least `logical_block` bytes.
    pub physical_block: u32,
    /// Most bytes of a read or write, a multiple of a page.
    pub max_bytes: u32,
    /// Most bytes of a discard; 0 when the disk has none.
    pub max_discard: u32,
    /// Discards of less than this, or not aligned to it, may do nothing.
    pub discard_granularity: u32,
    /// Most bytes of a write of zeroes; 0 when the disk has none.
    pub max_write_zeroes: u32,
    /// The disk may lose writes that it completed before a [`Operation::Flush`], but for those
    /// with [`Request::is_fua`]. Without this neither comes.
    pub write_cache: bool,
    /// Data to be written do not change while they are.
    pub stable_writes: bool,
    /// Hardware queues: requests of as many CPUs come at once.
    pub queues: u32,
    /// Requests of each queue.
    pub depth: u32,
}

impl Limits {
    /// Of a disk with pages for blocks and nothing special. Its size has to be set.
    pub const DEFAULT: Self = Self {
        size: 0,
        logical_block: 4096,
        physical_block: 4096,
        max_bytes: 128 << 10,
        max_discard: 0,
        discard_granularity: 0,
        max_write_zeroes: 0,
        write_cache: false,
        stable_writes: false,
        queues: 1,
        depth: 128,
    };
}
