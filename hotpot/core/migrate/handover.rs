// SPDX-License-Identifier: GPL-2.0

//! What a record with moved chunks means for each node that gets it: nothing that it knows of their
//! pages counts any more, and nobody has them mapped.

use super::super::{
    format::dataset::DatasetRecord,
    handler,
    host::{Action, Host, PageKey},
    names::pages_of,
    node::{Node, Owned, GENERAL, WORKER},
    persist,
};
use kernel::prelude::*;

/// Who had a chunk before a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct OwnerBefore {
    chunk: u64,
    node: u32,
    /// It was on its way to us, and not here yet.
    was_coming: bool,
    /// It was on its way from us.
    was_going: bool,
}

impl Node {
    /// Room for what [`Node::owners_before`] finds, and for what follows from it.
    pub(in super::super) fn room_for_owners(
        &mut self,
        new: &DatasetRecord,
    ) -> Result<KVec<OwnerBefore>> {
        let old = self.names.get(new.id);
        let most = old.map_or(0, |old| old.moved.len()) + new.moved.len();
        self.migration.unmap.reserve(most, GFP_KERNEL)?;
        Ok(KVec::with_capacity(most, GFP_KERNEL)?)
    }

    /// Before a new record is taken over: who owns the chunks that it, or the old one, says moved.
    pub(in super::super) fn owners_before(
        &mut self,
        new: &DatasetRecord,
        before: &mut KVec<OwnerBefore>,
    ) {
        let Ok(old) = self.names.get(new.id) else {
            return;
        };
        if new.tombstone {
            self.migration.counts.remove(&new.id);
            return;
        }
        for of in Iterator::chain(old.moved.iter(), new.moved.iter()) {
            let chunk = u64::from(of.chunk);
            let first = pages_of(old, chunk).0;
            let owner = OwnerBefore {
                chunk,
                node: self.names.owner(first).unwrap_or(u32::MAX),
                was_coming: self.is_arriving(first),
                was_going: self
                    .names
                    .arriving(first)
                    .is_some_and(|of| u32::from(of.from) == self.id()),
            };
            if !before.contains(&owner) {
                let _ = before.push_within_capacity(owner);
            }
        }
    }

    /// A new record was taken over: of chunks that have another owner now than `before`, nothing that was
    /// known counts.
    pub(in super::super) fn note_moved(&mut self, dataset: u64, before: &[OwnerBefore]) {
        for owner in before {
            let OwnerBefore { chunk, node, .. } = owner;
            let Ok(record) = self.names.get(dataset) else {
                return;
            };
            let (first, count) = pages_of(record, *chunk);
            let moved = self.names.owner(first) != Ok(*node);
            let open = self.names.arriving(first).is_some();
            let within = |key: &PageKey| {
                key.dataset == dataset && key.page >= first.page && key.page - first.page < count
            };
            let waits = open && *node == self.id();
            if !(self.owns(first) || waits) || moved && open && self.owns(first) {
                // The next owner has asked who writes it, or will not ask us. As the next owner we
                // ask: it may be back, and others have written it since.
                self.writers.free(|key, _| within(key));
            }
            if !moved {
                continue;
            }
            self.generation += 1;
            for (_, page) in self.pages.iter_mut().filter(|(key, _)| within(key)) {
                page.sequence = page.sequence.wrapping_add(1);
                page.mapped = false;
                if let Some(clean) = &mut page.clean {
                    clean.valid = false;
                }
            }
            // Our last commits on it still have to reach all who may read the pages: not everybody knows yet.
            let idle = |owned: &Owned| owned.txn.is_none();
            for (_, owned) in self
                .owned
                .iter_mut()
                .filter(|(key, of)| within(key) && idle(of))
            {
                owned.holders.clear();
                owned.kept.clear();
            }
            let migration = &mut self.migration;
            migration.arrived.retain(|of| *of != (dataset, *chunk));
            migration.leaving.retain(|of| of.of != (dataset, *chunk));
            migration.told.retain(|(of, _)| *of != (dataset, *chunk));
            migration.traffic.remove(&(dataset, *chunk));
            migration.serial += 1;
            let note = ((dataset, *chunk), migration.serial);
            let _ = migration.unmap.push_within_capacity(note);
            if *node == self.id() && !owner.was_coming {
                self.migration.count(dataset, |of| &mut of.left);
            }
            if owner.was_going && self.owns(first) {
                // Its next owner has given it back.
                self.migration.count(dataset, |of| &mut of.stayed);
            }
        }
        if !before.is_empty() {
            for queue in WORKER..=GENERAL {
                self.wake(queue);
            }
        }
    }
}

/// Takes chunks that have another owner now out of all page tables. Whoever has just found a copy valid
/// has mapped it before.
pub(in super::super) async fn unmap_moved<H: Host>(host: &H) -> Result {
    loop {
        let next = host.with(|node| {
            let Some((chunk, serial)) = node.migration.unmap.first().copied() else {
                return Ok(None);
            };
            let Ok(record) = node.names.get(chunk.0) else {
                node.migration.unmap.retain(|(of, _)| *of != chunk);
                return Ok(Some(None));
            };
            let (first, count) = pages_of(record, chunk.1);
            let mut busy = KVec::new();
            for (key, page) in node.pages.iter() {
                let within = key.dataset == first.dataset
                    && key.page >= first.page
                    && key.page - first.page < count;
                if within && page.busy != 0 {
                    busy.push(*key, GFP_KERNEL)?;
                }
            }
            Ok::<_, Error>(Some(Some((chunk, serial, first, count, busy))))
        })?;
        let (chunk, serial, first, count, busy) = match next {
            None => return Ok(()),
            Some(None) => continue,
            Some(Some(next)) => next,
        };
        let until = handler::call_until(host, u64::MAX);
        for key in &busy {
            persist::wait_idle(host, *key, until).await?;
        }
        host.run(&[Action::Unmap { first, count }]).await?;
        host.with(|node| {
            node.migration
                .unmap
                .retain(|(of, nr)| *of != chunk || *nr > serial);
        });
    }
}
