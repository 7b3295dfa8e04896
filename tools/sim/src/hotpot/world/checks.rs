// SPDX-License-Identifier: GPL-2.0

//! What must hold, looked at from outside: owners, copies, space, and that nothing is left over.

use super::{life::SimNode, node_of, operations::Role, World};
use crate::{hotpot::workload, schedule::Time};
use hotpot_core::core::{
    cluster::State,
    format::{slot, Superblock, LINE_SIZE, PAGE_SIZE},
    host::PageKey,
    info,
};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// A page has one owner at most that serves it.
    pub fn check_owners(&self) {
        for page in (0..workload::pages(&self.plan)).step_by(16) {
            let key = PageKey { dataset: 1, page };
            let serves = |sim: &&SimNode| {
                sim.life.as_ref().is_some_and(|life| {
                    let core = life.node.borrow();
                    // Who is cut off the epoch stops.
                    core.map.epoch > sim.away && core.map.epoch == self.epoch && core.serves(key)
                })
            };
            let owners: Vec<u32> = self.nodes.iter().filter(serves).map(|sim| sim.id).collect();
            assert!(owners.len() <= 1, "{key:?} has owners {owners:?}");
        }
    }

    /// How many nodes hold durably what a commit made of `key`, or held it when they were lost
    /// while it ran, which was from `begun`; `None` when newer versions have taken its place.
    pub fn durable_copies(&self, key: PageKey, cid: u64, begun: Time) -> Option<usize> {
        let mut versions = Vec::new();
        let counts = |node: &&SimNode| !node.gone || node.gone_at >= begun;
        for node in self.nodes.iter().filter(counts) {
            let pm = node.pm.borrow();
            let image = pm.image();
            let geometry = Superblock::decode(&image[..PAGE_SIZE])
                .or_else(|_| Superblock::decode(&image[PAGE_SIZE..2 * PAGE_SIZE]))
                .expect("a superblock")
                .geometry;
            let mut best = None;
            // Allocation is from the front: behind a long row of free slots is nothing.
            let mut free = 0;
            for pm_page in 0..geometry.nr_pages() {
                let at = geometry.slot(pm_page) as usize;
                match slot::Slot::decode(pm_page, &image[at..at + LINE_SIZE]) {
                    Ok(Some((_, slot)))
                        if (slot.of.dataset, slot.of.page) == (key.dataset, key.page) =>
                    {
                        let data = geometry.page(pm_page) as usize;
                        let data = &image[data..data + PAGE_SIZE];
                        let good = hotpot_core::core::format::crc32c(data) == slot.data_crc;
                        assert!(
                            good || self.damaged.contains(&key),
                            "a torn copy of {key:?}"
                        );
                        best = best.max(Some((slot.of.version, slot.of.cid.0)));
                        free = 0;
                    }
                    Ok(None) => free += 1,
                    _ => free = 0,
                }
                if self.plan.room == 0 && free > 256 {
                    break;
                }
            }
            versions.extend(best);
        }
        let version = versions
            .iter()
            .find(|(_, of)| *of == cid)
            .map(|(version, _)| *version)?;
        Some(versions.iter().filter(|(v, _)| *v >= version).count())
    }

    /// How many nodes have the newest committed version of a page on their PM.
    pub fn committed_copies(&self, key: PageKey) -> usize {
        let mut versions = Vec::new();
        for node in self.nodes.iter().filter(|node| !node.gone) {
            let life = node.life.as_ref().expect("alive");
            let geometry = life.node.borrow().geometry();
            let device = node.pm.borrow();
            let slots = (0..geometry.nr_pages()).filter_map(|pm| {
                let line = device.read(geometry.slot(pm) as usize, LINE_SIZE);
                match slot::Slot::decode(pm, line) {
                    Ok(Some((slot::State::Committed, found))) => Some(found.of),
                    _ => None,
                }
            });
            let theirs = slots.filter(|of| (of.dataset, of.page) == (key.dataset, key.page));
            versions.extend(theirs.map(|of| of.version).max());
        }
        let newest = versions.iter().max().copied();
        versions.iter().filter(|of| Some(**of) == newest).count()
    }

    /// Whether the map has a node down that will be back, or somebody does not have the map yet.
    /// Chunks that move by themselves move meanwhile, and who is down does not hear of it.
    fn is_map_on_its_way(&self) -> bool {
        let mut peers = self.peers.values();
        let mut lives = self
            .nodes
            .iter()
            .filter(|node| !node.deaf)
            .filter_map(|node| node.life.as_ref());
        peers.any(|peer| peer.state == State::Down)
            || lives.any(|life| life.node.borrow().map.epoch != self.epoch)
    }

    /// Whether nothing is in flight or in doubt.
    pub fn is_at_rest(&self) -> bool {
        let quiet = self
            .ops
            .values()
            .all(|op| matches!(op.role, Role::Worker) && op.ticket.is_some());
        quiet
            && !self.is_map_on_its_way()
            && self
                .nodes
                .iter()
                .all(|node| node.gone || node.ready && node.leaks().is_none())
    }

    /// Panics when something is left over, or nodes do not agree about names.
    pub fn check_at_rest(&self) {
        for (id, op) in &self.ops {
            let role = match op.role {
                Role::Worker => continue,
                Role::Handler { .. } => "a handler",
                Role::Process(_) => "a process",
                Role::Map | Role::Mount => "a map or mount",
            };
            panic!(
                "operation {id} on n{} never ended: {role}",
                node_of(op.node)
            );
        }
        let mut names = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| !node.gone) {
            if let Some(leak) = node.leaks() {
                panic!("n{}: {leak}", node.id);
            }
            node.check_space();
            let life = node.life.as_ref().expect("alive");
            let core = life.node.borrow();
            let mut id = 0;
            let mut all = Vec::new();
            while let Some(record) = core.names.after(id) {
                id = record.id;
                all.push((id, record.size, record.generation, record.name));
            }
            names.insert(all);
            assert!(core.grants.is_empty(), "n{} holds grants", node.id);
            let writers: Vec<_> = core.writers.iter().collect();
            assert!(writers.is_empty(), "n{} has writers: {writers:?}", node.id);
        }
        self.check_same_bytes();
        assert_eq!(names.len(), 1, "nodes disagree about names: {names:?}");
    }
}

