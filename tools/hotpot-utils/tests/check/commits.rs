// SPDX-License-Identifier: GPL-2.0

//! Records of commits: redo log and commit records.

use super::*;
use hotpot_utils::{
    check::Part,
    format::{commit_record, redo_log, Cid, CommitRecord},
};

#[test]
fn damaged_records_of_commits_are_found() {
    let geometry = Image::busy().geometry();
    let places = [
        (geometry.log_descriptor(7) + 20, Part::RedoLog),
        (geometry.log_block(7) + 5, Part::RedoLog),
        (geometry.commit_descriptor(3) + 20, Part::CommitRecord),
        (geometry.commit_block(3) + 1, Part::CommitRecord),
    ];
    for (offset, part) in places {
        let mut image = Image::busy();
        flip(&mut image.bytes, offset, 1);
        let report = look(&image.bytes);
        assert_eq!(report.exit_status(), 4);
        assert!(report.findings.iter().any(|finding| finding.part == part));
        assert_eq!(preen(&mut image.bytes).exit_status(), 4);
        assert_eq!(repair(&mut image.bytes).exit_status(), 1);
        assert_eq!(look(&image.bytes).exit_status(), 0);
    }
}

#[test]
fn a_record_inside_of_another_is_dropped() {
    let mut image = Image::busy();
    image.put_redo(20, redo_log::State::Prepared, 105, &[51; 200]);
    image.put_redo(21, redo_log::State::Prepared, 106, &[51]);
    let report = look(&image.bytes);
    assert!(errors(&report)
        .iter()
        .any(|error| error.contains("inside of the one that begins at block 20")));
    assert_eq!(repair(&mut image.bytes).exit_status(), 1);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn data_that_look_like_a_record_are_no_record() {
    let mut image = Image::busy();
    let from = image.geometry().log_descriptor(7) as usize;
    let line = image.bytes[from..from + 64].to_vec();
    let block = image.geometry().log_block(30);
    image.write(block, &line);
    let data = image.geometry().page(90);
    image.write(data, &line);
    let report = look(&image.bytes);
    assert_eq!(report.exit_status(), 0);
    assert_eq!(report.summary.log_committed, 1);
}

#[test]
fn a_swung_word_without_its_record_is_seen() {
    // The word of one commit over the body of another: what a lost flush leaves.
    let mut image = Image::busy();
    let offset = image.geometry().commit_descriptor(0);
    let of = CommitRecord {
        cid: Cid::new(NODE, 999),
        epoch: 1,
        nr_owners: 2,
        replicas: 1,
        nr_pages: 1,
    };
    let word = of.word(0, commit_record::State::Decided);
    image.write(offset, &word.0.to_le_bytes());
    assert_eq!(look(&image.bytes).exit_status(), 4);
}
