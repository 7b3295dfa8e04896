// SPDX-License-Identifier: GPL-2.0

//! Failure detection: when to send a heartbeat, when to suspect a peer, and
//! when to say that it lives. A suspicion is only reported; nothing here acts
//! on it.

/// Why a peer is suspected (the values of `enum rdma_lite_suspect_reason`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Suspicion {
    /// Nothing came for several periods.
    Heartbeat = 1,
    /// A call ended by its deadline, and nothing came since it was sent.
    Timeout = 2,
    /// The connection broke.
    Disconnect = 3,
}

/// A change that the control plane should hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The peer does not answer.
    Suspect(Suspicion),
    /// A suspect answers again.
    Alive,
}

/// Failure detector for one peer.
#[derive(Debug)]
pub struct Heartbeat {
    period: u64,
    misses: u32,
    watching: bool,
    last_sent: u64,
    last_heard: u64,
    suspicion: Option<Suspicion>,
    reported: bool,
}

impl Heartbeat {
    /// Sends every `period` ns when there is nothing else to send; suspects
    /// after `misses` silent periods.
    pub fn new(period: u64, misses: u32) -> Self {
        Self {
            period,
            misses,
            watching: false,
            last_sent: 0,
            last_heard: 0,
            suspicion: None,
            reported: false,
        }
    }

    /// Whether the map expects the peer to answer. It gets the full time from
    /// now on, and an old suspicion is void.
    pub fn watch(&mut self, now: u64, watching: bool) {
        if self.watching != watching {
            self.watching = watching;
            self.last_heard = now;
            self.suspicion = None;
            self.reported = false;
        }
    }

    /// Something came from the peer.
    pub fn heard(&mut self, now: u64) {
        self.last_heard = now;
        self.suspicion = None;
    }

    /// Something was sent to the peer.
    pub fn sent(&mut self, now: u64) {
        self.last_sent = now;
    }

    /// The connection broke.
    pub fn disconnected(&mut self) {
        self.suspect(Suspicion::Disconnect);
    }

    /// A call that was sent at `sent` ended by its deadline.
    pub fn timed_out(&mut self, sent: u64) {
        if self.last_heard <= sent {
            self.suspect(Suspicion::Timeout);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        if now >= self.silent_at() {
            self.suspect(Suspicion::Heartbeat);
        }
    }

    fn suspect(&mut self, reason: Suspicion) {
        if self.watching && self.suspicion.is_none() {
            self.suspicion = Some(reason);
        }
    }

    fn silent_at(&self) -> u64 {
        self.last_heard
            .saturating_add(self.period.saturating_mul(self.misses.into()))
    }

    /// Whether a connected peer should get a heartbeat now.
    pub fn due(&self, now: u64) -> bool {
        now >= self.last_sent.saturating_add(self.period)
    }

    /// When [`Self::tick`] or [`Self::due`] next have something to say.
    pub fn next(&self, connected: bool) -> u64 {
        let mut next = u64::MAX;
        if self.watching && self.suspicion.is_none() {
            next = self.silent_at();
        }
        if connected {
            next = next.min(self.last_sent.saturating_add(self.period));
        }
        next
    }

    /// Whether the peer is suspected.
    pub fn is_suspect(&self) -> bool {
        self.suspicion.is_some()
    }

    /// The change since the last report, if any.
    pub fn report(&mut self) -> Option<Health> {
        match (self.suspicion, self.reported) {
            (Some(reason), false) => {
                self.reported = true;
                Some(Health::Suspect(reason))
            }
            (None, true) => {
                self.reported = false;
                Some(Health::Alive)
            }
            _ => None,
        }
    }
}
