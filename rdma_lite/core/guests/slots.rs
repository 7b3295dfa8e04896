// SPDX-License-Identifier: GPL-2.0

//! Who takes part: each node has a slot, by compare-and-swap.
//!
//! A slot is its node's as long as the life that the node has put there stays, a number that is never used
//! twice. A node beats while it lives. It is for others to watch: whose slot has not moved for
//! [`DEAD_AFTER`] is dead to them, and the slot is had by whoever needs one. A node that begins anew first
//! takes the slot of its last life, once it has watched it stand still for [`OWN_DEAD_AFTER`]; while that
//! moves the node lives elsewhere ([`EEXIST`]). Since all take the first slot that is free, two that begin
//! under one id at the same moment meet there.

use super::{
    field,
    layout::{Layout, MAX_SLOTS},
    put, Memory,
};
use kernel::{crc32::crc32c, prelude::*};

const MS: u64 = 1_000_000;
/// No claim takes longer.
pub const CLAIM_WITHIN: u64 = 3 * DEAD_AFTER;
/// A node that has not moved for so long, in ns, is dead to others.
pub const DEAD_AFTER: u64 = 4_000 * MS;
/// A slot of our own id that has not moved for so long is that of a life that is over.
pub const OWN_DEAD_AFTER: u64 = 1_500 * MS;

const IDENTITY_LEN: usize = 64;

/// Who a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id in the map.
    pub node: u16,
    /// Its cluster.
    pub cluster: [u8; 16],
    /// When this life of the node began.
    pub incarnation: u64,
    /// Whose slot it is: never 0, never used twice.
    pub life: u64,
}

impl Identity {
    fn crc(bytes: &[u8; IDENTITY_LEN]) -> u32 {
        !crc32c(!0, &bytes[4..])
    }

    fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut bytes = [0; IDENTITY_LEN];
        put(&mut bytes, 4, self.node.to_le_bytes());
        put(&mut bytes, 8, self.cluster);
        put(&mut bytes, 24, self.incarnation.to_le_bytes());
        put(&mut bytes, 32, self.life.to_le_bytes());
        let crc = Self::crc(&bytes);
        put(&mut bytes, 0, crc.to_le_bytes());
        bytes
    }

    /// `None`: it is not (all) there.
    fn decode(bytes: &[u8; IDENTITY_LEN]) -> Option<Self> {
        let sound = u32::from_le_bytes(field(bytes, 0)) == Self::crc(bytes);
        sound.then(|| Self {
            node: u16::from_le_bytes(field(bytes, 4)),
            cluster: field(bytes, 8),
            incarnation: u64::from_le_bytes(field(bytes, 24)),
            life: u64::from_le_bytes(field(bytes, 32)),
        })
    }

    fn is_same_node(&self, other: &Self) -> bool {
        self.node == other.node && self.cluster == other.cluster
    }
}

/// Who has a slot, if that can be told.
pub fn occupant(memory: &impl Memory, layout: &Layout, slot: usize) -> Result<Option<Identity>> {
    let mut bytes = [0; IDENTITY_LEN];
    memory.read(layout.identity(slot), &mut bytes)?;
    let life = memory.load(layout.life(slot))?;
    Ok(Identity::decode(&bytes).filter(|who| life != 0 && who.life == life))
}

/// What was seen of a slot.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    life: u64,
    beat: u64,
    /// When it moved last, or was seen first.
    since: u64,
    /// It was seen to move.
    moved: bool,
}

/// Watches the slots of all nodes; times in ns of a monotonic clock.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    seen: [Seen; MAX_SLOTS],
}

impl Watch {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at all slots.
    pub fn look(&mut self, memory: &impl Memory, layout: &Layout, now: u64) -> Result {
        for slot in 0..layout.slots {
            let life = memory.load(layout.life(slot))?;
            let beat = memory.load(layout.beat(slot))?;
            let seen = &mut self.seen[slot];
            if seen.life != life {
                *seen = Seen {
                    life,
                    beat,
                    since: now,
                    moved: false,
                };
            } else if seen.beat != beat {
                (seen.beat, seen.since, seen.moved) = (beat, now, true);
            }
        }
        Ok(())
    }

