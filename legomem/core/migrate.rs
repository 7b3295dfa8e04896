// SPDX-License-Identifier: GPL-2.0

//! Moving a region to another memory node while clients use it (section 4.4.7).
//!
//! The source leads: it pauses the region (requests are answered so, and tried
//! again), waits for its workers, asks the home where to, copies allocations,
//! pages with their checksums, and what was executed lately; then the home swings
//! its table, and from then on the source answers that the region moved. Until the
//! home swung, the region is the source's; after that, the destination's.

use super::{
    control::{
        home_of, Bytes, Effect, Horizon, Import, ImportBytes, ImportEffects, ImportEnd,
        ImportRange, Place, Swing, MAX_CHUNK, MAX_LIST,
    },
    dedup,
    home::Life,
    host::{ask, Host, Level},
    page_table::PageId,
    pool::Pool,
    ranges::Allocation,
    slow::Stage,
    space::RegionState,
    wire::Status,
};
use kernel::{crc32::crc32c, prelude::*};

/// How long workers may take to finish with a region, in steps of 1 ms.
const PATIENCE: u32 = 2000;

/// Slots of the dedup ring that are looked at in one step.
const SCAN: usize = 512;

/// A region that leaves.
struct Leaving {
    descriptor: super::control::Descriptor,
    number: u32,
    allowance: u64,
    used: u64,
}

/// Gives a region to another node: `wish`, or whichever has room. On an error it is
/// here as before.
pub async fn migrate(host: &impl Host, ras: u64, index: u32, wish: u16) -> Result {
    let leaving = begin(host, ras, index)?;
    let result = match drained(host, ras).await {
        Ok(()) => give(host, &leaving, index, wish).await,
        Err(error) => Err(error),
    };
    match result {
        Ok(node) => {
            host.slow(|slow| slow.revoke(host, ras, index));
            host.fast(|board| board.stats.regions_sent += 1);
            host.log(
                Level::Info,
                format_args!("region {index} of address space {ras:x} moved to node {node}"),
            );
            Ok(())
        }
        Err(error) => {
            stay(host, ras, index);
            host.log(
                Level::Warning,
                format_args!("region {index} of address space {ras:x} stays: {error:?}"),
            );
            Err(error)
        }
    }
}

fn begin(host: &impl Host, ras: u64, index: u32) -> Result<Leaving> {
    host.slow(|slow| {
        let region = slow.region_mut(ras, index).ok_or(ENOENT)?;
        if region.stage != Stage::Live {
            return Err(EBUSY);
        }
        region.stage = Stage::Leaving;
        let (allowance, used) = (region.allowance, region.used);
        slow.set_state(host, ras, index, RegionState::Paused);
        let space = slow.space(ras).ok_or(ENOENT)?;
        Ok(Leaving {
            descriptor: space.descriptor,
            number: space.number,
            allowance,
            used,
        })
    })
}

fn stay(host: &impl Host, ras: u64, index: u32) {
    host.slow(|slow| {
        if let Some(region) = slow.region_mut(ras, index) {
            region.stage = Stage::Live;
            slow.set_state(host, ras, index, RegionState::Live);
        }
    });
}

/// Waits until no worker executes a request of this address space: none begins one
/// in a region that is paused.
async fn drained(host: &impl Host, ras: u64) -> Result {
    for _ in 0..PATIENCE {
        let pending = host.fast(|board| board.spaces().get(ras).map_or(0, |space| space.pending));
        if pending == 0 {
            return Ok(());
        }
        host.pause(1).await;
    }
    Err(ETIMEDOUT)
}

