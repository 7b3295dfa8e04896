// SPDX-License-Identifier: GPL-2.0

//! The slow path: allocations keep their promises, and the page table never
//! overflows.

mod common;

use common::*;
use kernel::siphash::Key;
use legomem_core::core::{
    control::VA_BASE,
    host::Host,
    page_table::{Entry, Hash, PageId, PageTable, Shadow, SLOTS},
    slow::{Fast, Stage},
    wire::{rights, Header, Op, Status},
};
use proptest::prelude::*;

fn node(pages: u32, overcommit: u32) -> (Node, u64) {
    let shape = Shape {
        pages,
        overcommit,
        ..Shape::default()
    };
    (Node::new(1, shape).with_region(ras(1), 0), ras(1))
}

#[test]
fn a_pool_is_promised_once_and_what_was_promised_can_be_written() {
    let (node, ras) = node(8, 100);
    let addr = node.alloc(ras, 5 * PAGE);
    assert_eq!(
        node.try_alloc(ras, 4 * PAGE, rights::ALL),
        Err(Status::NoSpace)
    );
    let rest = node.alloc(ras, 3 * PAGE);
    assert_eq!(node.try_alloc(ras, 1, rights::ALL), Err(Status::NoSpace));
    for page in 0..5 {
        assert_eq!(node.write(ras, addr + page * PAGE, b"x"), Status::Ok);
    }
    for page in 0..3 {
        assert_eq!(node.write(ras, rest + page * PAGE, b"x"), Status::Ok);
    }
    assert_eq!(node.free(ras, addr, 5 * PAGE), Status::Ok);
    node.alloc(ras, 5 * PAGE);
}

#[test]
fn a_node_that_over_commits_is_busy_when_it_runs_dry_and_never_out_of_space() {
    let (node, ras) = node(4, 200);
    let addr = node.alloc(ras, 8 * PAGE);
    for page in 0..4 {
        assert_eq!(node.write(ras, addr + page * PAGE, b"x"), Status::Ok);
    }
    assert_eq!(node.write(ras, addr + 4 * PAGE, b"x"), Status::Busy);
    assert_eq!(node.read(ras, addr + 4 * PAGE, 1).unwrap(), [0]);
    assert_eq!(node.try_alloc(ras, 1, rights::ALL), Err(Status::NoSpace));
}

#[test]
fn no_more_than_the_allowance_of_a_region_is_allocated_in_it() {
    let (node, ras) = node(256, 100);
    let grant = |allowance| {
        node.slow(|slow| slow.grant(&node, &descriptor(ras), 0, allowance, Stage::Live))
    };
    assert_eq!(grant(4 * PAGE), Ok((4 * PAGE, 0)));
    node.alloc(ras, 3 * PAGE);
    assert_eq!(
        node.try_alloc(ras, 2 * PAGE, rights::ALL),
        Err(Status::Quota)
    );
    // What is used stays allowed.
    assert_eq!(grant(0), Ok((3 * PAGE, 3 * PAGE)));
    assert_eq!(node.try_alloc(ras, 1, rights::ALL), Err(Status::Quota));
}

#[test]
fn only_whole_allocations_are_freed_and_only_once() {
    let (node, ras) = node(64, 100);
    let one = node.alloc(ras, 2 * PAGE);
    let two = node.alloc(ras, PAGE + 1);
    assert_eq!(node.free(ras, one + PAGE, PAGE), Status::Fault);
    assert_eq!(node.free(ras, one, PAGE), Status::Fault);
    assert_eq!(node.free(ras, one + 1, 2 * PAGE), Status::Fault);
    assert_eq!(node.free(ras, one, 5 * PAGE), Status::Fault);
    assert_eq!(node.free(ras, one, 0), Status::Invalid);
    assert_eq!(node.free(ras, two + 2 * PAGE, PAGE), Status::Fault);
    // Two at once are legal, as the bytes that were asked for are.
    assert_eq!(node.free(ras, one, 3 * PAGE + 1), Status::Ok);
    assert_eq!(node.free(ras, one, 2 * PAGE), Status::Fault);
    assert_eq!(node.free(ras, two, PAGE + 1), Status::Fault);
    assert_eq!(node.fast(|board| board.table().len()), 0);
}

