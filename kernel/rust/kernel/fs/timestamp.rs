// SPDX-License-Identifier: GPL-2.0

//! Times of files.
//!
//! C header: [`include/linux/time64.h`](srctree/include/linux/time64.h)

use crate::bindings;

/// A point in time: seconds since 1970 and nanoseconds below one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00 UTC.
    pub sec: i64,
    /// Nanoseconds, below one second.
    pub nsec: u32,
}

impl Timestamp {
    /// Returns the time that files get when they change now, in the granularity of a tick.
    pub fn now() -> Self {
        let mut ts = bindings::timespec64::default();
        // SAFETY: `ts` is valid for writes.
        unsafe { bindings::ktime_get_coarse_real_ts64(&mut ts) };
        Self::from_kernel(ts)
    }

    pub(super) fn from_kernel(ts: bindings::timespec64) -> Self {
        Self {
            sec: ts.tv_sec,
            // CAST: The kernel keeps nanoseconds below one second.
            nsec: ts.tv_nsec as u32,
        }
    }

    /// Nanoseconds out of range, as a damaged medium may hold them, become the nearest valid ones.
    pub(super) fn to_kernel(self) -> bindings::timespec64 {
        bindings::timespec64 {
            tv_sec: self.sec,
            // CAST: Below 10^9, which any `c_long` holds.
            tv_nsec: self.nsec.min(999_999_999) as crate::ffi::c_long,
        }
    }
}
