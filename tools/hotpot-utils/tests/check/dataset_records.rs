// SPDX-License-Identifier: GPL-2.0

//! Records of datasets.

use super::*;

#[test]
fn a_damaged_copy_of_a_record_is_repaired_from_the_other() {
    for copy in 0..2 {
        let mut image = Image::quiet();
        let good = image.bytes.clone();
        let offset = image.geometry().record(0, copy);
        flip(&mut image.bytes, offset + 20, 1);
        assert_eq!(look(&image.bytes).exit_status(), 4);
        assert_eq!(preen(&mut image.bytes).exit_status(), 1);
        assert_eq!(look(&image.bytes).exit_status(), 0);
        let twin = image.geometry().record(0, 1 - copy) as usize;
        assert!(image.bytes[twin..][..PAGE_SIZE] == good[twin..][..PAGE_SIZE]);
    }
}

#[test]
fn a_record_that_is_lost_keeps_the_pages_of_its_dataset() {
    let mut image = Image::quiet();
    for copy in 0..2 {
        let offset = image.geometry().record(0, copy);
        flip(&mut image.bytes, offset + 20, 1);
    }
    assert_eq!(preen(&mut image.bytes).exit_status(), 4, "not without -y");
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    assert_eq!(report.summary.committed, 30);
    let report = look(&image.bytes);
    assert_eq!(report.exit_status(), 0);
    assert!(report.findings[0].message.contains("20 pages of dataset 1"));
}

#[test]
fn a_creation_that_was_cut_short_is_cleared() {
    let mut image = Image::quiet();
    let offset = image.geometry().record(9, 0);
    image.write(offset, b"HPDS and then the power failed");
    assert_eq!(preen(&mut image.bytes).exit_status(), 1);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn two_pairs_of_one_dataset_become_one() {
    let mut image = Image::quiet();
    image.put_dataset(8, 1, "table", 20, false);
    let report = preen(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    assert_eq!(report.summary.datasets, 2);
    assert_eq!(look(&image.bytes).exit_status(), 0);
}

#[test]
fn two_datasets_of_one_name_or_address_are_left_to_the_dispatcher() {
    let mut image = Image::quiet();
    image.put_dataset(8, 9, "table", 20, false);
    let report = look(&image.bytes);
    assert_eq!(report.exit_status(), 0);
    assert!(report.findings[0].message.contains("both named"));
}
