// SPDX-License-Identifier: GPL-2.0

//! Accesses to memory that a peer has opened for us: RDMA reads and writes whose end is waited for.

use crate::core::{Class, Gate, Share};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    sync::{Arc, Completion, SpinLockBh},
};

/// Accesses under way on one link: more would leave messages no room in the send queue.
pub(super) const MOST: usize = 64;
/// Entries that a link keeps for the next access.
const KEPT: usize = 16;

/// Which way the bytes go.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the peer.
    Read,
    /// To the peer.
    Write,
}

/// One access.
#[pin_data]
pub(crate) struct Access {
    #[pin]
    result: SpinLockBh<Result>,
    #[pin]
    pub(super) done: Completion,
}

impl Access {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                result <- new_spinlock_bh!(Ok(()), "lite_access"),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// It has ended like this. Any context.
    pub(super) fn finish(&self, result: Result) {
        *self.result.lock() = result;
        self.done.complete();
    }

    /// How it ended.
    pub(super) fn result(&self) -> Result {
        *self.result.lock()
    }
}

/// The accesses of a link.
pub(super) struct Accesses {
    idle: KVec<Arc<Access>>,
    open: KVec<Option<Open>>,
    gate: Gate,
}

/// One that is under way.
struct Open {
    access: Arc<Access>,
    class: Class,
    bytes: usize,
}

impl Accesses {
    /// None yet; the classes share what there may be.
    pub(super) const fn new(share: Share) -> Self {
        Self {
            idle: KVec::new(),
            open: KVec::new(),
            gate: Gate::new(MOST, share),
        }
    }

    pub(super) fn take_idle(&mut self) -> Option<Arc<Access>> {
        self.idle.pop()
    }

    pub(super) fn make() -> Result<Arc<Access>> {
        Access::new()
    }

    /// Who opens one next is waited for, until [`Self::gone`].
    pub(super) fn wait(&mut self, class: Class) {
        self.gate.wait(class);
    }

    /// Who waited has opened one, or given up.
    pub(super) fn gone(&mut self, class: Class) {
        self.gate.gone(class);
    }

    /// Notes one as under way; its slot, by which its completion finds it. [`EAGAIN`] while it may not
    /// begin.
    pub(super) fn open(
        &mut self,
        class: Class,
        bytes: usize,
        access: Arc<Access>,
    ) -> Result<usize> {
        if !self.gate.take(class, bytes) {
            return Err(EAGAIN);
        }
        let open = Open {
            access,
            class,
            bytes,
        };
        if let Some(slot) = self.open.iter().position(Option::is_none) {
            self.open[slot] = Some(open);
            return Ok(slot);
        }
        if let Err(e) = self.open.push(Some(open), GFP_ATOMIC) {
            self.gate.give_back(class, bytes);
            return Err(e.into());
        }
        Ok(self.open.len() - 1)
    }

    /// One has completed, or was not posted.
    pub(super) fn close(&mut self, slot: usize) -> Option<Arc<Access>> {
        let open = self.open.get_mut(slot)?.take()?;
        self.gate.give_back(open.class, open.bytes);
        Some(open.access)
    }

    /// One has ended and nobody waits for it any more; returns it unless it was kept.
    pub(super) fn keep(&mut self, access: Arc<Access>) -> Option<Arc<Access>> {
        if self.idle.len() < KEPT && self.idle.reserve(1, GFP_ATOMIC).is_ok() {
            return self.idle.push_within_capacity(access).err().map(|e| e.0);
        }
        Some(access)
    }
}
