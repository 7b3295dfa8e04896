// SPDX-License-Identifier: GPL-2.0

//! Calls that we made to one peer and that have no result yet.
//!
//! A call waits in the send queue until there is room in the ring; it is sent
//! again after a reconnect, after a refusal that is worth another try, and
//! after long silence; it ends with the reply, with a final refusal, with a
//! change of the map, by its deadline or by cancellation, and only once. What
//! it ends with tells whether it may have been executed: every transmission is
//! counted, and only when each was answered by "not executed" the result says so.

use super::{
    class::{Class, Places, Share},
    queue::{Link, Linked, Queue},
    wire::{CallId, Refusal, ReplyBuffer},
};
use kernel::prelude::*;

/// A call to make.
#[derive(Clone, Copy, Debug)]
pub struct NewCall {
    /// Port at the peer.
    pub port: u16,
    /// Bytes of the request.
    pub len: u32,
    /// Where the reply may go. `cap` also bounds a reply through the ring.
    pub reply: ReplyBuffer,
    /// When to give up.
    pub deadline: u64,
    /// End it by `EAGAIN` when the callee has no room for it now, instead of trying again.
    pub nowait: bool,
    /// No reply is wanted: it ends when the callee's port has taken it in.
    pub notify: bool,
    /// What it has of what is scarce.
    pub class: Class,
}

/// What is sent of a call.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Which.
    pub id: CallId,
    /// As submitted.
    pub call: NewCall,
    /// Epoch in which it was submitted.
    pub epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// In the send queue.
    Queued,
    /// Sent, or refused and waiting for another try.
    Waiting,
    /// Has its result, in the done queue.
    Done,
}

#[derive(Debug)]
struct Entry<C> {
    link: Link,
    state: State,
    seq: u64,
    token: Option<C>,
    call: NewCall,
    epoch: u64,
    retry_at: u64,
    interval: u64,
    refusals: u32,
    /// Transmissions that no refusal answered.
    unanswered: u32,
    sent_at: u64,
    behind: bool,
    error: Error,
}

impl<C> Linked for Entry<C> {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

impl<C> Entry<C> {
    fn maybe_executed(&self) -> bool {
        self.unanswered != 0
    }

    /// The result when there will be no answer.
    fn given_up(&self, not_executed: Error) -> Error {
        if self.maybe_executed() {
            ETIMEDOUT
        } else {
            not_executed
        }
    }
}

/// The calls to one peer; `C` is what the edge wants back with the result.
#[derive(Debug)]
pub struct Calls<C> {
    entries: KVec<Entry<C>>,
    configured: usize,
    max: usize,
    free: Queue,
    /// By class.
    send: [Queue; Class::COUNT],
    places: Places,
    done: Queue,
    live: usize,
    retry: Retry,
    /// No deadline and no retry is before this.
    next: u64,
}

/// When to send again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// After silence; doubles each time.
    pub silence: u64,
    /// After a refusal that is worth another try; doubles a few times, up to `silence`.
    pub refused: u64,
}

impl Retry {
    /// What was refused for want of room is tried often enough to find it.
    const DOUBLINGS: u32 = 5;
}

impl<C> Calls<C> {
    /// Room for up to `max` calls at a time, shared by the classes.
    pub fn new(max: usize, retry: Retry, share: Share) -> Self {
        Self {
            entries: KVec::new(),
            configured: max,
            max,
            free: Queue::new(),
            send: [const { Queue::new() }; Class::COUNT],
            places: Places::new(max, share),
            done: Queue::new(),
            live: 0,
            retry,
            next: u64::MAX,
        }
    }

    /// How many have no result, or one that was not taken yet.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Takes a call into the send queue. `EAGAIN` when there are too many, or as many as its class
    /// may have while the other one wants its share.
    pub fn submit(&mut self, epoch: u64, call: NewCall, token: C) -> Result<CallId, (Error, C)> {
        if !self.places.take(call.class, 1) {
            return Err((EAGAIN, token));
        }
        let free = match self.free.first() {
            Some(at) => Ok(at),
            None => self.grow(epoch, call),
        };
        let at = match free {
            Ok(at) => at,
            Err(e) => {
                self.places.give_back(call.class, 1);
                return Err((e, token));
            }
        };
        self.free.remove(&mut self.entries, at);
        let entry = &mut self.entries[at];
        entry.seq += 1;
        entry.state = State::Queued;
        entry.token = Some(token);
        entry.call = call;
        entry.epoch = epoch;
        entry.retry_at = u64::MAX;
        entry.interval = self.retry.silence;
        entry.refusals = 0;
        entry.unanswered = 0;
        entry.behind = false;
        let id = CallId::new(at as u16, entry.seq);
        self.send[call.class.index()].push(&mut self.entries, at);
        self.live += 1;
        self.next = self.next.min(call.deadline);
        Ok(id)
    }

