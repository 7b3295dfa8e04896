// SPDX-License-Identifier: GPL-2.0

//! What was called, what was executed, what was answered: and whether that
//! agrees with what rdma_lite promises.

use crate::schedule::Time;
use kernel::error::{code::*, Error};
use std::collections::HashMap;

/// A call of the workload; unique in a world.
pub(super) type Tag = u64;

/// What a caller knows when it calls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Called {
    pub(super) src_life: u64,
    pub(super) dst: u16,
    /// 0 when the caller did not know it.
    pub(super) dst_life: u64,
    pub(super) epoch: u64,
    pub(super) deadline: Time,
}

/// What the callee saw when it executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Executed {
    pub(super) node: u16,
    pub(super) life: u64,
    pub(super) src_life: u64,
    pub(super) epoch: u64,
    pub(super) callee_epoch: u64,
    /// Unique in a world; the reply carries it.
    pub(super) number: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Answered,
    Failed(Error),
    /// Its caller crashed.
    Moot,
}

#[derive(Debug)]
struct Entry {
    called: Called,
    executed: Vec<Executed>,
    outcome: Outcome,
}

/// All calls of a world.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    calls: HashMap<Tag, Entry>,
    pub(super) summary: Summary,
}

/// What went on in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Calls that were executed.
    pub executed: u64,
    /// Calls that got a reply.
    pub answered: u64,
    /// Calls that ended by an error.
    pub failed: u64,
    /// Connections that broke.
    pub breaks: u64,
}

impl std::ops::AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.executed += other.executed;
        self.answered += other.answered;
        self.failed += other.failed;
        self.breaks += other.breaks;
    }
}

impl Ledger {
    pub(super) fn called(&mut self, tag: Tag, called: Called) {
        let entry = Entry {
            called,
            executed: Vec::new(),
            outcome: Outcome::Pending,
        };
        assert!(self.calls.insert(tag, entry).is_none());
    }

    /// Returns the number of the execution.
    pub(super) fn executed(&mut self, tag: Tag, executed: Executed) -> u64 {
        let entry = self.calls.get_mut(&tag).expect("a call that nobody made");
        assert!(
            entry.executed.is_empty(),
            "call {tag} was executed twice: {entry:?}, {executed:?}"
        );
        let called = &entry.called;
        assert_eq!(executed.node, called.dst, "executed at another node");
        assert_eq!(
            executed.src_life, called.src_life,
            "a call of another life of its caller"
        );
        assert!(
            called.dst_life == 0 || executed.life == called.dst_life,
            "call {tag} was executed by another life of its callee: {called:?}, {executed:?}"
        );
        assert_eq!(
            (executed.epoch, executed.callee_epoch),
            (called.epoch, called.epoch),
            "call {tag} passed the fence"
        );
        self.summary.executed += 1;
        entry.executed.push(Executed {
            number: self.summary.executed,
            ..executed
        });
        self.summary.executed
    }

    /// The call was taken in, but will not be executed after all.
    pub(super) fn not_executed(&mut self, tag: Tag) {
        let entry = self.calls.get_mut(&tag).expect("a call that nobody made");
        assert!(
            entry.executed.pop().is_some(),
            "call {tag} was not taken in"
        );
    }

    fn end(&mut self, now: Time, tag: Tag, outcome: Outcome) -> &Entry {
        let entry = self.calls.get_mut(&tag).expect("a call that nobody made");
        assert_eq!(
            entry.outcome,
            Outcome::Pending,
            "call {tag} ended twice, now by {outcome:?}"
        );
        assert!(
            now <= entry.called.deadline,
            "call {tag} ended {} ns after its deadline",
            now - entry.called.deadline
        );
        entry.outcome = outcome;
        entry
    }

    /// The reply carries what only the execution with this number can know.
    pub(super) fn answered(&mut self, now: Time, tag: Tag, is_its: impl Fn(u64) -> bool) {
        self.summary.answered += 1;
        let entry = self.end(now, tag, Outcome::Answered);
        assert!(
            entry.executed.iter().any(|e| is_its(e.number)),
            "call {tag} got the reply of another execution: {entry:?}"
        );
    }

    pub(super) fn failed(&mut self, now: Time, tag: Tag, error: Error) {
        self.summary.failed += 1;
        self.end(now, tag, Outcome::Failed(error));
    }

    /// The caller crashed, or cancelled the call.
    pub(super) fn moot(&mut self, tag: Tag) {
        let entry = self.calls.get_mut(&tag).expect("a call that nobody made");
        if entry.outcome == Outcome::Pending {
            entry.outcome = Outcome::Moot;
        }
    }

    /// Nothing is under way any more.
    pub(super) fn close(&self) {
        for (tag, entry) in &self.calls {
            assert_ne!(
                entry.outcome,
                Outcome::Pending,
                "call {tag} never ended: {entry:?}"
            );
            let says_not_executed = matches!(
                entry.outcome,
                Outcome::Failed(ESTALE | ENOENT | EAGAIN | ENOMEM)
            );
            assert!(
                !says_not_executed || entry.executed.is_empty(),
                "call {tag} was executed, its result says that it was not: {entry:?}"
            );
        }
    }
}