async fn give(host: &impl Host, leaving: &Leaving, index: u32, wish: u16) -> Result<u16> {
    let ras = leaving.descriptor.ras;
    let place = Place {
        ras,
        index,
        bytes: leaving.used,
        wish,
    };
    let to = ask(host, home_of(ras), &place).await?;
    let token = host.random();
    let import = Import {
        space: leaving.descriptor,
        index,
        allowance: leaving.allowance,
        incarnation: to.incarnation,
        token,
    };
    let copied = match ask(host, to.node, &import).await {
        Ok(()) => copy(host, leaving, index, to.node, token).await,
        Err(error) => Err(error),
    };
    if let Err(error) = copied {
        abandon(host, ras, index, to.node, token).await;
        return Err(error);
    }
    let swing = Swing {
        ras,
        index,
        to: to.node,
        incarnation: to.incarnation,
        port: to.port,
    };
    match swing_until_known(host, &swing, leaving.descriptor.home).await {
        Ok(()) => Ok(to.node),
        Err(error) => {
            abandon(host, ras, index, to.node, token).await;
            Err(error)
        }
    }
}

async fn abandon(host: &impl Host, ras: u64, index: u32, node: u16, token: u64) {
    let end = ImportEnd {
        ras,
        index,
        token,
        complete: false,
    };
    // If it does not hear this, it hears of our end or of the home's.
    let _ = ask(host, node, &end).await;
}

/// The home's answer decides whose the region is, so there is no way around it:
/// asked again until it comes, or the home is no more.
async fn swing_until_known(host: &impl Host, swing: &Swing, life: u64) -> Result {
    let home = Life {
        node: home_of(swing.ras),
        incarnation: life,
    };
    loop {
        match ask(host, home.node, swing).await {
            Ok(()) => return Ok(()),
            Err(error) if error == ESTALE && host.is_alive(home) => {
                // Ours was an older map, or the home's table says that it is not ours.
                host.pause(10).await;
                match ask(host, home.node, swing).await {
                    Err(error) if error == ETIMEDOUT => {}
                    other => return other,
                }
            }
            Err(error) if !host.is_alive(home) => return Err(error),
            Err(error) if error == ENOENT || error == EPROTO => return Err(error),
            Err(_) => host.pause(100).await,
        }
    }
}

async fn copy(host: &impl Host, leaving: &Leaving, index: u32, to: u16, token: u64) -> Result {
    let ras = leaving.descriptor.ras;
    let (mut at, end) =
        host.slow(|slow| slow.pages_of_region(leaving.descriptor.region_shift, index));
    let mut chunk = KVec::new();
    chunk.resize(MAX_CHUNK, 0, GFP_KERNEL)?;
    let mut message = Bytes(chunk);
    while let Some(allocation) = host.slow(|slow| slow.next_allocation(ras, at, end)) {
        let (addr, len) = host.slow(|slow| slow.bytes_of(&allocation));
        let range = ImportRange {
            ras,
            index,
            token,
            addr,
            len,
            rights: allocation.rights,
        };
        ask(host, to, &range).await?;
        message = copy_pages(host, leaving, &allocation, (index, to, token), message).await?;
        at = allocation.end();
    }
    copy_effects(host, leaving, index, to, token).await?;
    let complete = ImportEnd {
        ras,
        index,
        token,
        complete: true,
    };
    ask(host, to, &complete).await
}

/// The bytes of an allocation, but for what is zero.
async fn copy_pages(
    host: &impl Host,
    leaving: &Leaving,
    allocation: &Allocation,
    (index, to, token): (u32, u16, u64),
    mut bytes: Bytes,
) -> Result<Bytes> {
    let (start, len) = host.slow(|slow| slow.bytes_of(allocation));
    let page_size = len / u64::from(allocation.pages.max(1));
    for page in allocation.first..allocation.end() {
        let id = PageId {
            space: leaving.number,
            page,
        };
        let base = start + u64::from(page - allocation.first) * page_size;
        let mut offset = 0;
        while offset < page_size {
            // Nobody changes it, but the lock keeps the frame ours.
            let there = host.fast(|board| {
                let frame = board.table().get(id).and_then(|entry| entry.frame());
                frame.map(|frame| host.pool().read(frame, offset as usize, &mut bytes.0))
            });
            if there.is_none() {
                break;
            }
            if bytes.0.iter().any(|byte| *byte != 0) {
                let message = ImportBytes {
                    ras: leaving.descriptor.ras,
                    index,
                    token,
                    addr: base + offset,
                    crc: !crc32c(!0, &bytes.0),
                    bytes,
                };
                send_bytes(host, to, &message).await?;
                bytes = message.bytes;
            }
            offset += MAX_CHUNK as u64;
        }
    }
    Ok(bytes)
}

