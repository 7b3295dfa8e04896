// SPDX-License-Identifier: GPL-2.0

//! The records of a disk.

use clio_cn_core::core::disk::{
    assemble::{assemble, Assembly, Found},
    record::{record_at, region_shift_for, regions, Record, Trust, DATA, MAX_REGIONS, RECORD_LEN},
};
use kernel::error::code::*;
use proptest::prelude::*;

fn made() -> Assembly {
    Assembly::create([3; 16], 64 << 20, &[(11, 1), (12, 2), (13, 3)]).unwrap()
}

fn record_of(assembly: &Assembly, own: u8) -> Record {
    let mut bytes = vec![0; RECORD_LEN];
    assembly
        .head
        .encode(own, &assembly.dirty, &mut bytes)
        .unwrap();
    Record::decode(&bytes).unwrap()
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let mut disk = made();
    disk.head.seq = 9;
    disk.dirty.insert(0);
    disk.dirty.insert(63);
    let record = record_of(&disk, 2);
    assert_eq!((record.head, record.own), (disk.head, 2));
    assert_eq!(record.dirty.count(), 2);
    assert!(record.dirty.has(63));
}

#[test]
fn records_of_both_places_and_the_data_do_not_meet() {
    assert_eq!(record_at(0) + RECORD_LEN as u64, record_at(1));
    assert!(record_at(1) + RECORD_LEN as u64 <= DATA);
}

#[test]
fn regions_fit_into_the_record_whatever_the_size() {
    for shift in 12..50 {
        let size = (1_u64 << shift) + 4096;
        assert!(regions(size, region_shift_for(size)) <= MAX_REGIONS);
    }
}

#[test]
fn what_was_never_written_is_told_from_what_is_damaged() {
    let none = Record::decode(&[0; RECORD_LEN]);
    assert_eq!(none.err(), Some(ENODATA));
    let mut bytes = vec![0; RECORD_LEN];
    made().head.encode(0, &made().dirty, &mut bytes).unwrap();
    bytes[RECORD_LEN - 1] ^= 1;
    assert_eq!(Record::decode(&bytes).err(), Some(EBADMSG));
}

#[test]
fn a_disk_has_a_size_and_copies() {
    let create = |size, copies: &[(u64, u32)]| Assembly::create([1; 16], size, copies).err();
    assert_eq!(create(0, &[(1, 1)]), Some(EINVAL));
    assert_eq!(create(4097, &[(1, 1)]), Some(EINVAL));
    assert_eq!(create(4096, &[]), Some(EINVAL));
    assert_eq!(create(4096, &[(1, 1); 9]), Some(E2BIG));
}

fn found(assembly: &Assembly, own: u8) -> Found {
    Found {
        node: u32::from(own) + 1,
        record: record_of(assembly, own),
        place: 0,
    }
}

#[test]
fn the_newest_record_says_which_copies_count() {
    let old = made();
    let mut new = made();
    new.head.seq = 5;
    new.head.members[1].trust = Trust::None;
    new.head.members[2].trust = Trust::Filling;
    let all = [found(&new, 0), found(&old, 1), found(&new, 2)];
    let usable = assemble(&all, false).unwrap();
    assert_eq!(usable.stale, 0b110);
    assert_eq!(usable.head.members.map(|m| m.trust as u32)[..3], [1, 0, 0]);
}

#[test]
fn a_disk_is_not_used_while_a_copy_that_may_be_newer_is_away() {
    let disk = made();
    let two = [found(&disk, 0), found(&disk, 1)];
    assert_eq!(assemble(&two, false).err(), Some(EHOSTDOWN));
    assert_eq!(assemble(&two, true).unwrap().stale, 0);
    assert_eq!(assemble(&[], false).err(), Some(ENODEV));
}

#[test]
fn a_copy_that_was_replaced_in_its_place_is_another_one() {
    let old = made();
    let mut new = made();
    new.head.seq = 5;
    new.head.members[1].id = 99;
    let all = [found(&new, 0), found(&old, 1), found(&new, 2)];
    assert_eq!(assemble(&all, false).err(), Some(EHOSTDOWN));
}

#[test]
fn copies_of_different_disks_are_not_mixed() {
    let one = made();
    let mut other = made();
    other.head.uuid = [4; 16];
    let both = [found(&one, 0), found(&other, 1)];
    assert_eq!(assemble(&both, false).err(), Some(EUCLEAN));
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), RECORD_LEN)) {
        let _ = Record::decode(&bytes);
        bytes[..8].copy_from_slice(b"CLIODISK");
        let _ = Record::decode(&bytes);
    }

    #[test]
    fn a_record_with_a_wrong_bit_is_damaged(at in 64..RECORD_LEN, bit in 0..8_u32) {
        let mut bytes = vec![0; RECORD_LEN];
        made().head.encode(0, &made().dirty, &mut bytes).unwrap();
        bytes[at] ^= 1_u8 << bit;
        prop_assert_eq!(Record::decode(&bytes).err(), Some(EBADMSG));
    }
}
