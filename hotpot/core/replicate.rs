// SPDX-License-Identifier: GPL-2.0

//! How an owner brings new versions to everybody who has a copy, and to as many
//! more nodes as the degree of replication asks for, before they are decided.

use super::{
    area::Area,
    draft,
    format::PAGE_SIZE,
    handler,
    host::{CallError, Host, Piece},
    msg::{Request, Stage, StagePage, Staging},
    node::{Holder, Node, TxnPage},
    transaction::Prepare,
};
use kernel::prelude::*;

/// Most pages in one message: the reply is one byte each.
const MAX_PAGES: usize = 512;
/// What a page and a span of a [`Stage`] take in a message, and what it takes itself.
const PAGE_HEAD: usize = 48;
const SPAN_HEAD: usize = 20;
const STAGE_HEAD: usize = 64;

/// A page to bring to a node.
#[derive(Clone, Copy)]
struct Leg {
    /// Which, in the commit's pages.
    page: usize,
    to: Holder,
    /// All bytes of it are needed there.
    whole: bool,
    /// What the receiver should have of them is sent, too.
    sent: bool,
    must: bool,
    /// It may have the version before: it must have the new one, or none.
    holder: bool,
}

/// One page of the commit.
struct Target<'a> {
    page: TxnPage,
    areas: &'a [Area<'a>],
    /// Who has it durably.
    copies: KVec<Holder>,
    /// Who was asked to have it without fail.
    tried: KVec<u32>,
    no_space: bool,
}

/// One message.
struct Parcel<'a> {
    to: u32,
    legs: KVec<Leg>,
    pages: KVec<StagePage>,
    spans: KVec<super::area::Span>,
    data: KVec<Piece<'a>>,
    size: usize,
}

/// Stages the pages of a commit at all holders and at enough nodes. Each node that may have
/// staged some of it is among the commit's `asked` afterwards. EHOSTDOWN or ENOSPC when the copies
/// cannot be had.
pub(super) async fn replicate<H: Host>(host: &H, prepare: &Prepare<'_>) -> Result {
    let (mut targets, mut legs) = host.with(|node| first_round(node, prepare))?;
    loop {
        add_copies(host, prepare, &mut targets, &mut legs)?;
        if legs.is_empty() {
            break;
        }
        legs = round(host, prepare, &mut targets, legs).await?;
    }
    host.with(|node| {
        let txn = node.txns.get_mut(&prepare.cid).ok_or(ECANCELED)?;
        for (nr, target) in targets.iter().enumerate() {
            for holder in &target.copies {
                txn.staged.push((nr as u32, *holder), GFP_KERNEL)?;
            }
        }
        Ok(())
    })
}

fn first_round<'a>(node: &Node, prepare: &Prepare<'a>) -> Result<(KVec<Target<'a>>, KVec<Leg>)> {
    let txn = node.txns.get(&prepare.cid).ok_or(ECANCELED)?;
    let mut targets = KVec::with_capacity(txn.pages.len(), GFP_KERNEL)?;
    let mut legs = KVec::new();
    let mut areas = prepare.areas;
    for (nr, page) in txn.pages.iter().enumerate() {
        let count = areas.iter().take_while(|a| a.key == page.key).count();
        let (these, rest) = areas.split_at(count);
        areas = rest;
        let mut tried = KVec::new();
        let holders = node.owned.get(&page.key).map_or(&[][..], |o| &o.holders);
        for holder in holders {
            // We are copy 1.
            let must = tried.len() + 1 < prepare.replicas as usize;
            legs.push(
                Leg {
                    page: nr,
                    to: *holder,
                    whole: false,
                    sent: false,
                    must,
                    holder: true,
                },
                GFP_KERNEL,
            )?;
            if must {
                tried.push(holder.node, GFP_KERNEL)?;
            }
        }
        targets.push(
            Target {
                page: *page,
                areas: these,
                copies: KVec::new(),
                tried,
                no_space: false,
            },
            GFP_KERNEL,
        )?;
    }
    Ok((targets, legs))
}

