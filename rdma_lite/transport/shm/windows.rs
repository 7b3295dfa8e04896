// SPDX-License-Identifier: GPL-2.0

//! Chunks of regions that are open for the peer of a link, which copies out of them and into them.

use super::inbound::Inbound;
use crate::{
    core::{Allowed, Openings},
    transport::{access::Way, chunk::Chunk, LinkUser},
};
use kernel::{
    new_spinlock,
    page::PAGE_SIZE,
    prelude::*,
    rdma::{DmaBuffer, RemoteAddr},
    sync::{
        atomic::{Atomic, Full, Relaxed},
        Arc,
        Completion,
        SpinLock, //
    },
};

/// The address of the next window: of no use to anybody but as a name that was never used before.
static NEXT_ADDRESS: Atomic<u64> = Atomic::new(1 << 32);

/// An open chunk.
#[pin_data]
struct Open {
    chunk: Chunk,
    /// Accesses under way, and one for being open.
    users: Atomic<i32>,
    #[pin]
    idle: Completion,
}

impl Open {
    fn put(&self) {
        if self.users.fetch_sub(1, Full) == 1 {
            self.idle.complete_all();
        }
    }
}

/// An access to a chunk that is under way.
struct Use(Arc<Open>);

impl Drop for Use {
    fn drop(&mut self) {
        self.0.put();
    }
}

/// An open window.
pub(crate) struct Window {
    open: Arc<Open>,
    addr: u64,
    key: u32,
}

impl Window {
    /// Where the peer finds it.
    pub(crate) fn addr(&self) -> u64 {
        self.addr
    }

    /// The key that opens it.
    pub(crate) fn rkey(&self) -> u32 {
        self.key
    }
}

struct Table {
    open: Openings<Arc<Open>>,
    closed: bool,
}

/// The windows of one end of a link.
#[pin_data]
pub(super) struct Windows {
    #[pin]
    table: SpinLock<Table>,
}

impl Windows {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            table <- new_spinlock!(Table {
                open: Openings::new(),
                closed: false,
            }, "lite_shm_windows"),
        })
    }

    fn open(&self, chunk: &Chunk, allowed: Allowed) -> Result<Window> {
        let open = Arc::pin_init(
            pin_init!(Open {
                chunk: chunk.clone(),
                users: Atomic::new(1),
                idle <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let len = chunk.len() as u64;
        let addr = NEXT_ADDRESS.fetch_add(len.next_multiple_of(PAGE_SIZE as u64), Relaxed);
        let mut table = self.table.lock();
        if table.closed {
            return Err(ENOTCONN);
        }
        let key = table.open.open(addr, len, allowed, open.clone())?;
        drop(table);
        Ok(Window { open, addr, key })
    }

    /// Begins an access to `len` bytes at `remote`; the chunk, and where in it they begin.
    fn begin(&self, remote: RemoteAddr, len: usize, need: Allowed) -> Result<(Use, usize)> {
        let table = self.table.lock();
        if table.closed {
            return Err(ECONNRESET);
        }
        let found = table.open.find(remote.rkey, remote.addr, len as u64, need);
        let (open, start) = found?;
        // It is open, which counts as one.
        open.users.fetch_add(1, Relaxed);
        Ok((Use(open.clone()), start as usize))
    }

    /// Shuts a window. Afterwards the peer does nothing to the chunk any more.
    fn hide(&self, window: Window) {
        let closed = self.table.lock().open.close(window.key, window.addr);
        if let Some(chunk) = closed {
            chunk.put();
        }
        // Whoever shut it: copies that had begun end by themselves.
        window.open.idle.wait_for_completion();
    }

    /// Shuts all windows, for good.
    pub(super) fn close(&self) {
        self.table.lock().closed = true;
        loop {
            let closed = self.table.lock().open.close_any();
            let Some(chunk) = closed else { break };
            chunk.put();
            chunk.idle.wait_for_completion();
        }
        let open = core::mem::take(&mut self.table.lock().open);
        drop(open);
    }
}

impl<U: LinkUser> Inbound<U> {
    pub(super) fn open(&self, chunk: &Chunk, allowed: Allowed) -> Result<Window> {
        self.windows.open(chunk, allowed)
    }

    pub(super) fn hide(&self, window: Window) {
        self.windows.hide(window);
    }

    /// For the other end: copies between the beginning of `buffer` and what is open at `remote`.
    pub(super) fn access(
        &self,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        len: usize,
        remote: RemoteAddr,
    ) -> Result {
        let need = Allowed {
            read: way == Way::Read,
            write: way == Way::Write,
        };
        if len > buffer.len() {
            return Err(ERANGE);
        }
        let (open, start) = self.windows.begin(remote, len, need)?;
        match way {
            Way::Read => open.0.chunk.copy_out(start, buffer, len),
            Way::Write => open.0.chunk.copy_in(start, buffer, len),
        }
    }
}
