// SPDX-License-Identifier: GPL-2.0

//! Accesses to memory that a peer has opened for us: RDMA reads and writes whose end is waited for.

use crate::{
    core::{Admission, Class, Gate, Share},
    events::now,
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    sync::{Arc, Completion, SpinLockBh},
    time::msecs_to_jiffies,
};

pub(super) const MS: u64 = 1_000_000;

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
    state: SpinLockBh<State>,
    /// It waited to begin, and may.
    #[pin]
    admitted: Completion,
    /// It has ended.
    #[pin]
    done: Completion,
}

/// What became of it.
struct State {
    /// Its place among those under way.
    place: Result<usize>,
    result: Result,
}

impl Access {
    pub(super) fn make() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                state <- new_spinlock_bh!(State {
                    place: Err(EAGAIN),
                    result: Ok(()),
                }, "lite_access"),
                admitted <- Completion::new(),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// It waited, and has this place now, or never has one. Any context.
    pub(super) fn admit(&self, place: Result<usize>) {
        self.state.lock().place = place;
        self.admitted.complete();
    }

    /// It has ended like this. Any context.
    pub(super) fn finish(&self, result: Result) {
        self.state.lock().result = result;
        self.done.complete();
    }

    /// Its place: the one that it was `begun` with, or else the one that it waits for. `Err` outside: the wait
    /// was given up, and the access `withdrawn`, as it may have been given a place meanwhile.
    pub(super) fn place(
        &self,
        begun: Result<Option<usize>>,
        deadline: u64,
        withdrawn: impl FnOnce(),
    ) -> Result<Result<usize>> {
        match begun.transpose() {
            Some(place) => Ok(place),
            None => match wait(&self.admitted, deadline) {
                Ok(()) => Ok(self.state.lock().place),
                Err(e) => {
                    withdrawn();
                    Err(e)
                }
            },
        }
    }

    /// Waits for its end, and says how it ended. `Err` outside: the wait was given up.
    pub(super) fn wait_for_end(&self, deadline: u64) -> Result<Result> {
        wait(&self.done, deadline)?;
        Ok(self.state.lock().result)
    }
}

fn wait(completion: &Completion, deadline: u64) -> Result {
    let left = deadline.saturating_sub(now()).div_ceil(MS);
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    completion.wait_for_completion_killable_timeout(msecs_to_jiffies(left))
}

/// The accesses of a link.
pub(super) struct Accesses {
    idle: KVec<Arc<Access>>,
    open: KVec<Option<Open>>,
    admission: Admission<Arc<Access>>,
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
            admission: Admission::new(Gate::new(MOST, share)),
        }
    }

    pub(super) fn take_idle(&mut self) -> Option<Arc<Access>> {
        self.idle.pop()
    }

    /// Begins one: its slot, by which its completion finds it. `None`: it waits for one, and hears of it.
    pub(super) fn begin(
        &mut self,
        class: Class,
        bytes: usize,
        access: &Arc<Access>,
    ) -> Result<Option<usize>> {
        match self.admission.enter(class, bytes, || access.clone())? {
            true => self.seat(class, bytes, access.clone()).map(Some),
            false => Ok(None),
        }
    }

    /// Notes one as under way that was let in.
    fn seat(&mut self, class: Class, bytes: usize, access: Arc<Access>) -> Result<usize> {
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
            self.admission.leave(class, bytes);
            return Err(e.into());
        }
        Ok(self.open.len() - 1)
    }

    /// Lets in who waited and may begin now.
    fn admit(&mut self) {
        while let Some((class, bytes, access)) = self.admission.admit() {
            let place = self.seat(class, bytes, access.clone());
            access.admit(place);
        }
    }

    /// One has completed, or was not posted.
    pub(super) fn close(&mut self, slot: usize) -> Option<Arc<Access>> {
        let open = self.open.get_mut(slot)?.take()?;
        self.admission.leave(open.class, open.bytes);
        self.admit();
        Some(open.access)
    }

    /// One is not waited for any more, whether or not it was let in meanwhile.
    pub(super) fn withdraw(&mut self, class: Class, access: &Arc<Access>) {
        let is = |other: &Arc<Access>| Arc::ptr_eq(other, access);
        if self.admission.withdraw(class, is) {
            self.admit();
        } else {
            let holds = |open: &Option<Open>| open.as_ref().is_some_and(|open| is(&open.access));
            if let Some(slot) = self.open.iter().position(holds) {
                // Who withdraws has a reference: nothing is freed here.
                let _ = self.close(slot);
            }
        }
    }

    /// One has ended and nobody waits for it any more; returns it unless it was kept.
    pub(super) fn keep(&mut self, access: Arc<Access>) -> Option<Arc<Access>> {
        if self.idle.len() < KEPT && self.idle.reserve(1, GFP_ATOMIC).is_ok() {
            return self.idle.push_within_capacity(access).err().map(|e| e.0);
        }
        Some(access)
    }
}
