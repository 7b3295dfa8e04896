// SPDX-License-Identifier: GPL-2.0

//! What the peer has for us: bells, one after the other, and what they are for.

use super::{Attachment, GuestLink, SharedMemory};
use crate::{
    core::{
        guests::{
            access::{Request, Response},
            bells::Bell,
            layout::ACCESSES,
            Memory,
        },
        Turn,
    },
    transport::{access::Way, chunk::Chunk, handshake::End, Down, LinkUser, NodeLink},
};
use kernel::{
    mm::pinned::PinnedPages,
    prelude::*,
    rdma::RemoteAddr,
    sync::Arc,
    workqueue::WorkItem, //
};

/// Bells that are heard before others get their turn.
const BUDGET: usize = 64;

impl<U: LinkUser> GuestLink<U> {
    /// Hears what there is; whether there was anything. Only in a round of the attachment.
    pub(super) fn poll(self: &Arc<Self>, attachment: &Attachment<U>) -> bool {
        if !self.is_ready() {
            return false;
        }
        let heard = self.hear(attachment);
        let heard = heard.unwrap_or_else(|e| {
            self.set_ready(false);
            self.end(Down::Failed(e));
            0
        });
        self.handle();
        heard != 0
    }

    fn hear(self: &Arc<Self>, attachment: &Attachment<U>) -> Result<usize> {
        let (memory, lane) = (attachment.memory(), self.inbound);
        for heard in 0..BUDGET {
            let bell = {
                let mut rx = self.rx.lock();
                let bell = rx.bells.next(memory, lane)?;
                if let Some(Bell::Message(imm)) = bell {
                    // Whose turn it is to handle it is looked at when all were heard.
                    rx.inbox.push(imm)?;
                }
                if bell.is_none() && heard != 0 {
                    rx.bells.tell(memory, lane)?;
                }
                bell
            };
            match bell {
                None => return Ok(heard),
                Some(Bell::Message(_)) => {}
                Some(Bell::Request(nr)) => self.serve(attachment, nr as usize)?,
                Some(Bell::Response(nr)) => self.served(attachment, nr as usize)?,
            }
        }
        self.rx.lock().bells.tell(memory, lane)?;
        Ok(BUDGET)
    }

    /// Handles messages, unless it is the task's turn.
    fn handle(self: &Arc<Self>) {
        let link = NodeLink::Guests(self.clone());
        loop {
            let next = self.rx.lock().inbox.next(Turn::Softirq);
            let Some(imm) = next else { return };
            if !self.party.user.message(&link, imm, false) {
                self.rx.lock().inbox.defer();
                let _ = self.party.queues.links.enqueue::<_, 1>(self.clone());
                return;
            }
            self.rx.lock().inbox.handled();
        }
    }

    /// The peer asks for an access to what we have opened for it.
    fn serve(&self, attachment: &Attachment<U>, nr: usize) -> Result {
        if nr >= ACCESSES {
            return Err(EPROTO);
        }
        let (memory, lane) = (attachment.memory(), self.inbound);
        let request = Request::get(memory, lane.request(nr))?;
        let (at, len) = (lane.data(nr), request.len as usize);
        let there = memory.as_ptr(at, len)?;
        let remote = RemoteAddr {
            addr: request.addr,
            rkey: request.key,
        };
        let way = match request.write {
            true => Way::Write,
            false => Way::Read,
        };
        let done = self
            .windows
            .access(way, remote, len, |chunk, start| match (way, chunk) {
                // SAFETY: The window has so many bytes from `start` on, and keeps them meanwhile; they are
                // not of the shared memory.
                (Way::Read, Chunk::Buffer(buffer)) => unsafe {
                    memory.write_raw(at, buffer.as_ptr().as_ptr().wrapping_add(start), len)
                },
                // SAFETY: The shared memory has so many bytes there, as was just checked.
                (Way::Write, Chunk::Buffer(buffer)) => unsafe {
                    buffer.write_raw(start, there.as_ptr(), len)
                },
                (
                    way,
                    Chunk::Pinned {
                        pages, start: base, ..
                    },
                ) => through(memory, at, pages, base + start, len, way),
            });
        let response = Response {
            id: request.id,
            status: done.map_or_else(|e| e.to_errno(), |()| 0),
        };
        response.put(memory, lane.response(nr))?;
        self.with_lane(|memory, lane, bells| bells.ring(memory, lane, Bell::Response(nr as u32)))
    }

    /// The peer has carried out an access of ours.
    fn served(&self, attachment: &Attachment<U>, nr: usize) -> Result {
        let id = self.tx.lock().accesses.number(nr)?;
        let response = Response::get(attachment.memory(), self.outbound.response(nr))?;
        if response.id != id {
            return Err(EPROTO);
        }
        let waiter = self.on_accesses(|all| all.answered(nr));
        if let Some(waiter) = waiter {
            waiter.finish(match response.status {
                0 => Ok(()),
                status => Err(Error::from_errno(status)),
            });
        }
        Ok(())
    }
}

impl<U: LinkUser> WorkItem<1> for GuestLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let link = NodeLink::Guests(this.clone());
        loop {
            let next = this.rx.lock().inbox.next(Turn::Task);
            let Some(imm) = next else { return };
            this.party.user.message(&link, imm, true);
            this.rx.lock().inbox.handled();
        }
    }
}

/// Copies between the shared memory, at `at`, and memory that a process lent, a little at a time.
fn through(
    memory: &SharedMemory,
    at: usize,
    pages: &PinnedPages,
    start: usize,
    len: usize,
    way: Way,
) -> Result {
    let mut block = [0; 512];
    let mut done = 0;
    while done < len {
        let n = block.len().min(len - done);
        let part = &mut block[..n];
        match way {
            Way::Read => {
                pages.read(start + done, part)?;
                memory.write(at + done, part)?;
            }
            Way::Write => {
                memory.read(at + done, part)?;
                pages.write(start + done, part)?;
            }
        }
        done += n;
    }
    Ok(())
}
