// SPDX-License-Identifier: GPL-2.0

//! Windows: memory regions that are open for the time of one call.

use kernel::{
    prelude::*,
    rdma::{FastRegMr, Pd},
    sync::{Arc, Completion},
};

/// Pages that a window covers at most.
const PAGES: u32 = 257;
/// Regions that a link keeps for the next call.
const KEPT: usize = 16;

/// A memory region, and what waits for its invalidation.
#[pin_data]
pub(crate) struct Region {
    pub(super) mr: Arc<FastRegMr>,
    #[pin]
    pub(super) hidden: Completion,
}

impl Region {
    fn new(pd: &Arc<Pd>) -> Result<Arc<Self>> {
        let mr = FastRegMr::new(pd, PAGES.min(pd.device().max_fast_reg_pages()))?;
        Arc::pin_init(
            pin_init!(Self { mr, hidden <- Completion::new() }),
            GFP_KERNEL,
        )
    }
}

/// An open window.
pub(crate) struct Window {
    pub(super) region: Arc<Region>,
    pub(super) slot: usize,
}

impl Window {
    /// Where the peer finds it.
    pub(crate) fn addr(&self) -> u64 {
        self.region.mr.addr()
    }

    /// The key that opens it.
    pub(crate) fn rkey(&self) -> u32 {
        self.region.mr.rkey()
    }
}

/// The regions of a link: those that are idle, and those whose invalidation is waited for.
pub(super) struct Regions {
    idle: KVec<Arc<Region>>,
    open: KVec<Option<Arc<Region>>>,
}

impl Regions {
    pub(super) const fn new() -> Self {
        Self {
            idle: KVec::new(),
            open: KVec::new(),
        }
    }

    pub(super) fn take_idle(&mut self) -> Option<Arc<Region>> {
        self.idle.pop()
    }

    pub(super) fn make(pd: &Arc<Pd>) -> Result<Arc<Region>> {
        Region::new(pd)
    }

    /// Notes a region as open; returns its slot, by which its completion finds it.
    pub(super) fn open(&mut self, region: Arc<Region>) -> Result<Window> {
        let slot = match self.open.iter().position(Option::is_none) {
            Some(slot) => {
                self.open[slot] = Some(region.clone());
                slot
            }
            None => {
                self.open.push(Some(region.clone()), GFP_ATOMIC)?;
                self.open.len() - 1
            }
        };
        Ok(Window { region, slot })
    }

    /// The device has shut the window of this slot.
    pub(super) fn hidden(&self, slot: usize) {
        if let Some(Some(region)) = self.open.get(slot) {
            region.hidden.complete();
        }
    }

    /// The window is shut; returns the region unless it was kept for the next call.
    pub(super) fn close(&mut self, window: Window, reuse: bool) -> Option<Arc<Region>> {
        let noted = self.open[window.slot].take();
        if reuse
            && self.idle.len() < KEPT
            && self.idle.push(window.region.clone(), GFP_ATOMIC).is_ok()
        {
            return None;
        }
        drop(noted);
        Some(window.region)
    }

    pub(super) fn take_all(&mut self) -> KVec<Arc<Region>> {
        core::mem::take(&mut self.idle)
    }
}
