// SPDX-License-Identifier: GPL-2.0

//! What fsck.hotpot finds and repairs, on images in memory.

mod image;

use hotpot_utils::{
    check::{self, Failure, Part, Report, Severity},
    device::Device,
    format::{
        commit_record, dataset, redo_log,
        slot::{self, Slot, Stager},
        superblock::{self, Copy, OtherCopy},
        FormatError, PAGE_SIZE,
    },
};
use image::{Image, NODE};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, io};

fn look(bytes: &[u8]) -> Report {
    check::check(&mut bytes.to_vec(), &mut check::nothing).unwrap()
}

fn preen(bytes: &mut Vec<u8>) -> Report {
    check::check(bytes, &mut check::safe).unwrap()
}

fn repair(bytes: &mut Vec<u8>) -> Report {
    check::check(bytes, &mut check::everything).unwrap()
}

/// The errors' texts.
fn errors(report: &Report) -> Vec<String> {
    report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(ToString::to_string)
        .collect()
}

/// An image of which the changed blocks are kept apart, so that a thousand
/// mutations do not copy it a thousand times.
#[derive(Clone)]
struct Overlay<'a> {
    base: &'a [u8],
    size: u64,
    changed: BTreeMap<u64, [u8; PAGE_SIZE]>,
    writes: usize,
}

impl Overlay<'_> {
    fn block(&self, number: u64) -> &[u8] {
        let at = number as usize * PAGE_SIZE;
        self.changed
            .get(&number)
            .map_or(&self.base[at..at + PAGE_SIZE], |block| &block[..])
    }

    fn change(&mut self, at: u64, len: usize, mut new: impl FnMut(usize, u8) -> u8) {
        for (nr, at) in (at..at + len as u64).enumerate() {
            let (number, offset) = (at / PAGE_SIZE as u64, at as usize % PAGE_SIZE);
            let mut block = [0; PAGE_SIZE];
            block.copy_from_slice(self.block(number));
            let block = self.changed.entry(number).or_insert(block);
            block[offset] = new(nr, block[offset]);
        }
    }
}

impl Device for Overlay<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        if offset + to.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset as usize;
        let mut rest = to;
        while !rest.is_empty() {
            let from = &self.block((at / PAGE_SIZE) as u64)[at % PAGE_SIZE..];
            let len = from.len().min(rest.len());
            let (piece, behind) = rest.split_at_mut(len);
            piece.copy_from_slice(&from[..len]);
            at += len;
            rest = behind;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        assert!(offset + from.len() as u64 <= self.size);
        self.writes += 1;
        self.change(offset, from.len(), |nr, _| from[nr]);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flip(bytes: &mut [u8], offset: u64, bit: u32) {
    bytes[offset as usize] ^= 1 << bit;
}

#[test]
fn a_new_device_is_clean() {
    let report = look(&Image::empty().bytes);
    assert_eq!(report.exit_status(), 0);
    assert!(report.findings.is_empty());
}

#[test]
fn a_device_after_unmount_is_clean() {
    let report = look(&Image::quiet().bytes);
    assert_eq!(errors(&report), [""; 0]);
    let summary = &report.summary;
    assert_eq!((summary.datasets, summary.tombstones), (2, 1));
    assert_eq!((summary.committed, summary.node), (30, NODE));
    assert!(summary.clean_unmount);
}

#[test]
fn a_device_after_a_crash_has_work_for_mount_and_no_errors() {
    let report = look(&Image::busy().bytes);
    assert_eq!(errors(&report), [""; 0]);
    let summary = &report.summary;
    assert_eq!((summary.committed, summary.staged), (30, 1));
    assert_eq!((summary.log_prepared, summary.log_committed), (1, 1));
    assert_eq!(summary.commits_open, 2);
    let notes: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        notes.iter().any(|note| note.contains("mount recovers (4 ")),
        "{notes:?}"
    );
    assert!(
        notes
            .iter()
            .any(|note| note.contains("superseded by version 8")),
        "{notes:?}"
    );
}

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
fn a_truncated_device_is_told() {
    let mut image = Image::quiet();
    image.bytes.truncate(7 << 20);
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 4);
    assert!(errors(&report)[0].contains("truncated"));
    for len in [0, 100, 4096] {
        image.bytes.truncate(len);
        let failure = check::check(&mut image.bytes, &mut check::nothing);
        assert!(matches!(
            failure,
            Err(Failure::Format(FormatError::NotFormatted))
        ));
    }
}

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
    let of = hotpot_utils::format::CommitRecord {
        cid: hotpot_utils::format::Cid::new(NODE, 999),
        epoch: 1,
        nr_owners: 2,
        replicas: 1,
        nr_pages: 1,
    };
    let word = of.word(0, commit_record::State::Decided);
    image.write(offset, &word.0.to_le_bytes());
    assert_eq!(look(&image.bytes).exit_status(), 4);
}

