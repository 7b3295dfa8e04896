// SPDX-License-Identifier: GPL-2.0

//! Over which transport a node connects to a peer.
//!
//! Nodes that share coherent memory and both let it be used connect over that (RPCool), all others over
//! verbs. A way that fails again and again is not the only one that is tried: after a few attempts over
//! memory one goes over verbs, then memory has its turn again. A connection that is up stays where it is.

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A reliable connected queue pair.
    Verbs,
    /// Rings in memory that both nodes share.
    Shm,
}

/// What a node lets connections be carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Verbs alone.
    Verbs,
    /// Shared memory where there is some.
    Auto,
}

/// The attempts to connect to one peer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// Attempts over memory that failed in a row.
    failures: u32,
    last: Option<Transport>,
}

impl Choice {
    /// Attempts over memory, in a row, before one over verbs.
    pub const PATIENCE: u32 = 3;

    /// No attempt yet.
    pub const fn new() -> Self {
        Self {
            failures: 0,
            last: None,
        }
    }

    /// What would be best now. `theirs` is the policy of the peer's node, if we share memory with it.
    /// An attempt that began when that was not known, and has got to the peer since, is given up when
    /// it is over another transport than this.
    pub fn best(&self, ours: Policy, theirs: Option<Policy>) -> Transport {
        let shared = ours == Policy::Auto && theirs == Some(Policy::Auto);
        if shared && self.failures < Self::PATIENCE {
            Transport::Shm
        } else {
            Transport::Verbs
        }
    }

    /// What carries the next attempt. An attempt that was not reported to have come [`Self::up`], or to
    /// have been [`Self::refused`], has failed.
    pub fn next(&mut self, ours: Policy, theirs: Option<Policy>) -> Transport {
        match self.last.take() {
            Some(Transport::Shm) => self.failures += 1,
            Some(Transport::Verbs) => self.failures = 0,
            None => {}
        }
        let transport = self.best(ours, theirs);
        self.last = Some(transport);
        transport
    }

    /// The peer was reached and said no, which it would say over any transport.
    pub fn refused(&mut self) {
        self.last = None;
    }

    /// The attempt has led to a connection.
    pub fn up(&mut self) {
        self.failures = 0;
        self.last = None;
    }
}
