// SPDX-License-Identifier: GPL-2.0

//! ExCache: which page goes, what is written back, and that no store is lost.

use clio_cn_core::core::cache::{Cache, Config, Fill, Policy, Touch, Victim};
use proptest::prelude::*;
use std::collections::HashMap;

fn cache(lines: usize, ways: usize, policy: Policy) -> Cache {
    Cache::new(Config {
        lines,
        ways,
        policy,
    })
    .unwrap()
}

fn fill(cache: &mut Cache, page: u64, store: bool) -> Fill {
    let Touch::Fill(fill) = cache.touch(page, store) else {
        panic!("page {page} is here");
    };
    cache.filled(&fill, store);
    fill
}

#[test]
fn first_in_goes_first_whatever_was_used() {
    let mut cache = cache(2, 2, Policy::Fifo);
    fill(&mut cache, 1, false);
    fill(&mut cache, 2, false);
    assert!(matches!(cache.touch(1, false), Touch::Hit(_)));
    let gone = fill(&mut cache, 3, false).victim;
    assert_eq!(
        gone,
        Some(Victim {
            page: 1,
            dirty: false
        })
    );
}

#[test]
fn the_least_recently_used_goes_first() {
    let mut cache = cache(2, 2, Policy::Lru);
    fill(&mut cache, 1, true);
    fill(&mut cache, 2, true);
    assert!(matches!(cache.touch(1, false), Touch::Hit(_)));
    let gone = fill(&mut cache, 3, false).victim;
    assert_eq!(
        gone,
        Some(Victim {
            page: 2,
            dirty: true
        })
    );
}

#[test]
fn with_lru_a_part_of_each_set_rests_unmapped() {
    let mut cache = cache(8, 8, Policy::Lru);
    let rests: Vec<_> = (0..8)
        .filter_map(|page| fill(&mut cache, page, false).rest)
        .collect();
    assert_eq!(rests, [0, 1, 2], "the oldest, up to more than a quarter");
    assert!(matches!(cache.touch(0, false), Touch::Hit(_)));
    assert_eq!(
        fill(&mut cache, 8, false).victim.map(|victim| victim.page),
        Some(1)
    );
}

#[test]
fn a_page_on_its_way_is_not_brought_twice() {
    let mut cache = cache(4, 4, Policy::Fifo);
    fill(&mut cache, 1, false);
    for page in 2..5 {
        fill(&mut cache, page, false);
    }
    let Touch::Fill(first) = cache.touch(9, false) else {
        panic!("it is not here");
    };
    assert_eq!(cache.touch(9, true), Touch::Busy);
    assert_eq!(cache.touch(1, false), Touch::Busy, "it is on its way out");
    cache.filled(&first, false);
    assert!(matches!(cache.touch(9, true), Touch::Hit(_)));
    assert!(matches!(cache.touch(1, false), Touch::Fill(_)));
}

#[test]
fn a_victim_that_cannot_be_written_back_stays() {
    let mut cache = cache(1, 1, Policy::Fifo);
    fill(&mut cache, 1, true);
    let Touch::Fill(failed) = cache.touch(2, false) else {
        panic!("it is not here");
    };
    cache.unfilled(&failed, false);
    assert!(matches!(cache.touch(1, false), Touch::Hit(_)));
    assert_eq!(cache.dirty(), 1);
}

#[test]
fn the_first_touch_of_what_we_allocated_is_zeros_until_it_was_written_back() {
    let mut cache = cache(1, 1, Policy::Fifo);
    cache.add_fresh(100, 70).unwrap();
    assert!(fill(&mut cache, 169, false).zeros);
    assert!(!fill(&mut cache, 170, false).zeros);
    assert!(
        fill(&mut cache, 169, true).zeros,
        "a clean page of zeros is still one"
    );
    fill(&mut cache, 101, false);
    assert!(!fill(&mut cache, 169, false).zeros, "it was stored to");
    cache.forget_fresh(90, 20);
    assert!(!fill(&mut cache, 105, false).zeros);
    assert!(fill(&mut cache, 110, false).zeros);
}

#[test]
fn a_cache_without_a_set_is_refused() {
    for (lines, ways) in [(0, 1), (1, 0), (3, 4)] {
        let config = Config {
            lines,
            ways,
            policy: Policy::Lru,
        };
        assert_eq!(Cache::new(config).err(), Some(kernel::error::code::EINVAL));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Load(u64),
    Store(u64),
    Flush,
    /// The next fill fails, before or after the victim left.
    Fail(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..24).prop_map(Step::Load),
        4 => (0u64..24).prop_map(Step::Store),
        1 => Just(Step::Flush),
        1 => any::<bool>().prop_map(Step::Fail),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    /// The edge in a few lines: frames, a remote memory, and stores with numbers.
    #[test]
    fn loads_see_the_last_store(
        steps in steps(),
        lru in any::<bool>(),
        (lines, ways) in prop::sample::select(vec![(1, 1), (4, 2), (8, 8), (16, 4)]),
    ) {
        let mut cache = cache(lines, ways, if lru { Policy::Lru } else { Policy::Fifo });
        cache.add_fresh(0, 12).unwrap();
        let (mut frames, mut remote) = (vec![0u64; lines], HashMap::new());
        let mut wanted = HashMap::new();
        let mut failure = None;
        for (number, step) in steps.into_iter().enumerate() {
            let (page, store) = match step {
                Step::Load(page) => (page, false),
                Step::Store(page) => (page, true),
                Step::Fail(left) => { failure = Some(left); continue }
                Step::Flush => {
                    let mut from = 0;
                    while let Some(flush) = cache.begin_flush(0, 24, from) {
                        let flush = flush.expect("nothing moves");
                        remote.insert(flush.page, frames[flush.line]);
                        cache.flushed(&flush, true);
                        from = flush.line;
                    }
                    prop_assert_eq!(cache.dirty(), 0);
                    prop_assert!(wanted.iter().all(|(page, value)| remote.get(page) == Some(value)));
                    continue
                }
            };
            let line = match cache.touch(page, store) {
                Touch::Hit(line) => line,
                Touch::Busy => panic!("nothing moves"),
                Touch::Fill(fill) => {
                    let failed = failure.take();
                    if let (Some(Victim { page, dirty: true }), Some(true) | None) = (fill.victim, failed) {
                        remote.insert(page, frames[fill.line]);
                    }
                    if let Some(left) = failed {
                        cache.unfilled(&fill, left);
                        continue
                    }
                    let there = remote.get(&page).copied().unwrap_or(0);
                    prop_assert!(!fill.zeros || there == 0);
                    frames[fill.line] = if fill.zeros { 0 } else { there };
                    cache.filled(&fill, store);
                    fill.line
                }
            };
            if store {
                frames[line] = number as u64 + 1;
                wanted.insert(page, number as u64 + 1);
            }
            prop_assert_eq!(frames[line], wanted.get(&page).copied().unwrap_or(0));
        }
    }
}