#[test]
fn an_allocation_that_makes_no_sense_is_refused() {
    let (node, ras) = node(64, 100);
    assert_eq!(node.try_alloc(ras, 0, rights::ALL), Err(Status::Invalid));
    assert_eq!(node.try_alloc(ras, PAGE, 0), Err(Status::Invalid));
    assert_eq!(node.try_alloc(ras, PAGE, 1 << 20), Err(Status::Invalid));
    assert_eq!(
        node.try_alloc(ras, PAGE, rights::ALL | rights::CONTINUES),
        Err(Status::Invalid)
    );
    assert_eq!(
        node.try_alloc(ras, REGION + 1, rights::ALL),
        Err(Status::TooLarge)
    );
    assert_eq!(
        node.try_alloc(ras, u64::MAX, rights::ALL),
        Err(Status::TooLarge)
    );
    let fixed = rights::ALL | rights::FIXED;
    assert_eq!(
        node.alloc_at(ras, VA_BASE + 1, PAGE, fixed),
        Err(Status::Invalid)
    );
    let at = node.alloc_at(ras, VA_BASE + 7 * PAGE, PAGE, fixed).unwrap();
    assert_eq!(at, VA_BASE + 7 * PAGE);
    assert_eq!(
        node.alloc_at(ras, VA_BASE + 7 * PAGE, PAGE, fixed),
        Err(Status::NoSpace)
    );
}

#[test]
fn a_range_that_is_zeroed_reads_as_zeroes_and_gives_whole_pages_back() {
    let (node, ras) = node(64, 100);
    let addr = node.alloc(ras, 4 * PAGE);
    for page in 0..4 {
        assert_eq!(node.write(ras, addr + page * PAGE, &[7; 1000]), Status::Ok);
    }
    let zero = |at, len| {
        let request = Header {
            operand: len,
            ..node.request(Op::Zero, ras, at, 0)
        };
        node.execute(&request, &[]).0
    };
    let free = || node.fast(|board| board.free_pages().len());
    let before = free();
    assert_eq!(zero(addr + 500, 2 * PAGE), Status::Ok);
    assert_eq!(free(), before + 1);
    assert_eq!(node.read(ras, addr, 1000).unwrap()[499..501], [7, 0]);
    assert_eq!(node.read(ras, addr + PAGE, 1000).unwrap(), [0; 1000]);
    assert_eq!(
        node.read(ras, addr + 2 * PAGE, 1000).unwrap()[499..501],
        [0, 7]
    );
    assert_eq!(node.read(ras, addr + 3 * PAGE, 1000).unwrap(), [7; 1000]);
    assert_eq!(zero(addr, 5 * PAGE), Status::Fault);
    assert_eq!(zero(addr, 0), Status::Invalid);
    // What was promised is promised still.
    assert_eq!(node.write(ras, addr + PAGE, b"again"), Status::Ok);
}

#[test]
fn a_region_that_is_revoked_leaves_nothing_behind() {
    let (node, ras) = node(64, 100);
    let addr = node.alloc(ras, 9 * PAGE);
    assert_eq!(node.write(ras, addr, b"x"), Status::Ok);
    node.slow(|slow| slow.revoke(&node, ras, 0));
    assert_eq!(node.fast(|board| board.table().len()), 0);
    assert_eq!(node.fast(|board| board.free_pages().len()), 64);
    assert_eq!(node.slow(|slow| slow.stat(&node).promised), 0);
    assert!(node.fast(|board| board.key(ras)).is_none());
}

/// Allocates until the pool is full, in many address spaces, and tells retries for
/// each allocation by how full the pool was.
fn retries(pages_of_each: u32, seed: u64) -> Vec<(f64, u64)> {
    const PAGES: u32 = 4096;
    let hash = Hash::new(Key::new([seed, 1]), PAGES as usize);
    let mut shadow = Shadow::new(hash).unwrap();
    let mut found = Vec::new();
    let mut used = 0;
    let mut next = 0;
    while used + pages_of_each <= PAGES {
        let mut retries = 0;
        while let Err(full) = shadow.reserve_range(1, next, pages_of_each) {
            retries += 1;
            next = full + 1;
        }
        next += pages_of_each;
        found.push((f64::from(used) / f64::from(PAGES), retries));
        used += pages_of_each;
    }
    found
}

#[test]
fn no_allocation_is_retried_below_half_full_and_few_are_above() {
    for pages in [1, 4, 16] {
        let (mut below, mut above, mut most) = (0, 0, 0);
        for seed in 0..20 {
            for (full, retries) in retries(pages, seed) {
                if full < 0.5 {
                    below += retries;
                } else {
                    above += retries;
                }
                most = most.max(retries);
            }
        }
        println!("{pages} pages: {below} retries below half, {above} above, at most {most}");
        assert_eq!(below, 0, "allocations of {pages} pages");
        // The paper's figure 4.13.
        assert!(most <= 60, "{most} retries for {pages} pages");
    }
}

