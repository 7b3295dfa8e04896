// SPDX-License-Identifier: GPL-2.0

//! Address spaces, the map, and what is asked of homes.

use super::super::{
    control::Region,
    op::{Data, Stage},
    peer::{MapNode, Peer},
    request::State,
    space::Space,
    table::Key,
};
use super::{Action, Engine};
use kernel::{prelude::*, siphash};

impl<D: Data> Engine<D> {
    /// Attaches to a RAS. `ENOSPC` when there are too many.
    pub fn add_space(&mut self, ras: u64, key: siphash::Key, shift: u8) -> Result<Key> {
        self.spaces
            .insert(Space::new(ras, key, shift))
            .map_err(|_| ENOSPC)
    }

    /// Detaches. What still runs there ends with `ENOENT`.
    pub fn remove_space(&mut self, space: Key) {
        self.finish_all(ENOENT, |engine, key| {
            engine.ops.get(key).is_some_and(|op| op.new.space == space)
        });
        if let Some(space) = self.spaces.remove(space) {
            self.stale -= usize::from(space.stale);
        }
    }

    /// Bytes of a region of a RAS.
    pub fn region_size(&self, space: Key) -> Option<u64> {
        Some(self.spaces.get(space)?.region_size())
    }

    /// A new map: its memory nodes, in any order.
    pub fn set_map(&mut self, now: u64, epoch: u64, nodes: &[MapNode]) -> Result {
        let new = |this: &Self| {
            nodes
                .iter()
                .filter(|node| this.find(node.id).is_none())
                .count()
        };
        self.peers.reserve(new(self), GFP_ATOMIC)?;
        self.epoch = epoch as u32;
        for node in nodes {
            match self.find(node.id) {
                Some(at) => {
                    if let Some(peer) = self.peers.get_mut(at) {
                        let reborn = peer.node.incarnation != node.incarnation;
                        peer.node = *node;
                        if reborn {
                            self.reroute_all(now, node.id);
                        }
                    }
                }
                None => {
                    let peer = Peer::new(*node, self.config.rtt, self.config.window);
                    let at = self
                        .peers
                        .iter()
                        .take_while(|peer| peer.node.id < node.id)
                        .count();
                    self.peers.insert_within_capacity(at, peer)?;
                }
            }
        }
        let mut at = 0;
        while let Some(peer) = self.peers.get(at) {
            let id = peer.node.id;
            if !nodes.iter().any(|node| node.id == id) {
                self.reroute_all(now, id);
                self.peers.remove(at).map_err(|_| EINVAL)?;
                continue;
            }
            if !peer.node.up {
                self.finish_all(EHOSTDOWN, |engine, key| engine.is_at(key, id));
            }
            at += 1;
        }
        Ok(())
    }

    pub(super) fn find(&self, node: u32) -> Option<usize> {
        self.peers
            .binary_search_by(|peer| peer.node.id.cmp(&node))
            .ok()
    }

    /// Whether an operation has a request at a node.
    fn is_at(&self, op: Key, node: u32) -> bool {
        let Some(op) = self.ops.get(op) else {
            return false;
        };
        let mut next = op.requests.first(&self.requests);
        while let Some(request) = next {
            if self
                .requests
                .get(request)
                .is_some_and(|request| request.node == node)
            {
                return true;
            }
            next = op.requests.after(&self.requests, request);
        }
        false
    }

    fn finish_all(&mut self, error: Error, which: impl Fn(&Self, Key) -> bool) {
        for index in 0..self.ops.end() {
            let Some((key, _)) = self.ops.at(index) else {
                continue;
            };
            if which(self, key) {
                self.finish(key, Err(error));
            }
        }
    }

    /// The requests at a node go where the home says.
    fn reroute_all(&mut self, now: u64, node: u32) {
        for index in 0..self.requests.end() {
            let Some((key, request)) = self.requests.at(index) else {
                continue;
            };
            if request.node == node && request.state != State::Unrouted {
                self.unroute(key, now, false);
            }
        }
    }

