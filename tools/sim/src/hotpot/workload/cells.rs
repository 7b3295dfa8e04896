// SPDX-License-Identifier: GPL-2.0

//! The cells that processes load and store, and what a node has of them.

use super::{CHUNK, PAGES};
use crate::hotpot::{
    model::Cell,
    world::{Plan, World},
};
use hotpot_core::core::{
    area::ByteRange,
    format::PAGE_BYTES,
    host::{Mapping, PageKey},
};
use std::collections::BTreeMap;

/// Pages of the dataset that the model watches.
pub fn pages(plan: &Plan) -> u64 {
    match plan.wide {
        false => PAGES,
        true => PAGES + next_chunk(plan),
    }
}

/// Pages from a chunk to the next one of the same owner.
fn next_chunk(plan: &Plan) -> u64 {
    let row = if plan.row == 0 { plan.nodes } else { plan.row };
    row as u64 * CHUNK / PAGE_BYTES
}

/// The cells of a world.
pub fn cells(plan: &Plan) -> Vec<Cell> {
    // Pages of several chunks; two or three cells in each.
    let pages = match plan.wide {
        false => [0, 1, 17, 33, 34],
        // Two owners have two of the chunks each.
        true => [0, next_chunk(plan), 17, 33, 34 + next_chunk(plan)],
    };
    let mut cells = Vec::new();
    for (nr, page) in pages.into_iter().enumerate() {
        for offset in [8, 2048, 4088].into_iter().take(2 + nr % 2) {
            cells.push(Cell {
                key: PageKey { dataset: 1, page },
                offset,
            });
        }
    }
    cells
}

/// What the page of a cell is to this node: the offset of its bytes, and whether they are dirty.
pub(super) fn mapped(world: &World, node: usize, cell: Cell) -> Option<Mapping> {
    let life = world.nodes[node].life.as_ref()?;
    let mapped = life.mapped.borrow().get(&cell.key).copied();
    mapped
}

pub(super) fn is_dirty(world: &World, node: usize, key: PageKey) -> bool {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    core.pages.get(key).is_some_and(|page| page.dirty.is_some())
}

/// Dirty cells of a node: those that differ from the clean copy below.
pub(super) fn dirty_cells(world: &World, node: usize) -> BTreeMap<Cell, u64> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let pm = life.pm.borrow();
    let geometry = core.geometry();
    let mut dirty = BTreeMap::new();
    for cell in cells(&world.plan) {
        let Some(copy) = core.pages.get(cell.key).and_then(|page| page.dirty) else {
            continue;
        };
        let load = |page: u64| pm.read_u64(geometry.page(page) as usize + cell.offset as usize);
        let value = load(copy.pm);
        if value != copy.base.map_or(0, load) {
            dirty.insert(cell, value);
        }
    }
    dirty
}

pub(super) fn all_in_dirty_pages(world: &World, node: usize) -> BTreeMap<Cell, u64> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let pm = life.pm.borrow();
    let geometry = core.geometry();
    let mut values = BTreeMap::new();
    for cell in cells(&world.plan) {
        if let Some(copy) = core.pages.get(cell.key).and_then(|page| page.dirty) {
            let at = geometry.page(copy.pm) as usize + cell.offset as usize;
            values.insert(cell, pm.read_u64(at));
        }
    }
    values
}

pub(super) fn ranges(cells: impl Iterator<Item = Cell>) -> Vec<ByteRange> {
    cells
        .map(|cell| ByteRange {
            offset: cell.key.page * PAGE_BYTES + u64::from(cell.offset),
            len: 8,
        })
        .collect()
}
