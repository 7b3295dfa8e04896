// SPDX-License-Identifier: GPL-2.0

//! Buffers that the device reads from and writes to for accesses to other nodes' memory.

use kernel::{
    prelude::*,
    rdma::{Device, DmaBuffer},
    sync::{aref::ARef, Arc, SpinLock},
};

/// Sizes that there are, and how many of each are kept.
const SIZES: [(usize, usize); 2] = [(4096, 16), (256 * 1024, 8)];

/// The largest buffer.
pub(crate) const LARGEST: usize = SIZES[1].0;

/// A buffer of ours alone.
///
/// # Invariants
///
/// No work request names the buffer, no region covers it, and nobody else has it.
pub(crate) struct Bounce(Arc<DmaBuffer>);

impl Bounce {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the type invariant nobody writes them while `self` is borrowed.
        unsafe { ::core::slice::from_raw_parts(self.0.as_ptr().as_ptr(), self.0.len()) }
    }

    /// Its bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: By the type invariant nobody else has them while `self` is borrowed.
        unsafe { ::core::slice::from_raw_parts_mut(self.0.as_ptr().as_ptr(), self.0.len()) }
    }

    /// Gives the buffer to an access, and says how that ended; when it has not, the buffer is gone,
    /// since the device may have it still.
    pub(crate) fn lend(
        self,
        access: impl FnOnce(&Arc<DmaBuffer>) -> Result<Result>,
    ) -> Result<(Self, Result)> {
        let ended = access(&self.0)?;
        // INVARIANT: The access has ended, and so has its work request.
        Ok((self, ended))
    }
}

/// Buffers of each size that nobody uses.
#[derive(Default)]
struct Idle {
    lists: [KVec<Bounce>; SIZES.len()],
    closed: bool,
}

/// Buffers for the next accesses.
#[pin_data]
pub(crate) struct Bounces {
    #[pin]
    idle: SpinLock<Idle>,
}

impl Bounces {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            idle <- kernel::new_spinlock!(Idle::default(), "lite_bounces"),
        })
    }

    /// One of at least `len` bytes, or of [`LARGEST`].
    pub(crate) fn take(
        &self,
        len: usize,
        device: impl FnOnce() -> Result<ARef<Device>>,
    ) -> Result<Bounce> {
        let class = SIZES.iter().position(|(size, _)| len <= *size);
        let class = class.unwrap_or(SIZES.len() - 1);
        if let Some(bounce) = self.idle.lock().lists[class].pop() {
            return Ok(bounce);
        }
        let device = device()?;
        // INVARIANT: Just made.
        Ok(Bounce(DmaBuffer::new(&device, SIZES[class].0)?))
    }

    /// Keeps one, or not.
    pub(crate) fn give_back(&self, bounce: Bounce) {
        let len = bounce.0.len();
        let Some(class) = SIZES.iter().position(|(size, _)| len == *size) else {
            return;
        };
        let mut idle = self.idle.lock();
        let room = !idle.closed && idle.lists[class].len() < SIZES[class].1;
        let list = &mut idle.lists[class];
        let unkept = match room && list.reserve(1, GFP_ATOMIC).is_ok() {
            true => list.push_within_capacity(bounce).err().map(|e| e.0),
            false => Some(bounce),
        };
        drop(idle);
        drop(unkept);
    }

    /// Keeps none from now on: they keep their device.
    pub(crate) fn close(&self) {
        let closed = Idle {
            closed: true,
            ..Idle::default()
        };
        let idle = ::core::mem::replace(&mut *self.idle.lock(), closed);
        drop(idle);
    }
}
