// SPDX-License-Identifier: GPL-2.0

//! What comes from a peer's link, on its way to the protocol.

use super::{complaint, Peer, PeerLink, State};
use crate::{
    call::Pending,
    core::{
        wire::{Header, Imm, Kind, RingAddress, HEADER_LEN},
        Hello,
        Received,
        Refusal,
        Reject,
        RejectReason,
        Request, //
    },
    events::now,
    host::Host,
    port::{
        job::{Caller, Job, Remote},
        PortUse, //
    },
    trace,
    transport::{Down, LinkUser}, //
};
use kernel::{prelude::*, sync::Arc};

/// Requests up to this size are copied where the message came in, longer ones where that may sleep
/// for memory.
const SMALL: u32 = 4096;

/// An execution to start.
struct Start {
    port: PortUse,
    job: Job,
}

/// Something that ended outside of the protocol, and is told without the peer's lock.
enum Then {
    Nothing,
    /// Start this execution.
    Start(Start),
    /// End this call.
    End(Arc<Pending>, Result<(i32, u32)>),
}

impl Peer {
    /// Executes a call, or says why not. `memory` is for a request that is not small.
    fn execute(
        self: &Arc<Self>,
        state: &mut State,
        link: &PeerLink,
        request: Request,
        memory: KVVec<u8>,
    ) -> Then {
        let direct_min = state.protocol.direct_min();
        match self.try_execute(link, request, direct_min, memory) {
            Ok(start) => Then::Start(start),
            Err(refusal) => {
                state.protocol.refuse(request.call, refusal);
                Then::Nothing
            }
        }
    }

    fn try_execute(
        self: &Arc<Self>,
        link: &PeerLink,
        request: Request,
        direct_min: u32,
        mut data: KVVec<u8>,
    ) -> Result<Start, Refusal> {
        let ports = &self.host.node.ports;
        let port = ports.get(request.port).ok_or(Refusal::NoPort)?;
        let len = request.len as usize;
        if data.capacity() < len && request.len > SMALL {
            // There was no memory for it, or the peer changed the length meanwhile.
            return Err(Refusal::Busy);
        }
        data.resize(len, 0, GFP_ATOMIC).map_err(|_| Refusal::Busy)?;
        link.read(request.offset, &mut data)
            .map_err(|_| Refusal::Busy)?;
        let cap = request.reply_cap.min(self.host.config.max_payload());
        let from = Remote {
            peer: self.clone(),
            link: link.clone(),
            call: request.call,
            // What may be written to the caller's memory is written from the device's.
            device: cap >= direct_min,
        };
        Ok(Start {
            port,
            job: Job {
                src: self.id.into(),
                src_incarnation: request.src_incarnation,
                epoch: request.epoch,
                expires: request.expires,
                port: request.port,
                since: now(),
                notify: request.notify,
                class: request.class,
                data,
                cap: cap as usize,
                caller: Caller::Remote(from),
            },
        })
    }

    /// Reads the header that stands at the place that `imm` names, and gets memory for what follows
    /// it. `None`: to be done where that may sleep.
    fn header(
        &self,
        link: &PeerLink,
        imm: u32,
        may_sleep: bool,
    ) -> Option<([u8; HEADER_LEN], KVVec<u8>)> {
        let mut header = [0; HEADER_LEN];
        let mut memory = KVVec::new();
        if let Ok(Imm::Message { offset }) = Imm::decode(imm) {
            if let Err(e) = link.read(offset, &mut header) {
                link.fail(e);
                return Some((header, memory));
            }
            let fields = Header::decode(&header, self.host.config.max_payload());
            let fields = fields
                .ok()
                .filter(|h| h.kind == Kind::Call && h.len > SMALL);
            if let Some(fields) = fields {
                if !may_sleep {
                    return None;
                }
                // Without it the call is refused for now.
                let _ = memory.reserve(fields.len as usize, GFP_KERNEL | __GFP_NOWARN);
            }
        }
        Some((header, memory))
    }
}

impl LinkUser for Peer {
    type Home = Host;

