// SPDX-License-Identifier: GPL-2.0

//! Integrity of committed copies: the bytes of a page are checked against the crc32c in its
//! slot whenever they leave the copy (to a process, to another node, into a new version).
//! A copy that fails is healed in place from one of the same version elsewhere; where none is
//! left the answer is EIO, never wrong bytes.
//!
//! In place, because a copy that fails its checksum is no committed state any more: whatever a
//! crash leaves of the mending either matches the checksum or is mended again.

use super::{
    format::{crc32c, slot, Cid, Geometry, PageVersion, LINE_SIZE, PAGE_BYTES, PAGE_SIZE},
    handler,
    host::{Action, Host, Level, PageKey, Piece},
    msg::{wire_struct, Reader, Request, Wire, Writer},
    node::Node,
    pages::Clean,
    persist::{self, Batch},
};
use kernel::prelude::*;

/// Room for one page, to check it in.
pub(super) fn page_buffer() -> Result<KVec<u8>> {
    Ok(KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?)
}

/// Reads the copy of `key` in PM page `pm` to `to` (a page). Its checksum; `None` when the copy is
/// damaged: its slot is not one of this version, or the bytes are not what was committed.
pub(super) fn read_copy<H: Host>(
    host: &H,
    geometry: &Geometry,
    key: PageKey,
    (pm, version): (u64, u64),
    to: &mut [u8],
) -> Option<u32> {
    let slot = read_slot(host, geometry, key, (pm, version))?;
    // A bad line of the medium is EIO.
    host.read(geometry.page(pm), to).ok()?;
    (crc32c(to) == slot.data_crc).then_some(slot.data_crc)
}

/// The slot of a copy, unless that is damaged itself.
fn read_slot<H: Host>(
    host: &H,
    geometry: &Geometry,
    key: PageKey,
    (pm, version): (u64, u64),
) -> Option<slot::Slot> {
    let mut line = [0u8; LINE_SIZE];
    host.read(geometry.slot(pm), &mut line).ok()?;
    let (_, slot) = slot::Slot::decode(pm, &line).ok()??;
    let of = slot.of;
    let same = (of.dataset, of.page, of.version) == (key.dataset, key.page, version);
    same.then_some(slot)
}

/// The crc32c that a damaged copy should have; 0 when its slot is damaged, too.
pub(super) fn known_crc<H: Host>(
    host: &H,
    geometry: &Geometry,
    key: PageKey,
    copy: (u64, u64),
) -> u32 {
    read_slot(host, geometry, key, copy).map_or(0, |slot| slot.data_crc)
}

/// As [`read_copy`], where the bytes are not wanted; `true` for a hole.
pub(super) fn is_intact<H: Host>(
    host: &H,
    geometry: &Geometry,
    key: PageKey,
    clean: &Clean,
) -> Result<bool> {
    let Some(pm) = clean.pm else {
        return Ok(true);
    };
    let mut bytes = page_buffer()?;
    Ok(read_copy(host, geometry, key, (pm, clean.version), &mut bytes).is_some())
}

/// Any node to any other: the copy of exactly this version of a page, if it is good.
#[derive(Debug)]
pub struct Salvage {
    /// The page.
    pub key: PageKey,
    /// The version.
    pub version: u64,
    /// The commit that made it.
    pub cid: Cid,
}
wire_struct!(Salvage { key, version, cid });
impl Request<'_> for Salvage {
    const OPCODE: u16 = 32;
    type Reply = Salvaged;
}

/// What there is to salvage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salvaged {
    /// The 4,096 bytes of the page come behind it; their crc32c.
    Good(u32),
    /// No copy of this version is here.
    Absent,
    /// The copy here is damaged too.
    Damaged,
}

impl Wire<'_> for Salvaged {
    fn put(&self, to: &mut Writer) -> Result {
        match self {
            Salvaged::Good(crc) => {
                to.u8(0)?;
                to.u32(*crc)
            }
            Salvaged::Absent => to.u8(1),
            Salvaged::Damaged => to.u8(2),
        }
    }

    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => Salvaged::Good(from.u32()?),
            1 => Salvaged::Absent,
            2 => Salvaged::Damaged,
            _ => return Err(EBADMSG),
        })
    }
}

