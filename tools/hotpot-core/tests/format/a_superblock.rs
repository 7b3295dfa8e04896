// SPDX-License-Identifier: GPL-2.0

//! The superblock: its two copies, what tears and what is damaged.

use super::*;

#[test]
fn is_read_as_it_was_written() {
    let written = superblock();
    assert_eq!(Superblock::decode(&superblock_bytes(&written)), Ok(written));
    assert_eq!(written.label(), "the first one");
}

#[test]
fn with_any_flipped_bit_is_refused() {
    for bytes in flips(&superblock_bytes(&superblock())) {
        assert!(Superblock::decode(&bytes).is_err());
    }
}

#[test]
fn torn_anywhere_leaves_the_other_copy_to_count() {
    let old = superblock();
    let mut new = old;
    new.sequence = 2;
    new.incarnation = 1;
    new.clean = false;
    new.outdated = true;
    let before = superblock_bytes(&old);
    let after = superblock_bytes(&new);
    for bytes in torn(&before, &after) {
        let chosen = superblock::choose(&before, &bytes).unwrap();
        let found = chosen.superblock;
        let lost = found.sequence == 1 && !found.clean && found.incarnation == 1;
        assert!(found == old || found == new || lost);
    }
    let chosen = superblock::choose(&before, &after).unwrap();
    assert_eq!((chosen.superblock, chosen.copy), (new, Copy::B));
    assert_eq!(chosen.other, OtherCopy::Intact(1));
    assert_eq!(chosen.copy.other(), Copy::A);
}

#[test]
fn damaged_in_one_copy_is_read_from_the_other() {
    let good = superblock_bytes(&superblock());
    let mut bad = good;
    bad[200] ^= 4;
    for (a, b, copy) in [(&good, &bad, Copy::A), (&bad, &good, Copy::B)] {
        let chosen = superblock::choose(a, b).unwrap();
        assert_eq!(chosen.copy, copy);
        assert!(matches!(chosen.other, OtherCopy::Unusable(_)));
        // The lost copy may have been the newer one.
        assert!(!chosen.superblock.clean);
        assert_eq!(chosen.superblock.incarnation, 1);
        assert_eq!(chosen.superblock.cid_limit, 1 + superblock::CID_BLOCK);
    }
}

#[test]
fn damaged_in_both_copies_is_refused_as_damaged() {
    let mut bad = superblock_bytes(&superblock());
    bad[200] ^= 4;
    let error = superblock::choose(&bad, &bad).unwrap_err();
    assert_eq!(error, FormatError::Superblock(Damage::Checksum));
    assert_eq!(error.errno(), EUCLEAN);
    let error = superblock::choose(&bad, &[0; PAGE_SIZE]).unwrap_err();
    assert_eq!(error.errno(), EUCLEAN);
}

#[test]
fn missing_means_not_formatted() {
    let nothing = [0; PAGE_SIZE];
    for error in [
        superblock::choose(&nothing, &nothing),
        superblock::choose(&[], &[]),
        superblock::choose(&nothing[..100], &[]),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error, FormatError::NotFormatted);
        assert_eq!(error.errno(), EINVAL);
    }
}

/// The bytes with the field at `at` changed and the checksum set right.
fn forged(at: usize, value: &[u8]) -> [u8; PAGE_SIZE] {
    let mut block = superblock_bytes(&superblock());
    block[at..at + value.len()].copy_from_slice(value);
    let crc = hotpot_core::core::format::crc32c(&block[..PAGE_SIZE - 4]);
    block[PAGE_SIZE - 4..].copy_from_slice(&crc.to_le_bytes());
    block
}

#[test]
fn of_a_newer_format_is_told_apart_from_a_damaged_one() {
    let newer = forged(8, &2u32.to_le_bytes());
    let error = superblock::choose(&newer, &newer).unwrap_err();
    assert_eq!(error, FormatError::NewerFormat { found: 2 });
    assert_eq!(error.errno(), EOPNOTSUPP);
    let half = superblock::choose(&newer, &superblock_bytes(&superblock()));
    assert_eq!(half, Err(error));
}

#[test]
fn with_unknown_features_is_used_as_these_allow() {
    let incompatible = forged(32, &4u64.to_le_bytes());
    assert_eq!(
        Superblock::decode(&incompatible),
        Err(FormatError::UnknownFeatures { bits: 4 })
    );
    let read_only = forged(24, &4u64.to_le_bytes());
    assert!(Superblock::decode(&read_only).unwrap().is_read_only());
    let compatible = Superblock::decode(&forged(16, &4u64.to_le_bytes())).unwrap();
    assert!(!compatible.is_read_only());
}

#[test]
fn whose_regions_overlap_or_run_over_is_refused() {
    for nr in 0..7 {
        for value in [0, 1, 4096, u64::MAX, u64::MAX - 4095] {
            for at in [136 + nr * 16, 144 + nr * 16] {
                let bytes = forged(at, &value.to_le_bytes());
                let read = Superblock::decode(&bytes);
                // The last region alone may have any whole length.
                let valid = read.is_ok_and(|read| read.geometry.pages.len <= 1 << 26);
                assert!(
                    read.is_err() || (at == 144 + 6 * 16 && valid),
                    "region {nr} at {at} with {value:#x}"
                );
            }
        }
    }
}

#[test]
fn larger_than_its_device_is_truncated() {
    let superblock = superblock();
    assert_eq!(superblock.check_device(64 << 20), Ok(()));
    assert_eq!(superblock.check_device(65 << 20), Ok(()));
    let error = superblock.check_device((64 << 20) - 1).unwrap_err();
    assert_eq!(error.errno(), ENXIO);
}

#[test]
fn belongs_to_one_node_of_one_cluster() {
    let superblock = superblock();
    assert_eq!(superblock.check_owner(Uuid([1; 16]), 3), Ok(()));
    let other = superblock.check_owner(Uuid([9; 16]), 3).unwrap_err();
    assert_eq!(other.errno(), EXDEV);
    let other = superblock.check_owner(Uuid([1; 16]), 4).unwrap_err();
    assert_eq!(other, FormatError::OtherNode { found: 3 });
}

#[test]
fn without_an_owner_belongs_to_the_first_that_mounts() {
    let mut superblock = superblock();
    superblock.cluster = Uuid::NIL;
    superblock.node = superblock::NO_NODE;
    assert_eq!(superblock.adopt(Uuid([9; 16]), 4), Ok(()));
    assert!(superblock.adopt(Uuid([9; 16]), 5).is_err());
    assert!(superblock.adopt(Uuid([8; 16]), 4).is_err());
}

#[test]
fn never_gives_a_commit_counter_twice() {
    let mut superblock = superblock();
    let first = superblock.reserve_cids().unwrap();
    let read = Superblock::decode(&superblock_bytes(&superblock)).unwrap();
    let second = { read }.reserve_cids().unwrap();
    assert_eq!(first.start, 1);
    assert_eq!(second.start, first.end);
    superblock.cid_limit = Cid::MAX_COUNTER;
    assert_eq!(superblock.reserve_cids(), None);
}

#[test]
fn takes_labels_that_fit() {
    let mut superblock = superblock();
    assert!(superblock.set_label(&"é".repeat(32)));
    assert_eq!(superblock.label(), "é".repeat(32));
    assert!(!superblock.set_label(&"x".repeat(65)));
    assert!(!superblock.set_label("a\0b"));
}
