// SPDX-License-Identifier: GPL-2.0

//! Where processes of this node have a region of it in their own address spaces.
//!
//! A page is given to a process when it is touched, if the mapping has the rights at that moment. Whoever
//! takes rights away does so first and then takes all pages out of all processes: what they touch next
//! asks again. The memory stays as long as any process has a page of it.
//!
//! Locks: `Areas::state`, then those of a mapping and of the registry, and of the kernel's address spaces.
//! It is taken under `Regions::mappings`, and by page faults: user memory is not touched while it is held.

use super::mapping::Mapping;
use crate::core::region::Rights;
use kernel::{
    mm::{
        device_area::{AreaFault, AreaKind, AreaPages, DeviceArea},
        fault::{FaultError, MkWrite},
        virt::{flags, VmaNew},
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    rdma::DmaBuffer,
    sync::{Arc, ArcBorrow, Mutex},
};

/// Where the pages of the region are.
#[derive(Clone)]
struct Place {
    /// In processes.
    pages: Arc<AreaPages<DmaBuffer>>,
    /// In the file: which page is the first, and how many there are.
    first: usize,
    count: usize,
}

#[derive(Default)]
struct State {
    /// Once it was first mapped.
    place: Option<Place>,
    /// Nothing is shown any more.
    over: bool,
}

/// The areas of a mapping.
#[pin_data]
pub(crate) struct Areas {
    #[pin]
    state: Mutex<State>,
}

impl Areas {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            state <- new_mutex!(State::default(), "lite_areas"),
        })
    }

    /// The mapping lost rights; `over`: all, for ever. Takes all pages out of all processes.
    pub(super) fn take_away(&self, over: bool) {
        let mut state = self.state.lock();
        state.over |= over;
        if let Some(place) = &state.place {
            place.pages.unmap(place.first, place.count);
        }
    }
}

/// What an access to a page needs.
fn needed(write: bool) -> Rights {
    match write {
        // Processors have no pages that can be written and not read.
        true => Rights::READ.or(Rights::WRITE),
        false => Rights::READ,
    }
}

impl Mapping {
    /// Pages that processes here can map; [`EOPNOTSUPP`] when the region is of another node, or of
    /// memory that a process lent.
    pub(crate) fn pages(&self) -> Result<u64> {
        if !self.is_local() || self.lent.is_some() {
            return Err(EOPNOTSUPP);
        }
        let (_, memory) = self.host.memory(self.holder(), Rights::NONE)?;
        memory.page(0).map_err(|_| EOPNOTSUPP)?;
        Ok(memory.geometry().len.div_ceil(PAGE_SIZE as u64))
    }

    /// Shows the region in an area that is being mapped, whose first page is `page` of the region.
    /// [`EACCES`]: the mapping has not the rights, or the area is for code; [`EINVAL`]: it is private.
    pub(crate) fn map_area(self: &Arc<Self>, vma: &VmaNew, page: u64) -> Result {
        if vma.flags() & flags::SHARED == 0 {
            return Err(EINVAL);
        }
        if vma.executable() {
            return Err(EACCES);
        }
        let need = needed(vma.writable());
        let (_, memory) = self.during(need, |_| self.host.memory(self.holder(), need))?;
        vma.try_clear_mayexec()?;
        if self.during(Rights::WRITE, |_| Ok(())).is_err() {
            vma.try_clear_maywrite()?;
        }
        let page = usize::try_from(page).map_err(|_| ENXIO)?;
        let first = vma.page_offset().checked_sub(page).ok_or(ENXIO)?;
        let count = memory.geometry().len.div_ceil(PAGE_SIZE as u64) as usize;
        let mut state = self.areas.state.lock();
        if state.over {
            return Err(ESTALE);
        }
        let pages = match &state.place {
            Some(place) => place.pages.clone(),
            None => AreaPages::new()?,
        };
        state.place = Some(Place {
            pages: pages.clone(),
            first,
            count,
        });
        pages.map(vma, AreaKind::Frames, self.clone())
    }

    /// A process touches a page: `install` is given where it lies, in pages, and whether it can be
    /// written.
    fn touched<T>(
        &self,
        page_in_file: usize,
        write: bool,
        install: impl FnOnce(&Arc<DmaBuffer>, usize, bool) -> T,
    ) -> Result<T> {
        let state = self.areas.state.lock();
        let place = state.place.as_ref().filter(|_| !state.over).ok_or(ESTALE)?;
        let page = page_in_file.checked_sub(place.first).ok_or(ERANGE)? as u64;
        let need = needed(write);
        let (rights, memory) = self.during(need, |_| self.host.memory(self.holder(), need))?;
        let writable = self.rights().and(rights).includes(Rights::WRITE);
        let (buffer, start) = memory.page(page)?;
        let installed = install(buffer, start / PAGE_SIZE, writable);
        // Until here nobody took the page away.
        drop(state);
        Ok(installed)
    }
}

impl DeviceArea for Mapping {
    type Memory = DmaBuffer;

    fn fault(this: ArcBorrow<'_, Self>, fault: &AreaFault<'_, Self>) -> Result<(), FaultError> {
        let placed = this.touched(
            fault.page_offset(),
            fault.is_write(),
            |buffer, page, writable| fault.insert(buffer, page, writable),
        );
        placed.unwrap_or(Err(FaultError::Bus))
    }

    fn make_writable(
        this: ArcBorrow<'_, Self>,
        fault: &AreaFault<'_, Self>,
    ) -> Result<MkWrite, FaultError> {
        // If the page is taken away before the entry becomes writable, the store faults again.
        match this.touched(fault.page_offset(), true, |_, _, _| ()) {
            Ok(()) => Ok(MkWrite::MakeWritable),
            Err(_) => Err(FaultError::Bus),
        }
    }
}
