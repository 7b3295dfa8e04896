// SPDX-License-Identifier: GPL-2.0

//! Redo log and commit records.

use super::{Failure, Part, Pass};
use crate::format::{
    commit_record, redo_log, superblock::Chosen, word::StateWord, Cid, Damage, Geometry,
};

const DROP: &str = "drop the record; the other nodes of the commit decide without it";
const SET_WORD: &str = "set the flipped bits of the state word right";

/// One of the two regions of records with descriptors.
trait Log {
    const PART: Part;
    /// Its descriptor with its state.
    type Record;

    fn nr_blocks(geometry: &Geometry) -> u64;
    fn descriptor(geometry: &Geometry, block: u64) -> u64;
    fn decode(geometry: &Geometry, block: u64, line: &[u8])
        -> Result<Option<Self::Record>, Damage>;
    /// All words that go with the body.
    fn words(block: u64, line: &[u8; 64]) -> Vec<StateWord>;
    fn cid(record: &Self::Record) -> Cid;
    fn len(record: &Self::Record) -> u64;
    /// Checks what stands in the blocks.
    fn check(
        pass: &mut Pass<'_, '_>,
        geometry: &Geometry,
        block: u64,
        record: &Self::Record,
    ) -> Result<Result<(), Damage>, Failure>;
    fn count(pass: &mut Pass<'_, '_>, record: &Self::Record);
}

struct RedoLog;
struct CommitRecords;

impl Log for RedoLog {
    const PART: Part = Part::RedoLog;
    type Record = (redo_log::State, redo_log::Descriptor);

    fn nr_blocks(geometry: &Geometry) -> u64 {
        geometry.nr_log_blocks()
    }

    fn descriptor(geometry: &Geometry, block: u64) -> u64 {
        geometry.log_descriptor(block)
    }

    fn decode(
        geometry: &Geometry,
        block: u64,
        line: &[u8],
    ) -> Result<Option<Self::Record>, Damage> {
        redo_log::Descriptor::decode(geometry, block, line)
    }

    fn words(block: u64, line: &[u8; 64]) -> Vec<StateWord> {
        use redo_log::{Descriptor, State};
        Descriptor::decode_body(block, line).map_or_else(
            |_| Vec::new(),
            |found| {
                [State::Prepared, State::Committed]
                    .map(|state| found.of.word(block, state))
                    .to_vec()
            },
        )
    }

    fn cid((_, descriptor): &Self::Record) -> Cid {
        descriptor.of.cid
    }

    fn len((_, descriptor): &Self::Record) -> u64 {
        descriptor.of.nr_blocks()
    }

    fn check(
        pass: &mut Pass<'_, '_>,
        geometry: &Geometry,
        block: u64,
        (_, descriptor): &Self::Record,
    ) -> Result<Result<(), Damage>, Failure> {
        let entries_len = descriptor.of.entries_len() as usize;
        let mut content = vec![0; entries_len + descriptor.of.data_len as usize];
        pass.device.read(geometry.log_block(block), &mut content)?;
        let (entries, data) = content.split_at(entries_len);
        let checked = descriptor.check(entries, data).and_then(|()| {
            entries
                .chunks_exact(redo_log::ENTRY_SIZE)
                .try_for_each(|entry| redo_log::Entry::decode(geometry, entry).map(drop))
        });
        Ok(checked)
    }

    fn count(pass: &mut Pass<'_, '_>, (state, _): &Self::Record) {
        let summary = &mut pass.report.summary;
        match state {
            redo_log::State::Prepared => summary.log_prepared += 1,
            redo_log::State::Committed => summary.log_committed += 1,
        }
    }
}

impl Log for CommitRecords {
    const PART: Part = Part::CommitRecord;
    type Record = (commit_record::State, commit_record::Descriptor);

    fn nr_blocks(geometry: &Geometry) -> u64 {
        geometry.nr_commit_blocks()
    }

    fn descriptor(geometry: &Geometry, block: u64) -> u64 {
        geometry.commit_descriptor(block)
    }

