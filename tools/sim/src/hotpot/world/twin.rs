// SPDX-License-Identifier: GPL-2.0

//! Two machines that are one node: each has the id, an address and a device, and each of the others talks to one of
//! the two. Incarnations are start times, so the RPC layer takes nothing of the other one.

use super::{life::SimNode, memory::formatted, World};
use crate::{pm::Pm, schedule::SEC};
use std::{cell::RefCell, collections::BTreeSet, rc::Rc};

/// The second machine.
pub(super) struct Twin {
    /// Which node it is, from 0.
    of: usize,
    /// The nodes that take it for that one.
    met_by: BTreeSet<usize>,
}

impl World {
    /// A device as mkfs makes it for a node.
    pub fn new_device(&self, node: usize) -> Pm {
        formatted(self.nodes[node].id)
    }

    /// A second machine mounts `device` as node `of`; the nodes `met_by` talk to it from now on. Its index.
    pub fn add_twin(&mut self, of: usize, device: Pm, met_by: &[usize]) -> usize {
        let mut twin = SimNode::new(self.nodes[of].id);
        twin.pm = Rc::new(RefCell::new(device));
        twin.incarnation = self.nodes[of].incarnation + 1000;
        // Nobody counts on what it has.
        twin.gone = true;
        self.nodes.push(twin);
        let index = self.nodes.len() - 1;
        self.twin = Some(Twin {
            of,
            met_by: met_by.iter().copied().collect(),
        });
        self.start(index);
        self.pass(SEC / 2);
        index
    }

    /// The operator switches the second machine off, and says so.
    pub fn remove_twin(&mut self) {
        assert!(self.twin.take().is_some());
        let index = self.nodes.len() - 1;
        self.ops.retain(|_, op| op.node != index);
        self.nodes.pop();
        self.publish_map();
    }

    /// The machine that a node takes for node `id`.
    pub(super) fn machine(&self, by: usize, id: u32) -> usize {
        let node = id as usize - 1;
        match &self.twin {
            Some(twin) if twin.of == node && twin.met_by.contains(&by) => self.nodes.len() - 1,
            _ => node,
        }
    }
}
