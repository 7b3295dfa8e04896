// SPDX-License-Identifier: GPL-2.0

//! What was promised to processes, and whether what they read keeps it.
//!
//! Processes store values that never repeat into *cells*, 8 aligned bytes of a page.
//! An *attempt* is a commit of some cells' values. From its result and the times follows what
//! a later load may see.

use hotpot_core::core::host::PageKey;
use std::collections::{BTreeMap, BTreeSet};

/// 8 bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// The page.
    pub key: PageKey,
    /// Offset in the page, a multiple of 8.
    pub offset: u16,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not yet, or nobody will know: the process died, or was told EINPROGRESS.
    Unknown,
    /// It was told that all is published.
    Acked(u64),
    /// It was told that nothing is.
    Failed,
}

/// A commit.
#[derive(Debug)]
pub struct Attempt {
    /// Node of the process.
    pub node: u32,
    /// When it began.
    pub begun: u64,
    /// How it ended.
    pub end: End,
    /// Its id; 0 when nobody was told.
    pub cid: u64,
    /// All or nothing of this.
    pub values: BTreeMap<Cell, u64>,
    /// Cells that it publishes as the node's dirty copies have them, stored there or not.
    pub named: BTreeSet<Cell>,
    /// On the node while it ran: in time for it, or not.
    pub late: Vec<(Cell, u64)>,
    /// It is running.
    pub running: bool,
    /// It is a write(2): what the node's dirty copy has in its cells is replaced when it ends.
    pub is_write: bool,
}

impl Attempt {
    fn may_have(&self, cell: Cell, value: u64) -> bool {
        self.values.get(&cell) == Some(&value) || self.late.contains(&(cell, value))
    }
}

/// Everything that happened.
#[derive(Default)]
pub struct Model {
    /// Commits.
    pub attempts: Vec<Attempt>,
    /// First time at which a value was seen on a node other than as a store of its own.
    seen: BTreeMap<(Cell, u64), u64>,
    /// MRSW: who was told that it may write a page, and has not begun to give it back.
    writers: BTreeMap<PageKey, (u32, usize)>,
    next_value: u64,
}

impl Model {
    /// A value that never was.
    pub fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// A commit begins; its number.
    pub fn begin(&mut self, node: u32, now: u64, values: BTreeMap<Cell, u64>) -> usize {
        // A write of the node that runs may end first: then its bytes are there, and they are
        // published.
        let is_replaced = |cell: &Cell| {
            let mut writes = self
                .attempts
                .iter()
                .filter(|other| other.running && other.is_write && other.node == node);
            writes.any(|write| write.values.contains_key(cell))
        };
        let all = values.into_iter();
        let (late, values): (Vec<_>, Vec<_>) = all.partition(|(cell, _)| is_replaced(cell));
        self.attempts.push(Attempt {
            node,
            begun: now,
            end: End::Unknown,
            cid: 0,
            values: values.into_iter().collect(),
            named: BTreeSet::new(),
            late,
            running: true,
            is_write: false,
        });
        self.attempts.len() - 1
    }

    /// A write(2) of a cell begins; its number.
    pub fn begin_write(&mut self, node: u32, now: u64, cell: Cell, value: u64) -> usize {
        let attempt = self.begin(node, now, BTreeMap::new());
        self.attempts[attempt].values.insert(cell, value);
        self.attempts[attempt].is_write = true;
        attempt
    }

    /// A commit ends.
    pub fn end(&mut self, attempt: usize, end: End) {
        self.attempts[attempt].end = end;
        self.attempts[attempt].running = false;
    }

    /// A process stored a value.
    pub fn stored(&mut self, node: u32, cell: Cell, value: u64) {
        for attempt in &mut self.attempts {
            if attempt.running && attempt.node == node {
                attempt.late.push((cell, value));
            }
        }
    }

    /// Whether a commit of the node runs that may yet find another value in a dirty copy than it
    /// found when it began.
    pub fn awaits_copies(&self, node: u32) -> bool {
        self.attempts
            .iter()
            .any(|attempt| attempt.running && attempt.node == node && !attempt.named.is_empty())
    }

