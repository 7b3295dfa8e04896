// SPDX-License-Identifier: GPL-2.0

//! From off to on, and back.

use super::{State, Volume, BYTES_ORDER, DEPTH, MAX_BYTES, MS, QUEUES, RECORD_ORDER, SPARE};
use crate::{
    core::disk::{
        assemble::{assemble, Assembly},
        record::{DATA, MAX_COPIES},
        Config, Disk as Core,
    },
    disk::{
        buffers::Pool,
        copies::{self, Place},
        Settings,
    },
    station::{self, Station},
};
use kernel::{
    new_delayed_work, new_spinlock_bh, new_work,
    prelude::*,
    random::{get_random_u64, uuid},
    sync::{Arc, Completion},
    time::msecs_to_jiffies,
    workqueue,
};

impl Volume {
    /// Finds the copies of a disk, or makes them when there are none and `settings` has a size.
    pub(in crate::disk) fn start(station: &Arc<Station>, settings: &Settings) -> Result<Arc<Self>> {
        let nodes = copies::memory_nodes(station, settings.timeout_ms)?;
        if nodes.is_empty() {
            return Err(EHOSTDOWN);
        }
        let (mut there, found) = copies::Place::find_all(station, settings, &nodes)?;
        let assembly = match assemble(&found, settings.force) {
            Err(ENODEV) if settings.size != 0 => {
                let (made, assembly) = Self::create(station, settings)?;
                there = made;
                assembly
            }
            Err(e) => {
                if e == EHOSTDOWN {
                    settings.warn(fmt!("a copy that may have newer data is not there"));
                }
                copies::give_up(station, there, settings.timeout_ms);
                return Err(e);
            }
            Ok(assembly) if !matches!(settings.size, 0) && settings.size != assembly.head.size => {
                settings.warn(fmt!("it is there, with {} bytes", assembly.head.size));
                copies::give_up(station, there, settings.timeout_ms);
                return Err(EEXIST);
            }
            Ok(assembly) => assembly,
        };
        let mut places = [const { None }; MAX_COPIES];
        let mut error = None;
        for mut place in there {
            let slot = assembly
                .head
                .members
                .iter()
                .position(|member| member.id != 0 && member.node == u32::from(place.node));
            match slot.and_then(|slot| places.get_mut(slot)) {
                Some(slot) => {
                    error = error.or(place.lock(station, settings.timeout_ms).err());
                    *slot = Some(place);
                }
                // Not a part of the disk any more.
                None => place.leave(station, settings.timeout_ms),
            }
        }
        let made = match error {
            None => Self::new(station, settings, &assembly),
            Some(e) => Err(e),
        };
        match made {
            Ok(this) => {
                this.state.lock().places = places;
                this.begin()?;
                Ok(this)
            }
            Err(e) => {
                for place in places.into_iter().flatten() {
                    place.leave(station, settings.timeout_ms);
                }
                Err(e)
            }
        }
    }

    /// Makes the copies of a new disk, at the nodes with most room.
    fn create(station: &Arc<Station>, settings: &Settings) -> Result<(KVec<Place>, Assembly)> {
        let mut nodes = copies::memory_nodes(station, settings.timeout_ms)?;
        nodes.retain(|stat| !stat.draining && copies::room(stat) >= settings.size + DATA);
        if nodes.len() < settings.replicas {
            settings.warn(fmt!(
                "only {} memory nodes have room for a copy",
                nodes.len()
            ));
            return Err(ENOSPC);
        }
        nodes.sort_unstable_by_key(|stat| ::core::cmp::Reverse(copies::room(stat)));
        nodes.truncate(settings.replicas);
        let mut made = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        let mut ids = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        for stat in &nodes {
            match Place::make(station, settings, stat, settings.size, false) {
                Ok(place) => {
                    made.push_within_capacity(place)?;
                    let id = get_random_u64().max(1);
                    ids.push_within_capacity((id, u32::from(stat.node)))?;
                }
                Err(e) => {
                    settings.warn(fmt!("no copy at node {}: {e:?}", stat.node));
                    copies::give_up(station, made, settings.timeout_ms);
                    let _ = copies::destroy(station, settings);
                    return Err(e);
                }
            }
        }
        Ok((made, Assembly::create(uuid(), settings.size, &ids)?))
    }

    fn new(station: &Arc<Station>, settings: &Settings, found: &Assembly) -> Result<Arc<Self>> {
        let depth = (DEPTH * QUEUES) as usize;
        let core = Core::new(
            Config {
                depth,
                chunk: MAX_BYTES,
                settle: 5_000 * MS,
                again: 1_000 * MS,
            },
            found,
        )?;
        let mut requests = KVec::with_capacity(depth, GFP_KERNEL)?;
        for _ in 0..depth {
            requests.push(None, GFP_KERNEL)?;
        }
        let left = KVec::with_capacity(4 * MAX_COPIES, GFP_KERNEL)?;
        let data = Pool::new(depth + SPARE, BYTES_ORDER)?;
        let chunks = Pool::new(2 + SPARE / 4, BYTES_ORDER)?;
        let records = Pool::new(2 * MAX_COPIES, RECORD_ORDER)?;
        station.use_reserves();
        Arc::pin_init(
            try_pin_init!(Self {
                station: station.clone(),
                settings: settings.clone(),
                size: found.head.size,
                state <- new_spinlock_bh!(State {
                    core,
                    places: [const { None }; MAX_COPIES],
                    left,
                    requests,
                    chunk: None,
                    stopping: false,
                    result: Ok(()),
                }, "clio_volume"),
                data,
                chunks,
                records,
                tick <- new_delayed_work!("Volume::tick"),
                repair <- new_work!("Volume::repair"),
                stopped <- Completion::new(),
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Tells the copies that the disk is in use, before anybody uses it.
    fn begin(self: &Arc<Self>) -> Result {
        self.drive();
        self.station.go_on();
        self.tick_later();
        for _ in 0..self.settings.timeout_ms.div_ceil(5) * 2 {
            if self.state.lock().core.is_told() {
                return Ok(());
            }
            kernel::time::delay::fsleep(kernel::time::Delta::from_millis(5));
        }
        self.settings.warn(fmt!("its copies cannot be written"));
        let _ = self.stop();
        Err(ETIMEDOUT)
    }

    /// Ends the use of the disk, whose requests are over.
    pub(in crate::disk) fn stop(self: &Arc<Self>) -> Result {
        self.state.lock().core.stop();
        self.drive();
        self.station.go_on();
        let patience = self
            .settings
            .timeout_ms
            .saturating_mul(4)
            .saturating_add(10_000);
        let waited = self
            .stopped
            .wait_for_completion_timeout(msecs_to_jiffies(patience));
        self.state.lock().stopping = true;
        workqueue::cancel_delayed_work_sync::<Self, 0>(self);
        workqueue::cancel_work_sync::<Self, 1>(self);
        let result = self.state.lock().result;
        self.leave_copies(true);
        station::settle();
        waited.and(result)
    }
}
