// SPDX-License-Identifier: GPL-2.0

//! The on-PM format: what is written is read back, and nothing else is.

use hotpot_core::core::format::{
    commit_record,
    dataset::{self, DatasetRecord, Mode, Name, RecordError},
    geometry::{Counts, Geometry, Unfit, MIN_DEVICE, RECORD_PAIR},
    redo_log,
    slot::{self, Slot},
    superblock::{self, Copy, OtherCopy, Superblock},
    word::StateWord,
    Cid, CommitRecord, Damage, FormatError, PageVersion, RedoRecord, Timestamp, Uuid, BODY_SIZE,
    LINE_SIZE, PAGE_BYTES, PAGE_SIZE,
};
use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::code::*};
use proptest::prelude::*;

fn geometry() -> Geometry {
    Geometry::new(64 << 20, Counts::default()).unwrap()
}

fn superblock() -> Superblock {
    let time = Timestamp { sec: 1, nsec: 2 };
    let mut superblock = Superblock::new(geometry(), Uuid([1; 16]), Uuid([2; 16]), 3, time);
    assert!(superblock.set_label("the first one"));
    superblock
}

fn superblock_bytes(superblock: &Superblock) -> [u8; PAGE_SIZE] {
    let mut block = [0xff; PAGE_SIZE];
    superblock.encode(&mut block);
    block
}

fn record(nodes: &[u16]) -> DatasetRecord {
    let mut list = KVec::new();
    list.extend_from_slice(nodes, GFP_KERNEL).unwrap();
    DatasetRecord {
        sequence: 1,
        id: 7,
        generation: 3,
        tombstone: false,
        name: Name::new(b"table").unwrap(),
        uid: 1000,
        gid: 100,
        permissions: 0o644,
        size: 123_456,
        base: dataset::WINDOW_START,
        reserve: 16 << 30,
        chunk_size: 4 << 20,
        replicas: 2,
        mode: Mode::Mrmw,
        created: Timestamp { sec: -5, nsec: 6 },
        modified: Timestamp::default(),
        changed: Timestamp { sec: 7, nsec: 8 },
        nodes: list,
        moved: KVec::new(),
    }
}

fn record_bytes(record: &DatasetRecord) -> [u8; PAGE_SIZE] {
    let mut block = [0xff; PAGE_SIZE];
    record.encode(&mut block).unwrap();
    block
}

fn page_version() -> PageVersion {
    PageVersion {
        dataset: 7,
        page: 11,
        version: 0x1_0005,
        cid: Cid::new(3, 99),
    }
}

fn redo_record() -> RedoRecord {
    RedoRecord {
        cid: Cid::new(3, 99),
        epoch: 12,
        nr_owners: 2,
        replicas: 3,
        nr_entries: 2,
        data_len: 5000,
    }
}

fn commit_record() -> CommitRecord {
    CommitRecord {
        cid: Cid::new(3, 99),
        epoch: 12,
        nr_owners: 3,
        replicas: 2,
        nr_pages: 2,
    }
}

fn line(word: StateWord, body: [u8; BODY_SIZE]) -> [u8; LINE_SIZE] {
    let mut line = [0; LINE_SIZE];
    line[..8].copy_from_slice(&word.0.to_le_bytes());
    line[8..].copy_from_slice(&body);
    line
}

fn slot_line(pm_page: u64, of: PageVersion, state: slot::State) -> [u8; LINE_SIZE] {
    let slot = Slot { of, data_crc: 17 };
    line(of.word(pm_page, state), slot.encode(pm_page))
}

fn redo_line(block: u64, state: redo_log::State) -> [u8; LINE_SIZE] {
    let of = redo_record();
    let descriptor = redo_log::Descriptor {
        of,
        entries_crc: 1,
        data_crc: 2,
    };
    line(of.word(block, state), descriptor.encode(block))
}

fn commit_line(block: u64, state: commit_record::State) -> [u8; LINE_SIZE] {
    let of = commit_record();
    let descriptor = commit_record::Descriptor { of, content_crc: 1 };
    line(of.word(block, state), descriptor.encode(block))
}

/// All bytes with one bit flipped.
fn flips(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut bytes = bytes.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    })
}

/// `bytes` of which only the first `n` multiples of 8 arrived over `old`.
fn torn<'a>(old: &'a [u8], new: &'a [u8]) -> impl Iterator<Item = Vec<u8>> + 'a {
    (1..new.len() / 8).map(move |n| [&new[..n * 8], &old[n * 8..]].concat())
}

