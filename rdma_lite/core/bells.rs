// SPDX-License-Identifier: GPL-2.0

//! Messages that came over shared memory and were not handled yet, and whose turn it is to handle them.
//!
//! They are handled in their order, one at a time: by a softirq as long as none of them has to sleep,
//! from then on by a task until there are none left. So only one of the two is ever at it, and a sender
//! wakes a softirq only when nobody is.

use super::Backlog;
use kernel::prelude::*;

/// Who handles messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// Nobody: there are none.
    #[default]
    Nobody,
    /// A softirq.
    Softirq,
    /// A task, which may sleep.
    Task,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Bells {
    waiting: Backlog,
    turn: Turn,
}

impl Bells {
    /// For up to `capacity` messages.
    pub fn new(capacity: usize) -> Result<Self> {
        Ok(Self {
            waiting: Backlog::new(capacity)?,
            turn: Turn::Nobody,
        })
    }

    /// A message has come. True when a softirq has to be woken; `ENOSPC` when there are more messages
    /// than the sender may have sent.
    pub fn push(&mut self, imm: u32) -> Result<bool> {
        self.waiting.push(imm)?;
        let wake = self.turn == Turn::Nobody;
        if wake {
            self.turn = Turn::Softirq;
        }
        Ok(wake)
    }

    /// The message to handle next; `None` when there is none for this one to handle. When none is left
    /// it is nobody's turn.
    pub fn next(&mut self, who: Turn) -> Option<u32> {
        if self.turn != who {
            return None;
        }
        let next = self.waiting.front();
        if next.is_none() {
            self.turn = Turn::Nobody;
        }
        next
    }

    /// The one that [`Self::next`] gave was handled.
    pub fn handled(&mut self) {
        self.waiting.pop();
    }

    /// The one that [`Self::next`] gave has to sleep: a task is to handle it, and those behind it.
    pub fn defer(&mut self) {
        self.turn = Turn::Task;
    }
}
