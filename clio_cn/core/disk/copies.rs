// SPDX-License-Identifier: GPL-2.0

//! The copies, and which of them count.

use super::record::{Member, Trust, MAX_COPIES};
use ::core::ops::Range;
use kernel::prelude::*;

/// What a copy is good for at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    InSync,
    /// It has the bytes below, and all writes since it was added.
    Filling(u64),
    /// It has all; the records do not say so yet.
    Joining,
}

/// A copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Which; never the same again.
    pub id: u64,
    /// Memory node that it is at.
    pub node: u32,
    pub(super) state: State,
    /// The place of its last record.
    place: u8,
}

impl Copy {
    /// Whether it may be read.
    pub fn is_in_sync(&self) -> bool {
        self.state == State::InSync
    }
}

/// All of them. Sets of copies are bits, by their places.
#[derive(Debug)]
pub(super) struct Copies {
    slots: [Option<Copy>; MAX_COPIES],
    lost: [Option<(Copy, Error)>; MAX_COPIES],
    filled: u32,
    /// Where the next read goes.
    turn: usize,
}

impl Copies {
    pub(super) fn new(members: &[Member; MAX_COPIES], places: &[u8; MAX_COPIES]) -> Self {
        let mut slots = [None; MAX_COPIES];
        for ((slot, member), place) in slots.iter_mut().zip(members).zip(places) {
            *slot = (member.trust == Trust::InSync).then_some(Copy {
                id: member.id,
                node: member.node,
                state: State::InSync,
                place: *place,
            });
        }
        Self {
            slots,
            lost: [None; MAX_COPIES],
            filled: 0,
            turn: 0,
        }
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Copy> {
        self.slots.get(slot)?.as_ref()
    }

    fn set(&self, test: impl Fn(State) -> bool) -> u32 {
        let mut set = 0;
        for (slot, copy) in self.slots.iter().enumerate() {
            if copy.is_some_and(|copy| test(copy.state)) {
                set |= 1 << slot;
            }
        }
        set
    }

    /// Those that may be read.
    pub(super) fn in_sync(&self) -> u32 {
        self.set(|state| state == State::InSync)
    }

    pub(super) fn filling(&self) -> u32 {
        self.set(|state| matches!(state, State::Filling(_)))
    }

    pub(super) fn joining(&self) -> u32 {
        self.set(|state| state == State::Joining)
    }

    /// Those that get writes, and records.
    pub(super) fn all(&self) -> u32 {
        self.set(|_| true)
    }

    /// The next copy in sync to read from, not one of `tried`.
    pub(super) fn reader(&mut self, tried: u32) -> Option<usize> {
        let candidates = self.in_sync() & !tried;
        let places = (1..=MAX_COPIES).map(|step| (self.turn + step) % MAX_COPIES);
        let slot = places
            .into_iter()
            .find(|slot| (candidates >> slot) & 1 != 0)?;
        self.turn = slot;
        Some(slot)
    }

    pub(super) fn add(&mut self, slot: usize, id: u64, node: u32) -> Result {
        if self
            .slots
            .iter()
            .flatten()
            .any(|copy| copy.node == node || copy.id == id)
        {
            return Err(EEXIST);
        }
        match self.slots.get_mut(slot) {
            Some(place @ None) => {
                *place = Some(Copy {
                    id,
                    node,
                    state: State::Filling(0),
                    place: 1,
                });
                Ok(())
            }
            Some(_) => Err(EEXIST),
            None => Err(EINVAL),
        }
    }

    /// Leaves a copy out; false when it is the last in sync, or none.
    pub(super) fn lose(&mut self, slot: usize, error: Error) -> bool {
        let last = self.in_sync() == 1 << slot;
        let Some(copy) = self
            .slots
            .get_mut(slot)
            .filter(|_| !last)
            .and_then(Option::take)
        else {
            return false;
        };
        if let Some(lost) = self.lost.get_mut(slot) {
            *lost = Some((copy, error));
        }
        self.filled &= !(1 << slot);
        true
    }

    pub(super) fn take_lost(&mut self) -> Option<(usize, Copy, Error)> {
        let places = self.lost.iter_mut().enumerate();
        let (slot, (copy, error)) = places
            .filter_map(|(slot, lost)| Some((slot, lost.take()?)))
            .next()?;
        Some((slot, copy, error))
    }

    pub(super) fn take_filled(&mut self) -> Option<usize> {
        let slot = (0..MAX_COPIES).find(|slot| (self.filled >> slot) & 1 != 0)?;
        self.filled &= !(1 << slot);
        Some(slot)
    }

    /// The copy that is furthest behind, and how far it is.
    pub(super) fn least_filled(&self) -> Option<(usize, u64)> {
        let cursors =
            self.slots
                .iter()
                .enumerate()
                .filter_map(|(slot, copy)| match copy.as_ref()?.state {
                    State::Filling(at) => Some((slot, at)),
                    _ => None,
                });
        cursors.min_by_key(|(_, at)| *at)
    }

    /// Copies that are filled up to exactly here.
    pub(super) fn filled_to(&self, here: u64) -> u32 {
        self.set(|state| state == State::Filling(here))
    }

    /// Where the next record of a copy goes: not where its last one is.
    pub(super) fn next_place(&self, slot: usize) -> Option<u8> {
        Some(1 - self.get(slot)?.place)
    }

    /// The next record of a copy was written.
    pub(super) fn recorded(&mut self, slot: usize) {
        if let Some(copy) = self.slots.get_mut(slot).and_then(Option::as_mut) {
            copy.place = 1 - copy.place;
        }
    }

    /// Copies that are not in sync have to be filled again from here on.
    pub(super) fn refill_from(&mut self, offset: u64) {
        for copy in self.slots.iter_mut().flatten() {
            copy.state = match copy.state {
                State::InSync => State::InSync,
                State::Filling(at) => State::Filling(at.min(offset)),
                State::Joining => State::Filling(offset),
            };
        }
    }

    /// Those copies of `set` that had the bytes below `range` have it too now; true when one has
    /// all of `size`. Others have to be filled from further below meanwhile.
    pub(super) fn fill(&mut self, set: u32, range: Range<u64>, size: u64) -> bool {
        let mut complete = false;
        for (slot, copy) in self.slots.iter_mut().enumerate() {
            let Some(copy) = copy.as_mut().filter(|_| (set >> slot) & 1 != 0) else {
                continue;
            };
            if copy.state == State::Filling(range.start) {
                copy.state = State::Filling(range.end);
                if range.end >= size {
                    copy.state = State::Joining;
                    complete = true;
                }
            }
        }
        complete
    }

    /// The records say that the copies of `set` are in sync.
    pub(super) fn join(&mut self, set: u32) {
        let joining = self.joining() & set;
        for (slot, copy) in self.slots.iter_mut().enumerate() {
            if let Some(copy) = copy.as_mut().filter(|_| (joining >> slot) & 1 != 0) {
                copy.state = State::InSync;
            }
        }
        self.filled |= joining;
    }

    /// As records say it.
    pub(super) fn members(&self) -> [Member; MAX_COPIES] {
        self.slots.map(|copy| match copy {
            None => Member::default(),
            Some(copy) => Member {
                id: copy.id,
                node: copy.node,
                trust: match copy.state {
                    State::Filling(_) => Trust::Filling,
                    State::InSync | State::Joining => Trust::InSync,
                },
            },
        })
    }
}
