// SPDX-License-Identifier: GPL-2.0

//! Operations of a disk: what they send, where they put what comes, whom they tell.

use super::{buffers::Buffer, volume::Volume};
use crate::{
    core::disk::Key,
    job::{Half, Job},
};
use ::core::mem::MaybeUninit;
use kernel::{
    alloc::flags::{__GFP_MEMALLOC, __GFP_NOWARN},
    block::disk::Request,
    new_spinlock_bh,
    prelude::*,
    sync::{Arc, Completion, SpinLockBh, UniqueArc},
};

/// For small things that writing pages out needs: from the reserves.
pub(super) fn reserves() -> kernel::alloc::Flags {
    GFP_ATOMIC | __GFP_MEMALLOC | __GFP_NOWARN
}

/// A request of the block layer.
#[pin_data]
pub(super) struct Io {
    /// Until it is ended.
    #[pin]
    pub(super) request: SpinLockBh<Option<Request<Volume>>>,
    /// What a write writes: a copy, which stays the same whatever the pages do, so that all copies
    /// of the disk get the same.
    pub(super) bytes: Option<Buffer>,
}

impl Io {
    /// Memory for one.
    pub(super) fn room() -> Result<UniqueArc<MaybeUninit<Self>>> {
        Ok(UniqueArc::new_uninit(reserves())?)
    }

    pub(super) fn new(
        room: UniqueArc<MaybeUninit<Self>>,
        request: Request<Volume>,
        bytes: Option<Buffer>,
    ) -> Arc<Self> {
        let made = room.pin_init_with(pin_init!(Self {
            request <- new_spinlock_bh!(Some(request), "clio_request"),
            bytes,
        }));
        let Ok(made) = made;
        made.into()
    }

    /// The block layer hears how it went.
    pub(super) fn end(&self, result: Result) {
        let request = self.request.lock().take();
        if let Some(request) = request {
            request.end(result);
        }
    }
}

/// Where the bytes of an operation are.
pub(super) enum Bytes {
    /// There are none.
    None,
    /// They go to the request, or come from it.
    Request(Arc<Io>),
    /// They are sent.
    Out(Arc<Buffer>),
}

/// An operation of a disk.
#[pin_data]
pub(super) struct Part {
    volume: Arc<Volume>,
    op: Key,
    bytes: Bytes,
    len: usize,
    /// Where a chunk is read to.
    #[pin]
    fetched: SpinLockBh<Option<Buffer>>,
}

impl Part {
    /// As the engine wants it.
    pub(super) fn half(
        volume: Arc<Volume>,
        op: Key,
        bytes: Bytes,
        len: usize,
        fetched: Option<Buffer>,
    ) -> Result<Half> {
        let part: Arc<dyn Job> = Arc::pin_init(
            pin_init!(Self {
                volume,
                op,
                bytes,
                len,
                fetched <- new_spinlock_bh!(fetched, "clio_fetched"),
            }),
            reserves(),
        )?;
        Ok(Half(part))
    }
}

impl Job for Part {
    fn bytes(&self) -> &[u8] {
        let all: &[u8] = match &self.bytes {
            Bytes::None => &[],
            Bytes::Request(io) => io.bytes.as_deref().unwrap_or_default(),
            Bytes::Out(buffer) => buffer,
        };
        all.get(..self.len).unwrap_or_default()
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        if let Bytes::Request(io) = &self.bytes {
            if let Some(request) = &mut *io.request.lock() {
                // Never beyond what was asked for.
                let _ = request.fill(offset, bytes);
            }
        } else if let Some(buffer) = &mut *self.fetched.lock() {
            let end = offset.saturating_add(bytes.len());
            if let Some(there) = buffer.get_mut(offset..end) {
                there.copy_from_slice(bytes);
            }
        }
    }

    fn done(&self, result: Result<u64>) {
        let fetched = self.fetched.lock().take();
        self.volume.part_done(self.op, fetched, result.map(|_| ()));
    }
}

/// An operation that a task waits for.
#[pin_data]
pub(super) struct Wait {
    out: KVec<u8>,
    #[pin]
    came: SpinLockBh<KVec<u8>>,
    #[pin]
    result: SpinLockBh<Option<Result<u64>>>,
    #[pin]
    over: Completion,
}

impl Wait {
    /// It sends `out`, and reads `len` bytes.
    pub(super) fn new(out: KVec<u8>, len: usize) -> Result<Arc<Self>> {
        let came = KVec::from_elem(0u8, len, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                out,
                came <- new_spinlock_bh!(came, "clio_wait_bytes"),
                result <- new_spinlock_bh!(None, "clio_wait"),
                over <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// How it went, and what was read.
    pub(super) fn wait(&self) -> Result<(u64, KVec<u8>)> {
        // It has a deadline.
        self.over.wait_for_completion();
        let result = self.result.lock().unwrap_or(Err(EIO))?;
        Ok((result, ::core::mem::take(&mut *self.came.lock())))
    }
}

impl Job for Wait {
    fn bytes(&self) -> &[u8] {
        &self.out
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        let mut came = self.came.lock();
        let end = offset.saturating_add(bytes.len());
        if let Some(there) = came.get_mut(offset..end) {
            there.copy_from_slice(bytes);
        }
    }

    fn done(&self, result: Result<u64>) {
        *self.result.lock() = Some(result);
        self.over.complete_all();
    }
}