mod geometry_of_a_device {
    use super::*;

    #[test]
    fn the_smallest_device_has_room_for_data() {
        let geometry = Geometry::new(MIN_DEVICE, Counts::default()).unwrap();
        assert!(geometry.pages.len >= MIN_DEVICE / 2);
        assert_eq!(
            Geometry::new(MIN_DEVICE - 1, Counts::default()),
            Err(Unfit::TooSmall)
        );
    }

    #[test]
    fn a_log_that_leaves_no_room_is_refused() {
        let counts = |log_blocks| Counts {
            log_blocks: Some(log_blocks),
            ..Counts::default()
        };
        assert_eq!(Geometry::new(16 << 20, counts(0)), Err(Unfit::Zero));
        assert_eq!(Geometry::new(16 << 20, counts(3000)), Err(Unfit::NoRoom));
        assert_eq!(
            Geometry::new(16 << 20, counts(u64::MAX)),
            Err(Unfit::NoRoom)
        );
    }

    #[test]
    fn huge_devices_are_fine() {
        for size in [1u64 << 32, 6 << 40, u64::MAX] {
            let geometry = Geometry::new(size, Counts::default()).unwrap();
            assert!(geometry.pages.len > size / 100 * 90, "{size}");
        }
    }

    proptest! {
        #[test]
        fn regions_fill_the_device_without_gap_or_overlap(
            size in MIN_DEVICE..(1 << 40),
            records in proptest::option::of(1u64..500),
            log_blocks in proptest::option::of(1u64..500),
            commit_blocks in proptest::option::of(1u64..500),
        ) {
            let counts = Counts { records, log_blocks, commit_blocks };
            let geometry = Geometry::new(size, counts).unwrap();
            let mut end = superblock::REGION;
            for (name, region) in geometry.regions() {
                prop_assert_eq!(region.offset, end, "{}", name);
                prop_assert_eq!(region.len % PAGE_BYTES, 0);
                end = region.end();
            }
            prop_assert_eq!(end, size / PAGE_BYTES * PAGE_BYTES);
            prop_assert_eq!(geometry.size(), end);
            let last = geometry.nr_pages() - 1;
            prop_assert!(geometry.slots.contains(geometry.slot(last) + 63));
            prop_assert_eq!(geometry.page(last) + PAGE_BYTES, end);
            prop_assert!(geometry.log_descriptors.contains(
                geometry.log_descriptor(geometry.nr_log_blocks() - 1) + 63));
            prop_assert!(geometry.commit_descriptors.contains(
                geometry.commit_descriptor(geometry.nr_commit_blocks() - 1) + 63));
            prop_assert_eq!(
                geometry.record(geometry.nr_records() - 1, 1) + RECORD_PAIR / 2,
                geometry.records.end());
            if let Some(records) = records {
                prop_assert_eq!(geometry.nr_records(), records);
            }
        }
    }
}

mod a_superblock {
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
}