    fn decode(
        geometry: &Geometry,
        block: u64,
        line: &[u8],
    ) -> Result<Option<Self::Record>, Damage> {
        commit_record::Descriptor::decode(geometry, block, line)
    }

    fn words(block: u64, line: &[u8; 64]) -> Vec<StateWord> {
        use commit_record::{Descriptor, State};
        Descriptor::decode_body(block, line).map_or_else(
            |_| Vec::new(),
            |found| {
                [State::Phase1, State::Decided, State::Done]
                    .map(|state| found.of.word(block, state))
                    .to_vec()
            },
        )
    }

    fn cid((_, descriptor): &Self::Record) -> Cid {
        descriptor.of.cid
    }

    fn len((_, descriptor): &Self::Record) -> u64 {
        descriptor.of.nr_blocks()
    }

    fn check(
        pass: &mut Pass<'_, '_>,
        geometry: &Geometry,
        block: u64,
        (_, descriptor): &Self::Record,
    ) -> Result<Result<(), Damage>, Failure> {
        let mut content = vec![0; descriptor.of.content_len() as usize];
        pass.device
            .read(geometry.commit_block(block), &mut content)?;
        let checked = descriptor.check(&content).and_then(|()| {
            let exists = |page| page < geometry.nr_pages();
            if descriptor.of.pages(&content).all(exists) {
                Ok(())
            } else {
                Err(Damage::Field("PM page"))
            }
        });
        Ok(checked)
    }

    fn count(pass: &mut Pass<'_, '_>, (state, _): &Self::Record) {
        let summary = &mut pass.report.summary;
        match state {
            commit_record::State::Phase1 | commit_record::State::Decided => {
                summary.commits_open += 1;
            }
            commit_record::State::Done => {}
        }
    }
}

impl Pass<'_, '_> {
    /// Gives the highest counter of this node's CIDs.
    pub(super) fn redo_log(&mut self, chosen: &Chosen) -> Result<u64, Failure> {
        self.log::<RedoLog>(chosen)
    }

    /// Gives the highest counter of this node's CIDs.
    pub(super) fn commit_records(&mut self, chosen: &Chosen) -> Result<u64, Failure> {
        self.log::<CommitRecords>(chosen)
    }

    fn log<L: Log>(&mut self, chosen: &Chosen) -> Result<u64, Failure> {
        let geometry = &chosen.superblock.geometry;
        let mut highest = 0;
        // First block behind the last record, and where that begins.
        let mut last = (0, 0);
        for block in 0..L::nr_blocks(geometry) {
            let offset = L::descriptor(geometry, block);
            let line = self.line(offset)?;
            let at = Some(block);
            match L::decode(geometry, block, &line) {
                Ok(None) => {}
                Err(damage) => {
                    let mut words = L::words(block, &line);
                    words.push(StateWord::FREE);
                    let (word, repair, safe) = match Self::nearest(&line, &words) {
                        Some(word) => (word, SET_WORD, true),
                        None => (StateWord::FREE, DROP, false),
                    };
                    let message = format!("its descriptor is damaged: {damage}");
                    if self.repairable(L::PART, at, message, repair, safe) {
                        self.set_word(offset, word)?;
                    }
                }
                Ok(Some(record)) => {
                    let cid = L::cid(&record);
                    let (node, counter) = (cid.node(), cid.counter());
                    if node == chosen.superblock.node {
                        highest = highest.max(counter);
                    }
                    let wrong = if block < last.0 {
                        Some(format!(
                            "a record of commit {counter} of node {node} begins inside of the \
                             one that begins at block {}",
                            last.1
                        ))
                    } else {
                        last = (block + L::len(&record), block);
                        L::check(self, geometry, block, &record)?.err().map(|damage| {
                            format!("record of commit {counter} of node {node} is damaged: {damage}")
                        })
                    };
                    match wrong {
                        None => L::count(self, &record),
                        Some(message) => {
                            if self.repairable(L::PART, at, message, DROP, false) {
                                self.set_word(offset, StateWord::FREE)?;
                            }
                        }
                    }
                }
            }
        }
        Ok(highest)
    }
}
