// SPDX-License-Identifier: GPL-2.0

//! What the block layer calls.

use super::{request::Request, tags::Tags, Driver};
use crate::{
    bindings,
    error::{from_result, to_result},
    prelude::*,
    sync::{atomic::Relaxed, Arc, ArcBorrow},
    types::ForeignOwnable,
};
use core::{marker::PhantomData, ptr::NonNull};

/// The tables of functions of a disk with driver `D`.
pub(super) struct Operations<D: Driver>(PhantomData<D>);

impl<D: Driver> Operations<D> {
    /// # Safety
    ///
    /// `hctx` must be of a queue whose data are an `Arc<D>` that is lent to the block layer for
    /// `'a`.
    unsafe fn driver<'a>(hctx: *const bindings::blk_mq_hw_ctx) -> ArcBorrow<'a, D> {
        // SAFETY: As the caller promises.
        unsafe { Arc::<D>::borrow((*(*hctx).queue).queuedata) }
    }

    /// # Safety
    ///
    /// To be called by the block layer only, for a disk with driver `D`.
    unsafe extern "C" fn queue_rq(
        hctx: *mut bindings::blk_mq_hw_ctx,
        queued: *const bindings::blk_mq_queue_data,
    ) -> bindings::blk_status_t {
        // SAFETY: The block layer gives a request.
        let (rq, last) = unsafe { (NonNull::new_unchecked((*queued).rq), (*queued).last) };
        // SAFETY: The request is new to us, and ours until it is ended.
        unsafe { bindings::blk_mq_start_request(rq.as_ptr()) };
        // SAFETY: It was just started; `init_request` initialised its data.
        let request = unsafe { Request::<D>::from_raw(rq) };
        match request.parse() {
            // SAFETY: The queue's data are the driver for as long as it has requests.
            Ok(_) => D::queue(unsafe { Self::driver(hctx) }, request, last),
            Err(e) => request.end(Err(e)),
        }
        bindings::BLK_STS_OK as bindings::blk_status_t
    }

    /// # Safety
    ///
    /// As for [`Self::queue_rq`].
    unsafe extern "C" fn commit_rqs(hctx: *mut bindings::blk_mq_hw_ctx) {
        // SAFETY: The queue's data are the driver for as long as it is alive.
        D::commit(unsafe { Self::driver(hctx) });
    }

    /// # Safety
    ///
    /// To be called by the block layer only, for a [`Tags<D>`] that is being made.
    unsafe extern "C" fn init_request(
        set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _queue: c_uint,
        _node: c_int,
    ) -> c_int {
        // SAFETY: `Tags::new` lends the driver to the set.
        let driver = unsafe { &*(*set).driver_data.cast::<D>() };
        from_result(|| {
            // SAFETY: The block layer gives a request, with a private part that is large and
            // aligned enough for `D::Data` by how `Tags` makes the set, and that stays in place.
            unsafe {
                let data = Request::<D>::data_of(NonNull::new_unchecked(rq));
                driver.new_data().__pinned_init(data)?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// To be called by the block layer only, for a request that [`Self::init_request`] made.
    unsafe extern "C" fn exit_request(
        _set: *mut bindings::blk_mq_tag_set,
        rq: *mut bindings::request,
        _queue: c_uint,
    ) {
        // SAFETY: The data were initialised, and nobody uses the request any more.
        unsafe {
            Request::<D>::data_of(NonNull::new_unchecked(rq)).drop_in_place();
        }
    }

    /// # Safety
    ///
    /// To be called by the block layer only, with the disk's `open_mutex` held, for a disk whose
    /// private data are its [`Tags<D>`].
    unsafe extern "C" fn open(disk: *mut bindings::gendisk, _mode: bindings::blk_mode_t) -> c_int {
        // SAFETY: The tags live for as long as the disk can be opened.
        let tags = unsafe { &*(*disk).private_data.cast::<Tags<D>>() };
        if tags.closing().load(Relaxed) {
            ENXIO.to_errno()
        } else {
            0
        }
    }

    pub(super) const QUEUE: &'static bindings::blk_mq_ops = &bindings::blk_mq_ops {
        queue_rq: Some(Self::queue_rq),
        commit_rqs: Some(Self::commit_rqs),
        init_request: Some(Self::init_request),
        exit_request: Some(Self::exit_request),
        ..pin_init::zeroed()
    };

    pub(super) const DEVICE: &'static bindings::block_device_operations =
        &bindings::block_device_operations {
            open: Some(Self::open),
            owner: match D::OWNER {
                Some(module) => module.as_ptr(),
                None => core::ptr::null_mut(),
            },
            ..pin_init::zeroed()
        };

    /// Makes the requests of a set.
    ///
    /// # Safety
    ///
    /// `set` must be set up but for its requests, with [`Self::QUEUE`] and a `D` to be borrowed
    /// for as long as it exists.
    pub(super) unsafe fn alloc(set: *mut bindings::blk_mq_tag_set) -> Result {
        // SAFETY: As the caller promises.
        to_result(unsafe { bindings::blk_mq_alloc_tag_set(set) })
    }
}
