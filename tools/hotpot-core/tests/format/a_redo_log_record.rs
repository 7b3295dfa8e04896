// SPDX-License-Identifier: GPL-2.0

//! Records of the redo log.

use super::*;

#[test]
fn is_read_as_it_was_written() {
    for state in [redo_log::State::Prepared, redo_log::State::Committed] {
        let (read, descriptor) = redo_log::Descriptor::decode(&geometry(), 9, &redo_line(9, state))
            .unwrap()
            .unwrap();
        assert_eq!((read, descriptor.of), (state, redo_record()));
    }
    assert_eq!(redo_record().nr_blocks(), 2);
    assert_eq!(redo_record().entries_len(), 80);
}

#[test]
fn with_any_flipped_bit_is_refused() {
    let line = redo_line(9, redo_log::State::Committed);
    for bytes in flips(&line) {
        assert!(redo_log::Descriptor::decode(&geometry(), 9, &bytes).is_err());
    }
}

#[test]
fn that_reaches_beyond_the_log_is_refused() {
    let last = geometry().nr_log_blocks() - 1;
    let line = redo_line(last, redo_log::State::Prepared);
    assert_eq!(
        redo_log::Descriptor::decode(&geometry(), last, &line),
        Err(Damage::Field("length"))
    );
    let line = redo_line(last - 1, redo_log::State::Prepared);
    assert!(redo_log::Descriptor::decode(&geometry(), last - 1, &line).is_ok());
}

#[test]
fn of_the_largest_size_has_no_overflow() {
    let mut record = redo_record();
    record.nr_entries = u32::MAX;
    record.data_len = u32::MAX;
    assert_eq!(
        record.nr_blocks(),
        (u64::from(u32::MAX) * 41).div_ceil(4096)
    );
}

#[test]
fn is_not_taken_from_data_that_look_like_one() {
    // The descriptor of a block in the middle of a record is empty, whatever the block holds.
    assert_eq!(
        redo_log::Descriptor::decode(&geometry(), 9, &[0; LINE_SIZE]),
        Ok(None)
    );
    // And a descriptor that was copied elsewhere does not belong there.
    let line = redo_line(9, redo_log::State::Prepared);
    assert!(redo_log::Descriptor::decode(&geometry(), 10, &line).is_err());
}

#[test]
fn has_checksums_of_entries_and_data() {
    let entries = [1; 80];
    let data = vec![2; 5000];
    let descriptor = redo_log::Descriptor {
        of: redo_record(),
        entries_crc: hotpot_core::core::format::crc32c(&entries),
        data_crc: hotpot_core::core::format::crc32c(&data),
    };
    assert_eq!(descriptor.check(&entries, &data), Ok(()));
    assert_eq!(descriptor.check(&entries, &data[1..]), Err(Damage::Short));
    let mut wrong = data.clone();
    wrong[4999] ^= 1;
    assert_eq!(descriptor.check(&entries, &wrong), Err(Damage::Checksum));
}

#[test]
fn has_entries_that_stay_in_their_page_and_device() {
    let entry = redo_log::Entry {
        dataset: 7,
        page: 1,
        base_version: 0,
        staged: redo_log::NO_PAGE,
        offset: 4095,
        len: 1,
    };
    let read = |entry: redo_log::Entry| redo_log::Entry::decode(&geometry(), &entry.encode());
    assert_eq!(read(entry), Ok(entry));
    assert!(read(redo_log::Entry { len: 2, ..entry }).is_err());
    assert!(read(redo_log::Entry { len: 0, ..entry }).is_err());
    let staged = geometry().nr_pages();
    assert!(read(redo_log::Entry { staged, ..entry }).is_err());
    let staged = staged - 1;
    assert!(read(redo_log::Entry { staged, ..entry }).is_ok());
}
