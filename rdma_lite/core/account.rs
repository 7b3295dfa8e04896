// SPDX-License-Identifier: GPL-2.0

//! What one user has and does at a time, what it did, and how much of it is allowed.
//!
//! All open files of one user share one account. What lasts (handles) is refused by `EDQUOT`, since only
//! the user can end it; what passes (calls, and the bytes that they occupy) by `EAGAIN`, or by `EDQUOT`
//! when it alone is more than the limit and waiting would not help.

use kernel::prelude::*;

/// What is taken of an account for as long as something lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// Regions and locks.
    pub handles: u64,
    /// Calls, and accesses to regions.
    pub calls: u64,
    /// Bytes of kernel memory for their requests and replies.
    pub bytes: u64,
}

impl Charge {
    /// A handle.
    pub const HANDLE: Self = Self {
        handles: 1,
        calls: 0,
        bytes: 0,
    };

    /// A call with so many bytes.
    pub const fn call(bytes: u64) -> Self {
        Self {
            handles: 0,
            calls: 1,
            bytes,
        }
    }
}

/// The most of each that a user may have at a time; 0: as many as it likes.
pub type Limits = Charge;

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `EDQUOT` or `EAGAIN`.
    pub error: Error,
    /// What there is too much of, as the limit's attribute names it.
    pub what: &'static str,
    /// The limit.
    pub limit: u64,
    /// The operator has not heard of this user lately.
    pub tell: bool,
}

/// What a user did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls and accesses that have ended.
    pub calls: u64,
    /// Bytes that they moved.
    pub bytes: u64,
    /// What was refused.
    pub refused: u64,
}

/// Who repeats what is refused does not fill the log.
#[derive(Debug, Default)]
pub struct Quiet {
    /// When the operator was last told; 0: never.
    told: u64,
}

impl Quiet {
    /// So long after a line in the log the next one may come, in ns.
    pub const TIME: u64 = 10_000_000_000;

    /// Nobody was told.
    pub const fn new() -> Self {
        Self { told: 0 }
    }

    /// Whether the operator is told at this time, which then counts.
    pub fn may_tell(&mut self, now: u64) -> bool {
        let tell = self.told == 0 || now.saturating_sub(self.told) >= Self::TIME;
        if tell {
            self.told = now.max(1);
        }
        tell
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Account {
    now: Charge,
    totals: Totals,
    quiet: Quiet,
}

impl Account {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            now: Charge {
                handles: 0,
                calls: 0,
                bytes: 0,
            },
            totals: Totals {
                calls: 0,
                bytes: 0,
                refused: 0,
            },
            quiet: Quiet::new(),
        }
    }

    /// Takes all of `charge`, or nothing. `now` is the time in ns.
    pub fn begin(&mut self, charge: Charge, limits: Limits, now: u64) -> Result<(), Refusal> {
        let lasting = (EDQUOT, EDQUOT);
        let passing = (EAGAIN, EDQUOT);
        let have = self.now;
        let kinds = [
            (
                "handles",
                have.handles,
                charge.handles,
                limits.handles,
                lasting,
            ),
            ("calls", have.calls, charge.calls, limits.calls, passing),
            ("bytes", have.bytes, charge.bytes, limits.bytes, passing),
        ];
        for (what, have, more, limit, (later, never)) in kinds {
            let fits = have
                .checked_add(more)
                .is_some_and(|sum| sum <= limit || limit == 0);
            // Who wants nothing of it is not refused for what others have, though the limit sank.
            if !fits && more != 0 {
                let error = match more > limit {
                    true => never,
                    false => later,
                };
                return Err(self.refused(error, what, limit, now));
            }
        }
        self.now = Charge {
            handles: have.handles + charge.handles,
            calls: have.calls + charge.calls,
            bytes: have.bytes + charge.bytes,
        };
        Ok(())
    }

    fn refused(&mut self, error: Error, what: &'static str, limit: u64, now: u64) -> Refusal {
        self.totals.refused += 1;
        Refusal {
            error,
            what,
            limit,
            tell: self.quiet.may_tell(now),
        }
    }

    /// What was taken ended, and moved so many bytes.
    pub fn end(&mut self, charge: Charge, moved: u64) {
        self.now = Charge {
            handles: self.now.handles.saturating_sub(charge.handles),
            calls: self.now.calls.saturating_sub(charge.calls),
            bytes: self.now.bytes.saturating_sub(charge.bytes),
        };
        self.totals.calls += charge.calls;
        self.totals.bytes = self.totals.bytes.saturating_add(moved);
    }

    /// What there is now.
    pub fn now(&self) -> Charge {
        self.now
    }

    /// What there was.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}
