// SPDX-License-Identifier: GPL-2.0

//! Where things are on a device: regions one behind the other, each aligned to
//! 4 KiB, computed from the device's size and a few counts.

use super::{superblock, Damage, LINE_SIZE, PAGE_BYTES};

/// Smallest device that can be formatted.
pub const MIN_DEVICE: u64 = 8 << 20;
/// Bytes of a dataset's pair of records.
pub const RECORD_PAIR: u64 = 2 * PAGE_BYTES;

const LINE: u64 = LINE_SIZE as u64;

/// Consecutive bytes of the device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// First byte, a multiple of 4 KiB.
    pub offset: u64,
    /// Bytes, a multiple of 4 KiB.
    pub len: u64,
}

impl Region {
    /// The first byte behind it.
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Whether the device offset lies in it.
    pub fn contains(self, offset: u64) -> bool {
        (self.offset..self.end()).contains(&offset)
    }

    fn at(self, index: u64, size: u64) -> u64 {
        self.offset.wrapping_add(index.wrapping_mul(size))
    }
}

/// What can be chosen when a device is formatted; `None` takes the default for
/// the device's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs of dataset records: how many datasets (and tombstones) there can be.
    /// Default: one for each MiB of the device, 64 to 65,536.
    pub records: Option<u64>,
    /// 4 KiB blocks of commit records. Default: 1/128 of the device, 128 KiB to 64 MiB.
    pub commit_blocks: Option<u64>,
    /// 4 KiB blocks of the redo log. Default: 1/16 of the device, 512 KiB to 1 GiB.
    pub log_blocks: Option<u64>,
}

/// Why no geometry fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The device is smaller than [`MIN_DEVICE`].
    TooSmall,
    /// A count is 0.
    Zero,
    /// The counts leave less than half of the device for data.
    NoRoom,
}

/// The regions of a device. The last one ends where the file system ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// Pairs of [dataset records](super::dataset).
    pub records: Region,
    /// Descriptors of [commit records](super::commit_record), one for each of their blocks.
    pub commit_descriptors: Region,
    /// Blocks of commit records.
    pub commit_blocks: Region,
    /// Descriptors of [redo log records](super::redo_log), one for each block of the log.
    pub log_descriptors: Region,
    /// Blocks of the redo log.
    pub log_blocks: Region,
    /// [Slots](super::slot), one for each data page.
    pub slots: Region,
    /// Data pages.
    pub pages: Region,
}

fn round_up(len: u64) -> u64 {
    len.div_ceil(PAGE_BYTES).saturating_mul(PAGE_BYTES)
}

impl Geometry {
    /// The geometry of a device of `size` bytes. What `size` has beyond a
    /// multiple of 4 KiB is left unused.
    pub fn new(size: u64, counts: Counts) -> Result<Geometry, Unfit> {
        if size < MIN_DEVICE {
            return Err(Unfit::TooSmall);
        }
        let records = counts.records.unwrap_or((size >> 20).clamp(64, 65_536));
        let commit_blocks = counts
            .commit_blocks
            .unwrap_or((size / 128 / PAGE_BYTES).clamp(32, 16_384));
        let log_blocks = counts
            .log_blocks
            .unwrap_or((size / 16 / PAGE_BYTES).clamp(128, 262_144));
        if records == 0 || commit_blocks == 0 || log_blocks == 0 {
            return Err(Unfit::Zero);
        }
        let most = size / PAGE_BYTES;
        if records > most || commit_blocks > most || log_blocks > most {
            return Err(Unfit::NoRoom);
        }
        let mut end = superblock::REGION;
        let mut next = |len: u64| {
            let region = Region {
                offset: end,
                len: round_up(len),
            };
            end = region.end();
            region
        };
        let records = next(records * RECORD_PAIR);
        let commit_descriptors = next(commit_blocks * LINE);
        let commit_blocks = next(commit_blocks * PAGE_BYTES);
        let log_descriptors = next(log_blocks * LINE);
        let log_blocks = next(log_blocks * PAGE_BYTES);
        // A block of slots serves 64 pages, and the last one perhaps fewer.
        let blocks = most.saturating_sub(log_blocks.end() / PAGE_BYTES);
        let slot_blocks = blocks.div_ceil(PAGE_BYTES / LINE + 1);
        let slots = next(slot_blocks * PAGE_BYTES);
        let pages = next((blocks - slot_blocks) * PAGE_BYTES);
        if pages.len < size / 2 {
            return Err(Unfit::NoRoom);
        }
        Ok(Geometry {
            records,
            commit_descriptors,
            commit_blocks,
            log_descriptors,
            log_blocks,
            slots,
            pages,
        })
    }

