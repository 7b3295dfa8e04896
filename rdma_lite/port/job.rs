// SPDX-License-Identifier: GPL-2.0

//! A call that is to be executed here, and the way back to its caller.

use super::{Message, PortUse};
use crate::{
    core::{CallRef, Refusal},
    events::now,
    peer::{Peer, PeerLink, Reply},
};
use kernel::{
    alloc::Flags,
    impl_has_work, new_spinlock_bh, new_work,
    prelude::*,
    sync::{Arc, Completion, SpinLockBh},
    workqueue::{Work, WorkItem},
};

/// Replies up to this size are made where the call came in, if the handler is quick.
const SMALL: usize = 4096;

/// A call.
pub(crate) struct Job {
    /// Its caller's node, and that node's life.
    pub(crate) src: u32,
    pub(crate) src_incarnation: u64,
    /// Epoch in which it was made.
    pub(crate) epoch: u64,
    /// When its caller gives up.
    pub(crate) expires: u64,
    /// The port called.
    pub(crate) port: u16,
    /// When it came.
    pub(crate) since: u64,
    /// No reply is wanted.
    pub(crate) notify: bool,
    /// The request.
    pub(crate) data: KVVec<u8>,
    /// Bytes of reply that the caller takes.
    pub(crate) cap: usize,
    pub(crate) caller: Caller,
}

/// Who called.
pub(crate) enum Caller {
    /// Another node.
    Remote(Remote),
    /// Ours.
    Local(Arc<LocalCall>),
}

/// A caller at another node.
pub(crate) struct Remote {
    pub(crate) peer: Arc<Peer>,
    /// What the call came over.
    pub(crate) link: PeerLink,
    pub(crate) call: CallRef,
    /// The reply may be written to the caller's memory, if it is in memory of the device.
    pub(crate) device: bool,
}

/// How a local call ends: by a status and the bytes of a reply, or not executed.
type LocalEnd = Result<(i32, KVVec<u8>), Refusal>;

/// A call of a process, or a module, of this node.
#[pin_data]
pub(crate) struct LocalCall {
    #[pin]
    end: SpinLockBh<Option<LocalEnd>>,
    #[pin]
    pub(crate) ended: Completion,
}

impl LocalCall {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                end <- new_spinlock_bh!(None, "lite_local_call"),
                ended <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// What has not ended, for one that was not given to anybody.
    pub(crate) fn never(&self) -> &Completion {
        &self.ended
    }

    fn finish(&self, end: LocalEnd) {
        *self.end.lock() = Some(end);
        self.ended.complete_all();
    }

    /// How it ended.
    pub(crate) fn take_end(&self) -> Option<LocalEnd> {
        self.end.lock().take()
    }
}

/// Memory that a reply is made in.
pub(crate) enum ReplyRoom {
    Remote(Reply),
    Local(KVVec<u8>),
}

impl ReplyRoom {
    /// Writable for as many bytes as it was made for.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            Self::Remote(reply) => reply.as_ptr(),
            Self::Local(bytes) => bytes.as_mut_ptr(),
        }
    }
}

impl Job {
    /// Whether the memory of its reply has to be waited for.
    pub(super) fn is_large(&self) -> bool {
        let device = matches!(&self.caller, Caller::Remote(remote) if remote.device);
        device || self.cap > SMALL
    }

    /// Memory for a reply of `len` bytes.
    pub(crate) fn room(&self, len: usize, flags: Flags) -> Result<ReplyRoom> {
        Ok(match &self.caller {
            Caller::Local(_) => ReplyRoom::Local(KVVec::from_elem(0, len, flags)?),
            Caller::Remote(remote) if remote.device && len != 0 => {
                // Without its link the caller asks again on another, and gets it through the ring.
                match remote.link.buffer(len) {
                    Ok(memory) => ReplyRoom::Remote(Reply::device(memory, flags)?),
                    Err(_) => ReplyRoom::Remote(Reply::heap(len, flags)?),
                }
            }
            Caller::Remote(_) => ReplyRoom::Remote(Reply::heap(len, flags)?),
        })
    }

