// SPDX-License-Identifier: GPL-2.0

//! A B+-tree of pages and records, all in one piece of memory. Words are little-endian.
//!
//! ```text
//! page 0    magic, root, height, pages in use, records, where the next record goes
//! node      count, next leaf, then count × (key, page or place of the record); keys ascend
//! records   RECORD bytes each, four in a page
//! ```
//!
//! An inner node's first key is not compared: what is below it begins with nothing.

use anyhow::{bail, ensure, Result};
use std::ops::Range;

/// Bytes of a record, YCSB's ten fields of about a hundred.
pub const RECORD: usize = 1024;
const PAGE: usize = 4096;
/// "YCSBTREE".
const MAGIC: u64 = u64::from_le_bytes(*b"YCSBTREE");

/// Words of page 0.
const ROOT: usize = 8;
const HEIGHT: usize = 16;
const PAGES: usize = 24;
const RECORDS: usize = 32;
const HEAP: usize = 40;
const END: usize = 48;

/// In a node.
const COUNT: usize = 0;
const NEXT: usize = 8;
const ENTRIES: usize = 16;
/// Entries of a node.
const MOST: usize = (PAGE - ENTRIES) / 16;

/// Memory that a store lies in.
pub trait Memory {
    /// All of it.
    fn bytes(&self) -> &[u8];
    /// All of it, to be changed.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Makes these bytes durable. They do not overlap, and ascend.
    fn commit(&mut self, areas: &[Range<usize>]) -> Result<()>;
}

/// A store, and what of it is not committed.
#[derive(Debug)]
pub struct Store<M> {
    memory: M,
    changed: Vec<Range<usize>>,
}

impl<M: Memory> Store<M> {
    /// An empty one.
    pub fn create(memory: M) -> Result<Self> {
        let mut store = Self {
            memory,
            changed: Vec::new(),
        };
        ensure!(
            store.memory.bytes().len() >= 4 * PAGE,
            "no room for a store"
        );
        let header = [MAGIC, 1, 1, 2, 0, 0];
        for (at, word) in header.into_iter().enumerate() {
            store.put(at * 8, word);
        }
        store.put(PAGE + COUNT, 0);
        store.put(PAGE + NEXT, 0);
        store.commit()?;
        Ok(store)
    }

    /// One that is there.
    pub fn open(memory: M) -> Result<Self> {
        let store = Self {
            memory,
            changed: Vec::new(),
        };
        ensure!(store.memory.bytes().len() > END, "no room for a store");
        ensure!(store.word(0) == MAGIC, "no store");
        Ok(store)
    }