/// Chooses further nodes for pages that will not have enough copies.
fn add_copies<H: Host>(
    host: &H,
    prepare: &Prepare<'_>,
    targets: &mut [Target<'_>],
    legs: &mut KVec<Leg>,
) -> Result {
    host.with(|node| {
        let us = node.id();
        for (nr, target) in targets.iter_mut().enumerate() {
            let coming = legs.iter().filter(|leg| leg.page == nr && leg.must).count();
            let mut have = 1 + target.copies.len() + coming;
            while have < prepare.replicas as usize {
                let is_taken = |id: u32| {
                    target.tried.contains(&id)
                        || target.copies.iter().any(|copy| copy.node == id)
                        || legs.iter().any(|leg| leg.page == nr && leg.to.node == id)
                };
                // The best place; when all say that they are full they are asked still.
                let best = node.choose(target.page.key, is_taken);
                let mut others = node.map.up().map(|peer| peer.id);
                let any = || others.find(|id| *id != us && !is_taken(*id));
                let chosen = best.or_else(any).and_then(|id| node.map.peer(id));
                let Some(peer) = chosen else {
                    // Holders that are asked anyway may still answer well.
                    let hope = legs.iter().any(|leg| leg.page == nr);
                    if hope {
                        break;
                    }
                    return Err(if target.no_space { ENOSPC } else { EHOSTDOWN });
                };
                target.tried.push(peer.id, GFP_KERNEL)?;
                legs.push(
                    Leg {
                        page: nr,
                        to: Holder {
                            node: peer.id,
                            incarnation: peer.incarnation,
                        },
                        whole: target.page.base != 0,
                        sent: false,
                        must: true,
                        holder: false,
                    },
                    GFP_KERNEL,
                )?;
                have += 1;
            }
        }
        Ok(())
    })
}

/// Sends what is to be sent; returns what has to be sent again.
async fn round<'a, H: Host>(
    host: &H,
    prepare: &Prepare<'a>,
    targets: &mut KVec<Target<'a>>,
    mut legs: KVec<Leg>,
) -> Result<KVec<Leg>> {
    legs.sort_unstable_by_key(|leg| (leg.to.node, leg.page));
    let (epoch, max_msg, geometry) = host.with(|node| {
        node.rooms.count(legs.len() as u64);
        (node.map.epoch, node.config.max_msg, node.geometry())
    });
    let room = max_msg.saturating_sub(2 * prepare.owners.len());
    let parcels = pack(targets, &legs, prepare.cn.node, room, &geometry)?;
    let mut headers = KVec::with_capacity(parcels.len(), GFP_KERNEL)?;
    for parcel in &parcels {
        let mut stage = Stage {
            cid: prepare.cid,
            part: targets.len() as u32,
            alone: prepare.replicas == 1,
            owners: KVec::new(),
            pages: KVec::new(),
            spans: KVec::new(),
        };
        stage.owners.extend_from_slice(prepare.owners, GFP_KERNEL)?;
        stage.pages.extend_from_slice(&parcel.pages, GFP_KERNEL)?;
        stage.spans.extend_from_slice(&parcel.spans, GFP_KERNEL)?;
        headers.push(stage.encode(epoch)?, GFP_KERNEL)?;
    }
    let until = handler::call_until(host, prepare.until);
    let mut calls = KVec::with_capacity(parcels.len(), GFP_KERNEL)?;
    for (parcel, header) in parcels.iter().zip(&headers) {
        let mut request = KVec::with_capacity(1 + parcel.data.len(), GFP_KERNEL)?;
        request.push(Piece::Bytes(header), GFP_KERNEL)?;
        request.extend_from_slice(&parcel.data, GFP_KERNEL)?;
        calls.push(
            handler::call(parcel.to, request, MAX_PAGES + 64, until)?,
            GFP_KERNEL,
        )?;
    }
    // Room before, so that none is forgotten after.
    host.with(|node| {
        let txn = node.txns.get_mut(&prepare.cid).ok_or(ECANCELED)?;
        Ok::<_, Error>(txn.asked.reserve(calls.len(), GFP_KERNEL)?)
    })?;
    host.call(&mut calls).await;
    host.with(|node| {
        let txn = node.txns.get_mut(&prepare.cid).ok_or(ECANCELED)?;
        for call in &calls {
            let there = !matches!(
                call.answer,
                Err(CallError::Handler(ENOTCONN) | CallError::NotExecuted(_))
            );
            if there && !txn.asked.contains(&call.dst) {
                let _ = txn.asked.push_within_capacity(call.dst);
            }
        }
        Ok::<_, Error>(())
    })?;
    let mut again = KVec::new();
    for (parcel, call) in parcels.iter().zip(&calls) {
        let stagings = match handler::reply_of::<Stage>(call) {
            Ok(stagings) if stagings.len() == parcel.legs.len() => Some(stagings),
            Ok(_) => return Err(EPROTO),
            // Nothing is mounted there: it has no copy that anybody reads.
            Err(CallError::Handler(ENOTCONN)) | Err(CallError::NotExecuted(EHOSTDOWN | ENOENT)) => {
                None
            }
            Err(error) => return Err(handler::errno(error)),
        };
        for (nr, leg) in parcel.legs.iter().enumerate() {
            let staging = stagings.as_ref().and_then(|all| all.get(nr)).copied();
            let Some(target) = targets.get_mut(leg.page) else {
                continue;
            };
            match staging {
                Some(Staging::Durable) => target.copies.push(leg.to, GFP_KERNEL)?,
                Some(Staging::NeedWhole) if !(leg.whole && leg.sent) => {
                    again.push(
                        Leg {
                            whole: true,
                            sent: true,
                            ..*leg
                        },
                        GFP_KERNEL,
                    )?;
                }
                Some(Staging::NoSpace) if leg.must => {
                    target.no_space = true;
                    if leg.holder {
                        again.push(
                            Leg {
                                must: false,
                                ..*leg
                            },
                            GFP_KERNEL,
                        )?;
                    }
                }
                // It keeps a copy that it cannot do without: nothing can be published.
                Some(Staging::NoSpace) => return Err(ENOSPC),
                Some(Staging::NeedWhole) => return Err(EPROTO),
                // It may be no copy any more even if the commit fails.
                Some(Staging::Dropped) | None => {
                    let key = target.page.key;
                    host.with(|node| node.lose(key, leg.to.node));
                }
            }
        }
    }
    Ok(again)
}

