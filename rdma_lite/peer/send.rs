// SPDX-License-Identifier: GPL-2.0

//! Messages to a peer, on their way from the protocol to the link.

use super::{reply::ReplyMemory, PeerLink, Reply};
use crate::{
    call::Pending,
    core::{
        wire::{Header, HEADER_LEN},
        Payload,
        ReplyBuffer, //
    },
    transport::Piece,
};
use kernel::{prelude::*, sync::Arc};

/// Writes one message.
pub(super) fn transmit(
    link: &PeerLink,
    offset: u32,
    imm: u32,
    mut header: [u8; HEADER_LEN],
    payload: Payload<'_, Arc<Pending>, Reply>,
    len: u32,
    direct: Option<ReplyBuffer>,
) -> Result {
    let mut whole = None;
    let mut pieces: &[Piece] = &[];
    match payload {
        Payload::None => {}
        Payload::Request(pending) => {
            // A window is opened on one connection and of no use on another.
            if !pending.has_window_on(link) {
                let mut fields = Header::decode(&header, u32::MAX)?;
                if fields.reply.rkey != 0 {
                    fields.reply.rkey = 0;
                    header = fields.encode();
                }
            }
            pieces = pending.request();
        }
        Payload::Reply(reply) => match direct {
            None => {
                pieces = core::slice::from_ref(whole.insert(Piece {
                    ptr: reply.as_ptr(),
                    len: len as usize,
                }));
            }
            Some(to) => match &*reply.0 {
                ReplyMemory::Device(buffer) => link.put(buffer, len as usize, &to)?,
                // The protocol was told that these go through the ring.
                ReplyMemory::Heap(..) => return Err(EIO),
            },
        },
    }
    // SAFETY: A request's pieces can be read until its call has ended, a reply as long as the
    // protocol has it.
    unsafe { link.send(offset, &header, pieces.iter().copied(), imm) }
}
