// SPDX-License-Identifier: GPL-2.0

//! Who goes on with a chunk when its owner is lost [2.6.4]: its *successor*, a node of the
//! dataset's row.
//!
//! The record and the list of nodes that are out are all that it takes, so that all nodes agree
//! without a word, whatever becomes of the CD. And since it is known beforehand, an owner has the
//! first further copy of a page there (`Node::choose`): a data node is promoted, and has nothing to
//! fetch.
//!
//! The chunks of one owner have the other nodes of the row as their successors by turns. So its
//! copies, and the work of a promotion, are spread over all of them, however much of all the work
//! is that owner's.

use super::{
    format::dataset::DatasetRecord,
    host::PageKey,
    names::{row_owner, Names},
};
use kernel::prelude::*;

/// The nodes that own a chunk, each when those before it are out: of the row's nodes the one whose
/// turn it is, then the others, beginning with another one for each chunk of that node. A node may
/// come more than once.
pub(super) fn succession(row: &[u16], chunk: u64) -> impl Iterator<Item = u16> + '_ {
    let len = row.len().max(1) as u64;
    let (before, from) = row.split_at(((chunk % len) as usize).min(row.len()));
    let first = from.first().copied();
    let is_first = move |id: &&u16| first == Some(**id);
    let count = |part: &[u16]| part.iter().filter(is_first).count() as u64;
    // Which of the first node's chunks it is.
    let nr = chunk / len * (count(before) + count(from)) + count(before);
    let others = Iterator::chain(from.iter(), before).filter(move |id| !is_first(id));
    let many = others.clone().count();
    let turn = nr % many.max(1) as u64;
    let others = others.cycle().skip(turn as usize).take(many);
    Iterator::chain(first.into_iter(), others.copied())
}

impl Names {
    /// The owner of a chunk by its dataset's row. EHOSTDOWN when all of the row are out.
    pub(super) fn owner_by_row(&self, record: &DatasetRecord, chunk: u64) -> Result<u32> {
        let is_in = |id: &u16| !self.out.contains(id);
        // Most often that is all there is to it.
        let first = row_owner(record, chunk).filter(is_in);
        let next = || succession(&record.nodes, chunk).find(is_in);
        first.or_else(next).map(u32::from).ok_or(EHOSTDOWN)
    }

    /// The next owner of a page, should the present one be lost; `None` when there is none in the
    /// row.
    pub(super) fn successor(&self, key: PageKey) -> Option<u32> {
        let owner = self.owner(key).ok()?;
        let (dataset, chunk) = self.chunk(key).ok()?;
        let record = self.get(dataset).ok()?;
        let mut nodes = succession(&record.nodes, chunk);
        let next = nodes.find(|id| u32::from(*id) != owner && !self.out.contains(id));
        next.map(u32::from)
    }
}