/// Mutated devices: no panic, `-n` says the same twice, and after `-y` all is well
/// unless the device is beyond help.
#[test]
fn no_damage_whatever_makes_the_check_fail() {
    const ROUNDS: u64 = 2400;
    let sources = [Image::busy(), Image::quiet()];
    let geometry = sources[0].geometry();
    let hot = [
        (0, superblock::REGION),
        (geometry.records.offset, 12 * PAGE_SIZE as u64),
        (geometry.commit_descriptors.offset, 10 * 64),
        (geometry.commit_blocks.offset, 100),
        (geometry.log_descriptors.offset, 10 * 64),
        (geometry.log_blocks.offset, 200),
        (geometry.slots.offset, 60 * 64),
        (geometry.pages.offset, 60 * PAGE_SIZE as u64),
    ];
    let mut hopeless = 0;
    for seed in 0..ROUNDS {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let base = &sources[rng.random_range(0..2)].bytes;
        let mut device = Overlay {
            base,
            size: base.len() as u64,
            changed: BTreeMap::new(),
            writes: 0,
        };
        for _ in 0..rng.random_range(1..12u32) {
            let (offset, len) = hot[rng.random_range(0..hot.len())];
            let at = offset + rng.random_range(0..len);
            match rng.random_range(0..5u32) {
                0 | 1 => {
                    let bit = rng.random_range(0..8u32);
                    device.change(at, 1, |_, old| old ^ (1 << bit));
                }
                2 => {
                    let len = rng.random_range(1..100usize);
                    device.change(at, len, |_, _| rng.next_u32() as u8);
                }
                3 => {
                    let (from, _) = hot[rng.random_range(0..hot.len())];
                    let from = from + 64 * rng.random_range(0..64u64);
                    let mut line = [0; 64];
                    device.read(from, &mut line).unwrap();
                    device.change(at & !63, 64, |nr, _| line[nr]);
                }
                _ => device.change(at, rng.random_range(1..PAGE_SIZE), |_, _| 0),
            }
        }
        if rng.random_range(0..50u32) == 0 {
            device.size = rng.random_range(0..device.size);
        }
        let first = check::check(&mut device, &mut check::nothing);
        assert_eq!(device.writes, 0, "seed {seed}: -n wrote");
        let Ok(first) = first else {
            hopeless += 1;
            continue;
        };
        let second = check::check(&mut device, &mut check::everything).unwrap();
        if second.summary.size == 0 {
            hopeless += 1;
            continue;
        }
        assert_eq!(
            first.exit_status() == 0,
            second.exit_status() == 0,
            "seed {seed}"
        );
        device.writes = 0;
        let third = check::check(&mut device, &mut check::everything).unwrap();
        assert_eq!(device.writes, 0, "seed {seed}");
        assert_eq!(
            third.exit_status(),
            0,
            "seed {seed}: -y left {:?}",
            errors(&third)
        );
    }
    assert!(hopeless < ROUNDS / 4, "{hopeless} of {ROUNDS} told nothing");
}

#[test]
fn a_preened_device_has_lost_no_page() {
    let source = Image::busy();
    let geometry = source.geometry();
    for seed in 0..200 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut bytes = source.bytes.clone();
        let at = geometry.slots.offset + rng.random_range(0..60 * 64u64);
        flip(&mut bytes, at, rng.random_range(0..8));
        let at = geometry.records.offset + rng.random_range(0..2 * PAGE_SIZE as u64);
        flip(&mut bytes, at, rng.random_range(0..8));
        let damaged = bytes.clone();
        preen(&mut bytes);
        for page in 0..60 {
            let slot = |bytes: &[u8]| {
                let at = geometry.slot(page) as usize;
                Slot::decode(page, &bytes[at..at + 64])
            };
            if let Ok(Some(found)) = slot(&damaged) {
                assert_eq!(slot(&bytes), Ok(Some(found)), "seed {seed} page {page}");
            }
        }
        let pair = dataset::choose(
            &bytes[geometry.record(0, 0) as usize..][..PAGE_SIZE],
            &bytes[geometry.record(0, 1) as usize..][..PAGE_SIZE],
        );
        assert_eq!(pair.unwrap().record.unwrap().id, 1);
    }
}
