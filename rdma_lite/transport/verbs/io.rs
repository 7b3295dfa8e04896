// SPDX-License-Identifier: GPL-2.0

//! Messages, windows and large replies of a link that is up.

use super::{
    token,
    token_message,
    VerbsLink,
    READY,
    TOKEN_ACCESS,
    TOKEN_HIDE,
    TOKEN_OPEN,
    TOKEN_PUT, //
};
use crate::{
    core::wire::ReplyBuffer,
    transport::{
        window::{Regions, Window},
        Down,
        Link,
        LinkUser,
        Piece, //
    },
};
use kernel::{
    prelude::*,
    rdma::{Access, Completion, CompletionHandler, DmaBuffer, RemoteAddr, Segment, SendOp},
    sync::{Arc, ArcBorrow},
    time::msecs_to_jiffies,
};

/// An invalidation is local work of the device: later than this, the link is broken.
const INVALIDATE_MS: u32 = 5000;

impl<U: LinkUser> VerbsLink<U> {
    pub(super) fn post(&self, token: u64, op: SendOp<'_>) -> Result {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        endpoint.qp.post_send(token, op)
    }
}

impl<U: LinkUser> CompletionHandler for VerbsLink<U> {
    fn send_done(this: ArcBorrow<'_, Self>, token: u64, completion: &Completion<'_>) {
        let result = completion.result();
        if token >> 32 == TOKEN_HIDE && result.is_ok() {
            // Under the lock, since whoever is woken may drop the region, and must, as that sleeps.
            this.state.lock().regions.hidden(token as u32 as usize);
        }
        if token >> 32 == TOKEN_ACCESS {
            this.accessed(token as u32 as usize, result);
        }
        if let Err(e) = result {
            Self::fail(&this.into(), e);
        }
    }

    fn recv_done(this: ArcBorrow<'_, Self>, _token: u64, completion: &Completion<'_>) {
        let this: Arc<Self> = this.into();
        if let Err(e) = completion.result() {
            return this.fail(e);
        }
        let imm = completion.imm().unwrap_or(READY);
        let done = if imm == READY {
            this.note(|inbox| inbox.peer_ready = true);
            this.repost()
        } else {
            this.deliver(imm)
        };
        if let Err(e) = done {
            this.fail(e);
        }
    }
}

impl<U: LinkUser> Link for VerbsLink<U> {
    type Window = Window;
    type Buffer = Arc<DmaBuffer>;

    unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        let staging = endpoint.staging.as_ref().ok_or(ENOTCONN)?;
        let start = offset as usize;
        let mut end = start + header.len();
        staging.write(start, header)?;
        for piece in payload {
            // SAFETY: Readable, as the caller promises.
            unsafe { staging.write_raw(end, piece.ptr, piece.len)? };
            end += piece.len;
        }
        endpoint.qp.post_send(
            token_message(),
            SendOp::WriteImm {
                local: Some(Segment::new(staging, start..end)?),
                remote: RemoteAddr {
                    addr: endpoint.remote.addr + u64::from(offset),
                    rkey: endpoint.remote.rkey,
                },
                imm,
            },
        )
    }

    fn ring_bell(&self, imm: u32) -> Result {
        let state = self.state.lock();
        let endpoint = state.endpoint.as_ref().ok_or(ENOTCONN)?;
        let bell = SendOp::WriteImm {
            local: None,
            remote: endpoint.remote,
            imm,
        };
        endpoint.qp.post_send(token_message(), bell)
    }

    fn read(&self, offset: u32, into: &mut [u8]) -> Result {
        let ring = match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.ring.clone(),
            None => return Err(ENOTCONN),
        };
        ring.read(offset as usize, into)
    }

    unsafe fn expose(self: &Arc<Self>, ptr: *mut u8, len: usize) -> Result<Window> {
        let ptr = core::ptr::NonNull::new(ptr).ok_or(EFAULT)?;
        let (idle, pd) = {
            let mut state = self.state.lock();
            let pd = state.endpoint.as_ref().ok_or(ENOTCONN)?.pd.clone();
            (state.regions.take_idle(), pd)
        };
        let region = match idle {
            Some(region) => region,
            None => Regions::make(&pd)?,
        };
        // SAFETY: The caller keeps the memory until `hide()`, which unmaps or drops the region.
        unsafe { region.mr.map_foreign(ptr, len)? };
        let window = self.state.lock().regions.open(region.clone())?;
        let posted = self.post(
            token(TOKEN_OPEN, window.slot),
            SendOp::RegMr {
                mr: &region.mr,
                access: Access::REMOTE_WRITE,
            },
        );
        match posted {
            Ok(()) => Ok(window),
            Err(e) => {
                self.retire(window, false);
                Err(e)
            }
        }
    }

    fn hide(self: &Arc<Self>, window: Window) {
        let posted = self.post(
            token(TOKEN_HIDE, window.slot),
            SendOp::LocalInv {
                mr: &window.region.mr,
            },
        );
        let timeout = msecs_to_jiffies(INVALIDATE_MS);
        let done = posted.and_then(|()| {
            let hidden = &window.region.hidden;
            hidden.wait_for_completion_timeout(timeout)
        });
        if let Err(e) = done {
            self.fail(e);
            // The region dies with the last work request that names it.
            self.gone.wait_for_completion();
        }
        self.retire(window, done.is_ok());
    }

    fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        let pd = match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.pd.clone(),
            None => return Err(ENOTCONN),
        };
        DmaBuffer::new(pd.device(), len)
    }

    fn put(&self, buffer: &Arc<DmaBuffer>, len: usize, to: &ReplyBuffer) -> Result {
        let local = Segment::new(buffer, 0..len)?;
        self.post(
            token(TOKEN_PUT, 0),
            SendOp::Write {
                local,
                remote: RemoteAddr {
                    addr: to.addr,
                    rkey: to.rkey,
                },
            },
        )
    }

    fn fail(self: &Arc<Self>, why: Error) {
        self.note_down(Down::Failed(why));
    }
}

impl<U: LinkUser> VerbsLink<U> {
    /// Lets go of the memory of a window: by unmapping it when the device says that it is shut,
    /// else by destroying its region, which shuts it for certain.
    pub(super) fn retire(&self, window: Window, hidden: bool) {
        let reuse = hidden && window.region.mr.unmap().is_ok();
        let mut state = self.state.lock();
        let reuse = reuse && state.endpoint.is_some() && !state.over;
        let dropped = state.regions.close(window, reuse);
        drop(state);
        drop(dropped);
    }
}
