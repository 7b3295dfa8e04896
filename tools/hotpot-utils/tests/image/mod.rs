// SPDX-License-Identifier: GPL-2.0

//! A small device with something of everything on it.

#![allow(
    dead_code,
    reason = "each test that includes this file uses a part of it"
)]

use hotpot_utils::{
    device::Device,
    format::{
        commit_record, crc32c,
        dataset::{DatasetRecord, Mode, Name, WINDOW_START},
        geometry::Counts,
        redo_log,
        slot::{self, Slot, Stager},
        superblock::{Copy, Superblock},
        Cid, CommitRecord, Geometry, PageVersion, RedoRecord, Timestamp, PAGE_SIZE,
    },
    make,
};
use kernel::alloc::{flags::GFP_KERNEL, KVec};

/// Node of the device.
pub const NODE: u16 = 3;

pub struct Image {
    pub bytes: Vec<u8>,
    pub superblock: Superblock,
}

impl Image {
    /// Just formatted.
    pub fn empty() -> Self {
        let mut bytes = vec![0; 8 << 20];
        let options = make::Options {
            node: Some(NODE),
            counts: Counts {
                records: Some(16),
                ..Counts::default()
            },
            ..make::Options::default()
        };
        let mut superblock = make::make(&mut bytes, &options).unwrap();
        superblock.reserve_cids().unwrap();
        let mut image = Self { bytes, superblock };
        image.put_superblock();
        image
    }

    /// Two datasets and a removed one, pages, an earlier version, and commits in
    /// all states; not unmounted.
    pub fn busy() -> Self {
        let mut image = Self::empty();
        image.superblock.clean = false;
        image.put_superblock();
        image.put_dataset(0, 1, "table", 20, false);
        image.put_dataset(1, 2, "log", 10, false);
        image.put_dataset(5, 3, "gone", 0, true);
        for page in 0..20 {
            image.put_page(page, 1, page, 1, slot::State::Committed);
        }
        for page in 0..10 {
            image.put_page(30 + page, 2, page, 7, slot::State::Committed);
        }
        image.put_page(50, 2, 3, 8, slot::State::Committed);
        image.put_page(51, 2, 4, 8, slot::State::Staged);
        image.put_redo(0, redo_log::State::Prepared, 100, &[51]);
        image.put_redo(7, redo_log::State::Committed, 101, &[50, 50, 50]);
        image.put_commit(0, commit_record::State::Phase1, 102);
        image.put_commit(3, commit_record::State::Decided, 103);
        image.put_commit(4, commit_record::State::Done, 104);
        image
    }

    /// As [`Image::busy`] after an unmount: nothing in flight, nothing superseded.
    pub fn quiet() -> Self {
        let mut image = Self::empty();
        image.put_dataset(0, 1, "table", 20, false);
        image.put_dataset(1, 2, "log", 10, false);
        image.put_dataset(5, 3, "gone", 0, true);
        for page in 0..20 {
            image.put_page(page, 1, page, 1, slot::State::Committed);
        }
        for page in 0..10 {
            image.put_page(30 + page, 2, page, 7, slot::State::Committed);
        }
        image
    }

    pub fn geometry(&self) -> Geometry {
        self.superblock.geometry
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.bytes.write(offset, bytes).unwrap();
    }

    pub fn put_superblock(&mut self) {
        self.superblock.sequence += 1;
        let mut block = [0; PAGE_SIZE];
        self.superblock.encode(&mut block);
        let copy = if self.superblock.sequence % 2 == 0 {
            Copy::B
        } else {
            Copy::A
        };
        self.write(copy.offset(), &block);
    }

    /// The superblock copy that counts.
    pub fn newest_superblock(&self) -> Copy {
        if self.superblock.sequence % 2 == 0 {
            Copy::B
        } else {
            Copy::A
        }
    }

