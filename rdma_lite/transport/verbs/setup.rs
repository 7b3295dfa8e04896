// SPDX-License-Identifier: GPL-2.0

//! The life of a link: callbacks note what happened, the work item acts on it.

use super::{
    route::resolve_path, token, token_message, Endpoint, State, VerbsLink, READY, TOKEN_SETUP,
};
use crate::{
    core::{wire::RingAddress, Backlog},
    transport::{Down, LinkUser}, //
};
use kernel::{
    prelude::*,
    rdma::{
        cm::{CmId, Event, EventHandler},
        Access,
        CompletionQueue,
        Device,
        DmaBuffer,
        FastRegMr,
        Pd,
        PollContext,
        QueuePair,
        QueuePairOptions,
        RemoteAddr,
        SendOp, //
    },
    sync::{Arc, ArcBorrow},
    workqueue::WorkItem,
};

/// A message is sent again after 268 ms (4096 ns << 16) without an acknowledgement, and after 6
/// times the link is broken: better a new connection than one that is stuck for half a minute.
pub(super) const ACK_TIMEOUT: u8 = 16;

/// A protection domain for a link.
///
/// With one key over all memory of this machine (`unsafe_global_rkey`) chunks need no registration. That
/// is for measurements against LITE's way; this is the one place that this file has unsafe code for.
pub(crate) fn domain(device: &Device, global_rkey: bool) -> Result<Arc<Pd>> {
    if !global_rkey {
        return Pd::new(device, crate::OWNER);
    }
    // SAFETY: The operator has asked for this, and so trusts all nodes of the map, which are the only
    // ones that get a connection. A node of ours accesses only chunks that it was told of, until it
    // was told that they are its no more.
    unsafe { Pd::with_unsafe_global_rkey(device, crate::OWNER) }
}

impl<U: LinkUser> VerbsLink<U> {
    /// Makes everything that hangs on the device.
    fn build(self: &Arc<Self>, id: &Arc<CmId>) -> Result<KBox<Endpoint<U>>> {
        id.set_ack_timeout(ACK_TIMEOUT)?;
        let device = id.device()?;
        let depth = 1u32 << self.size.depth_log2;
        let limit = device.max_work_requests().saturating_sub(1);
        let options = QueuePairOptions {
            send: (depth * 4).min(limit),
            recv: (depth * 2).min(limit),
        };
        let pd = domain(&device, self.size.global_rkey)?;
        let capacity = options.send + options.recv + 2;
        let cq = CompletionQueue::new(&device, capacity, PollContext::Softirq, crate::OWNER)?;
        let size = 1usize << self.size.size_log2;
        let ring = DmaBuffer::new(&device, size)?;
        let pages = (size / kernel::page::PAGE_SIZE) as u32;
        let ring_mr = FastRegMr::new(&pd, pages)?;
        ring_mr.map(&ring)?;
        let qp = QueuePair::new(id, &pd, &cq, options, self.clone())?;
        for _ in 0..options.recv {
            qp.post_recv(token_message(), None)?;
        }
        self.state.lock().backlog = Backlog::new(options.recv as usize)?;
        Ok(KBox::new(
            Endpoint {
                qp,
                pd,
                ring,
                ring_mr,
                staging: None,
                remote: RemoteAddr { addr: 0, rkey: 0 },
                registered: false,
                greeted: false,
                up: false,
            },
            GFP_KERNEL,
        )?)
    }

    fn own_hello(&self, endpoint: &Endpoint<U>) -> Result<KVec<u8>> {
        self.user.hello(self.address_of(&endpoint.ring_mr))
    }

    fn address_of(&self, ring: &FastRegMr) -> RingAddress {
        RingAddress {
            addr: ring.addr(),
            rkey: ring.rkey(),
            size_log2: self.size.size_log2,
            depth_log2: self.size.depth_log2,
            slots_log2: self.size.slots_log2,
        }
    }

    /// Where the peer writes to, and how much of it there is.
    pub(super) fn ring_address(&self) -> Option<RingAddress> {
        let state = self.state.lock();
        Some(self.address_of(&state.endpoint.as_ref()?.ring_mr))
    }

    /// Lets the peer into our ring.
    fn register_ring(&self) -> Result {
        let mut state = self.state.lock();
        let endpoint = state.endpoint.as_mut().ok_or(ENOTCONN)?;
        if endpoint.registered {
            return Ok(());
        }
        endpoint.qp.post_send(
            token(TOKEN_SETUP, 0),
            SendOp::RegMr {
                mr: &endpoint.ring_mr,
                access: Access::REMOTE_WRITE,
            },
        )?;
        endpoint.registered = true;
        Ok(())
    }

    /// Tells the peer that it may write to our ring.
    fn tell_ready(&self) -> Result {
        let mut state = self.state.lock();
        let endpoint = state.endpoint.as_mut().ok_or(ENOTCONN)?;
        endpoint.greeted = true;
        // A write of nothing needs no key, and comes after the registration.
        endpoint.qp.post_send(
            token(TOKEN_SETUP, 0),
            SendOp::WriteImm {
                local: None,
                remote: endpoint.remote,
                imm: READY,
            },
        )
    }

