// SPDX-License-Identifier: GPL-2.0

//! The map: which nodes there are, and what a new one means for what we hold.

use super::{
    handler,
    host::{Action, Host, PageKey},
    node::{Greeting, Node, Phase, GENERAL, WORKER},
    persist, survey,
};
use kernel::prelude::*;

/// State of a node in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Takes part.
    Up,
    /// Expected back, with its PM.
    Down,
    /// Gone for good.
    Out,
}

/// A node of the map that has the hotpot role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: u32,
    /// Its state.
    pub state: State,
    /// Its incarnation.
    pub incarnation: u64,
    /// It has the role `hotpot CD`.
    pub dispatcher: bool,
}

/// The map, as far as hotpot is concerned: ourselves among the peers.
#[derive(Default)]
pub struct Map {
    /// Its epoch.
    pub epoch: u64,
    /// Nodes with a hotpot role, in any order.
    pub peers: KVec<Peer>,
}

impl Map {
    /// A node.
    pub fn peer(&self, id: u32) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    /// The nodes that are up.
    pub fn up(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(|peer| peer.state == State::Up)
    }

    /// The central dispatcher; EHOSTDOWN when there is none that is up.
    pub fn dispatcher(&self) -> Result<u32> {
        self.up()
            .find(|peer| peer.dispatcher)
            .map(|peer| peer.id)
            .ok_or(EHOSTDOWN)
    }
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Node id.
    pub node: u32,
    /// Its incarnation.
    pub incarnation: u64,
    /// The epoch it lives in.
    pub epoch: u64,
}

/// Takes over a new map. An older one or the same one again changes nothing.
///
/// When we missed a map, or the map had us down, other nodes have gone on without
/// us: no copy of ours counts as valid any more, except where we are the owner.
pub async fn new_map<H: Host>(host: &H, map: Map) -> Result {
    let changed = host.with(|node| {
        let changed = node.adopt(map)?;
        node.unmapping += u32::from(changed);
        Ok::<_, Error>(changed)
    })?;
    if !changed {
        return Ok(());
    }
    // Faults that are just mapping what was right a moment ago.
    let until = handler::call_until(host, u64::MAX);
    let mut from = survey::FIRST;
    while let Some(key) = host.with(|node| node.busy_from(from)) {
        let _ = persist::wait_idle(host, key, until).await;
        from = PageKey {
            page: key.page.saturating_add(1),
            ..key
        };
    }
    // A fault brings back what is still right.
    host.run(&[Action::UnmapAll]).await?;
    host.with(|node| {
        node.unmapping -= 1;
        node.wake(WORKER);
    });
    Ok(())
}

impl Node {
    fn adopt(&mut self, map: Map) -> Result<bool> {
        if map.epoch <= self.map.epoch {
            return Ok(false);
        }
        let us = self.id();
        let first = self.map.epoch == 0;
        let missed = map.epoch != self.map.epoch + 1;
        let was_down = !self.is_up(us);
        let now_down = map.peer(us).is_none_or(|peer| peer.state != State::Up);
        let unmap = !first && (missed || was_down || now_down);
        for peer in &map.peers {
            let before = self.map.peer(peer.id).copied();
            let back = before.is_some_and(|before| {
                before.state != State::Up || before.incarnation != peer.incarnation
            });
            // A node that was away, or that we may have forgotten while maps went by.
            if !first
                && peer.id != us
                && peer.state == State::Up
                && (back || missed)
                && !self
                    .greetings
                    .iter()
                    .any(|greeting| greeting.node == peer.id)
            {
                let greeting = Greeting {
                    node: peer.id,
                    restarted: false,
                    away: false,
                };
                self.greetings.push(greeting, GFP_KERNEL)?;
            }
        }
        if !first && (was_down || now_down) {
            self.lose_grants()?;
        }
        // A holder with an incarnation that no map has told us yet is newer, and stays.
        let last = &self.map;
        let gone = |id: u32, incarnation: u64| {
            map.peer(id).is_none_or(|peer| {
                peer.state != State::Up
                    || peer.incarnation != incarnation
                        && last
                            .peer(id)
                            .is_none_or(|last| last.incarnation == incarnation)
            })
        };
        for owned in self.owned.values_mut() {
            owned
                .holders
                .retain(|holder| !gone(holder.node, holder.incarnation));
        }
        self.writers
            .free(|_, writer| gone(writer.holder.node, writer.holder.incarnation));
        self.notices
            .retain(|notice| map.peer(notice.node).is_some_and(|p| p.state != State::Out));
        self.barriers.drop_nodes(gone);
        let mut out = KVec::new();
        for peer in map.peers.iter().filter(|peer| peer.state == State::Out) {
            out.push(peer.id as u16, GFP_KERNEL)?;
        }
        let lost = out.iter().any(|id| !self.names.out.contains(id));
        self.map = map;
        self.let_undone_go();
        if unmap || lost {
            // Of lost owners' pages the successors know nothing yet, not even who has mapped holes.
            self.invalidate(|owner| unmap || out.contains(&(owner as u16)));
        }
        self.note_out(out);
        self.names.stale = true;
        for queue in WORKER..=GENERAL {
            self.wake(queue);
        }
        Ok(unmap || lost)
    }

    /// The first page from `from` on whose copies some operation is using.
    fn busy_from(&self, from: PageKey) -> Option<PageKey> {
        let mut pages = self.pages.iter().filter(|(key, _)| **key >= from);
        pages.find(|(_, page)| page.busy != 0).map(|(key, _)| *key)
    }

    /// Copies of pages for whose owner `of` says so count as valid no longer.
    pub(super) fn invalidate(&mut self, of: impl Fn(u32) -> bool) {
        let us = self.id();
        self.generation += 1;
        let names = &self.names;
        for (key, page) in self.pages.iter_mut() {
            let owner = names.owner(*key).unwrap_or(u32::MAX);
            if owner != us && of(owner) {
                page.sequence = page.sequence.wrapping_add(1);
                page.mapped = false;
                if let Some(clean) = &mut page.clean {
                    clean.valid = false;
                }
            }
        }
    }

    /// What a node's new life means: it holds nothing that we gave it.
    pub(super) fn forget(&mut self, node: u32) {
        for owned in self.owned.values_mut() {
            owned.holders.retain(|holder| holder.node != node);
        }
        self.writers.free(|_, writer| writer.holder.node == node);
    }

    /// Whether we may change what other nodes may have mapped.
    pub(super) fn is_fenced(&self) -> bool {
        self.phase == Phase::Ready
            && !self
                .greetings
                .iter()
                .any(|greeting| !greeting.away && self.is_up(greeting.node))
    }

    /// Whether a node knows that we began a new life. Before, it may take what we
    /// get from it now for what our earlier life got, and forget it.
    pub(super) fn is_greeted(&self, node: u32) -> bool {
        !self
            .greetings
            .iter()
            .any(|greeting| greeting.node == node && greeting.restarted)
    }
}
