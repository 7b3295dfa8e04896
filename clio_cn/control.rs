// SPDX-License-Identifier: GPL-2.0

//! Calls of memory nodes: to make, find, leave and end address spaces.

use crate::{
    core::control::{
        decode_reply, encode, home_of, proof, Attach, Create, Destroy, Detach, Name, NodeStat,
        RasInfo, Request, Secret, Stat,
    },
    lite::{self, Call, Node, Piece, ReplyBuf},
};
use kernel::{prelude::*, random::get_random_u64};

/// Bytes of the longest reply.
const REPLY: usize = 8192;
/// Calls that it takes at most to read a table: it has 2^16 rows, and may change meanwhile.
pub(crate) const MAX_TABLE: usize = 4096;

/// Makes a call of the legomem of a node. The errors of its handler, and those of calls.
pub(crate) fn ask<R: Request>(
    node: &Node,
    dst: u16,
    request: &R,
    timeout_ms: u32,
) -> Result<R::Reply> {
    let request = encode(request)?;
    let mut reply = KVec::from_elem(0u8, REPLY, GFP_KERNEL)?;
    let len = {
        let piece = [Piece::new(&request)];
        let buffer = ReplyBuf::new(&mut reply);
        let mut call = Call::new(dst, lite::PORT_LEGOMEM, &piece, buffer).timeout_ms(timeout_ms);
        node.call(&mut call)?.len()?
    };
    decode_reply(reply.get(..len).ok_or(EBADMSG)?)
}

/// As [`ask`], all of `nodes` at once: the node, and its answer.
pub(crate) fn ask_all<R: Request>(
    node: &Node,
    nodes: &[u16],
    request: &R,
    timeout_ms: u32,
) -> Result<KVec<(u16, Result<R::Reply>)>> {
    let request = encode(request)?;
    let piece = [Piece::new(&request)];
    let mut replies = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    for _ in nodes {
        replies.push(KVec::from_elem(0u8, REPLY, GFP_KERNEL)?, GFP_KERNEL)?;
    }
    let mut answers = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    {
        let mut calls = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
        for (dst, reply) in nodes.iter().zip(replies.iter_mut()) {
            let buffer = ReplyBuf::new(reply);
            let call = Call::new(*dst, lite::PORT_LEGOMEM, &piece, buffer).timeout_ms(timeout_ms);
            calls.push(call, GFP_KERNEL)?;
        }
        node.multicast(&mut calls)?;
        for call in &calls {
            answers.push((call.dst(), call.answer()), GFP_KERNEL)?;
        }
    }
    let mut decoded = KVec::with_capacity(nodes.len(), GFP_KERNEL)?;
    for ((dst, answer), reply) in answers.into_iter().zip(&replies) {
        let answer = answer
            .and_then(|answer| answer.len())
            .and_then(|len| decode_reply(reply.get(..len).ok_or(EBADMSG)?));
        decoded.push((dst, answer), GFP_KERNEL)?;
    }
    Ok(decoded)
}

/// Memory nodes of the map that are up.
fn memory_nodes(node: &Node) -> Result<KVec<u16>> {
    let (_, peers) = node.peers()?;
    let mut nodes = KVec::with_capacity(peers.len(), GFP_KERNEL)?;
    for peer in &peers {
        if peer.state == lite::NODE_UP && peer.roles & lite::ROLE_MEMORY != 0 {
            nodes.push(peer.id, GFP_KERNEL)?;
        }
    }
    Ok(nodes)
}

/// Finds a RAS by its name and attaches our node to it.
///
/// `ENOENT`: no memory node that answers has it. `EACCES`: it has another key. `EHOSTDOWN`: no
/// memory node is up. Other errors are those of a node that did not answer, and may have it.
pub(crate) fn attach(node: &Node, name: Name, key: &Secret, timeout_ms: u32) -> Result<RasInfo> {
    let nodes = memory_nodes(node)?;
    if nodes.is_empty() {
        return Err(EHOSTDOWN);
    }
    let nonce = get_random_u64();
    let request = Attach {
        name,
        nonce,
        proof: proof(key, nonce, node.id(), name.as_bytes()),
    };
    let mut error = ENOENT;
    for (_, answer) in ask_all(node, &nodes, &request, timeout_ms)? {
        match answer {
            Ok(info) => return Ok(info),
            // A node without legomem has no home.
            Err(ENOENT) => {}
            Err(EACCES) => error = EACCES,
            Err(other) if error == ENOENT => error = other,
            Err(_) => {}
        }
    }
    Err(error)
}

/// Leaves a RAS: the last of our node's users did.
pub(crate) fn detach(node: &Node, ras: u64) -> Result {
    ask(node, home_of(ras), &Detach { ras }, 0)
}

/// What a new RAS is to be.
pub(crate) struct Wish {
    pub(crate) name: Name,
    pub(crate) key: Secret,
    pub(crate) region_shift: u8,
    pub(crate) home: u16,
    pub(crate) owner: u32,
    pub(crate) quota: u64,
}

/// Makes a RAS. `EEXIST`: there is one of this name. `ENOSPC`: no memory node has room.
pub(crate) fn create(node: &Node, wish: &Wish, timeout_ms: u32) -> Result<RasInfo> {
    let nodes = memory_nodes(node)?;
    if nodes.is_empty() {
        return Err(EHOSTDOWN);
    }
    // With a proof of nothing: who has such a RAS says so by refusing.
    let probe = Attach {
        name: wish.name,
        nonce: 0,
        proof: 0,
    };
    for (_, answer) in ask_all(node, &nodes, &probe, timeout_ms)? {
        if matches!(answer, Ok(_) | Err(EACCES)) {
            return Err(EEXIST);
        }
    }
    let home = match wish.home {
        0 => roomiest(node, &nodes, timeout_ms)?,
        home => home,
    };
    let request = Create {
        name: wish.name,
        key: wish.key,
        region_shift: wish.region_shift,
        pin: 0,
        owner: wish.owner,
        quota: wish.quota,
    };
    ask(node, home, &request, timeout_ms)
}

/// The node with most free memory.
fn roomiest(node: &Node, nodes: &[u16], timeout_ms: u32) -> Result<u16> {
    let room = |stat: &NodeStat| stat.free << stat.page_shift.min(40);
    ask_all(node, nodes, &Stat {}, timeout_ms)?
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok())
        .filter(|stat| !stat.draining)
        .max_by_key(|stat| room(stat))
        .map(|stat| stat.node)
        .ok_or(EHOSTDOWN)
}

/// Ends a RAS that our node is attached to.
pub(crate) fn destroy(node: &Node, info: &RasInfo, key: &Secret, timeout_ms: u32) -> Result {
    let nonce = get_random_u64();
    let request = Destroy {
        ras: info.id,
        nonce,
        proof: proof(key, nonce, node.id(), info.name.as_bytes()),
    };
    ask(node, home_of(info.id), &request, timeout_ms)
}
