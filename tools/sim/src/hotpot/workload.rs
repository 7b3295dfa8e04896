// SPDX-License-Identifier: GPL-2.0

//! Processes that load, store, commit and change names at random.

use super::{
    host::SimHost,
    model::{Cell, End},
    world::World,
};
use crate::schedule::{Time, MS};
use hotpot_core::core::{
    area::ByteRange,
    barrier,
    commit::{self, Committed},
    fault::{self, Access},
    format::{crc32c, slot, Timestamp, LINE_SIZE, PAGE_BYTES},
    grants::{self, Opener},
    host::{Mapping, PageKey},
    names::{self, Change, NewDataset},
};
use kernel::error::{code::*, Result};
use std::{collections::BTreeMap, future::Future};

/// Bytes of a chunk in these worlds: 16 pages.
pub const CHUNK: u64 = 64 << 10;
/// Pages of the dataset that the model watches.
pub const PAGES: u64 = 48;
/// Its name.
pub const NAME: &[u8] = b"cells";

/// What a process' operation came to.
pub enum Done {
    /// A fault.
    Fault(Result),
    /// A commit or sync, as the model knows it, of `0` cells at least.
    Commit(usize, Vec<Cell>, Committed, u32),
    /// A write, as the model knows it.
    Write(usize, Result),
    /// Pages were acquired.
    Acquire(Vec<PageKey>, Result),
    /// A read of a cell.
    Read(Cell, Time, Result<u64>),
    /// Something else.
    Other(&'static str, Result),
}

/// A process.
#[derive(Default)]
pub struct Process {
    /// What it does when its fault is resolved.
    then: Option<Then>,
}

impl Process {
    /// Its node crashed.
    pub fn crashed(&mut self) {
        self.then = None;
    }
}

#[derive(Clone, Copy)]
enum Then {
    Load(Cell),
    Store(Cell, u64),
}

/// The cells of a world.
pub fn cells() -> Vec<Cell> {
    // Pages of several chunks; two or three cells in each.
    let pages = [0, 1, 17, 33, 34];
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

/// Makes the dataset and the processes, before the work begins.
pub fn prepare(world: &mut World) {
    let new = NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas: match world.plan.loss {
            true => 2,
            false => world.rng.range(1..3).min(world.nodes.len() as u64) as u32,
        },
        mode: if world.plan.mrsw { 2 } else { 1 },
        chunk_size: CHUNK,
        reserve: 1 << 30,
        time: Timestamp::default(),
    };
    let until = world.now() + 400 * MS;
    for node in &mut world.nodes {
        for _ in 0..world.plan.processes {
            node.processes.push(Process::default());
        }
    }
    let life = world.nodes[0].life.clone().expect("alive");
    world.begin_process(0, 0, async move {
        let host = SimHost(life);
        let made = async {
            let id = names::create(&host, NAME, &new, until).await?;
            assert_eq!(id, 1);
            let time = Timestamp::default();
            names::extend(&host, id, PAGES * PAGE_BYTES, time, until).await
        };
        Done::Other("create", made.await)
    });
    let before = |world: &World| {
        world.nodes.iter().all(|node| {
            let life = node.life.as_ref().expect("alive");
            let core = life.node.borrow();
            core.names.get(1).is_ok_and(|record| record.size != 0)
        })
    };
    world.run_until(until, before);
    assert!(before(world), "the dataset is there");
}

fn spawn<F: Future<Output = Done> + 'static>(
    world: &mut World,
    node: usize,
    process: usize,
    operation: impl FnOnce(SimHost) -> F,
) {
    let life = world.nodes[node].life.clone().expect("alive");
    world.begin_process(node, process, operation(SimHost(life)));
}

/// What the page of a cell is to this node: the offset of its bytes, and whether they are dirty.
fn mapped(world: &World, node: usize, cell: Cell) -> Option<Mapping> {
    let life = world.nodes[node].life.as_ref()?;
    let mapped = life.mapped.borrow().get(&cell.key).copied();
    mapped
}

fn is_dirty(world: &World, node: usize, key: PageKey) -> bool {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    core.pages.get(key).is_some_and(|page| page.dirty.is_some())
}

/// Dirty cells of a node: those that differ from the clean copy below.
fn dirty_cells(world: &World, node: usize) -> BTreeMap<Cell, u64> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let pm = life.pm.borrow();
    let geometry = core.geometry();
    let mut dirty = BTreeMap::new();
    for cell in cells() {
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

fn all_in_dirty_pages(world: &World, node: usize) -> BTreeMap<Cell, u64> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let pm = life.pm.borrow();
    let geometry = core.geometry();
    let mut values = BTreeMap::new();
    for cell in cells() {
        if let Some(copy) = core.pages.get(cell.key).and_then(|page| page.dirty) {
            let at = geometry.page(copy.pm) as usize + cell.offset as usize;
            values.insert(cell, pm.read_u64(at));
        }
    }
    values
}

