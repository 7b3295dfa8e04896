// SPDX-License-Identifier: GPL-2.0

//! Dataset records.

use super::{Failure, Part, Pass};
use crate::format::{
    dataset::{self, DatasetRecord, RecordError},
    superblock::Chosen,
    Damage, PAGE_SIZE,
};
use std::collections::BTreeMap;

/// What the check of slots must know of a dataset.
pub(super) struct Dataset {
    pub(super) name: String,
    pub(super) nr_pages: u64,
    pub(super) removed: bool,
}

const CLEAR: &str = "clear the pair; the central dispatcher gives the record anew";

impl Pass<'_, '_> {
    pub(super) fn records(&mut self, chosen: &Chosen) -> Result<BTreeMap<u64, Dataset>, Failure> {
        let geometry = &chosen.superblock.geometry;
        // Place of the record that counts, by dataset.
        let mut places: BTreeMap<u64, (u64, DatasetRecord)> = BTreeMap::new();
        for index in 0..geometry.nr_records() {
            let mut copies = [[0; PAGE_SIZE]; 2];
            for (copy, block) in (0..).zip(&mut copies) {
                self.device.read(geometry.record(index, copy), block)?;
            }
            let pair = match dataset::choose(&copies[0], &copies[1]) {
                Ok(pair) => pair,
                Err(RecordError::NoMemory) => {
                    return Err(std::io::Error::from(std::io::ErrorKind::OutOfMemory).into())
                }
                Err(RecordError::Damaged(damage)) => {
                    let message = if damage == Damage::Field("dataset id") {
                        "the two copies are of different datasets".into()
                    } else {
                        format!("both copies are damaged: {damage}")
                    };
                    if self.repairable(Part::DatasetRecord, Some(index), message, CLEAR, false) {
                        self.clear_pair(chosen, index)?;
                    }
                    continue;
                }
            };
            if let Some((copy, damage)) = pair.damaged {
                let twin = &copies[usize::from(1 - copy)];
                let (message, repair) = match &pair.record {
                    Some(record) => (
                        format!("copy {copy} of {:?} is damaged: {damage}", record.name),
                        "write it anew from the other copy",
                    ),
                    None => (
                        format!("copy {copy} is damaged ({damage}), the other is empty"),
                        "clear it: the creation of a dataset did not come to its end",
                    ),
                };
                if self.repairable(Part::DatasetRecord, Some(index), message, repair, true) {
                    self.device.write(geometry.record(index, copy), twin)?;
                }
            }
            let Some(record) = pair.record else {
                continue;
            };
            let rank = |record: &DatasetRecord| (record.generation, record.sequence);
            let (winner, loser) = match places.remove(&record.id) {
                None => ((index, record), None),
                Some(old) if rank(&old.1) >= rank(&record) => (old, Some(index)),
                Some(old) => ((index, record), Some(old.0)),
            };
            if let Some(loser) = loser {
                let message = format!(
                    "dataset {} ({:?}) has a newer record in pair {}",
                    winner.1.id, winner.1.name, winner.0
                );
                if self.repairable(
                    Part::DatasetRecord,
                    Some(loser),
                    message,
                    "clear the older pair",
                    true,
                ) {
                    self.clear_pair(chosen, loser)?;
                }
            }
            places.insert(winner.1.id, winner);
        }
        self.names_and_addresses(places.values());
        Ok(places
            .into_values()
            .map(|(_, record)| {
                let dataset = Dataset {
                    name: format!("{:?}", record.name),
                    nr_pages: record.nr_pages(),
                    removed: record.tombstone,
                };
                (record.id, dataset)
            })
            .collect())
    }

    fn clear_pair(&mut self, chosen: &Chosen, index: u64) -> Result<(), Failure> {
        for copy in 0..2 {
            let offset = chosen.superblock.geometry.record(index, copy);
            self.device.write(offset, &[0; PAGE_SIZE])?;
        }
        Ok(())
    }

    /// Names and addresses are given by the CD, one change at a time; a node that
    /// crashed between two changes can hold a pair that does not go together.
    fn names_and_addresses<'r>(&mut self, records: impl Iterator<Item = &'r (u64, DatasetRecord)>) {
        let mut names = BTreeMap::new();
        let mut bases = BTreeMap::new();
        for (index, record) in records {
            if record.tombstone {
                self.report.summary.tombstones += 1;
                continue;
            }
            self.report.summary.datasets += 1;
            if let Some(other) = names.insert(record.name, record.id) {
                self.note(
                    Part::DatasetRecord,
                    Some(*index),
                    format!(
                        "datasets {other} and {} are both named {:?}: \
                         the central dispatcher decides at mount",
                        record.id, record.name
                    ),
                );
            }
            bases.insert((record.base, record.id), (*index, record.reserve));
        }
        let mut end = (0, 0);
        for ((base, id), (index, reserve)) in bases {
            if base < end.0 {
                self.note(
                    Part::DatasetRecord,
                    Some(index),
                    format!(
                        "datasets {} and {id} overlap at address {base:#x}: \
                         the central dispatcher decides at mount",
                        end.1
                    ),
                );
            }
            end = end.max((base + reserve, id));
        }
    }
}
