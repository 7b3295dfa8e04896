// SPDX-License-Identifier: GPL-2.0

//! The two superblocks, and what they say of the device.

use super::*;
use hotpot_utils::format::superblock::{self, Copy, OtherCopy};

#[test]
fn a_damaged_superblock_is_repaired_from_the_other() {
    for copy in [Copy::A, Copy::B] {
        let mut image = Image::quiet();
        flip(&mut image.bytes, copy.offset() + 300, 3);
        let report = look(&image.bytes);
        assert_eq!(report.exit_status(), 4);
        assert_eq!(report.summary.committed, 30, "the rest is checked too");
        assert_eq!(preen(&mut image.bytes).exit_status(), 1);
        let (a, b) = image.bytes[..2 * PAGE_SIZE].split_at(PAGE_SIZE);
        let found = superblock::choose(a, b).unwrap();
        assert!(matches!(found.other, OtherCopy::Intact(_)));
        assert_eq!(found.superblock.device, image.superblock.device);
        // The lost copy may have known of a mount.
        assert!(!found.superblock.clean);
        assert!(found.superblock.cid_limit >= image.superblock.cid_limit);
        assert_eq!(look(&image.bytes).exit_status(), 0);
    }
}

#[test]
fn two_damaged_superblocks_are_beyond_repair() {
    let mut image = Image::quiet();
    flip(&mut image.bytes, 300, 3);
    flip(&mut image.bytes, 4096 + 300, 3);
    let before = image.bytes.clone();
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 4);
    assert!(image.bytes == before);
}

#[test]
fn an_old_copy_of_a_device_is_told_and_stays_marked() {
    let mut image = Image::quiet();
    image.superblock.outdated = true;
    image.put_superblock();
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 0, "its structures are sound");
    let told = |finding: &check::Finding| finding.to_string().contains("old copy");
    assert!(report.findings.iter().any(told), "{:?}", report.findings);
    let (a, b) = image.bytes[..2 * PAGE_SIZE].split_at(PAGE_SIZE);
    assert!(superblock::choose(a, b).unwrap().superblock.outdated);
}

#[test]
fn commit_counters_beyond_the_reservation_raise_it() {
    let mut image = Image::quiet();
    image.superblock.cid_limit = 60;
    image.put_superblock();
    let report = preen(&mut image.bytes);
    assert_eq!(report.exit_status(), 1);
    assert_eq!(look(&image.bytes).exit_status(), 0);
    let (a, b) = image.bytes[..2 * PAGE_SIZE].split_at(PAGE_SIZE);
    let chosen = superblock::choose(a, b).unwrap();
    assert_eq!(chosen.superblock.cid_limit, 90);
}
