// SPDX-License-Identifier: GPL-2.0

//! One who wants a lock or waits at a barrier: when it calls the owner, and what it makes of the
//! answers.
//!
//! Ask [`Waiter::next`] what to do; tell what came of it by [`Waiter::answered`], and by
//! [`Waiter::woken`] whenever the owner calls.

use super::{
    wire::{Ask, Reply},
    Verdict,
};
use kernel::prelude::*;

const MS: u64 = 1_000_000;

/// A waiter asks how it stands after so long without a word, ns.
const ASK_AFTER: u64 = 1000 * MS;
/// What could not be executed in this epoch is tried again after so long, ns.
const AGAIN_AFTER: u64 = 5 * MS;
/// How long who has waited long enough waits to hear that it has left, ms.
const GRACE_MS: u32 = 1000;

/// What a waiter does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call the owner, with a deadline of so many ms.
    Call(Ask, u32),
    /// Wait until this time, or until woken.
    Wait(u64),
    /// It is over.
    Done(Outcome),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The number of the grant, or why there is none.
    pub result: Result<u64>,
    /// The owner may still think that the holder wants it, or come to think so: it has to be told that
    /// it leaves (of a lock that it has, in the end), until it has heard it or its life is over.
    pub leave: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Enters at this time, or again.
    Entering(u64),
    /// The owner knows; asks at this time.
    Waiting(u64),
    /// Gives up for this reason.
    Leaving(Error),
    Done(Outcome),
}

/// See the module.
#[derive(Debug)]
pub struct Waiter {
    state: State,
    now_or_never: bool,
    /// `u64::MAX`: none.
    deadline: u64,
    call_ms: u32,
    /// An `Enter` was sent that may have been executed.
    entered: bool,
    /// One that was may still be under way.
    late: bool,
    /// The owner's life, once it is known.
    life: u64,
}

impl Waiter {
    /// Gives up at `deadline`. `call_ms`: deadline of one call.
    pub fn new(now: u64, deadline: u64, call_ms: u32, now_or_never: bool) -> Self {
        Self {
            state: State::Entering(now),
            now_or_never,
            deadline,
            call_ms,
            entered: false,
            late: false,
            life: 0,
        }
    }

    /// The life of the owner that it waits at; 0 until that is known.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// What has to be said to leave.
    pub fn leave(&self) -> Ask {
        Ask::Leave { late: self.late }
    }

    fn done(&mut self, result: Result<u64>, leave: bool) {
        // What is still under way must not enter now.
        let leave = leave || self.late;
        self.state = State::Done(Outcome { result, leave });
    }

    /// The owner has heard that it leaves.
    fn left(&mut self, result: Result<u64>) {
        self.late = false;
        self.done(result, false);
    }

    fn left_ms(&self, now: u64) -> u32 {
        let left = self.deadline.saturating_sub(now).div_ceil(MS);
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// What to do now.
    pub fn next(&mut self, now: u64) -> Step {
        let late = now >= self.deadline;
        match self.state {
            State::Done(outcome) => Step::Done(outcome),
            State::Leaving(_) => Step::Call(self.leave(), GRACE_MS),
            State::Entering(_) if late && !self.entered => {
                self.done(Err(ETIMEDOUT), false);
                self.next(now)
            }
            State::Entering(_) | State::Waiting(_) if late => {
                self.state = State::Leaving(ETIMEDOUT);
                self.next(now)
            }
            State::Entering(at) | State::Waiting(at) if now < at => {
                Step::Wait(at.min(self.deadline))
            }
            State::Entering(_) => {
                self.entered = true;
                let left = self.left_ms(now);
                let enter = Ask::Enter {
                    now_or_never: self.now_or_never,
                    budget_ms: left,
                };
                Step::Call(enter, self.call_ms.min(left))
            }
            State::Waiting(_) => {
                let left = self.left_ms(now);
                Step::Call(Ask::State, self.call_ms.min(left))
            }
        }
    }

    fn verdict(&mut self, now: u64, verdict: Verdict) {
        match verdict {
            Verdict::Granted(number) => self.done(Ok(number), false),
            Verdict::Failed(e) => self.done(Err(e), false),
            Verdict::Waiting => self.state = State::Waiting(now.saturating_add(ASK_AFTER)),
        }
    }

    /// The call that [`Self::next`] asked for has ended: with the owner's reply, with the error that
    /// its handler returned (`Ok(Err(…))`), or without an answer.
    pub fn answered(&mut self, now: u64, asked: Ask, answer: Result<Result<Reply>>) {
        if let Ok(Ok(reply)) = answer {
            self.life = reply.life;
        }
        if let (Ask::Enter { .. }, Err(_)) = (asked, &answer) {
            self.late = true;
            if let State::Done(outcome) = &mut self.state {
                outcome.leave = true;
            }
        }
        match (self.state, asked, answer) {
            // Woken meanwhile, which is later news.
            (State::Done(_), ..) => {}
            (State::Leaving(why), Ask::Leave { .. }, answer) => match answer {
                // Too late by a moment is in time, at a barrier: the others have gone on. A lock has
                // been given back.
                Ok(Ok(Reply {
                    verdict: Verdict::Granted(0),
                    ..
                })) => self.left(Ok(0)),
                Ok(Ok(_)) | Ok(Err(ESTALE)) => self.left(Err(why)),
                _ => self.done(Err(why), true),
            },
            // Interrupted while it asked.
            (State::Leaving(_), ..) => {}
            (_, _, Ok(Ok(reply))) => self.verdict(now, reply.verdict),
            // The owner, or another life of it, knows nothing of us.
            (State::Waiting(_), _, Ok(Err(ESTALE))) => self.done(Err(ESTALE), false),
            (State::Waiting(_), _, Err(ETIMEDOUT)) => {
                self.state = State::Waiting(now.saturating_add(AGAIN_AFTER));
            }
            (State::Entering(_), _, Err(ETIMEDOUT)) => {
                self.state = State::Entering(now.saturating_add(AGAIN_AFTER));
            }
            // Not executed, as the two lived in different epochs.
            (State::Waiting(_), _, Err(ESTALE)) => {
                self.state = State::Waiting(now.saturating_add(AGAIN_AFTER));
            }
            (State::Entering(_), _, Err(ESTALE)) => {
                self.state = State::Entering(now.saturating_add(AGAIN_AFTER));
            }
            (_, _, Ok(Err(e))) => self.done(Err(e), false),
            (_, _, Err(e)) => self.done(Err(e), true),
        }
    }

    /// The owner called. True when that was waited for.
    pub fn woken(&mut self, verdict: Verdict) -> bool {
        match (self.state, verdict) {
            (State::Leaving(_) | State::Done(Outcome { result: Err(_), .. }), _) => false,
            (State::Done(_), _) => true,
            (_, Verdict::Waiting) => true,
            (_, verdict) => {
                self.verdict(0, verdict);
                true
            }
        }
    }

    /// The owner may not be there any more: asks soon.
    pub fn doubt(&mut self) {
        if let State::Waiting(_) = self.state {
            self.state = State::Waiting(0);
        }
    }

    /// Gives up (a signal came): leaves, unless it is over.
    pub fn give_up(&mut self, why: Error) {
        match self.state {
            State::Done(_) => {}
            State::Entering(_) if !self.entered => self.done(Err(why), false),
            _ => self.state = State::Leaving(why),
        }
    }
}
