// SPDX-License-Identifier: GPL-2.0

//! Events of a node, for those who read /dev/rdma_lite.
//!
//! Each reader has a queue of its own. One that is too slow loses the oldest events and is told so.

use crate::uapi::{self, Event};
use kernel::{
    new_poll_condvar, new_spinlock_bh,
    prelude::*,
    sync::{poll::PollCondVar, Arc, SpinLockBh},
    time::{ClockSource, Monotonic},
};

/// Events that wait for one reader.
const CAPACITY: usize = 256;

/// Ns of CLOCK_MONOTONIC, the clock of events and of the protocol.
pub(crate) fn now() -> u64 {
    Monotonic::ktime_get().max(0) as u64
}

/// An event that happened just now.
pub(crate) fn event(kind: u32, node: u16, reason: u32, epoch: u64, incarnation: u64) -> Event {
    Event {
        kind,
        node: node.into(),
        reason,
        reserved: 0,
        epoch,
        incarnation,
        time_ns: now(),
    }
}

struct Queue {
    events: KVec<Event>,
    first: usize,
    count: usize,
    lost: bool,
}

impl Queue {
    fn push(&mut self, event: Event) {
        if self.count == CAPACITY {
            self.first = (self.first + 1) % CAPACITY;
            self.count -= 1;
            self.lost = true;
        }
        let at = (self.first + self.count) % CAPACITY;
        self.events[at] = event;
        self.count += 1;
    }

    fn pop(&mut self) -> Option<Event> {
        if core::mem::take(&mut self.lost) {
            let next = &self.events[self.first];
            return Some(Event {
                kind: uapi::EVENT_LOST,
                node: 0,
                reason: 0,
                incarnation: 0,
                ..*next
            });
        }
        if self.count == 0 {
            return None;
        }
        let event = self.events[self.first];
        self.first = (self.first + 1) % CAPACITY;
        self.count -= 1;
        Some(event)
    }
}

/// One who reads events.
#[pin_data]
pub(crate) struct Reader {
    #[pin]
    queue: SpinLockBh<Queue>,
    #[pin]
    pub(crate) changed: PollCondVar,
}

impl Reader {
    pub(crate) fn new() -> Result<Arc<Self>> {
        let none = event(0, 0, 0, 0, 0);
        let events = KVec::from_elem(none, CAPACITY, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                queue <- new_spinlock_bh!(Queue { events, first: 0, count: 0, lost: false },
                    "lite_events"),
                changed <- new_poll_condvar!("lite_reader"),
            }),
            GFP_KERNEL,
        )
    }

    /// The next event, if there is one.
    pub(crate) fn pop(&self) -> Option<Event> {
        self.queue.lock().pop()
    }

    /// Whether there is an event.
    pub(crate) fn is_ready(&self) -> bool {
        self.queue.lock().count != 0
    }

    /// The next event; waits for it. [`EINTR`] when a signal comes first.
    pub(crate) fn wait(&self) -> Result<Event> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(event) = queue.pop() {
                return Ok(event);
            }
            if self.changed.wait_interruptible(&mut queue) {
                return Err(EINTR);
            }
        }
    }
}

/// All who read the events of a node.
#[pin_data]
pub(crate) struct Readers {
    #[pin]
    list: SpinLockBh<KVec<Arc<Reader>>>,
}

impl Readers {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self { list <- new_spinlock_bh!(KVec::new(), "lite_readers") })
    }

    pub(crate) fn add(&self, reader: &Arc<Reader>) -> Result {
        Ok(self.list.lock().push(reader.clone(), GFP_ATOMIC)?)
    }

    pub(crate) fn remove(&self, reader: &Arc<Reader>) {
        let mut list = self.list.lock();
        let found = list.iter().position(|r| Arc::ptr_eq(r, reader));
        let removed = found.and_then(|at| list.remove(at).ok());
        drop(list);
        drop(removed);
    }

    /// Tells all of them.
    pub(crate) fn tell(&self, event: Event) {
        for reader in self.list.lock().iter() {
            reader.queue.lock().push(event);
            reader.changed.notify_all();
        }
    }
}
