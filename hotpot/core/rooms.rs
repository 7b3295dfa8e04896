// SPDX-License-Identifier: GPL-2.0

//! How much room and how much work other nodes have, and which of them is the best place for
//! one more copy of a page.

use super::{
    cluster::Sender,
    handler,
    host::{Host, PageKey},
    msg::{wire_struct, Reader, Request, Wire, Writer},
    node::Node,
    survey,
};
use kernel::prelude::*;

/// How long an answer about room is good for, ns.
const FRESH: u64 = 2_000_000_000;
/// Work that is never too much for the next owner of a page, in copies as [`RoomOf::load`] counts
/// them: a chunk of the usual size.
const BEARABLE: u64 = 1024;

/// Any node to any other: this is how I am, and you?
#[derive(Debug)]
pub struct AskRoom {
    /// Of the sender.
    pub own: RoomOf,
}
wire_struct!(AskRoom { own });
impl Request<'_> for AskRoom {
    const OPCODE: u16 = 33;
    type Reply = RoomOf;
}

/// Room and work of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomOf {
    /// Data pages of its device.
    pub pages: u64,
    /// Free ones.
    pub free: u64,
    /// Copies that it gave to or took from other nodes lately.
    pub load: u64,
}
wire_struct!(RoomOf { pages, free, load });

/// What is known of other nodes' room.
#[derive(Default)]
pub struct Rooms {
    known: KVec<(u32, RoomOf)>,
    /// When they were asked last, ns.
    asked: u64,
    /// Copies served lately: in the present period, and in the one before.
    served: u64,
    served_before: u64,
}

impl Rooms {
    /// Pages were given to another node, or taken from it.
    pub(super) fn count(&mut self, pages: u64) {
        self.served = self.served.saturating_add(pages);
    }

    pub(super) fn of(&self, node: u32) -> Option<RoomOf> {
        let mut known = self.known.iter();
        known.find(|(id, _)| *id == node).map(|(_, room)| *room)
    }

    fn learn(&mut self, node: u32, room: RoomOf) -> Result {
        match self.known.iter_mut().find(|(id, _)| *id == node) {
            Some((_, known)) => *known = room,
            None => self.known.push((node, room), GFP_KERNEL)?,
        }
        Ok(())
    }

    /// A node said that it has no room: do not ask it again before it says otherwise.
    pub(super) fn is_full(&mut self, node: u32) {
        if let Some((_, room)) = self.known.iter_mut().find(|(id, _)| *id == node) {
            room.free = 0;
        }
    }
}

/// Free pages that a node keeps for its own stores and commits: it takes no further copies.
pub(super) fn keeps(pages: u64) -> u64 {
    pages / 64 + 1
}

impl Node {
    /// Our own room and work.
    pub(super) fn own_room(&self) -> RoomOf {
        RoomOf {
            pages: self.space.len(),
            free: self.space.free(),
            load: self.rooms.served + self.rooms.served_before,
        }
    }

    /// The node for one more copy of a page. That is its next owner, which then has nothing to
    /// fetch should we be lost [2.6.4], if it has room, is not much fuller than the emptiest node,
    /// and not much busier than both the idlest and us. Each copy that we have it take is as much
    /// work for us: what we own alone never makes it too busy.
    ///
    /// Else, and for further copies, room and load alone say: of those that have room the ones that
    /// are not much fuller than the emptiest, and of these one with little to do; by turns.
    /// What is not known of a node is taken for good. `None` when all others are no choice.
    pub(super) fn choose(
        &self,
        key: PageKey,
        mut is_taken: impl FnMut(u32) -> bool,
    ) -> Option<u32> {
        let us = self.id();
        let mut emptiest = 0;
        let mut idlest = u64::MAX;
        // 1024 is empty.
        let share = |room: RoomOf| room.free.saturating_mul(1024) / room.pages.max(1);
        let unknown = RoomOf {
            pages: 1,
            free: 1,
            load: 0,
        };
        let room_of = |id: u32| self.rooms.of(id).unwrap_or(unknown);
        let fits = |room: RoomOf| room == unknown || room.free > keeps(room.pages);
        for peer in self.map.up().filter(|peer| peer.id != us) {
            let room = room_of(peer.id);
            if !is_taken(peer.id) && fits(room) {
                emptiest = emptiest.max(share(room));
                idlest = idlest.min(room.load);
            }
        }
        let is_full = |room: RoomOf| !fits(room) || share(room) * 2 < emptiest;
        let is_busy = |room: RoomOf| room.load > idlest.saturating_mul(2).saturating_add(64);
        let too_much = self.own_room().load.saturating_mul(2);
        let too_much = too_much.saturating_add(BEARABLE);
        let next = self.names.successor(key).filter(|id| {
            let room = room_of(*id);
            let is_overloaded = is_busy(room) && room.load > too_much;
            // It is us when the chunk is on its way to another node.
            let is_other = *id != us && self.is_up(*id);
            is_other && !is_taken(*id) && !is_full(room) && !is_overloaded
        });
        if next.is_some() {
            return next;
        }
        let mut good: u64 = 0;
        let turn = key.page ^ key.dataset;
        let mut best = None;
        let mut first = None;
        for pass in 0..2 {
            let mut nr = 0;
            for peer in self.map.up().filter(|peer| peer.id != us) {
                let room = room_of(peer.id);
                if is_taken(peer.id) || is_full(room) {
                    continue;
                }
                first = first.or(Some(peer.id));
                if is_busy(room) {
                    continue;
                }
                match pass {
                    0 => good += 1,
                    _ if nr == turn % good.max(1) => best = Some(peer.id),
                    _ => {}
                }
                nr += 1;
            }
        }
        best.or(first)
    }
}

/// Another node tells and asks.
pub(super) fn on_ask_room<H: Host>(host: &H, from: Sender, ask: &AskRoom) -> Result<RoomOf> {
    host.with(|node| {
        node.rooms.learn(from.node, ask.own)?;
        Ok(node.own_room())
    })
}

/// Keeps what we know fresh.
pub(super) async fn ask_all<H: Host>(host: &H) -> Result {
    let now = host.now();
    let ids = host.with(|node| {
        if node.rooms.asked != 0 && now < node.rooms.asked.saturating_add(FRESH) {
            return Ok(KVec::new());
        }
        node.rooms.asked = now;
        node.rooms.served_before = core::mem::take(&mut node.rooms.served);
        let Node { rooms, map, .. } = node;
        rooms
            .known
            .retain(|(id, _)| map.up().any(|peer| peer.id == *id));
        node.others()
    })?;
    let own = host.with(|node| node.own_room());
    let until = handler::call_until(host, u64::MAX);
    let rooms = survey::each(host, &ids, &AskRoom { own }, until).await?;
    for (id, room) in ids.iter().zip(&rooms) {
        if let Ok(room) = room {
            host.with(|node| node.rooms.learn(*id, *room))?;
        }
    }
    Ok(())
}
