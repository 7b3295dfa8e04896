// SPDX-License-Identifier: GPL-2.0

//! Messages: sent, on their way, arrived, and what they mean to a call.

use super::{Event, World};
use crate::rpc::{
    node::Token,
    wire::{Conn, Frame},
};
use kernel::{alloc::inject, error::Error};
use rdma_lite_core::core::{wire::HEADER_LEN, Generation, Received};

impl World {
    pub(super) fn send(&mut self, conn: usize, from: usize, frame: Frame) {
        let now = self.schedule.now();
        let Conn {
            ends,
            nodes,
            broken,
        } = &mut self.conns[conn];
        let Some(end) = &mut ends[from] else { return };
        match &frame {
            Frame::Message { offset, bytes, .. } => {
                let slot = (bytes.len() as u32).next_multiple_of(64);
                end.write(&self.config, *offset, slot);
            }
            Frame::Imm(_) => end.write_nothing(&self.config),
            Frame::Direct { .. } => {}
        }
        if *broken {
            return;
        }
        let (id, to) = (nodes[from], nodes[1 - from]);
        match self.net.through(&mut self.rng, now, id, to, &mut end.pipe) {
            Some(at) => self.schedule.at(at, Event::Arrives { conn, from, frame }),
            None => self.break_conn(conn),
        }
    }

    pub(super) fn arrives(&mut self, conn: usize, from: usize, frame: Frame) {
        let now = self.schedule.now();
        if self.conns[conn].broken {
            if let Frame::Message { imm, .. } = frame {
                self.arrives_late(conn, from, imm);
            }
            return;
        }
        let Some((id, peer, generation)) = self.owner(conn, 1 - from) else {
            return self.break_conn(conn);
        };
        let sender = self.conns[conn].ends[from].as_mut().unwrap();
        match frame {
            Frame::Direct { rkey, bytes } => {
                match self.nodes.get_mut(&id).unwrap().buffers.get_mut(&rkey) {
                    Some(window) => {
                        assert_eq!(window.conn, Some(conn), "a window of another connection");
                        window.bytes[..bytes.len()].copy_from_slice(&bytes);
                    }
                    // The key was revoked: remote access error.
                    None => self.break_conn(conn),
                }
            }
            Frame::Imm(imm) => {
                sender.took_nothing();
                let remote = self.remote(id, peer);
                let got = remote.core.immediate(now, generation, imm);
                assert_eq!(got, Ok(None), "a credit of a sound peer");
                self.pump(id, peer);
            }
            Frame::Message { imm, offset, bytes } => {
                sender.consumed();
                self.message(id, peer, generation, imm, offset, bytes);
            }
        }
    }

    /// A late completion of an old connection must change nothing.
    fn arrives_late(&mut self, conn: usize, from: usize, imm: u32) {
        let now = self.schedule.now();
        let Conn { ends, nodes, .. } = &self.conns[conn];
        let (Some(end), peer) = (&ends[1 - from], nodes[from]) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&end.node) {
            if !end.open && node.life() == end.life {
                let remote = node.remotes.get_mut(&peer).unwrap();
                assert_eq!(remote.core.immediate(now, end.generation, imm), Ok(None));
            }
        }
    }

    fn message(
        &mut self,
        id: u16,
        peer: u16,
        generation: Generation,
        imm: u32,
        offset: u32,
        bytes: Vec<u8>,
    ) {
        let now = self.schedule.now();
        let fails = !self.calm && self.rng.one_in(self.chaos.alloc_fails_in);
        let remote = self.remote(id, peer);
        let at = offset as usize;
        remote.ring[at..at + bytes.len()].copy_from_slice(&bytes);
        let found = remote.core.immediate(now, generation, imm);
        let Some(found) = found.expect("a message of a sound peer") else {
            return;
        };
        assert_eq!(found, offset);
        let header: [u8; HEADER_LEN] = remote.ring[at..at + HEADER_LEN].try_into().unwrap();
        let injection = fails.then(|| inject::fail_nth(0));
        let received = remote.core.message(now, generation, found, &header);
        drop(injection);
        match received.expect("a message of a sound peer") {
            Received::Nothing => {}
            Received::Execute(request) => {
                let from = request.offset as usize;
                let payload = remote.ring[from..from + request.len as usize].to_vec();
                self.execute(id, peer, request, &payload);
            }
            Received::Reply {
                token,
                status,
                offset,
                len,
            } => {
                let len = len as usize;
                let ring = offset.map(|at| remote.ring[at as usize..at as usize + len].to_vec());
                let node = self.nodes.get_mut(&id).unwrap();
                let window = node.buffers.remove(&token.rkey);
                let reply = ring.unwrap_or_else(|| {
                    let mut bytes = window.expect("a reply went there").bytes;
                    bytes.truncate(len);
                    bytes
                });
                self.replied(&token, status, &reply);
            }
            Received::Failed { token, error } => self.failed(id, &token, error),
        }
        self.pump(id, peer);
    }

    pub(super) fn failed(&mut self, id: u16, token: &Token, error: Error) {
        self.trace(format_args!("{id}: call {} ends: {error:?}", token.tag));
        if let Some(node) = self.nodes.get_mut(&id) {
            node.buffers.remove(&token.rkey);
        }
        self.ledger.failed(self.schedule.now(), token.tag, error);
    }

    fn replied(&mut self, token: &Token, status: i32, reply: &[u8]) {
        self.trace(format_args!("call {} is answered by {status}", token.tag));
        let now = self.schedule.now();
        if status < 0 {
            let is_its = |number| status == Self::status(number);
            return self.ledger.answered(now, token.tag, is_its);
        }
        let (number, rest) = reply.split_first_chunk().expect("a reply of ours");
        assert!(rest.iter().all(|byte| *byte == number[0]), "a torn reply");
        let number = u64::from_le_bytes(*number);
        self.ledger.answered(now, token.tag, |n| n == number);
    }

    /// What a failing handler returns.
    pub(in crate::rpc) fn status(number: u64) -> i32 {
        -1 - (number % 1000) as i32
    }
}