    /// A new free entry; `call` is what has no meaning in it yet.
    fn grow(&mut self, epoch: u64, call: NewCall) -> Result<usize> {
        let at = self.entries.len();
        if at >= self.max {
            return Err(EAGAIN);
        }
        let entry = Entry {
            link: Link::new(),
            state: State::Free,
            seq: 0,
            token: None,
            call,
            epoch,
            retry_at: u64::MAX,
            interval: 0,
            refusals: 0,
            unanswered: 0,
            sent_at: 0,
            behind: false,
            error: ETIMEDOUT,
        };
        self.entries.push(entry, GFP_ATOMIC)?;
        self.free.push(&mut self.entries, at);
        Ok(at)
    }

    /// The peer remembers so many calls: use no more slots. (One that comes back
    /// with fewer has a new life, so [`Self::new_life`] ends the others.)
    pub fn limit(&mut self, slots: usize) {
        self.max = self.configured.min(slots);
        self.places.resize(self.max);
        self.free = Queue::new();
        for at in 0..self.entries.len() {
            if self.entries[at].state == State::Free {
                self.entries[at].link = Link::new();
                if at < self.max {
                    self.free.push(&mut self.entries, at);
                }
            }
        }
    }

    fn find(&self, id: CallId) -> Option<usize> {
        let at = usize::from(id.slot());
        let entry = self.entries.get(at)?;
        (entry.seq == id.seq() && matches!(entry.state, State::Queued | State::Waiting))
            .then_some(at)
    }

    /// What the edge gave with a call.
    pub fn token(&self, id: CallId) -> Option<&C> {
        self.entries[self.find(id)?].token.as_ref()
    }

    /// Whether a call of this class waits to be sent.
    pub fn has_to_send(&self, class: Class) -> bool {
        self.send[class.index()].first().is_some()
    }

    /// The call of this class to send next.
    pub fn to_send(&self, class: Class) -> Option<Sending> {
        let at = self.send[class.index()].first()?;
        let entry = &self.entries[at];
        Some(Sending {
            id: CallId::new(at as u16, entry.seq),
            call: entry.call,
            epoch: entry.epoch,
        })
    }

    /// The call was sent.
    pub fn sent(&mut self, now: u64, id: CallId) {
        let Some(at) = self.find(id) else { return };
        self.unqueue(at);
        let entry = &mut self.entries[at];
        entry.state = State::Waiting;
        entry.unanswered += 1;
        entry.sent_at = now;
        entry.retry_at = now.saturating_add(entry.interval);
        entry.interval = entry.interval.saturating_mul(2);
        self.next = self.next.min(entry.retry_at);
    }

    /// A call cannot be sent, or has its final refusal.
    pub fn fail(&mut self, id: CallId, error: Error) {
        if let Some(at) = self.find(id) {
            self.finish(at, error);
        }
    }

    fn unqueue(&mut self, at: usize) {
        let class = self.entries[at].call.class;
        self.send[class.index()].remove(&mut self.entries, at);
    }

    fn finish(&mut self, at: usize, error: Error) {
        self.unqueue(at);
        let entry = &mut self.entries[at];
        entry.state = State::Done;
        entry.error = error;
        self.done.push(&mut self.entries, at);
    }

    /// The next call that ended without a reply.
    pub fn pop_done(&mut self) -> Option<(C, Error)> {
        let at = self.done.pop(&mut self.entries)?;
        let error = self.entries[at].error;
        let token = self.release(at)?;
        Some((token, error))
    }

    fn release(&mut self, at: usize) -> Option<C> {
        let entry = &mut self.entries[at];
        entry.state = State::Free;
        let token = entry.token.take();
        self.places.give_back(entry.call.class, 1);
        self.live -= 1;
        if entry.seq < CallId::MAX_SEQ && at < self.max {
            self.free.push(&mut self.entries, at);
        }
        token
    }

    /// Takes a call out, for its reply or its cancellation; nothing more will
    /// be heard of it.
    pub fn take(&mut self, id: CallId) -> Option<C> {
        let at = self.find(id)?;
        self.unqueue(at);
        self.release(at)
    }

    /// Bytes of reply that a call takes.
    pub fn reply_cap(&self, id: CallId) -> Option<u32> {
        Some(self.entries[self.find(id)?].call.reply.cap)
    }

