// SPDX-License-Identifier: GPL-2.0

//! Owners for chunks that have none: all nodes of their dataset's row are out, one after the other, and
//! nodes that came later have the copies. The CD gives each such chunk to the node that has most of its
//! pages, as a chunk that moves [2.5.5] from its last owner: the record decides, and the new owner asks all
//! others what they have before it serves.

use super::{
    host::{Host, Level},
    msg::MovedChunk,
    names::{self, pages_of, NameChange},
    node::Node,
    survey,
    takeover::{self, Best},
};
use kernel::{prelude::*, rbtree::RBTree};

impl Node {
    /// Chunks without an owner to which the CD, if that is us, can give one; and how many there are for
    /// which the record has no room.
    fn ownerless(&self) -> Result<(KVec<MovedChunk>, u64)> {
        let mut chunks = KVec::new();
        let mut too_many = 0;
        if self.names.stale || self.map.dispatcher() != Ok(self.id()) {
            return Ok((chunks, too_many));
        }
        for entry in self.names.entries.values() {
            let record = &entry.record;
            let row_is_out = record.nodes.iter().all(|id| self.names.out.contains(id));
            if record.tombstone || !row_is_out {
                continue;
            }
            let mut room = record.room_to_move();
            for chunk in 0..record.size.div_ceil(record.chunk_size) {
                if self.names.owner(pages_of(record, chunk).0).is_ok() {
                    continue;
                }
                if record.moved(chunk).is_none() {
                    if room == 0 {
                        too_many += 1;
                        continue;
                    }
                    room -= 1;
                }
                let chunk = MovedChunk {
                    dataset: record.id,
                    chunk,
                    generation: record.generation,
                };
                chunks.push(chunk, GFP_KERNEL)?;
            }
        }
        Ok((chunks, too_many))
    }

    /// Whether we are the CD and have such chunks to give away.
    pub(super) fn has_ownerless(&self) -> bool {
        self.ownerless().is_ok_and(|(chunks, _)| !chunks.is_empty())
    }
}

/// At the CD: gives chunks without an owner to nodes that have their pages. An error: some have none yet.
pub(super) async fn run<H: Host>(host: &H, until: u64) -> Result {
    let (chunks, too_many) = host.with(|node| node.ownerless())?;
    for chunk in &chunks {
        let (to, pages) = most_copies(host, chunk, until).await?;
        let change = NameChange::Appoint {
            dataset: chunk.dataset,
            chunk: u32::try_from(chunk.chunk)?,
            node: u16::try_from(to)?,
        };
        names::send(host, &change, until).await?;
        host.log(
            Level::Warning,
            format_args!(
                "all nodes that could own chunk {} of dataset {} are out: node {to}, which has {pages} of its pages, \
                 owns it now",
                chunk.chunk, chunk.dataset
            ),
        );
    }
    if too_many != 0 && !chunks.is_empty() {
        host.log(
            Level::Error,
            format_args!(
                "{too_many} chunks of datasets whose nodes are all out have no owner, and their records have no \
                 room for one: copy what can be read, and remove the datasets"
            ),
        );
    }
    Ok(())
}

/// The node that has most pages of a chunk in their newest version, and how many: by turns when
/// nobody has any. EAGAIN while a node does not know the dataset's record.
async fn most_copies<H: Host>(host: &H, chunk: &MovedChunk, until: u64) -> Result<(u32, usize)> {
    let mut best: RBTree<_, Best> = RBTree::new();
    let mut staged = KVec::new();
    let (us, others) = host.with(|node| {
        let us = node.us();
        for copy in node.copies_of_moved(chunk, survey::FIRST, usize::MAX)? {
            takeover::note(&mut best, &mut staged, us, &copy)?;
        }
        Ok::<_, Error>((us.node, node.others()?))
    })?;
    let of = Some(*chunk);
    let mut here = takeover::ask_copies(host, &others, of, &mut best, &mut staged, until).await?;
    here.push(us, GFP_KERNEL)?;
    here.sort_unstable();
    let turn = (chunk.chunk % here.len().max(1) as u64) as usize;
    here.rotate_left(turn);
    let mut most = None;
    for id in &here {
        let has = |of: &&Best| of.holders.iter().any(|holder| holder.node == *id);
        let pages = best.values().filter(has).count();
        if most.is_none_or(|(_, other)| pages > other) {
            most = Some((*id, pages));
        }
    }
    most.ok_or(EHOSTDOWN)
}
