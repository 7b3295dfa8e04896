// SPDX-License-Identifier: GPL-2.0

//! Copies of pages: their slots, and their data.

use super::*;
use hotpot_utils::format::slot::{self, Slot, Stager};

#[test]
fn a_flipped_bit_of_a_state_word_is_set_right() {
    for (pm_page, bit) in [(0, 3), (0, 40), (35, 17), (60, 5)] {
        let mut image = Image::quiet();
        let good = image.bytes.clone();
        flip(
            &mut image.bytes,
            image.superblock.geometry.slot(pm_page) + u64::from(bit / 8),
            bit % 8,
        );
        assert_eq!(look(&image.bytes).exit_status(), 4);
        assert_eq!(preen(&mut image.bytes).exit_status(), 1);
        assert!(image.bytes == good);
    }
}

#[test]
fn a_damaged_slot_is_freed_only_with_yes() {
    let mut image = Image::quiet();
    let offset = image.geometry().slot(2);
    flip(&mut image.bytes, offset + 20, 1);
    assert_eq!(preen(&mut image.bytes).exit_status(), 4);
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    assert_eq!(report.summary.committed, 29);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn damaged_data_are_found_by_their_checksum() {
    let mut image = Image::quiet();
    let offset = image.geometry().page(2);
    flip(&mut image.bytes, offset + 4000, 1);
    let report = look(&image.bytes);
    assert_eq!(
        errors(&report),
        ["page 2: data of page 2 of dataset 1, version 1, do not match their checksum"]
    );
    assert_eq!(preen(&mut image.bytes).exit_status(), 4);
    assert_eq!(repair(&mut image.bytes).exit_status(), 1);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn damaged_data_of_a_superseded_version_do_not_matter() {
    let mut image = Image::busy();
    let old = image.geometry().page(33);
    flip(&mut image.bytes, old, 1);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn of_two_committed_copies_the_higher_version_stays() {
    let mut image = Image::quiet();
    image.put_page(70, 1, 5, 2, slot::State::Committed);
    let report = preen(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    let slot = |page| {
        let at = image.geometry().slot(page) as usize;
        Slot::decode(page, &image.bytes[at..at + 64]).unwrap()
    };
    assert!(slot(5).is_none());
    assert_eq!(slot(70).unwrap().1.of.version, 2);
}

#[test]
fn of_two_equal_copies_one_may_have_been_staged_and_the_other_fetched() {
    let mut image = Image::quiet();
    let staged = Stager::new(4, 9, &[], false);
    // The bytes and ids of these pages depend on their place: made the same.
    image.put_version(70, (1, 5, 2), slot::State::Committed, Some(staged));
    let line = |image: &Image, page: u64| {
        let at = image.geometry().slot(page) as usize;
        Slot::decode(page, &image.bytes[at..at + 64])
    };
    let (_, first) = line(&image, 70).unwrap().unwrap();
    let second = Slot {
        stager: None,
        ..first
    };
    let geometry = image.geometry();
    let at = geometry.page(70) as usize;
    let data = image.bytes[at..at + PAGE_SIZE].to_vec();
    image.write(geometry.page(71), &data);
    image.write(geometry.slot(71) + 8, &second.encode(71));
    let word = second.of.word(71, slot::State::Committed);
    image.write(geometry.slot(71), &word.0.to_le_bytes());
    let report = preen(&mut image.bytes);
    assert_eq!(report.exit_status(), 1, "{:?}", errors(&report));
    assert!(line(&image, 70).unwrap().is_some());
    assert!(line(&image, 71).unwrap().is_none());
}

#[test]
fn who_has_staged_pages_in_doubt_is_told() {
    let mut image = Image::busy();
    let notes = |image: &Image| {
        let findings = look(&image.bytes).findings;
        let messages = findings.into_iter().map(|of| of.message);
        let staged: Vec<_> = messages.filter(|of| of.contains("in doubt")).collect();
        staged
    };
    assert_eq!(
        notes(&image),
        ["1 pages of commits in doubt, staged for node 4: mount asks their owner nodes"]
    );
    image.put_version(52, (2, 5, 8), slot::State::Staged, None);
    assert_eq!(
        notes(&image),
        ["2 pages of commits in doubt, staged for node 4 and others: mount asks their owner nodes"]
    );
}

#[test]
fn a_slot_whose_stager_cannot_be_is_freed_only_with_yes() {
    let mut image = Image::quiet();
    let nobody = Stager {
        pages: 0,
        ..Stager::new(4, 1, &[], false)
    };
    image.put_version(70, (2, 5, 8), slot::State::Staged, Some(nobody));
    assert_eq!(preen(&mut image.bytes).exit_status(), 4);
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    assert_eq!((report.summary.staged, report.summary.committed), (0, 30));
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn pages_beyond_the_end_or_of_removed_datasets_are_errors_after_an_unmount_only() {
    for (dataset, page) in [(1, 20), (3, 0)] {
        let mut image = Image::quiet();
        image.put_page(70, dataset, page, 2, slot::State::Committed);
        assert_eq!(look(&image.bytes).exit_status(), 4);
        let report = repair(&mut image.bytes);
        assert_eq!(report.exit_status(), 1);
        assert_eq!(report.summary.committed, 30);
        image.put_page(70, dataset, page, 2, slot::State::Committed);
        image.superblock.clean = false;
        image.put_superblock();
        let report = look(&image.bytes);
        assert_eq!(report.exit_status(), 0);
        assert!(report
            .findings
            .iter()
            .any(|finding| finding.message.contains("mount frees them")));
    }
}
