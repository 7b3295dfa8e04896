// SPDX-License-Identifier: GPL-2.0

//! The control plane: which node is in which state, and who hears of it when.

use super::{
    node_of,
    operations::{Output, Role},
    Event, World,
};
use crate::{
    hotpot::host::SimHost,
    schedule::{MS, US},
};
use hotpot_core::core::cluster::{self, Map, Peer, State};
use kernel::alloc::{flags::GFP_KERNEL, inject, KVec};

impl World {
    pub(super) fn set_peer(&mut self, index: usize, state: State, incarnation: u64) {
        let id = node_of(index);
        let peer = Peer {
            id,
            state,
            incarnation,
            // The first that is not lost.
            dispatcher: self.nodes.iter().position(|node| !node.gone) == Some(index),
        };
        self.peers.insert(id, peer);
    }

    fn choose_dispatcher(&mut self) {
        if let Some(first) = self.nodes.iter().position(|node| !node.gone) {
            if let Some(peer) = self.peers.get(&node_of(first)).copied() {
                self.set_peer(first, peer.state, peer.incarnation);
            }
        }
    }

    pub(super) fn map(&self) -> Map {
        let mut map = Map {
            epoch: self.epoch,
            peers: KVec::new(),
        };
        inject::spare(|| {
            for peer in self.peers.values() {
                map.peers.push(*peer, GFP_KERNEL).unwrap();
            }
        });
        map
    }

    pub(super) fn publish_map(&mut self) {
        self.epoch += 1;
        for index in 0..self.nodes.len() {
            let id = self.nodes[index].id;
            if self.peers[&id].state != State::Up {
                self.nodes[index].away = self.epoch;
                self.model.left(id);
            }
            let delay = self.rng.range(10..500) * US;
            self.schedule.after(delay, Event::NewMap(index));
        }
    }

    /// A node hears of the present map, unless it is deaf.
    pub(super) fn take_map(&mut self, index: usize) {
        if self.nodes.get(index).is_none_or(|node| node.deaf) {
            return;
        }
        let Some(life) = self.nodes.get(index).and_then(|node| node.life.clone()) else {
            return;
        };
        let (host, map) = (SimHost(life), self.map());
        self.begin(
            index,
            Role::Map,
            Box::pin(async move { Output::Map(cluster::new_map(&host, map).await) }),
        );
    }

    /// Has the control plane say that a node is in a state, if that is news and can be true. Who
    /// is said to be down is found to be up after a while.
    pub fn declare(&mut self, index: usize, state: State) {
        let alive = self.nodes[index].life.is_some();
        if state == State::Up && !alive {
            return;
        }
        let peer = self.peers[&node_of(index)];
        if peer.state == state || peer.state == State::Out {
            return;
        }
        let incarnation = peer.incarnation.max(self.nodes[index].incarnation);
        self.set_peer(index, state, incarnation);
        self.choose_dispatcher();
        self.publish_map();
        if state == State::Down {
            let delay = self.rng.range(1..20) * MS;
            self.schedule.after(delay, Event::Declare(index, State::Up));
        }
    }

    /// Whether the map has a node up.
    pub(super) fn is_up(&self, id: u32) -> bool {
        self.peers[&id].state == State::Up
    }

    /// Has the control plane say that all but the first nodes are down, until it is declared that they are up.
    pub fn have_first_only(&mut self, count: usize) {
        for index in count..self.nodes.len() {
            let incarnation = self.nodes[index].incarnation;
            self.set_peer(index, State::Down, incarnation);
        }
        self.publish_map();
        self.pass(MS);
    }

    /// Has the control plane say of nodes, in one map, that they are gone for good.
    pub(super) fn declare_out(&mut self, nodes: &[usize]) {
        let is_out = |index: &usize| self.peers[&node_of(*index)].state == State::Out;
        if nodes.iter().all(is_out) {
            return;
        }
        for index in nodes {
            let known = self.peers[&node_of(*index)].incarnation;
            let incarnation = known.max(self.nodes[*index].incarnation);
            self.set_peer(*index, State::Out, incarnation);
        }
        self.choose_dispatcher();
        self.publish_map();
    }

    /// Has the control plane say that a node is gone for good.
    pub fn set_gone(&mut self, node: usize) {
        let incarnation = self.nodes[node].incarnation;
        self.set_peer(node, State::Out, incarnation);
        self.publish_map();
    }

    /// Has the owner of a chunk of dataset 1 send it to node `to`; whether it is willing.
    pub fn move_chunk(&mut self, chunk: u64, to: usize) -> bool {
        let to = node_of(to);
        let mut moves = false;
        for index in 0..self.nodes.len() {
            if let Some(life) = self.nodes[index].life.clone() {
                let result = life.node.borrow_mut().move_chunk(1, chunk, to);
                self.trace(format_args!(
                    "n{} sends chunk {chunk} to n{to}: {result:?}",
                    index + 1
                ));
                moves |= result.is_ok();
                self.wake(index);
            }
        }
        moves
    }
}