    /// A dirty copy of the node that no commit works on has this value: one that runs, and names
    /// the cell, may find it there.
    pub fn found(&mut self, node: u32, cell: Cell, value: u64) {
        for attempt in &mut self.attempts {
            let names = attempt.running && attempt.node == node && attempt.named.contains(&cell);
            if names && !attempt.may_have(cell, value) {
                attempt.late.push((cell, value));
            }
        }
    }

    /// A process was told that it may write pages.
    pub fn acquired(&mut self, node: u32, process: usize, keys: &[PageKey]) {
        for key in keys {
            let before = self.writers.insert(*key, (node, process));
            assert!(
                before.is_none_or(|before| before == (node, process)),
                "{key:?} is given to process {process} of node {node} while {before:?} writes it"
            );
        }
    }

    /// A process gives pages back, or tries to.
    pub fn gives_back(&mut self, node: u32, process: usize, of: impl Fn(&PageKey) -> bool) {
        self.writers
            .retain(|key, writer| *writer != (node, process) || !of(key));
    }

    /// A node is not in the map any more.
    pub fn left(&mut self, node: u32) {
        self.writers.retain(|_, writer| writer.0 != node);
    }

    /// The processes of a node have died.
    pub fn crashed(&mut self, node: u32) {
        self.left(node);
        for attempt in &mut self.attempts {
            attempt.running &= attempt.node != node;
        }
    }

    fn of(&self, cell: Cell, value: u64) -> impl Iterator<Item = &Attempt> {
        self.attempts
            .iter()
            .filter(move |attempt| attempt.may_have(cell, value))
    }

    /// The last time at which `value` may have been published; `None` when that may still be.
    fn last_published(&self, cell: Cell, value: u64) -> Option<u64> {
        self.of(cell, value)
            .filter(|attempt| attempt.end != End::Failed)
            .map(|attempt| match attempt.end {
                End::Acked(at) => Some(at),
                _ => None,
            })
            .try_fold(0, |last, at| Some(last.max(at?)))
    }

    /// When the first attempt to publish `value` began: a later one, which found it dirty
    /// still, may have had nothing left to do.
    fn first_begun(&self, cell: Cell, value: u64) -> u64 {
        let begun = self.of(cell, value).map(|attempt| attempt.begun);
        begun.min().unwrap_or(u64::MAX)
    }

    /// A committed value was read; the load began at `begun`.
    pub fn read(&mut self, node: u32, cell: Cell, value: u64, begun: u64, now: u64) {
        if value != 0 {
            assert!(
                self.of(cell, value)
                    .any(|attempt| attempt.end != End::Failed),
                "node {node} reads value {value} of {cell:?}, which was never published: {:?}",
                self.of(cell, value).collect::<Vec<_>>()
            );
        }
        if let Some(last) = self.last_published(cell, value) {
            // A commit that began after the value's last one ended, and that was there before
            // the load began, has overwritten it.
            for newer in self.attempts.iter().filter(|a| a.end != End::Failed) {
                let Some(newest) = newer.values.get(&cell) else {
                    continue;
                };
                if newer.may_have(cell, value) {
                    continue;
                }
                let visible = match newer.end {
                    End::Acked(at) => Some(at),
                    // Only this attempt can have brought the value here.
                    _ if *newest != 0 && self.of(cell, *newest).count() == 1 => {
                        self.seen.get(&(cell, *newest)).copied()
                    }
                    _ => None,
                };
                assert!(
                    self.first_begun(cell, *newest) < last || visible.is_none_or(|at| at >= begun),
                    "stale read: node {node} reads {value} of {cell:?} (published until {last}) \
                     from {begun}, after {newest} was published by {newer:?}"
                );
            }
        }
        self.seen.entry((cell, value)).or_insert(now);
    }

