// SPDX-License-Identifier: GPL-2.0

//! Records of datasets and their pairs.

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
