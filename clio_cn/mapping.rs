// SPDX-License-Identifier: GPL-2.0

//! Ranges of a RAS mapped into processes, through a local cache ([`Cache`]) of bounded size.

mod area;
mod transfer;

use self::{
    area::{Frame, Pages},
    transfer::Transfer,
};
use crate::{
    core::{
        cache::{Cache, Config, Fill, Stats, Touch},
        op::{Kind, PAGE_SHIFT},
        table::Key,
    },
    session::Shared,
    station::{self, Station},
};
use kernel::{
    mm::virt::VmaNew,
    new_condvar, new_mutex,
    prelude::*,
    sync::{Arc, CondVar, CondVarTimeoutResult, Mutex},
    time::msecs_to_jiffies,
};

/// A page, and a line.
pub(crate) const PAGE: u64 = 1 << PAGE_SHIFT;

/// Why a page is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Load,
    Store,
}

/// What became of an access.
enum Placed {
    /// As the installer said.
    Installed(u32),
    /// Nothing: it faults again.
    Again,
}

struct State {
    cache: Cache,
    /// The frame of each line; taken out while its bytes are moved.
    frames: KVVec<Option<Frame>>,
    /// A frame that no line has: the next page comes into it.
    spare: Option<Frame>,
    /// Where pages are mapped; once they ever were.
    pages: Option<Pages>,
    /// Areas that are mapped.
    areas: usize,
}

/// The local cache of an open.
#[pin_data(PinnedDrop)]
pub(crate) struct Cached {
    station: Arc<Station>,
    space: Key,
    stream: Key,
    shared: Arc<Shared>,
    #[pin]
    state: Mutex<State>,
    #[pin]
    moved: CondVar,
}

impl Cached {
    pub(crate) fn new(
        station: Arc<Station>,
        space: Key,
        config: Config,
        fresh: &[(u64, u64)],
    ) -> Result<Arc<Self>> {
        let mut cache = Cache::new(config)?;
        for (first, count) in fresh {
            cache.add_fresh(*first, *count)?;
        }
        let mut frames = KVVec::with_capacity(cache.lines(), GFP_KERNEL)?;
        for _ in 0..cache.lines() {
            frames.push(None, GFP_KERNEL)?;
        }
        let shared = Shared::new()?;
        let stream = station.with(|inner| inner.engine.add_stream())?;
        let again = station.clone();
        let this = Arc::pin_init(
            pin_init!(Self {
                station,
                space,
                stream,
                shared,
                state <- new_mutex!(State {
                    cache, frames, spare: None, pages: None, areas: 0,
                }, "clio_cache"),
                moved <- new_condvar!("clio_moved"),
            }),
            GFP_KERNEL,
        );
        if this.is_err() {
            again.with(|inner| inner.engine.remove_stream(stream));
        }
        this
    }

    /// Maps a range. `EINVAL` for a private mapping.
    pub(crate) fn map(&self, vma: &VmaNew) -> Result {
        let (pages, _, _) = area::set_up(vma)?;
        let mut state = self.state.lock();
        state.pages = Some(pages);
        state.areas += 1;
        Ok(())
    }

    /// There is one area more, or less.
    fn mapped(&self, more: bool) {
        let mut state = self.state.lock();
        state.areas = if more {
            state.areas + 1
        } else {
            state.areas.saturating_sub(1)
        };
    }

    /// Whether anybody maps it.
    pub(crate) fn is_mapped(&self) -> bool {
        self.state.lock().areas != 0
    }

    /// An area is no longer mapped: its stores go to the memory nodes.
    fn leave(&self, first: u64, last: u64) {
        if let Err(error) = self.flush(first, last) {
            pr_err!("stores to a mapping are lost when it is unmapped: {error:?}\n");
        }
        self.mapped(false);
    }

    pub(crate) fn stats(&self) -> Stats {
        self.state.lock().cache.stats()
    }

    /// Pages were allocated by this open: they are zeros.
    pub(crate) fn add_fresh(&self, first: u64, count: u64) {
        // Without memory for it, they are fetched.
        let _ = self.state.lock().cache.add_fresh(first, count);
    }

    /// Pages are written by other ways than this cache.
    pub(crate) fn forget_fresh(&self, first: u64, count: u64) {
        self.state.lock().cache.forget_fresh(first, count);
    }

    /// Waits until bytes were moved. `EINTR` when a fatal signal is pending.
    fn wait(&self, state: &mut kernel::sync::MutexGuard<'_, State>) -> Result {
        // Every move has a deadline; this one only makes sure that word of its end is not missed.
        match self
            .moved
            .wait_killable_timeout(state, msecs_to_jiffies(1000))
        {
            CondVarTimeoutResult::Signal { .. } => Err(EINTR),
            _ => Ok(()),
        }
    }

