// SPDX-License-Identifier: GPL-2.0

//! Chunks of regions that are opened for the peer of a link, and access to those of the peer.

use super::{token, VerbsLink, TOKEN_OPEN};
use crate::{
    core::Class,
    events::now,
    transport::{
        access::{Access, Way, MS},
        chunk::Chunk,
        window::{Regions, Window},
        LinkUser, //
    },
};
use kernel::{
    prelude::*,
    rdma::{self, DmaBuffer, RemoteAddr, Segment, SendOp},
    sync::Arc,
};

impl<U: LinkUser> VerbsLink<U> {
    /// Whether the peer gets the key over all memory.
    pub(crate) fn has_global_rkey(&self) -> bool {
        self.size.global_rkey
    }

    /// Where the peer finds a buffer by that key.
    pub(crate) fn global_addr(&self, buffer: &DmaBuffer) -> Result<RemoteAddr> {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        buffer.unsafe_remote_addr(&endpoint.pd)
    }

    /// Lets the peer into a chunk, until the window is given to [`Link::hide`]. The chunk lives
    /// until then, whatever becomes of the link.
    pub(crate) fn open(self: &Arc<Self>, chunk: &Chunk, access: rdma::Access) -> Result<Window> {
        let (idle, pd) = {
            let mut state = self.state.lock();
            let pd = state.endpoint.as_ref().ok_or(ENOTCONN)?.pd.clone();
            (state.regions.take_idle(), pd)
        };
        let region = match idle {
            Some(region) => region,
            None => Regions::make(&pd)?,
        };
        chunk.map(&region.mr)?;
        let window = self.state.lock().regions.open(region.clone())?;
        let registration = SendOp::RegMr {
            mr: &region.mr,
            access,
        };
        match self.post(token(TOKEN_OPEN, window.slot), registration) {
            Ok(()) => Ok(window),
            Err(e) => {
                self.retire(window, false);
                Err(e)
            }
        }
    }

    /// The ring that the peer writes to: names this connection, on both sides.
    pub(crate) fn own_ring(&self) -> Option<RemoteAddr> {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref()?;
        Some(RemoteAddr {
            addr: endpoint.ring_mr.addr(),
            rkey: endpoint.ring_mr.rkey(),
        })
    }

    /// The ring of the peer that we write to.
    pub(crate) fn peer_ring(&self) -> Option<RemoteAddr> {
        let state = self.state.lock();
        Some(state.endpoint.as_ref()?.remote)
    }

    /// For a class, reads `len` bytes at `remote` into the beginning of `buffer`, or writes them there, and waits
    /// for the end of it, and says how it ended. Until then the device may use the buffer; it may do so
    /// still when the wait failed.
    pub(crate) fn access(
        self: &Arc<Self>,
        class: Class,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        len: usize,
        remote: RemoteAddr,
        timeout_ms: u32,
    ) -> Result<Result> {
        let local = Segment::new(buffer, 0..len)?;
        let deadline = now().saturating_add(u64::from(timeout_ms) * MS);
        let idle = self.state.lock().accesses.take_idle();
        let access = match idle {
            Some(access) => access,
            None => Access::make()?,
        };
        let slot = match self.place(class, len, &access, deadline)? {
            Ok(slot) => slot,
            Err(e) => return Ok(Err(e)),
        };
        let op = match way {
            Way::Read => SendOp::Read { local, remote },
            Way::Write => SendOp::Write { local, remote },
        };
        if let Err(e) = self.post_access(class, slot, op) {
            let closed = self.state.lock().accesses.close(slot);
            drop(closed);
            return Ok(Err(e));
        }
        let result = access.wait_for_end(deadline)?;
        let unkept = self.state.lock().accesses.keep(access);
        drop(unkept);
        Ok(result)
    }

    /// Waits until an access may begin; its slot. `Err` outside: the wait was given up.
    fn place(
        &self,
        class: Class,
        bytes: usize,
        access: &Arc<Access>,
        deadline: u64,
    ) -> Result<Result<usize>> {
        let begun = self.state.lock().accesses.begin(class, bytes, access);
        access.place(begun, deadline, || {
            self.state.lock().accesses.withdraw(class, access)
        })
    }

    /// An access has completed.
    pub(super) fn accessed(&self, slot: usize, result: Result) {
        let access = self.state.lock().accesses.close(slot);
        if let Some(access) = access {
            access.finish(result);
        }
    }
}
