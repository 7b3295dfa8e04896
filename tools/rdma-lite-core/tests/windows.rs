// SPDX-License-Identifier: GPL-2.0

//! Windows of an open file to its regions.

use kernel::error::code::*;
use proptest::prelude::{any, prop, proptest};
use rdma_lite_core::core::region::windows::Windows;

proptest! {
    #[test]
    fn pages_are_found_in_the_one_window_that_has_all_of_them(
        sizes in prop::collection::vec(1u64..50, 1..20), ended in any::<u32>(),
        first in 0u64..600, count in 0u64..60,
    ) {
        let mut windows = Windows::new();
        let mut there = Vec::new();
        for (handle, size) in sizes.iter().enumerate() {
            there.push((windows.give(handle as u64, *size).unwrap(), *size, handle as u64));
        }
        for at in (0..there.len()).rev() {
            if (ended >> at) & 1 != 0 {
                windows.end(there.remove(at).0);
            }
        }
        let has = |window: &&(u64, u64, u64)| window.0 <= first && first + count <= window.0 + window.1;
        let expected = there.iter().find(has).filter(|_| count != 0);
        assert_eq!(
            windows.find(first, count),
            expected.map(|window| (window.2, first - window.0)).ok_or(ENXIO)
        );
    }
}

#[test]
fn offsets_are_not_given_again() {
    let mut windows = Windows::new();
    let first = windows.give(1, 10).unwrap();
    windows.end(first);
    let second = windows.give(2, 10).unwrap();
    assert!(second >= first + 10);
    assert_eq!(windows.find(first, 1), Err(ENXIO));
}

#[test]
fn nothing_wraps() {
    let mut windows = Windows::new();
    let first = windows.give(1, 10).unwrap();
    assert_eq!(windows.find(first, u64::MAX), Err(ENXIO));
    assert_eq!(windows.find(u64::MAX, 2), Err(ENXIO));
    assert_eq!(windows.find(0, 1), Err(ENXIO));
    assert_eq!(windows.give(2, u64::MAX), Err(ENOSPC));
    assert_eq!(windows.give(2, 1 << 51), Err(ENOSPC));
    assert!(windows.give(2, 1 << 50).is_ok());
    assert_eq!(windows.give(3, 1 << 50), Err(ENOSPC));
}