/// Gives what another node needs to mend its copy.
pub(super) fn on_salvage<H: Host>(host: &H, wanted: &Salvage, reply: &mut [u8]) -> Result<usize> {
    let mut bytes = page_buffer()?;
    let found = host.with(|node| {
        let geometry = node.geometry();
        let Some(page) = node.pages.get(wanted.key) else {
            return Salvaged::Absent;
        };
        let clean = page
            .clean
            .filter(|clean| (clean.version, clean.cid) == (wanted.version, wanted.cid))
            .and_then(|clean| clean.pm);
        // It may be committed here and not be known to be. Who asks has published it, so it was decided,
        // and is durable with all who prepared it: an owner notes that of its own copy only as it publishes.
        let staged = page
            .staged
            .iter()
            .find(|staged| (staged.version, staged.cid) == (wanted.version, wanted.cid));
        let Some(pm) = clean.or(staged.map(|staged| staged.pm)) else {
            return Salvaged::Absent;
        };
        match read_copy(
            host,
            &geometry,
            wanted.key,
            (pm, wanted.version),
            &mut bytes,
        ) {
            Some(crc) => Salvaged::Good(crc),
            None => Salvaged::Damaged,
        }
    });
    let len = handler::put(&found, reply)?;
    match found {
        Salvaged::Good(_) => {
            let to = reply.get_mut(len..len + PAGE_SIZE).ok_or(EMSGSIZE)?;
            to.copy_from_slice(&bytes);
            Ok(len + PAGE_SIZE)
        }
        _ => Ok(len),
    }
}

/// What became of a damaged copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// It is good, or was found to be.
    Good,
    /// It was outdated and is dropped, or something newer has taken its place.
    Gone,
}

/// What the others have of a version.
enum Search {
    Found(KVec<u8>, u32, u32),
    /// The owner has another version: nobody needs ours.
    Outdated,
    /// All who could have it have said that they have no good copy.
    Nowhere,
    /// Somebody did not answer.
    Unknown(Error),
}

impl Node {
    /// Takes the clean copy of an idle page to mend it.
    fn begin_mending(&mut self, key: PageKey) -> Result<Option<(Clean, u64)>> {
        let Some(page) = self.pages.get_mut(key) else {
            return Ok(None);
        };
        let Some((clean, pm)) = page.clean.and_then(|clean| Some((clean, clean.pm?))) else {
            return Ok(None);
        };
        if page.busy != 0 {
            return Err(EBUSY);
        }
        page.busy = 1;
        Ok(Some((clean, pm)))
    }

    fn end_mending(&mut self, key: PageKey, damaged: bool) -> bool {
        let mut first = false;
        if let Some(page) = self.pages.get_mut(key) {
            page.busy = page.busy.saturating_sub(1);
            first = damaged && !page.damaged;
            page.damaged = damaged;
        }
        self.pages.prune(key);
        self.wake_page(key);
        first
    }
}

/// Makes the clean copy of a page good again, wherever the good bytes are. Nobody reads the page
/// meanwhile. EIO when no good copy is left; EHOSTDOWN or ETIMEDOUT when a node
/// that may have one does not answer.
pub(super) async fn mend<H: Host>(host: &H, key: PageKey, until: u64) -> Result<Mended> {
    let (clean, pm) = loop {
        persist::wait_idle(host, key, until).await?;
        match host.with(|node| node.begin_mending(key)) {
            Ok(None) => return Ok(Mended::Gone),
            Ok(Some(taken)) => break taken,
            Err(_) => {}
        }
    };
    let done = try_mend(host, key, &clean, pm, until).await;
    let first = host.with(|node| node.end_mending(key, done.is_err()));
    let PageKey { dataset, page } = key;
    match done {
        Ok(Mended::Gone) => {
            persist::drop_clean(host, key).await?;
        }
        Ok(Mended::Good) => {}
        Err(EIO) if first => host.log(
            Level::Error,
            format_args!(
                "page {page} of dataset {dataset}: the copy here (PM page {pm}) is damaged and no \
                 good copy is left: EIO"
            ),
        ),
        Err(error) if first => host.log(
            Level::Warning,
            format_args!(
                "page {page} of dataset {dataset}: the copy here (PM page {pm}) is damaged and a \
                 good one cannot be had now ({error:?})"
            ),
        ),
        Err(_) => {}
    }
    done
}

async fn try_mend<H: Host>(
    host: &H,
    key: PageKey,
    clean: &Clean,
    pm: u64,
    until: u64,
) -> Result<Mended> {
    let geometry = host.with(|node| node.geometry());
    if is_intact(host, &geometry, key, clean)? {
        // Somebody was faster, and may have it in a page table by now.
        return Ok(Mended::Good);
    }
    host.run(&[Action::Unmap {
        first: key,
        count: 1,
    }])
    .await?;
    host.with(|node| {
        if let Some(page) = node.pages.get_mut(key) {
            page.mapped = false;
        }
    });
    let (bytes, crc, from) = match search(host, key, clean, until).await? {
        Search::Found(bytes, crc, from) => (bytes, crc, from),
        Search::Outdated => return Ok(Mended::Gone),
        Search::Nowhere => return Err(EIO),
        Search::Unknown(error) => return Err(error),
    };
    rewrite(host, &geometry, key, (clean, pm), (&bytes, crc)).await?;
    if !is_intact(host, &geometry, key, clean)? {
        host.log(
            Level::Error,
            format_args!("PM page {pm} does not keep what is written to it: replace the device"),
        );
        return Err(EIO);
    }
    host.log(
        Level::Warning,
        format_args!(
            "page {} of dataset {}: the copy here (PM page {pm}) was damaged and is healed from \
             node {from}",
            key.page, key.dataset
        ),
    );
    Ok(Mended::Good)
}

