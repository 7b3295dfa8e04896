// SPDX-License-Identifier: GPL-2.0

//! What comes from a peer's link, on its way to the protocol.

use super::{complaint, reply::ReplyMemory, Peer, PeerLink, Reply, State};
use crate::{
    core::{
        wire::{RingAddress, HEADER_LEN},
        Hello,
        Received,
        Refusal,
        Reject,
        RejectReason,
        Request, //
    },
    events::now,
    port::Execution,
    transport::{Down, Link, LinkUser}, //
};
use kernel::{prelude::*, sync::Arc};

impl Peer {
    /// Executes a call, or says why not.
    fn execute(self: &Arc<Self>, state: &mut State, link: &Arc<PeerLink>, request: Request) {
        if let Err(refusal) = self.try_execute(link, request) {
            state.protocol.refuse(request.call, refusal);
        }
    }

    fn try_execute(
        self: &Arc<Self>,
        link: &Arc<PeerLink>,
        request: Request,
    ) -> Result<(), Refusal> {
        let ports = &self.host.node.ports;
        let port = ports.get(request.port).ok_or(Refusal::NoPort)?;
        let busy = |_: Error| Refusal::Busy;
        let mut data = KVVec::new();
        data.resize(request.len as usize, 0, GFP_KERNEL)
            .map_err(|_| Refusal::Busy)?;
        link.read(request.offset, &mut data).map_err(busy)?;
        let cap = request.reply_cap.min(self.host.config.max_payload());
        let reply = if cap >= self.host.config.direct_min {
            let buffer = link.buffer(cap as usize).map_err(busy)?;
            let memory = Arc::new(ReplyMemory::Device(buffer), GFP_KERNEL);
            Reply(memory.map_err(|_| Refusal::Busy)?)
        } else {
            Reply::heap(cap as usize).map_err(busy)?
        };
        Execution::start(self, request, port, data, reply).map_err(busy)
    }
}

impl LinkUser for Peer {
    fn hello(&self, ring: RingAddress) -> Result<KVec<u8>> {
        let hello = self.state.lock().protocol.hello(ring.addr, ring.rkey);
        let mut bytes = KVec::new();
        bytes.extend_from_slice(&hello.encode(), GFP_KERNEL)?;
        Ok(bytes)
    }

    fn requested(
        self: &Arc<Self>,
        link: &Arc<PeerLink>,
        hello: &[u8],
    ) -> Result<RingAddress, KVec<u8>> {
        let refuse = |reject: Reject| {
            let mut bytes = KVec::new();
            // Without memory the peer hears no reason, and is refused all the same.
            let _ = bytes.extend_from_slice(&reject.encode(), GFP_KERNEL);
            bytes
        };
        let reason = |reason| Reject {
            reason,
            epoch: self.host.epoch(),
        };
        let hello = Hello::decode(hello).map_err(|_| refuse(reason(RejectReason::Protocol)))?;
        let admitted = self.host.learn(|map| map.admit(&hello));
        let view = admitted.map_err(|why| {
            self.complain(
                &mut self.state.lock(),
                complaint::HELLO | why as u32,
                fmt!("its connection is refused: {why:?}"),
            );
            refuse(reason(why))
        })?;
        let taken = self.with(|state| {
            let taken = state.protocol.connect_request(now(), &hello, view);
            let (generation, _) = taken?;
            link.set_tag(generation);
            Ok(state.link.replace(link.clone()))
        });
        match taken {
            Ok(old) => {
                if let Some(old) = old {
                    old.shutdown();
                }
                Ok(hello.ring)
            }
            Err(reject) => Err(refuse(reject)),
        }
    }

    fn greeted(self: &Arc<Self>, link: &Arc<PeerLink>, hello: &[u8]) -> Result<RingAddress> {
        let hello = Hello::decode(hello)?;
        let admitted = self.host.learn(|map| map.admit(&hello));
        let view = admitted.map_err(|why| {
            self.complain(
                &mut self.state.lock(),
                complaint::HELLO | why as u32,
                fmt!("what answers at its address is not it: {why:?}"),
            );
            ECONNREFUSED
        })?;
        self.with(|state| {
            let protocol = &mut state.protocol;
            protocol.connect_reply(now(), link.tag(), &hello, view);
        });
        Ok(hello.ring)
    }

    fn up(self: &Arc<Self>, link: &Arc<PeerLink>) {
        self.with(|state| {
            if state.torn_down != Some(link.tag()) && !state.stopped {
                state.link = Some(link.clone());
                state.protocol.established(now(), link.tag());
            }
        });
    }

    fn message(self: &Arc<Self>, link: &Arc<PeerLink>, imm: u32) {
        let generation = link.tag();
        let mut ended = None;
        self.with(|state| {
            let now = now();
            let received = state
                .protocol
                .immediate(now, generation, imm)
                .and_then(|offset| {
                    let Some(offset) = offset else {
                        return Ok(Received::Nothing);
                    };
                    let mut header = [0; HEADER_LEN];
                    if let Err(e) = link.read(offset, &mut header) {
                        link.fail(e);
                        return Ok(Received::Nothing);
                    }
                    state.protocol.message(now, generation, offset, &header)
                });
            match received {
                Ok(Received::Nothing) => {}
                Ok(Received::Execute(request)) => self.execute(state, link, request),
                Ok(Received::Reply {
                    token,
                    status,
                    offset,
                    len,
                }) => {
                    let copied = offset.map_or(Ok(()), |at| token.fill(link, at, len));
                    ended = Some((token, copied.map(|()| (status, len))));
                }
                Ok(Received::Failed { token, error }) => ended = Some((token, Err(error))),
                Err(violation) => {
                    self.complain(
                        state,
                        complaint::VIOLATION,
                        fmt!("broke the protocol: {violation:?}"),
                    );
                }
            }
        });
        // Without the lock, so that whoever is woken finds it free.
        if let Some((token, result)) = ended {
            token.finish(result);
        }
    }

    fn down(self: &Arc<Self>, link: &Arc<PeerLink>, why: Down) {
        let generation = link.tag();
        let old = self.with(|state| {
            let reject = match &why {
                Down::Rejected(data) => Reject::decode(data).ok(),
                Down::Failed(_) => None,
            };
            match (&why, reject) {
                _ if state.stopped || state.torn_down == Some(generation) => {}
                (_, Some(reject)) => {
                    self.complain(
                        state,
                        complaint::REJECTED | reject.reason as u32,
                        fmt!("refuses our connection: {:?}", reject.reason),
                    );
                }
                (Down::Failed(e), None) => {
                    self.complain(state, complaint::LOST, fmt!("no connection: {e:?}"));
                }
                (Down::Rejected(_), None) => {
                    self.complain(
                        state,
                        complaint::REJECTED,
                        fmt!("refuses our connection in words of another protocol"),
                    );
                }
            }
            state.protocol.lost(now(), generation, reject);
            state.link.take_if(|present| Arc::ptr_eq(present, link))
        });
        drop(old);
    }
}
