// SPDX-License-Identifier: GPL-2.0

//! What a committing node asks of an owner, phase by phase.

use super::{
    area::{Area, Span},
    cluster::Sender,
    data_node,
    ending::{drop_record, finish, undo},
    format::Cid,
    handler,
    host::{Host, Piece, Sleep, Ticket},
    msg::{self, Outcome, Reader, Wire},
    node::{Commit, Holder, Incoming, Node, TxnState, GENERAL},
    transaction::{self, Prepare},
};
use kernel::prelude::*;

/// Most bytes of commits that may wait for their `Prepare`.
const MAX_INCOMING: usize = 64 << 20;

impl Node {
    fn incoming_of(&self, cn: u32, below: u64) -> Option<Cid> {
        let mut cids = self.incoming.keys();
        cids.find(|cid| is_of_before(**cid, cn, below)).copied()
    }
}

/// Keeps data that comes ahead of a large `Prepare`.
pub(super) fn on_prepare_data<H: Host>(host: &H, from: Sender, request: &[u8]) -> Result {
    let mut body = Reader::new(request);
    msg::Head::get(&mut body)?;
    let data = msg::PrepareData::get(&mut body)?;
    check_cn(data.cid, from)?;
    let now = host.now();
    host.with(|node| {
        if node.is_refused(data.cid) {
            return Err(ECANCELED);
        }
        let all: usize = node
            .incoming
            .values()
            .map(|incoming| incoming.bytes.len())
            .sum();
        if all + request.len() > MAX_INCOMING {
            return Err(ENOSPC);
        }
        if node.incoming.get(&data.cid).is_none() {
            let empty = Incoming {
                bytes: KVVec::new(),
                count: 0,
                since: now,
            };
            node.incoming
                .try_create_and_insert(data.cid, empty, GFP_KERNEL)?;
        }
        let incoming = node.incoming.get_mut(&data.cid).ok_or(ENOMEM)?;
        if incoming.count != data.number {
            return Err(EBADMSG);
        }
        let len = (request.len() as u32).to_le_bytes();
        incoming
            .bytes
            .reserve(len.len() + request.len(), GFP_KERNEL)?;
        incoming.bytes.extend_from_slice(&len, GFP_KERNEL)?;
        incoming.bytes.extend_from_slice(request, GFP_KERNEL)?;
        incoming.count += 1;
        incoming.since = now;
        Ok(())
    })
}

fn check_cn(cid: Cid, from: Sender) -> Result {
    match u32::from(cid.node()) == from.node {
        true => Ok(()),
        false => Err(EBADMSG),
    }
}

/// Phase 1, or all of it, for another node.
pub(super) async fn on_prepare<H: Host>(
    host: &H,
    from: Sender,
    prepare: &msg::Prepare,
    data: &[u8],
) -> Result {
    check_cn(prepare.cid, from)?;
    let owners = match prepare.nr_owners {
        1 => 0,
        several => several as usize,
    };
    if prepare.nr_owners == 0
        || prepare.replicas == 0
        || prepare.spans.is_empty()
        || prepare.owners.len() != owners
    {
        return Err(EBADMSG);
    }
    release(host, from, &prepare.released).await?;
    let incoming = host.with(|node| node.incoming.remove(&prepare.cid));
    if incoming.as_ref().map_or(0, |incoming| incoming.count) != prepare.ahead {
        return Err(EBADMSG);
    }
    let mut areas = KVec::new();
    if let Some(incoming) = &incoming {
        let mut messages = Reader::new(&incoming.bytes);
        for _ in 0..incoming.count {
            let mut body = Reader::new(messages.text()?);
            msg::Head::get(&mut body)?;
            let ahead = msg::PrepareData::get(&mut body)?;
            areas_of(&ahead.spans, body.rest(), &mut areas)?;
        }
    }
    areas_of(&prepare.spans, data, &mut areas)?;
    areas.sort_unstable_by_key(Area::span);
    let mut pairs = areas.iter().zip(areas.iter().skip(1));
    if pairs.any(|(a, b)| a.span().overlaps(&b.span())) {
        return Err(EBADMSG);
    }
    let arguments = Prepare {
        cid: prepare.cid,
        life: host.with(|node| node.life_of(from.node)),
        cn: Holder {
            node: from.node,
            incarnation: from.incarnation,
        },
        nr_owners: prepare.nr_owners,
        owners: &prepare.owners,
        release: prepare.release,
        replicas: prepare.replicas,
        wait: prepare.wait,
        areas: &areas,
        until: handler::within(host, prepare.budget_ms),
    };
    transaction::prepare(host, &arguments).await
}

