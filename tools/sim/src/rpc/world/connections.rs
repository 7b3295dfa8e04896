// SPDX-License-Identifier: GPL-2.0

//! Connections: made, accepted or rejected, broken, lost.

use super::{Event, World};
use crate::{
    rpc::wire::{Conn, End},
    schedule::MS,
};
use rdma_lite_core::core::{
    wire::{Hello, Reject},
    Generation,
};

impl World {
    pub(super) fn connect(&mut self, id: u16, peer: u16, generation: Generation) {
        let node = &self.nodes[&id];
        let end = End::new(id, node.life(), generation);
        self.conns.push(Conn {
            ends: [Some(end), None],
            nodes: [id, peer],
            broken: false,
        });
        let conn = self.conns.len() - 1;
        self.trace(format_args!("{id}: connects to {peer} ({conn})"));
        self.remember(id, peer, generation, conn, 0);
        let delay = self.net.delay(&mut self.rng);
        if self.net.connects(id, peer) {
            self.schedule.after(delay, Event::ConnectArrives { conn });
        }
    }

    fn remember(&mut self, id: u16, peer: u16, generation: Generation, conn: usize, end: usize) {
        if let Some(remote) = self.nodes.get_mut(&id).unwrap().remotes.get_mut(&peer) {
            remote.conns.insert(generation, (conn, end));
            remote.conn = Some(conn);
        }
    }

    pub(super) fn hello(&self, conn: usize, end: usize) -> Option<Hello> {
        let Conn { nodes, .. } = &self.conns[conn];
        let remote = self.nodes.get(&nodes[end])?.remotes.get(&nodes[1 - end])?;
        Some(remote.core.hello(0, 0))
    }

    pub(super) fn connect_arrives(&mut self, conn: usize) {
        let now = self.schedule.now();
        let [active, passive] = self.conns[conn].nodes;
        // What was said when the request was sent; the active end may be gone.
        let Some(hello) = self.owner(conn, 0).and_then(|_| self.hello(conn, 0)) else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&passive) else {
            return;
        };
        let (life, epoch) = (node.life(), node.membership.epoch());
        let hello = Hello::decode(&hello.encode()).expect("a hello of ours");
        let remote = node.remotes.get_mut(&active).unwrap();
        let answer = match node.membership.admit(&hello) {
            Ok(view) => remote.core.connect_request(now, &hello, view),
            Err(reason) => Err(Reject { reason, epoch }),
        };
        let answer = match answer {
            Ok((generation, old)) => {
                self.conns[conn].ends[1] = Some(End::new(passive, life, generation));
                if let Some(old) = old {
                    self.disconnect(passive, active, old);
                }
                self.remember(passive, active, generation, conn, 1);
                Ok(self.hello(conn, 1).unwrap())
            }
            Err(reject) => {
                self.trace(format_args!(
                    "{passive}: rejects {active}: {:?}",
                    reject.reason
                ));
                Err(Some(Reject::decode(&reject.encode()).unwrap()))
            }
        };
        self.pump(passive, active);
        let delay = self.net.delay(&mut self.rng);
        if self.net.connects(passive, active) {
            let hello = answer;
            self.schedule
                .after(delay, Event::AnswerArrives { conn, hello });
        }
    }

    pub(super) fn answer_arrives(&mut self, conn: usize, hello: Result<Hello, Option<Reject>>) {
        let now = self.schedule.now();
        let Some((id, peer, generation)) = self.owner(conn, 0) else {
            return;
        };
        let node = self.nodes.get_mut(&id).unwrap();
        let remote = node.remotes.get_mut(&peer).unwrap();
        let admitted = hello.and_then(|hello| match node.membership.admit(&hello) {
            Ok(view) => Ok((hello, view)),
            Err(_) => Err(None),
        });
        match admitted {
            Ok((hello, view)) => {
                remote.core.connect_reply(now, generation, &hello, view);
                remote.core.established(now, generation);
                let delay = self.net.delay(&mut self.rng);
                self.schedule.after(delay, Event::ReadyArrives { conn });
            }
            Err(reject) => {
                remote.conns.remove(&generation);
                remote.core.lost(now, generation, reject);
                self.close_end(conn, 0);
            }
        }
        self.pump(id, peer);
    }

    pub(super) fn ready_arrives(&mut self, conn: usize) {
        if self.conns[conn].broken {
            return;
        }
        if let Some((id, peer, generation)) = self.owner(conn, 1) {
            let now = self.schedule.now();
            let remote = self.remote(id, peer);
            remote.core.established(now, generation);
            self.pump(id, peer);
        }
    }

    /// The end's node, if this end is of its present life and still open.
    pub(super) fn owner(&mut self, conn: usize, end: usize) -> Option<(u16, u16, Generation)> {
        let Conn { ends, nodes, .. } = &self.conns[conn];
        let (end, peer) = (ends[end].as_ref()?, nodes[1 - end]);
        let node = self.nodes.get(&end.node)?;
        (end.open && node.life() == end.life).then_some((end.node, peer, end.generation))
    }

    pub(super) fn disconnect(&mut self, id: u16, peer: u16, generation: Generation) {
        if let Some((conn, end)) = self.remote(id, peer).conns.remove(&generation) {
            self.trace(format_args!("{id}: disconnects {peer} ({conn})"));
            self.close_end(conn, end);
        }
    }

    /// Nothing arrives any more; the ends learn of it sooner or later.
    pub(super) fn break_conn(&mut self, conn: usize) {
        if self.conns[conn].broken {
            return;
        }
        self.trace(format_args!("connection {conn} breaks"));
        self.ledger.summary.breaks += 1;
        self.conns[conn].broken = true;
        for end in 0..2 {
            let delay = self.rng.range(0..20 * MS);
            self.schedule.after(delay, Event::Lost { conn, end });
        }
    }

    pub(super) fn close_end(&mut self, conn: usize, end: usize) {
        if let Some(end) = &mut self.conns[conn].ends[end] {
            end.open = false;
        }
        self.break_conn(conn);
    }

    pub(super) fn lost(&mut self, conn: usize, end: usize) {
        let now = self.schedule.now();
        if let Some((id, peer, generation)) = self.owner(conn, end) {
            self.close_end(conn, end);
            let remote = self.remote(id, peer);
            remote.conns.remove(&generation);
            remote.core.lost(now, generation, None);
            self.pump(id, peer);
        }
    }
}
