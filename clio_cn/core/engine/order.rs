// SPDX-License-Identifier: GPL-2.0

//! The order of operations in their streams (T2 of section 4.4.5).

use super::super::{
    op::{Data, Op, Stage, Stream},
    table::Key,
};
use super::Engine;
use kernel::prelude::*;

impl<D: Data> Engine<D> {
    /// A new stream. `ENOSPC` when there are too many.
    pub fn add_stream(&mut self) -> Result<Key> {
        self.streams.insert(Stream::default()).map_err(|_| ENOSPC)
    }

    /// Ends a stream: nothing can be submitted any more, and what was not begun is
    /// over with `ECANCELED`. What was begun goes on: a write that was sent cannot be
    /// taken back, and of a lock it has to be known whose it is.
    pub fn close_stream(&mut self, stream: Key) {
        let Some(entry) = self.streams.get_mut(stream) else {
            return;
        };
        entry.closed = true;
        let mut next = entry.ops.first(&self.ops);
        while let Some(key) = next {
            next = self.next_in_stream(stream, key);
            let begun = self.ops.get(key).is_none_or(|op| op.outstanding != 0);
            if !begun {
                self.finish(key, Err(ECANCELED));
            }
        }
    }

    /// Whether a stream has operations of which the edge has not heard the end.
    pub fn is_busy(&self, stream: Key) -> bool {
        self.streams
            .get(stream)
            .is_some_and(|stream| !stream.ops.is_empty())
    }

    /// Forgets a stream that is not busy.
    pub fn remove_stream(&mut self, stream: Key) {
        if !self.is_busy(stream) {
            self.streams.remove(stream);
        }
    }

    fn next_in_stream(&self, stream: Key, key: Key) -> Option<Key> {
        self.streams.get(stream)?.ops.after(&self.ops, key)
    }

    /// How many operations of its stream this one has to wait for.
    pub(super) fn blockers(&self, op: &Op<D>) -> u32 {
        let stream = op.new.stream;
        let mut next = self
            .streams
            .get(stream)
            .and_then(|stream| stream.ops.first(&self.ops));
        let mut blockers = 0;
        while let Some(key) = next {
            blockers += u32::from(self.ops.get(key).is_some_and(|other| op.waits_for(other)));
            next = self.next_in_stream(stream, key);
        }
        blockers
    }

    /// Lets an operation run, or wait for others first.
    pub(super) fn begin(&mut self, key: Key, blockers: u32) {
        let Some(op) = self.ops.get_mut(key) else {
            return;
        };
        if blockers == 0 {
            op.stage = Stage::Running;
            self.ready.push(&mut self.ops, key);
        } else {
            op.stage = Stage::Blocked(blockers);
            self.stats.blocked += 1;
        }
    }

    /// Changes the stage of an operation; others that waited for it may go on.
    pub(super) fn change_stage(&mut self, key: Key, stage: Stage) {
        let Some(op) = self.ops.get(key) else {
            return;
        };
        let (stream, before) = (op.new.stream, op.stage);
        let mut next = self
            .streams
            .get(stream)
            .and_then(|stream| stream.ops.first(&self.ops));
        while let Some(other) = next {
            next = self.next_in_stream(stream, other);
            let waits = |this: &Self| match (this.ops.get(other), this.ops.get(key)) {
                (Some(other), Some(op)) => other.waits_for(op),
                _ => false,
            };
            let waited = waits(self);
            self.set_stage(key, stage);
            let still = waits(self);
            self.set_stage(key, before);
            if waited && !still {
                self.release(other);
            }
        }
        self.set_stage(key, stage);
    }

    fn set_stage(&mut self, key: Key, stage: Stage) {
        if let Some(op) = self.ops.get_mut(key) {
            op.stage = stage;
        }
    }

    /// One operation less that this one waits for.
    fn release(&mut self, key: Key) {
        let Some(op) = self.ops.get_mut(key) else {
            return;
        };
        match &mut op.stage {
            Stage::Blocked(1) => {
                op.stage = Stage::Running;
                self.ready.push(&mut self.ops, key);
            }
            Stage::Blocked(count) => *count -= 1,
            _ => {}
        }
    }

    /// A lock that somebody else had tries again, behind what came meanwhile.
    pub(super) fn reenter(&mut self, key: Key) {
        self.order += 1;
        let order = self.order;
        let Some(op) = self.ops.get_mut(key) else {
            return;
        };
        op.entry = order;
        op.cursor = 0;
        let blockers = self.ops.get(key).map_or(0, |op| self.blockers(op));
        self.begin(key, blockers);
    }

    /// An operation is over.
    pub(super) fn finish(&mut self, key: Key, result: Result<u64>) {
        let Some(op) = self.ops.get(key) else {
            return;
        };
        if op.stage == Stage::Done {
            return;
        }
        while let Some(request) = self
            .ops
            .get(key)
            .and_then(|op| op.requests.first(&self.requests))
        {
            self.drop_request(request);
        }
        self.leave_queue(key);
        self.change_stage(key, Stage::Done);
        if let Some(op) = self.ops.get_mut(key) {
            op.result = result;
        }
        self.done.push(&mut self.ops, key);
    }

    /// Takes an operation out of the queue that its stage has it in.
    pub(super) fn leave_queue(&mut self, key: Key) {
        match self.ops.get(key).map(|op| op.stage) {
            Some(Stage::Running) => self.ready.remove(&mut self.ops, key),
            Some(Stage::Growing) => self.growing.remove(&mut self.ops, key),
            _ => {}
        }
    }
}