fn areas_of<'a>(spans: &[Span], data: &'a [u8], areas: &mut KVec<Area<'a>>) -> Result {
    let mut data = Reader::new(data);
    for span in spans {
        let bytes = data.bytes(usize::from(span.len))?;
        areas.push(
            Area {
                key: span.key,
                offset: span.offset,
                bytes: Piece::Bytes(bytes),
            },
            GFP_KERNEL,
        )?;
    }
    data.end()
}

/// Phase 2: the commit is decided. What is not known (any more) was published before.
pub(super) async fn publish<H: Host>(host: &H, cid: Cid) -> Result {
    enum Step {
        Finish,
        Wait(Ticket),
    }
    let until = handler::call_until(host, u64::MAX);
    loop {
        let step = host.with(|node| {
            let ticket = node.ticket(GENERAL);
            match node.txns.get_mut(&cid) {
                None => Ok(None),
                Some(txn) => match txn.state {
                    TxnState::Prepared => {
                        txn.state = TxnState::Finishing;
                        Ok(Some(Step::Finish))
                    }
                    TxnState::Finishing => Ok(Some(Step::Wait(ticket))),
                    TxnState::Published => Ok(None),
                    TxnState::Preparing | TxnState::Undone => Err(EPROTO),
                },
            }
        })?;
        match step {
            None => return Ok(()),
            Some(Step::Finish) => return finish(host, cid).await,
            Some(Step::Wait(ticket)) => {
                if host.now() >= until {
                    return Err(EAGAIN);
                }
                host.wait(ticket, until, Sleep::Uninterruptible).await?;
            }
        }
    }
}

/// The committing node gives commits up, or has learnt their outcome.
pub(super) async fn on_forget<H: Host>(host: &H, from: Sender, forget: &msg::Forget) -> Result {
    release(host, from, &forget.released).await?;
    let mut result = Ok(());
    for cid in &forget.aborted {
        check_cn(*cid, from)?;
        // What is still being prepared may yet be durable for a moment. And what our data nodes
        // have of it would be taken for a promise of ours, should we be lost together with the
        // committing node: its user is told that nothing was published because of this answer.
        let undone = give_up(host, *cid).await? && drop_guests(host, *cid).await?;
        let told = match result {
            Ok(()) => {
                // Else the user is told that nobody knows.
                let a_while = host.with(|node| node.config.timeout) / 8;
                let until = host.now().saturating_add(a_while);
                transaction::confirm_undone(host, *cid, until).await?
            }
            // One wait is enough.
            Err(_) => !host.with(|node| node.is_abort_untold(*cid)),
        };
        if !undone || !told {
            result = Err(EBUSY);
        }
    }
    result
}

/// Drops what other owners have staged here of a commit that its committing node has given up and of
/// which we have promised nothing: no owner publishes it any more. After a restart we would not
/// know, and lost owners' parts would count as promised. Whether nothing is left.
async fn drop_guests<H: Host>(host: &H, cid: Cid) -> Result<bool> {
    let given_up = host.with(|node| node.guests.get(&cid).is_some() && !node.has_published(cid));
    match given_up {
        true => data_node::abort(host, cid).await,
        false => Ok(true),
    }
}

