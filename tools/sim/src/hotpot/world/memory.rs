// SPDX-License-Identifier: GPL-2.0

//! Persistent memory: devices as mkfs makes them, room that is short, bits that flip.

use super::World;
use crate::pm::Pm;
use hotpot_core::core::{
    format::{geometry::Region, superblock, Geometry, Superblock, Timestamp, Uuid, PAGE_SIZE},
    host::{Mapping, PageKey},
};

pub(super) const CLUSTER: Uuid = Uuid([7; 16]);
/// Data pages of each device: little, as its size is most of what a world costs.
pub(super) const PAGES: u64 = 128;

/// As mkfs makes it, but smaller than it would.
fn small_geometry() -> Geometry {
    let mut end = superblock::REGION;
    let mut next = |blocks: u64| {
        let region = Region {
            offset: end,
            len: blocks * PAGE_SIZE as u64,
        };
        end = region.end();
        region
    };
    Geometry {
        records: next(2 * 8),
        commit_descriptors: next(1),
        commit_blocks: next(8),
        log_descriptors: next(1),
        log_blocks: next(24),
        slots: next(PAGES / 64),
        pages: next(PAGES),
    }
}

/// The device of a node, just formatted.
pub(super) fn formatted(id: u32) -> Pm {
    let geometry = small_geometry();
    let superblock = Superblock::new(
        geometry,
        CLUSTER,
        Uuid([id as u8; 16]),
        id as u16,
        Timestamp::default(),
    );
    let mut block = [0; PAGE_SIZE];
    superblock.encode(&mut block);
    let mut pm = Pm::new(geometry.size() as usize);
    pm.persist(0, &block);
    pm.persist(PAGE_SIZE, &block);
    pm
}

impl World {
    /// Takes a copy of a node's device, or puts one in its place while the node is off.
    pub fn device(&self, node: usize) -> std::cell::RefMut<'_, Pm> {
        self.nodes[node].pm.borrow_mut()
    }

    /// Leaves each node so many free pages.
    pub fn leave_room(&mut self, room: u64) {
        self.plan.room = room;
        for index in 0..self.nodes.len() {
            self.reserve_room(index);
        }
    }

    /// Leaves one node so many free pages.
    pub fn leave_room_on(&mut self, node: usize, room: u64) {
        let life = self.nodes[node].life.clone().expect("alive");
        let mut core = life.node.borrow_mut();
        while core.space.free() > room {
            let page = core.space.take();
            self.nodes[node].reserved.extend(page);
        }
    }

    /// Leaves a node with little room.
    pub(super) fn reserve_room(&mut self, index: usize) {
        let (room, sim) = (self.plan.room, &mut self.nodes[index]);
        let Some(life) = &sim.life else {
            return;
        };
        sim.reserved.clear();
        if room != 0 {
            let mut node = life.node.borrow_mut();
            while node.space.free() > room {
                sim.reserved.extend(node.space.take());
            }
        }
    }

    pub(super) fn give_room_back(&mut self) {
        for sim in self.nodes.iter_mut().filter(|sim| !sim.gone) {
            let life = sim.life.as_ref().expect("alive");
            for page in sim.reserved.drain(..) {
                life.node.borrow_mut().space.give(page);
            }
        }
    }

    /// A store of a process that has the page mapped for it.
    pub fn store(&mut self, node: usize, key: PageKey, bytes: &[u8]) {
        let life = self.nodes[node].life.clone().expect("alive");
        let mapping = life.mapped.borrow().get(&key).copied();
        let Some(Mapping::Writable { offset }) = mapping else {
            panic!("{key:?} is not writable");
        };
        life.pm.borrow_mut().store(offset as usize, bytes);
    }

    /// Flips a bit of a node's clean copy of a page: of its slot, or of its data.
    pub fn flip(&mut self, node: usize, key: PageKey, slot: bool) {
        let life = self.nodes[node].life.clone().expect("alive");
        let core = life.node.borrow();
        let clean = core.pages.get(key).and_then(|page| page.clean);
        let pm = clean.and_then(|clean| clean.pm).expect("a copy");
        // In the data where somebody looks: in the first bytes, or in a cell.
        let (at, bytes) = match (slot, self.rng.range(0..4)) {
            (true, _) => (core.geometry().slot(pm), 64),
            (false, 0) => (core.geometry().page(pm) + 2048, 8),
            (false, 1) => (core.geometry().page(pm) + 4088, 8),
            (false, _) => (core.geometry().page(pm), 16),
        };
        let bit = self.rng.range(0..8 * bytes);
        let mut device = self.nodes[node].pm.borrow_mut();
        device.flip((at + bit / 8) as usize, 1 << (bit % 8));
        self.damaged.insert(key);
        for life in self.nodes.iter().filter_map(|node| node.life.as_ref()) {
            life.flipped.set(true);
        }
    }

    /// Damages a copy that nobody just uses: no checksum finds what is flipped under a
    /// process that has it mapped.
    pub(super) fn flip_somewhere(&mut self, index: usize) {
        let Some(life) = self.nodes[index].life.clone() else {
            return;
        };
        let keys: Vec<PageKey> = {
            let core = life.node.borrow();
            let mapped = life.mapped.borrow();
            let idle = core.pages.iter().filter(|(key, page)| {
                let copy = page.clean.is_some_and(|clean| clean.pm.is_some());
                copy && page.dirty.is_none() && !page.is_blocked() && !mapped.contains_key(key)
            });
            idle.map(|(key, _)| *key).collect()
        };
        if !keys.is_empty() {
            let key = *self.rng.pick(&keys);
            self.flip(index, key, false);
        }
    }
}
