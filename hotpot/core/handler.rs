// SPDX-License-Identifier: GPL-2.0

//! Requests of other nodes, and our requests to them.

use super::{
    barrier,
    cluster::Sender,
    data_node, dispatcher, eviction, grants,
    host::{Call, CallError, Host, Level, Piece},
    integrity, lives, migrate,
    msg::{self, Head, Reader, Request, Wire, Writer},
    outcome, owner, participant, records, remains, resolve, rooms, spread, take, takeover,
    tombstones, writers,
};
use kernel::prelude::*;

/// Executes a request; returns the length of the reply in `reply`.
///
/// EBADMSG, EPROTONOSUPPORT, EOPNOTSUPP: not a request of ours. ESTALE: from an
/// older epoch. ENOTCONN: the mount is not (or no more) serving. Else an answer to the request.
pub async fn handle<H: Host>(
    host: &H,
    from: Sender,
    request: &[u8],
    reply: &mut [u8],
) -> Result<usize> {
    let result = dispatch(host, from, request, reply).await;
    if let Err(error @ (EBADMSG | EPROTONOSUPPORT | EOPNOTSUPP)) = result {
        host.log(
            Level::Warning,
            format_args!(
                "refused a malformed request of {} bytes from node {} ({error:?})",
                request.len(),
                from.node
            ),
        );
    }
    result
}

async fn dispatch<H: Host>(
    host: &H,
    from: Sender,
    request: &[u8],
    reply: &mut [u8],
) -> Result<usize> {
    let mut body = Reader::new(request);
    let head = Head::get(&mut body)?;
    host.with(|node| {
        node.check_ready()?;
        let epoch = head.epoch.min(from.epoch);
        if epoch < node.map.epoch {
            return Err(ESTALE);
        }
        Ok(())
    })?;
    let body = &mut body;
    match head.opcode {
        msg::Hello::OPCODE => {
            let hello = whole(body)?;
            put(&lives::on_hello(host, from, &hello).await?, reply)
        }
        msg::Fetch::OPCODE => owner::on_fetch(host, from, &whole(body)?, reply).await,
        msg::PrepareData::OPCODE => {
            participant::on_prepare_data(host, from, request)?;
            put(&(), reply)
        }
        msg::Prepare::OPCODE => {
            let prepare = msg::Prepare::get(body)?;
            participant::on_prepare(host, from, &prepare, body.rest()).await?;
            put(&(), reply)
        }
        msg::Publish::OPCODE => {
            let publish: msg::Publish = whole(body)?;
            participant::publish(host, publish.cid).await?;
            put(&(), reply)
        }
        msg::Forget::OPCODE => {
            participant::on_forget(host, from, &whole(body)?).await?;
            put(&(), reply)
        }
        msg::AskOutcome::OPCODE => {
            let ask: msg::AskOutcome = whole(body)?;
            put(&participant::on_ask_outcome(host, ask.cid)?, reply)
        }
        msg::Stage::OPCODE => {
            let stage = msg::Stage::get(body)?;
            let done = data_node::on_stage(host, from, &stage, body.rest()).await?;
            put(&done, reply)
        }
        msg::Settle::OPCODE => {
            data_node::on_settle(host, &whole(body)?).await?;
            put(&(), reply)
        }
        msg::Inventory::OPCODE => {
            let verdicts = owner::on_inventory(host, from, &whole(body)?)?;
            put(&verdicts, reply)
        }
        integrity::Salvage::OPCODE => integrity::on_salvage(host, &whole(body)?, reply),
        rooms::AskRoom::OPCODE => put(&rooms::on_ask_room(host, from, &whole(body)?)?, reply),
        spread::Adopt::OPCODE => put(&spread::on_adopt(host, &whole(body)?).await?, reply),
        migrate::Offer::OPCODE => put(&migrate::on_offer(host, &whole(body)?), reply),
        eviction::Evict::OPCODE => {
            let words = eviction::on_evict(host, from, &whole(body)?)?;
            put(&words, reply)
        }
        msg::AskRecords::OPCODE => records::on_ask_records(host, from, &whole(body)?, reply),
        msg::SetRecord::OPCODE => {
            let set: msg::SetRecord<'_> = whole(body)?;
            records::on_set_record(host, set.record).await?;
            put(&(), reply)
        }
        msg::ChangeNames::OPCODE => {
            let change: msg::ChangeNames<'_> = whole(body)?;
            let until = within(host, change.budget_ms);
            let id = dispatcher::change_at_dispatcher(host, &change.change, until).await?;
            put(&id, reply)
        }
        msg::Retire::OPCODE => {
            tombstones::on_retire(host, &whole(body)?)?;
            put(&(), reply)
        }
        msg::Acquire::OPCODE => {
            writers::on_acquire(host, from, &whole(body)?)?;
            put(&(), reply)
        }
        msg::Release::OPCODE => {
            writers::on_release(host, from, &whole(body)?)?;
            put(&(), reply)
        }
        msg::AskGrants::OPCODE => {
            let claims = grants::on_ask_grants(host, from.node, &whole(body)?)?;
            put(&claims, reply)
        }
        msg::AskPart::OPCODE => {
            let ask: msg::AskPart = whole(body)?;
            put(&resolve::on_ask_part(host, from, ask.cid)?, reply)
        }
        msg::AskCopies::OPCODE => {
            let copies = takeover::on_ask_copies(host, from, &whole(body)?)?;
            put(&copies, reply)
        }
        msg::AskWriters::OPCODE => {
            let claims = writers::on_ask_writers(host, from, &whole(body)?)?;
            put(&claims, reply)
        }
        msg::AskStaged::OPCODE => {
            let remains = remains::on_ask_staged(host, from, &whole(body)?)?;
            put(&remains, reply)
        }
        msg::TakeCopies::OPCODE => take::on_take_copies(host, &whole(body)?, reply),
        msg::Fate::OPCODE => {
            let fate: msg::Fate = whole(body)?;
            let outcome = match fate.for_user {
                true => outcome::on_ask_fate(host, fate.cid),
                false => takeover::on_ask_fate(host, fate.cid),
            };
            put(&outcome, reply)
        }
        msg::AskTrace::OPCODE => {
            let ask: msg::AskTrace = whole(body)?;
            put(&outcome::on_ask_trace(host, from, ask.cid)?, reply)
        }
        msg::Arrive::OPCODE => put(&barrier::on_arrive(host, from, &whole(body)?)?, reply),
        _ => Err(EOPNOTSUPP),
    }
}

