// SPDX-License-Identifier: GPL-2.0

//! Whose operation runs next, when many open files share the workers that run them.
//!
//! An operation may last as long as its deadline, as when its peer is dead. So workers are not given
//! away to the last: a file may begin one more only while what it and its user have running is less than
//! what is free (dynamic thresholds: Choudhury and Hahne, IEEE/ACM ToN 6(2), 1998). With `n` busy users, of one file each,
//! each has about `1/(n + 2)` of the workers, and as many are free for whoever comes next. Files whose
//! operations wait take turns; those of one file begin in their order.

use kernel::prelude::*;

/// Operations of one file.
struct Lane<T> {
    file: usize,
    user: u32,
    running: usize,
    /// A ring: `len` of them from `first` on.
    waiting: KVec<Option<T>>,
    first: usize,
    len: usize,
}

impl<T> Lane<T> {
    fn push(&mut self, operation: T) -> Result<(), (Error, T)> {
        if self.len == self.waiting.len() {
            if let Err(e) = self.grow() {
                return Err((e, operation));
            }
        }
        let at = (self.first + self.len) % self.waiting.len();
        self.waiting[at] = Some(operation);
        self.len += 1;
        Ok(())
    }

    fn grow(&mut self) -> Result {
        let mut larger = KVec::new();
        let size = (2 * self.waiting.len()).max(4);
        larger.reserve(size, GFP_KERNEL)?;
        while let Some(operation) = self.pop() {
            larger.push_within_capacity(Some(operation))?;
        }
        let len = larger.len();
        while larger.len() < size {
            larger.push_within_capacity(None)?;
        }
        (self.waiting, self.first, self.len) = (larger, 0, len);
        Ok(())
    }

    fn pop(&mut self) -> Option<T> {
        let operation = self.waiting.get_mut(self.first)?.take()?;
        self.first = (self.first + 1) % self.waiting.len();
        self.len -= 1;
        Some(operation)
    }
}

/// See the module.
pub struct Turns<T> {
    workers: usize,
    running: usize,
    /// Of files that have something running or waiting.
    lanes: KVec<Lane<T>>,
    /// Whose turn it is.
    next: usize,
}

impl<T> Turns<T> {
    /// For so many workers.
    pub const fn new(workers: usize) -> Self {
        Self {
            workers,
            running: 0,
            lanes: KVec::new(),
            next: 0,
        }
    }

    /// An operation of a file of a user waits from now on. Without memory it comes back.
    pub fn wait(&mut self, file: usize, user: u32, operation: T) -> Result<(), (Error, T)> {
        let known = self.lanes.iter_mut().find(|lane| lane.file == file);
        if let Some(lane) = known {
            return lane.push(operation);
        }
        let mut lane = Lane {
            file,
            user,
            running: 0,
            waiting: KVec::new(),
            first: 0,
            len: 0,
        };
        if let Err(e) = self.lanes.reserve(1, GFP_KERNEL) {
            return Err((e.into(), operation));
        }
        lane.push(operation)?;
        // There is room.
        let _ = self.lanes.push_within_capacity(lane);
        Ok(())
    }

    /// Whether a file may begin one more.
    fn may_begin(&self, lane: &Lane<T>) -> bool {
        let of_user = self.lanes.iter().filter(|other| other.user == lane.user);
        let running: usize = of_user.map(|other| other.running).sum();
        lane.running + running < self.workers - self.running
    }

    /// The next operation that a worker runs now; [`Self::ended`] when it is over.
    pub fn begin(&mut self) -> Option<T> {
        let count = self.lanes.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            if self.lanes[at].len == 0 || !self.may_begin(&self.lanes[at]) {
                continue;
            }
            let operation = self.lanes[at].pop()?;
            self.lanes[at].running += 1;
            self.running += 1;
            self.next = (at + 1) % count;
            return Some(operation);
        }
        None
    }

    /// One of a file is over.
    pub fn ended(&mut self, file: usize) {
        let Some(at) = self.lanes.iter().position(|lane| lane.file == file) else {
            return;
        };
        self.running = self.running.saturating_sub(1);
        let lane = &mut self.lanes[at];
        lane.running = lane.running.saturating_sub(1);
        self.tidy(at);
    }

    /// Takes one out of those of a file that wait: it is not begun any more.
    pub fn give_up(&mut self, file: usize) -> Option<T> {
        let at = self.lanes.iter().position(|lane| lane.file == file)?;
        let operation = self.lanes[at].pop();
        self.tidy(at);
        operation
    }

    /// A file without any is forgotten.
    fn tidy(&mut self, at: usize) {
        if self.lanes[at].running != 0 || self.lanes[at].len != 0 {
            return;
        }
        let _ = self.lanes.remove(at);
        if at < self.next {
            self.next -= 1;
        }
        if self.lanes.is_empty() {
            // Nothing drops what a module keeps for good.
            self.lanes = KVec::new();
            self.next = 0;
        }
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.lanes.is_empty()
    }
}