#[test]
fn every_page_of_a_full_pool_is_found_in_its_bucket() {
    let hash = Hash::new(Key::new([1, 2]), 4096);
    assert_eq!(hash.buckets() * SLOTS, 2 * 4096);
    let mut table = PageTable::new(hash).unwrap();
    let mut shadow = Shadow::new(hash).unwrap();
    let mut there = Vec::new();
    for page in 0.. {
        let id = PageId { space: 9, page };
        if shadow.reserve(id) {
            // What the shadow lets in fits.
            table.insert(Entry::new(id, rights::ALL, false)).unwrap();
            there.push(id);
        }
        if there.len() == 4096 {
            break;
        }
    }
    assert!(there.iter().all(|id| table.get(*id).is_some()));
    for id in &there {
        assert!(table.remove(*id).is_some());
        assert!(table.get(*id).is_none());
        shadow.release(*id);
    }
    assert_eq!(table.len(), 0);
}

#[test]
fn the_page_table_takes_less_than_a_hundredth_of_the_memory() {
    for (page, limit) in [(64 << 10, 0.002), (4 << 20, 0.008)] {
        let pages = (64u64 << 30) / page;
        let hash = Hash::new(Key::new([1, 2]), pages as usize);
        let bytes = (hash.buckets() * SLOTS * size_of::<Entry>()) as f64;
        assert!(bytes / (64u64 << 30) as f64 <= limit);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u8),
    Free(u8),
    Write(u8, u16, u8),
    Zero(u8),
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Allocations against a model of plain vectors.
    #[test]
    fn memory_is_what_a_model_says(steps in prop::collection::vec(prop_oneof![
        (1u8..5).prop_map(Step::Alloc),
        any::<u8>().prop_map(Step::Free),
        (any::<u8>(), any::<u16>(), any::<u8>()).prop_map(|(a, b, c)| Step::Write(a, b, c)),
        any::<u8>().prop_map(Step::Zero),
    ], 1..120)) {
        let (node, ras) = node(32, 100);
        let mut model: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut promised = 0;
        for step in steps {
            match step {
                Step::Alloc(pages) => {
                    let pages = u64::from(pages);
                    let got = node.try_alloc(ras, pages * PAGE, rights::ALL);
                    if promised + pages > 32 {
                        prop_assert_eq!(got, Err(Status::NoSpace));
                        continue;
                    }
                    let addr = got.unwrap();
                    for (other, bytes) in &model {
                        prop_assert!(addr + pages * PAGE <= *other || addr >= other + bytes.len() as u64);
                    }
                    promised += pages;
                    model.push((addr, vec![0; (pages * PAGE) as usize]));
                }
                Step::Free(which) if !model.is_empty() => {
                    let (addr, bytes) = model.swap_remove(usize::from(which) % model.len());
                    promised -= bytes.len() as u64 / PAGE;
                    prop_assert_eq!(node.free(ras, addr, bytes.len() as u64), Status::Ok);
                    prop_assert_eq!(node.read(ras, addr, 1), Err(Status::Fault));
                }
                Step::Write(which, at, value) if !model.is_empty() => {
                    let which = usize::from(which) % model.len();
                    let (addr, bytes) = &mut model[which];
                    let at = (usize::from(at) * 5) % (bytes.len() - 9);
                    bytes[at..at + 9].fill(value);
                    prop_assert_eq!(node.write(ras, *addr + at as u64, &[value; 9]), Status::Ok);
                }
                Step::Zero(which) if !model.is_empty() => {
                    let which = usize::from(which) % model.len();
                    let (addr, bytes) = &mut model[which];
                    let request = Header {
                        operand: bytes.len() as u64 - 100,
                        ..node.request(Op::Zero, ras, *addr + 50, 0)
                    };
                    let len = bytes.len();
                    bytes[50..len - 50].fill(0);
                    prop_assert_eq!(node.execute(&request, &[]).0, Status::Ok);
                }
                _ => {}
            }
        }
        for (addr, bytes) in &model {
            for (at, page) in bytes.chunks(60_000).enumerate() {
                let there = node.read(ras, addr + at as u64 * 60_000, page.len() as u32).unwrap();
                prop_assert!(there == page);
            }
        }
    }
}
