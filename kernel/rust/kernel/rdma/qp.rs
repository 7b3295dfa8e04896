// SPDX-License-Identifier: GPL-2.0

//! Queue pairs.

use super::{
    slots::{Direction, Slots},
    wr::Hold,
    CmId,
    CompletionHandler,
    CompletionQueue,
    Pd,
    Segment,
    SendOp, //
};
use crate::{bindings, error::to_result, prelude::*, sync::Arc};
use core::ptr::{self, NonNull};

/// Sizes of a queue pair.
#[derive(Copy, Clone)]
pub struct QueuePairOptions {
    /// Work requests that the send queue holds at a time.
    pub send: u32,
    /// Receives that can be posted at a time.
    pub recv: u32,
}

/// A reliable connected queue pair of a [`CmId`].
///
/// Dropping it stops all work, waits for the completions of all of it, and lets go of the memory.
/// So it must not be dropped by a completion handler.
///
/// # Invariants
///
/// `raw` is the queue pair of `id`, made by `new()` in `pd` with both queues on `_cq`, and
/// destroyed by nobody else. All its work requests point to slots of `send` and `recv`.
pub struct QueuePair<H: CompletionHandler> {
    raw: NonNull<bindings::ib_qp>,
    send: KBox<Slots<H>>,
    recv: KBox<Slots<H>>,
    id: Arc<CmId>,
    pd: Arc<Pd>,
    _cq: Arc<CompletionQueue>,
}

// SAFETY: Verbs on a queue pair may be called by any thread; the rest is `Send`.
unsafe impl<H: CompletionHandler> Send for QueuePair<H> {}
// SAFETY: Posting is serialised by the driver; the rest is `Sync`.
unsafe impl<H: CompletionHandler> Sync for QueuePair<H> {}

impl<H: CompletionHandler> QueuePair<H> {
    /// Makes the queue pair of `id`, which must be bound to the device of `pd` and `cq`.
    ///
    /// Fails with [`EBUSY`] when `id` has one already. `cq` must have room for all completions of
    /// all its queue pairs, and two more for each of them.
    pub fn new(
        id: &Arc<CmId>,
        pd: &Arc<Pd>,
        cq: &Arc<CompletionQueue>,
        options: QueuePairOptions,
        handler: Arc<H>,
    ) -> Result<Self> {
        let QueuePairOptions { send, recv } = options;
        // One more in each queue, for the request that drains it.
        let (max_send, max_recv) = (send + 1, recv + 1);
        let limit = pd.device().max_work_requests();
        if max_send > limit || max_recv > limit || max_send + max_recv > cq.capacity() {
            return Err(EINVAL);
        }
        let send = Slots::new(send, Direction::Send, handler.clone())?;
        let recv = Slots::new(recv, Direction::Recv, handler)?;
        let mut attr: bindings::ib_qp_init_attr = pin_init::zeroed();
        attr.send_cq = cq.as_raw();
        attr.recv_cq = cq.as_raw();
        attr.qp_type = bindings::ib_qp_type_IB_QPT_RC;
        attr.sq_sig_type = bindings::ib_sig_type_IB_SIGNAL_REQ_WR;
        attr.cap.max_send_wr = max_send;
        attr.cap.max_recv_wr = max_recv;
        attr.cap.max_send_sge = 1;
        attr.cap.max_recv_sge = 1;
        let raw = id.create_qp(pd, &mut attr)?;
        // INVARIANT: Just made; nothing is posted yet.
        Ok(Self {
            raw,
            send,
            recv,
            id: id.clone(),
            pd: pd.clone(),
            _cq: cq.clone(),
        })
    }

    /// The connection that it belongs to.
    pub fn id(&self) -> &Arc<CmId> {
        &self.id
    }

    /// Its protection domain.
    pub fn pd(&self) -> &Arc<Pd> {
        &self.pd
    }

    /// Posts work to the send queue; its completion comes with `token`.
    ///
    /// [`EAGAIN`] when the queue is full. May be called in any context.
    pub fn post_send(&self, token: u64, op: SendOp<'_>) -> Result {
        let registering = match &op {
            SendOp::RegMr { mr, .. } | SendOp::LocalInv { mr } if !ptr::eq(mr.pd(), &*self.pd) => {
                return Err(EINVAL);
            }
            SendOp::RegMr { mr, .. } => {
                mr.set_exposed()?;
                Some((*mr).clone())
            }
            _ => None,
        };
        let (mut raw, mut sge, hold) = op.into_raw(self.pd.local_dma_lkey());
        let result = self.send.take(token, hold).and_then(|cqe| {
            // SAFETY: All variants begin with an `ib_send_wr`, so this one is always initialised.
            let wr = unsafe { &mut raw.send };
            wr.__bindgen_anon_1.wr_cqe = cqe;
            if let Some(sge) = &mut sge {
                wr.sg_list = sge;
                wr.num_sge = 1;
            }
            let mut bad = ptr::null();
            // SAFETY: The queue pair is valid; the request is complete, its memory held by the
            // slot, and the driver copies the request itself.
            to_result(unsafe { bindings::ib_post_send(self.raw.as_ptr(), wr, &mut bad) })
                // SAFETY: The slot was taken above, and the request was not accepted.
                .inspect_err(|_| drop(unsafe { self.send.untake(cqe) }))
        });
        if result.is_err() {
            if let Some(mr) = registering {
                mr.set_hidden();
            }
        }
        result
    }

    /// Posts a receive; its completion comes with `token`.
    ///
    /// Without a `buffer` it can only be completed by an RDMA write with immediate. [`EAGAIN`] when
    /// the queue is full. May be called in any context.
    pub fn post_recv(&self, token: u64, buffer: Option<Segment>) -> Result {
        let mut wr: bindings::ib_recv_wr = pin_init::zeroed();
        let mut sge = buffer.as_ref().map(|b| b.sge(self.pd.local_dma_lkey()));
        if let Some(sge) = &mut sge {
            wr.sg_list = sge;
            wr.num_sge = 1;
        }
        let hold = buffer.map_or(Hold::Nothing, |b| Hold::Buffer(b.into_buffer()));
        let cqe = self.recv.take(token, hold)?;
        wr.__bindgen_anon_1.wr_cqe = cqe;
        let mut bad = ptr::null();
        // SAFETY: As in `post_send()`.
        to_result(unsafe { bindings::ib_post_recv(self.raw.as_ptr(), &wr, &mut bad) })
            // SAFETY: The slot was taken above, and the request was not accepted.
            .inspect_err(|_| drop(unsafe { self.recv.untake(cqe) }))
    }
}

impl<H: CompletionHandler> Drop for QueuePair<H> {
    fn drop(&mut self) {
        // SAFETY: The queue pair is valid, its queues have room for this, and nobody else posts,
        // as we are the last to have it. On return all slots' completions have been handled.
        unsafe { bindings::ib_drain_qp(self.raw.as_ptr()) };
        self.id.destroy_qp();
    }
}
