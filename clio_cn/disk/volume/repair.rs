// SPDX-License-Identifier: GPL-2.0

//! What is done about copies that were left out. May sleep.

use super::Volume;
use crate::{
    core::{
        control::NodeStat,
        disk::record::{DATA, MAX_COPIES},
    },
    disk::copies::{self, Place},
};
use kernel::{prelude::*, random::get_random_u64, sync::Arc, workqueue::WorkItem};

impl Volume {
    /// Leaves the copies alone that were left out, once nothing is under way there; or all.
    pub(super) fn leave_copies(&self, all: bool) {
        // They are as many as there were at the beginning, whoever comes while we look.
        for _ in 0..4 * MAX_COPIES {
            let Some(place) = self.state.lock().left.pop() else {
                break;
            };
            let busy = self
                .station
                .with(|inner| inner.engine.is_busy(place.stream));
            if busy && !all {
                let _ = self.state.lock().left.push_within_capacity(place);
                // The others can wait until the next tick, too.
                break;
            }
            place.leave(&self.station, self.settings.timeout_ms);
        }
        for slot in (0..MAX_COPIES).filter(|_| all) {
            let place = self
                .state
                .lock()
                .places
                .get_mut(slot)
                .and_then(Option::take);
            if let Some(place) = place {
                place.leave(&self.station, self.settings.timeout_ms);
            }
        }
    }

    /// Puts a new copy in the place of one that was lost.
    fn replace_copy(self: &Arc<Self>) -> Result {
        let (slot, taken) = {
            let state = self.state.lock();
            let Some(slot) = state.core.vacancy().filter(|_| !state.stopping) else {
                return Ok(());
            };
            let mut taken = [0u16; 2 * MAX_COPIES];
            let places = Iterator::chain(state.places.iter().flatten(), &state.left);
            for (entry, place) in taken.iter_mut().zip(places) {
                *entry = place.node;
            }
            (slot, taken)
        };
        let nodes = copies::memory_nodes(&self.station, self.settings.timeout_ms)?;
        let fits = |stat: &&NodeStat| {
            !stat.draining && !taken.contains(&stat.node) && copies::room(stat) >= self.size + DATA
        };
        let Some(stat) = nodes
            .iter()
            .filter(fits)
            .max_by_key(|stat| copies::room(stat))
        else {
            return Err(ENOSPC);
        };
        let (station, settings) = (&self.station, &self.settings);
        let mut place = Place::make(station, settings, stat, self.size, true)?;
        if let Err(e) = place.lock(station, settings.timeout_ms) {
            place.leave(station, settings.timeout_ms);
            return Err(e);
        }
        let id = get_random_u64().max(1);
        let refused = {
            let mut state = self.state.lock();
            let added = state.core.add(slot, id, stat.node.into());
            match (added, state.places.get_mut(slot)) {
                (Ok(()), Some(there)) => {
                    *there = Some(place);
                    None
                }
                (Ok(()), None) => None,
                (Err(e), _) => Some((e, place)),
            }
        };
        if let Some((e, place)) = refused {
            place.leave(station, settings.timeout_ms);
            return Err(e);
        }
        self.settings
            .warn(fmt!("a new copy at node {} is being filled", stat.node));
        self.drive();
        self.station.go_on();
        Ok(())
    }
}

impl WorkItem<1> for Volume {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.leave_copies(false);
        if this.settings.repair {
            // It is tried again with the next tick.
            let _ = this.replace_copy();
        }
    }
}
