// SPDX-License-Identifier: GPL-2.0

//! The world as one operation of the core sees it: real memory, messages and waits.

use super::{
    cluster,
    core::{
        boxed, drive,
        halt::Point,
        host::{Action, Call, CallError, Host, Level, Mapping, PageKey, Piece, Sleep, Ticket},
        node::Node,
    },
    halt,
    mount::Mount,
    rdma_lite,
};
use core::{cell::Cell, fmt, future::Future};
use kernel::{
    mm::fault::{FaultError, VmFault},
    prelude::*,
    sync::CondVarTimeoutResult,
    time::{msecs_to_jiffies, Jiffies},
};

const NSEC_PER_MSEC: u64 = 1_000_000;

/// Runs the operation of the core that `make` makes to its end, in the calling thread.
///
/// Its state is kept off the stack of the thread, which may be deep in a fault already: it is made in
/// a frame that is gone when the operation runs.
pub(crate) fn run<F: Future>(make: impl FnOnce() -> F) -> Result<F::Output> {
    let mut operation = boxed(make)?;
    drive(operation.as_mut())
}

/// The host of one operation.
pub(crate) struct World<'a> {
    mount: &'a Mount,
    fault: Option<&'a VmFault>,
    /// Any signal ends a wait, not only one that ends the process.
    interruptible: bool,
    /// Why the page could not be installed, where the errno does not say all.
    refused: Cell<Option<FaultError>>,
}

impl<'a> World<'a> {
    /// For an operation that is no fault.
    pub(crate) fn new(mount: &'a Mount) -> Self {
        Self {
            mount,
            fault: None,
            interruptible: false,
            refused: Cell::new(None),
        }
    }

    /// For an operation that may take as long as the user lets it.
    pub(crate) fn interruptible(mount: &'a Mount) -> Self {
        Self {
            interruptible: true,
            ..Self::new(mount)
        }
    }

    /// For a fault, which [`Host::map`] resolves.
    pub(crate) fn for_fault(mount: &'a Mount, fault: &'a VmFault) -> Self {
        Self {
            fault: Some(fault),
            ..Self::new(mount)
        }
    }

    /// Why `map` failed, if it did.
    pub(crate) fn refused(&self) -> Option<FaultError> {
        self.refused.get()
    }

    fn execute(&self, action: &Action<'_>) -> Result {
        let pm = &self.mount.pm;
        match *action {
            Action::Write { offset, data } => {
                let offset = usize::try_from(offset)?;
                match data {
                    Piece::Bytes(bytes) => pm.write(offset, bytes),
                    Piece::Pm { offset: from, len } => {
                        let from = usize::try_from(from)?;
                        pm.copy_within(from..from.checked_add(len).ok_or(EINVAL)?, offset)
                    }
                    Piece::Zeros(len) => pm.zero(offset, len),
                }
            }
            Action::Swing { offset, word } => pm.store_u64(usize::try_from(offset)?, word.to_le()),
            Action::Flush { offset, len } => {
                pm.flush(usize::try_from(offset)?, usize::try_from(len)?)
            }
            Action::Fence => {
                halt::pass(Point::Fence);
                pm.fence();
                Ok(())
            }
            Action::Unmap { first, count } => {
                self.mount.unmap(first, count);
                Ok(())
            }
            Action::UnmapAll => {
                self.mount.unmap_all();
                Ok(())
            }
        }
    }
}

/// Appends to `buffers` what a message says of `piece`.
pub(crate) fn gather<'b>(
    mount: &'b Mount,
    piece: &Piece<'b>,
    buffers: &mut KVec<rdma_lite::Piece<'b>>,
) -> Result {
    match *piece {
        Piece::Bytes(bytes) => buffers.push(rdma_lite::Piece::new(bytes), GFP_KERNEL)?,
        Piece::Pm { offset, len } => {
            let start = mount.pm.as_ptr(usize::try_from(offset)?, len)?;
            // SAFETY: The region has these bytes as long as the mount exists, which `'b` is
            // within, and by the contract of `Piece` they do not change during the call.
            let buffer = unsafe { rdma_lite::Piece::from_raw(start, len) };
            buffers.push(buffer, GFP_KERNEL)?;
        }
        Piece::Zeros(mut len) => {
            while len > 0 {
                let part = len.min(ZEROS.len());
                buffers.push(rdma_lite::Piece::new(&ZEROS[..part]), GFP_KERNEL)?;
                len -= part;
            }
        }
    }
    Ok(())
}

static ZEROS: [u8; 4096] = [0; 4096];

/// Time until `until`, rounded up, at least one tick.
pub(crate) fn jiffies_until(now: u64, until: u64) -> Jiffies {
    let ms = until.saturating_sub(now).div_ceil(NSEC_PER_MSEC);
    msecs_to_jiffies(u32::try_from(ms).unwrap_or(u32::MAX / 2)).max(1)
}

impl Host for World<'_> {
    fn with<R>(&self, f: impl FnOnce(&mut Node) -> R) -> R {
        self.mount.with(f)
    }

    fn now(&self) -> u64 {
        self.mount.now()
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> Result {
        self.mount.pm.read(usize::try_from(offset)?, to)
    }

    async fn run(&self, actions: &[Action<'_>]) -> Result {
        actions.iter().try_for_each(|action| self.execute(action))
    }

    async fn call(&self, calls: &mut [Call<'_>]) {
        if let Err(error) = cluster::call(self.mount, calls) {
            for call in calls {
                call.answer = Err(CallError::NotExecuted(error));
            }
        }
    }

    async fn map(&self, _key: PageKey, to: Mapping) -> Result {
        let fault = self.fault.ok_or(EINVAL)?;
        let pm = &self.mount.pm;
        let installed = match to {
            Mapping::Zeros => fault.insert_zeros(),
            Mapping::ReadOnly { offset } => {
                fault.insert_read_only(pm.pfn(usize::try_from(offset)?)?)
            }
            Mapping::Writable { offset } => {
                fault.insert_writable(pm.pfn(usize::try_from(offset)?)?)
            }
        };
        installed.map_err(|error| {
            self.refused.set(Some(error));
            EFAULT
        })
    }

    async fn wait(&self, ticket: Ticket, until: u64, sleep: Sleep) -> Result {
        let queue = self.mount.queue(ticket.queue());
        let mut node = self.mount.node.lock();
        while !node.is_due(ticket) {
            let now = self.now();
            if now >= until {
                break;
            }
            let jiffies = jiffies_until(now, until);
            match sleep {
                Sleep::Killable => {
                    let woken = match self.interruptible {
                        true => queue.wait_interruptible_timeout(&mut node, jiffies),
                        false => queue.wait_killable_timeout(&mut node, jiffies),
                    };
                    if let CondVarTimeoutResult::Signal { .. } = woken {
                        return Err(EINTR);
                    }
                }
                Sleep::Uninterruptible => {
                    queue.wait_timeout(&mut node, jiffies);
                }
            }
        }
        Ok(())
    }

    fn log(&self, level: Level, line: fmt::Arguments<'_>) {
        self.mount.log(level, line);
    }
}