    /// Memory that holds this reply.
    pub(crate) fn room_with(&self, bytes: &[u8]) -> Result<ReplyRoom> {
        let mut room = self.room(bytes.len(), GFP_KERNEL)?;
        // SAFETY: The room was just made, nobody else knows of it, and it has so many bytes.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), room.as_mut_ptr(), bytes.len()) };
        Ok(room)
    }

    /// It was executed: `result` bytes of reply are in `room`, or this is the error.
    pub(crate) fn executed(&self, result: Result<usize>, room: ReplyRoom) {
        match (&self.caller, room) {
            (Caller::Remote(remote), room) => {
                let reply = match room {
                    ReplyRoom::Remote(reply) if !self.notify => Some(reply),
                    _ => None,
                };
                let result = if reply.is_some() {
                    result
                } else {
                    result.map(|_| 0)
                };
                self.note(remote, result);
                remote.peer.executed(remote.call, result, reply);
            }
            (Caller::Local(call), ReplyRoom::Local(mut bytes)) => match result {
                Ok(len) => {
                    bytes.truncate(len);
                    call.finish(Ok((0, bytes)));
                }
                Err(e) => call.finish(Ok((e.to_errno(), KVVec::new()))),
            },
            (Caller::Local(call), ReplyRoom::Remote(_)) => call.finish(Err(Refusal::Forgotten)),
        }
    }

    /// It ended by this, without a reply: an error is the status that the caller gets.
    pub(crate) fn ended(&self, result: Result) {
        match &self.caller {
            Caller::Remote(remote) => {
                let result = result.map(|()| 0);
                self.note(remote, result);
                remote.peer.executed(remote.call, result, None);
            }
            Caller::Local(call) => {
                let status = result.err().map_or(0, |e| e.to_errno());
                call.finish(Ok((status, KVVec::new())));
            }
        }
    }

    fn note(&self, remote: &Remote, result: Result<usize>) {
        let took = now().saturating_sub(self.since);
        let result = match result {
            Ok(len) => (0, len),
            Err(e) => (e.to_errno(), 0),
        };
        let peer = &remote.peer;
        peer.note_executed(self.port, took, self.data.len(), Ok(result));
    }

    /// It is not executed, for this reason.
    pub(crate) fn refuse(&self, why: Refusal) {
        match &self.caller {
            Caller::Remote(remote) => remote.peer.refuse(remote.call, why),
            Caller::Local(call) => call.finish(Err(why)),
        }
    }

    /// Executes it by a handler.
    pub(super) fn execute(&self, port: &PortUse, flags: Flags) {
        let Ok(mut room) = self.room(self.cap, flags) else {
            return self.refuse(Refusal::Busy);
        };
        let msg = Message {
            src: self.src,
            len: self.data.len() as u32,
            src_incarnation: self.src_incarnation,
            epoch: self.epoch,
            data: self.data.as_ptr().cast(),
        };
        // SAFETY: The room was made for this call alone, and has so many bytes.
        let result = unsafe { port.execute(&msg, room.as_mut_ptr(), self.cap) };
        self.executed(result, room);
    }
}

/// The execution of a call by work.
#[pin_data]
pub(super) struct Execution {
    port: PortUse,
    job: Job,
    #[pin]
    work: Work<Execution>,
}

impl_has_work! {
    impl HasWork<Self> for Execution { self.work }
}

impl Execution {
    /// Queues it. Gives nothing back but the error: the job is gone.
    pub(super) fn start(port: PortUse, job: Job, flags: Flags) {
        let Caller::Remote(remote) = &job.caller else {
            return job.execute(&port, GFP_KERNEL);
        };
        let (peer, call) = (remote.peer.clone(), remote.call);
        let made = KBox::pin_init(
            pin_init!(Self {
                port,
                job,
                work <- new_work!("Execution::work"),
            }),
            flags,
        );
        match made {
            Ok(execution) => peer.host().queues().handlers.enqueue(execution),
            Err(_) => peer.refuse(call, Refusal::Busy),
        }
    }
}

impl WorkItem for Execution {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Pin<KBox<Self>>) {
        this.job.execute(&this.port, GFP_KERNEL);
    }
}
