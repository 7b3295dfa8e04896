// SPDX-License-Identifier: GPL-2.0

//! The connection to one peer.
//!
//! Of two nodes the one with the lower id connects and the other listens, so
//! two connections never cross. The lower one connects as soon as the map says
//! that both are up, and again after a break, with exponential backoff. Each
//! attempt has a generation; what belongs to an older one is ignored.
//!
//! An attempt that failed may have been one of too many at once: where all nodes
//! connect to all, giving up soon and beginning anew would keep them busy with
//! attempts that none has the time to finish. So each further one has more time
//! than the one before, for each of its steps too.

/// Which side of a pair we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We connect.
    Active,
    /// We listen.
    Passive,
}

impl Role {
    /// Our role towards `peer`.
    pub fn of(local: u16, peer: u16) -> Self {
        if local < peer {
            Self::Active
        } else {
            Self::Passive
        }
    }
}

/// Counts the attempts; part of each event that the edge reports.
pub type Generation = u32;

/// Where the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing wanted, or waiting for the peer to connect.
    Idle,
    /// We asked, or accepted; given up at `until`.
    Connecting {
        /// When this attempt is given up.
        until: u64,
    },
    /// Messages flow.
    Connected,
    /// Waiting before the next attempt.
    Backoff {
        /// When to try again.
        until: u64,
    },
}

/// What the edge has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start an attempt.
    Connect(Generation),
    /// Tear one down; nothing of it counts any more.
    Disconnect(Generation),
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Wait after the first failure; doubles with each further one.
    pub backoff_min: u64,
    /// Longest wait.
    pub backoff_max: u64,
    /// Time for an attempt; doubles with each one that failed.
    pub timeout: u64,
}

/// An attempt has at most so many times the time of the first one.
const MOST_PATIENCE: u32 = 16;

/// The connection to one peer.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    timing: Timing,
    state: State,
    wanted: bool,
    generation: Generation,
    failures: u32,
    /// Times the time of the first attempt.
    patience: u32,
    start: bool,
    tear_down: Option<Generation>,
}

impl Connection {
    /// Not wanted yet.
    pub fn new(role: Role, timing: Timing) -> Self {
        Self {
            role,
            timing,
            state: State::Idle,
            wanted: false,
            generation: 0,
            failures: 0,
            patience: 1,
            start: false,
            tear_down: None,
        }
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// The present attempt.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// How many times the time of a first one the present attempt has, and each step of it.
    pub fn patience(&self) -> u32 {
        self.patience
    }

    /// Whether `generation` is the connection that messages flow on.
    pub fn is_connected(&self, generation: Generation) -> bool {
        self.state == State::Connected && self.generation == generation
    }

    /// Whether `generation` is the attempt under way.
    pub fn is_attempt(&self, generation: Generation) -> bool {
        matches!(self.state, State::Connecting { .. }) && self.generation == generation
    }

    /// Whether the map wants the connection.
    pub fn want(&mut self, now: u64, wanted: bool) {
        if self.wanted == wanted {
            return;
        }
        self.wanted = wanted;
        self.proven();
        if !wanted {
            self.drop_attempt();
            self.state = State::Idle;
        } else if self.role == Role::Active {
            self.state = State::Backoff { until: now };
        }
    }

    /// The peer asks. Gives the new generation, and an older one that the edge
    /// must tear down first. `None` when it is not for the peer to ask.
    pub fn request(&mut self, now: u64) -> Option<(Generation, Option<Generation>)> {
        if self.role == Role::Active || !self.wanted {
            return None;
        }
        if matches!(self.state, State::Connecting { .. }) {
            // The last one has failed on its side.
            self.failed();
        }
        self.drop_attempt();
        let old = self.tear_down.take();
        self.begin(now);
        Some((self.generation, old))
    }

    fn failed(&mut self) {
        self.patience = (2 * self.patience).min(MOST_PATIENCE);
    }

    fn begin(&mut self, now: u64) {
        self.generation = self.generation.wrapping_add(1);
        self.state = State::Connecting {
            until: now.saturating_add(self.timing.timeout.saturating_mul(self.patience.into())),
        };
    }

    fn drop_attempt(&mut self) {
        if matches!(self.state, State::Connecting { .. } | State::Connected) {
            if self.start {
                // The edge has not heard of it yet.
                self.start = false;
            } else {
                self.tear_down = Some(self.generation);
            }
        }
    }

    /// The attempt succeeded; false when it is not the present one.
    pub fn established(&mut self, generation: Generation) -> bool {
        let present = generation == self.generation
            && matches!(self.state, State::Connecting { .. })
            && !self.start;
        if present {
            self.state = State::Connected;
        }
        present
    }

    /// A message came on the connection: it works, so the next break starts
    /// with the shortest times.
    pub fn proven(&mut self) {
        self.failures = 0;
        self.patience = 1;
    }

    /// The attempt failed, or the connection broke, and the edge has torn it
    /// down. Returns whether it was connected; false when it is an old one.
    pub fn lost(&mut self, now: u64, generation: Generation) -> bool {
        if self.tear_down == Some(generation) {
            self.tear_down = None;
        }
        if generation != self.generation {
            return false;
        }
        match self.state {
            State::Idle | State::Backoff { .. } => false,
            State::Connecting { .. } => {
                self.failed();
                self.retry(now);
                false
            }
            State::Connected => {
                self.retry(now);
                true
            }
        }
    }

    /// Tears the present connection down and tries again later.
    pub fn break_off(&mut self, now: u64) {
        if matches!(self.state, State::Connecting { .. } | State::Connected) {
            self.drop_attempt();
            self.retry(now);
        }
    }

    fn retry(&mut self, now: u64) {
        let wait = self
            .timing
            .backoff_min
            .checked_shl(self.failures.min(32))
            .unwrap_or(u64::MAX)
            .clamp(self.timing.backoff_min, self.timing.backoff_max);
        self.failures = self.failures.saturating_add(1);
        self.state = match self.role {
            Role::Active if self.wanted => State::Backoff {
                until: now.saturating_add(wait),
            },
            _ => State::Idle,
        };
    }

    /// Time has passed.
    pub fn tick(&mut self, now: u64) {
        match self.state {
            State::Backoff { until } if now >= until => {
                self.begin(now);
                self.start = true;
            }
            State::Connecting { until } if now >= until => {
                self.failed();
                self.break_off(now);
            }
            _ => {}
        }
    }

    /// When [`Self::tick`] next has something to do.
    pub fn next(&self) -> u64 {
        match self.state {
            State::Backoff { until } | State::Connecting { until } => until,
            State::Idle | State::Connected => u64::MAX,
        }
    }

    /// What the edge has to do next.
    pub fn step(&mut self) -> Option<Step> {
        if let Some(generation) = self.tear_down.take() {
            return Some(Step::Disconnect(generation));
        }
        if self.start {
            self.start = false;
            return Some(Step::Connect(self.generation));
        }
        None
    }
}
