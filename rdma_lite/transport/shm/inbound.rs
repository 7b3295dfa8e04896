// SPDX-License-Identifier: GPL-2.0

//! What one end of a link has for the other: the ring and its bells, and the windows.

use super::{ring::Ring, windows::Windows, ShmLink};
use crate::{
    core::{Bells, Turn},
    transport::{LinkUser, RingSize},
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    rdma::RemoteAddr,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        SpinLockBh, //
    },
    workqueue,
};

/// Names of connections. That no number is given twice is what counts.
static NEXT_NAME: Atomic<u64> = Atomic::new(1);

struct State<U: LinkUser> {
    bells: Bells,
    /// Whose it is, from when both ends were made until this one ends.
    owner: Option<Arc<ShmLink<U>>>,
}

/// See the module.
#[pin_data]
pub(super) struct Inbound<U: LinkUser> {
    name: u64,
    ring: Ring,
    #[pin]
    state: SpinLockBh<State<U>>,
    #[pin]
    pub(super) windows: Windows,
}

impl<U: LinkUser> Inbound<U> {
    pub(super) fn new(size: RingSize) -> Result<Arc<Self>> {
        let ring = Ring::new(1 << size.size_log2)?;
        // What the sender may send before it hears of room, and bells of credit.
        let bells = Bells::new(2 << size.depth_log2)?;
        Arc::pin_init(
            pin_init!(Self {
                name: NEXT_NAME.fetch_add(1, Relaxed),
                ring,
                state <- new_spinlock_bh!(State { bells, owner: None }, "lite_inbound"),
                windows <- Windows::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Names the connection, as the address of a ring does with verbs.
    pub(super) fn name(&self) -> RemoteAddr {
        RemoteAddr {
            addr: self.name,
            rkey: 1,
        }
    }

    pub(super) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(super) fn set_owner(&self, owner: &Arc<ShmLink<U>>) {
        self.state.lock().owner = Some(owner.clone());
    }

    /// The sender has put a message into the ring, or has something to say that needs none.
    /// [`ECONNRESET`]: nobody will hear it.
    pub(super) fn ring_bell(&self, imm: u32) -> Result {
        let mut state = self.state.lock();
        let state = &mut *state;
        let owner = state.owner.as_ref().ok_or(ECONNRESET)?;
        if state.bells.push(imm)? {
            // Under the lock: once `close()` had it nothing is queued any more.
            let _ = workqueue::system_bh().enqueue::<_, 2>(owner.clone());
        }
        Ok(())
    }

    /// See [`Bells::next`].
    pub(super) fn next(&self, who: Turn) -> Option<u32> {
        self.state.lock().bells.next(who)
    }

    /// See [`Bells::handled`].
    pub(super) fn handled(&self) {
        self.state.lock().bells.handled();
    }

    /// See [`Bells::defer`].
    pub(super) fn defer(&self) {
        self.state.lock().bells.defer();
    }

    /// Tells the link whose this is; [`ECONNRESET`] when it has ended.
    pub(super) fn tell(&self, f: impl FnOnce(&Arc<ShmLink<U>>)) -> Result {
        let state = self.state.lock();
        // Not by a reference of our own, that could be the last one, in any context.
        f(state.owner.as_ref().ok_or(ECONNRESET)?);
        Ok(())
    }

    /// Nothing comes in any more; what has come and was not handled is dropped.
    pub(super) fn close(&self) {
        let (owner, bells) = {
            let mut state = self.state.lock();
            (state.owner.take(), core::mem::take(&mut state.bells))
        };
        drop(bells);
        drop(owner);
    }
}
