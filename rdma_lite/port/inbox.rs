// SPDX-License-Identifier: GPL-2.0

//! A port whose calls a process receives.

use super::job::Job;
use crate::{
    core::{Bounds, Recent, ReceiveQueue, Refusal, Refused, Share, Token},
    events::now,
    poll,
};
use kernel::{
    alloc::Flags,
    new_poll_condvar, new_spinlock_bh,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        poll::PollCondVar,
        Arc, CondVarTimeoutResult, SpinLockBh, UniqueArc,
    },
    time::Jiffies,
};

/// The calls of such a port: those that wait to be received, and those that wait for their reply.
#[pin_data]
pub(crate) struct Inbox {
    #[pin]
    queue: SpinLockBh<ReceiveQueue<Arc<Job>>>,
    /// A call has come, or nothing more will.
    #[pin]
    changed: PollCondVar,
    /// All inboxes of one open file: for those who poll(2) it.
    any: Arc<Arrivals>,
    /// [`Recent`] waits for a call, and the longest time that a receiver polls, in ns.
    recent: Atomic<u64>,
    poll: u64,
}

/// Tells who polls a file that there is something in one of its inboxes.
#[pin_data]
pub(crate) struct Arrivals {
    #[pin]
    pub(crate) changed: PollCondVar,
}

impl Arrivals {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { changed <- new_poll_condvar!("lite_arrivals") }),
            GFP_KERNEL,
        )
    }
}

impl Inbox {
    /// `poll`: the longest time that a receiver polls before it sleeps, in ns.
    pub(crate) fn new(
        bounds: Bounds,
        share: Share,
        any: &Arc<Arrivals>,
        poll: u64,
    ) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                queue <- new_spinlock_bh!(ReceiveQueue::new(bounds, share), "lite_inbox"),
                changed <- new_poll_condvar!("lite_inbox"),
                any: any.clone(),
                recent: Atomic::new(0),
                poll,
            }),
            GFP_KERNEL,
        )
    }

    /// A call has come. In any context.
    pub(super) fn offer(&self, job: Job, flags: Flags) {
        // Whoever wants no reply has its answer as soon as the call is taken in, and waits no more.
        let (notify, expires) = (job.notify, job.expires);
        let expires = if notify { u64::MAX } else { expires };
        let len = job.data.len();
        let job: Arc<Job> = match UniqueArc::new_uninit(flags) {
            Ok(slot) => slot.write(job).into(),
            Err(_) => return job.refuse(Refusal::Busy),
        };
        let class = job.class;
        let offered = self
            .queue
            .lock()
            .offer(now(), class, job.clone(), len, expires);
        self.forget_expired();
        match offered {
            Ok(()) => {
                if notify {
                    job.ended(Ok(()));
                }
                self.changed.notify_one();
                self.any.changed.notify_all();
            }
            Err((Refused::Full, _)) => job.refuse(Refusal::Busy),
            Err((Refused::TooLarge, _)) => job.refuse(Refusal::TooLarge),
            Err((Refused::Closed, _)) => job.refuse(Refusal::NoPort),
        }
    }

    /// Those whose caller has given up: what became of them nobody asks.
    fn forget_expired(&self) {
        loop {
            let expired = self.queue.lock().pop_expired();
            let Some(job) = expired else { return };
            job.refuse(Refusal::Forgotten);
        }
    }

    /// Whether a call waits.
    pub(crate) fn is_ready(&self) -> bool {
        self.queue.lock().is_ready()
    }

    /// The next call, and its token, if it has at most `room` bytes. [`EAGAIN`] when there is none
    /// until `jiffies` are over, [`EMSGSIZE`] when it is longer, [`EINTR`] when a signal comes first,
    /// [`ESHUTDOWN`] when the port was closed.
    pub(crate) fn receive(&self, room: usize, mut jiffies: Jiffies) -> Result<(Token, Arc<Job>)> {
        let begun = now();
        let recent = Recent(self.recent.load(Relaxed));
        let waits = jiffies != 0;
        if waits {
            poll::until(recent.window(self.poll), || self.has_news());
        }
        let result = {
            let mut queue = self.queue.lock();
            loop {
                match queue.next_len(now()) {
                    Some(len) if len > room => break Err(EMSGSIZE),
                    Some(_) => {
                        if let Some(got) = queue.receive(now()) {
                            break Ok(got);
                        }
                    }
                    None if queue.is_closed() => break Err(ESHUTDOWN),
                    None if jiffies == 0 => break Err(EAGAIN),
                    None => match self.changed.wait_interruptible_timeout(&mut queue, jiffies) {
                        CondVarTimeoutResult::Signal { .. } => break Err(EINTR),
                        CondVarTimeoutResult::Timeout => jiffies = 0,
                        CondVarTimeoutResult::Woken { jiffies: left } => jiffies = left,
                    },
                }
            }
        };
        if waits {
            // Of two at once one may be lost, which matters little.
            let recent = recent.after(now().saturating_sub(begun), self.poll);
            self.recent.store(recent.0, Relaxed);
        }
        self.forget_expired();
        result
    }

    /// Whether a receiver would not sleep.
    fn has_news(&self) -> bool {
        let queue = self.queue.lock();
        queue.is_ready() || queue.is_closed()
    }

    /// Length of the next call, for whom it was too long.
    pub(crate) fn next_len(&self) -> Option<usize> {
        self.queue.lock().next_len(now())
    }

    /// It was not received after all.
    pub(crate) fn put_back(&self, token: Token) {
        self.queue.lock().put_back(token);
        self.changed.notify_one();
    }

    /// What was received under this token and has no reply yet.
    pub(crate) fn get(&self, token: Token) -> Option<Arc<Job>> {
        self.queue.lock().get(token)
    }

    /// What was received under this token has its reply; false when it has one already.
    pub(crate) fn replied(&self, token: Token) -> bool {
        let job = self.queue.lock().reply(token);
        job.is_some()
    }

    /// Nobody receives any more. What was received and not replied to may have been executed.
    pub(crate) fn close(&self) {
        self.queue.lock().close();
        loop {
            let left = self.queue.lock().drain();
            let Some((job, received)) = left else { break };
            if job.notify {
                // Its caller knows that it was taken in, and nothing else.
                continue;
            }
            if received {
                job.ended(Err(EPIPE));
            } else {
                job.refuse(Refusal::NoPort);
            }
        }
        self.changed.notify_all();
        self.any.changed.notify_all();
    }
}