/// A request without data behind it.
fn whole<'a, T: Wire<'a>>(body: &mut Reader<'a>) -> Result<T> {
    let value = T::get(body)?;
    body.end()?;
    Ok(value)
}

/// Writes a reply.
pub(super) fn put<T: for<'a> Wire<'a>>(value: &T, reply: &mut [u8]) -> Result<usize> {
    let mut to = Writer::default();
    value.put(&mut to)?;
    let bytes = to.finish();
    reply
        .get_mut(..bytes.len())
        .ok_or(EMSGSIZE)?
        .copy_from_slice(&bytes);
    Ok(bytes.len())
}

/// The time in `ms`, or before.
pub(super) fn within<H: Host>(host: &H, ms: u32) -> u64 {
    host.now().saturating_add(u64::from(ms) * 1_000_000)
}

/// ms until a deadline, rounded down, less a quarter that stays for our own part.
pub(super) fn budget_ms<H: Host>(host: &H, until: u64) -> u32 {
    let left = until.saturating_sub(host.now());
    u32::try_from((left - left / 4) / 1_000_000).unwrap_or(u32::MAX)
}

/// The deadline of one call of an operation that may go on until `until`.
pub(super) fn call_until<H: Host>(host: &H, until: u64) -> u64 {
    let timeout = host.with(|node| node.config.timeout);
    until.min(host.now().saturating_add(timeout))
}

/// Sends one request and decodes its reply.
pub(super) async fn ask<'a, H: Host, R: Request<'a>>(
    host: &H,
    dst: u32,
    request: &R,
    until: u64,
) -> Result<R::Reply, CallError> {
    let epoch = host.with(|node| node.map.epoch);
    let local = CallError::NotExecuted;
    let header = request.encode(epoch).map_err(local)?;
    let mut pieces = KVec::new();
    pieces
        .push(Piece::Bytes(&header), GFP_KERNEL)
        .map_err(|_| local(ENOMEM))?;
    let mut calls = [call(dst, pieces, REPLY_ROOM, until).map_err(local)?];
    host.call(&mut calls).await;
    let [call] = calls;
    reply_of::<R>(&call)
}

/// Room for a reply without data.
const REPLY_ROOM: usize = 1024;

/// A call to send.
pub(super) fn call(
    dst: u32,
    request: KVec<Piece<'_>>,
    reply: usize,
    until: u64,
) -> Result<Call<'_>> {
    Ok(Call {
        dst,
        request,
        reply: KVec::from_elem(0, reply, GFP_KERNEL)?,
        until,
        answer: Err(CallError::Lost(ETIMEDOUT)),
    })
}

/// The reply to a call.
pub(super) fn reply_of<'a, R: Request<'a>>(call: &Call<'_>) -> Result<R::Reply, CallError> {
    let len = call.answer?;
    let bytes = call.reply.get(..len).unwrap_or(&[]);
    R::Reply::get(&mut Reader::new(bytes)).map_err(unread)
}

/// A reply came and could not be read.
pub(super) fn unread(error: Error) -> CallError {
    CallError::Lost(match error {
        ENOMEM => ENOMEM,
        // One that makes no sense tells no more than none.
        _ => ETIMEDOUT,
    })
}

/// What a user hears of a call that did not succeed.
pub(super) fn errno(error: CallError) -> Error {
    match error {
        CallError::Handler(ENOTCONN) | CallError::NotExecuted(ENOENT) => EHOSTDOWN,
        CallError::Handler(error) | CallError::NotExecuted(error) | CallError::Lost(error) => error,
    }
}