    /// The home of a RAS should be asked for its regions.
    pub(super) fn mark_stale(&mut self, space: Key, not_before: u64) {
        let Some(entry) = self.spaces.get_mut(space) else {
            return;
        };
        if entry.asking || entry.stale {
            return;
        }
        entry.stale = true;
        entry.not_before = not_before;
        self.stale += 1;
        self.wake_at(not_before);
    }

    /// What to ask of a home next.
    pub(super) fn next_question(&mut self, now: u64) -> Option<Action<D>> {
        if let Some(key) = self.growing.pop(&mut self.ops) {
            let op = self.ops.get(key)?;
            let space = op.new.space;
            return Some(Action::Grow {
                space,
                ras: self.spaces.get(space)?.ras,
                op: key,
                len: op.new.len,
                not: op.not,
                until: op.new.until,
            });
        }
        if self.stale == 0 {
            return None;
        }
        let due = |space: &Space| space.stale && space.not_before <= now;
        let (key, _) = self.spaces.iter().find(|(_, space)| due(space))?;
        let space = self.spaces.get_mut(key)?;
        space.stale = false;
        space.asking = true;
        self.stale -= 1;
        Some(Action::Ask {
            space: key,
            ras: space.ras,
        })
    }

    /// The home told rows of its table; `whole`: all that it has. Also without
    /// having been asked.
    pub fn learn(&mut self, now: u64, space: Key, regions: &[Region], whole: bool) -> Result {
        let entry = self.spaces.get_mut(space).ok_or(ENOENT)?;
        entry.learn(regions, whole)?;
        if !whole {
            return Ok(());
        }
        entry.asking = false;
        while let Some(request) = self
            .spaces
            .get_mut(space)
            .and_then(|entry| entry.unrouted.pop(&mut self.requests))
        {
            self.reroute(request, now);
        }
        self.wake_asking(space, None);
        Ok(())
    }

    /// The home did not tell. `ENOENT`: there is no such RAS any more; else it is
    /// asked again after a while.
    pub fn no_regions(&mut self, now: u64, space: Key, error: Error) {
        let Some(entry) = self.spaces.get_mut(space) else {
            return;
        };
        entry.asking = false;
        if error == ENOENT || error == EACCES {
            while let Some(request) = self
                .spaces
                .get_mut(space)
                .and_then(|entry| entry.unrouted.pop(&mut self.requests))
            {
                let op = self.requests.get(request).map(|request| request.of);
                self.finish(op.unwrap_or(Key::NONE), Err(ESTALE));
            }
            self.wake_asking(space, Some(ESTALE));
        } else {
            self.mark_stale(space, now.saturating_add(self.config.pause.end));
        }
    }

    /// Operations that waited for the table go on, or end.
    fn wake_asking(&mut self, space: Key, error: Option<Error>) {
        for index in 0..self.ops.end() {
            let Some((key, op)) = self.ops.at(index) else {
                continue;
            };
            if op.stage != Stage::Asking || op.new.space != space {
                continue;
            }
            match error {
                Some(error) => self.finish(key, Err(error)),
                None => {
                    self.change_stage(key, Stage::Running);
                    self.ready.push(&mut self.ops, key);
                }
            }
        }
    }

    /// There is room for an allocation from region `first` on, or not.
    pub fn grown(&mut self, key: Key, result: Result<u32>) {
        let Some(op) = self
            .ops
            .get_mut(key)
            .filter(|op| op.stage == Stage::Growing)
        else {
            return;
        };
        let first = match result {
            Ok(first) => first,
            Err(error) => return self.finish(key, Err(error)),
        };
        op.attempts += 1;
        let (space, len) = (op.new.space, op.new.len);
        let Some(space) = self.spaces.get_mut(space) else {
            return self.finish(key, Err(ENOENT));
        };
        let size = space.region_size();
        space.set_room(first, |_| size);
        if len > size {
            op.base = space.start(first);
            op.cursor = 0;
        } else {
            op.cursor = first.into();
        }
        self.change_stage(key, Stage::Running);
        self.ready.push(&mut self.ops, key);
    }
}