    fn has_remote(&self) -> bool {
        let state = self.state.lock();
        state.endpoint.as_ref().is_some_and(|e| e.staging.is_some())
    }

    /// Sets where we write to.
    fn set_remote(&self, id: &CmId, ring: RingAddress) -> Result {
        let device = id.device()?;
        let staging = DmaBuffer::new(&device, ring.size() as usize)?;
        let mut state = self.state.lock();
        let endpoint = state.endpoint.as_mut().ok_or(ENOTCONN)?;
        endpoint.staging = Some(staging);
        endpoint.remote = RemoteAddr {
            addr: ring.addr,
            rkey: ring.rkey,
        };
        Ok(())
    }

    /// Acts on what was noted. `Ok(true)`: the link has just come up.
    fn advance(self: &Arc<Self>) -> Result<bool> {
        let (inbox, id) = {
            let mut state = self.state.lock();
            if state.over {
                return Ok(false);
            }
            if state.inbox.down.is_some() {
                return Err(ENOTCONN);
            }
            let up = state.endpoint.as_ref().is_some_and(|e| e.up);
            (
                core::mem::take(&mut state.inbox),
                (!up).then(|| state.id.clone()).flatten(),
            )
        };
        let Some(id) = id else { return Ok(false) };
        if inbox.addr_resolved {
            resolve_path(&id)?;
        }
        if inbox.route_resolved {
            let endpoint = self.build(&id)?;
            let hello = self.own_hello(&endpoint)?;
            self.state.lock().endpoint = Some(endpoint);
            id.connect(&hello)?;
        }
        if let Some(hello) = inbox.requested {
            let ring = match self.user.requested(&self.clone().into(), &hello) {
                Ok(ring) => ring,
                Err(why) => {
                    id.reject(&why)?;
                    return Err(ECONNREFUSED);
                }
            };
            let endpoint = self.build(&id)?;
            let hello = self.own_hello(&endpoint)?;
            self.state.lock().endpoint = Some(endpoint);
            self.set_remote(&id, ring)?;
            id.accept(&hello)?;
            // Our queue pair sends from now on; the peer's may not receive yet.
            self.register_ring()?;
        }
        if let Some(hello) = inbox.established {
            if !self.has_remote() {
                let ring = self.user.greeted(&self.clone().into(), &hello)?;
                self.set_remote(&id, ring)?;
            }
            self.register_ring()?;
            self.tell_ready()?;
        }
        let mut state = self.state.lock();
        let State {
            endpoint,
            inbox: later,
            ..
        } = &mut *state;
        match endpoint {
            Some(endpoint) if endpoint.greeted && inbox.peer_ready => {
                endpoint.up = true;
                Ok(true)
            }
            _ => {
                // The peer was quicker than the word that we are connected.
                later.peer_ready |= inbox.peer_ready;
                Ok(false)
            }
        }
    }
}

impl<U: LinkUser> WorkItem for VerbsLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let result = this.advance();
        if let Ok(true) = result {
            this.user.up(&this.clone().into());
            this.connect_lanes();
        }
        if result.is_ok() && !this.is_over() {
            this.advance_lanes();
        }
        let why = {
            let mut state = this.state.lock();
            if state.over {
                // One that the peer asked for as the link ended.
                let late = state.lanes.take_all();
                drop(state);
                drop(late);
                return;
            }
            let noted = state.inbox.down.take();
            match (noted, result) {
                (None, Ok(_)) => return,
                (Some(why), _) => {
                    state.over = true;
                    why
                }
                (None, Err(e)) => {
                    state.over = true;
                    Down::Failed(e)
                }
            }
        };
        this.dismantle();
        let link = this.clone().into();
        this.user.down(&link, why);
    }
}

impl<U: LinkUser> EventHandler for VerbsLink<U> {
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>) {
        let this: Arc<Self> = this.into();
        let copy = |data: &[u8]| {
            let mut copy = KVec::new();
            copy.extend_from_slice(data, GFP_KERNEL).map(|()| copy)
        };
        match event {
            Event::AddrResolved => this.note(|inbox| inbox.addr_resolved = true),
            Event::RouteResolved => this.note(|inbox| inbox.route_resolved = true),
            Event::Established { data } => match copy(data) {
                Ok(hello) => this.note(|inbox| inbox.established = Some(hello)),
                Err(_) => this.note_down(Down::Failed(ENOMEM)),
            },
            Event::Rejected { data, .. } => match copy(data) {
                // The connection manager refuses in our peer's stead, when nobody listens there.
                Ok(data) if data.iter().any(|byte| *byte != 0) => {
                    this.note_down(Down::Rejected(data))
                }
                _ => this.note_down(Down::Failed(ECONNREFUSED)),
            },
            Event::Failed(e) => this.note_down(Down::Failed(e)),
            Event::Disconnected => this.note_down(Down::Failed(ECONNRESET)),
            Event::DeviceRemoval => this.note_down(Down::Failed(ENODEV)),
            Event::AddrChange => this.note_down(Down::Failed(ENETDOWN)),
            // Requests come to listeners alone.
            Event::ConnectRequest(_) | Event::Other(_) => {}
        }
    }
}
