// SPDX-License-Identifier: GPL-2.0

//! Tables of a fixed size, made once, and queues through their entries: nothing
//! is allocated while requests run.

use kernel::prelude::*;

/// No entry.
const NONE: u32 = u32::MAX;

/// An entry's place in a queue.
#[derive(Clone, Copy, Debug)]
struct Link {
    prev: u32,
    next: u32,
    queued: bool,
}

impl Link {
    const OUT: Self = Self {
        prev: NONE,
        next: NONE,
        queued: false,
    };
}

#[derive(Debug)]
struct Slot<T, const LINKS: usize> {
    generation: u32,
    links: [Link; LINKS],
    next_free: u32,
    value: Option<T>,
}

/// Names an entry, and none that comes into its slot later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// Names nothing.
    pub const NONE: Self = Self {
        index: NONE,
        generation: 0,
    };

    /// As one number, which is never 0.
    pub fn to_u64(self) -> u64 {
        (u64::from(self.generation) << 32) | (u64::from(self.index) + 1)
    }

    /// From the number.
    pub fn from_u64(number: u64) -> Self {
        Self {
            index: (number as u32).wrapping_sub(1),
            generation: (number >> 32) as u32,
        }
    }

    /// The slot, below the capacity of the table.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// At most as many entries as it was made for, each of which may be in one
/// queue of each of `LINKS` kinds.
#[derive(Debug)]
pub struct Table<T, const LINKS: usize> {
    slots: KVVec<Slot<T, LINKS>>,
    free: u32,
    len: usize,
    end: usize,
}

impl<T, const LINKS: usize> Table<T, LINKS> {
    /// An empty table for `capacity` entries.
    pub fn new(capacity: usize) -> Result<Self> {
        let capacity = capacity.min(NONE as usize - 1);
        let mut slots = KVVec::with_capacity(capacity, GFP_KERNEL)?;
        for at in 0..capacity {
            let next = at + 1;
            slots.push(
                Slot {
                    generation: 1,
                    links: [Link::OUT; LINKS],
                    next_free: if next < capacity { next as u32 } else { NONE },
                    value: None,
                },
                GFP_KERNEL,
            )?;
        }
        Ok(Self {
            free: if capacity == 0 { NONE } else { 0 },
            slots,
            len: 0,
            end: 0,
        })
    }

    /// Entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries that still fit.
    pub fn room(&self) -> usize {
        self.slots.len() - self.len
    }

    /// Puts an entry in; gives it back when the table is full.
    pub fn insert(&mut self, value: T) -> Result<Key, T> {
        let index = self.free;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(value);
        };
        self.free = slot.next_free;
        slot.value = Some(value);
        self.len += 1;
        self.end = self.end.max(index as usize + 1);
        Ok(Key {
            index,
            generation: slot.generation,
        })
    }

    /// Takes an entry out. It must be in no queue.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(key)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        slot.next_free = free;
        self.free = key.index;
        self.len -= 1;
        if self.len == 0 {
            self.end = 0;
        }
        Some(value)
    }

    fn slot(&self, key: Key) -> Option<&Slot<T, LINKS>> {
        self.slots
            .get(key.index())
            .filter(|slot| slot.generation == key.generation)
    }

    fn slot_mut(&mut self, key: Key) -> Option<&mut Slot<T, LINKS>> {
        self.slots
            .get_mut(key.index())
            .filter(|slot| slot.generation == key.generation)
    }

    /// The entry of that name.
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slot(key)?.value.as_ref()
    }

    /// The entry of that name.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot_mut(key)?.value.as_mut()
    }

    /// The entry in a slot, and its name.
    pub fn at(&self, index: usize) -> Option<(Key, &T)> {
        let slot = self.slots.get(index)?;
        let key = Key {
            index: index as u32,
            generation: slot.generation,
        };
        Some((key, slot.value.as_ref()?))
    }

    /// No slot from here on is in use: the slots that are, are the first ones, or were when there
    /// were more.
    pub fn end(&self) -> usize {
        self.end
    }

    /// All entries, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        (0..self.end).filter_map(|index| self.at(index))
    }

    fn link(&mut self, index: u32, kind: usize) -> Option<&mut Link> {
        self.slots.get_mut(index as usize)?.links.get_mut(kind)
    }
}

/// A queue, first in first out, through the entries of a table by their links
/// of kind `KIND`; an entry leaves from anywhere in constant time. All methods
/// take the table that it runs through.
#[derive(Debug)]
pub struct Queue<const KIND: usize> {
    head: u32,
    tail: u32,
}

impl<const KIND: usize> Default for Queue<KIND> {
    fn default() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }
}

impl<const KIND: usize> Queue<KIND> {
    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// The first entry.
    pub fn first<T, const L: usize>(&self, table: &Table<T, L>) -> Option<Key> {
        Some(table.at(self.head as usize)?.0)
    }

    /// The entry behind this one.
    pub fn after<T, const L: usize>(&self, table: &Table<T, L>, key: Key) -> Option<Key> {
        let next = table.slot(key)?.links.get(KIND)?.next;
        Some(table.at(next as usize)?.0)
    }

    /// Puts an entry last, unless it is in a queue of this kind.
    pub fn push<T, const L: usize>(&mut self, table: &mut Table<T, L>, key: Key) {
        if table.get(key).is_none() {
            return;
        }
        let tail = self.tail;
        let Some(link) = table.link(key.index, KIND) else {
            return;
        };
        if link.queued {
            return;
        }
        *link = Link {
            prev: tail,
            next: NONE,
            queued: true,
        };
        match table.link(tail, KIND) {
            Some(last) => last.next = key.index,
            None => self.head = key.index,
        }
        self.tail = key.index;
    }

    /// Takes an entry out; it must be in this queue, or in none of its kind.
    pub fn remove<T, const L: usize>(&mut self, table: &mut Table<T, L>, key: Key) {
        if table.get(key).is_none() {
            return;
        }
        let Some(link) = table.link(key.index, KIND) else {
            return;
        };
        let Link { prev, next, queued } = *link;
        if !queued {
            return;
        }
        *link = Link::OUT;
        match table.link(prev, KIND) {
            Some(before) => before.next = next,
            None => self.head = next,
        }
        match table.link(next, KIND) {
            Some(behind) => behind.prev = prev,
            None => self.tail = prev,
        }
    }

    /// Takes the first entry out.
    pub fn pop<T, const L: usize>(&mut self, table: &mut Table<T, L>) -> Option<Key> {
        let key = self.first(table)?;
        self.remove(table, key);
        Some(key)
    }
}
