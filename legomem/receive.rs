// SPDX-License-Identifier: GPL-2.0

//! The fast path's edge: from a packet to its answer, in softirq context.

use crate::{
    core::{
        fast::Outcome,
        offload,
        slow::Fast,
        wire::{Header, Path, Status, WireError},
    },
    node::MemoryNode,
    workers::Request,
};
use ::core::net::SocketAddr;
use kernel::{
    net::udp::{Packet, Receiver},
    prelude::*,
    siphash::Key,
    sync::Arc,
};

/// Takes the packets of a memory node.
pub(crate) struct Packets(pub(crate) Arc<MemoryNode>);

impl Receiver for Packets {
    fn receive(&self, packet: &mut Packet<'_>) {
        let from = packet.source();
        // Without memory for it, the packet is lost, as any may be.
        if let Ok(bytes) = packet.bytes() {
            self.0.receive(&from, bytes);
        }
    }
}

impl MemoryNode {
    fn receive(self: &Arc<Self>, from: &SocketAddr, packet: &[u8]) {
        if let Err(why) = self.take(from, packet) {
            self.fast(|board| board.stats.drop_packet(why));
        }
    }

    fn take(self: &Arc<Self>, from: &SocketAddr, packet: &[u8]) -> Result<(), WireError> {
        let (request, payload) = Header::parse(packet)?;
        if request.is_response() {
            self.fast(|board| board.stats.dropped_answers += 1);
            return Ok(());
        }
        let Some(key) = self.fast(|board| board.key(request.ras)) else {
            self.hint(from, &request);
            return Ok(());
        };
        Header::verify(packet, &key)?;
        self.execute(from, &key, &request, payload);
        if self.fast(|board| board.free_pages().dirty() != 0) {
            self.clean_pages();
        }
        Ok(())
    }

    /// Nobody here knows the address space, so there is no key to check the packet with, nor to
    /// answer with. Not larger than the request, and not for all of them.
    fn hint(&self, from: &SocketAddr, request: &Header) {
        let epoch = self.fast(|board| board.unknown_space().then(|| board.epoch()));
        if let Some(epoch) = epoch {
            self.send_hint(from, &request.answer(Status::NoSpaceId, epoch));
        }
    }

    fn execute(self: &Arc<Self>, from: &SocketAddr, key: &Key, request: &Header, payload: &[u8]) {
        let Some(mut reply) = self.buffers.take() else {
            return;
        };
        let mut part = 0;
        loop {
            let outcome =
                self.fast(|board| board.execute(&self.pages, request, payload, part, &mut reply));
            match outcome {
                Outcome::Answer(answer) => {
                    let bytes = reply.get(..answer.len).unwrap_or_default();
                    self.send(from, key, &answer.header, bytes);
                    if answer.header.status == Status::Stale {
                        self.meet_nodes();
                    }
                    match answer.next {
                        Some(next) => part = next,
                        None => return,
                    }
                }
                Outcome::Worker(Path::Extend) if offload::kind(request) == offload::Kind::Short => {
                    return self.call_offload(from, request, payload, &mut reply);
                }
                Outcome::Worker(path) => {
                    return self.hand_over(from, key, path, request, payload);
                }
            }
        }
    }

    fn hand_over(
        self: &Arc<Self>,
        from: &SocketAddr,
        key: &Key,
        path: Path,
        request: &Header,
        payload: &[u8],
    ) {
        let taken = Request::new(request, from, payload).and_then(|waiting| match path {
            Path::Extend => self.calls.lock().push(waiting),
            _ => self.allocations.lock().push(waiting),
        });
        match taken {
            Ok(()) => self.wake(path),
            Err(_) => {
                let answer = self.fast(|board| board.finish(request, Status::Busy, 0));
                self.send(from, key, &answer, &[]);
            }
        }
    }
}
