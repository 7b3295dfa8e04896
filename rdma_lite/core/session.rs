// SPDX-License-Identifier: GPL-2.0

//! At-most-once execution of the calls that one peer makes to us.
//!
//! The caller numbers the calls of each slot of its table. We remember for each
//! slot the newest call and its answer, as an NFSv4.1 session does: a call with
//! a higher number is new, and says that the caller is done with the older
//! ones; the same number is a repetition, answered from memory; a lower number
//! was superseded and is never executed. So memory is bounded by the slots, and
//! one slow call holds nothing up.
//!
//! Replies themselves are bounded too: they go when the slot is used again, when
//! the caller's deadline has passed, and oldest first when they exceed a budget.
//! A call whose reply is gone is answered by "may have been executed".
//!
//! All of this is for one incarnation of the peer; a new one voids it.

use super::{
    class::Class,
    queue::{Link, Linked, Queue},
    wire::{CallId, Refusal, ReplyBuffer},
};
use kernel::prelude::*;

/// Names a call while it is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRef {
    /// Counts the lives of the peer.
    pub life: u32,
    /// The call.
    pub id: CallId,
}

/// What a repeated or new call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is new: execute it.
    Execute(CallRef),
    /// It is known; an answer is queued if there is one.
    Known,
}

#[derive(Debug)]
enum State<R> {
    /// The newest call of the slot was not executed, or there was none yet.
    Idle,
    Executing,
    Replied(Reply<R>),
    Refused(Refusal),
}

/// What a handler returned.
#[derive(Debug)]
struct Reply<R> {
    status: i32,
    len: u32,
    bytes: Option<R>,
    /// The device cannot write it to the caller's memory.
    ring_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    None,
    /// The answer in `state`.
    Answer,
    /// Another call of this slot is refused.
    Refuse(CallId, Refusal),
}

#[derive(Debug)]
struct Slot<R> {
    link: Link,
    /// Of the call; and of its answer.
    class: Class,
    seq: u64,
    state: State<R>,
    pending: Pending,
    reply_to: ReplyBuffer,
    /// The caller asked on the present connection.
    asked: bool,
    /// The caller has given up by then.
    expires: u64,
}

impl<R> Linked for Slot<R> {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// An answer to send.
#[derive(Debug)]
pub enum Answer<'a, R> {
    /// The handler's reply.
    Reply {
        /// 0 or a negative errno.
        status: i32,
        /// Bytes of the reply.
        len: u32,
        /// The bytes, if there are any.
        bytes: Option<&'a R>,
        /// Where it may go.
        reply_to: ReplyBuffer,
        /// The caller has given up by then, and shut its window.
        expires: u64,
        /// It cannot be written there.
        ring_only: bool,
    },
    /// No reply.
    Refuse(Refusal),
}

/// The calls of one peer, as their callee sees them; `R` owns the bytes of a reply.
#[derive(Debug)]
pub struct Session<R> {
    life: u32,
    slots: KVec<Slot<R>>,
    max: usize,
    /// By class.
    queues: [Queue; Class::COUNT],
    /// A refusal for a slot that we have no memory for.
    overflow: Option<(CallId, Refusal)>,
    cached: usize,
    budget: usize,
    /// What was executed in older epochs may be forgotten.
    complete_since: u64,
}

impl<R> Session<R> {
    /// Up to `max` slots and `budget` bytes of replies.
    pub fn new(max: usize, budget: usize) -> Self {
        Self {
            life: 0,
            slots: KVec::new(),
            max,
            queues: [const { Queue::new() }; Class::COUNT],
            overflow: None,
            cached: 0,
            budget,
            complete_since: 0,
        }
    }

    /// The peer has a new life: nothing of the old one counts.
    pub fn void(&mut self) {
        self.life = self.life.wrapping_add(1);
        self.slots.clear();
        self.queues = [const { Queue::new() }; Class::COUNT];
        self.overflow = None;
        self.cached = 0;
    }

    /// What the peer called before `epoch` may have been executed although
    /// nothing is remembered of it.
    pub fn forgets_before(&mut self, epoch: u64) {
        self.complete_since = self.complete_since.max(epoch);
    }

    /// What to answer to an unknown call of this older epoch.
    pub fn stale(&self, epoch: u64) -> Refusal {
        if epoch < self.complete_since {
            Refusal::Forgotten
        } else {
            Refusal::StaleEpoch
        }
    }

