// SPDX-License-Identifier: GPL-2.0

//! Over which transport a node connects to a peer.
//!
//! Nodes that share coherent memory and both let it be used connect over that (RPCool), all others over
//! verbs. Nodes of one kernel have its memory; nodes of several may have a region that all of these map.
//! A way that fails again and again is not the only one that is tried: after a few attempts over memory
//! one goes over verbs, then memory has its turn again. A connection that is up stays where it is.

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A reliable connected queue pair.
    Verbs,
    /// Rings in memory of the kernel of both nodes.
    Shm,
    /// Rings in memory that the kernels of both nodes share.
    Guests,
}

/// What a node lets connections be carried by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Verbs alone.
    Verbs,
    /// Shared memory where there is some: that of the kernel first.
    Auto,
    /// The region that kernels share, even between nodes of one, where the peer is there.
    Guests,
}

/// What there is to reach a peer by, beside verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// The policy of the peer's node, if that is on in this kernel.
    pub neighbour: Option<Policy>,
    /// The peer's node is there in the region that we share with other kernels.
    pub region: bool,
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

    /// What would be best now. An attempt that began when less was known, and has got to the peer since,
    /// is given up when it is over verbs and this is not.
    pub fn best(&self, ours: Policy, ways: Ways) -> Transport {
        let of_one_kernel = ours == Policy::Auto && ways.neighbour == Some(Policy::Auto);
        if self.failures >= Self::PATIENCE {
            Transport::Verbs
        } else if of_one_kernel {
            Transport::Shm
        } else if ours != Policy::Verbs && ways.region {
            Transport::Guests
        } else {
            Transport::Verbs
        }
    }

    /// What carries the next attempt. An attempt that was not reported to have come [`Self::up`], or to
    /// have been [`Self::refused`], has failed.
    pub fn next(&mut self, ours: Policy, ways: Ways) -> Transport {
        match self.last.take() {
            Some(Transport::Shm | Transport::Guests) => self.failures += 1,
            Some(Transport::Verbs) => self.failures = 0,
            None => {}
        }
        let transport = self.best(ours, ways);
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
