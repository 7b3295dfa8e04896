// SPDX-License-Identifier: GPL-2.0

//! A chunk of ours that is to go: its next owner lets it in and fetches what it lacks, then the CD gives it
//! the chunk.

use super::{
    super::{
        handler,
        host::{Host, PageKey},
        names::{self, pages_of, NameChange},
        node::Node,
        spread::{Adopt, Adoption},
    },
    offer::{self, Offer},
    Leaving,
};
use kernel::prelude::*;

/// Pages that the next owner is asked to fetch at once.
const BATCH: usize = 16;

impl Node {
    /// Some pages of a chunk that its next owner does not have, and where to go on.
    fn lacking(&self, leaving: &Leaving) -> Result<(KVec<PageKey>, PageKey)> {
        let mut keys = KVec::new();
        let mut at = leaving.at;
        let (first, count) = pages_of(self.names.get(leaving.of.0)?, leaving.of.1);
        while let Some((key, page)) = self.pages.next(at) {
            if key.dataset != first.dataset
                || key.page >= first.page.saturating_add(count)
                || keys.len() == BATCH
            {
                break;
            }
            at.page = key.page + 1;
            let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) else {
                continue;
            };
            if self.is_in_flight(key) {
                // Its next owner gets it when the chunk is there.
                continue;
            }
            let has = (u32::from(leaving.to), clean.version);
            let owned = self.owned.get(&key);
            if !owned.is_some_and(|owned| owned.kept.contains(&has)) {
                keys.push(key, GFP_KERNEL)?;
            }
        }
        Ok((keys, at))
    }

    /// Whether a copy of ours of a page of the chunk is damaged, and nobody has a good one: such a
    /// page its next owner would ask for in vain, and serve none of the others meanwhile.
    fn has_damaged(&self, leaving: &Leaving) -> Result<bool> {
        let mut pages = self.committed_pages(leaving.of)?;
        Ok(pages.any(|(key, _)| self.pages.get(key).is_some_and(|page| page.damaged)))
    }
}

/// Asks the next owner of a chunk whether it may come, then has it fetch some of what it lacks; when that is
/// all, has the CD give it the chunk.
/// `Some`: there is more. An error: it stays here.
pub(super) async fn send_off<H: Host>(host: &H, mut leaving: Leaving) -> Result<Option<Leaving>> {
    let (dataset, chunk) = leaving.of;
    let to = u32::from(leaving.to);
    if !leaving.let_in {
        let pages = host.with(|node| {
            // What the other node lets in it counts as its own, whether it comes or not.
            node.check_owned_chunk(leaving.of)?;
            Ok::<_, Error>(node.committed_pages(leaving.of)?.count() as u64)
        })?;
        let limit = leaving.limit;
        offer::offer(host, to, &Offer { pages, limit }).await?;
        leaving.let_in = true;
    }
    let (keys, at) = host.with(|node| {
        node.check_owned_chunk(leaving.of)?;
        node.lacking(&leaving)
    })?;
    let until = handler::call_until(host, u64::MAX);
    if !keys.is_empty() {
        let adopt = Adopt { keys };
        let answers = handler::ask(host, to, &adopt, until)
            .await
            .map_err(handler::errno)?;
        for (key, answer) in adopt.keys.iter().zip(&answers) {
            match answer.adoption {
                Adoption::Kept => host.with(|node| node.adopted(*key, to, answer.version))?,
                Adoption::NoSpace => return Err(ENOSPC),
                // It fetches it when the chunk is there.
                Adoption::Later => {}
            }
        }
        leaving.at = at;
        return Ok(Some(leaving));
    }
    if host.with(|node| node.has_damaged(&leaving))? {
        return Err(EIO);
    }
    let change = NameChange::Move {
        dataset,
        chunk: u32::try_from(chunk)?,
        from: host.with(|node| node.id() as u16),
        to: leaving.to,
    };
    // Whether it moves when nobody answers the record tells.
    names::send(host, &change, until).await?;
    Ok(None)
}
