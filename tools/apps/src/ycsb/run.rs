// SPDX-License-Identifier: GPL-2.0

//! A run of a workload, every answer of which is checked against a model.

use super::{Memory, Operation, Store, Workload, RECORD};
use anyhow::{ensure, Context, Result};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which of the six.
    pub workload: Workload,
    /// There at the begin.
    pub records: u64,
    /// Then.
    pub operations: usize,
    /// Of the choices.
    pub seed: u64,
}

/// Inserts of the load that are one commit.
const BATCH: u64 = 32;

/// Keys are in another order than numbers, as YCSB's hashed ones are.
fn key_of(record: u64) -> u64 {
    record.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The bytes of a version of a record: like no other's.
fn bytes_of(key: u64, version: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    let seed = key ^ u64::from(version).wrapping_mul(0xd6e8_feb8_6659_fd93);
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        let mixed = (seed ^ at as u64).wrapping_mul(0xff51_afd7_ed55_8ccd);
        word.copy_from_slice(&(mixed ^ (mixed >> 32)).to_le_bytes());
    }
    bytes
}

/// The version of each key.
type Model = BTreeMap<u64, u32>;

fn is_right(model: &Model, key: u64, bytes: &[u8]) -> Result<()> {
    let version = model
        .get(&key)
        .with_context(|| format!("key {key:x} was never put"))?;
    ensure!(
        bytes == bytes_of(key, *version),
        "key {key:x}: not the bytes of version {version}"
    );
    Ok(())
}

fn read<M: Memory>(store: &Store<M>, model: &Model, key: u64) -> Result<()> {
    let bytes = store
        .get(key)
        .with_context(|| format!("key {key:x} is not there"))?;
    is_right(model, key, bytes)
}

/// The next version of a key.
fn next(model: &mut Model, key: u64) -> [u8; RECORD] {
    let version = model.entry(key).and_modify(|version| *version += 1);
    bytes_of(key, *version.or_insert(0))
}

fn apply<M: Memory>(store: &mut Store<M>, model: &mut Model, operation: Operation) -> Result<()> {
    match operation {
        Operation::Read(record) => read(store, model, key_of(record)),
        Operation::Update(record) => {
            store.update(key_of(record), &next(model, key_of(record)))?;
            store.commit()
        }
        Operation::ReadModifyWrite(record) => {
            read(store, model, key_of(record))?;
            store.update(key_of(record), &next(model, key_of(record)))?;
            store.commit()
        }
        Operation::Insert(record) => {
            store.insert(key_of(record), &next(model, key_of(record)))?;
            store.commit()
        }
        Operation::Scan(record, most) => scan(store, model, key_of(record), most as usize),
    }
}

fn scan<M: Memory>(store: &Store<M>, model: &Model, key: u64, most: usize) -> Result<()> {
    let mut expected = model.range(key..).map(|(key, _)| *key).take(most);
    let mut result = Ok(());
    store.scan(key, most, |key, bytes| {
        if result.is_ok() {
            result = match expected.next() == Some(key) {
                true => is_right(model, key, bytes),
                false => Err(anyhow::anyhow!(
                    "a scan finds key {key:x}, not what comes next"
                )),
            };
        }
    });
    result?;
    ensure!(expected.next().is_none(), "a scan ends too early");
    Ok(())
}

/// All that is there, and no more, is what the model has.
fn compare<M: Memory>(store: &Store<M>, model: &Model) -> Result<()> {
    ensure!(
        store.len() == model.len() as u64,
        "{} records, not {}",
        store.len(),
        model.len()
    );
    scan(store, model, 0, usize::MAX)
}

/// Fills an empty store, runs the workload, and compares what is there at the end. How long each operation took; `told`
/// hears how many are done, and durable.
pub fn run<M: Memory>(
    store: &mut Store<M>,
    settings: Settings,
    told: &mut dyn FnMut(usize),
) -> Result<Vec<Duration>> {
    let mut model = Model::new();
    for record in 0..settings.records.max(2) {
        store.insert(key_of(record), &next(&mut model, key_of(record)))?;
        if record % BATCH == BATCH - 1 {
            store.commit()?;
        }
    }
    store.commit()?;
    let operations = settings
        .workload
        .operations(settings.records, settings.seed);
    let mut took = Vec::with_capacity(settings.operations);
    for operation in operations.take(settings.operations) {
        let begin = Instant::now();
        apply(store, &mut model, operation).with_context(|| format!("{operation:?}"))?;
        took.push(begin.elapsed());
        told(took.len());
    }
    compare(store, &model)?;
    Ok(took)
}

/// Compares a store with what a run of these settings must have left; on another node, say, or after a restart.
pub fn check<M: Memory>(store: &Store<M>, settings: Settings) -> Result<()> {
    let mut model = Model::new();
    for record in 0..settings.records.max(2) {
        next(&mut model, key_of(record));
    }
    let operations = settings
        .workload
        .operations(settings.records, settings.seed);
    for operation in operations.take(settings.operations) {
        match operation {
            Operation::Update(record)
            | Operation::Insert(record)
            | Operation::ReadModifyWrite(record) => {
                next(&mut model, key_of(record));
            }
            Operation::Read(_) | Operation::Scan(..) => {}
        }
    }
    compare(store, &model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::Range;

    struct Plain(Vec<u8>);

    impl Memory for Plain {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.0
        }
        fn commit(&mut self, _areas: &[Range<usize>]) -> Result<()> {
            Ok(())
        }
    }

    fn settings(workload: Workload) -> Settings {
        Settings {
            workload,
            records: 300,
            operations: 600,
            seed: 5,
        }
    }

    #[test]
    fn what_a_run_leaves_is_what_the_check_expects() {
        for letter in ["A", "B", "C", "D", "E", "F"] {
            let settings = settings(Workload::named(letter).unwrap());
            let mut store = Store::create(Plain(vec![0; 4 << 20])).unwrap();
            assert_eq!(run(&mut store, settings, &mut |_| {}).unwrap().len(), 600);
            check(&store, settings).unwrap();
        }
    }

    #[test]
    fn an_update_that_is_lost_or_one_too_many_is_found() {
        let settings = settings(Workload::A);
        let mut store = Store::create(Plain(vec![0; 4 << 20])).unwrap();
        run(&mut store, settings, &mut |_| {}).unwrap();
        let fewer = Settings {
            operations: 500,
            ..settings
        };
        check(&store, fewer).unwrap_err();
        store.insert(1, &[0; RECORD]).unwrap();
        check(&store, settings).unwrap_err();
    }
}