/// Asks the owner, and then all other nodes, for a good copy of a version.
async fn search<H: Host>(host: &H, key: PageKey, clean: &Clean, until: u64) -> Result<Search> {
    let (us, owner, epoch, ids, all_up) = host.with(|node| {
        let owner = node.owner(key)?;
        let mut ids = KVec::new();
        if owner != node.id() && node.is_up(owner) {
            ids.push(owner, GFP_KERNEL)?;
        }
        // Those that have it as far as we know, then whoever may.
        let known = node.owned.get(&key).map_or(&[][..], |owned| &owned.holders);
        let known = known.iter().map(|holder| holder.node);
        for id in Iterator::chain(known, node.map.up().map(|peer| peer.id)) {
            if id != node.id() && !ids.contains(&id) && node.is_up(id) {
                ids.push(id, GFP_KERNEL)?;
            }
        }
        let mut peers = node.map.peers.iter();
        let all_up = peers.all(|peer| peer.state != super::cluster::State::Down);
        Ok::<_, Error>((node.id(), owner, node.map.epoch, ids, all_up))
    })?;
    let wanted = Salvage {
        key,
        version: clean.version,
        cid: clean.cid,
    };
    let header = wanted.encode(epoch)?;
    // Who is down and will be back may have one.
    let mut silent = (!all_up).then_some(EHOSTDOWN);
    for id in &ids {
        let mut request = KVec::new();
        request.push(Piece::Bytes(&header), GFP_KERNEL)?;
        let call_until = handler::call_until(host, until);
        let mut calls = [handler::call(*id, request, 64 + PAGE_SIZE, call_until)?];
        host.call(&mut calls).await;
        let [call] = calls;
        let len = match call.answer {
            Ok(len) => len,
            Err(error) => {
                silent = Some(handler::errno(error));
                continue;
            }
        };
        let mut body = Reader::new(call.reply.get(..len).unwrap_or(&[]));
        match Salvaged::get(&mut body) {
            Ok(Salvaged::Good(crc)) => {
                let data = body.rest();
                if data.len() == PAGE_SIZE && crc32c(data) == crc {
                    let mut bytes = KVec::new();
                    bytes.extend_from_slice(data, GFP_KERNEL)?;
                    return Ok(Search::Found(bytes, crc, *id));
                }
                silent = Some(ETIMEDOUT);
            }
            Ok(Salvaged::Absent) if *id == owner && owner != us => return Ok(Search::Outdated),
            Ok(Salvaged::Absent | Salvaged::Damaged) => {}
            Err(_) => silent = Some(ETIMEDOUT),
        }
    }
    Ok(match silent {
        Some(error) => Search::Unknown(error),
        None => Search::Nowhere,
    })
}

/// Writes a page, and its slot where that is damaged as well.
async fn rewrite<H: Host>(
    host: &H,
    geometry: &Geometry,
    key: PageKey,
    (clean, pm): (&Clean, u64),
    (bytes, crc): (&[u8], u32),
) -> Result {
    let of = PageVersion {
        dataset: key.dataset,
        page: key.page,
        version: clean.version,
        cid: clean.cid,
    };
    let mut line = [0u8; LINE_SIZE];
    let right = slot::Slot {
        of,
        data_crc: crc,
        stager: None,
    };
    let whole = host.read(geometry.slot(pm), &mut line).is_ok()
        && slot::Slot::decode(pm, &line).is_ok_and(|found| {
            // Who had it staged does not matter any more.
            let found = found.map(|(state, slot)| (state, slot.of, slot.data_crc));
            found == Some((slot::State::Committed, of, crc))
        });
    let body = right.encode(pm);
    let mut batch = Batch::default();
    batch.write(geometry.page(pm), Piece::Bytes(bytes))?;
    batch.flush(geometry.page(pm), PAGE_BYTES)?;
    batch.fence()?;
    if !whole {
        batch.write(geometry.slot(pm) + 8, Piece::Bytes(&body))?;
        batch.flush(geometry.slot(pm) + 8, body.len() as u64)?;
        batch.fence()?;
        batch.swing(geometry.slot(pm), of.word(pm, slot::State::Committed).0)?;
        batch.fence()?;
    }
    batch.run(host).await
}

/// Makes sure that the clean copy of a page, if there is one, is good before its bytes go into a
/// new version.
pub(super) async fn ensure<H: Host>(host: &H, key: PageKey, until: u64) -> Result {
    let found = host.with(|node| Some((node.pages.get(key)?.clean?, node.geometry())));
    let Some((clean, geometry)) = found else {
        return Ok(());
    };
    match is_intact(host, &geometry, key, &clean)? {
        true => Ok(()),
        false => mend(host, key, until).await.map(|_| ()),
    }
}
