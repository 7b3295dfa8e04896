// SPDX-License-Identifier: GPL-2.0

//! Sizes and times.

use super::super::{
    class::Share,
    ring::max_message,
    wire::{RingAddress, HEADER_LEN},
};
use kernel::prelude::*;

/// Sizes and times of a node; times in ns.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Our rings have `1 << ring_log2` bytes.
    pub ring_log2: u8,
    /// They take `1 << depth_log2` messages: post that many receives and
    /// [`Config::SPARE_RECEIVES`] more.
    pub depth_log2: u8,
    /// Calls at a time with a peer, each way: `1 << slots_log2`.
    pub slots_log2: u8,
    /// Replies of at least so many bytes go straight into the caller's buffer,
    /// if it has one.
    pub direct_min: u32,
    /// Bytes of replies kept for repetitions, for each peer.
    pub reply_cache: usize,
    /// Heartbeats are this far apart.
    pub heartbeat: u64,
    /// A peer is suspected after so many silent periods.
    pub misses: u32,
    /// A call is repeated after so long a silence (doubles).
    pub retransmit: u64,
    /// A call is repeated so long after a refusal that is worth another try
    /// (doubles five times, up to `retransmit`).
    pub retry: u64,
    /// Shortest wait before connecting again.
    pub backoff_min: u64,
    /// Longest wait before connecting again.
    pub backoff_max: u64,
    /// Time to establish a connection.
    pub connect_timeout: u64,
    /// A caller polls at most so long before it sleeps; 0: never.
    pub poll: u64,
    /// What the high class gets under load.
    pub share: Share,
    /// Queue pairs of a connection; see [`super::lanes`].
    pub lanes: u8,
}

impl Config {
    /// Receives to post beyond the depth, for messages that take no ring.
    pub const SPARE_RECEIVES: usize = 16;

    pub(crate) const MS: u64 = 1_000_000;

    /// What fits a node that nothing is known about.
    pub const DEFAULT: Self = Self {
        ring_log2: 20,
        depth_log2: 10,
        slots_log2: 10,
        direct_min: 32 * 1024,
        reply_cache: 1 << 20,
        heartbeat: 500 * Self::MS,
        misses: 4,
        retransmit: 1000 * Self::MS,
        retry: 2 * Self::MS,
        backoff_min: 10 * Self::MS,
        backoff_max: 1000 * Self::MS,
        connect_timeout: 3000 * Self::MS,
        poll: 50_000,
        share: Share::DEFAULT,
        lanes: 2,
    };

    /// For a node whose calls have so much time by default, in ns: an attempt to connect has a third of it, and no
    /// less than by default. Where a call needs long, as the machine is slow or crowded, so does a
    /// connection; who gives it up too soon begins anew, which is more work for all.
    pub fn for_deadline(self, deadline: u64) -> Self {
        Self {
            connect_timeout: self.connect_timeout.max(deadline / 3),
            ..self
        }
    }

    /// `EINVAL` when a size is not one that the wire can say, or a time is 0.
    pub fn check(&self) -> Result {
        let times = [
            self.heartbeat,
            self.retransmit,
            self.retry,
            self.backoff_min,
            self.connect_timeout,
            self.misses.into(),
        ];
        let sound = self.ring(0, 0).is_sound()
            && !times.contains(&0)
            && self.backoff_max >= self.backoff_min;
        if sound {
            Ok(())
        } else {
            Err(EINVAL)
        }
    }

    /// Largest request, and largest reply that goes through the ring.
    pub fn max_payload(&self) -> u32 {
        max_message(1 << self.ring_log2) - HEADER_LEN as u32
    }

    pub(super) fn ring(&self, addr: u64, rkey: u32) -> RingAddress {
        RingAddress {
            addr,
            rkey,
            size_log2: self.ring_log2,
            depth_log2: self.depth_log2,
            slots_log2: self.slots_log2,
        }
    }
}
