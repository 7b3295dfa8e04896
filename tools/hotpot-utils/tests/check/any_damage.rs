// SPDX-License-Identifier: GPL-2.0

//! Damage at random: the check always comes to an end, and repairs lose nothing that is whole.

use super::*;
use hotpot_utils::{
    device::Device,
    format::{dataset, slot::Slot, superblock},
};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{collections::BTreeMap, io};

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