    /// The peer refused a call.
    pub fn refused(&mut self, now: u64, id: CallId, refusal: Refusal) {
        let Some(at) = self.find(id) else { return };
        let entry = &mut self.entries[at];
        let answered = !matches!(refusal, Refusal::Forgotten | Refusal::TooLarge);
        if answered {
            entry.unanswered = entry.unanswered.saturating_sub(1);
        }
        let error = match refusal {
            Refusal::Busy if entry.call.nowait => entry.given_up(EAGAIN),
            Refusal::BehindEpoch | Refusal::Busy => {
                entry.behind = refusal == Refusal::BehindEpoch;
                let wait = self
                    .retry
                    .refused
                    .checked_shl(entry.refusals.min(Retry::DOUBLINGS))
                    .unwrap_or(u64::MAX)
                    .min(self.retry.silence);
                entry.refusals += 1;
                if entry.state == State::Waiting {
                    entry.retry_at = now.saturating_add(wait);
                    self.next = self.next.min(entry.retry_at);
                }
                return;
            }
            // Any other transmission of it bears the same epoch, or went to the
            // same life, and is refused as well.
            Refusal::StaleEpoch => ESTALE,
            Refusal::WrongIncarnation => entry.given_up(ESTALE),
            Refusal::NoPort => ENOENT,
            Refusal::Forgotten => ETIMEDOUT,
            Refusal::TooLarge => EMSGSIZE,
        };
        self.finish(at, error);
    }

    /// There is a new connection: what has no answer is sent again.
    pub fn resend(&mut self) {
        for at in 0..self.entries.len() {
            if self.entries[at].state == State::Waiting {
                self.queue(at);
            }
        }
    }

    fn queue(&mut self, at: usize) {
        let class = self.entries[at].call.class;
        self.entries[at].state = State::Queued;
        self.send[class.index()].push(&mut self.entries, at);
    }

    /// Ends all calls, for example because the map dropped the peer.
    pub fn fail_all(&mut self, error: Error) {
        for at in 0..self.entries.len() {
            if matches!(self.entries[at].state, State::Queued | State::Waiting) {
                self.finish(at, error);
            }
        }
    }

    /// The peer has a new life: what the old one did not answer may have been
    /// executed by it.
    pub fn new_life(&mut self) {
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if matches!(entry.state, State::Queued | State::Waiting) {
                let error = entry.given_up(ESTALE);
                self.finish(at, error);
            }
        }
    }

    /// There is a new map: calls of older ones that were not sent are stale.
    pub fn new_epoch(&mut self, epoch: u64) {
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if matches!(entry.state, State::Queued | State::Waiting)
                && entry.epoch < epoch
                && !entry.maybe_executed()
            {
                self.finish(at, ESTALE);
            }
        }
    }

    /// Time has passed. Returns when the earliest of the calls that ended
    /// unanswered by their deadline was last sent.
    pub fn tick(&mut self, now: u64) -> Option<u64> {
        if now < self.next {
            return None;
        }
        let mut unanswered: Option<u64> = None;
        let mut next = u64::MAX;
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if !matches!(entry.state, State::Queued | State::Waiting) {
                continue;
            }
            if now >= entry.call.deadline {
                if entry.maybe_executed() {
                    let sent = entry.sent_at;
                    unanswered = Some(unanswered.map_or(sent, |t| t.min(sent)));
                }
                let error = entry.given_up(if entry.behind { ESTALE } else { ETIMEDOUT });
                self.finish(at, error);
                continue;
            }
            next = next.min(entry.call.deadline);
            if entry.state == State::Waiting {
                if now >= entry.retry_at {
                    self.queue(at);
                } else {
                    next = next.min(entry.retry_at);
                }
            }
        }
        self.next = next;
        unanswered
    }

    /// When [`Self::tick`] next has something to do (or earlier).
    pub fn next(&self) -> u64 {
        self.next
    }
}

/// A multicast: several calls that end together.
#[derive(Debug, Default)]
pub struct Group {
    pending: usize,
    succeeded: usize,
}

impl Group {
    /// A group of `calls` calls.
    pub fn new(calls: usize) -> Self {
        Self {
            pending: calls,
            succeeded: 0,
        }
    }

    /// One of them ended. Returns how many succeeded when it was the last.
    pub fn ended(&mut self, succeeded: bool) -> Option<usize> {
        self.succeeded += usize::from(succeeded);
        self.pending = self.pending.checked_sub(1)?;
        (self.pending == 0).then_some(self.succeeded)
    }
}
