// SPDX-License-Identifier: GPL-2.0

//! Barriers: `count` participants wait for each other. The name can be used again as soon as a barrier
//! has opened.
//!
//! What became of a participant is remembered until it was told, has left, or cannot want to know any
//! more, so that a question repeated never enters the next barrier of the name.

use super::{
    super::{
        class::Class,
        holder::{Holder, Life, Name},
    },
    Verdict, Wake,
};
use kernel::{prelude::*, rbtree::RBTree};

/// What became of a participant is remembered for this long after its deadline, ns.
const REMEMBERED: u64 = 60_000_000_000;

#[derive(Debug)]
struct Barrier {
    id: u64,
    count: u32,
    here: u32,
}

#[derive(Debug)]
struct Participant {
    class: Class,
    barrier: u64,
    name: Name,
    verdict: Verdict,
    told: bool,
    /// Its deadline, and, once that no longer matters, when it is forgotten.
    until: u64,
}

/// The barriers of their owner.
#[derive(Default)]
pub struct Barriers {
    /// Those that somebody waits at.
    barriers: RBTree<Name, Barrier>,
    participants: RBTree<Holder, Participant>,
    next: u64,
}

impl Barriers {
    /// Nobody waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// `who`, of this class, is at the barrier, and waits until `until`. When it is the last to come, all
    /// of them are to be woken: see [`Self::wake`]. `EINVAL`: the count is 0, or not what others said.
    pub fn enter(
        &mut self,
        now: u64,
        until: u64,
        who: Holder,
        class: Class,
        name: Name,
        count: u32,
    ) -> Result<Verdict> {
        self.expire(now);
        if let Some(known) = self.participants.get_mut(&who) {
            known.until = known.until.max(until);
            return Ok(known.verdict);
        }
        if count == 0 {
            return Err(EINVAL);
        }
        let id = match self.barriers.get(&name) {
            Some(barrier) if barrier.count != count => return Err(EINVAL),
            Some(barrier) => barrier.id,
            None => self.next,
        };
        let participant = Participant {
            class,
            barrier: id,
            name,
            verdict: Verdict::Waiting,
            told: false,
            until,
        };
        if id == self.next {
            let barrier = Barrier { id, count, here: 0 };
            self.barriers
                .try_create_and_insert(name, barrier, GFP_KERNEL)?;
        }
        let added = self
            .participants
            .try_create_and_insert(who, participant, GFP_KERNEL);
        if let Err(e) = added {
            if id == self.next {
                self.barriers.remove(&name);
            }
            return Err(e);
        }
        if id == self.next {
            self.next += 1;
        }
        let barrier = self.barriers.get_mut(&name).ok_or(EINVAL)?;
        barrier.here += 1;
        if barrier.here < count {
            return Ok(Verdict::Waiting);
        }
        self.end(now, name, Verdict::Granted(0));
        if let Some(last) = self.participants.get_mut(&who) {
            // It hears so now. In case it does not, it asks.
            last.told = true;
        }
        Ok(Verdict::Granted(0))
    }

    /// All who wait at a barrier have this verdict now.
    fn end(&mut self, now: u64, name: Name, verdict: Verdict) {
        let Some(barrier) = self.barriers.remove(&name) else {
            return;
        };
        for participant in self.participants.values_mut() {
            if participant.barrier == barrier.id {
                participant.verdict = verdict;
                participant.until = participant.until.max(now).saturating_add(REMEMBERED);
            }
        }
    }

    /// How it stands; `None` when `who` is not known.
    pub fn ask(&self, who: Holder) -> Option<Verdict> {
        Some(self.participants.get(&who)?.verdict)
    }

    /// `who` does not wait any more. How it stood with it.
    pub fn leave(&mut self, who: Holder) -> Option<Verdict> {
        let left = self.participants.remove(&who)?;
        if left.verdict == Verdict::Waiting {
            if let Some(barrier) = self.barriers.get_mut(&left.name) {
                barrier.here -= 1;
                if barrier.here == 0 {
                    self.barriers.remove(&left.name);
                }
            }
        }
        Some(left.verdict)
    }

    /// `who` knows what became of it.
    pub fn told(&mut self, who: Holder) {
        let ended = |p: &Participant| p.verdict != Verdict::Waiting;
        if self.participants.get(&who).is_some_and(ended) {
            self.participants.remove(&who);
        }
    }

    /// One more participant to be woken.
    pub fn wake(&mut self) -> Option<Wake> {
        let mut all = self.participants.iter_mut();
        let (who, participant) = all.find(|(_, p)| p.verdict != Verdict::Waiting && !p.told)?;
        participant.told = true;
        Some(Wake {
            who: *who,
            class: participant.class,
            name: participant.name,
            verdict: participant.verdict,
        })
    }

    /// A participant whose life is over: the others at its barrier fail with `EHOSTDOWN`. False when
    /// there is none (any more).
    pub fn drop_life(&mut self, now: u64, gone: impl Fn(Life) -> bool) -> bool {
        let Some(who) = self.participants.keys().find(|who| gone(who.life)).copied() else {
            return false;
        };
        if let Some(dead) = self.participants.remove(&who) {
            if dead.verdict == Verdict::Waiting {
                self.end(now, dead.name, Verdict::Failed(EHOSTDOWN));
            }
        }
        true
    }

    /// Who waits no longer leaves; who cannot want to know any more is forgotten.
    pub fn expire(&mut self, now: u64) {
        while let Some(who) = self
            .participants
            .iter()
            .find_map(|(who, p)| (p.until <= now).then_some(*who))
        {
            self.leave(who);
        }
    }

    /// Participants that are known.
    pub fn len(&self) -> usize {
        self.participants.iter().count()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.participants.is_empty()
    }
}
