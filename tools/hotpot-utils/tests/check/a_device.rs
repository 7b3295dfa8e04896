// SPDX-License-Identifier: GPL-2.0

//! Whole devices: new, unmounted, crashed, cut off.

use super::*;
use hotpot_utils::{check::Failure, format::FormatError};

#[test]
fn a_new_device_is_clean() {
    let report = look(&Image::empty().bytes);
    assert_eq!(report.exit_status(), 0);
    assert!(report.findings.is_empty());
}

#[test]
fn a_device_after_unmount_is_clean() {
    let report = look(&Image::quiet().bytes);
    assert_eq!(errors(&report), [""; 0]);
    let summary = &report.summary;
    assert_eq!((summary.datasets, summary.tombstones), (2, 1));
    assert_eq!((summary.committed, summary.node), (30, NODE));
    assert!(summary.clean_unmount);
}

#[test]
fn a_device_after_a_crash_has_work_for_mount_and_no_errors() {
    let report = look(&Image::busy().bytes);
    assert_eq!(errors(&report), [""; 0]);
    let summary = &report.summary;
    assert_eq!((summary.committed, summary.staged), (30, 1));
    assert_eq!((summary.log_prepared, summary.log_committed), (1, 1));
    assert_eq!(summary.commits_open, 2);
    let notes: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    assert!(
        notes.iter().any(|note| note.contains("mount recovers (4 ")),
        "{notes:?}"
    );
    assert!(
        notes
            .iter()
            .any(|note| note.contains("superseded by version 8")),
        "{notes:?}"
    );
}

#[test]
fn a_truncated_device_is_told() {
    let mut image = Image::quiet();
    image.bytes.truncate(7 << 20);
    let report = repair(&mut image.bytes);
    assert_eq!(report.exit_status(), 4);
    assert!(errors(&report)[0].contains("truncated"));
    for len in [0, 100, 4096] {
        image.bytes.truncate(len);
        let failure = check::check(&mut image.bytes, &mut check::nothing);
        assert!(matches!(
            failure,
            Err(Failure::Format(FormatError::NotFormatted))
        ));
    }
}