async fn send_bytes(host: &impl Host, to: u16, message: &ImportBytes) -> Result {
    for _ in 0..PATIENCE {
        match ask(host, to, message).await {
            // Its pages are being cleaned.
            Err(error) if error == EAGAIN => host.pause(1).await,
            other => return other,
        }
    }
    Err(ENOSPC)
}

async fn copy_effects(
    host: &impl Host,
    leaving: &Leaving,
    index: u32,
    to: u16,
    token: u64,
) -> Result {
    let place = dedup::Place {
        space: leaving.number,
        region: index,
    };
    let capacity = host.fast(|board| board.effects().capacity());
    for at in (0..capacity).step_by(SCAN) {
        let mut effects = KVec::with_capacity(SCAN, GFP_KERNEL)?;
        host.fast(|board| {
            let found = board.effects().of_place(place, at, SCAN);
            for (effect, record) in found {
                if let dedup::Record::Done { status, operand } = record {
                    // There is room for all that is looked at.
                    let _ = effects.push_within_capacity(Effect {
                        node: effect.node as u16,
                        incarnation: effect.incarnation,
                        first: effect.first,
                        offset: effect.offset,
                        status: status as u8,
                        operand,
                    });
                }
            }
        });
        for part in effects.chunks(MAX_LIST) {
            send_effects(host, leaving, index, to, token, part, &[]).await?;
        }
    }
    let mut horizons = KVec::with_capacity(MAX_LIST, GFP_KERNEL)?;
    host.fast(|board| {
        for (node, incarnation, first) in board.members().horizons().take(MAX_LIST) {
            let _ = horizons.push_within_capacity(Horizon {
                node: node as u16,
                incarnation,
                first,
            });
        }
    });
    send_effects(host, leaving, index, to, token, &[], &horizons).await
}

async fn send_effects(
    host: &impl Host,
    leaving: &Leaving,
    index: u32,
    to: u16,
    token: u64,
    some: &[Effect],
    known: &[Horizon],
) -> Result {
    let mut effects = KVec::new();
    effects.extend_from_slice(some, GFP_KERNEL)?;
    let mut horizons = KVec::new();
    horizons.extend_from_slice(known, GFP_KERNEL)?;
    let message = ImportEffects {
        ras: leaving.descriptor.ras,
        index,
        token,
        effects,
        horizons,
    };
    ask(host, to, &message).await
}

/// A region is coming.
pub(super) fn import(host: &impl Host, from: Life, import: &Import) -> Result {
    let stage = Stage::Arriving {
        token: import.token,
        from,
    };
    host.slow(|slow| {
        if slow.draining {
            return Err(EBUSY);
        }
        slow.grant(host, &import.space, import.index, import.allowance, stage)
    })?;
    Ok(())
}

/// Whether a region arrives by this migration.
fn check(slow: &super::slow::Slow, ras: u64, index: u32, token: u64) -> Result {
    let region = slow.space(ras).and_then(|space| space.region(index));
    match region.ok_or(ENOENT)?.stage {
        Stage::Arriving { token: ours, .. } if ours == token => Ok(()),
        _ => Err(ESTALE),
    }
}

/// An allocation of it.
pub(super) fn import_range(host: &impl Host, range: &ImportRange) -> Result {
    host.slow(|slow| {
        check(slow, range.ras, range.index, range.token)?;
        slow.adopt(
            host,
            range.ras,
            range.index,
            range.addr,
            range.len,
            range.rights,
        )
    })
}

