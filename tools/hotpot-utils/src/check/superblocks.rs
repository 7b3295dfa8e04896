// SPDX-License-Identifier: GPL-2.0

//! The two superblocks.

use super::{Failure, Part, Pass};
use crate::format::{
    superblock::{self, Chosen, Copy, OtherCopy},
    FormatError, PAGE_SIZE,
};

const REWRITE: &str = "write it anew from the other copy";

fn index(copy: Copy) -> Option<u64> {
    Some(match copy {
        Copy::A => 0,
        Copy::B => 1,
    })
}

impl Pass<'_, '_> {
    /// The superblock that counts, or `None` when the device is beyond help.
    pub(super) fn superblocks(&mut self) -> Result<Option<Chosen>, Failure> {
        let mut blocks = [[0; PAGE_SIZE]; 2];
        if self.device.size() < superblock::REGION {
            return Err(Failure::Format(FormatError::NotFormatted));
        }
        for (block, copy) in blocks.iter_mut().zip([Copy::A, Copy::B]) {
            self.device.read(copy.offset(), block)?;
        }
        let mut chosen = match superblock::choose(&blocks[0], &blocks[1]) {
            Ok(chosen) => chosen,
            Err(FormatError::Superblock(damage)) => {
                self.error(
                    Part::Superblock,
                    None,
                    format!("both copies are damaged ({damage}); the device must be formatted"),
                );
                return Ok(None);
            }
            Err(error) => return Err(Failure::Format(error)),
        };
        if let Err(error) = chosen.superblock.check_device(self.device.size()) {
            self.error(Part::Superblock, None, error.to_string());
            return Ok(None);
        }
        if chosen.superblock.is_read_only() {
            self.note(
                Part::Superblock,
                None,
                "uses features that allow this program to read only".into(),
            );
            self.read_only = true;
        }
        if chosen.superblock.outdated {
            self.note(
                Part::Superblock,
                None,
                "an old copy of its device, as another node knew: no mount takes it".into(),
            );
        }
        let other = chosen.copy.other();
        let wrong = match chosen.other {
            OtherCopy::Intact(sequence) if sequence == chosen.superblock.sequence => {
                let same = blocks[0] == blocks[1];
                (!same).then(|| "same sequence number as the other copy, other content".into())
            }
            OtherCopy::Intact(_) => None,
            OtherCopy::Foreign => Some("belongs to another file system".into()),
            OtherCopy::Unusable(FormatError::Superblock(damage)) => {
                Some(format!("damaged: {damage}"))
            }
            OtherCopy::Unusable(FormatError::NotFormatted) => {
                Some("damaged: wrong magic number".into())
            }
            OtherCopy::Unusable(error) => Some(error.to_string()),
        };
        if let Some(message) = wrong {
            if self.repairable(Part::Superblock, index(other), message, REWRITE, true) {
                self.update_superblock(&mut chosen)?;
            }
        }
        Ok(Some(chosen))
    }

    /// Writes the superblock that `chosen` was changed to.
    pub(super) fn update_superblock(&mut self, chosen: &mut Chosen) -> Result<(), Failure> {
        chosen.superblock.sequence += 1;
        chosen.copy = chosen.copy.other();
        let mut block = [0; PAGE_SIZE];
        chosen.superblock.encode(&mut block);
        self.device.write(chosen.copy.offset(), &block)?;
        self.device.sync()?;
        Ok(())
    }
}
