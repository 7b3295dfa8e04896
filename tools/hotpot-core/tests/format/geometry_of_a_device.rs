// SPDX-License-Identifier: GPL-2.0

//! Geometry: regions of a device of a size, and sizes that cannot be.

use super::*;

#[test]
fn the_smallest_device_has_room_for_data() {
    let geometry = Geometry::new(MIN_DEVICE, Counts::default()).unwrap();
    assert!(geometry.pages.len >= MIN_DEVICE / 2);
    assert_eq!(
        Geometry::new(MIN_DEVICE - 1, Counts::default()),
        Err(Unfit::TooSmall)
    );
}

#[test]
fn a_log_that_leaves_no_room_is_refused() {
    let counts = |log_blocks| Counts {
        log_blocks: Some(log_blocks),
        ..Counts::default()
    };
    assert_eq!(Geometry::new(16 << 20, counts(0)), Err(Unfit::Zero));
    assert_eq!(Geometry::new(16 << 20, counts(3000)), Err(Unfit::NoRoom));
    assert_eq!(
        Geometry::new(16 << 20, counts(u64::MAX)),
        Err(Unfit::NoRoom)
    );
}

#[test]
fn huge_devices_are_fine() {
    for size in [1u64 << 32, 6 << 40, u64::MAX] {
        let geometry = Geometry::new(size, Counts::default()).unwrap();
        assert!(geometry.pages.len > size / 100 * 90, "{size}");
    }
}

proptest! {
    #[test]
    fn regions_fill_the_device_without_gap_or_overlap(
        size in MIN_DEVICE..(1 << 40),
        records in proptest::option::of(1u64..500),
        log_blocks in proptest::option::of(1u64..500),
        commit_blocks in proptest::option::of(1u64..500),
    ) {
        let counts = Counts { records, log_blocks, commit_blocks };
        let geometry = Geometry::new(size, counts).unwrap();
        let mut end = superblock::REGION;
        for (name, region) in geometry.regions() {
            prop_assert_eq!(region.offset, end, "{}", name);
            prop_assert_eq!(region.len % PAGE_BYTES, 0);
            end = region.end();
        }
        prop_assert_eq!(end, size / PAGE_BYTES * PAGE_BYTES);
        prop_assert_eq!(geometry.size(), end);
        let last = geometry.nr_pages() - 1;
        prop_assert!(geometry.slots.contains(geometry.slot(last) + 63));
        prop_assert_eq!(geometry.page(last) + PAGE_BYTES, end);
        prop_assert!(geometry.log_descriptors.contains(
            geometry.log_descriptor(geometry.nr_log_blocks() - 1) + 63));
        prop_assert!(geometry.commit_descriptors.contains(
            geometry.commit_descriptor(geometry.nr_commit_blocks() - 1) + 63));
        prop_assert_eq!(
            geometry.record(geometry.nr_records() - 1, 1) + RECORD_PAIR / 2,
            geometry.records.end());
        if let Some(records) = records {
            prop_assert_eq!(geometry.nr_records(), records);
        }
    }
}
