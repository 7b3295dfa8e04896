// SPDX-License-Identifier: GPL-2.0

//! A chunk of ours that is to go: its next owner lets it in and fetches what it lacks, then the CD gives it
//! the chunk.

use super::{
    super::{
        handler,
        host::{Host, Level, PageKey},
        names::{self, pages_of, NameChange},
        node::Node,
        spread::{Adopt, Adoption},
    },
    offer::{self, Offer},
    Chunk, Leaving, Migration, MAX_TOLD,
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

    /// A page of the chunk of which our copy is damaged, when nobody has a good one: its next owner
    /// would ask for it in vain, and give the chunk back.
    fn damaged_page(&self, of: Chunk) -> Result<Option<PageKey>> {
        let mut pages = self.committed_pages(of)?;
        let damaged = |key: PageKey| self.pages.get(key).is_some_and(|page| page.damaged);
        Ok(pages.find(|(key, _)| damaged(*key)).map(|(key, _)| key))
    }
}

impl Migration {
    /// Whether the operator has yet to hear that a chunk stays for the sake of this page.
    fn is_news(&mut self, of: Chunk, page: u64) -> bool {
        if self.told.contains(&(of, page)) {
            return false;
        }
        self.told.retain(|(other, _)| *other != of);
        if self.told.len() >= MAX_TOLD {
            let _ = self.told.remove(0);
        }
        // Without memory for it it is told once more.
        let _ = self.told.push((of, page), GFP_KERNEL);
        true
    }
}

/// EIO when a page of a chunk of ours is damaged here and everywhere: it stays.
fn check_readable<H: Host>(host: &H, of: Chunk) -> Result {
    let Some(key) = host.with(|node| node.damaged_page(of))? else {
        host.with(|node| node.migration.told.retain(|(other, _)| *other != of));
        return Ok(());
    };
    if host.with(|node| node.migration.is_news(of, key.page)) {
        host.log(
            Level::Warning,
            format_args!(
                "chunk {} of dataset {} stays here: its page {} is damaged, and there was no good \
                 copy to heal it from (potluck scrub tries again)",
                of.1, of.0, key.page
            ),
        );
    }
    Err(EIO)
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
    check_readable(host, leaving.of)?;
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