impl World {
    /// What a commit made of a page is the same on every node.
    fn check_same_bytes(&self) {
        let mut made = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| !node.gone) {
            let life = node.life.as_ref().expect("alive");
            let core = life.node.borrow();
            let device = node.pm.borrow();
            for (key, page) in core.pages.iter() {
                let Some(pm) = page.clean.and_then(|clean| clean.pm) else {
                    continue;
                };
                let line = device.read(core.geometry().slot(pm) as usize, LINE_SIZE);
                let Ok(Some((_, found))) = slot::Slot::decode(pm, line) else {
                    continue;
                };
                let of = (*key, found.of.version, found.of.cid.0);
                let first = *made.entry(of).or_insert((node.id, found.data_crc));
                assert_eq!(
                    first.1, found.data_crc,
                    "n{} and n{} have other bytes of {of:?}",
                    first.0, node.id
                );
            }
        }
    }
}

impl SimNode {
    /// What is left in flight or in doubt in the core.
    pub fn leaks(&self) -> Option<String> {
        self.life
            .as_ref()?
            .node
            .borrow()
            .left_over()
            .map(|(what, cid)| format!("{what} ({cid:#x})"))
    }

    /// Every used PM page belongs to somebody, and slots on the device say the same.
    fn check_space(&self) {
        let life = self.life.as_ref().expect("alive");
        let node = life.node.borrow();
        let mut used = BTreeSet::new();
        let mut clean = BTreeSet::new();
        for (key, page) in node.pages.iter() {
            let dirty = page
                .dirty
                .iter()
                .flat_map(|dirty| [Some(dirty.pm), dirty.base.filter(|_| dirty.owns_base)]);
            let copies = page.clean.and_then(|clean| clean.pm);
            for pm in dirty.flatten().chain(copies) {
                assert!(used.insert(pm), "PM page {pm} is used twice, by {key:?}");
            }
            clean.extend(copies);
        }
        let room = info::room(&node);
        let lost: Vec<u64> = (0..room.pages)
            .filter(|pm| node.space.is_used(*pm) != used.contains(pm))
            .collect();
        assert!(lost.is_empty(), "n{}: PM pages {lost:?} are lost", self.id);
        let geometry = node.geometry();
        let pm = self.pm.borrow();
        for pm_page in 0..room.pages {
            let at = geometry.slot(pm_page) as usize;
            let found = slot::Slot::decode(pm_page, pm.read(at, LINE_SIZE)).expect("intact");
            assert_eq!(
                found.is_some(),
                clean.contains(&pm_page),
                "n{}: slot of PM page {pm_page}: {found:?}",
                self.id
            );
        }
    }
}