    /// Has a page here, and `install`s its frame, with the mutex held.
    fn access(&self, page: u64, access: Access, install: impl Fn(&Frame) -> u32) -> Result<Placed> {
        let store = access == Access::Store;
        let mut state = self.state.lock();
        loop {
            match state.cache.touch(page, store) {
                Touch::Hit(line) => {
                    let frame = state.frames.get(line).and_then(Option::as_ref);
                    return Ok(
                        frame.map_or(Placed::Again, |frame| Placed::Installed(install(frame)))
                    );
                }
                Touch::Busy => self.wait(&mut state)?,
                Touch::Fill(fill) => {
                    let old = state.frames.get_mut(fill.line).and_then(Option::take);
                    let (spare, pages) = (state.spare.take(), state.pages);
                    drop(state);
                    let filled = self.fill(&fill, old.as_ref(), spare, pages);
                    state = self.state.lock();
                    let (frame, rest, result) = match filled {
                        Ok(frame) => {
                            state.cache.filled(&fill, false);
                            (Some(frame), old, Ok(()))
                        }
                        Err((left, error)) => {
                            state.cache.unfilled(&fill, left);
                            (old, None, Err(error))
                        }
                    };
                    if let Some(slot) = state.frames.get_mut(fill.line) {
                        *slot = frame;
                    }
                    if rest.is_some() {
                        state.spare = rest;
                    }
                    self.moved.notify_all();
                    result?;
                }
            }
        }
    }

    /// Brings a page into a frame, and what is in the line's `old` frame home. On an error, whether
    /// that left all the same.
    fn fill(
        &self,
        fill: &Fill,
        old: Option<&Frame>,
        spare: Option<Frame>,
        pages: Option<Pages>,
    ) -> Result<Frame, (bool, Error)> {
        if let (Some(pages), Some(page)) = (pages, fill.rest) {
            pages.unmap(page);
        }
        if let (Some(pages), Some(victim)) = (pages, fill.victim) {
            pages.unmap(victim.page);
        }
        let dirty = fill.victim.filter(|victim| victim.dirty);
        // What was stored stays; a clean page can be had again.
        let failed = |error| (dirty.is_none(), error);
        let mut new = spare.map_or_else(Frame::new, Ok).map_err(failed)?;
        let addr = fill.page * PAGE;
        let sent = old.filter(|_| dirty.is_some()).map(|frame| &*frame.pages);
        let read = match (dirty, fill.zeros) {
            (None, false) => self.transfer(Kind::Read, addr, None, Some(new)),
            (Some(victim), false) => {
                let write = victim.page * PAGE;
                self.transfer(Kind::FlushFetch { write }, addr, sent, Some(new))
            }
            (dirty, true) => {
                if let Some(victim) = dirty {
                    self.transfer(Kind::Write, victim.page * PAGE, sent, None)
                        .map_err(failed)?;
                }
                new.pages.fill(0);
                Ok(Some(new))
            }
        };
        read.and_then(|frame| frame.ok_or(EIO)).map_err(failed)
    }

    /// Moves a page; what was read.
    fn transfer(
        &self,
        kind: Kind,
        addr: u64,
        sent: Option<&[u8]>,
        read: Option<Frame>,
    ) -> Result<Option<Frame>> {
        let until = self.station.deadline(0);
        let transfer = Transfer::new(self.shared.clone(), kind, sent, read)?;
        transfer.begin(&self.station, self.stream, self.space, addr, until)?;
        self.shared.wait_killable(|| transfer.is_over())?;
        transfer.finish()
    }

    /// Writes back what was stored to pages `first ..= last`.
    pub(crate) fn flush(&self, first: u64, last: u64) -> Result {
        let mut from = 0;
        let mut state = self.state.lock();
        loop {
            let flush = match state.cache.begin_flush(first, last, from) {
                None => return Ok(()),
                Some(Err(())) => {
                    self.wait(&mut state)?;
                    continue;
                }
                Some(Ok(flush)) => flush,
            };
            let frame = state.frames.get_mut(flush.line).and_then(Option::take);
            let pages = state.pages;
            drop(state);
            if let Some(pages) = pages {
                pages.unmap(flush.page);
            }
            let written = match &frame {
                Some(frame) => self
                    .transfer(Kind::Write, flush.page * PAGE, Some(&frame.pages), None)
                    .map(|_| ()),
                None => Err(EIO),
            };
            state = self.state.lock();
            if let Some(slot) = state.frames.get_mut(flush.line) {
                *slot = frame;
            }
            state.cache.flushed(&flush, written.is_ok());
            self.moved.notify_all();
            written?;
            from = flush.line;
        }
    }

    /// Drops pages `first ..= last`, with what was stored to them.
    pub(crate) fn drop_pages(&self, first: u64, last: u64) -> Result {
        let mut state = self.state.lock();
        loop {
            // With the mutex held nobody maps them anew.
            if let Some(pages) = state.pages {
                for page in state.cache.pages_in(first, last) {
                    pages.unmap(page);
                }
            }
            if state.cache.drop_pages(first, last) {
                return Ok(());
            }
            self.wait(&mut state)?;
        }
    }
}

#[pinned_drop]
impl PinnedDrop for Cached {
    fn drop(self: Pin<&mut Self>) {
        let stream = self.stream;
        self.station.with(|inner| inner.engine.close_stream(stream));
        let busy = || self.station.with(|inner| inner.engine.is_busy(stream));
        // Each operation has its deadline, so this ends.
        self.shared.settle(u64::MAX, || !busy());
        station::settle();
        self.station
            .with(|inner| inner.engine.remove_stream(stream));
    }
}