    /// Whether the node that has this slot by this life may live, as far as was seen.
    pub fn lives(&self, slot: usize, life: u64, now: u64) -> bool {
        let seen = self
            .seen
            .get(slot)
            .filter(|seen| life != 0 && seen.life == life);
        seen.is_some_and(|seen| now.saturating_sub(seen.since) < DEAD_AFTER)
    }

    /// The slot of a node that lives, and its life.
    pub fn find(
        &self,
        memory: &impl Memory,
        layout: &Layout,
        cluster: &[u8; 16],
        node: u16,
        now: u64,
    ) -> Result<Option<(usize, u64)>> {
        for slot in 0..layout.slots {
            let who = occupant(memory, layout, slot)?;
            let who = who.filter(|who| who.node == node && who.cluster == *cluster);
            if let Some(who) = who.filter(|who| self.lives(slot, who.life, now)) {
                return Ok(Some((slot, who.life)));
            }
        }
        Ok(None)
    }

    fn still_for(&self, slot: usize, now: u64) -> u64 {
        now.saturating_sub(self.seen[slot].since)
    }
}

/// A node on its way to a slot.
#[derive(Debug)]
pub struct Claim {
    who: Identity,
    watch: Watch,
    began: Option<u64>,
}

impl Claim {
    /// For this node; its life must be a number that nobody else has.
    pub fn new(who: Identity) -> Self {
        Self {
            who,
            watch: Watch::new(),
            began: None,
        }
    }

    /// Tries. `None`: look again soon; after [`CLAIM_WITHIN`] at the latest it is known how it ends.
    ///
    /// `EEXIST`: the node lives elsewhere. `ENOSPC`: all slots are of nodes that live. `ETIMEDOUT`: others
    /// come and go all the time.
    pub fn step(
        &mut self,
        memory: &impl Memory,
        layout: &Layout,
        now: u64,
    ) -> Result<Option<usize>> {
        let began = *self.began.get_or_insert(now);
        if now.saturating_sub(began) > CLAIM_WITHIN {
            return Err(ETIMEDOUT);
        }
        self.watch.look(memory, layout, now)?;
        let mut free = None;
        let mut dead = None;
        for slot in 0..layout.slots {
            let seen = self.watch.seen[slot];
            if seen.life == 0 {
                free = free.or(Some(slot));
                continue;
            }
            let still = self.watch.still_for(slot, now);
            match occupant(memory, layout, slot)? {
                Some(who) if who.is_same_node(&self.who) => {
                    if seen.moved {
                        return Err(EEXIST);
                    }
                    if still < OWN_DEAD_AFTER {
                        return Ok(None);
                    }
                    return self.take(memory, layout, slot, seen.life);
                }
                // Somebody who has just come, or was killed as they came: perhaps it is us.
                None if still < OWN_DEAD_AFTER => return Ok(None),
                _ if still >= DEAD_AFTER => dead = dead.or(Some(slot)),
                _ => {}
            }
        }
        match (free, dead) {
            (Some(slot), _) => self.take(memory, layout, slot, 0),
            (None, Some(slot)) => {
                let life = self.watch.seen[slot].life;
                self.take(memory, layout, slot, life)
            }
            _ if now.saturating_sub(began) < DEAD_AFTER => Ok(None),
            _ => Err(ENOSPC),
        }
    }

    fn take(
        &self,
        memory: &impl Memory,
        layout: &Layout,
        slot: usize,
        from: u64,
    ) -> Result<Option<usize>> {
        let (at, life) = (layout.life(slot), self.who.life);
        if memory.compare_exchange(at, from, life)?.is_err() {
            // Somebody was quicker.
            return Ok(None);
        }
        memory.write(layout.identity(slot), &self.who.encode())?;
        Ok(Some(slot))
    }
}

/// The node of this slot lives. `ESTALE`: the slot is not its own any more.
pub fn beat(memory: &impl Memory, layout: &Layout, slot: usize, life: u64) -> Result {
    if memory.load(layout.life(slot))? != life {
        return Err(ESTALE);
    }
    let at = layout.beat(slot);
    memory.store(at, memory.load(at)?.wrapping_add(1))
}

/// The node gives its slot back; nothing when it has not got it any more.
pub fn release(memory: &impl Memory, layout: &Layout, slot: usize, life: u64) -> Result {
    let _ = memory.compare_exchange(layout.life(slot), life, 0)?;
    Ok(())
}
