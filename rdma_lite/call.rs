// SPDX-License-Identifier: GPL-2.0

//! Making calls.

use crate::{
    core::{Class, NewCall, Refusal, ReplyBuffer},
    events::now,
    host::Host,
    peer::{Peer, PeerLink},
    poll,
    port::{
        job::{Caller, Job, LocalCall},
        Message, //
    },
    trace,
    transport::{NodeWindow, Piece},
};
use kernel::{
    new_spinlock_bh,
    prelude::*,
    sync::{Arc, Completion, SpinLockBh},
    time::{msecs_to_jiffies, Jiffies},
};

const MS: u64 = 1_000_000;

/// `struct lite_buf`
pub(crate) type Buf = Piece;

/// `struct lite_call`
#[repr(C)]
pub(crate) struct Call {
    pub(crate) dst: u32,
    pub(crate) port: u16,
    pub(crate) flags: u16,
    pub(crate) timeout_ms: u32,
    pub(crate) nr_req: u32,
    pub(crate) req: *const Buf,
    pub(crate) reply: *mut u8,
    pub(crate) reply_cap: usize,
    pub(crate) reply_len: usize,
    pub(crate) status: c_int,
    pub(crate) err: c_int,
}

kernel::static_assert!(size_of::<Call>() == 56);

/// `LITE_CALL_NOWAIT`
pub(crate) const NOWAIT: u16 = 1;
/// `LITE_CALL_NOTIFY`
pub(crate) const NOTIFY: u16 = 2;
/// `LITE_CALL_HIGH`
pub(crate) const HIGH: u16 = 4;

/// The flag that says so.
pub(crate) const fn class_flag(class: Class) -> u16 {
    match class {
        Class::Normal => 0,
        Class::High => HIGH,
    }
}

/// Which signals end the wait for a call.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Signals {
    /// Those that kill.
    Fatal,
    /// All: a system call waits.
    All,
}

impl Signals {
    /// Waits for `end`; [`EINTR`] when a signal comes first, [`ETIMEDOUT`] when `left` is over.
    fn wait(self, end: &Completion, left: Jiffies) -> Result {
        match self {
            Signals::Fatal => end.wait_for_completion_killable_timeout(left),
            Signals::All => end.wait_for_completion_interruptible_timeout(left),
        }
    }

    /// Sleeps for a moment; [`EINTR`] when a signal comes.
    fn pause(self, never: &Completion) -> Result {
        match self.wait(never, 1) {
            Err(e) if e == EINTR => Err(EINTR),
            _ => Ok(()),
        }
    }
}

/// What a call ends with: the handler's status and the length of the reply.
type Outcome = Result<(i32, u32)>;

/// A call whose end is waited for.
///
/// # Invariants
///
/// Until the call has ended, `req` is readable for `nr_req` pieces, all of them are, and `reply` is
/// writable for `cap` bytes and nobody else's.
#[pin_data]
pub(crate) struct Pending {
    req: *const Buf,
    nr_req: usize,
    reply: *mut u8,
    cap: usize,
    /// The link that a window to `reply` was opened on.
    window_on: Option<PeerLink>,
    #[pin]
    outcome: SpinLockBh<Option<Outcome>>,
    #[pin]
    ended: Completion,
}

// SAFETY: By the invariant the memory is there and ours, whoever ends the call.
unsafe impl Send for Pending {}
// SAFETY: The reply is written by whoever has taken the call from the protocol: one.
unsafe impl Sync for Pending {}

impl Pending {
    /// The pieces of the request. Not to be used once the call has ended.
    pub(crate) fn request(&self) -> &[Piece] {
        if self.nr_req == 0 {
            return &[];
        }
        // SAFETY: By the type invariant.
        unsafe { core::slice::from_raw_parts(self.req, self.nr_req) }
    }

    /// Bytes of the request. Not to be used once the memory went back to the caller.
    fn len(&self) -> usize {
        self.request().iter().map(|piece| piece.len).sum()
    }

    /// Whether the reply can be written by the peer over this link.
    pub(crate) fn has_window_on(&self, link: &PeerLink) -> bool {
        let on = self.window_on.as_ref();
        on.is_some_and(|on| on.is(link))
    }

    /// Copies the reply out of the ring.
    pub(crate) fn fill(&self, link: &PeerLink, offset: u32, len: u32) -> Result {
        if len as usize > self.cap {
            return Err(EMSGSIZE);
        }
        if len == 0 {
            return Ok(());
        }
        // SAFETY: By the type invariant; the call has been taken from the protocol, so nobody else
        // writes the reply, and it has not ended.
        let reply = unsafe { core::slice::from_raw_parts_mut(self.reply, len as usize) };
        link.read(offset, reply)
    }

