// SPDX-License-Identifier: GPL-2.0

//! Processes that load, store, commit and change names at random.

use self::{
    cells::mapped,
    checks::{check_copies, checked},
    commits::{commit_some, end_of, sync_all, write_cell},
    naming::change_names,
    writers::{abort_all, acquire_some, check_single_writer, held},
};
use crate::{
    hotpot::{
        host::SimHost,
        model::Cell,
        world::{SimNode, World},
    },
    schedule::{Time, MS},
};
use hotpot_core::core::{
    barrier,
    cluster::State,
    commit::Committed,
    fault::{self, Access},
    format::{Timestamp, PAGE_BYTES},
    grants::Opener,
    host::{Mapping, PageKey},
    names::{self, NewDataset},
};
use kernel::error::{code::EINPROGRESS, Result};
use std::future::Future;

mod cells;
mod checks;
mod commits;
mod naming;
mod outcomes;
mod writers;

pub use cells::{cells, pages};
pub use checks::{check_degree, check_end};
pub use commits::{commit_cells, look_at_copies};
pub use outcomes::check_outcomes;

/// Bytes of a chunk in these worlds: 16 pages.
pub const CHUNK: u64 = 64 << 10;
/// Pages of the dataset that the model watches, when it is not wide.
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

/// Makes the dataset and the processes, before the work begins.
pub fn prepare(world: &mut World) {
    let new = NewDataset {
        uid: 0,
        gid: 0,
        permissions: 0o600,
        replicas: match world.plan.loss {
            true => world.plan.copies(),
            false => world.rng.range(1..3).min(world.nodes.len() as u64) as u32,
        },
        mode: if world.plan.mrsw { 2 } else { 1 },
        chunk_size: CHUNK,
        reserve: 1 << 30,
        time: Timestamp::default(),
    };
    if world.plan.row != 0 {
        world.have_first_only(world.plan.row);
    }
    let until = world.now() + 400 * MS;
    for node in &mut world.nodes {
        for _ in 0..world.plan.processes {
            node.processes.push(Process::default());
        }
    }
    let life = world.nodes[0].life.clone().expect("alive");
    let size = pages(&world.plan) * PAGE_BYTES;
    world.begin_process(0, 0, async move {
        let host = SimHost(life);
        let made = async {
            let id = names::create(&host, NAME, &new, until).await?;
            assert_eq!(id, 1);
            let time = Timestamp::default();
            names::extend(&host, id, size, time, until).await
        };
        Done::Other("create", made.await)
    });
    let known = |node: &SimNode| {
        let life = node.life.as_ref().expect("alive");
        let core = life.node.borrow();
        core.names.get(1).is_ok_and(|record| record.size != 0)
    };
    if world.plan.row != 0 {
        let made = |world: &World| world.nodes.iter().take(world.plan.row).all(known);
        world.run_until(until, made);
        assert!(made(world), "the dataset is there");
        for node in world.plan.row..world.nodes.len() {
            world.declare(node, State::Up);
        }
    }
    let before = |world: &World| world.nodes.iter().all(known);
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

/// The open file through which a process commits.
pub fn opener(process: usize) -> Opener {
    // Numbers that the mount does not come to.
    Opener((1 << 40) + process as u64)
}

/// A process does the next thing.
pub fn step(world: &mut World, node: usize, process: usize) {
    let mut cells = cells(&world.plan);
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

fn loaded(world: &mut World, node: usize, cell: Cell, value: u64) {
    world.trace(format_args!("n{} loads {value} of {cell:?}", node + 1));
    let now = world.now();
    checked(world, node, cell, value, now);
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
            world.model.attempts[attempt].cid = committed.cid.0;
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
