// SPDX-License-Identifier: GPL-2.0

//! Completions, and the slots through which they find their owner.
//!
//! Each queue of a queue pair has as many slots as it takes work requests. A slot holds the C
//! completion entry that a work request points to, and what the request needs until it is done.

use super::wr::Hold;
use crate::{
    bindings,
    prelude::*,
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
        ArcBorrow, //
    },
};
use core::cell::UnsafeCell;

/// Gets the completions of a queue pair.
pub trait CompletionHandler: Send + Sync + 'static {
    /// A work request that was posted with `token` to the send queue is done, well or not.
    ///
    /// Runs in the context that the completion queue was made for. Must not drop the queue pair.
    fn send_done(this: ArcBorrow<'_, Self>, token: u64, completion: &Completion<'_>);

    /// A receive that was posted with `token` is done, well or not; as [`Self::send_done`].
    fn recv_done(this: ArcBorrow<'_, Self>, token: u64, completion: &Completion<'_>);
}

/// How a work request ended.
pub struct Completion<'a>(&'a bindings::ib_wc);

impl Completion<'_> {
    /// `Ok` when the request did what it was to do.
    ///
    /// [`ECONNABORTED`] when it was flushed because the queue pair failed before or was shut down,
    /// [`ETIMEDOUT`] when the peer did not answer, [`EACCES`] when it refused, else [`EIO`].
    pub fn result(&self) -> Result {
        match self.0.status {
            bindings::ib_wc_status_IB_WC_SUCCESS => Ok(()),
            bindings::ib_wc_status_IB_WC_WR_FLUSH_ERR => Err(ECONNABORTED),
            bindings::ib_wc_status_IB_WC_RETRY_EXC_ERR
            | bindings::ib_wc_status_IB_WC_RNR_RETRY_EXC_ERR => Err(ETIMEDOUT),
            bindings::ib_wc_status_IB_WC_REM_ACCESS_ERR => Err(EACCES),
            _ => Err(EIO),
        }
    }

    /// The verbs status as a number, for a log line.
    pub fn status(&self) -> u32 {
        self.0.status
    }

    /// Bytes that came with a receive.
    pub fn byte_len(&self) -> u32 {
        self.0.byte_len
    }

    /// The immediate that the peer sent, if any.
    pub fn imm(&self) -> Option<u32> {
        if self.0.wc_flags as u32 & bindings::ib_wc_flags_IB_WC_WITH_IMM == 0 {
            return None;
        }
        // SAFETY: The flag says that this member of the union is in use.
        Some(u32::from_be(unsafe { self.0.ex.imm_data }))
    }
}

/// Which of the two queues.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Direction {
    Send,
    Recv,
}

/// One work request's worth of memory.
///
/// `cqe` comes first, so that the device's pointer to it is one to the slot.
#[repr(C)]
struct Slot<H> {
    cqe: bindings::ib_cqe,
    owner: *const Slots<H>,
    index: usize,
    posted: UnsafeCell<(u64, Hold)>,
}

/// The slots of one queue.
///
/// # Invariants
///
/// - A slot's bit in `taken` is set from [`Self::take`] until its completion was handled, and
///   whoever set it, or the completion, alone accesses `posted`.
/// - `slots` never changes after construction, and each slot's `owner` is this object.
pub(super) struct Slots<H> {
    handler: Arc<H>,
    direction: Direction,
    taken: KVec<Atomic<usize>>,
    slots: KVec<Slot<H>>,
}

// SAFETY: The invariants give each slot one accessor at a time; the handler is `Send + Sync`.
unsafe impl<H: CompletionHandler> Send for Slots<H> {}
// SAFETY: As above.
unsafe impl<H: CompletionHandler> Sync for Slots<H> {}

const WORD: usize = usize::BITS as usize;

