// SPDX-License-Identifier: GPL-2.0

//! How often a node looks whether there is something for it. No interrupt tells it.
//!
//! While there is traffic it looks all the time, then less and less often, up to [`SLOWEST`] apart. A node
//! without a session has only its slot and those of others to mind, and looks every [`IDLE`].

/// So long after the last message it looks without a pause, in ns.
pub const SPIN: u64 = 50_000;
/// The first pause.
pub const QUICKEST: u64 = 50_000;
/// The longest pause while there is a session.
pub const SLOWEST: u64 = 1_000_000;
/// The pause while there is none.
pub const IDLE: u64 = 10_000_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When something was there last.
    busy: u64,
    pause: u64,
}

impl Pace {
    /// Nothing was there yet.
    pub const fn new() -> Self {
        Self { busy: 0, pause: 0 }
    }

    /// It has looked, at `now`, and found something or not, while it had sessions or not. How long it
    /// pauses, in ns; 0: not at all.
    pub fn after(&mut self, now: u64, found: bool, sessions: bool) -> u64 {
        if found {
            (self.busy, self.pause) = (now, 0);
            return 0;
        }
        if !sessions {
            return IDLE;
        }
        if now.saturating_sub(self.busy) < SPIN {
            return 0;
        }
        self.pause = (self.pause * 2).clamp(QUICKEST, SLOWEST);
        self.pause
    }
}