    /// The connection is gone: the caller asks again for what it still wants,
    /// and says anew where the reply may go, as its old windows are shut.
    pub fn disconnected(&mut self) {
        for slot in self.slots.iter_mut() {
            slot.asked = false;
        }
        for queue in &mut self.queues {
            while let Some(at) = queue.pop(&mut self.slots) {
                self.slots[at].pending = Pending::None;
            }
        }
        self.overflow = None;
    }

    /// Whether the call is executing, was executed, or was superseded.
    pub fn knows(&self, id: CallId) -> bool {
        self.slots
            .get(usize::from(id.slot()))
            .is_some_and(|slot| match slot.state {
                State::Idle => id.seq() < slot.seq,
                _ => id.seq() <= slot.seq,
            })
    }

    /// A call came. The caller waits until `expires` (by our clock, at the
    /// latest) and takes the reply at `reply_to`. The answer is of the call's class.
    pub fn arrive(
        &mut self,
        id: CallId,
        class: Class,
        reply_to: ReplyBuffer,
        expires: u64,
    ) -> Arrival {
        if self.reserve(id).is_err() {
            self.overflow = Some((id, Refusal::Busy));
            return Arrival::Known;
        }
        let at = usize::from(id.slot());
        let slot = &mut self.slots[at];
        if id.seq() < slot.seq {
            self.refuse_now(id, Refusal::Forgotten);
            return Arrival::Known;
        }
        if id.seq() > slot.seq || matches!(slot.state, State::Idle) {
            self.cached -= slot.drop_bytes();
            self.unqueue(at);
            let slot = &mut self.slots[at];
            slot.class = class;
            slot.pending = Pending::None;
            slot.seq = id.seq();
            slot.state = State::Executing;
            slot.reply_to = reply_to;
            slot.asked = true;
            slot.expires = expires;
            return Arrival::Execute(CallRef {
                life: self.life,
                id,
            });
        }
        slot.reply_to = reply_to;
        slot.asked = true;
        slot.expires = slot.expires.max(expires);
        if !matches!(slot.state, State::Executing) {
            self.queue_answer(at);
        }
        Arrival::Known
    }

    fn reserve(&mut self, id: CallId) -> Result {
        let at = usize::from(id.slot());
        if at >= self.max {
            return Err(ENOSPC);
        }
        while self.slots.len() <= at {
            let slot = Slot {
                link: Link::new(),
                class: Class::Normal,
                seq: 0,
                state: State::Idle,
                pending: Pending::None,
                reply_to: ReplyBuffer::default(),
                asked: false,
                expires: 0,
            };
            self.slots.push(slot, GFP_ATOMIC)?;
        }
        Ok(())
    }

    /// Refuses a call that was not recorded.
    pub fn refuse_now(&mut self, id: CallId, refusal: Refusal) {
        let at = usize::from(id.slot());
        match self.slots.get_mut(at) {
            Some(slot) if slot.pending != Pending::Answer => {
                slot.pending = Pending::Refuse(id, refusal);
                self.queue(at);
            }
            // The slot has better things to say; the caller has moved on.
            Some(_) => {}
            None => self.overflow = Some((id, refusal)),
        }
    }

    fn queue_answer(&mut self, at: usize) {
        if !self.slots[at].asked {
            return;
        }
        self.slots[at].pending = Pending::Answer;
        self.queue(at);
    }

    fn queue(&mut self, at: usize) {
        let class = self.slots[at].class;
        self.queues[class.index()].push(&mut self.slots, at);
    }

    fn unqueue(&mut self, at: usize) {
        let class = self.slots[at].class;
        self.queues[class.index()].remove(&mut self.slots, at);
    }

    fn executing(&mut self, call: CallRef) -> Option<usize> {
        let at = usize::from(call.id.slot());
        let slot = self.slots.get(at)?;
        let present = call.life == self.life
            && slot.seq == call.id.seq()
            && matches!(slot.state, State::Executing);
        present.then_some(at)
    }

    /// Whether anybody still waits for the result of a call.
    pub fn is_wanted(&mut self, call: CallRef) -> bool {
        self.executing(call).is_some()
    }

    /// The handler returned. The reply is dropped when nobody waits for it.
    pub fn executed(
        &mut self,
        call: CallRef,
        status: i32,
        len: u32,
        bytes: Option<R>,
        ring_only: bool,
    ) {
        let Some(at) = self.executing(call) else {
            return;
        };
        self.slots[at].state = State::Replied(Reply {
            status,
            len,
            bytes,
            ring_only,
        });
        self.cached += self.slots[at].bytes();
        self.queue_answer(at);
        self.shrink(at);
    }