    /// Looks for the end of the call for up to `window` ns. Returns whether it has come.
    fn poll(&self, window: u64) -> bool {
        poll::until(window, || self.ended.is_done())
    }

    /// Ends the call.
    pub(crate) fn finish(&self, outcome: Outcome) {
        *self.outcome.lock() = Some(outcome);
        self.ended.complete_all();
    }
}

/// A call that was made and has to be waited for.
struct Issued {
    peer: Arc<Peer>,
    id: crate::core::CallId,
    pending: Arc<Pending>,
    window: Option<(PeerLink, NodeWindow)>,
    deadline: u64,
    made: u64,
}

impl Call {
    /// # Safety
    ///
    /// `req` must be as the C ABI says.
    unsafe fn pieces(&self) -> &[Buf] {
        if self.nr_req == 0 {
            return &[];
        }
        // SAFETY: By this function's requirement.
        unsafe { core::slice::from_raw_parts(self.req, self.nr_req as usize) }
    }

    fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    fn class(&self) -> Class {
        match self.has(HIGH) {
            true => Class::High,
            false => Class::Normal,
        }
    }

    fn timeout(&self, host: &Host) -> u32 {
        match self.timeout_ms {
            0 => host.timeout_ms,
            ms => ms,
        }
    }

    fn end(&mut self, outcome: Outcome) {
        match outcome {
            Ok((status, len)) => {
                self.err = 0;
                self.status = status;
                self.reply_len = len as usize;
            }
            Err(e) => {
                self.err = e.to_errno();
                self.status = 0;
                self.reply_len = 0;
            }
        }
    }

    /// Checks what does not depend on the peer. Returns the length of the request.
    ///
    /// # Safety
    ///
    /// As for [`all`].
    unsafe fn check(&self, host: &Host) -> Result<u32> {
        if self.flags & !(NOWAIT | NOTIFY | HIGH) != 0
            || self.reply_cap != 0 && self.reply.is_null()
        {
            return Err(EINVAL);
        }
        if self.has(NOTIFY) && self.reply_cap != 0 {
            return Err(EINVAL);
        }
        let mut len = 0usize;
        // SAFETY: As the caller promises.
        for piece in unsafe { self.pieces() } {
            len = len.checked_add(piece.len).ok_or(EMSGSIZE)?;
        }
        if len > host.config.max_payload() as usize {
            return Err(EMSGSIZE);
        }
        Ok(len as u32)
    }

    /// Sends the call.
    ///
    /// # Safety
    ///
    /// As for [`all`], until the result was given to [`Self::wait`].
    unsafe fn issue(&self, host: &Arc<Host>, signals: Signals) -> Result<Issued> {
        // SAFETY: As the caller promises.
        let len = unsafe { self.check(host)? };
        let dst = u16::try_from(self.dst).map_err(|_| EHOSTDOWN)?;
        let peer = host.peer(dst).ok_or(EHOSTDOWN)?;
        let cap = self.reply_cap.min(host.config.max_payload() as usize);
        let made = now();
        trace::call_begin(
            host.node.name(),
            self.dst,
            self.port.into(),
            len,
            self.timeout(host),
        );
        let deadline = made.saturating_add(u64::from(self.timeout(host)) * MS);
        let window = if cap >= host.config.direct_min as usize {
            peer.link().and_then(|link| {
                // SAFETY: As the caller promises; `wait()` hides the window. Without one the reply
                // comes through the ring.
                let window = unsafe { link.expose(self.reply, cap) }.ok()?;
                Some((link, window))
            })
        } else {
            None
        };
        let reply = ReplyBuffer {
            addr: window.as_ref().map_or(0, |(_, w)| w.addr()),
            rkey: window.as_ref().map_or(0, |(_, w)| w.rkey()),
            cap: cap as u32,
        };
        let new = NewCall {
            port: self.port,
            len,
            reply,
            deadline,
            nowait: self.has(NOWAIT),
            notify: self.has(NOTIFY),
            class: self.class(),
        };
        let on = window.as_ref().map(|(link, _)| link);
        let submitted = self.submit(&peer, new, cap, on, signals);
        match submitted {
            Ok((id, pending)) => Ok(Issued {
                peer,
                id,
                pending,
                window,
                deadline,
                made,
            }),
            Err(e) => {
                if let Some((link, window)) = window {
                    link.hide(window);
                }
                self.trace_end(host, Err(e), now().saturating_sub(made));
                Err(e)
            }
        }
    }

