// SPDX-License-Identifier: GPL-2.0

//! How often allocations are retried, by how full the pool is (the paper's figure 4.13), as JSON on standard output:
//! `make bench` plots it.
//!
//! It is the slow path itself that allocates, from an empty pool to a full one, in one address space of many regions,
//! with 20 keys of the page table's hash. An allocation that finds a bucket full goes on behind that page: a retry.

use kernel::{alloc::flags::GFP_KERNEL, alloc::KVec, error::Result};
use legomem_core::core::{
    board::{Board, Config},
    control::{Descriptor, Secret, VA_BASE},
    pool::Pool,
    slow::{Fast, Slow, Stage},
    wire::{rights, Header, Op, Status},
};
use std::cell::RefCell;

const PAGES: u32 = 4096;
const PAGE_SHIFT: u8 = 16;
const REGION_SHIFT: u8 = 24;
const RAS: u64 = 1 << 48;
const SEEDS: u64 = 20;
const SIZES: [u32; 4] = [1, 4, 16, 64];
/// Parts of the axis: 2 % each.
const PARTS: usize = 50;

struct Node(RefCell<Board>);

impl Fast for Node {
    fn fast<R>(&self, f: impl FnOnce(&mut Board) -> R) -> R {
        f(&mut self.0.borrow_mut())
    }
}

/// Nobody touches a page.
struct Untouched;

impl Pool for Untouched {
    fn read(&self, _: u32, _: usize, _: &mut [u8]) {}
    fn write(&self, _: u32, _: usize, _: &[u8]) {}
    fn zero(&self, _: u32, _: usize, _: usize) {}
}

/// What was seen while the pool was so full.
#[derive(Clone, Copy, Default)]
struct Part {
    allocations: u64,
    retries: u64,
    most: u64,
}

/// One pool from empty to full, by allocations of `pages` pages.
fn fill(pages: u32, seed: u64, parts: &mut [Part; PARTS]) -> Result {
    let config = Config {
        pages: PAGES,
        page_shift: PAGE_SHIFT,
        clean: true,
        overcommit: 100,
        dedup: 64,
        spaces: 1,
        key: [seed, seed + 1000],
    };
    let node = Node(RefCell::new(Board::new(&config)?));
    let mut slow = Slow::new(&config)?;
    let descriptor = Descriptor {
        ras: RAS,
        key: Secret([1, 2]),
        region_shift: REGION_SHIFT,
        home: 1,
    };
    let retries = |node: &Node| node.fast(|board| board.stats.allocation_retries);
    let (mut used, mut region) = (0, 0);
    slow.grant(&node, &descriptor, region, 1 << REGION_SHIFT, Stage::Live)?;
    while used + pages <= PAGES {
        let before = retries(&node);
        let status = loop {
            let request = Header {
                argument: rights::ALL,
                operand: u64::from(pages) << PAGE_SHIFT,
                ..Header::request(
                    Op::Alloc,
                    RAS,
                    1,
                    VA_BASE + (u64::from(region) << REGION_SHIFT),
                    0,
                )
            };
            match slow.execute(&node, &Untouched, &request).0 {
                // No place is left in this region: as a compute node does, go on with the next.
                Status::NoSpace | Status::Quota => {
                    region += 1;
                    slow.grant(&node, &descriptor, region, 1 << REGION_SHIFT, Stage::Live)?;
                }
                status => break status,
            }
        };
        assert_eq!(status, Status::Ok);
        let part = &mut parts[(used as usize * PARTS) / PAGES as usize];
        let tried = retries(&node) - before;
        part.allocations += 1;
        part.retries += tried;
        part.most = part.most.max(tried);
        used += pages;
    }
    Ok(())
}

fn sum(parts: &[Part]) -> Part {
    parts.iter().fold(Part::default(), |sum, part| Part {
        allocations: sum.allocations + part.allocations,
        retries: sum.retries + part.retries,
        most: sum.most.max(part.most),
    })
}

fn main() -> Result {
    let mut sizes: KVec<String> = KVec::new();
    let mut met = true;
    for pages in SIZES {
        let mut parts = [Part::default(); PARTS];
        for seed in 0..SEEDS {
            fill(pages, seed, &mut parts)?;
        }
        let (below, above) = (sum(&parts[..PARTS / 2]), sum(&parts[PARTS / 2..]));
        met &= below.retries == 0;
        let points: Vec<_> = parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.allocations != 0)
            .map(|(at, part)| {
                let full = (at as f64 + 0.5) / PARTS as f64;
                let rate = part.retries as f64 / part.allocations as f64;
                format!(
                    r#"{{"full": {full:.2}, "retries": {rate:.4}, "most": {}}}"#,
                    part.most
                )
            })
            .collect();
        let size = format!(
            r#"{{"pages": {pages}, "retries_below_half": {}, "retries_above_half": {}, "allocations_above_half": {}, "most_retries": {}, "points": [{}]}}"#,
            below.retries,
            above.retries,
            above.allocations,
            below.most.max(above.most),
            points.join(", ")
        );
        sizes.push(size, GFP_KERNEL)?;
    }
    println!(
        r#"{{"seeds": {SEEDS}, "pool_pages": {PAGES}, "met": {met}, "sizes": [{}]}}"#,
        sizes.join(", ")
    );
    Ok(())
}