mod a_dataset_record {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        let written = record(&[1, 2, 3]);
        let read = DatasetRecord::decode(&record_bytes(&written))
            .unwrap()
            .unwrap();
        assert_eq!(format!("{read:?}"), format!("{written:?}"));
        let copy = read.try_clone().unwrap();
        assert_eq!(format!("{copy:?}"), format!("{written:?}"));
    }

    #[test]
    fn has_room_for_1790_nodes() {
        assert_eq!(dataset::MAX_NODES, 1790);
        let nodes: Vec<u16> = (1..=1790).collect();
        let written = record(&nodes);
        let read = DatasetRecord::decode(&record_bytes(&written))
            .unwrap()
            .unwrap();
        assert_eq!(&read.nodes[..], &nodes[..]);
        let too_many: Vec<u16> = (1..=1791).collect();
        assert!(record(&too_many).encode(&mut [0; PAGE_SIZE]).is_err());
    }

    #[test]
    fn with_any_flipped_bit_is_refused() {
        for bytes in flips(&record_bytes(&record(&[1]))) {
            assert!(DatasetRecord::decode(&bytes).is_err());
        }
    }

    #[test]
    fn is_not_written_with_impossible_fields() {
        let impossible: [fn(&mut DatasetRecord); 12] = [
            |record| record.id = 0,
            |record| record.sequence = 0,
            |record| record.replicas = 0,
            |record| record.chunk_size = 12_345,
            |record| record.chunk_size = 1 << 31,
            |record| record.reserve += 1,
            |record| record.size = record.reserve + 1,
            |record| record.base = dataset::WINDOW_END,
            |record| record.base = 4096,
            |record| record.base += 1,
            |record| record.permissions = 0o10_000,
            |record| record.created.nsec = 1_000_000_000,
        ];
        for change in impossible {
            let mut record = record(&[1]);
            change(&mut record);
            assert!(record.encode(&mut [0; PAGE_SIZE]).is_err(), "{record:?}");
        }
        assert!(record(&[]).encode(&mut [0; PAGE_SIZE]).is_err());
    }

    #[test]
    fn has_a_name_that_a_directory_can_hold() {
        for name in [&b"a"[..], b"...", b"\xff\n ", &[b'x'; 255]] {
            assert_eq!(Name::new(name).unwrap().as_bytes(), name);
        }
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'x'; 256]] {
            assert_eq!(Name::new(name), None);
        }
    }

    #[test]
    fn torn_by_a_crash_leaves_the_state_before() {
        let old = record(&[1]);
        let mut new = old.try_clone().unwrap();
        new.sequence = 2;
        new.size = 99;
        let older = [0; PAGE_SIZE];
        for bytes in torn(&older, &record_bytes(&new)) {
            let pair = dataset::choose(&record_bytes(&old), &bytes).unwrap();
            assert_eq!(pair.record.unwrap().size, old.size);
            assert_eq!(pair.next, 1);
        }
        let pair = dataset::choose(&record_bytes(&old), &record_bytes(&new)).unwrap();
        assert_eq!(pair.record.unwrap().size, 99);
        assert_eq!((pair.next, pair.damaged), (0, None));
    }

    #[test]
    fn whose_creation_was_cut_short_is_none() {
        let empty = [0; PAGE_SIZE];
        for bytes in torn(&empty, &record_bytes(&record(&[1]))) {
            let pair = dataset::choose(&bytes, &empty).unwrap();
            assert!(pair.record.is_none());
            assert_eq!(pair.next, 0);
            assert!(pair.damaged.is_some());
        }
        assert!(dataset::choose(&empty, &empty).unwrap().record.is_none());
    }

    #[test]
    fn with_both_copies_damaged_or_at_odds_is_refused() {
        let mut bad = record_bytes(&record(&[1]));
        bad[600] ^= 1;
        assert_eq!(
            dataset::choose(&bad, &bad).unwrap_err(),
            RecordError::Damaged(Damage::Checksum)
        );
        let mut other = record(&[1]);
        other.id = 8;
        let odd = dataset::choose(&record_bytes(&record(&[1])), &record_bytes(&other));
        assert!(odd.is_err());
    }
}

mod a_slot {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        for state in [slot::State::Staged, slot::State::Committed] {
            let of = page_version();
            let read = Slot::decode(5, &slot_line(5, of, state)).unwrap();
            assert_eq!(read, Some((state, Slot { of, data_crc: 17 })));
        }
    }

    #[test]
    fn with_any_flipped_bit_is_refused() {
        for state in [slot::State::Staged, slot::State::Committed] {
            for bytes in flips(&slot_line(5, page_version(), state)) {
                assert!(Slot::decode(5, &bytes).is_err());
            }
        }
    }

    #[test]
    fn of_zeros_is_free_and_a_flipped_bit_in_its_word_is_seen() {
        assert_eq!(Slot::decode(5, &[0; LINE_SIZE]), Ok(None));
        for bytes in flips(&[0; LINE_SIZE]).take(64) {
            assert!(Slot::decode(5, &bytes).is_err());
        }
    }

    #[test]
    fn in_the_wrong_place_is_refused() {
        let line = slot_line(5, page_version(), slot::State::Committed);
        assert!(Slot::decode(6, &line).is_err());
    }

    #[test]
    fn whose_word_was_swung_before_its_body_arrived_is_refused() {
        let old = page_version();
        for change in [
            |of: &mut PageVersion| of.dataset = 8,
            |of: &mut PageVersion| of.page = 12,
            |of: &mut PageVersion| of.version += 0x1_0000,
            |of: &mut PageVersion| of.cid = Cid::new(3, 100),
        ] {
            let mut new = old;
            change(&mut new);
            let body = Slot {
                of: old,
                data_crc: 17,
            }
            .encode(5);
            let line = line(new.word(5, slot::State::Committed), body);
            assert_eq!(Slot::decode(5, &line), Err(Damage::Word));
        }
    }

    #[test]
    fn never_seen_torn_when_the_word_is_swung_last() {
        let old = slot_line(5, page_version(), slot::State::Committed);
        let mut freed = old;
        freed[..8].fill(0);
        let of = PageVersion {
            version: 9,
            ..page_version()
        };
        let new = slot_line(5, of, slot::State::Staged);
        for n in 1..=8 {
            let mut line = freed;
            line[8..n * 8].copy_from_slice(&new[8..n * 8]);
            assert_eq!(Slot::decode(5, &line), Ok(None));
        }
    }

    #[test]
    fn changes_state_in_its_word_alone() {
        let staged = slot_line(5, page_version(), slot::State::Staged);
        let committed = slot_line(5, page_version(), slot::State::Committed);
        assert_eq!(staged[8..], committed[8..]);
    }
}

