// SPDX-License-Identifier: GPL-2.0

//! All locks and barriers of their owner, as requests reach them.

use super::{
    super::holder::{Holder, Life, Tombstones},
    barrier::Barriers,
    lock::Locks,
    wire::{Ask, Request, What},
    Verdict, Wake,
};
use kernel::prelude::*;

const MS: u64 = 1_000_000;

/// See the module. After each event, [`Self::poll`] until there is nobody to be woken.
#[derive(Default)]
pub struct Service {
    locks: Locks,
    barriers: Barriers,
    tombstones: Tombstones,
    wakes: KVec<Wake>,
}

impl Service {
    /// Nothing is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Locks that are held.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Barriers that somebody waits at.
    pub fn barriers(&self) -> &Barriers {
        &self.barriers
    }

    /// Executes a request of `who`; `alive`: the map that is in force *now* has that life as a member
    /// that is up (the request may have waited for its execution). `ESTALE`: it has not, or `who` is
    /// not known, or gave it up; `EINVAL`: a count that is none, or not that of others.
    pub fn execute(
        &mut self,
        now: u64,
        who: Holder,
        alive: bool,
        request: &Request,
    ) -> Result<Verdict> {
        if !alive {
            return Err(ESTALE);
        }
        let (class, name) = (request.class, request.name);
        match (request.ask, request.what) {
            (Ask::Enter { .. }, _) if self.tombstones.contains(who) => Err(ESTALE),
            (Ask::Enter { now_or_never, .. }, What::Lock) => {
                self.locks.enter(who, class, name, now_or_never)
            }
            (Ask::Enter { budget_ms, .. }, What::Barrier { count }) => {
                let until = now.saturating_add(u64::from(budget_ms) * MS);
                self.barriers.enter(now, until, who, class, name, count)
            }
            (Ask::State, What::Lock) => self.locks.ask(who, name).ok_or(ESTALE),
            (Ask::State, What::Barrier { .. }) => self.barriers.ask(who).ok_or(ESTALE),
            (Ask::Leave { late }, What::Lock) => {
                let (known, wake) = self.locks.leave(who, name);
                self.wake(wake);
                self.left(who, known, late)
            }
            (Ask::Leave { late }, What::Barrier { .. }) => {
                let known = self.barriers.leave(who);
                self.left(who, known, late)
            }
            (Ask::Wake(_), _) => Err(EINVAL),
        }
    }

    /// Who leaves before it was heard of, or said that it may be late, must not enter afterwards.
    fn left(&mut self, who: Holder, known: Option<Verdict>, late: bool) -> Result<Verdict> {
        if late || known.is_none() {
            self.tombstones.add(who)?;
        }
        known.ok_or(ESTALE)
    }

    /// Without memory nobody is woken; it asks.
    fn wake(&mut self, wake: Option<Wake>) {
        if let Some(wake) = wake {
            let _ = self.wakes.push(wake, GFP_KERNEL);
        }
    }

    /// Somebody to be woken, by a call.
    pub fn poll(&mut self) -> Option<Wake> {
        self.wakes.pop().or_else(|| self.barriers.wake())
    }

    /// Who was to be woken answered; `wanted`: it waited for it. If not, nobody there knows of it, and
    /// it is as if it left.
    pub fn woken(&mut self, wake: &Wake, wanted: bool) {
        match (self.barriers.ask(wake.who), wanted) {
            (Some(_), _) => self.barriers.told(wake.who),
            (None, true) => {}
            (None, false) => {
                let (_, next) = self.locks.leave(wake.who, wake.name);
                self.wake(next);
            }
        }
    }

    /// The map dropped these lives: what they hold is free, and who waits with them at a barrier fails.
    pub fn drop_lives(&mut self, now: u64, gone: impl Fn(Life) -> bool) {
        while let Some((who, name)) = self.locks.find_gone(&gone) {
            let (_, next) = self.locks.leave(who, name);
            // Of two lives that end at once, the second is found by the next turn.
            self.wake(next.filter(|next| !gone(next.who.life)));
        }
        while self.barriers.drop_life(now, &gone) {}
        self.tombstones.drop_lives(&gone);
    }
}
