// SPDX-License-Identifier: GPL-2.0

//! A disk that is on: requests become operations, and end when the core says so.

mod maps;
mod repair;
mod start;

pub(super) use self::maps::Watch;

use super::{
    buffers::{Buffer, Pool},
    copies::Place,
    part::{reserves, Bytes, Io, Part},
    Settings,
};
use crate::{
    core::{
        disk::{
            record::{MAX_COPIES, RECORD_LEN},
            Action, Disk as Core, Io as Wish, Key, Status, What,
        },
        op::{Kind, NewOp},
    },
    station::{now, Station},
    THIS_MODULE,
};
use kernel::{
    block::disk::{Driver, Operation, Request},
    impl_has_delayed_work, impl_has_work,
    page::PAGE_SHIFT,
    prelude::*,
    sync::{Arc, ArcBorrow, Completion, SpinLockBh},
    time::msecs_to_jiffies,
    workqueue::{DelayedWork, Work, WorkItem},
};

/// Requests of a queue; queues.
pub(super) const DEPTH: u32 = 64;
pub(super) const QUEUES: u32 = 2;
/// Most bytes of a request, and of what is copied at once.
pub(super) const MAX_BYTES: u32 = 64 << 10;
const BYTES_ORDER: u32 = MAX_BYTES.trailing_zeros() - PAGE_SHIFT as u32;
const RECORD_ORDER: u32 = (RECORD_LEN as u32).trailing_zeros() - PAGE_SHIFT as u32;
/// Buffers that packets still have when their request is over.
const SPARE: usize = 16;
const MS: u64 = 1_000_000;
const TICK_MS: u32 = 200;

struct State {
    core: Core<u32>,
    /// Where the copies are.
    places: [Option<Place>; MAX_COPIES],
    /// Where those that were left out are, until nothing is under way there.
    left: KVec<Place>,
    /// Requests, by their tags.
    requests: KVec<Option<Arc<Io>>>,
    /// What is being copied.
    chunk: Option<Arc<Buffer>>,
    stopping: bool,
    result: Result,
}

/// A disk that is on.
#[pin_data]
pub(super) struct Volume {
    /// Whoever switched the disk on keeps it in use. The last operation to go may be that of a
    /// packet, which must not be what ends the station.
    station: Arc<Station>,
    settings: Settings,
    size: u64,
    #[pin]
    state: SpinLockBh<State>,
    data: Arc<Pool>,
    chunks: Arc<Pool>,
    records: Arc<Pool>,
    #[pin]
    tick: DelayedWork<Volume, 0>,
    #[pin]
    repair: Work<Volume, 1>,
    #[pin]
    stopped: Completion,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Volume, 0> for Volume { self.tick }
}
impl_has_work! {
    impl HasWork<Volume, 1> for Volume { self.repair }
}

