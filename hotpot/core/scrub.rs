// SPDX-License-Identifier: GPL-2.0

//! The check of all committed copies of a node while it is mounted: what is damaged is healed
//! before somebody needs it.

use super::{
    host::{Host, PageKey},
    integrity::{self, Mended},
    node::Node,
    pages::Clean,
};
use kernel::prelude::*;

/// Most pages of one [`scrub`].
pub const MAX_PAGES: u32 = 65536;

/// What a check of some pages found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// The page to go on with; `None` when these were the last.
    pub next: Option<u64>,
    /// Copies that were checked.
    pub checked: u64,
    /// Damaged copies that were healed.
    pub healed: u64,
    /// Damaged copies that nobody needs any more: dropped.
    pub dropped: u64,
    /// Damaged copies of which no good one is left anywhere: reading them is EIO.
    pub lost: u64,
    /// Damaged copies that could not be healed, as a node does not answer, or is down.
    pub waiting: u64,
}

impl Node {
    /// The first clean copy of a dataset from a page on.
    fn next_copy(&self, mut at: PageKey) -> Option<(PageKey, Clean)> {
        loop {
            let (key, page) = self
                .pages
                .next(at)
                .filter(|(key, _)| key.dataset == at.dataset)?;
            if let Some(clean) = page.clean.filter(|clean| clean.pm.is_some()) {
                return Some((key, clean));
            }
            at.page = key.page.checked_add(1)?;
        }
    }
}

/// Checks the copies of at most `most` pages of a dataset here, from page `first` on, and
/// heals them. ENOENT for no such dataset, EINTR for a signal.
pub async fn scrub<H: Host>(
    host: &H,
    dataset: u64,
    first: u64,
    most: u32,
    until: u64,
) -> Result<Scrubbed> {
    host.with(|node| {
        node.check_ready()?;
        node.names.get(dataset).map(|_| ())
    })?;
    let mut found = Scrubbed::default();
    let mut bytes = integrity::page_buffer()?;
    let mut at = PageKey {
        dataset,
        page: first,
    };
    for _ in 0..most.clamp(1, MAX_PAGES) {
        // Checked with the state held, so that the copy is not replaced meanwhile.
        let next = host.with(|node| {
            let (key, clean) = node.next_copy(at)?;
            let copy = (clean.pm?, clean.version);
            let geometry = node.geometry();
            let good = integrity::read_copy(host, &geometry, key, copy, &mut bytes).is_some();
            Some((key, good))
        });
        let Some((key, good)) = next else {
            return Ok(found);
        };
        found.checked += 1;
        if !good {
            match integrity::mend(host, key, until).await {
                Ok(Mended::Good) => found.healed += 1,
                Ok(Mended::Gone) => found.dropped += 1,
                Err(EIO) => found.lost += 1,
                Err(error @ (EINTR | ENOMEM)) => return Err(error),
                Err(_) => found.waiting += 1,
            }
        }
        let Some(page) = key.page.checked_add(1) else {
            return Ok(found);
        };
        at.page = page;
        if host.now() >= until {
            break;
        }
    }
    found.next = Some(at.page);
    Ok(found)
}