    /// How many records there are.
    pub fn len(&self) -> u64 {
        self.word(RECORDS)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn word(&self, at: usize) -> u64 {
        let word = self.memory.bytes()[at..at + 8].iter().rev();
        word.fold(0, |n, &byte| (n << 8) | u64::from(byte))
    }

    fn put(&mut self, at: usize, word: u64) {
        self.put_bytes(at, &word.to_le_bytes());
    }

    fn put_bytes(&mut self, at: usize, bytes: &[u8]) {
        self.memory.bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        self.changed.push(at..at + bytes.len());
    }

    fn copy(&mut self, from: Range<usize>, to: usize) {
        self.changed.push(to..to + from.len());
        self.memory.bytes_mut().copy_within(from, to);
    }

    /// What was changed becomes durable, as one commit.
    pub fn commit(&mut self) -> Result<()> {
        let mut areas: Vec<Range<usize>> = Vec::new();
        self.changed.sort_by_key(|area| area.start);
        for area in self.changed.drain(..).filter(|area| !area.is_empty()) {
            match areas.last_mut() {
                Some(last) if area.start <= last.end => last.end = last.end.max(area.end),
                _ => areas.push(area),
            }
        }
        match areas.is_empty() {
            true => Ok(()),
            false => self.memory.commit(&areas),
        }
    }

    fn entry(node: usize, index: usize) -> usize {
        node + ENTRIES + index * 16
    }

    fn count(&self, node: usize) -> usize {
        self.word(node + COUNT) as usize
    }

    fn key(&self, node: usize, index: usize) -> u64 {
        self.word(Self::entry(node, index))
    }

    fn value(&self, node: usize, index: usize) -> usize {
        self.word(Self::entry(node, index) + 8) as usize
    }

    /// Entries of a node whose keys are below `key`.
    fn below(&self, node: usize, key: u64) -> usize {
        let (mut begin, mut end) = (0, self.count(node));
        while begin < end {
            let middle = (begin + end) / 2;
            match self.key(node, middle) < key {
                true => begin = middle + 1,
                false => end = middle,
            }
        }
        begin
    }

    /// The child of an inner node that `key` is in.
    fn child(&self, node: usize, key: u64) -> usize {
        // The last one whose first key is not above; the first one has no key.
        let (mut begin, mut end) = (1, self.count(node));
        while begin < end {
            let middle = (begin + end) / 2;
            match self.key(node, middle) <= key {
                true => begin = middle + 1,
                false => end = middle,
            }
        }
        begin - 1
    }

    /// The nodes from the root to the leaf that `key` is in, or would be.
    fn path(&self, key: u64) -> Vec<usize> {
        let mut path = vec![self.word(ROOT) as usize * PAGE];
        for _ in 1..self.word(HEIGHT) {
            let node = path[path.len() - 1];
            path.push(self.value(node, self.child(node, key)) * PAGE);
        }
        path
    }

    fn leaf(&self, key: u64) -> usize {
        let path = self.path(key);
        path[path.len() - 1]
    }

    fn find(&self, key: u64) -> Option<usize> {
        let leaf = self.leaf(key);
        let index = self.below(leaf, key);
        let there = index < self.count(leaf) && self.key(leaf, index) == key;
        there.then(|| self.value(leaf, index))
    }

    /// The record of a key.
    pub fn get(&self, key: u64) -> Option<&[u8]> {
        let at = self.find(key)?;
        Some(&self.memory.bytes()[at..at + RECORD])
    }

    /// At most so many records from `key` on, by their keys.
    pub fn scan(&self, key: u64, most: usize, mut seen: impl FnMut(u64, &[u8])) {
        let mut leaf = self.leaf(key);
        let mut index = self.below(leaf, key);
        let mut left = most;
        while left > 0 {
            if index == self.count(leaf) {
                leaf = self.word(leaf + NEXT) as usize * PAGE;
                index = 0;
                if leaf == 0 {
                    break;
                }
                continue;
            }
            let at = self.value(leaf, index);
            seen(self.key(leaf, index), &self.memory.bytes()[at..at + RECORD]);
            index += 1;
            left -= 1;
        }
    }

    /// Changes a record that is there; not yet durable.
    pub fn update(&mut self, key: u64, record: &[u8]) -> Result<()> {
        ensure!(record.len() == RECORD, "{} bytes", record.len());
        match self.find(key) {
            Some(at) => self.put_bytes(at, record),
            None => bail!("there is no record {key}"),
        }
        Ok(())
    }

    /// Adds a record; not yet durable. When it fails nothing has changed.
    pub fn insert(&mut self, key: u64, record: &[u8]) -> Result<()> {
        ensure!(record.len() == RECORD, "{} bytes", record.len());
        let path = self.path(key);
        let leaf = path[path.len() - 1];
        let index = self.below(leaf, key);
        let there = index < self.count(leaf) && self.key(leaf, index) == key;
        ensure!(!there, "record {key} is there");
        // A page for records, and one for each level, and a new root.
        let wanted = (self.word(PAGES) as usize + path.len() + 2) * PAGE;
        ensure!(wanted <= self.memory.bytes().len(), "the store is full");
        let at = self.record_room();
        self.put_bytes(at, record);
        self.put(RECORDS, self.len() + 1);
        self.add(path, key, at as u64);
        Ok(())
    }

    fn new_page(&mut self) -> usize {
        let page = self.word(PAGES);
        self.put(PAGES, page + 1);
        page as usize * PAGE
    }

    fn record_room(&mut self) -> usize {
        let mut at = self.word(HEAP) as usize;
        if at % PAGE == 0 {
            at = self.new_page();
        }
        self.put(HEAP, (at + RECORD) as u64);
        at
    }

    /// Puts an entry in the last node of the path, and splits what has no room.
    fn add(&mut self, mut path: Vec<usize>, mut key: u64, mut value: u64) {
        while let Some(node) = path.pop() {
            if self.count(node) < MOST {
                return self.add_to(node, key, value);
            }
            let leaf = path.len() as u64 + 1 == self.word(HEIGHT);
            let right = self.split(node, leaf);
            let first = self.key(right, 0);
            let into = match key < first {
                true => node,
                false => right,
            };
            self.add_to(into, key, value);
            (key, value) = (first, (right / PAGE) as u64);
            if path.is_empty() {
                let root = self.new_page();
                self.put(root + COUNT, 1);
                self.put(root + NEXT, 0);
                self.put(Self::entry(root, 0), 0);
                self.put(Self::entry(root, 0) + 8, (node / PAGE) as u64);
                self.put(ROOT, (root / PAGE) as u64);
                self.put(HEIGHT, self.word(HEIGHT) + 1);
                return self.add_to(root, key, value);
            }
        }
    }

    fn add_to(&mut self, node: usize, key: u64, value: u64) {
        let count = self.count(node);
        let index = self.below(node, key);
        self.copy(
            Self::entry(node, index)..Self::entry(node, count),
            Self::entry(node, index + 1),
        );
        self.put(Self::entry(node, index), key);
        self.put(Self::entry(node, index) + 8, value);
        self.put(node + COUNT, count as u64 + 1);
    }

    /// Half of a node's entries go to a new one.
    fn split(&mut self, node: usize, leaf: bool) -> usize {
        let right = self.new_page();
        let keep = MOST / 2;
        self.copy(
            Self::entry(node, keep)..Self::entry(node, MOST),
            Self::entry(right, 0),
        );
        self.put(right + COUNT, (MOST - keep) as u64);
        self.put(node + COUNT, keep as u64);
        let next = self.word(node + NEXT);
        self.put(right + NEXT, next);
        if leaf {
            self.put(node + NEXT, (right / PAGE) as u64);
        }
        right
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

    /// What is not committed is not durable.
    struct Model {
        bytes: Vec<u8>,
        durable: Rc<RefCell<Vec<u8>>>,
    }

    impl Model {
        fn new(pages: usize) -> (Self, Rc<RefCell<Vec<u8>>>) {
            let durable = Rc::new(RefCell::new(vec![0; pages * PAGE]));
            let model = Self {
                bytes: vec![0; pages * PAGE],
                durable: durable.clone(),
            };
            (model, durable)
        }
    }

    impl Memory for Model {
        fn bytes(&self) -> &[u8] {
            &self.bytes
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.bytes
        }
        fn commit(&mut self, areas: &[Range<usize>]) -> Result<()> {
            assert!(areas.windows(2).all(|pair| pair[0].end < pair[1].start));
            let mut durable = self.durable.borrow_mut();
            for area in areas {
                durable[area.clone()].copy_from_slice(&self.bytes[area.clone()]);
            }
            Ok(())
        }
    }

    fn all<M: Memory>(store: &Store<M>) -> Vec<(u64, u8)> {
        let mut all = Vec::new();
        store.scan(0, usize::MAX, |key, record| all.push((key, record[9])));
        all
    }

    #[test]
    fn what_is_durable_after_each_commit_is_the_whole_store() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (memory, durable) = Model::new(400);
        let mut store = Store::create(memory).unwrap();
        let mut model = BTreeMap::new();
        for turn in 0..1000 {
            let (key, byte) = (rng.random_range(0..1_000_000), rng.random());
            match model.keys().next_back() {
                Some(&old) if turn % 3 == 0 => {
                    store.update(old, &[byte; RECORD]).unwrap();
                    model.insert(old, byte);
                }
                _ if model.contains_key(&key) => {
                    assert!(store.insert(key, &[byte; RECORD]).is_err());
                }
                _ => {
                    store.insert(key, &[byte; RECORD]).unwrap();
                    model.insert(key, byte);
                }
            }
            store.commit().unwrap();
            if turn % 25 == 0 || turn == 999 {
                let (memory, _) = Model::new(0);
                let bytes = durable.borrow().clone();
                let again = Store::open(Model { bytes, ..memory }).unwrap();
                assert_eq!(again.len(), model.len() as u64);
                let expected: Vec<_> = model.iter().map(|(&key, &byte)| (key, byte)).collect();
                assert_eq!(all(&again), expected);
                assert_eq!(
                    again.get(*model.keys().next().unwrap()).unwrap()[0],
                    expected[0].1
                );
                assert!(again.get(1_000_001).is_none());
            }
        }
        assert!(store.word(HEIGHT) > 1, "nothing was split");
    }

    #[test]
    fn three_levels_hold_what_two_do_not() {
        // Records take most of the room, so the nodes are made small in number by ascending keys: half full each.
        let (memory, _) = Model::new(9000);
        let mut store = Store::create(memory).unwrap();
        let record = [7; RECORD];
        let count = 33_500;
        for key in 0..count {
            store.insert(key * 3, &record).unwrap();
        }
        store.commit().unwrap();
        assert_eq!(store.word(HEIGHT), 3);
        let mut next = 0;
        store.scan(0, usize::MAX, |key, _| {
            assert_eq!(key, next);
            next += 3;
        });
        assert_eq!(next, count * 3);
        assert!(store.get(count).is_some() == (count % 3 == 0));
    }

    #[test]
    fn a_full_store_says_so_and_is_as_it_was() {
        let (memory, _) = Model::new(12);
        let mut store = Store::create(memory).unwrap();
        let full = (0..)
            .find(|&key| store.insert(key, &[1; RECORD]).is_err())
            .unwrap();
        assert!(full > 20, "{full}");
        assert_eq!(store.len(), full);
        assert_eq!(all(&store).len() as u64, full);
    }
}
