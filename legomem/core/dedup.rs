// SPDX-License-Identifier: GPL-2.0

//! What was executed lately (T4 of section 4.4.5): a ring of the last writes,
//! atomics and other requests that must not be executed twice, with the results
//! of those that have one. Its size depends on bandwidth and time-outs, not on
//! the number of clients.

use super::wire::Status;
use kernel::{prelude::*, siphash::Key};

/// A request, whatever the number of its tries. The fragments of a write are
/// requests of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// Who asked.
    pub node: u32,
    /// In which life.
    pub incarnation: u64,
    /// The id of the first try.
    pub first: u64,
    /// The fragment.
    pub offset: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A worker executes it.
    Running,
    /// It was executed: this was the answer.
    Done {
        /// How it went.
        status: Status,
        /// Its result.
        operand: u64,
    },
}

/// Where it had its effect, for when that moves to another node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the address space.
    pub space: u32,
    /// Its region.
    pub region: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    effect: Effect,
    place: Place,
    record: Record,
    /// The next of the same chain, plus 1.
    next: u32,
}

/// The ring. See the file's beginning.
#[derive(Debug)]
pub struct Dedup {
    key: Key,
    slots: KVVec<Slot>,
    /// First of each chain, plus 1.
    chains: KVVec<u32>,
    /// The slot that is used next: the oldest.
    oldest: usize,
}

const EMPTY: Slot = Slot {
    effect: Effect {
        node: 0,
        incarnation: 0,
        first: 0,
        offset: 0,
    },
    place: Place {
        space: 0,
        region: 0,
    },
    record: Record::Running,
    next: 0,
};

impl Dedup {
    /// Remembers the last `capacity` effects.
    pub fn new(key: Key, capacity: usize) -> Result<Self> {
        let capacity = capacity.clamp(1, 1 << 24);
        Ok(Self {
            key,
            slots: KVVec::from_elem(EMPTY, capacity, GFP_KERNEL)?,
            chains: KVVec::from_elem(0, capacity.next_power_of_two(), GFP_KERNEL)?,
            oldest: 0,
        })
    }

    fn chain_of(&self, effect: &Effect) -> usize {
        let hash = self.key.hash(&[
            &effect.node.to_le_bytes(),
            &effect.incarnation.to_le_bytes(),
            &effect.first.to_le_bytes(),
            &effect.offset.to_le_bytes(),
        ]);
        hash as usize & (self.chains.len() - 1)
    }

    fn find(&self, effect: &Effect) -> Option<usize> {
        let mut link = *self.chains.get(self.chain_of(effect))?;
        while let Some(at) = link.checked_sub(1) {
            let slot = self.slots.get(at as usize)?;
            if slot.effect == *effect {
                return Some(at as usize);
            }
            link = slot.next;
        }
        None
    }

    /// What became of a request, if it is remembered.
    pub fn get(&self, effect: &Effect) -> Option<Record> {
        Some(self.slots.get(self.find(effect)?)?.record)
    }

    /// Remembers one; returns the one that is forgotten for it.
    pub fn insert(&mut self, effect: Effect, place: Place, record: Record) -> Option<Effect> {
        let at = self.oldest;
        self.oldest = (at + 1) % self.slots.len().max(1);
        let forgotten = self.unlink(at);
        let chain = self.chain_of(&effect);
        let head = self.chains.get_mut(chain)?;
        let next = ::core::mem::replace(head, at as u32 + 1);
        *self.slots.get_mut(at)? = Slot {
            effect,
            place,
            record,
            next,
        };
        forgotten
    }

    /// Says what became of one that was running.
    pub fn finish(&mut self, effect: &Effect, record: Record) {
        let at = self.find(effect);
        if let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) {
            slot.record = record;
        }
    }

    /// Forgets one that turned out to have no effect.
    pub fn forget(&mut self, effect: &Effect) {
        if let Some(at) = self.find(effect) {
            self.unlink(at);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = EMPTY;
            }
        }
    }

    fn unlink(&mut self, at: usize) -> Option<Effect> {
        let Slot { effect, next, .. } = *self.slots.get(at)?;
        if effect == EMPTY.effect {
            return None;
        }
        let chain = self.chain_of(&effect);
        let target = at as u32 + 1;
        let mut link = *self.chains.get(chain)?;
        if link == target {
            *self.chains.get_mut(chain)? = next;
        } else {
            while let Some(before) = link.checked_sub(1) {
                let slot = self.slots.get_mut(before as usize)?;
                if slot.next == target {
                    slot.next = next;
                    break;
                }
                link = slot.next;
            }
        }
        Some(effect)
    }

    /// Effects that can be remembered.
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// What is remembered of a place, among `count` slots from `at` on.
    pub fn of_place(
        &self,
        place: Place,
        at: usize,
        count: usize,
    ) -> impl Iterator<Item = (Effect, Record)> + '_ {
        let slots = self.slots.iter().skip(at).take(count);
        slots
            .filter(move |slot| slot.place == place)
            .map(|slot| (slot.effect, slot.record))
    }

    /// Bytes of memory that the ring takes.
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<Slot>() + self.chains.len() * size_of::<u32>()
    }
}
