// SPDX-License-Identifier: GPL-2.0

//! What fsck.hotpot finds and repairs, on images in memory.

#[path = "../image/mod.rs"]
mod image;

mod a_device;
mod any_damage;
mod commits;
mod dataset_records;
mod pages;
mod superblocks;

use hotpot_utils::{
    check::{self, Report, Severity},
    format::PAGE_SIZE,
};
use image::{Image, NODE};

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

fn flip(bytes: &mut [u8], offset: u64, bit: u32) {
    bytes[offset as usize] ^= 1 << bit;
}
