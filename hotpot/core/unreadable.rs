// SPDX-License-Identifier: GPL-2.0

//! Pages that nobody can read: a new owner finds that all copies of the newest version are damaged.
//! It serves the others of its pages, and of such a one it keeps a damaged copy as well: its slot
//! says which version it would be, its bytes are not what was committed. So the page is EIO and no
//! older version, also after a restart, until a commit replaces all of it, or a node comes back
//! that has a good copy ([`integrity`](super::integrity)).

use super::{
    format::{slot, Cid, PageVersion, BODY_SIZE, PAGE_BYTES, PAGE_SIZE},
    handler,
    host::{Host, Level, PageKey, Piece},
    persist::{self, Batch},
    take,
};
use kernel::prelude::*;

/// A page of which there are damaged copies only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unreadable {
    pub(super) key: PageKey,
    /// Its newest version.
    pub(super) version: u64,
    /// The commit that made it.
    pub(super) cid: Cid,
    /// crc32c of its bytes; 0 when nobody knows it.
    pub(super) crc: u32,
}

/// Keeps damaged copies of pages of ours, durably. ENOSPC without room. EBUSY at `until`, ns, or when
/// a page is in use for as long as a call may take: what was kept before stays.
pub(super) async fn keep_all<H: Host>(host: &H, pages: &[Unreadable], until: u64) -> Result {
    for page in pages {
        keep(host, page, handler::call_until(host, until)).await?;
        host.log(
            Level::Error,
            format_args!(
                "page {} of dataset {} has come to us, and all copies of it are damaged: EIO until \
                 all of it is written anew",
                page.key.page, page.key.dataset
            ),
        );
    }
    Ok(())
}

async fn keep<H: Host>(host: &H, page: &Unreadable, until: u64) -> Result {
    let pm = host.with(|node| node.space.take()).ok_or(ENOSPC)?;
    let of = PageVersion {
        dataset: page.key.dataset,
        page: page.key.page,
        version: page.version,
        cid: page.cid,
    };
    let mut result = write(host, (pm, of), page.crc).await;
    let mut unused = Some(persist::released(pm));
    if result.is_ok() {
        match take::install(host, (pm, of), true, until).await {
            Ok(old) => unused = old,
            Err(error) => result = Err(error),
        }
    }
    match unused {
        Some(unused) => result.and(persist::free(host, &[unused]).await),
        None => result,
    }
}

/// Writes a copy that does not match its checksum: zeros, whose crc32c is neither 0 nor, unless
/// they are what was committed, that of the page.
async fn write<H: Host>(host: &H, (pm, of): (u64, PageVersion), crc: u32) -> Result {
    let geometry = host.with(|node| node.geometry());
    let slot = slot::Slot {
        of,
        data_crc: crc,
        stager: None,
    };
    let body = slot.encode(pm);
    let mut batch = Batch::default();
    batch.write(geometry.page(pm), Piece::Zeros(PAGE_SIZE))?;
    batch.flush(geometry.page(pm), PAGE_BYTES)?;
    batch.write(geometry.slot(pm) + 8, Piece::Bytes(&body))?;
    batch.flush(geometry.slot(pm) + 8, BODY_SIZE as u64)?;
    batch.fence()?;
    batch.swing(geometry.slot(pm), of.word(pm, slot::State::Committed).0)?;
    batch.fence()?;
    batch.run(host).await
}
