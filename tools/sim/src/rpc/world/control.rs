// SPDX-License-Identifier: GPL-2.0

//! The control plane: starts of nodes, and maps that come to them sooner or later.

use super::{Event, World};
use crate::{rpc::node::Node, schedule::MS};
use kernel::error::code::ESTALE;
use rdma_lite_core::core::{Local, MapNode, NodeAddress, Published};

const CLUSTER: [u8; 16] = *b"sixteen byte id.";

pub(super) struct Map {
    pub(super) epoch: u64,
    pub(super) nodes: Vec<MapNode>,
}

impl World {
    pub(super) fn start(&mut self, id: u16) {
        self.lives += 1;
        let local = Local {
            id,
            incarnation: self.lives,
            cluster: CLUSTER,
        };
        self.trace(format_args!("{id}: starts as {}", self.lives));
        let others = self.ids().filter(|other| *other != id);
        self.nodes
            .insert(id, Node::new(&self.config, local, others));
    }

    /// Makes a map of the present states, and sends it to all nodes.
    pub(super) fn new_map(&mut self) {
        let mut name = [0; 64];
        name[0] = b'n';
        let epoch = self.maps.len() as u64 + 1;
        let mut nodes = Vec::new();
        for id in self.ids() {
            name[1] = id as u8;
            let known = self.nodes.get(&id).map_or(0, Node::life);
            nodes.push(MapNode {
                id,
                state: self.states[usize::from(id) - 1],
                roles: 0,
                incarnation: if self.rng.one_in(2) { known } else { 0 },
                address: NodeAddress {
                    ipv6: false,
                    addr: [0; 16],
                    port: 0,
                },
                name,
            });
        }
        self.trace(format_args!("map {epoch}: {:?}", self.states));
        self.maps.push(Map { epoch, nodes });
        let map = self.maps.len() - 1;
        for node in self.ids() {
            let delay = if self.calm || self.rng.one_in(3) {
                0
            } else {
                self.rng.range(0..20 * MS)
            };
            self.schedule.after(delay, Event::Publish { node, map });
        }
    }

    pub(super) fn publish(&mut self, id: u16, map: usize) {
        let now = self.schedule.now();
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let Map { epoch, nodes } = &self.maps[map];
        let before = node.membership.epoch();
        match node.membership.publish(*epoch, nodes) {
            Ok(Published::New) => assert!(*epoch > before, "the epoch must grow"),
            Ok(Published::Same) => assert_eq!(*epoch, before),
            Err(e) => {
                // Overtaken, or about another life of this node.
                assert_eq!(e, ESTALE);
                return;
            }
        }
        let views: Vec<_> = node
            .remotes
            .keys()
            .map(|peer| (*peer, node.membership.view(*peer)))
            .collect();
        for (peer, view) in views {
            if let Some(remote) = node.remotes.get_mut(&peer) {
                remote.core.set_view(now, view);
            }
        }
        self.pump_all(id);
    }
}
