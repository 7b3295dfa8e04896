// SPDX-License-Identifier: GPL-2.0

//! Calls of our own ports: what regions, locks and barriers say to other nodes, and to ourselves.

use crate::{
    call::{self, Buf, Call, Signals},
    core::{holder::Life, Class},
    events::now,
    host::Host,
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{delay::fsleep, Delta},
};

const MS: u64 = 1_000_000;

/// What a handler answered: the bytes of its reply, or its error.
pub(crate) type Answer = Result<usize>;

/// Whom to call, how, and how long to wait.
#[derive(Copy, Clone)]
pub(crate) struct To {
    pub(crate) node: u16,
    pub(crate) port: u16,
    pub(crate) timeout_ms: u32,
    pub(crate) signals: Signals,
    pub(crate) class: Class,
}

fn raw(to: To, pieces: &[Buf], reply: &mut KVec<u8>) -> Call {
    Call {
        dst: to.node.into(),
        port: to.port,
        flags: call::class_flag(to.class),
        timeout_ms: to.timeout_ms.max(1),
        nr_req: pieces.len() as u32,
        req: pieces.as_ptr(),
        reply: reply.as_mut_ptr(),
        reply_cap: reply.len(),
        reply_len: 0,
        status: 0,
        err: 0,
    }
}

fn answer(call: &Call) -> Answer {
    match call.status {
        status if status < 0 => Err(Error::from_errno(status)),
        _ => Ok(call.reply_len),
    }
}

/// Makes one call with `head` and `data` as its request. The reply overwrites the elements of `reply`.
pub(crate) fn ask(
    host: &Arc<Host>,
    to: To,
    head: &[u8],
    data: &[u8],
    reply: &mut KVec<u8>,
) -> Result<Answer> {
    let pieces = [head, data].map(|bytes| Buf {
        ptr: bytes.as_ptr(),
        len: bytes.len(),
    });
    let pieces = if data.is_empty() {
        &pieces[..1]
    } else {
        &pieces
    };
    let mut call = raw(to, pieces, reply);
    // SAFETY: The pieces and the reply, which is `kmalloc` memory, are borrowed until this returns.
    unsafe { call::one(host, &mut call, to.signals)? };
    Ok(answer(&call))
}

/// As [`ask`], and again while a new map makes its way to both nodes.
pub(crate) fn ask_until(
    host: &Arc<Host>,
    mut to: To,
    deadline: u64,
    head: &[u8],
    data: &[u8],
    reply: &mut KVec<u8>,
) -> Result<Answer> {
    loop {
        let left = deadline.saturating_sub(now()).div_ceil(MS);
        to.timeout_ms = u32::try_from(left).unwrap_or(u32::MAX);
        match ask(host, to, head, data, reply) {
            Err(e) if e == ESTALE && to.timeout_ms > 0 => fsleep(Delta::from_millis(2)),
            answer => return answer,
        }
    }
}

/// Makes all these calls at once, and waits for all. Who has no answer by the deadline has none.
pub(crate) fn tell_all(
    host: &Arc<Host>,
    port: u16,
    timeout_ms: u32,
    all: &[(u16, KVec<u8>)],
) -> Result {
    let mut pieces = KVec::with_capacity(all.len(), GFP_KERNEL)?;
    for (_, bytes) in all {
        pieces.push(
            Buf {
                ptr: bytes.as_ptr(),
                len: bytes.len(),
            },
            GFP_KERNEL,
        )?;
    }
    let mut none = KVec::new();
    let mut calls = KVec::with_capacity(all.len(), GFP_KERNEL)?;
    for ((node, _), piece) in all.iter().zip(&pieces) {
        let to = To {
            node: *node,
            port,
            timeout_ms,
            signals: Signals::Fatal,
            class: Class::Normal,
        };
        calls.push(
            raw(to, ::core::slice::from_ref(piece), &mut none),
            GFP_KERNEL,
        )?;
    }
    // SAFETY: The pieces are borrowed until this returns, and there is no room for replies.
    unsafe { call::all(host, &mut calls, Signals::Fatal)? };
    Ok(())
}

impl Host {
    /// Our own life.
    pub(crate) fn life(&self) -> Life {
        Life {
            node: self.local.id,
            incarnation: self.local.incarnation,
        }
    }

    /// Whether the map has this life as a member that is up.
    pub(crate) fn is_alive(&self, life: Life) -> bool {
        if life.node == self.local.id {
            return life.incarnation == self.local.incarnation;
        }
        let view = self.map.lock().view(life.node);
        view.is_up() && (view.incarnation == 0 || view.incarnation == life.incarnation)
    }

    /// Whether that life (0: whichever) is over for good: what it held or kept for others is void.
    pub(crate) fn is_over(&self, life: Life) -> bool {
        if life.node == self.local.id {
            return life.incarnation != 0 && life.incarnation != self.local.incarnation;
        }
        let view = self.map.lock().view(life.node);
        match view.state {
            None | Some(crate::core::NodeState::Out) => true,
            Some(_) => {
                let known = view.incarnation != 0 && life.incarnation != 0;
                known && view.incarnation != life.incarnation
            }
        }
    }
}