mod a_redo_log_record {
    use super::*;

    #[test]
    fn is_read_as_it_was_written() {
        for state in [redo_log::State::Prepared, redo_log::State::Committed] {
            let (read, descriptor) =
                redo_log::Descriptor::decode(&geometry(), 9, &redo_line(9, state))
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
}

mod a_commit_record {
    use super::*;
    use commit_record::{Descriptor, State};

    #[test]
    fn is_read_as_it_was_written() {
        for state in [State::Phase1, State::Decided, State::Done] {
            let (read, descriptor) = Descriptor::decode(&geometry(), 9, &commit_line(9, state))
                .unwrap()
                .unwrap();
            assert_eq!((read, descriptor.of), (state, commit_record()));
        }
    }

    #[test]
    fn with_any_flipped_bit_is_refused() {
        let line = commit_line(9, State::Decided);
        for bytes in flips(&line) {
            assert!(Descriptor::decode(&geometry(), 9, &bytes).is_err());
        }
    }

    #[test]
    fn holds_owner_nodes_and_pages() {
        let record = commit_record();
        let mut content = vec![0xff; record.content_len() as usize];
        record
            .encode_content(&[4, 5, 6], &[70, 80], &mut content)
            .unwrap();
        assert_eq!(record.owners(&content).collect::<Vec<_>>(), [4, 5, 6]);
        assert_eq!(record.pages(&content).collect::<Vec<_>>(), [70, 80]);
        let wrong = record.encode_content(&[4, 5], &[70, 80], &mut content);
        assert_eq!(wrong, Err(Damage::Short));
        let wrong = record.encode_content(&[4, 5, 6], &[70, 80], &mut content[1..]);
        assert_eq!(wrong, Err(Damage::Short));
    }

    #[test]
    fn grows_over_several_blocks() {
        let mut record = commit_record();
        assert_eq!(record.nr_blocks(), 1);
        record.nr_pages = 65_536;
        assert_eq!(record.nr_blocks(), 129);
    }
}

#[test]
fn commit_ids_hold_node_and_counter() {
    let cid = Cid::new(65_535, Cid::MAX_COUNTER);
    assert_eq!((cid.node(), cid.counter()), (65_535, Cid::MAX_COUNTER));
    assert_eq!(Cid::new(1, 1 << 48), Cid::new(1, 0));
}

#[test]
fn uuids_are_read_as_they_are_printed() {
    let text = "0123abcd-4567-89ef-0123-456789abcdef";
    let uuid = Uuid::parse(text).unwrap();
    assert_eq!(uuid.to_string(), text);
    assert_eq!(
        Uuid::parse(&text.replace('-', "").to_uppercase()),
        Some(uuid)
    );
    for text in ["", "0123abcd", "0123abcd-4567-89ef-0123-456789abcdeg", "é"] {
        assert_eq!(Uuid::parse(text), None);
    }
}

#[test]
fn errors_say_what_to_do() {
    assert_eq!(
        FormatError::Superblock(Damage::Checksum).to_string(),
        "both superblocks are damaged (wrong checksum); run fsck.hotpot"
    );
    assert_eq!(
        FormatError::OtherCluster {
            found: Uuid([0xab; 16])
        }
        .to_string(),
        "belongs to another cluster, abababab-abab-abab-abab-abababababab"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..160),
        index in any::<u64>(),
        long in any::<bool>(),
        seal in any::<bool>(),
        magic in 0usize..6,
    ) {
        let magics: [&[u8]; 6] = [b"HOTPOTPM\x01", b"HPDS\x01\0", b"HPSL", b"HPRL", b"HPCR", b""];
        let at = if (2..5).contains(&magic) { 8 } else { 0 };
        if bytes.len() >= at + magics[magic].len() {
            bytes[at..at + magics[magic].len()].copy_from_slice(magics[magic]);
        }
        if long {
            bytes.resize(PAGE_SIZE, 0);
        }
        if seal && bytes.len() == PAGE_SIZE {
            let crc = hotpot_core::core::format::crc32c(&bytes[..PAGE_SIZE - 4]);
            bytes[PAGE_SIZE - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        let _ = Superblock::decode(&bytes).map(|found| {
            let _ = (found.geometry.size(), found.label().len());
        });
        let _ = superblock::choose(&bytes, &bytes);
        let _ = DatasetRecord::decode(&bytes);
        let _ = dataset::choose(&bytes, &[]);
        let _ = Slot::decode(index, &bytes);
        let _ = redo_log::Descriptor::decode(&geometry(), index, &bytes);
        let _ = redo_log::Entry::decode(&geometry(), &bytes);
        let _ = commit_record::Descriptor::decode(&geometry(), index, &bytes);
        let record = CommitRecord { nr_pages: index as u32, ..commit_record() };
        let _ = record.owners(&bytes).count() + record.pages(&bytes).count();
        if let Some(line) = bytes.first_chunk::<LINE_SIZE>() {
            let _ = Slot::decode_body(index, line);
            let _ = redo_log::Descriptor::decode_body(index, line)
                .map(|found| found.of.nr_blocks());
            let _ = commit_record::Descriptor::decode_body(index, line)
                .map(|found| found.of.nr_blocks());
        }
    }

    #[test]
    fn any_slot_is_read_as_it_was_written(
        pm_page in any::<u64>(), dataset in 1u64.., page in any::<u64>(), version in 1u64..,
        cid in any::<u64>(), data_crc in any::<u32>(), committed in any::<bool>(),
    ) {
        let of = PageVersion { dataset, page, version, cid: Cid(cid) };
        let slot = Slot { of, data_crc };
        let state = if committed { slot::State::Committed } else { slot::State::Staged };
        let line = line(of.word(pm_page, state), slot.encode(pm_page));
        prop_assert_eq!(Slot::decode(pm_page, &line), Ok(Some((state, slot))));
    }

    #[test]
    fn any_record_is_read_as_it_was_written(
        name in proptest::collection::vec(b'0'.., 1..256),
        nodes in proptest::collection::vec(any::<u16>(), 1..1791),
        numbers in any::<[u32; 8]>(),
        tombstone in any::<bool>(),
    ) {
        let mut record = record(&nodes);
        record.name = Name::new(&name).unwrap();
        record.tombstone = tombstone;
        record.uid = numbers[0];
        record.gid = numbers[1];
        record.permissions = numbers[2] & 0o7777;
        record.size = u64::from(numbers[3]);
        record.generation = u64::from(numbers[4]) << 20;
        record.replicas = numbers[5] | 1;
        record.created.sec = i64::from(numbers[6]) - (1 << 31);
        record.base = dataset::WINDOW_START + u64::from(numbers[7] >> 2) * 4096;
        let read = DatasetRecord::decode(&record_bytes(&record)).unwrap().unwrap();
        prop_assert_eq!(format!("{read:?}"), format!("{record:?}"));
    }

    #[test]
    fn any_descriptor_is_read_as_it_was_written(
        block in 0u64..100, cid in any::<u64>(), epoch in any::<u64>(),
        counts in (1u32.., 1u32.., 0u32..5000, 0u32..400_000), crcs in any::<(u32, u32)>(),
    ) {
        let of = RedoRecord {
            cid: Cid(cid), epoch, nr_owners: counts.0, replicas: counts.1,
            nr_entries: counts.2, data_len: counts.3,
        };
        let descriptor = redo_log::Descriptor { of, entries_crc: crcs.0, data_crc: crcs.1 };
        let state = redo_log::State::Prepared;
        let line = line(of.word(block, state), descriptor.encode(block));
        prop_assert_eq!(
            redo_log::Descriptor::decode(&geometry(), block, &line), Ok(Some((state, descriptor))));
    }
}