/// Undoes a commit, whatever it has come to here, unless it is decided. Whether nothing is
/// left of it; else that will be so soon.
pub(super) async fn give_up<H: Host>(host: &H, cid: Cid) -> Result<bool> {
    enum Step {
        Undo,
        Undone,
        Later,
    }
    let step = host.with(|node| {
        node.refuse(cid)?;
        node.incoming.remove(&cid);
        let Some(txn) = node.txns.get_mut(&cid) else {
            return Ok(Step::Undone);
        };
        Ok::<_, Error>(match txn.state {
            TxnState::Preparing => {
                txn.cancelled = true;
                Step::Later
            }
            TxnState::Prepared => {
                txn.state = TxnState::Finishing;
                Step::Undo
            }
            TxnState::Finishing => Step::Later,
            TxnState::Undone => Step::Undone,
            TxnState::Published => match txn.owners.is_empty() {
                true => Step::Undone,
                // The owners have decided it among themselves.
                false => Step::Later,
            },
        })
    })?;
    match step {
        Step::Undo => undo(host, cid).await.map(|()| true),
        Step::Undone => Ok(true),
        Step::Later => Ok(false),
    }
}

/// Drops the records of commits whose committing node knows their outcome.
async fn release<H: Host>(host: &H, from: Sender, cids: &[Cid]) -> Result {
    for cid in cids {
        check_cn(*cid, from)?;
        release_one(host, *cid).await?;
    }
    Ok(())
}

pub(super) async fn release_one<H: Host>(host: &H, cid: Cid) -> Result {
    let published = host.with(|node| {
        node.txns.get_mut(&cid).is_some_and(|txn| {
            let published = txn.state == TxnState::Published;
            if published {
                txn.state = TxnState::Finishing;
            }
            published
        })
    });
    match published {
        true => drop_record(host, cid).await,
        false => Ok(()),
    }
}

/// Whether a commit is of a life of `cn` whose successor's counters begin at `below`.
fn is_of_before(cid: Cid, cn: u32, below: u64) -> bool {
    u32::from(cid.node()) == cn && cid.counter() < below
}

/// A committing node began a new life, with commits from counter `below` on: nobody will ask for its old
/// commits with one owner again, nor send the rest of what it began to send.
pub(super) async fn drop_commits_of<H: Host>(host: &H, cn: u32, below: u64) -> Result {
    host.with(|node| {
        for (cid, txn) in node.txns.iter_mut() {
            if is_of_before(*cid, cn, below) {
                txn.orphan = true;
                txn.cancelled |= txn.state == TxnState::Preparing;
            }
        }
    });
    loop {
        let next = host.with(|node| {
            while let Some(cid) = node.incoming_of(cn, below) {
                node.incoming.remove(&cid);
            }
            node.txns
                .iter()
                .find(|(cid, txn)| {
                    // Of the others some owner may be in doubt.
                    is_of_before(**cid, cn, below)
                        && txn.state == TxnState::Published
                        && txn.owners.is_empty()
                })
                .map(|(cid, _)| *cid)
        });
        match next {
            Some(cid) => release_one(host, cid).await?,
            None => return Ok(()),
        }
    }
}

/// What became of a commit: of ours, or of one whose only owner we are.
pub(super) fn on_ask_outcome<H: Host>(host: &H, cid: Cid) -> Result<Outcome> {
    host.with(|node| {
        if u32::from(cid.node()) == node.id() {
            return Ok(match node.commits.get(&cid) {
                Some(Commit::Active(_)) => Outcome::Pending,
                Some(Commit::Decided { .. }) => Outcome::Committed,
                None if cid.counter() < node.first_counter => Outcome::Forgotten,
                None => Outcome::Aborted,
            });
        }
        match node.txns.get(&cid).map(|txn| txn.state) {
            Some(TxnState::Published) => Ok(Outcome::Committed),
            Some(_) => Ok(Outcome::Pending),
            // Our successor would find it staged at data nodes.
            None if node.is_abort_untold(cid) => Ok(Outcome::Pending),
            None => {
                node.refuse(cid)?;
                node.incoming.remove(&cid);
                Ok(Outcome::Aborted)
            }
        }
    })
}
