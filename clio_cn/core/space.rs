// SPDX-License-Identifier: GPL-2.0

//! A remote address space, and which memory node has which region of it.

use super::{
    control::{Region, VA_BASE},
    request::SENDING,
    table::Queue,
};
use kernel::{prelude::*, siphash};

/// A region, as the home told it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// Whether there is one.
    pub(super) exists: bool,
    /// Its memory node; 0 when it is lost.
    pub(super) node: u32,
    /// UDP port of that.
    pub(super) port: u16,
    /// The life of that which has it.
    pub(super) incarnation: u64,
    /// Allocations of more bytes than this did not fit.
    pub(super) room: u64,
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// There.
    To {
        node: u32,
        port: u16,
        incarnation: u64,
        /// Bytes from the address to the end of the region.
        left: u64,
    },
    /// Nobody has it, as far as we know.
    Nowhere,
    /// It was lost with its node.
    Lost,
}

/// A RAS that we are attached to.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) ras: u64,
    pub(super) key: siphash::Key,
    pub(super) shift: u32,
    places: KVVec<Place>,
    /// Raised by each table that the home gave.
    pub(super) version: u32,
    /// The home should be asked for the table, not before then; it is being asked.
    pub(super) stale: bool,
    pub(super) not_before: u64,
    pub(super) asking: bool,
    /// Requests that wait for a table.
    pub(super) unrouted: Queue<SENDING>,
}

impl Space {
    pub(super) fn new(ras: u64, key: siphash::Key, shift: u8) -> Self {
        Self {
            ras,
            key,
            shift: u32::from(shift).min(40),
            places: KVVec::new(),
            version: 0,
            stale: false,
            not_before: 0,
            asking: false,
            unrouted: Queue::default(),
        }
    }

    /// Bytes of a region.
    pub(super) fn region_size(&self) -> u64 {
        1 << self.shift
    }

    /// First address of a region.
    pub(super) fn start(&self, index: u32) -> u64 {
        VA_BASE.saturating_add(u64::from(index) << self.shift)
    }

    /// The region that has an address.
    pub(super) fn index(&self, addr: u64) -> Option<u32> {
        u32::try_from(addr.checked_sub(VA_BASE)? >> self.shift).ok()
    }

    pub(super) fn route(&self, addr: u64) -> Route {
        let place = self
            .index(addr)
            .and_then(|index| self.places.get(index as usize))
            .filter(|place| place.exists);
        match place {
            None => Route::Nowhere,
            Some(place) if place.node == 0 => Route::Lost,
            Some(place) => Route::To {
                node: place.node,
                port: place.port,
                incarnation: place.incarnation,
                left: self.region_size() - (addr & (self.region_size() - 1)),
            },
        }
    }

    /// Learns rows of the table; `whole`: regions that they do not have are gone.
    pub(super) fn learn(&mut self, regions: &[Region], whole: bool) -> Result {
        let size = self.region_size();
        let len = regions
            .iter()
            .map(|region| region.index as usize + 1)
            .max()
            .unwrap_or(0);
        if len > self.places.len() {
            self.places.resize(len, Place::default(), GFP_ATOMIC)?;
        }
        if whole {
            self.places
                .iter_mut()
                .for_each(|place| place.exists = false);
        }
        for region in regions {
            if let Some(place) = self.places.get_mut(region.index as usize) {
                let moved = place.node != u32::from(region.node);
                *place = Place {
                    exists: true,
                    node: region.node.into(),
                    port: region.port,
                    incarnation: region.incarnation,
                    room: if moved { size } else { place.room },
                };
            }
        }
        self.version = self.version.wrapping_add(1);
        Ok(())
    }

    /// The next region, from `from` on, that may have room for `len` bytes.
    pub(super) fn with_room(&self, from: u32, len: u64) -> Option<u32> {
        self.places
            .iter()
            .enumerate()
            .skip(from as usize)
            .find(|(_, place)| place.exists && place.node != 0 && place.room >= len)
            .map(|(index, _)| index as u32)
    }

    /// An allocation of `len` bytes did not fit, or what it freed may be used.
    pub(super) fn set_room(&mut self, index: u32, change: impl FnOnce(u64) -> u64) {
        if let Some(place) = self.places.get_mut(index as usize) {
            place.room = change(place.room);
        }
    }

    /// The node with the lowest id above `above` that has regions, and one of them.
    pub(super) fn node_above(&self, above: u64) -> Option<(u32, u32)> {
        self.places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.exists && u64::from(place.node) > above)
            .map(|(index, place)| (place.node, index as u32))
            .min()
    }
}
