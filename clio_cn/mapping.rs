// SPDX-License-Identifier: GPL-2.0

//! Ranges of a RAS mapped into processes, through a local cache ([`Cache`]) of bounded size.

mod transfer;

use self::transfer::Transfer;
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
    mm::{
        device_area::{AreaFault, AreaKind, AreaPage, AreaPages, DeviceArea},
        fault::{FaultError, MkWrite},
        virt::VmaNew,
    },
    new_condvar, new_mutex,
    prelude::*,
    sync::{Arc, ArcBorrow, CondVar, CondVarTimeoutResult, Mutex, UniqueArc},
    time::msecs_to_jiffies,
};

/// A page, and a line.
pub(crate) const PAGE: u64 = 1 << PAGE_SHIFT;

struct State {
    cache: Cache,
    /// The frame of each line; taken out while its bytes are moved.
    frames: KVVec<Option<Arc<AreaPage>>>,
    /// A frame that no line has: the next page comes into it.
    spare: Option<UniqueArc<AreaPage>>,
}

/// The local cache of an open.
#[pin_data(PinnedDrop)]
pub(crate) struct Cached {
    station: Arc<Station>,
    space: Key,
    stream: Key,
    shared: Arc<Shared>,
    /// Those that processes have: an address in the RAS is an offset.
    pages: Arc<AreaPages<AreaPage>>,
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
        let pages = AreaPages::new()?;
        let stream = station.with(|inner| inner.engine.add_stream())?;
        let again = station.clone();
        let this = Arc::pin_init(
            pin_init!(Self {
                station,
                space,
                stream,
                shared,
                pages,
                state <- new_mutex!(State {
                    cache, frames, spare: None,
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
    pub(crate) fn map(self: &Arc<Self>, vma: &VmaNew) -> Result {
        // A mixed map: unlike in a map of frame numbers, MADV_DONTNEED is allowed there.
        self.pages.map(vma, AreaKind::Mixed, self.clone())
    }

    /// Whether anybody maps it.
    pub(crate) fn is_mapped(&self) -> bool {
        self.pages.is_mapped()
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

    /// Takes a page out of all processes.
    fn unmap(&self, page: u64) {
        self.pages.unmap(page as usize, 1);
    }

    /// Has a page here, and `install`s its frame, with the mutex held. `None`: it faults again.
    fn access<T>(
        &self,
        page: u64,
        store: bool,
        install: impl FnOnce(&Arc<AreaPage>) -> T,
    ) -> Result<Option<T>> {
        let mut state = self.state.lock();
        loop {
            match state.cache.touch(page, store) {
                Touch::Hit(line) => {
                    let frame = state.frames.get(line).and_then(Option::as_ref);
                    return Ok(frame.map(install));
                }
                Touch::Busy => self.wait(&mut state)?,
                Touch::Fill(fill) => {
                    let old = state.frames.get_mut(fill.line).and_then(Option::take);
                    let spare = state.spare.take();
                    drop(state);
                    let gone = [fill.rest, fill.victim.map(|victim| victim.page)];
                    for page in gone.into_iter().flatten() {
                        self.unmap(page);
                    }
                    // No process has it any more, and no fault finds it: it is ours.
                    let mut old = old.and_then(AreaPage::take_back);
                    let filled = self.fill(&fill, old.as_mut(), spare);
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
                        *slot = frame.map(Arc::from);
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
        old: Option<&mut UniqueArc<AreaPage>>,
        spare: Option<UniqueArc<AreaPage>>,
    ) -> Result<UniqueArc<AreaPage>, (bool, Error)> {
        let dirty = fill.victim.filter(|victim| victim.dirty);
        // What was stored stays; a clean page can be had again.
        let failed = |error| (dirty.is_none(), error);
        let mut new = spare.map_or_else(AreaPage::zeroed, Ok).map_err(failed)?;
        let addr = fill.page * PAGE;
        let sent = old.filter(|_| dirty.is_some()).map(|frame| &*frame.bytes());
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
                new.bytes().fill(0);
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
        read: Option<UniqueArc<AreaPage>>,
    ) -> Result<Option<UniqueArc<AreaPage>>> {
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
            drop(state);
            self.unmap(flush.page);
            // No process has it any more, and no fault finds it: it is ours.
            let mut frame = frame.and_then(AreaPage::take_back);
            let written = match &mut frame {
                Some(frame) => self
                    .transfer(Kind::Write, flush.page * PAGE, Some(frame.bytes()), None)
                    .map(|_| ()),
                None => Err(EIO),
            };
            state = self.state.lock();
            if let Some(slot) = state.frames.get_mut(flush.line) {
                *slot = frame.map(Arc::from);
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
            for page in state.cache.pages_in(first, last) {
                self.unmap(page);
            }
            if state.cache.drop_pages(first, last) {
                return Ok(());
            }
            self.wait(&mut state)?;
        }
    }
}

impl DeviceArea for Cached {
    type Memory = AreaPage;

    fn fault(this: ArcBorrow<'_, Self>, fault: &AreaFault<'_, Self>) -> Result<(), FaultError> {
        let (page, store) = (fault.page_offset() as u64, fault.is_write());
        // For a load the entry is read-only: the first store is seen in `make_writable`.
        match this.access(page, store, |frame| fault.insert(frame, 0, store)) {
            Ok(Some(inserted)) => inserted,
            Ok(None) | Err(EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_writable(
        this: ArcBorrow<'_, Self>,
        fault: &AreaFault<'_, Self>,
    ) -> Result<MkWrite, FaultError> {
        // If the page is unmapped before the entry becomes writable, the store faults again.
        match this.access(fault.page_offset() as u64, true, |_| ()) {
            Ok(Some(())) => Ok(MkWrite::MakeWritable),
            Ok(None) | Err(EINTR) => Ok(MkWrite::Installed),
            Err(_) => Err(FaultError::Bus),
        }
    }

    /// Its stores go to the memory nodes.
    fn closing(this: ArcBorrow<'_, Self>, first: usize, count: usize) {
        let last = (first + count) as u64 - 1;
        if let Err(error) = this.flush(first as u64, last) {
            pr_err!("stores to a mapping are lost when it is unmapped: {error:?}\n");
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