    fn called(home: &Arc<Host>, node: u16) -> Result<Arc<Self>, KVec<u8>> {
        home.peer(node).ok_or_else(|| {
            let reject = Reject {
                reason: RejectReason::NotMember,
                epoch: home.epoch(),
            };
            let mut bytes = KVec::new();
            // Without memory the peer hears no reason, and is refused all the same.
            let _ = bytes.extend_from_slice(&reject.encode(), GFP_KERNEL);
            bytes
        })
    }

    fn hello(&self, ring: RingAddress) -> Result<KVec<u8>> {
        let hello = self.state.lock().protocol.hello(ring.addr, ring.rkey);
        let mut bytes = KVec::new();
        bytes.extend_from_slice(&hello.encode(), GFP_KERNEL)?;
        Ok(bytes)
    }

    fn requested(self: &Arc<Self>, link: &PeerLink, hello: &[u8]) -> Result<RingAddress, KVec<u8>> {
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
            // Not ended here: this is the work of a link, and that of another is waited for. What
            // still comes over it has the tag of a generation that is over.
            if let Some(old) = state.link.replace(link.clone()) {
                state.chores.end_later(old);
            }
            Ok(())
        });
        taken.map(|()| hello.ring).map_err(refuse)
    }

    fn greeted(self: &Arc<Self>, link: &PeerLink, hello: &[u8]) -> Result<RingAddress> {
        if self.is_second_best(link) {
            // The peer's node came to be in this kernel after we had asked for it elsewhere.
            return Err(EAGAIN);
        }
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

    fn up(self: &Arc<Self>, link: &PeerLink) {
        self.with(|state| {
            if state.torn_down != Some(link.tag()) && !state.stopped {
                state.link = Some(link.clone());
                state.choice.up();
                state.protocol.established(now(), link.tag());
                trace::link_up(self.host.node.name(), self.id.into(), link.tag(), 0);
            }
        });
    }

    fn message(self: &Arc<Self>, link: &PeerLink, imm: u32, may_sleep: bool) -> bool {
        let Some((header, memory)) = self.header(link, imm, may_sleep) else {
            return false;
        };
        let generation = link.tag();
        let then = self.with(|state| {
            let now = now();
            let received = state
                .protocol
                .immediate(now, generation, imm)
                .and_then(|offset| match offset {
                    Some(at) => state.protocol.message(now, generation, at, &header),
                    None => Ok(Received::Nothing),
                });
            if received.is_ok() && matches!(Imm::decode(imm), Ok(Imm::Message { .. })) {
                self.trace_message(trace::message_received, &header);
            }
            match received {
                Ok(Received::Nothing) => Then::Nothing,
                Ok(Received::Execute(request)) => self.execute(state, link, request, memory),
                Ok(Received::Reply {
                    token,
                    status,
                    offset,
                    len,
                }) => {
                    let copied = offset.map_or(Ok(()), |at| token.fill(link, at, len));
                    Then::End(token, copied.map(|()| (status, len)))
                }
                Ok(Received::Failed { token, error }) => Then::End(token, Err(error)),
                Err(violation) => {
                    self.complain(
                        state,
                        complaint::VIOLATION,
                        fmt!("broke the protocol: {violation:?}"),
                    );
                    Then::Nothing
                }
            }
        });
        // Without the lock, so that whoever is woken finds it free.
        match then {
            Then::Nothing => {}
            Then::Start(Start { port, job }) => port.start(job, may_sleep),
            Then::End(token, result) => token.finish(result),
        }
        true
    }

    fn down(self: &Arc<Self>, link: &PeerLink, why: Down) {
        let generation = link.tag();
        let error = match &why {
            Down::Failed(e) => *e,
            Down::Rejected(_) => ECONNREFUSED,
        };
        let name = self.host.node.name();
        trace::link_down(name, self.id.into(), generation, error.to_errno());
        let old = self.with(|state| {
            let reject = match &why {
                Down::Rejected(data) => Reject::decode(data).ok(),
                Down::Failed(_) => None,
            };
            match (&why, reject) {
                _ if state.stopped || state.torn_down == Some(generation) => {}
                (_, Some(reject)) => {
                    state.choice.refused();
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
            state.link.take_if(|present| present.is(link))
        });
        drop(old);
    }
}
