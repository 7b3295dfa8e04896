// SPDX-License-Identifier: GPL-2.0

//! A table of a fixed size: what is in use needs no memory of its own.

use super::bits::Bits;
use kernel::prelude::*;

/// Names an entry of a [`Slots`], this use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    index: u32,
    /// Uses of the entry before.
    uses: u32,
}

#[derive(Debug)]
struct Slot<T> {
    uses: u32,
    value: Option<T>,
}

/// Up to so many values.
#[derive(Debug)]
pub(super) struct Slots<T> {
    slots: KVec<Slot<T>>,
    free: KVec<u32>,
    live: Bits,
}

impl<T> Slots<T> {
    pub(super) fn new(capacity: usize) -> Result<Self> {
        let count = u32::try_from(capacity)?;
        let mut slots = KVec::with_capacity(capacity, GFP_KERNEL)?;
        let mut free = KVec::with_capacity(capacity, GFP_KERNEL)?;
        for index in 0..count {
            slots.push(
                Slot {
                    uses: 0,
                    value: None,
                },
                GFP_KERNEL,
            )?;
            free.push(count - 1 - index, GFP_KERNEL)?;
        }
        Ok(Self {
            slots,
            free,
            live: Bits::new(capacity)?,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.slots.len()
    }

    /// Gives the value back when there is no room.
    pub(super) fn insert(&mut self, value: T) -> Result<Key, T> {
        let Some(index) = self.free.pop() else {
            return Err(value);
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(value);
        };
        slot.value = Some(value);
        self.live.insert(index as usize);
        Ok(Key {
            index,
            uses: slot.uses,
        })
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.uses != key.uses {
            return None;
        }
        let value = slot.value.take()?;
        slot.uses = slot.uses.wrapping_add(1);
        self.live.remove(key.index as usize);
        // There was room for all at the beginning.
        let _ = self.free.push_within_capacity(key.index);
        Some(value)
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value.as_ref().filter(|_| slot.uses == key.uses)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value.as_mut().filter(|_| slot.uses == key.uses)
    }

    /// The entry in use at `index` or the next one behind it.
    pub(super) fn at_or_after(&self, index: usize) -> Option<(usize, Key)> {
        let at = self.live.first_from(index)?;
        let key = Key {
            index: at as u32,
            uses: self.slots.get(at)?.uses,
        };
        Some((at, key))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.value.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.value.as_mut())
    }
}
