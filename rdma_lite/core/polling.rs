// SPDX-License-Identifier: GPL-2.0

//! How long a caller polls for its answer, or a receiver for its next request, before it sleeps.
//!
//! A wake-up costs about as much as a short call takes, so whoever expects a short wait looks for its
//! end for a while, as KVM does before it halts a virtual processor. What is expected is what the
//! recent ones took; where these are long nobody polls, so no processor is burnt in vain.

/// What the recent calls, or waits for a request, of one kind took, in ns; newer ones count more. 0
/// before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recent(pub u64);

impl Recent {
    /// One call in so many is what the newest counts.
    const WEIGHT: u64 = 8;
    /// No call counts for more than so many times the limit, so that a few short calls make one
    /// that was lost forgotten.
    const WORST: u64 = 4;

    /// Another call took `took` ns; nobody polls for more than `limit`.
    #[must_use]
    pub fn after(self, took: u64, limit: u64) -> Self {
        let took = took.min(limit.saturating_mul(Self::WORST));
        if self.0 == 0 {
            return Self(took);
        }
        Self(self.0 - self.0 / Self::WEIGHT + took / Self::WEIGHT)
    }

    /// How long to poll for the next call: not at all when it will hardly be over within `limit`,
    /// else up to twice what is expected.
    pub fn window(self, limit: u64) -> u64 {
        if self.0 > limit {
            0
        } else if self.0 == 0 {
            limit
        } else {
            self.0.saturating_mul(2).min(limit)
        }
    }
}
