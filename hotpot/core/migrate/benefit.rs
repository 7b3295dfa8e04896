// SPDX-License-Identifier: GPL-2.0

//! What a chunk moves for: what nodes read and commit of it (the benefit), against what has to be copied
//! for it (the cost). At the end of each window of time the greatest benefits are chosen, as far as they
//! cost no more than they may.

use super::{
    super::{
        format::PAGE_SIZE,
        host::PageKey,
        names::pages_of,
        node::{Node, WORKER},
        pages::Clean,
    },
    Chunk, Leaving,
};
use kernel::prelude::*;

/// The benefit is at least such a part of all that is moved: a chunk that all like alike stays.
const PART: u64 = 8;
/// Most chunks whose traffic is counted in a window.
const MAX_COUNTED: usize = 4096;

impl Node {
    /// A node reads or commits bytes of a page of ours.
    pub(in super::super) fn note_traffic(&mut self, key: PageKey, node: u32, bytes: usize) {
        if !self.migration.policy.enabled {
            return;
        }
        let Ok(chunk) = self.names.chunk(key) else {
            return;
        };
        let traffic = &mut self.migration.traffic;
        if traffic.get(&chunk).is_none() {
            // What is not counted does not move.
            let full = traffic.values().count() >= MAX_COUNTED;
            let counted = KVec::new();
            if full
                || traffic
                    .try_create_and_insert(chunk, counted, GFP_KERNEL)
                    .is_err()
            {
                return;
            }
        }
        if let Some(nodes) = traffic.get_mut(&chunk) {
            match nodes.iter_mut().find(|(id, _)| *id == node) {
                Some((_, sum)) => *sum = sum.saturating_add(bytes as u64),
                None => {
                    let _ = nodes.push((node, bytes as u64), GFP_KERNEL);
                }
            }
        }
    }

    /// Bytes of a chunk of ours that a node would have to fetch.
    fn cost(&self, of: Chunk, to: u32) -> u64 {
        let Ok(pages) = self.committed_pages(of) else {
            return u64::MAX;
        };
        let lacks = |(key, clean): &(PageKey, Clean)| {
            let kept = self.owned.get(key).map_or(&[][..], |owned| &owned.kept);
            !kept.contains(&(to, clean.version))
        };
        pages.filter(lacks).count() as u64 * PAGE_SIZE as u64
    }

    /// At the end of a window: chooses what is to move, the greatest benefit first.
    pub(super) fn choose_moves(&mut self, now: u64) -> Result {
        let policy = self.migration.policy;
        if now < self.migration.window_end {
            return Ok(());
        }
        let first = self.migration.window_end == 0;
        self.migration.window_end = now.saturating_add(policy.window);
        let traffic = core::mem::take(&mut self.migration.traffic);
        if first || !policy.enabled || !self.is_fenced() {
            return Ok(());
        }
        let us = self.id();
        let mut chosen: KVec<(u64, Chunk, u32)> = KVec::new();
        for (chunk, nodes) in traffic.iter() {
            let of = |id: u32| {
                nodes
                    .iter()
                    .find(|(node, _)| *node == id)
                    .map_or(0, |of| of.1)
            };
            let others = nodes.iter().filter(|(id, _)| *id != us && self.is_up(*id));
            let Some((to, theirs)) = others.max_by_key(|(_, bytes)| *bytes) else {
                continue;
            };
            // What is local now goes over the network afterwards.
            let benefit = theirs.saturating_sub(of(us));
            let all: u64 = nodes.iter().map(|of| of.1).sum();
            if self.may_go(*chunk) && benefit >= policy.min_benefit.max(all / PART).max(1) {
                chosen.push((benefit, *chunk, *to), GFP_KERNEL)?;
            }
        }
        chosen.sort_unstable_by(|a, b| b.cmp(a));
        let mut left = policy.max_cost;
        for (benefit, chunk, to) in &chosen {
            let cost = self.cost(*chunk, *to);
            if cost <= left && cost <= benefit.saturating_mul(4) {
                left -= cost;
                let at = self.first_of(*chunk)?;
                self.send_away(Leaving::new(*chunk, u16::try_from(*to)?, at))?;
            }
        }
        Ok(())
    }

    /// Whether a chunk is ours, and its dataset's record can say that it is another node's.
    pub(super) fn may_go(&self, chunk: Chunk) -> bool {
        let Ok(record) = self.names.get(chunk.0) else {
            return false;
        };
        let (page, _) = pages_of(record, chunk.1);
        self.owns(page)
            && !self.names.is_inherited(page)
            && self.names.arriving(page).is_none()
            && (record.room_to_move() != 0 || record.moved(chunk.1).is_some())
    }

    /// Has a chunk go, unless it does already.
    pub(super) fn send_away(&mut self, leaving: Leaving) -> Result {
        let mut others = self.migration.leaving.iter();
        if !others.any(|other| other.of == leaving.of) {
            self.migration.leaving.push(leaving, GFP_KERNEL)?;
            self.wake(WORKER);
        }
        Ok(())
    }
}