/// Bytes of it.
pub(super) fn import_bytes(host: &impl Host, message: &ImportBytes) -> Result {
    let bytes = &message.bytes.0;
    if bytes.len() > MAX_CHUNK || !crc32c(!0, bytes) != message.crc {
        return Err(EBADMSG);
    }
    host.slow(|slow| {
        check(slow, message.ras, message.index, message.token)?;
        let space = slow.space(message.ras).ok_or(ENOENT)?;
        let number = space.number;
        let page_size = slow.page_size();
        let offset = message.addr & (page_size - 1);
        if offset + bytes.len() as u64 > page_size {
            return Err(EINVAL);
        }
        let copied = host.fast(|board| {
            let id = board.page_of(number, message.addr);
            board.fill(host.pool(), id, offset as usize, bytes)
        });
        copied.map_err(|status| match status {
            // The pages are promised, and are being cleaned: the source tries again.
            Status::Busy => EAGAIN,
            _ => EINVAL,
        })
    })
}

/// What was executed on it lately.
pub(super) fn import_effects(host: &impl Host, message: &ImportEffects) -> Result {
    let number = host.slow(|slow| {
        check(slow, message.ras, message.index, message.token)?;
        Ok::<_, Error>(slow.space(message.ras).ok_or(ENOENT)?.number)
    })?;
    let place = dedup::Place {
        space: number,
        region: message.index,
    };
    for effect in &message.effects {
        let status = Status::from_code(effect.status).map_err(|_| EBADMSG)?;
        let record = dedup::Record::Done {
            status,
            operand: effect.operand,
        };
        let key = dedup::Effect {
            node: effect.node.into(),
            incarnation: effect.incarnation,
            first: effect.first,
            offset: effect.offset,
        };
        host.fast(|board| {
            // The source tried again: once is enough.
            if board.effects().get(&key).is_none() {
                board.import_effect(key, place, record);
            }
        });
    }
    host.fast(|board| {
        for horizon in &message.horizons {
            board.import_horizon(horizon.node.into(), horizon.incarnation, horizon.first);
        }
    });
    Ok(())
}

/// That was all, or it does not come after all.
pub(super) fn import_end(host: &impl Host, end: &ImportEnd) -> Result {
    host.slow(|slow| {
        let arriving = check(slow, end.ras, end.index, end.token);
        if end.complete {
            arriving?;
            if let Some(region) = slow.region_mut(end.ras, end.index) {
                region.stage = Stage::Live;
            }
            slow.set_state(host, end.ras, end.index, RegionState::Live);
        } else if arriving.is_ok() {
            slow.revoke(host, end.ras, end.index);
        }
        Ok(())
    })
}

/// Regions whose source the map dropped in the middle do not come any more.
pub(super) fn new_map(host: &impl Host) {
    while let Some((ras, index)) = host.slow(|slow| {
        let mut stuck = slow.spaces().flat_map(|space| {
            let ras = space.descriptor.ras;
            space
                .regions()
                .map(move |(index, region)| (ras, index, region))
        });
        stuck.find_map(|(ras, index, region)| match region.stage {
            Stage::Arriving { from, .. } if !host.is_alive(from) => Some((ras, index)),
            _ => None,
        })
    }) {
        host.slow(|slow| slow.revoke(host, ras, index));
    }
}

/// The region that should leave, if any: all of a node that is drained; the coldest
/// one when a node that promised more than it has runs short of pages.
pub fn next_to_leave(host: &impl Host) -> Option<(u64, u32)> {
    let (free, total) = host.slow(|slow| {
        let stat = slow.stat(host);
        (stat.free, stat.pages)
    });
    // A sixteenth is kept for what comes while a region leaves.
    let short = free < total / 16;
    host.slow(|slow| {
        let leaves = slow.draining || short && slow.promises_too_much();
        if !leaves {
            return None;
        }
        let regions = slow.spaces().flat_map(|space| {
            let ras = space.descriptor.ras;
            space
                .regions()
                .map(move |(index, region)| (ras, index, region))
        });
        let live = regions.filter(|(_, _, region)| region.stage == Stage::Live);
        let hits = |ras, index| {
            host.fast(|board| {
                let space = board.spaces().get(ras);
                space.map_or(0, |space| space.region(index).hits)
            })
        };
        let coldest = live
            .filter(|(_, _, region)| slow.draining || region.used != 0)
            .min_by_key(|(ras, index, _)| hits(*ras, *index));
        coldest.map(|(ras, index, _)| (ras, index))
    })
}
