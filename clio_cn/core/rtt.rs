// SPDX-License-Identifier: GPL-2.0

//! Round trips to a memory node: how long they take, and when to stop waiting.
//!
//! Each try of a request has an id of its own, so an answer always tells which
//! try it belongs to: every answer is a sample, also those of retries.

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Assumed before the first sample, ns.
    pub initial: u64,
    /// Shortest timeout, ns.
    pub timeout_min: u64,
    /// Longest timeout, ns.
    pub timeout_max: u64,
    /// The shortest round trip is forgotten after so many ns, since routes change.
    pub memory: u64,
}

impl Config {
    /// For a network of data-centre size.
    pub const DEFAULT: Self = Self {
        initial: 10_000_000,
        timeout_min: 3_000_000,
        timeout_max: 200_000_000,
        memory: 10_000_000_000,
    };
}

/// Smoothed round-trip time and its deviation (RFC 6298), and the shortest one.
#[derive(Clone, Debug)]
pub struct Rtt {
    config: Config,
    smoothed: u64,
    deviation: u64,
    shortest: u64,
    since: u64,
    samples: u64,
}

impl Rtt {
    /// Nothing known.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            smoothed: config.initial,
            deviation: config.initial / 2,
            shortest: u64::MAX,
            since: 0,
            samples: 0,
        }
    }

    /// An answer took `sample` ns and came at `now`.
    pub fn sample(&mut self, now: u64, sample: u64) {
        let sample = sample.clamp(1, self.config.timeout_max.max(1));
        if self.samples == 0 {
            self.smoothed = sample;
            self.deviation = sample / 2;
        } else {
            let error = self.smoothed.abs_diff(sample);
            self.deviation = self.deviation - self.deviation / 4 + error / 4;
            self.smoothed = self.smoothed - self.smoothed / 8 + sample / 8;
        }
        self.samples = self.samples.saturating_add(1);
        if now.saturating_sub(self.since) > self.config.memory {
            // Half-way up: one long round trip does not become the measure of all.
            self.shortest = self.smoothed.min(sample);
            self.since = now;
        }
        self.shortest = self.shortest.min(sample);
    }

    /// Smoothed, ns.
    pub fn smoothed(&self) -> u64 {
        self.smoothed
    }

    /// The shortest of late, ns: what the way takes when nothing queues.
    pub fn shortest(&self) -> u64 {
        self.shortest.min(self.smoothed)
    }

    /// How long to wait for an answer in the given try (0 is the first), ns.
    pub fn timeout(&self, tries: u32) -> u64 {
        let once = self
            .smoothed
            .saturating_add(self.deviation.saturating_mul(4))
            .clamp(self.config.timeout_min, self.config.timeout_max);
        once.saturating_mul(1 << tries.min(10))
            .min(self.config.timeout_max)
    }
}
