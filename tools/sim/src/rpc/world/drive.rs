// SPDX-License-Identifier: GPL-2.0

//! The core is driven: what it wants is carried out.

use super::{Event, World};
use crate::{rpc::wire::Frame, schedule::Time};
use rdma_lite_core::core::{wire::Header, Action, Payload, ReplyBuffer};

impl World {
    pub(super) fn pump_all(&mut self, id: u16) {
        for peer in self.ids().filter(|peer| *peer != id) {
            self.pump(id, peer);
        }
    }

    /// Carries out what the core wants.
    pub(in crate::rpc) fn pump(&mut self, id: u16, peer: u16) {
        let now = self.schedule.now();
        loop {
            let Some(remote) = self
                .nodes
                .get_mut(&id)
                .and_then(|n| n.remotes.get_mut(&peer))
            else {
                return;
            };
            let Some(action) = remote.core.poll(now) else {
                break;
            };
            match action {
                Action::Connect(generation) => self.connect(id, peer, generation),
                Action::Disconnect(generation) => self.disconnect(id, peer, generation),
                Action::Transmit {
                    generation,
                    slot,
                    imm,
                    header,
                    payload,
                    len,
                    direct,
                } => {
                    let (conn, end) = remote.conns[&generation];
                    let mut bytes = header.to_vec();
                    let mut key = 0;
                    let payload = match payload {
                        Payload::None => Vec::new(),
                        Payload::Request(token) => {
                            key = token.rkey;
                            token.request.clone()
                        }
                        Payload::Reply(bytes) => bytes.clone(),
                    };
                    assert_eq!(payload.len(), len as usize);
                    let window = self.nodes[&id].buffers.get(&key);
                    if window.is_some_and(|window| window.conn != Some(conn)) {
                        let mut header = Header::decode(&header, u32::MAX).unwrap();
                        header.reply.rkey = 0;
                        bytes = header.encode().to_vec();
                    }
                    match direct {
                        Some(ReplyBuffer { rkey, .. }) => {
                            let bytes = payload;
                            self.send(conn, end, Frame::Direct { rkey, bytes });
                        }
                        None => bytes.extend_from_slice(&payload),
                    }
                    assert_eq!(slot.len, (bytes.len() as u32).next_multiple_of(64));
                    let offset = slot.offset;
                    self.send(conn, end, Frame::Message { imm, offset, bytes });
                }
                Action::Credit { generation, imm } => {
                    let (conn, end) = remote.conns[&generation];
                    self.send(conn, end, Frame::Imm(imm));
                }
                Action::Complete { token, error } => self.failed(id, &token, error),
                Action::Health(health) => self.trace(format_args!("{id}: {peer} is {health:?}")),
                Action::Fenced(epoch) => {
                    assert!(epoch > remote.core.view().epoch);
                    self.trace(format_args!("{id}: fenced by {epoch}"));
                }
                Action::Met(incarnation) => {
                    let node = self.nodes.get_mut(&id).unwrap();
                    if let Ok(view) = node.membership.met(peer, incarnation) {
                        let remote = node.remotes.get_mut(&peer).unwrap();
                        remote.core.set_view(now, view);
                    }
                }
            }
        }
        let remote = self.remote(id, peer);
        let next = remote.core.next_tick();
        if next < remote.armed {
            remote.armed = next;
            let life = self.nodes[&id].life();
            let event = Event::Timer {
                node: id,
                life,
                peer,
            };
            self.schedule.at(next, event);
        }
    }

    pub(super) fn tick(&mut self, id: u16, peer: u16) {
        let now = self.schedule.now();
        let remote = self.remote(id, peer);
        if now < remote.armed {
            return;
        }
        remote.armed = Time::MAX;
        remote.core.tick(now);
        remote.ticks = if remote.ticks.0 == now {
            (now, remote.ticks.1 + 1)
        } else {
            (now, 0)
        };
        assert!(remote.ticks.1 < 10, "the timer spins");
        self.pump(id, peer);
    }
}