    pub fn put_dataset(&mut self, index: u64, id: u64, name: &str, pages: u64, tombstone: bool) {
        let mut nodes = KVec::new();
        nodes.extend_from_slice(&[NODE, 4], GFP_KERNEL).unwrap();
        let mut record = DatasetRecord {
            sequence: 1,
            id,
            generation: 1,
            tombstone,
            name: Name::new(name.as_bytes()).unwrap(),
            uid: 0,
            gid: 0,
            permissions: 0o644,
            size: pages * 4096,
            base: WINDOW_START + (id << 34),
            reserve: 16 << 30,
            chunk_size: 1 << 20,
            replicas: 1,
            mode: Mode::Mrmw,
            created: Timestamp::default(),
            modified: Timestamp::default(),
            changed: Timestamp::default(),
            nodes,
            moved: KVec::new(),
        };
        for copy in 0..2 {
            let mut block = [0; PAGE_SIZE];
            record.encode(&mut block).unwrap();
            self.write(self.geometry().record(index, copy), &block);
            record.sequence += 1;
        }
    }

    pub fn put_page(
        &mut self,
        pm_page: u64,
        dataset: u64,
        page: u64,
        version: u64,
        state: slot::State,
    ) {
        let stager = (state == slot::State::Staged).then(|| Stager::new(4, 1, &[NODE, 4], false));
        self.put_version(pm_page, (dataset, page, version), state, stager);
    }

    pub fn put_version(
        &mut self,
        pm_page: u64,
        (dataset, page, version): (u64, u64, u64),
        state: slot::State,
        stager: Option<Stager>,
    ) {
        let data = [pm_page as u8 ^ version as u8; PAGE_SIZE];
        let slot = Slot {
            of: PageVersion {
                dataset,
                page,
                version,
                cid: Cid::new(NODE, 50 + pm_page),
            },
            data_crc: crc32c(&data),
            stager,
        };
        let geometry = self.geometry();
        self.write(geometry.page(pm_page), &data);
        self.write(geometry.slot(pm_page) + 8, &slot.encode(pm_page));
        let word = slot.of.word(pm_page, state);
        self.write(geometry.slot(pm_page), &word.0.to_le_bytes());
    }

    pub fn put_redo(&mut self, block: u64, state: redo_log::State, counter: u64, pages: &[u64]) {
        let mut entries = Vec::new();
        for (nr, page) in pages.iter().enumerate() {
            let entry = redo_log::Entry {
                dataset: 2,
                page: 3,
                base_version: 7,
                staged: *page,
                offset: nr as u16 * 16,
                len: 16,
            };
            entries.extend_from_slice(&entry.encode());
        }
        let data = vec![0x77; 16 * pages.len()];
        let descriptor = redo_log::Descriptor {
            of: RedoRecord {
                cid: Cid::new(NODE, counter),
                epoch: 1,
                nr_owners: 2,
                replicas: 1,
                nr_entries: pages.len() as u32,
                data_len: data.len() as u32,
            },
            entries_crc: crc32c(&entries),
            data_crc: crc32c(&data),
        };
        let geometry = self.geometry();
        self.write(geometry.log_block(block), &[entries, data].concat());
        let offset = geometry.log_descriptor(block);
        self.write(offset + 8, &descriptor.encode(block));
        let word = descriptor.of.word(block, state);
        self.write(offset, &word.0.to_le_bytes());
    }

    pub fn put_commit(&mut self, block: u64, state: commit_record::State, counter: u64) {
        let of = CommitRecord {
            cid: Cid::new(NODE, counter),
            epoch: 1,
            nr_owners: 2,
            replicas: 1,
            nr_pages: 1,
        };
        let mut content = vec![0; of.content_len() as usize];
        of.encode_content(&[NODE, 4], &[50], &mut content).unwrap();
        let descriptor = commit_record::Descriptor {
            of,
            content_crc: crc32c(&content),
        };
        let geometry = self.geometry();
        self.write(geometry.commit_block(block), &content);
        let offset = geometry.commit_descriptor(block);
        self.write(offset + 8, &descriptor.encode(block));
        let word = of.word(block, state);
        self.write(offset, &word.0.to_le_bytes());
    }
}
