// SPDX-License-Identifier: GPL-2.0

//! Classes of service: who goes next where several wait, and who may take one of a few places.
//!
//! What is shared between the users of a node pair is the ring to the peer, the calls that may be
//! under way, and the accesses that the device works on. Of each the high class is guaranteed a share
//! ([`Share`]) while it wants it, and the normal class the rest; what one class does not want the other
//! may have. Where messages wait, [`FairTurns`] says whose is next: start-time fair queueing (Goyal, Vin
//! and Cheng, SIGCOMM 1996), which needs no clock. Where places are held for a while, [`Places`] keeps
//! some free for each class. LITE has two priorities without a guarantee for the lower one.

use kernel::prelude::*;

/// A class of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Class {
    /// Who did not ask for another.
    #[default]
    Normal = 0,
    /// Has a guaranteed share under load.
    High = 1,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 2;
    /// All, the higher first.
    pub const ALL: [Self; Self::COUNT] = [Self::High, Self::Normal];

    /// The class of this number; `EINVAL` when there is none.
    pub fn from_number(number: u32) -> Result<Self> {
        match number {
            0 => Ok(Self::Normal),
            1 => Ok(Self::High),
            _ => Err(EINVAL),
        }
    }

    /// Its number, from 0.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Normal => Self::High,
            Self::High => Self::Normal,
        }
    }
}

/// How much of what is scarce the high class gets when both want all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// In percent: no class is ever without a share.
    pub const RANGE: ::core::ops::RangeInclusive<u8> = 50..=95;
    /// Three of four.
    pub const DEFAULT: Self = Self(75);

    /// So many percent; `EINVAL` outside of [`Share::RANGE`].
    pub fn new(percent: u8) -> Result<Self> {
        match Self::RANGE.contains(&percent) {
            true => Ok(Self(percent)),
            false => Err(EINVAL),
        }
    }

    /// Percent of the high class.
    pub const fn percent(self) -> u8 {
        self.0
    }

    /// Percent of a class.
    pub const fn of(self, class: Class) -> u64 {
        match class {
            Class::Normal => 100 - self.0 as u64,
            Class::High => self.0 as u64,
        }
    }
}

/// Whose turn it is to send.
///
/// Each class has a tag: what it sent, divided by its share. Who has the lowest tag and something to
/// send is next. Over any time in which both have something to send, what they sent divided by their
/// shares differs by not more than the two longest messages divided by theirs.
#[derive(Clone, Copy, Debug)]
pub struct FairTurns {
    share: Share,
    tags: [u64; Class::COUNT],
    /// The tag at which the last message began: who comes back after a rest begins here, so that a
    /// rest is not saved up.
    clock: u64,
}

impl FairTurns {
    /// Nothing was sent yet.
    pub const fn new(share: Share) -> Self {
        Self {
            share,
            tags: [0; Class::COUNT],
            clock: 0,
        }
    }

    fn begins(&self, class: Class) -> u64 {
        self.tags[class.index()].max(self.clock)
    }

    /// Who is next, of those that have something to send. The answer stays the same until
    /// [`Self::sent`], unless it or a better one comes.
    pub fn next(&self, has: impl Fn(Class) -> bool) -> Option<Class> {
        let mut waiting = Class::ALL.into_iter().filter(|class| has(*class));
        let first = waiting.next()?;
        match waiting.next() {
            Some(second) if self.begins(second) < self.begins(first) => Some(second),
            _ => Some(first),
        }
    }

    /// A class sent so many bytes.
    pub fn sent(&mut self, class: Class, bytes: u32) {
        let begins = self.begins(class);
        // Divided by its share, times both shares: whole numbers.
        let cost = u64::from(bytes.max(1)) * self.share.of(class.other());
        self.clock = begins;
        self.tags[class.index()] = begins.saturating_add(cost);
    }
}

/// So many places of which each is held for a while, by a call or an access.
///
/// A class may take all but those that are kept for the other one: its share of all, less what it has.
/// None are kept for a class that has none and was refused none lately, so who is alone has all. Who has
/// none takes what it needs even of what is kept, so that nobody waits for ever who wants more than its
/// share at once.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    share: Share,
    most: usize,
    taken: [usize; Class::COUNT],
    /// A class was refused some: how often the other one will be refused for its sake.
    wanted: [u32; Class::COUNT],
}

impl Places {
    /// Who was refused, and does not ask again before the other class was refused so often, is forgotten.
    pub const PATIENCE: u32 = 8;

    /// All free.
    pub const fn new(most: usize, share: Share) -> Self {
        Self {
            share,
            most,
            taken: [0; Class::COUNT],
            wanted: [0; Class::COUNT],
        }
    }

    /// There are so many places from now on.
    pub fn resize(&mut self, most: usize) {
        self.most = most;
    }

    /// Places that are kept for a class, besides those that it has.
    fn kept_for(&self, class: Class) -> usize {
        let at = class.index();
        if self.taken[at] == 0 && self.wanted[at] == 0 {
            return 0;
        }
        let share = self.most as u64 * self.share.of(class) / 100;
        (share as usize).saturating_sub(self.taken[at])
    }

    /// Takes `places` places, if there are so many for the class.
    pub fn take(&mut self, class: Class, places: usize) -> bool {
        let other = class.other();
        let [mine, others] = [class, other].map(|class| self.taken[class.index()]);
        let free = self.most.saturating_sub(mine + others);
        let kept = match mine {
            0 => 0,
            _ => self.kept_for(other),
        };
        if places > free.saturating_sub(kept) {
            self.wanted[class.index()] = Self::PATIENCE;
            let wanted = &mut self.wanted[other.index()];
            *wanted = wanted.saturating_sub(1);
            return false;
        }
        self.taken[class.index()] += places;
        self.wanted[class.index()] = 0;
        true
    }

    /// Gives places back.
    pub fn give_back(&mut self, class: Class, places: usize) {
        let taken = &mut self.taken[class.index()];
        *taken = taken.saturating_sub(places);
    }

    /// Places that a class has.
    pub fn taken(&self, class: Class) -> usize {
        self.taken[class.index()]
    }
}
