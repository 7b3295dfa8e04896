// SPDX-License-Identifier: GPL-2.0

//! What is checked of cells: what a read may find, copies after a commit, and everything at the end.

use super::{
    cells::{cells, is_dirty},
    spawn, Done,
};
use crate::{
    hotpot::{
        model::Cell,
        world::{SimNode, World},
    },
    schedule::{Time, MS},
};
use hotpot_core::core::{
    fault,
    format::{crc32c, slot, LINE_SIZE, PAGE_BYTES},
    host::PageKey,
};
use kernel::error::code::EIO;
use std::collections::BTreeMap;

/// A value was read; of a dirty page it is the node's own business.
pub(super) fn checked(world: &mut World, node: usize, cell: Cell, value: u64, begun: Time) {
    let sim = &world.nodes[node];
    let epoch = sim
        .life
        .as_ref()
        .map_or(0, |life| life.node.borrow().map.epoch);
    if epoch <= sim.away || is_dirty(world, node, cell.key) {
        return;
    }
    let now = world.now();
    let id = world.nodes[node].id;
    world.model.read(id, cell, value, begun, now);
}

pub(super) fn check_copies(world: &World, cells: &[Cell], cid: u64, begun: Time, asked: u32) {
    let degree = |node: &SimNode| {
        let core = node.life.as_ref()?.node.borrow();
        core.names.get(1).ok().map(|record| record.replicas)
    };
    let replicas = match asked {
        0 => world.nodes.iter().find_map(degree).unwrap_or(1),
        asked => asked,
    };
    for cell in cells {
        if let Some(copies) = world.durable_copies(cell.key, cid, begun) {
            assert!(
                copies >= replicas as usize,
                "{copies} durable copies of {cell:?} after commit {cid:#x}"
            );
        }
    }
}

/// Some time after everything has come to rest each page has as many copies as it is to have.
pub fn check_degree(world: &mut World) {
    world.pass(8000 * MS);
    let degree = {
        let alive: Vec<_> = world.nodes.iter().filter(|node| !node.gone).collect();
        let life = alive[0].life.as_ref().expect("alive");
        let core = life.node.borrow();
        let replicas = core.names.get(1).map_or(1, |record| record.replicas);
        (replicas as usize).min(alive.len())
    };
    for cell in cells(&world.plan) {
        let copies = world.committed_copies(cell.key);
        assert!(
            copies == 0 || copies >= degree || world.damaged.contains(&cell.key),
            "{copies} copies of {cell:?}, not {degree}"
        );
    }
}

/// A page that cannot be read: no node may have a good copy of its owner's version.
fn check_lost(world: &World, node: usize, key: PageKey) {
    let version_at = |index: usize| {
        let life = world.nodes[index].life.as_ref()?;
        let core = life.node.borrow();
        let clean = core.pages.get(key)?.clean?;
        let (pm, geometry) = (clean.pm?, core.geometry());
        let device = life.pm.borrow();
        let line = device.read(geometry.slot(pm) as usize, LINE_SIZE);
        let slot = slot::Slot::decode(pm, line).ok()??.1;
        let data = device.read(geometry.page(pm) as usize, PAGE_BYTES as usize);
        Some((clean.version, crc32c(data) == slot.data_crc))
    };
    let owner = {
        let life = world.nodes[node].life.as_ref().expect("alive");
        let owner = life.node.borrow().owner(key).expect("it exists");
        owner as usize - 1
    };
    let (version, good) = version_at(owner).expect("the owner has a copy");
    assert!(
        !good,
        "{key:?} cannot be read, and its owner's copy is good"
    );
    for index in 0..world.nodes.len() {
        assert_ne!(
            version_at(index),
            Some((version, true)),
            "{key:?} cannot be read, and n{} has a good copy",
            index + 1
        );
    }
}

/// Reads all cells on all nodes, after the end: they must agree, and keep what was promised.
pub fn check_end(world: &mut World) {
    let mut values: BTreeMap<Cell, u64> = BTreeMap::new();
    let nr = world.nodes.len();
    let results = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let until = world.now() + 2000 * MS;
    for node in 0..nr {
        if world.nodes[node].gone {
            continue;
        }
        for cell in cells(&world.plan) {
            if is_dirty(world, node, cell.key) {
                continue;
            }
            let results = results.clone();
            let begun = world.now();
            spawn(world, node, 0, |host| async move {
                let mut bytes = [0; 8];
                let offset = cell.key.page * PAGE_BYTES + u64::from(cell.offset);
                let read = fault::read(&host, 1, offset, &mut bytes, until).await;
                let value = u64::from_le_bytes(bytes);
                results.borrow_mut().push((node, cell, begun, read, value));
                Done::Other("final read", read.map(|_| ()))
            });
        }
    }
    world.run_until(until, World::is_at_rest);
    for (node, cell, begun, read, value) in results.borrow().iter() {
        if *read == Err(EIO) && world.damaged.contains(&cell.key) {
            // An error, not wrong bytes; whether that must be, `check_lost` says.
            check_lost(world, *node, cell.key);
            continue;
        }
        assert_eq!(
            *read,
            Ok(8),
            "n{} cannot read {cell:?} in the end",
            node + 1
        );
        let now = world.now();
        world
            .model
            .read(*node as u32 + 1, *cell, *value, *begun, now);
        let before = values.insert(*cell, *value);
        assert!(
            before.is_none_or(|before| before == *value),
            "nodes disagree about {cell:?}: {before:?} and {value}"
        );
    }
    world.model.check_all_or_nothing(&values);
}