    /// The call was not executed and will not be, for this reason; repetitions
    /// of it get the same answer.
    pub fn refused(&mut self, call: CallRef, refusal: Refusal) {
        if let Some(at) = self.executing(call) {
            self.slots[at].state = State::Refused(refusal);
            self.queue_answer(at);
        }
    }

    /// The call could not be executed for now; a repetition of it may be.
    pub fn not_executed(&mut self, call: CallRef, refusal: Refusal) {
        if let Some(at) = self.executing(call) {
            self.slots[at].state = State::Idle;
            self.refuse_now(call.id, refusal);
        }
    }

    /// The reply of a call is of no use to its caller (it does not fit).
    pub fn give_up_reply(&mut self, id: CallId, refusal: Refusal) {
        let at = usize::from(id.slot());
        if let Some(slot) = self.slots.get_mut(at) {
            if slot.seq == id.seq() {
                self.cached -= slot.drop_bytes();
                slot.state = State::Refused(refusal);
            }
        }
    }

    /// Whether an answer of this class waits to be sent.
    pub fn has_to_send(&self, class: Class) -> bool {
        let overflow = self.overflow.is_some() && class == Class::Normal;
        overflow || self.queues[class.index()].first().is_some()
    }

    /// The answer of this class to send next.
    pub fn to_send(&self, class: Class) -> Option<(CallId, Answer<'_, R>)> {
        let Some(at) = self.queues[class.index()].first() else {
            let (id, refusal) = self.overflow.filter(|_| class == Class::Normal)?;
            return Some((id, Answer::Refuse(refusal)));
        };
        let slot = &self.slots[at];
        let id = CallId::new(at as u16, slot.seq);
        match (&slot.pending, &slot.state) {
            (Pending::Refuse(id, refusal), _) => Some((*id, Answer::Refuse(*refusal))),
            (Pending::Answer, State::Replied(reply)) => Some((
                id,
                Answer::Reply {
                    status: reply.status,
                    len: reply.len,
                    bytes: reply.bytes.as_ref(),
                    reply_to: slot.reply_to,
                    expires: slot.expires,
                    ring_only: reply.ring_only,
                },
            )),
            (Pending::Answer, State::Refused(refusal)) => Some((id, Answer::Refuse(*refusal))),
            (Pending::Answer | Pending::None, _) => Some((id, Answer::Refuse(Refusal::Forgotten))),
        }
    }

    /// The answer that [`Self::to_send`] gave was sent.
    pub fn sent(&mut self, class: Class) {
        match self.queues[class.index()].pop(&mut self.slots) {
            Some(at) => self.slots[at].pending = Pending::None,
            None => self.overflow = None,
        }
    }

    /// Bytes of the reply to `id`.
    pub fn bytes(&self, id: CallId) -> Option<&R> {
        match &self.slots.get(usize::from(id.slot()))?.state {
            State::Replied(reply) => reply.bytes.as_ref(),
            _ => None,
        }
    }

    /// Time has passed: forgets replies that nobody waits for.
    pub fn expire(&mut self, now: u64) {
        if self.cached == 0 {
            return;
        }
        for slot in self.slots.iter_mut() {
            if now >= slot.expires && slot.pending == Pending::None {
                self.cached -= slot.drop_bytes();
            }
        }
    }

    /// Forgets the oldest replies, except the one at `keep`, down to the budget.
    fn shrink(&mut self, keep: usize) {
        while self.cached > self.budget {
            let oldest = self
                .slots
                .iter_mut()
                .enumerate()
                .filter(|(at, slot)| {
                    *at != keep && slot.pending == Pending::None && slot.bytes() != 0
                })
                .min_by_key(|(_, slot)| slot.expires);
            let Some((_, slot)) = oldest else { return };
            self.cached -= slot.drop_bytes();
        }
    }

    /// Bytes of replies that are kept.
    pub fn cached(&self) -> usize {
        self.cached
    }

    /// Calls that are executing for a caller that may still want them.
    pub fn executions(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| matches!(slot.state, State::Executing))
            .count()
    }
}

impl<R> Slot<R> {
    fn bytes(&self) -> usize {
        match &self.state {
            State::Replied(reply) if reply.bytes.is_some() => reply.len as usize,
            _ => 0,
        }
    }

    /// Forgets the bytes of the reply, if they matter; returns how many.
    fn drop_bytes(&mut self) -> usize {
        let bytes = self.bytes();
        if bytes != 0 {
            self.state = State::Refused(Refusal::Forgotten);
        }
        bytes
    }
}
