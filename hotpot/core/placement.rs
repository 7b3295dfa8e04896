// SPDX-License-Identifier: GPL-2.0

//! Which nodes own the chunks of a new dataset: all that are up, round robin [2.5.5], each as often
//! as its free room says, so that a small or full device does not run out long before the others.

use super::{format::dataset::MAX_NODES, node::Node};
use kernel::prelude::*;

/// Turns of the emptiest node before the row begins again.
const TURNS: u64 = 8;

impl Node {
    /// The row of nodes for dataset `id`. EHOSTDOWN when none is up.
    pub(super) fn place(&self, id: u64) -> Result<KVec<u16>> {
        let mut ids = KVec::new();
        for peer in self.map.up() {
            ids.push((peer.id as u16, self.free_room(peer.id)), GFP_KERNEL)?;
        }
        ids.sort_unstable_by_key(|(id, _)| *id);
        ids.truncate(MAX_NODES);
        if ids.is_empty() {
            return Err(EHOSTDOWN);
        }
        // Small datasets do not all go to the same node.
        let turn = (id % ids.len() as u64) as usize;
        ids.rotate_left(turn);
        let most = ids.iter().filter_map(|(_, free)| *free).max().unwrap_or(1);
        // Rounded up, so that nodes that differ little have the same turns.
        let turns = |free: Option<u64>| match free {
            Some(free) => (free.saturating_mul(TURNS))
                .div_ceil(most.max(1))
                .min(TURNS),
            None => TURNS,
        };
        let alike = ids.iter().all(|(_, free)| turns(*free) == TURNS);
        let rounds = match alike || ids.len() * TURNS as usize > MAX_NODES {
            true => 1,
            false => TURNS,
        };
        let mut row = KVec::new();
        for round in 0..rounds {
            for (id, free) in &ids {
                let weight = if rounds == 1 { TURNS } else { turns(*free) };
                let before = weight * round / rounds;
                if weight * (round + 1) / rounds > before {
                    row.push(*id, GFP_KERNEL)?;
                }
            }
        }
        Ok(row)
    }

    /// Free pages of a node, when they are known.
    fn free_room(&self, id: u32) -> Option<u64> {
        match id == self.id() {
            true => Some(self.own_room().free),
            false => self.rooms.of(id).map(|room| room.free),
        }
    }
}