/// The open file through which a process commits.
pub fn opener(process: usize) -> Opener {
    // Numbers that the mount does not come to.
    Opener((1 << 40) + process as u64)
}

/// The cells of pages that a process may write.
fn held(world: &World, node: usize, process: usize) -> Vec<Cell> {
    let life = world.nodes[node].life.as_ref().expect("alive");
    let core = life.node.borrow();
    let held = |cell: &Cell| core.grants.is_held(opener(process), cell.key);
    cells().into_iter().filter(held).collect()
}

fn acquire_some(world: &mut World, node: usize, process: usize, until: Time) {
    let all = cells();
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

fn abort_all(world: &mut World, node: usize, process: usize, until: Time) {
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

/// A process does the next thing.
pub fn step(world: &mut World, node: usize, process: usize) {
    let mut cells = cells();
    let until = world.now() + world.rng.range(5..60) * MS;
    if world.plan.mrsw {
        let held = held(world, node, process);
        let want = if held.is_empty() { 2 } else { 8 };
        if world.rng.one_in(want) {
            return acquire_some(world, node, process, until);
        }
        if world.rng.one_in(20) {
            return abort_all(world, node, process, until);
        }
        if !held.is_empty() && world.rng.one_in(2) {
            cells = held;
        }
    }
    let cell = *world.rng.pick(&cells);
    match world.rng.range(0..100) {
        0..=29 => access(world, node, process, Then::Load(cell), until),
        30..=59 => {
            let value = world.model.value();
            access(world, node, process, Then::Store(cell, value), until);
        }
        60..=79 => commit_some(world, node, process, until),
        80..=84 => sync_all(world, node, process, until),
        85..=89 => write_cell(world, node, process, cell, until),
        90..=93 => read_cell(world, node, process, cell, until),
        94..=97 => change_names(world, node, process, until),
        _ => {
            let count = world.rng.range(1..4) as u32;
            spawn(world, node, process, |host| async move {
                Done::Other("barrier", barrier::meet(&host, b"here", count, until).await)
            });
        }
    }
}

fn access(world: &mut World, node: usize, process: usize, then: Then, until: Time) {
    let (cell, access) = match then {
        Then::Load(cell) => (cell, Access::Read),
        Then::Store(cell, _) => (cell, Access::Write),
    };
    if perform(world, node, then) {
        return world.next_step(node, process);
    }
    world.nodes[node].processes[process].then = Some(then);
    spawn(world, node, process, |host| async move {
        Done::Fault(fault::fault(&host, cell.key, access, until).await)
    });
}

/// Executes a load or store if the page tables let it.
fn perform(world: &mut World, node: usize, then: Then) -> bool {
    let cell = match then {
        Then::Load(cell) | Then::Store(cell, _) => cell,
    };
    let Some(mapping) = mapped(world, node, cell) else {
        return false;
    };
    let pm = world.nodes[node].pm.clone();
    match (then, mapping) {
        (Then::Load(_), Mapping::Zeros) => loaded(world, node, cell, 0),
        (Then::Load(_), Mapping::ReadOnly { offset } | Mapping::Writable { offset }) => {
            let value = pm.borrow().read_u64(offset as usize + cell.offset as usize);
            loaded(world, node, cell, value);
        }
        (Then::Store(_, value), Mapping::Writable { offset }) => {
            world.trace(format_args!("n{} stores {value} to {cell:?}", node + 1));
            check_single_writer(world, node, cell.key);
            let id = world.nodes[node].id;
            world.model.stored(id, cell, value);
            pm.borrow_mut()
                .store_u64(offset as usize + cell.offset as usize, value);
        }
        (Then::Store(..), _) => return false,
    }
    true
}

/// In an MRSW dataset there is one dirty version of a page at most.
fn check_single_writer(world: &World, node: usize, key: PageKey) {
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

fn loaded(world: &mut World, node: usize, cell: Cell, value: u64) {
    world.trace(format_args!("n{} loads {value} of {cell:?}", node + 1));
    let now = world.now();
    checked(world, node, cell, value, now);
}

/// A value was read; of a dirty page it is the node's own business.
fn checked(world: &mut World, node: usize, cell: Cell, value: u64, begun: Time) {
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

fn ranges(cells: impl Iterator<Item = Cell>) -> Vec<ByteRange> {
    cells
        .map(|cell| ByteRange {
            offset: cell.key.page * PAGE_BYTES + u64::from(cell.offset),
            len: 8,
        })
        .collect()
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

fn commit_some(world: &mut World, node: usize, process: usize, until: Time) {
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
        true => 2 * world.rng.range(0..2) as u32,
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

fn sync_all(world: &mut World, node: usize, process: usize, until: Time) {
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

fn write_cell(world: &mut World, node: usize, process: usize, cell: Cell, until: Time) {
    let value = world.model.value();
    let now = world.now();
    let id = world.nodes[node].id;
    let attempt = world.model.begin(id, now, BTreeMap::from([(cell, value)]));
    world.trace(format_args!("n{id} writes {value} to {cell:?}"));
    spawn(world, node, process, |host| async move {
        let offset = cell.key.page * PAGE_BYTES + u64::from(cell.offset);
        let bytes = value.to_le_bytes();
        let time = Timestamp::default();
        let result = commit::write(&host, opener(process), 1, offset, &bytes, time, until).await;
        Done::Write(attempt, result)
    });
}

/// Begins a read(2) of a cell.
pub fn read_cell(world: &mut World, node: usize, process: usize, cell: Cell, until: Time) {
    let begun = world.now();
    spawn(world, node, process, |host| async move {
        let mut bytes = [0; 8];
        let offset = cell.key.page * PAGE_BYTES + u64::from(cell.offset);
        let result = fault::read(&host, 1, offset, &mut bytes, until).await;
        Done::Read(cell, begun, result.map(|_| u64::from_le_bytes(bytes)))
    });
}

fn change_names(world: &mut World, node: usize, process: usize, until: Time) {
    let names: [&'static [u8]; 3] = [b"one", b"two", b"three"];
    let name = *world.rng.pick(&names);
    let other = *world.rng.pick(&names);
    let kind = world.rng.range(0..5);
    let size = world.rng.range(0..40) * 1000;
    spawn(world, node, process, |host| async move {
        let time = Timestamp::default();
        let new = NewDataset {
            uid: 0,
            gid: 0,
            permissions: 0o600,
            replicas: 1,
            mode: 0,
            chunk_size: CHUNK,
            reserve: 1 << 20,
            time,
        };
        use hotpot_core::core::host::Host;
        let id = host.with(|node| node.names.lookup(name).map(|record| record.id));
        let result = match (kind, id) {
            (0, _) => names::create(&host, name, &new, until).await.map(|_| ()),
            (1, _) => names::unlink(&host, name, time, until).await,
            (2, _) => names::rename(&host, name, other, true, time, until).await,
            (3, Some(id)) => {
                let change = Change {
                    size: Some(size),
                    ..Change::default()
                };
                names::change(&host, id, &change, until).await
            }
            (_, Some(id)) => {
                commit::write(&host, opener(process), id, size, &[1; 5000], time, until).await
            }
            _ => Ok(()),
        };
        Done::Other("names", result)
    });
}

/// An operation of a process has ended.
pub fn done(world: &mut World, node: usize, process: usize, done: Done) {
    let now = world.now();
    match done {
        Done::Fault(result) => {
            let then = world.nodes[node].processes[process].then.take();
            if let (Ok(()), Some(then)) = (result, then) {
                perform(world, node, then);
            }
        }
        Done::Commit(attempt, cells, committed, replicas) => {
            world.trace(format_args!("attempt {attempt}: {committed:?}"));
            world.model.end(attempt, end_of(committed.result, now));
            if committed.result == Ok(()) && committed.cid.0 != 0 {
                let begun = world.model.attempts[attempt].begun;
                check_copies(world, &cells, committed.cid.0, begun, replicas);
            }
        }
        Done::Write(attempt, result) => {
            world.trace(format_args!("attempt {attempt} (write): {result:?}"));
            if result == Err(EINPROGRESS) {
                // It is told to abort what it has there.
                let id = world.nodes[node].id;
                world.model.gives_back(id, process, |_| true);
            }
            // It tries again after conflicts: each try is all or nothing.
            world.model.end(attempt, end_of(result, now));
        }
        Done::Acquire(keys, result) => {
            world.trace(format_args!(
                "n{} p{process} acquired: {result:?}",
                node + 1
            ));
            let life = world.nodes[node].life.as_ref().expect("alive");
            let epoch = life.node.borrow().map.epoch;
            if result.is_ok() && epoch > world.nodes[node].away {
                let id = world.nodes[node].id;
                world.model.acquired(id, process, &keys);
            }
        }
        Done::Read(cell, begun, result) => {
            if let Ok(value) = result {
                world.trace(format_args!("n{} reads {value} of {cell:?}", node + 1));
                checked(world, node, cell, value, begun);
            }
        }
        Done::Other(what, result) => {
            world.trace(format_args!("n{}: {what}: {result:?}", node + 1));
        }
    }
    if world.working {
        world.next_step(node, process);
    }
}

fn end_of(result: Result, now: Time) -> End {
    match result {
        Ok(()) => End::Acked(now),
        Err(EINPROGRESS) => End::Unknown,
        Err(_) => End::Failed,
    }
}

fn check_copies(world: &World, cells: &[Cell], cid: u64, begun: Time, asked: u32) {
    let degree = |node: &super::world::SimNode| {
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
    for cell in cells() {
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
        for cell in cells() {
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
