// SPDX-License-Identifier: GPL-2.0

//! The on-PM format: what is written is read back, and nothing else is.

use hotpot_core::core::format::{
    commit_record,
    dataset::{self, DatasetRecord, Mode, Name, RecordError},
    geometry::{Counts, Geometry, Unfit, MIN_DEVICE, RECORD_PAIR},
    redo_log,
    slot::{self, Slot, Stager},
    superblock::{self, Copy, OtherCopy, Superblock},
    word::StateWord,
    Cid, CommitRecord, Damage, FormatError, PageVersion, RedoRecord, Timestamp, Uuid, BODY_SIZE,
    LINE_SIZE, PAGE_BYTES, PAGE_SIZE,
};
use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::code::*};
use proptest::prelude::*;

mod a_commit_record;
mod a_dataset_record;
mod a_redo_log_record;
mod a_slot;
mod a_superblock;
mod geometry_of_a_device;

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

fn slot(of: PageVersion) -> Slot {
    Slot {
        of,
        data_crc: 17,
        stager: Some(Stager::new(40, 7, &[2, 32, 40], true)),
    }
}

fn slot_line(pm_page: u64, of: PageVersion, state: slot::State) -> [u8; LINE_SIZE] {
    let slot = slot(of);
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
        (owner, pages, alone) in (1u16.., 1u32.., any::<bool>()),
        others in proptest::collection::hash_set(1u16..80, 0..5), staged in any::<bool>(),
    ) {
        let of = PageVersion { dataset, page, version, cid: Cid(cid) };
        let mut owners: Vec<u16> = others.into_iter().filter(|id| *id != owner).collect();
        owners.push(owner);
        let stager = staged.then(|| Stager::new(owner, pages, &owners, alone));
        let slot = Slot { of, data_crc, stager };
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
