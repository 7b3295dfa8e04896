// SPDX-License-Identifier: GPL-2.0

//! Which access to a peer's memory may go to the device next.
//!
//! What the device has been given it works on in an order of its own, so shares can only be kept by what
//! it is given: while both classes have accesses, no more bytes at a time than a window that keeps it
//! busy ([`Gate::WINDOW`]), and in [turns](super::class::FairTurns). A class that is alone may give it all it
//! has.

use super::class::{Class, FairTurns, Places, Share};

/// See the module.
#[derive(Debug)]
pub struct Gate {
    turns: FairTurns,
    /// Accesses at a time.
    places: Places,
    bytes: [usize; Class::COUNT],
    /// Who wants to take, and could not yet.
    waiting: [usize; Class::COUNT],
    /// Accesses that the other class began since the last of this one ended, up to [`Gate::LATELY`].
    rest: [usize; Class::COUNT],
}

impl Gate {
    /// Bytes under way while both classes have accesses. 100 Gbit/s carry them in 80 us, which is
    /// several times what a network of such a speed needs.
    pub const WINDOW: usize = 1 << 20;
    /// A class of which the other one saw nothing during so many accesses is not waited for.
    pub const LATELY: usize = 16;

    /// For up to `most` accesses at a time.
    pub const fn new(most: usize, share: Share) -> Self {
        Self {
            turns: FairTurns::new(share),
            places: Places::new(most, share),
            bytes: [0; Class::COUNT],
            waiting: [0; Class::COUNT],
            rest: [Self::LATELY; Class::COUNT],
        }
    }

    fn is_there(&self, class: Class) -> bool {
        let at = class.index();
        self.waiting[at] != 0 || self.bytes[at] != 0 || self.rest[at] < Self::LATELY
    }

    /// Somebody wants to [`Self::take`], until [`Self::gone`].
    pub fn wait(&mut self, class: Class) {
        self.waiting[class.index()] += 1;
    }

    /// Somebody took, or gave up.
    pub fn gone(&mut self, class: Class) {
        let waiting = &mut self.waiting[class.index()];
        *waiting = waiting.saturating_sub(1);
    }

    /// Begins an access of so many bytes (1 or more), if it may begin now. Who may not asks again when one
    /// has ended or has [gone](Self::gone), and [waits](Self::wait) meanwhile, so that its turn is kept.
    pub fn take(&mut self, class: Class, bytes: usize) -> bool {
        let other = class.other();
        let under_way = self.bytes[class.index()] + self.bytes[other.index()];
        let fits = under_way == 0 || under_way.saturating_add(bytes) <= Self::WINDOW;
        if self.is_there(other) && !fits {
            return false;
        }
        let wants = |c: Class| c == class || self.waiting[c.index()] != 0;
        if self.turns.next(wants) != Some(class) || !self.places.take(class, 1) {
            return false;
        }
        self.turns
            .sent(class, u32::try_from(bytes).unwrap_or(u32::MAX));
        self.bytes[class.index()] += bytes;
        self.rest[class.index()] = 0;
        let rest = &mut self.rest[other.index()];
        *rest = rest.saturating_add(1).min(Self::LATELY);
        true
    }

    /// An access of so many bytes ended.
    pub fn give_back(&mut self, class: Class, bytes: usize) {
        self.places.give_back(class, 1);
        let under_way = &mut self.bytes[class.index()];
        *under_way = under_way.saturating_sub(bytes);
        self.rest[class.index()] = 0;
    }

    /// Bytes of a class that are under way.
    pub fn under_way(&self, class: Class) -> usize {
        self.bytes[class.index()]
    }
}