impl<H: CompletionHandler> Slots<H> {
    pub(super) fn new(n: u32, direction: Direction, handler: Arc<H>) -> Result<KBox<Self>> {
        let n = n as usize;
        let mut taken = KVec::with_capacity(n.div_ceil(WORD), GFP_KERNEL)?;
        for word in 0..n.div_ceil(WORD) {
            let here = (n - word * WORD).min(WORD);
            // Bits past the end are taken for good.
            let free = if here == WORD { 0 } else { usize::MAX << here };
            taken.push(Atomic::new(free), GFP_KERNEL)?;
        }
        let mut this = KBox::new(
            Self {
                handler,
                direction,
                taken,
                slots: KVec::with_capacity(n, GFP_KERNEL)?,
            },
            GFP_KERNEL,
        )?;
        let owner: *const Self = &*this;
        for index in 0..n {
            // INVARIANT: `owner` stays put in its box, and the capacity for all is there.
            this.slots.push(
                Slot {
                    cqe: bindings::ib_cqe {
                        done: Some(Self::done),
                    },
                    owner,
                    index,
                    posted: UnsafeCell::new((0, Hold::Nothing)),
                },
                GFP_KERNEL,
            )?;
        }
        Ok(this)
    }

    /// Takes a free slot for a work request; [`EAGAIN`] when all are in use.
    pub(super) fn take(&self, token: u64, hold: Hold) -> Result<*mut bindings::ib_cqe> {
        for (n, word) in self.taken.iter().enumerate() {
            let mut old = word.load(Relaxed);
            while old != usize::MAX {
                let bit = (!old).trailing_zeros() as usize;
                match word.cmpxchg(old, old | 1 << bit, Full) {
                    Ok(_) => {
                        let slot = &self.slots[n * WORD + bit];
                        // SAFETY: We set the bit, so by the type invariant the slot is ours.
                        unsafe { *slot.posted.get() = (token, hold) };
                        return Ok((&raw const slot.cqe).cast_mut());
                    }
                    Err(now) => old = now,
                }
            }
        }
        Err(EAGAIN)
    }

    /// Gives a slot back whose work request could not be posted, and returns what it held.
    ///
    /// # Safety
    ///
    /// `cqe` must be from [`Self::take`] of `self`, and no posted work request may point to it.
    pub(super) unsafe fn untake(&self, cqe: *mut bindings::ib_cqe) -> Hold {
        // SAFETY: `cqe` is the first member of a slot of ours.
        let slot = unsafe { &*cqe.cast_const().cast::<Slot<H>>() };
        // SAFETY: The slot is still the caller's.
        unsafe { self.release(slot) }.1
    }

    /// # Safety
    ///
    /// The caller must be the one accessor of `slot`, which must be one of ours.
    unsafe fn release(&self, slot: &Slot<H>) -> (u64, Hold) {
        // SAFETY: By this function's requirement.
        let posted = unsafe { core::mem::replace(&mut *slot.posted.get(), (0, Hold::Nothing)) };
        let word = &self.taken[slot.index / WORD];
        let bit = 1 << (slot.index % WORD);
        let mut old = word.load(Relaxed);
        while let Err(now) = word.cmpxchg(old, old & !bit, Full) {
            old = now;
        }
        posted
    }

    /// # Safety
    ///
    /// Called by the verbs layer with a completion of a work request that points to a slot.
    unsafe extern "C" fn done(_cq: *mut bindings::ib_cq, wc: *mut bindings::ib_wc) {
        // SAFETY: The caller's completion is valid during the call.
        let wc = unsafe { &*wc };
        // SAFETY: All our work requests set `wr_cqe`, to the first member of a slot; its owner
        // lives until the queue pair is drained.
        let (slot, owner) = unsafe {
            let slot = &*wc.__bindgen_anon_1.wr_cqe.cast_const().cast::<Slot<H>>();
            (slot, &*slot.owner)
        };
        // SAFETY: The request has completed, which makes the slot ours.
        let (token, hold) = unsafe { owner.release(slot) };
        let completion = Completion(wc);
        if let Hold::Invalidating(mr) = &hold {
            if completion.result().is_ok() {
                mr.set_hidden();
            }
        }
        drop(hold);
        let handler = owner.handler.as_arc_borrow();
        match owner.direction {
            Direction::Send => H::send_done(handler, token, &completion),
            Direction::Recv => H::recv_done(handler, token, &completion),
        }
    }
}