    fn trace_end(&self, host: &Host, outcome: Outcome, took: u64) {
        let (status, bytes) = outcome.unwrap_or((0, 0));
        let error = trace::errno(&outcome);
        let name = host.node.name();
        trace::call_end(name, self.dst, self.port.into(), bytes, status, error, took);
    }

    fn submit(
        &self,
        peer: &Arc<Peer>,
        new: NewCall,
        cap: usize,
        window_on: Option<&PeerLink>,
        signals: Signals,
    ) -> Result<(crate::core::CallId, Arc<Pending>)> {
        // INVARIANT: The caller of `issue()` promises what the type wants.
        let pending = Arc::pin_init(
            pin_init!(Pending {
                req: self.req,
                nr_req: self.nr_req as usize,
                reply: self.reply,
                cap,
                window_on: window_on.cloned(),
                outcome <- new_spinlock_bh!(None, "lite_outcome"),
                ended <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        loop {
            match peer.submit(new, pending.clone()) {
                // Too many at a time: until one has ended.
                Err(e) if e == EAGAIN && !new.nowait => {
                    if now() >= new.deadline {
                        return Err(ETIMEDOUT);
                    }
                    // This one has not begun and will not end: a sleep that a signal ends.
                    signals.pause(&pending.ended)?;
                }
                result => return Ok((result?, pending)),
            }
        }
    }

    /// Waits for the end of the call.
    fn wait(&mut self, issued: Issued, signals: Signals) {
        let Issued {
            peer,
            id,
            pending,
            window,
            deadline,
            made,
        } = issued;
        let mut interrupted = None;
        while !pending.poll(peer.poll_window(self.port)) {
            let left = deadline.saturating_sub(now()).div_ceil(MS) as u32;
            let left = msecs_to_jiffies(left.saturating_add(1));
            let waited = match signals {
                _ if interrupted.is_some() => pending.ended.wait_for_completion_timeout(left),
                signals => signals.wait(&pending.ended, left),
            };
            match waited {
                Ok(()) => break,
                Err(e) if e == EINTR => {
                    interrupted = Some(Err(EINTR));
                    if peer.cancel(id) {
                        break;
                    }
                    // Its end is on the way.
                }
                // The protocol ends calls by their deadline, when it is told the time.
                Err(_) => peer.tick(),
            }
        }
        let took = now().saturating_sub(made);
        // Before the memory goes back to the caller.
        if let Some((link, window)) = window {
            link.hide(window);
        }
        let outcome = pending.outcome.lock().take();
        let outcome = outcome.or(interrupted).unwrap_or(Err(ETIMEDOUT));
        let counted = outcome.map(|(status, len)| (status, len as usize));
        peer.note_call(self.port, took, pending.len(), counted);
        self.trace_end(peer.host(), outcome, took);
        if let Err(e) = outcome {
            if e != EINTR && e != ESHUTDOWN {
                let timeout = self.timeout(peer.host());
                peer.call_failed(self.port, timeout, e);
            }
        }
        self.end(outcome);
    }

    /// Executes a call to ourselves.
    ///
    /// # Safety
    ///
    /// As for [`all`].
    unsafe fn local(&self, host: &Arc<Host>, signals: Signals) -> Outcome {
        // SAFETY: As the caller promises.
        let (len, pieces) = unsafe { (self.check(host)?, self.pieces()) };
        let port = host.node.ports.get(self.port).ok_or(ENOENT)?;
        if port.inbox().is_some() || self.has(NOTIFY) {
            drop(port);
            // SAFETY: As the caller promises.
            return unsafe { self.local_job(host, pieces, len, signals) };
        }
        let mut joined = KVVec::new();
        let data = match pieces {
            [one] => one.ptr,
            pieces => {
                joined.reserve(len as usize, GFP_KERNEL)?;
                for piece in pieces {
                    // SAFETY: As the caller promises.
                    let bytes = unsafe { core::slice::from_raw_parts(piece.ptr, piece.len) };
                    joined.extend_from_slice(bytes, GFP_KERNEL)?;
                }
                joined.as_ptr()
            }
        };
        let msg = Message {
            src: self.dst,
            len,
            src_incarnation: host.local.incarnation,
            epoch: host.epoch(),
            data: data.cast(),
        };
        let cap = self.reply_cap.min(host.config.max_payload() as usize);
        // SAFETY: The reply is writable, as the caller promises.
        match unsafe { port.execute(&msg, self.reply, cap) } {
            Ok(len) => Ok((0, len as u32)),
            Err(e) => Ok((e.to_errno(), 0)),
        }
    }
}

impl Call {
    /// Has a call to ourselves executed by a process of ours, or by a handler that nobody waits for.
    ///
    /// # Safety
    ///
    /// As for [`all`].
    unsafe fn local_job(
        &self,
        host: &Arc<Host>,
        pieces: &[Buf],
        len: u32,
        signals: Signals,
    ) -> Outcome {
        let deadline = now().saturating_add(u64::from(self.timeout(host)) * MS);
        let cap = self.reply_cap.min(host.config.max_payload() as usize);
        loop {
            let mut data = KVVec::with_capacity(len as usize, GFP_KERNEL)?;
            for piece in pieces.iter().filter(|piece| piece.len != 0) {
                // SAFETY: As the caller promises.
                let bytes = unsafe { core::slice::from_raw_parts(piece.ptr, piece.len) };
                data.extend_from_slice(bytes, GFP_KERNEL)?;
            }
            let call = LocalCall::new()?;
            let job = Job {
                src: self.dst,
                src_incarnation: host.local.incarnation,
                epoch: host.epoch(),
                expires: deadline,
                port: self.port,
                since: now(),
                notify: self.has(NOTIFY),
                class: self.class(),
                data,
                cap,
                caller: Caller::Local(call.clone()),
            };
            let port = host.node.ports.get(self.port).ok_or(ENOENT)?;
            port.start(job, true);
            let left = deadline.saturating_sub(now()).div_ceil(MS) as u32;
            let waited = signals.wait(&call.ended, msecs_to_jiffies(left).max(1));
            match call.take_end() {
                Some(Ok((status, reply))) => {
                    let len = reply.len().min(cap);
                    if len != 0 {
                        // SAFETY: The reply is writable for `cap` bytes, as the caller promises.
                        unsafe { core::ptr::copy_nonoverlapping(reply.as_ptr(), self.reply, len) };
                    }
                    return Ok((status, len as u32));
                }
                Some(Err(Refusal::Busy)) if self.has(NOWAIT) => return Err(EAGAIN),
                Some(Err(Refusal::Busy)) if now() < deadline => {
                    signals.pause(LocalCall::new()?.never())?;
                }
                Some(Err(Refusal::NoPort)) => return Err(ENOENT),
                Some(Err(Refusal::TooLarge)) => return Err(EMSGSIZE),
                Some(Err(_)) => return Err(ETIMEDOUT),
                None => return Err(waited.err().unwrap_or(ETIMEDOUT)),
            }
        }
    }
}

/// Makes all calls at once and waits for all of them. Returns how many were answered.
///
/// # Safety
///
/// The calls must be as the C ABI says: requests readable, replies writable, in the linear map and
/// nobody else's until this returns.
pub(crate) unsafe fn all(host: &Arc<Host>, calls: &mut [Call], signals: Signals) -> Result<usize> {
    let mut issued: KVec<Option<Issued>> = KVec::with_capacity(calls.len(), GFP_KERNEL)?;
    let own = u32::from(host.local.id);
    for call in calls.iter_mut() {
        let result = if call.dst == own {
            Ok(None)
        } else {
            // SAFETY: As the caller promises; what is issued is waited for below.
            unsafe { call.issue(host, signals) }.map(Some)
        };
        let one = result.unwrap_or_else(|e| {
            call.end(Err(e));
            None
        });
        issued.push(one, GFP_KERNEL)?;
    }
    for call in calls.iter_mut().filter(|call| call.dst == own) {
        // SAFETY: As the caller promises.
        let outcome = unsafe { call.local(host, signals) };
        call.end(outcome);
    }
    for (call, issued) in calls.iter_mut().zip(issued) {
        if let Some(issued) = issued {
            call.wait(issued, signals);
        }
    }
    Ok(calls.iter().filter(|call| call.err == 0).count())
}

/// Makes one call.
///
/// # Safety
///
/// As for [`all`].
pub(crate) unsafe fn one(host: &Arc<Host>, call: &mut Call, signals: Signals) -> Result {
    if call.dst == u32::from(host.local.id) {
        // SAFETY: As the caller promises.
        let outcome = unsafe { call.local(host, signals) };
        call.end(outcome);
    } else {
        // SAFETY: As the caller promises; it is waited for at once.
        match unsafe { call.issue(host, signals) } {
            Ok(issued) => call.wait(issued, signals),
            Err(e) => call.end(Err(e)),
        }
    }
    match call.err {
        0 => Ok(()),
        err => Err(Error::from_errno(err)),
    }
}
