// SPDX-License-Identifier: GPL-2.0

//! What an open file has: regions that it mapped and locks that it holds. All of it ends with the file;
//! the owners hear of that in the background, so that no close waits for another node.

use crate::{core::region::windows::Windows, region::mapping::Mapping, sync::Held, users::Taken};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// Handles that one file may have.
const MOST: usize = 1 << 20;

/// What a handle names.
pub(super) enum Thing {
    Region(Arc<Mapping>),
    Lock(Held),
}

struct Entry {
    /// Of the handle that names the thing, or of the last that named one.
    generation: u32,
    thing: Option<(Thing, Taken)>,
    /// Where it can be mapped, in pages; 0: nobody has asked.
    window: u64,
}

#[derive(Default)]
struct Table {
    entries: KVVec<Entry>,
    free: KVVec<u32>,
    windows: Windows,
}

/// The handles of an open file.
#[pin_data]
pub(crate) struct Handles {
    #[pin]
    table: Mutex<Table>,
}

impl Table {
    fn find(&mut self, handle: u64) -> Result<&mut Entry> {
        let entry = self.entries.get_mut(handle as u32 as usize).ok_or(EBADF)?;
        if u64::from(entry.generation) != handle >> 32 || entry.thing.is_none() {
            return Err(EBADF);
        }
        Ok(entry)
    }
}

impl Handles {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            table <- new_mutex!(Table {
                entries: KVVec::new(),
                free: KVVec::new(),
                windows: Windows::new(),
            }, "lite_handles"),
        })
    }

    /// A new handle, which is not 0 and was not there before, and what its user pays for it. On an
    /// error the thing comes back: [`EMFILE`] when there are too many.
    pub(super) fn add(&self, thing: Thing, taken: Taken) -> Result<u64, (Error, Thing)> {
        let mut table = self.table.lock();
        let index = match table.free.pop() {
            Some(index) => index,
            None => {
                let count = table.entries.len();
                if count >= MOST {
                    return Err((EMFILE, thing));
                }
                // Room to take the handle back, too.
                let room = count + 1 - table.free.len();
                let reserved = table
                    .free
                    .reserve(room, GFP_KERNEL)
                    .and_then(|()| table.entries.reserve(1, GFP_KERNEL));
                if let Err(e) = reserved {
                    return Err((e.into(), thing));
                }
                let entry = Entry {
                    generation: 0,
                    thing: None,
                    window: 0,
                };
                if let Err(e) = table.entries.push_within_capacity(entry) {
                    return Err((e.into(), thing));
                }
                count as u32
            }
        };
        let entry = &mut table.entries[index as usize];
        // It wraps after four billion uses of one place.
        entry.generation = entry.generation.wrapping_add(1).max(1);
        entry.thing = Some((thing, taken));
        Ok(u64::from(entry.generation) << 32 | u64::from(index))
    }

    /// The region that a handle names; [`EBADF`] when it names none.
    pub(super) fn region(&self, handle: u64) -> Result<Arc<Mapping>> {
        match &self.table.lock().find(handle)?.thing {
            Some((Thing::Region(mapping), _)) => Ok(mapping.clone()),
            _ => Err(EBADF),
        }
    }

    /// The page of the file at which the region of a handle can be mapped, which has so many pages.
    pub(super) fn window(&self, handle: u64, pages: u64) -> Result<u64> {
        let mut table = self.table.lock();
        let known = table.find(handle)?.window;
        if known != 0 {
            return Ok(known);
        }
        let first = table.windows.give(handle, pages)?;
        table.find(handle)?.window = first;
        Ok(first)
    }

    /// The region that pages of the file show, and the first of them; [`ENXIO`] when they show none.
    pub(super) fn shown(&self, first: u64, count: u64) -> Result<(Arc<Mapping>, u64)> {
        let mut table = self.table.lock();
        let (handle, page) = table.windows.find(first, count)?;
        match &table.find(handle)?.thing {
            Some((Thing::Region(mapping), _)) => Ok((mapping.clone(), page)),
            _ => Err(ENXIO),
        }
    }

    fn take(&self, handle: u64, fits: impl FnOnce(&Thing) -> bool) -> Result<Thing> {
        let mut table = self.table.lock();
        let entry = table.find(handle)?;
        let taken = entry.thing.take_if(|(thing, _)| fits(thing));
        let (thing, _) = taken.ok_or(EBADF)?;
        let window = ::core::mem::take(&mut entry.window);
        if window != 0 {
            table.windows.end(window);
        }
        // There is room; without it the place would only not be used again.
        let _ = table.free.push_within_capacity(handle as u32);
        Ok(thing)
    }

    /// Takes a region out: its handle names nothing any more.
    pub(super) fn take_region(&self, handle: u64) -> Result<Arc<Mapping>> {
        match self.take(handle, |thing| matches!(thing, Thing::Region(_)))? {
            Thing::Region(mapping) => Ok(mapping),
            Thing::Lock(_) => Err(EBADF),
        }
    }

    /// Takes a lock out.
    pub(super) fn take_lock(&self, handle: u64) -> Result<Held> {
        match self.take(handle, |thing| matches!(thing, Thing::Lock(_)))? {
            Thing::Lock(held) => Ok(held),
            Thing::Region(_) => Err(EBADF),
        }
    }

    /// The file is closed: everything goes.
    pub(super) fn drop_all(&self) {
        let table = core::mem::take(&mut *self.table.lock());
        for entry in table.entries {
            if let Some((Thing::Region(mapping), _)) = entry.thing {
                mapping.drop_later();
            }
        }
    }
}
