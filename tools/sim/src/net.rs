// SPDX-License-Identifier: GPL-2.0

//! A network that delays, loses, repeats and reorders, with links that can be
//! cut. It decides the fate of what is sent; the world that owns it schedules
//! the deliveries.

use crate::schedule::{Rng, Time, US};
use std::collections::BTreeSet;

/// A node of the network.
pub type NodeId = u16;

/// How bad a network is.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// Shortest way.
    pub delay_min: Time,
    /// Longest way, but for one in `slow_in`.
    pub delay_max: Time,
    /// Once in so many times it takes up to 50 times as long; 0 for never.
    pub slow_in: u64,
    /// Once in so many times a datagram is lost; 0 for never.
    pub loss_in: u64,
    /// Once in so many times a datagram comes twice; 0 for never.
    pub twice_in: u64,
}

impl Faults {
    /// A network that only delays a little.
    pub const NONE: Self = Self {
        delay_min: 2 * US,
        delay_max: 5 * US,
        slow_in: 0,
        loss_in: 0,
        twice_in: 0,
    };

    /// A network drawn at random, from good to awful.
    pub fn random(rng: &mut Rng) -> Self {
        let delay_min = rng.range(1..50) * US;
        let mut rate = |most: u64| match rng.range(0..3) {
            0 => 0,
            _ => rng.range(2..most),
        };
        Self {
            slow_in: rate(200),
            loss_in: rate(50),
            twice_in: rate(50),
            delay_max: delay_min + rng.range(1..2000) * US,
            delay_min,
        }
    }
}

/// The network between some nodes.
#[derive(Debug)]
pub struct Network {
    faults: Faults,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// One direction of a connection: what is sent arrives in order, or not at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pipe {
    last: Time,
}

impl Network {
    /// All links work, as badly as `faults` says.
    pub fn new(faults: Faults) -> Self {
        Self {
            faults,
            cut: BTreeSet::new(),
        }
    }

    /// From now on the network is as bad as this.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Cuts the link in one direction.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts all links between `nodes` and the rest of `all`.
    pub fn partition(&mut self, nodes: &[NodeId], all: &[NodeId]) {
        for inside in nodes {
            for outside in all.iter().filter(|id| !nodes.contains(id)) {
                self.cut(*inside, *outside);
                self.cut(*outside, *inside);
            }
        }
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether what is sent now gets there.
    pub fn connects(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// How long something takes.
    pub fn delay(&self, rng: &mut Rng) -> Time {
        let delay = rng.range(self.faults.delay_min..self.faults.delay_max + 1);
        if rng.one_in(self.faults.slow_in) {
            delay * rng.range(1..50)
        } else {
            delay
        }
    }

    /// When a datagram sent now arrives: never, once or twice, in any order
    /// with others.
    pub fn datagram(
        &self,
        rng: &mut Rng,
        now: Time,
        from: NodeId,
        to: NodeId,
    ) -> impl Iterator<Item = Time> {
        let lost = !self.connects(from, to) || rng.one_in(self.faults.loss_in);
        let first = (!lost).then(|| now + self.delay(rng));
        let twice = !lost && rng.one_in(self.faults.twice_in);
        let second = twice.then(|| now + self.delay(rng));
        first.into_iter().chain(second)
    }

    /// When something sent now through a connection arrives; `None` when the
    /// link is cut, which breaks the connection.
    pub fn through(
        &self,
        rng: &mut Rng,
        now: Time,
        from: NodeId,
        to: NodeId,
        pipe: &mut Pipe,
    ) -> Option<Time> {
        if !self.connects(from, to) {
            return None;
        }
        pipe.last = pipe.last.max(now + self.delay(rng));
        Some(pipe.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_keeps_the_order_and_datagrams_do_not() {
        let mut rng = Rng::new(1);
        let net = Network::new(Faults {
            delay_min: 1,
            delay_max: 1000,
            slow_in: 3,
            loss_in: 0,
            twice_in: 0,
        });
        let mut pipe = Pipe::default();
        let piped: Vec<_> = (0..100)
            .map(|now| net.through(&mut rng, now, 1, 2, &mut pipe).unwrap())
            .collect();
        assert!(piped.is_sorted());
        let loose: Vec<_> = (0..100)
            .flat_map(|now| net.datagram(&mut rng, now, 1, 2).collect::<Vec<_>>())
            .collect();
        assert_eq!(loose.len(), 100);
        assert!(!loose.is_sorted());
    }

    #[test]
    fn a_partition_separates_its_nodes_from_the_others_only() {
        let mut net = Network::new(Faults::NONE);
        net.partition(&[1, 2], &[1, 2, 3]);
        assert!(net.connects(1, 2));
        assert!(!net.connects(1, 3) && !net.connects(3, 2));
        net.heal();
        assert!(net.connects(1, 3));
    }
}