    /// Bytes of the file system: where the last region ends.
    pub fn size(&self) -> u64 {
        self.pages.end()
    }

    /// Pairs of dataset records.
    pub fn nr_records(&self) -> u64 {
        self.records.len / RECORD_PAIR
    }

    /// Blocks of commit records.
    pub fn nr_commit_blocks(&self) -> u64 {
        self.commit_blocks.len / PAGE_BYTES
    }

    /// Blocks of the redo log.
    pub fn nr_log_blocks(&self) -> u64 {
        self.log_blocks.len / PAGE_BYTES
    }

    /// Data pages, and slots in use.
    pub fn nr_pages(&self) -> u64 {
        self.pages.len / PAGE_BYTES
    }

    /// Device offset of copy 0 or 1 of pair `index` of dataset records.
    ///
    /// This and the offsets below mean something only for an index below the
    /// count of its kind: check one that was read from a device or a message.
    pub fn record(&self, index: u64, copy: u8) -> u64 {
        let block = index.wrapping_mul(2).wrapping_add(u64::from(copy & 1));
        self.records.at(block, PAGE_BYTES)
    }

    /// Device offset of the descriptor of block `block` of the commit records.
    pub fn commit_descriptor(&self, block: u64) -> u64 {
        self.commit_descriptors.at(block, LINE)
    }

    /// Device offset of block `block` of the commit records.
    pub fn commit_block(&self, block: u64) -> u64 {
        self.commit_blocks.at(block, PAGE_BYTES)
    }

    /// Device offset of the descriptor of block `block` of the redo log.
    pub fn log_descriptor(&self, block: u64) -> u64 {
        self.log_descriptors.at(block, LINE)
    }

    /// Device offset of block `block` of the redo log.
    pub fn log_block(&self, block: u64) -> u64 {
        self.log_blocks.at(block, PAGE_BYTES)
    }

    /// Device offset of the slot of data page `page`: its state word.
    pub fn slot(&self, page: u64) -> u64 {
        self.slots.at(page, LINE)
    }

    /// Device offset of data page `page`.
    pub fn page(&self, page: u64) -> u64 {
        self.pages.at(page, PAGE_BYTES)
    }

    /// The regions in the order in which they lie on the device.
    pub fn regions(&self) -> [(&'static str, Region); 7] {
        [
            ("dataset records", self.records),
            ("commit record descriptors", self.commit_descriptors),
            ("commit records", self.commit_blocks),
            ("redo log descriptors", self.log_descriptors),
            ("redo log", self.log_blocks),
            ("slots", self.slots),
            ("data pages", self.pages),
        ]
    }

    /// Whether the regions follow each other without a gap, and each table is
    /// large enough for what it describes.
    pub(super) fn check(&self) -> Result<(), Damage> {
        let mut end = superblock::REGION;
        for (name, region) in self.regions() {
            let past = region.offset.checked_add(region.len);
            if region.offset != end || region.len == 0 || region.len % PAGE_BYTES != 0 {
                return Err(Damage::Field(name));
            }
            end = past.ok_or(Damage::Field(name))?;
        }
        let described = |table: Region, things: Region| things.len / PAGE_BYTES <= table.len / LINE;
        if self.records.len % RECORD_PAIR != 0 {
            return Err(Damage::Field("dataset records"));
        }
        if !described(self.commit_descriptors, self.commit_blocks) {
            return Err(Damage::Field("commit record descriptors"));
        }
        if !described(self.log_descriptors, self.log_blocks) {
            return Err(Damage::Field("redo log descriptors"));
        }
        if !described(self.slots, self.pages) {
            return Err(Damage::Field("slots"));
        }
        Ok(())
    }
}
