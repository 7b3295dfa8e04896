// SPDX-License-Identifier: GPL-2.0

//! Commits, syncs and writes of cells, as the model hears of them.

use super::{
    cells::{all_in_dirty_pages, dirty_cells, ranges},
    opener, spawn,
    writers::held,
    Done,
};
use crate::{
    hotpot::{
        model::{Cell, End},
        world::World,
    },
    schedule::Time,
};
use hotpot_core::core::{
    area::ByteRange,
    commit,
    format::{Timestamp, PAGE_BYTES},
};
use kernel::error::{code::EINPROGRESS, Result};
use std::collections::BTreeMap;

pub(super) fn commit_some(world: &mut World, node: usize, process: usize, until: Time) {
    let mut values = all_in_dirty_pages(world, node);
    if world.plan.mrsw {
        let held = held(world, node, process);
        values.retain(|cell, _| held.contains(cell));
    }
    values.retain(|_, _| !world.rng.one_in(3));
    if values.is_empty() {
        return world.next_step(node, process);
    }
    let replicas = match world.plan.loss {
        true => world.plan.copies() * world.rng.range(0..2) as u32,
        false => world.rng.range(0..4) as u32,
    };
    commit_values(world, node, process, values, replicas, until);
}

/// Begins a commit of cells in dirty pages; its attempt.
pub fn commit_cells(
    world: &mut World,
    node: usize,
    process: usize,
    cells: &[Cell],
    until: Time,
) -> usize {
    let mut values = all_in_dirty_pages(world, node);
    values.retain(|cell, _| cells.contains(cell));
    assert_eq!(values.len(), cells.len(), "in dirty pages");
    commit_values(world, node, process, values, 0, until)
}

fn commit_values(
    world: &mut World,
    node: usize,
    process: usize,
    values: BTreeMap<Cell, u64>,
    replicas: u32,
    until: Time,
) -> usize {
    let now = world.now();
    let id = world.nodes[node].id;
    let cells: Vec<Cell> = values.keys().copied().collect();
    let ranges = ranges(cells.iter().copied());
    // What nobody stored here since the page was clean may change under the commit.
    let dirty = dirty_cells(world, node);
    let (stored, below) = values
        .clone()
        .into_iter()
        .partition(|(cell, _)| dirty.contains_key(cell));
    let attempt = world.model.begin(id, now, stored);
    world
        .model
        .gives_back(id, process, |key| cells.iter().any(|cell| cell.key == *key));
    let model = &mut world.model.attempts[attempt];
    model.named.extend(cells.iter().copied());
    model.late.extend::<BTreeMap<_, _>>(below);
    world.trace(format_args!(
        "n{id} commits {values:?} to {replicas} (attempt {attempt})"
    ));
    spawn(world, node, process, |host| async move {
        let committed = commit::commit(&host, opener(process), 1, &ranges, replicas, until).await;
        Done::Commit(attempt, cells, committed, replicas)
    });
    attempt
}

pub(super) fn sync_all(world: &mut World, node: usize, process: usize, until: Time) {
    let mut values = dirty_cells(world, node);
    if world.plan.mrsw {
        let held = held(world, node, process);
        values.retain(|cell, _| held.contains(cell));
    }
    let now = world.now();
    let id = world.nodes[node].id;
    world.model.gives_back(id, process, |_| true);
    let cells: Vec<Cell> = values.keys().copied().collect();
    let attempt = world.model.begin(id, now, values);
    world.trace(format_args!("n{id} syncs (attempt {attempt})"));
    spawn(world, node, process, |host| async move {
        let all = ByteRange {
            offset: 0,
            len: u64::MAX,
        };
        let committed = commit::sync(&host, opener(process), 1, all, until).await;
        Done::Commit(attempt, cells, committed, 0)
    });
}

pub(super) fn write_cell(world: &mut World, node: usize, process: usize, cell: Cell, until: Time) {
    let value = world.model.value();
    let now = world.now();
    let id = world.nodes[node].id;
    let attempt = world.model.begin_write(id, now, cell, value);
    world.trace(format_args!("n{id} writes {value} to {cell:?}"));
    spawn(world, node, process, |host| async move {
        let offset = cell.key.page * PAGE_BYTES + u64::from(cell.offset);
        let bytes = value.to_le_bytes();
        let time = Timestamp::default();
        let result = commit::write(&host, opener(process), 1, offset, &bytes, time, until).await;
        Done::Write(attempt, result)
    });
}

/// What commits that run on a node may find: an earlier one that ends brings the dirty copies up
/// to the newest version that the node has, bytes included that nobody stored there.
pub fn look_at_copies(world: &mut World, node: usize) {
    let id = world.nodes[node].id;
    if !world.model.awaits_copies(id) {
        return;
    }
    for (cell, value) in all_in_dirty_pages(world, node) {
        let life = world.nodes[node].life.as_ref().expect("alive");
        let frozen = {
            let core = life.node.borrow();
            core.pages.get(cell.key).is_some_and(|page| page.frozen)
        };
        if !frozen {
            world.model.found(id, cell, value);
        }
    }
}

pub(super) fn end_of(result: Result, now: Time) -> End {
    match result {
        Ok(()) => End::Acked(now),
        Err(EINPROGRESS) => End::Unknown,
        Err(_) => End::Failed,
    }
}