    /// After everything has come to rest, `read` says what each cell holds.
    pub fn check_all_or_nothing(&self, read: &BTreeMap<Cell, u64>) {
        for attempt in &self.attempts {
            let happened = match attempt.end {
                End::Acked(_) => true,
                End::Failed => continue,
                End::Unknown => attempt.values.iter().any(|(cell, value)| {
                    let alone = *value != 0 && self.of(*cell, *value).count() == 1;
                    alone
                        && (read.get(cell) == Some(value)
                            || self.seen.contains_key(&(*cell, *value)))
                }),
            };
            if !happened {
                continue;
            }
            for (cell, value) in &attempt.values {
                let Some(found) = read.get(cell) else {
                    continue;
                };
                if attempt.may_have(*cell, *found) {
                    continue;
                }
                let last = self.last_published(*cell, *found);
                assert!(
                    last.is_none_or(|last| last > self.first_begun(*cell, *value)),
                    "{cell:?} holds {found} (published until {last:?}): {value} is lost, of {attempt:?}"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELL: Cell = Cell {
        key: PageKey {
            dataset: 1,
            page: 0,
        },
        offset: 8,
    };

    /// Node 1 publishes 1 and then 2; both are acked before 40.
    fn overwritten() -> Model {
        let mut model = Model::default();
        for value in [1, 2] {
            let attempt = model.begin(1, 20 * value - 10, BTreeMap::from([(CELL, value)]));
            model.end(attempt, End::Acked(20 * value));
        }
        model
    }

    /// A commit of node 2 from 25 to 50 that names the cell, which nobody stored there.
    fn with_a_commit_of_what_nobody_stored(found: Option<u64>) -> Model {
        let mut model = overwritten();
        let attempt = model.begin(2, 25, BTreeMap::new());
        model.attempts[attempt].named.insert(CELL);
        if let Some(value) = found {
            model.found(2, CELL, value);
        }
        model.end(attempt, End::Acked(50));
        model
    }

    /// Node 2 writes 1, node 1 commits 2 over it before 40; before node 2 hears of its write it
    /// commits 3, which a process stored there before, and is told that this is published.
    fn with_a_commit_during_a_write(at: Cell) -> Model {
        let mut model = Model::default();
        let write = model.begin_write(2, 10, at, 1);
        let over = model.begin(1, 30, BTreeMap::from([(CELL, 2)]));
        model.end(over, End::Acked(40));
        let commit = model.begin(2, 50, BTreeMap::from([(CELL, 3)]));
        model.end(write, End::Acked(60));
        model.end(commit, End::Acked(70));
        model
    }

    #[test]
    fn what_a_write_that_ends_first_replaces_is_not_published() {
        let mut model = with_a_commit_during_a_write(CELL);
        model.read(3, CELL, 2, 80, 80);
        model.check_all_or_nothing(&BTreeMap::from([(CELL, 2)]));
    }

    #[test]
    fn what_a_write_does_not_replace_in_time_may_be_published() {
        with_a_commit_during_a_write(CELL).read(3, CELL, 3, 80, 80);
    }

    #[test]
    #[should_panic(expected = "stale read")]
    fn what_a_write_of_another_cell_leaves_alone_must_be_published() {
        let other = Cell { offset: 16, ..CELL };
        with_a_commit_during_a_write(other).read(3, CELL, 2, 80, 80);
    }

    #[test]
    #[should_panic(expected = "stale read")]
    fn what_was_overwritten_is_stale() {
        overwritten().read(3, CELL, 1, 60, 60);
    }

    #[test]
    fn what_a_commit_found_below_it_may_be_read_again() {
        with_a_commit_of_what_nobody_stored(Some(1)).read(3, CELL, 1, 60, 60);
    }

    #[test]
    #[should_panic(expected = "stale read")]
    fn what_a_commit_did_not_find_stays_stale() {
        with_a_commit_of_what_nobody_stored(None).read(3, CELL, 1, 60, 60);
    }

    #[test]
    #[should_panic(expected = "stale read")]
    fn what_is_found_after_a_commit_stays_stale() {
        let mut model = with_a_commit_of_what_nobody_stored(None);
        model.found(2, CELL, 1);
        model.read(3, CELL, 1, 60, 60);
    }
}
