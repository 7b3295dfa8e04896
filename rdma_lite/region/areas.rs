// SPDX-License-Identifier: GPL-2.0

//! Where processes of this node have a region of it in their own address spaces.
//!
//! A page is given to a process when it is touched, if the mapping has the rights at that moment. Whoever
//! takes rights away does so first and then takes all pages out of all processes: what they touch next
//! asks again. The memory stays as long as any process has a page of it.
//!
//! Locks: `Areas::state`, then those of a mapping and of the registry, and of the kernel's address spaces.
//! It is taken under `Regions::mappings`, and by page faults: user memory is not touched while it is held.

mod area;

pub(crate) use self::area::range as area_range;
use self::area::Pages;
use super::{mapping::Mapping, memory::Memory};
use crate::core::region::Rights;
use kernel::{
    mm::virt::{flags, VmaNew},
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{Arc, Mutex},
};

#[derive(Default)]
struct State {
    /// Areas that there are.
    count: usize,
    /// Where they are; while there are any.
    pages: Option<Pages>,
    /// What they show, as long as they may.
    memory: Option<Arc<Memory>>,
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
        if let Some(pages) = state.pages {
            pages.unmap();
        }
        let memory = match over {
            true => state.memory.take(),
            false => None,
        };
        drop(state);
        drop(memory);
    }

    /// There is one more, a copy or a part of another.
    fn opened(&self) {
        self.state.lock().count += 1;
    }

    /// There is one less, and it has no pages any more.
    fn closed(&self) {
        let mut state = self.state.lock();
        state.count = state.count.saturating_sub(1);
        if state.count != 0 {
            return;
        }
        state.pages = None;
        let memory = state.memory.take();
        drop(state);
        drop(memory);
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
        let mut state = self.areas.state.lock();
        if state.over {
            return Err(ESTALE);
        }
        let pages = area::set_up(vma, self.clone(), page, memory.geometry().len);
        state.count += 1;
        state.pages = Some(pages);
        state.memory = Some(memory);
        Ok(())
    }

    /// A process touches a page: `install` is given where it lies, and whether it can be written.
    fn touched<T>(
        &self,
        page_in_file: u64,
        write: bool,
        install: impl FnOnce(area::Frame, bool) -> T,
    ) -> Result<T> {
        let state = self.areas.state.lock();
        let pages = state.pages.filter(|_| !state.over).ok_or(ESTALE)?;
        let page = pages.page_of(page_in_file).ok_or(ERANGE)?;
        let need = needed(write);
        let (rights, memory) = self.during(need, |_| self.host.memory(self.holder(), need))?;
        let writable = self.rights().and(rights).includes(Rights::WRITE);
        let (buffer, start) = memory.page(page)?;
        let installed = install(area::Frame::new(buffer, start)?, writable);
        // Until here nobody took the page away.
        drop(state);
        Ok(installed)
    }
}