fn pack<'a>(
    targets: &[Target<'a>],
    legs: &[Leg],
    cn: u32,
    max_msg: usize,
    geometry: &super::format::Geometry,
) -> Result<KVec<Parcel<'a>>> {
    let mut parcels: KVec<Parcel<'a>> = KVec::new();
    for leg in legs {
        let target = targets.get(leg.page).ok_or(EINVAL)?;
        let bytes: usize = target.areas.iter().map(|area| area.bytes.len()).sum();
        let split = bytes + target.areas.len() * SPAN_HEAD;
        // The committing node has what it sent us. Of many small areas the spans are more than the
        // page.
        let heads = target.areas.len() * SPAN_HEAD;
        let enough = bytes == PAGE_SIZE || (!leg.whole && heads < PAGE_SIZE);
        let draft = match leg.to.node == cn && !leg.sent && enough {
            true => draft::crc_of(target.areas)?,
            false => None,
        };
        let whole = match draft {
            Some(_) => bytes == PAGE_SIZE,
            None => leg.whole || split >= PAGE_SIZE,
        };
        // What is left out counts: it is as much to stage.
        let size = PAGE_HEAD + if whole { PAGE_SIZE } else { split };
        let fits = parcels.last().is_some_and(|parcel| {
            parcel.to == leg.to.node
                && parcel.legs.len() < MAX_PAGES
                && parcel.size + size <= max_msg
        });
        if !fits {
            let parcel = Parcel {
                to: leg.to.node,
                legs: KVec::new(),
                pages: KVec::new(),
                spans: KVec::new(),
                data: KVec::new(),
                size: STAGE_HEAD,
            };
            parcels.push(parcel, GFP_KERNEL)?;
        }
        let parcel = parcels.last_mut().ok_or(ENOMEM)?;
        parcel.size += size;
        let sent = draft.is_none();
        parcel.legs.push(
            Leg {
                whole,
                sent,
                ..*leg
            },
            GFP_KERNEL,
        )?;
        parcel.pages.push(
            StagePage {
                key: target.page.key,
                version: target.page.base + 1,
                before: target.page.before,
                whole,
                draft,
                must: leg.must,
                nr_spans: if whole { 0 } else { target.areas.len() as u32 },
            },
            GFP_KERNEL,
        )?;
        if whole && sent {
            let page = Piece::Pm {
                offset: geometry.page(target.page.pm),
                len: PAGE_SIZE,
            };
            parcel.data.push(page, GFP_KERNEL)?;
        } else {
            for area in target.areas {
                if !whole {
                    parcel.spans.push(area.span(), GFP_KERNEL)?;
                }
                if sent {
                    parcel.data.push(area.bytes, GFP_KERNEL)?;
                }
            }
        }
    }
    Ok(parcels)
}
