// SPDX-License-Identifier: GPL-2.0

//! Looking for something for a while, before sleeping until it comes. How long is decided by
//! [`Recent`](crate::core::Recent).

use crate::events::now;

/// Looks between two looks at the clock, which may be a slow one.
const ROUNDS: u32 = 16;

extern "C" {
    /// shim.c
    fn lite_yield_or_relax();
}

/// Lets another task have the processor if one wants it.
fn yield_or_relax() {
    // SAFETY: Callers are tasks that wait and hold no lock.
    unsafe { lite_yield_or_relax() };
}

/// Asks whether it is `done` for up to `window` ns, and lets others run who want to. Returns the last
/// answer. Callers hold no lock.
pub(crate) fn until(window: u64, done: impl Fn() -> bool) -> bool {
    let start = now();
    loop {
        for _ in 0..ROUNDS {
            if done() {
                return true;
            }
            if window == 0 {
                return false;
            }
            yield_or_relax();
        }
        if now().saturating_sub(start) >= window {
            return done();
        }
    }
}
