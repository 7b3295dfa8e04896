// SPDX-License-Identifier: GPL-2.0

//! Locks: one holder at a time, in the order in which they came.

use super::{
    super::{
        class::Class,
        holder::{Holder, Life, Name},
    },
    Verdict, Wake,
};
use kernel::{prelude::*, rbtree::RBTree};

#[derive(Debug)]
struct Lock {
    holder: Holder,
    /// Which grant this is.
    grant: u64,
    queue: KVec<(Holder, Class)>,
}

impl Lock {
    fn verdict(&self, who: Holder) -> Option<Verdict> {
        if self.holder == who {
            return Some(Verdict::Granted(self.grant));
        }
        let waits = self.queue.iter().any(|(waiting, _)| *waiting == who);
        waits.then_some(Verdict::Waiting)
    }
}

/// The locks of their owner.
#[derive(Default)]
pub struct Locks {
    locks: RBTree<Name, Lock>,
    grants: u64,
}

impl Locks {
    /// None is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// `who`, of this class, wants the lock; with `now_or_never` it does not wait (`EBUSY`).
    pub fn enter(
        &mut self,
        who: Holder,
        class: Class,
        name: Name,
        now_or_never: bool,
    ) -> Result<Verdict> {
        let Some(lock) = self.locks.get_mut(&name) else {
            let lock = Lock {
                holder: who,
                grant: self.grants + 1,
                queue: KVec::new(),
            };
            self.locks.try_create_and_insert(name, lock, GFP_KERNEL)?;
            self.grants += 1;
            return Ok(Verdict::Granted(self.grants));
        };
        if let Some(known) = lock.verdict(who) {
            return Ok(known);
        }
        if now_or_never {
            return Ok(Verdict::Failed(EBUSY));
        }
        lock.queue.push((who, class), GFP_KERNEL)?;
        Ok(Verdict::Waiting)
    }

    /// How it stands; `None` when `who` neither has it nor waits.
    pub fn ask(&self, who: Holder, name: Name) -> Option<Verdict> {
        self.locks.get(&name)?.verdict(who)
    }

    /// `who` gives the lock, or its place in the queue, up. How it stood with it, and who has the lock
    /// now instead.
    pub fn leave(&mut self, who: Holder, name: Name) -> (Option<Verdict>, Option<Wake>) {
        let Some(lock) = self.locks.get_mut(&name) else {
            return (None, None);
        };
        let known = lock.verdict(who);
        lock.queue.retain(|(waiting, _)| *waiting != who);
        if lock.holder != who {
            return (known, None);
        }
        let Ok((next, class)) = lock.queue.remove(0) else {
            self.locks.remove(&name);
            return (known, None);
        };
        self.grants += 1;
        lock.holder = next;
        lock.grant = self.grants;
        let wake = Wake {
            who: next,
            class,
            name,
            verdict: Verdict::Granted(self.grants),
        };
        (known, Some(wake))
    }

    /// One who has or wants a lock and whose life is over.
    pub fn find_gone(&self, gone: impl Fn(Life) -> bool) -> Option<(Holder, Name)> {
        self.locks.iter().find_map(|(name, lock)| {
            let queue = lock.queue.iter().map(|(who, _)| who);
            let mut all = Iterator::chain(::core::iter::once(&lock.holder), queue);
            let who = all.find(|who| gone(who.life))?;
            Some((*who, *name))
        })
    }

    /// Locks that are held.
    pub fn held(&self) -> usize {
        self.locks.iter().count()
    }
}
