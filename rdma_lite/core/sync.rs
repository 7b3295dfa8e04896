// SPDX-License-Identifier: GPL-2.0

//! Locks and barriers, at any node.
//!
//! A lock or barrier is a name at its *owner* node; it is there while somebody holds it or waits. Who
//! wants it *enters* under a tag and is told at once, or waits: then the owner *wakes* it by a call of
//! its own, and in case that is lost the waiter *asks* now and then. To *leave* gives a lock back, a
//! place in its queue or at a barrier up. All of these may be repeated: a tag enters once.

pub mod barrier;
pub mod lock;
pub mod service;
pub mod waiter;
pub mod wire;

use super::{
    class::Class,
    holder::{Holder, Name},
};
use kernel::prelude::*;

/// How it stands with one who entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits.
    Waiting,
    /// It has the lock, or all have come to the barrier. For a lock: the how manieth grant of the
    /// owner's life this is, which only grows (a fencing token); for a barrier 0.
    Granted(u64),
    /// It will not have it.
    Failed(Error),
}

/// Somebody to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// Whom.
    pub who: Holder,
    /// Its class.
    pub class: Class,
    /// What it entered.
    pub name: Name,
    /// What came of it.
    pub verdict: Verdict,
}
