// SPDX-License-Identifier: GPL-2.0

use crate::memory::{together, Mortal, Shared};
use kernel::error::code::*;
use proptest::prelude::*;
use rdma_lite_core::core::guests::{
    layout::{Layout, ACCESSES, ACCESS_LEN, BELLS},
    Memory,
};
use std::collections::BTreeMap;

const SIZE: usize = 8 << 20;
const RING: u8 = 17;

#[test]
fn whoever_comes_first_makes_the_header_and_all_others_find_it() {
    let memory = Shared::new(SIZE);
    let made = Layout::open(&memory, RING, [7; 16]).unwrap();
    assert_eq!(made.uuid, [7; 16]);
    assert_eq!(made.ring_log2, RING);
    assert_eq!(Layout::open(&memory, RING - 1, [8; 16]), Ok(made));
}

#[test]
fn two_who_make_it_at_once_agree() {
    for seed in 1..40 {
        let memory = Shared::new(SIZE);
        let open = |fresh| move |memory| Layout::open(&memory, RING, fresh);
        let (one, other) = together(&memory, seed * 7919, open([1; 16]), open([2; 16]));
        assert_eq!(one.unwrap(), other.unwrap(), "seed {seed}");
    }
}

#[test]
fn a_header_that_is_half_made_is_completed_by_the_next() {
    for stores in 0..6 {
        let memory = Shared::new(SIZE);
        let _ = Layout::open(&Mortal::new(&memory, stores), RING, [1; 16]);
        let there = Layout::open(&memory, RING, [2; 16]).unwrap();
        assert_eq!(Layout::open(&memory, RING, [3; 16]), Ok(there));
    }
}

#[test]
fn what_is_not_ours_is_neither_used_nor_overwritten() {
    let memory = Shared::new(SIZE);
    memory.write(0, b"EXT4").unwrap();
    assert_eq!(Layout::open(&memory, RING, [1; 16]), Err(EMEDIUMTYPE));
    assert_eq!(memory.load(8), Ok(0));

    // ext4's own super block is at 1024, after a boot sector that is often all zeroes.
    let memory = Shared::new(SIZE);
    memory.write(1024 + 56, &[0x53, 0xef]).unwrap();
    assert_eq!(Layout::open(&memory, RING, [1; 16]), Err(EMEDIUMTYPE));
    assert_eq!(memory.load(0), Ok(0));
}

#[test]
fn another_version_and_a_header_that_cannot_be_are_refused() {
    let memory = Shared::new(SIZE);
    Layout::open(&memory, RING, [1; 16]).unwrap();
    let sound = memory.load(8).unwrap();
    memory.store(8, sound + 1).unwrap();
    assert_eq!(Layout::open(&memory, RING, [1; 16]), Err(EPROTONOSUPPORT));
    for (at, word) in [
        (8, sound + (1 << 24)),
        (8, sound | (0xff << 16)),
        (8, sound | (1 << 60)),
        (16, u64::MAX),
        (16, 1),
    ] {
        let before = memory.load(8).unwrap();
        memory.store(8, sound).unwrap();
        let whole = memory.load(16).unwrap();
        memory.store(at, word).unwrap();
        assert_eq!(
            Layout::open(&memory, RING, [1; 16]),
            Err(EBADMSG),
            "{at} {word:#x}"
        );
        memory.store(8, before).unwrap();
        memory.store(16, whole).unwrap();
    }
}

#[test]
fn memory_for_fewer_than_two_nodes_and_rings_that_are_too_small_are_said_to_be() {
    assert_eq!(
        Layout::open(&Shared::new(1 << 20), RING, [1; 16]),
        Err(ENOSPC)
    );
    let memory = Shared::new(SIZE);
    Layout::open(&memory, RING, [1; 16]).unwrap();
    assert_eq!(Layout::open(&memory, RING + 1, [1; 16]), Err(EMSGSIZE));
}

#[test]
fn nothing_lies_upon_anything_else() {
    let memory = Shared::new(SIZE);
    let layout = Layout::open(&memory, RING, [1; 16]).unwrap();
    let mut parts = BTreeMap::new();
    let mut part = |at: usize, len: usize, what: String| {
        assert!(at + len <= SIZE, "{what} ends at {}", at + len);
        let before = parts.range(..at + len).next_back();
        let free = before.is_none_or(|(start, (len, _))| start + len <= at);
        assert!(free, "{what} at {at} lies upon {before:?}");
        parts.insert(at, (len, what));
    };
    part(0, 64, "header".into());
    for slot in 0..layout.slots {
        part(layout.life(slot), 8, format!("life {slot}"));
        part(layout.beat(slot), 8, format!("beat {slot}"));
        part(layout.identity(slot), 64, format!("identity {slot}"));
        for to in 0..layout.slots {
            let lane = layout.lane(slot, to);
            part(lane.control(), 256, format!("control {slot} {to}"));
            part(lane.tail(), 8, format!("tail {slot} {to}"));
            part(lane.bell(0), BELLS * 8, format!("bells {slot} {to}"));
            for nr in 0..ACCESSES {
                part(lane.request(nr), 64, format!("request {slot} {to} {nr}"));
                part(lane.response(nr), 64, format!("response {slot} {to} {nr}"));
                part(lane.data(nr), ACCESS_LEN, format!("data {slot} {to} {nr}"));
            }
            let ring = lane.ring(0, 1 << RING).unwrap();
            part(ring, 1 << RING, format!("ring {slot} {to}"));
            assert_eq!(lane.ring(1, 1 << RING), Err(ERANGE));
            assert_eq!(lane.ring(usize::MAX, 2), Err(ERANGE));
        }
    }
}

proptest! {
    #[test]
    fn whatever_the_header_says_what_is_used_of_it_lies_in_the_memory(
        words in proptest::collection::vec(any::<u64>(), 5),
        keep in proptest::collection::vec(any::<bool>(), 5),
    ) {
        let memory = Shared::new(SIZE);
        Layout::open(&memory, RING, [1; 16]).unwrap();
        for (nr, (word, keep)) in words.iter().zip(keep).enumerate() {
            if !keep {
                memory.store(nr * 8, *word).unwrap();
            }
        }
        if let Ok(layout) = Layout::open(&memory, 14, [2; 16]) {
            let last = layout.lane(layout.slots - 1, layout.slots - 1);
            prop_assert!(last.ring(0, 1 << layout.ring_log2).unwrap() + (1 << layout.ring_log2) <= SIZE);
        }
    }
}
