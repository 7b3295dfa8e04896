// SPDX-License-Identifier: GPL-2.0

//! Pages of MRSW datasets: acquired and given back.

use super::{
    cells::{cells, ranges},
    opener, spawn, Done,
};
use crate::{
    hotpot::{model::Cell, world::World},
    schedule::Time,
};
use hotpot_core::core::{grants, host::PageKey};

/// The cells of pages that a process may write.
pub(super) fn held(world: &World, node: usize, process: usize) -> Vec<Cell> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let held = |cell: &Cell| core.grants.is_held(opener(process), cell.key);
    cells(&world.plan).into_iter().filter(held).collect()
}

pub(super) fn acquire_some(world: &mut World, node: usize, process: usize, until: Time) {
    let all = cells(&world.plan);
    let mut some: Vec<Cell> = (0..world.rng.range(1..4))
        .map(|_| *world.rng.pick(&all))
        .collect();
    some.sort();
    some.dedup();
    let mut keys: Vec<PageKey> = some.iter().map(|cell| cell.key).collect();
    keys.dedup();
    let ranges = ranges(some.into_iter());
    let wait = world.rng.one_in(2);
    world.trace(format_args!("n{} p{process} acquires {keys:?}", node + 1));
    spawn(world, node, process, |host| async move {
        let acquired = grants::acquire(&host, opener(process), 1, &ranges, wait, until).await;
        Done::Acquire(keys, acquired)
    });
}

pub(super) fn abort_all(world: &mut World, node: usize, process: usize, until: Time) {
    let id = world.nodes[node].id;
    world.model.gives_back(id, process, |_| true);
    world.trace(format_args!("n{id} p{process} aborts"));
    spawn(world, node, process, |host| async move {
        Done::Other(
            "abort",
            grants::abort(&host, opener(process), 1, &[], until).await,
        )
    });
}

/// In an MRSW dataset there is one dirty version of a page at most.
pub(super) fn check_single_writer(world: &World, node: usize, key: PageKey) {
    if !world.plan.mrsw {
        return;
    }
    for other in world
        .nodes
        .iter()
        .filter(|other| other.id != node as u32 + 1)
    {
        let Some(life) = &other.life else {
            continue;
        };
        let core = life.node.borrow();
        // A frozen one is just being committed: no process gets at it.
        let dirty = core
            .pages
            .get(key)
            .is_some_and(|page| page.dirty.is_some() && !page.frozen);
        // Who was declared down and does not know it yet is stopped at the owner.
        assert!(
            !dirty || !core.grants.is_held_here(key) || core.map.epoch <= other.away,
            "nodes {} and {} both write {key:?}",
            node + 1,
            other.id
        );
    }
}
