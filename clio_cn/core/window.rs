// SPDX-License-Identifier: GPL-2.0

//! How much may be outstanding: at a memory node, counted in packets that it will
//! answer with ([`Cwnd`], section 4.4.4), and in bytes towards us ([`Iwnd`]).

use super::rtt::Rtt;

/// One packet, in units of a window.
const ONE: u64 = 1 << 16;
/// The smallest window: a packet in 16 round trips. With less, a node that is slow for other reasons
/// than our packets would get none for longer than operations have.
const MIN: u64 = ONE / 16;

/// What may be set.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Packets at first.
    pub initial: u32,
    /// Most packets.
    pub max: u32,
    /// Delay that counts as no queue, besides twice the shortest round trip, ns.
    pub slack: u64,
    /// Most bytes of answers outstanding.
    pub incast: u64,
}

impl Config {
    /// For a network of data-centre size.
    pub const DEFAULT: Self = Self {
        initial: 16,
        max: 256,
        slack: 2_000_000,
        incast: 2 << 20,
    };
}

/// Packets that may be outstanding at one memory node. Additive increase while
/// answers come quickly, multiplicative decrease, at most once a round trip,
/// when they do not. Below one packet it is a pace: a window of 1/10 lets one
/// packet go in ten round trips.
#[derive(Clone, Debug)]
pub struct Cwnd {
    config: Config,
    window: u64,
    outstanding: u64,
    decreased: u64,
    next: u64,
    /// Nothing came since the last loss.
    silent: bool,
}

impl Cwnd {
    /// Nothing outstanding.
    pub fn new(config: Config) -> Self {
        let mut this = Self {
            config,
            window: 0,
            outstanding: 0,
            decreased: 0,
            next: 0,
            silent: false,
        };
        this.set(u64::from(config.initial).saturating_mul(ONE));
        this
    }

    fn set(&mut self, window: u64) {
        let max = u64::from(self.config.max.clamp(1, 512)) * ONE;
        self.window = window.clamp(MIN, max);
    }

    /// The window in 1/1000 packets.
    pub fn milli(&self) -> u64 {
        self.window.saturating_mul(1000) / ONE
    }

    /// Packets outstanding.
    pub fn outstanding(&self) -> u64 {
        self.outstanding
    }

    /// Whether a packet may go at `now`.
    pub fn has_room(&self, now: u64) -> bool {
        if self.window >= ONE {
            self.outstanding < self.window / ONE
        } else {
            self.outstanding == 0 && now >= self.next
        }
    }

    /// When pacing lets the next packet go, if that is what it waits for.
    pub fn paced_until(&self) -> Option<u64> {
        (self.window < ONE && self.outstanding == 0).then_some(self.next)
    }

    /// A packet went, to which so many will answer.
    pub fn sent(&mut self, now: u64, answers: u64, rtt: &Rtt) {
        self.outstanding = self.outstanding.saturating_add(answers);
        if self.window < ONE {
            let pace = rtt.smoothed().saturating_mul(ONE) / self.window.max(MIN);
            self.next = now.saturating_add(pace);
        }
    }

    /// An answer came after `delay` ns, of which `rtt` has heard.
    pub fn answered(&mut self, now: u64, delay: u64, rtt: &Rtt) {
        self.silent = false;
        // One that was late on its own says less than all of late.
        let delay = delay.min(rtt.smoothed());
        let target = rtt
            .shortest()
            .saturating_mul(2)
            .saturating_add(self.config.slack);
        if delay <= target {
            // A window that is not used says nothing about the network.
            let used = self.outstanding.saturating_mul(2 * ONE) >= self.window;
            if used || self.window < ONE {
                let step = ONE * ONE / self.window.max(ONE);
                self.set(self.window.saturating_add(step));
            }
        } else if now.saturating_sub(self.decreased) >= rtt.smoothed() {
            // Between 1 and 1/2, by how far the delay is beyond the target.
            let beyond = (delay - target).min(delay / 2);
            let keep = delay - beyond * 4 / 5;
            // In units of 256 ns the product has room: a window is less than 2^25.
            let (keep, delay) = (keep >> 8, (delay >> 8).max(1));
            self.set(self.window.saturating_mul(keep) / delay);
            self.decreased = now;
        }
        self.gone(1);
    }

    /// No answer to `packets` packets came in time, or the node had no room.
    pub fn lost(&mut self, now: u64, packets: u64, rtt: &Rtt) {
        if now.saturating_sub(self.decreased) >= rtt.smoothed() {
            // A packet that gets lost now and then is no reason for less than one.
            let least = if self.silent { 0 } else { ONE };
            self.set((self.window / 2).max(least.min(self.window)));
            self.decreased = now;
            self.silent = true;
        }
        self.gone(packets);
    }

    /// Nobody waits for the answers to `packets` packets any more.
    pub fn gone(&mut self, packets: u64) {
        self.outstanding = self.outstanding.saturating_sub(packets);
    }
}

/// Bytes of answers that may be on their way to us, from all memory nodes.
#[derive(Clone, Debug)]
pub struct Iwnd {
    limit: u64,
    expected: u64,
}

impl Iwnd {
    /// Nothing expected.
    pub fn new(config: &Config) -> Self {
        Self {
            limit: config.incast,
            expected: 0,
        }
    }

    /// Bytes expected.
    pub fn expected(&self) -> u64 {
        self.expected
    }

    /// Whether an answer of `bytes` may be asked for; one at a time always may.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.expected == 0 || self.expected.saturating_add(bytes) <= self.limit
    }

    /// An answer of `bytes` was asked for.
    pub fn expect(&mut self, bytes: u64) {
        self.expected = self.expected.saturating_add(bytes);
    }

    /// So much of what was expected came, or is not waited for any more.
    pub fn settle(&mut self, bytes: u64) {
        self.expected = self.expected.saturating_sub(bytes);
    }
}
