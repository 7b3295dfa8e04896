// SPDX-License-Identifier: GPL-2.0

//! A node that is full of pages of its own: it can drop copies of others' pages [2.5.4], not these. So a
//! chunk of its own goes to a node with more room, and what is left of it here is then a copy like any other.
//! There is no room when no node has any.
//!
//! A node lets such a chunk in when its device is then clearly less full of its own pages than that of the
//! node in need was. So no chunk comes back for the same reason.

use super::{
    super::{host::PageKey, node::Node, rooms},
    Chunk, Leaving,
};
use kernel::prelude::*;

/// A whole device, as shares of devices are counted.
pub(super) const WHOLE: u64 = 1024;
/// How much less of its own pages a node has, of [`WHOLE`], that takes a chunk of a node in need.
const CLEARLY: u64 = WHOLE / 16;
/// Pages that are looked at for a chunk to go.
const LOOKS: usize = 8192;
/// How long a node that had no room for a chunk is not asked again, ns.
const REFUSED: u64 = 2_000_000_000;
/// How long after a chunk has gone it is waited for that what is left of it can be dropped, ns.
const SETTLES: u64 = 200_000_000;

/// Of the chunks that go for want of room.
#[derive(Default)]
pub(super) struct Relief {
    /// The worker is just sending a chunk on its way: it is in no list meanwhile.
    pub(super) is_sending: bool,
    /// Nodes that had no room, and until when they are not asked.
    refused: KVec<(u32, u64)>,
    /// Until when the chunk that went last may still take room.
    settles: u64,
    /// Where the search for a chunk goes on.
    at: Option<PageKey>,
}

impl Relief {
    /// What became of the chunk that is to go to a node: it has gone, or does not.
    pub(super) fn end(&mut self, to: u32, gone: bool, now: u64) {
        self.refused.retain(|(_, until)| *until > now);
        if gone {
            self.settles = now.saturating_add(SETTLES);
        } else if !self.is_refused(to, now) {
            // Without memory for it that node is asked again.
            let until = now.saturating_add(REFUSED);
            let _ = self.refused.push((to, until), GFP_KERNEL);
        }
    }

    fn is_refused(&self, node: u32, now: u64) -> bool {
        self.refused
            .iter()
            .any(|(id, until)| *id == node && *until > now)
    }
}

/// What a look at our pages found.
#[derive(Default)]
struct Found {
    /// Chunks that may go, and their committed pages: the one with the most that fit, and that with the fewest.
    most: Option<(Chunk, u64)>,
    fewest: Option<(Chunk, u64)>,
    /// Pages of our own that were seen.
    own: u64,
}

impl Found {
    fn add(&mut self, chunk: Chunk, pages: u64, room: u64) {
        if pages <= room && self.most.is_none_or(|(_, most)| pages > most) {
            self.most = Some((chunk, pages));
        }
        if self.fewest.is_none_or(|(_, fewest)| pages < fewest) {
            self.fewest = Some((chunk, pages));
        }
    }
}

impl Node {
    /// There is nothing to drop, and too little room: has a chunk of ours go where there is more. Whether one
    /// is on its way, or has just gone.
    pub(in super::super) fn relieve(&mut self, now: u64) -> Result<bool> {
        if !self.migration.policy.enabled || !self.is_fenced() {
            return Ok(false);
        }
        let relief = &self.migration.relief;
        let mut leaving = self.migration.leaving.iter();
        let goes = relief.is_sending || leaving.any(|of| of.for_room);
        if goes || self.has_unmaps() || now < relief.settles {
            return Ok(true);
        }
        let Some((to, room)) = self.roomiest(now) else {
            return Ok(false);
        };
        let found = self.look_for_chunk(room);
        let Some((of, _)) = found.most.or(found.fewest) else {
            return Ok(false);
        };
        let own = found.own.max(self.migration.own.known());
        let share = own.saturating_mul(WHOLE) / self.space.len().max(1);
        let Some(limit) = share.checked_sub(CLEARLY) else {
            return Ok(false);
        };
        let leaving = Leaving {
            limit,
            for_room: true,
            ..Leaving::new(of, u16::try_from(to)?, self.first_of(of)?)
        };
        self.send_away(leaving)?;
        Ok(true)
    }

    /// The node with the most room, as far as we know, and how much that is; not one that has refused.
    fn roomiest(&self, now: u64) -> Option<(u32, u64)> {
        let us = self.id();
        let others = self.map.up().filter(|peer| peer.id != us);
        let asked = others.filter(|peer| !self.migration.relief.is_refused(peer.id, now));
        let room_of = |id: u32| {
            let room = self.rooms.of(id);
            room.map_or(u64::MAX, |of| {
                of.free.saturating_sub(rooms::keeps(of.pages))
            })
        };
        asked
            .map(|peer| (peer.id, room_of(peer.id)))
            .max_by_key(|(_, room)| *room)
    }

    /// Looks for a chunk of ours that may go, where it stopped the last time.
    fn look_for_chunk(&mut self, room: u64) -> Found {
        let first = PageKey {
            dataset: 0,
            page: 0,
        };
        let start = self.migration.relief.at.unwrap_or(first);
        let mut at = start;
        let mut wrapped = false;
        let mut found = Found::default();
        let mut last: Option<(Chunk, u64)> = None;
        for _ in 0..LOOKS {
            let Some((key, page)) = self.pages.next(at) else {
                if wrapped {
                    break;
                }
                wrapped = true;
                at = first;
                continue;
            };
            if wrapped && key >= start {
                break;
            }
            at = PageKey {
                page: key.page.saturating_add(1),
                ..key
            };
            let real = page.clean.is_some_and(|clean| clean.pm.is_some());
            let Ok(of) = self.names.chunk(key) else {
                continue;
            };
            if !real || !self.owns(key) {
                continue;
            }
            found.own += 1;
            let before = last.take_if(|(chunk, _)| *chunk != of);
            self.consider(&mut found, before, room);
            last.get_or_insert((of, 0)).1 += 1;
        }
        self.consider(&mut found, last, room);
        self.migration.relief.at = Some(at);
        found
    }

    fn consider(&self, found: &mut Found, counted: Option<(Chunk, u64)>, room: u64) {
        if let Some((chunk, pages)) = counted.filter(|(chunk, _)| self.may_go(*chunk)) {
            found.add(chunk, pages, room);
        }
    }
}