impl Volume {
    /// Bytes of the disk.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn status(&self) -> Status {
        self.state.lock().core.status()
    }

    /// Nodes of the copies, and whether each may be read.
    pub(super) fn copies(&self) -> [(u32, bool); MAX_COPIES] {
        let mut all = [(0, false); MAX_COPIES];
        for (slot, copy) in self.state.lock().core.copies() {
            if let Some(entry) = all.get_mut(slot) {
                *entry = (copy.node, copy.is_in_sync());
            }
        }
        all
    }

    fn tick_later(self: &Arc<Self>) {
        let queue = self.station.queue();
        queue.enqueue_or_move::<_, 0>(self.clone(), msecs_to_jiffies(TICK_MS));
    }

    /// An operation is over.
    pub(super) fn part_done(self: &Arc<Self>, op: Key, fetched: Option<Buffer>, result: Result) {
        let mut result = match result {
            Err(ENOMEM) => Err(EAGAIN),
            result => result,
        };
        let mut chunk = None;
        if let (Some(buffer), Ok(())) = (fetched, result) {
            match Arc::new(buffer, reserves()) {
                Ok(buffer) => chunk = Some(buffer),
                Err(_) => result = Err(EAGAIN),
            }
        }
        {
            let mut state = self.state.lock();
            if chunk.is_some() {
                // The one before is not used any more.
                ::core::mem::swap(&mut state.chunk, &mut chunk);
            }
            state.core.done(now(), op, result);
        }
        drop(chunk);
        self.drive();
    }

    /// Does what the core says.
    fn drive(self: &Arc<Self>) {
        loop {
            let mut state = self.state.lock();
            let Some(action) = state.core.poll(now()) else {
                return;
            };
            match action {
                Action::Start {
                    op,
                    slot,
                    what,
                    at,
                    len,
                } => {
                    let begun = self.begin_part(&state, op, slot, what, at, len);
                    drop(state);
                    let begun = begun.and_then(|new| self.station.submit_more(new));
                    if let Err(e) = begun {
                        let e = if e == ENOMEM { EAGAIN } else { e };
                        self.state.lock().core.done(now(), op, Err(e));
                    }
                }
                Action::Complete { token, result } => {
                    let io = state
                        .requests
                        .get_mut(token as usize)
                        .and_then(Option::take);
                    drop(state);
                    if let Some(io) = io {
                        io.end(result);
                    }
                }
                Action::Lost { slot, copy, error } => {
                    let place = state.places.get_mut(slot).and_then(Option::take);
                    if let Some(place) = place {
                        // Without room for it, it stays attached to until the module goes.
                        let _ = state.left.push_within_capacity(place);
                    }
                    drop(state);
                    self.settings.warn(fmt!(
                        "the copy at node {} is left out: {error:?}",
                        copy.node
                    ));
                    self.repair_later();
                }
                Action::Filled { slot } => {
                    let node = state
                        .core
                        .copies()
                        .find(|(at, _)| *at == slot)
                        .map(|(_, copy)| copy.node);
                    drop(state);
                    self.settings
                        .warn(fmt!("the copy at node {} is in sync", node.unwrap_or(0)));
                }
                Action::Stopped(result) => {
                    state.result = result;
                    drop(state);
                    self.stopped.complete_all();
                }
            }
        }
    }

    /// What an operation of the core is to the engine.
    fn begin_part(
        self: &Arc<Self>,
        state: &State,
        op: Key,
        slot: usize,
        what: What<u32>,
        at: u64,
        len: u64,
    ) -> Result<NewOp<crate::job::Half>> {
        let place = state.places.get(slot).and_then(Option::as_ref).ok_or(EIO)?;
        let io = |token: u32| {
            let io = state.requests.get(token as usize).and_then(Option::as_ref);
            io.cloned().ok_or(EIO)
        };
        let mut fetched = None;
        let (kind, bytes) = match what {
            What::Read(token) => (Kind::Read, Bytes::Request(io(token)?)),
            What::Write(token) => (Kind::Write, Bytes::Request(io(token)?)),
            What::Zero => (Kind::Zero, Bytes::None),
            What::Fence => (Kind::Fence, Bytes::None),
            What::Fetch => {
                fetched = Some(self.chunks.take().ok_or(EAGAIN)?);
                (Kind::Read, Bytes::None)
            }
            What::Store => (Kind::Write, Bytes::Out(state.chunk.clone().ok_or(EIO)?)),
            What::Record => {
                let mut buffer = self.records.take().ok_or(EAGAIN)?;
                state.core.encode(slot, &mut buffer)?;
                (Kind::Write, Bytes::Out(Arc::new(buffer, reserves())?))
            }
        };
        Ok(NewOp {
            stream: place.stream,
            space: place.space,
            kind,
            addr: place.base + at,
            len,
            until: self.station.deadline(self.settings.timeout_ms),
            data: Part::half(self.clone(), op, bytes, len as usize, fetched)?,
        })
    }

    fn repair_later(self: &Arc<Self>) {
        let _ = self.station.queue().enqueue::<_, 1>(self.clone());
    }
}

impl WorkItem<0> for Volume {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        let (stopping, repair) = {
            let mut state = this.state.lock();
            state.core.tick(now());
            let lacks =
                !state.left.is_empty() || state.core.vacancy().is_some() && this.settings.repair;
            (state.stopping, lacks)
        };
        this.drive();
        this.station.go_on();
        if repair && !stopping {
            this.repair_later();
        }
        if !stopping {
            this.tick_later();
        }
    }
}

impl Driver for Volume {
    type Data = ();

    const OWNER: Option<&'static ThisModule> = Some(&THIS_MODULE);

    fn new_data(&self) -> impl PinInit<(), Error> {
        Ok::<(), Error>(())
    }

    fn queue(this: ArcBorrow<'_, Self>, request: Request<Self>, _last: bool) {
        let volume: Arc<Self> = this.into();
        let (wish, offset, len) = match request.operation() {
            Operation::Read => (Wish::Read, request.offset(), request.len() as u64),
            Operation::Write => (Wish::Write, request.offset(), request.len() as u64),
            Operation::Flush => (Wish::Flush, 0, 0),
            Operation::Discard | Operation::WriteZeroes => {
                (Wish::Zero, request.offset(), request.len() as u64)
            }
        };
        let bytes = if wish == Wish::Write {
            let Some(mut buffer) = volume.data.take() else {
                return request.requeue();
            };
            let copied = match buffer.get_mut(..request.len()) {
                Some(to) => request.copy_to(0, to),
                None => Err(EIO),
            };
            if let Err(e) = copied {
                return request.end(Err(e));
            }
            Some(buffer)
        } else {
            None
        };
        let tag = request.tag();
        let token = (tag >> 16) * DEPTH + (tag & 0xffff);
        let Ok(room) = Io::room() else {
            return request.requeue();
        };
        let io = Io::new(room, request, bytes);
        let submitted = {
            let mut state = volume.state.lock();
            let submitted = state.core.submit(wish, offset, len, token);
            if let (Ok(()), Some(place)) = (submitted, state.requests.get_mut(token as usize)) {
                *place = Some(io.clone());
            }
            submitted
        };
        if let Err(e) = submitted {
            return io.end(Err(e));
        }
        volume.drive();
        volume.station.go_on();
    }
}

/// For the operations of a disk, of the node's engine.
impl Station {
    /// Lets the engine go on, after [`Station::submit_more`].
    pub(super) fn go_on(self: &Arc<Self>) {
        self.with(|_| ());
    }
}
