// SPDX-License-Identifier: GPL-2.0

//! Calls that nodes make at random.

use super::{Event, World};
use crate::{
    rpc::{
        ledger::Called,
        node::{Token, Window},
    },
    schedule::MS,
};
use kernel::alloc::inject;
use rdma_lite_core::core::{CallId, Class, NewCall, ReplyBuffer};

/// A port that nobody registers.
pub(super) const NO_PORT: u16 = 99;

const PORT: u16 = 1;

/// A port whose calls processes receive.
pub(super) const QUEUED: u16 = 2;

/// More than the largest reply of the workload.
const REPLY_CAP: u32 = 12 * 1024;

impl World {
    pub(super) fn submit(&mut self) {
        let mut ids: Vec<_> = self.nodes.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        ids.sort_unstable();
        let src = *self.rng.pick(&ids);
        let others: Vec<_> = self.ids().filter(|id| *id != src).collect();
        let dst = *self.rng.pick(&others);
        for _ in 0..self.rng.range(1..5) {
            self.call(src, dst);
        }
        self.pump(src, dst);
    }

    pub(super) fn call_everyone(&mut self) {
        for src in self.ids() {
            for dst in self.ids().filter(|dst| *dst != src) {
                self.call(src, dst);
                self.pump(src, dst);
            }
        }
    }

    pub(super) fn call(&mut self, id: u16, peer: u16) {
        let now = self.schedule.now();
        self.next_tag += 1;
        let tag = self.next_tag;
        let deadline = now
            + match self.rng.range(0..4) {
                _ if self.calm => 250 * MS,
                0 => self.rng.range(MS..5 * MS),
                _ => self.rng.range(10 * MS..200 * MS),
            };
        let len = match self.rng.range(0..10) {
            _ if self.calm => 8,
            0 => self.rng.range(8..self.config.max_payload().into()),
            1 => u64::from(self.config.max_payload()) + 1,
            _ => self.rng.range(8..200),
        };
        let mut request = vec![tag.to_le_bytes()[0]; len as usize];
        request[..8].copy_from_slice(&tag.to_le_bytes());
        let mut reply = ReplyBuffer {
            cap: REPLY_CAP,
            ..ReplyBuffer::default()
        };
        self.trace(format_args!("{id}: call {tag} to {peer}, {len} bytes"));
        let node = self.nodes.get_mut(&id).unwrap();
        if self.rng.one_in(2) || self.calm {
            self.next_rkey += 1;
            reply.rkey = self.next_rkey;
            let window = Window {
                bytes: vec![0; REPLY_CAP as usize],
                conn: node.remotes[&peer].conn,
            };
            node.buffers.insert(reply.rkey, window);
        }
        let port = if self.rng.one_in(30) && !self.calm {
            NO_PORT
        } else if self.rng.one_in(3) {
            QUEUED
        } else {
            PORT
        };
        let call = NewCall {
            port,
            len: len as u32,
            reply,
            deadline,
            nowait: !self.calm && self.rng.one_in(10),
            notify: false,
            class: match self.rng.one_in(3) {
                true => Class::High,
                false => Class::Normal,
            },
        };
        let token = Token {
            tag,
            request,
            rkey: reply.rkey,
        };
        let src_life = node.life();
        let core = &mut node.remotes.get_mut(&peer).unwrap().core;
        let view = *core.view();
        let called = Called {
            src_life,
            dst: peer,
            dst_life: if view.pinned { view.incarnation } else { 0 },
            epoch: view.epoch,
            deadline,
        };
        self.ledger.called(tag, called);
        let fails = !self.calm && self.rng.one_in(self.chaos.alloc_fails_in);
        let injection = fails.then(|| inject::fail_nth(0));
        let submitted = core.submit(call, token);
        drop(injection);
        match submitted {
            Err((error, token)) => self.failed(id, &token, error),
            Ok(call) if self.rng.one_in(30) && !self.calm => {
                let event = Event::Cancel {
                    node: id,
                    life: src_life,
                    peer,
                    id: call,
                };
                self.schedule.after(2 * MS, event);
            }
            Ok(_) => {}
        }
    }

    pub(super) fn cancel(&mut self, id: u16, peer: u16, call: CallId) {
        if let Some(token) = self.remote(id, peer).core.cancel(call) {
            self.trace(format_args!("{id}: cancels call {}", token.tag));
            self.ledger.moot(token.tag);
            let node = self.nodes.get_mut(&id).unwrap();
            node.buffers.remove(&token.rkey);
        }
        self.pump(id, peer);
    }
}
