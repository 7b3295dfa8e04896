// SPDX-License-Identifier: GPL-2.0

//! What became of the calls between us and one peer, by port, and how long they took.

use kernel::prelude::*;

/// How often something took how long. Bucket 0 counts what took less than 2 us, bucket `n` what took
/// `2^n` us or more and less than twice that, the last one all that took longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; Self::BUCKETS],
}

impl Histogram {
    /// The last bucket begins at 8 s.
    pub const BUCKETS: usize = 24;

    /// Something took so many ns.
    pub fn add(&mut self, ns: u64) {
        let us = (ns / 1000).max(1);
        let bucket = (us.ilog2() as usize).min(Self::BUCKETS - 1);
        self.buckets[bucket] += 1;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Of 1000, `rank` took less than so many us (a power of two); 0 when there were none.
    pub fn below(&self, rank: u64) -> u64 {
        let count = self.count();
        let wanted = (count.saturating_mul(rank)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (n, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if seen >= wanted && count != 0 {
                return 2 << n;
            }
        }
        0
    }

    /// The buckets.
    pub fn buckets(&self) -> &[u64; Self::BUCKETS] {
        &self.buckets
    }
}

/// One way: calls that we made, or calls that we executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Those that ended well.
    pub answered: u64,
    /// Those that a handler failed, by a status of its own.
    pub failed: u64,
    /// Those that got no answer by their deadline.
    pub timed_out: u64,
    /// Those that ended by another error.
    pub errors: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of replies.
    pub reply_bytes: u64,
    /// How long those took that were answered.
    pub took: Histogram,
}

impl Flow {
    /// One ended: by a status and the length of a reply, or by an error.
    pub fn ended(&mut self, ns: u64, request: usize, result: Result<(i32, usize)>) {
        self.request_bytes += request as u64;
        match result {
            Ok((0.., reply)) => {
                self.answered += 1;
                self.reply_bytes += reply as u64;
                self.took.add(ns);
            }
            Ok((_, _)) => {
                self.failed += 1;
                self.took.add(ns);
            }
            Err(ETIMEDOUT) => self.timed_out += 1,
            Err(_) => self.errors += 1,
        }
    }
}

/// What one port saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Its number.
    pub port: u16,
    /// Calls that we made.
    pub made: Flow,
    /// Calls that we executed.
    pub executed: Flow,
}

/// What all ports saw, with one peer.
#[derive(Debug, Default)]
pub struct Stats {
    ports: KVec<PortStats>,
    /// Ports beyond [`Stats::MOST`], and those that there was no memory for.
    others: PortStats,
}

impl Stats {
    /// Ports that have counters of their own.
    pub const MOST: usize = 64;

    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            ports: KVec::new(),
            others: PortStats {
                port: 0,
                made: Flow::NONE,
                executed: Flow::NONE,
            },
        }
    }

    /// The counters of a port.
    pub fn port(&mut self, port: u16) -> &mut PortStats {
        let at = self.ports.iter().position(|stats| stats.port == port);
        let new = PortStats {
            port,
            ..PortStats::default()
        };
        let at = match at {
            None if self.ports.len() < Self::MOST && self.ports.push(new, GFP_ATOMIC).is_ok() => {
                Some(self.ports.len() - 1)
            }
            at => at,
        };
        match at {
            Some(at) => &mut self.ports[at],
            None => &mut self.others,
        }
    }

    /// All counters; those of port 0 are of all that have none of their own.
    pub fn iter(&self) -> impl Iterator<Item = &PortStats> {
        let empty = PortStats::default();
        let others = (self.others != empty).then_some(&self.others);
        Iterator::chain(self.ports.iter(), others)
    }
}

impl Flow {
    const NONE: Self = Self {
        answered: 0,
        failed: 0,
        timed_out: 0,
        errors: 0,
        request_bytes: 0,
        reply_bytes: 0,
        took: Histogram {
            buckets: [0; Histogram::BUCKETS],
        },
    };
}
