// SPDX-License-Identifier: GPL-2.0

//! The bytes of a region, at its owner.
//!
//! Peers and local users read and write them at any time. So there are no references into them: bytes
//! are copied in and out, and 64-bit words are changed by atomic instructions.

use crate::{
    core::region::{
        shares::Payer,
        steps::{Step, Steps},
        Geometry,
    },
    transport::chunk::Chunk,
};
use kernel::{
    mm::pinned::PinnedPages,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    rdma::DmaBuffer,
    sync::{
        atomic::{Atomic, Full},
        Arc,
        Mutex, //
    },
};

/// Sizes of chunks that are tried, the largest first: memory may be fragmented.
const CHUNK_LOG2: [u8; 3] = [20, 16, 12];

/// Bytes that a copy moves at a time.
const STEP: usize = 16 * 1024;

/// See the module.
pub(crate) struct Memory {
    geometry: Geometry,
    payer: Payer,
    bytes: Bytes,
}

/// Where they are.
enum Bytes {
    /// In memory of ours, chunk by chunk.
    Chunks(KVVec<Arc<DmaBuffer>>),
    /// In memory that a process lent, until it takes it back.
    Lent(Pin<KBox<Mutex<Option<Arc<PinnedPages>>>>>),
}

/// Bytes that a region of `len` bytes takes.
pub(crate) fn footprint(len: u64) -> Result<u64> {
    len.checked_next_multiple_of(PAGE_SIZE as u64).ok_or(ENOSPC)
}

impl Memory {
    /// Memory for `len` bytes, all zero, that `payer` is charged with.
    pub(crate) fn new(device: &kernel::rdma::Device, len: u64, payer: Payer) -> Result<Arc<Self>> {
        let mut last = ENOMEM;
        for chunk_log2 in CHUNK_LOG2 {
            match Self::in_chunks(device, Geometry::new(len, chunk_log2)?, payer) {
                Err(e) if e == ENOMEM => last = e,
                memory => return memory,
            }
        }
        Err(last)
    }

    fn in_chunks(
        device: &kernel::rdma::Device,
        geometry: Geometry,
        payer: Payer,
    ) -> Result<Arc<Self>> {
        let count = geometry.chunks();
        let mut chunks = KVVec::with_capacity(count as usize, GFP_KERNEL)?;
        for chunk in 0..count {
            let len = (geometry.chunk_len(chunk) as usize).next_multiple_of(PAGE_SIZE);
            chunks.push(DmaBuffer::new(device, len)?, GFP_KERNEL)?;
        }
        let this = Self {
            geometry,
            payer,
            bytes: Bytes::Chunks(chunks),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// Memory of a process. It takes nothing of what the node offers, and nobody is charged but that
    /// process.
    pub(crate) fn lent(pages: PinnedPages, payer: Payer) -> Result<Arc<Self>> {
        let len = pages.len() as u64;
        let pages = Arc::new(pages, GFP_KERNEL)?;
        let this = Self {
            geometry: Geometry::new(len, CHUNK_LOG2[0])?,
            payer,
            bytes: Bytes::Lent(KBox::pin_init(
                new_mutex!(Some(pages), "lite_lent"),
                GFP_KERNEL,
            )?),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    /// The process has its memory back: whoever still has this region does nothing to it any more. The
    /// pages are let go when the last window to them is shut, so shut them before.
    pub(crate) fn take_back(&self) {
        if let Bytes::Lent(lent) = &self.bytes {
            let taken = lent.lock().take();
            drop(taken);
        }
    }

    /// Bytes of the node's that it takes.
    pub(crate) fn footprint(&self) -> u64 {
        match self.bytes {
            Bytes::Chunks(_) => footprint(self.geometry.len).unwrap_or(0),
            Bytes::Lent(_) => 0,
        }
    }

    /// Where the bytes lie.
    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Who is charged with them.
    pub(crate) fn payer(&self) -> Payer {
        self.payer
    }

    /// One chunk, for peers. [`ESTALE`] when the process that lent it has it back.
    pub(crate) fn chunk(&self, chunk: u32) -> Result<Chunk> {
        match &self.bytes {
            Bytes::Chunks(_) => self.buffer(chunk).cloned().map(Chunk::Buffer),
            Bytes::Lent(lent) => {
                if chunk >= self.geometry.chunks() {
                    return Err(ERANGE);
                }
                Ok(Chunk::Pinned {
                    pages: lent.lock().as_ref().ok_or(ESTALE)?.clone(),
                    start: (chunk as usize) << self.geometry.chunk_log2,
                    len: self.geometry.chunk_len(chunk) as usize,
                })
            }
        }
    }

    /// The memory of a chunk that is ours. [`EOPNOTSUPP`] for memory of a process.
    fn buffer(&self, chunk: u32) -> Result<&Arc<DmaBuffer>> {
        match &self.bytes {
            Bytes::Chunks(chunks) => chunks.get(chunk as usize).ok_or(ERANGE),
            Bytes::Lent(_) => Err(EOPNOTSUPP),
        }
    }

    /// Where a page lies, in a chunk. [`EOPNOTSUPP`] for memory of a process.
    pub(crate) fn page(&self, page: u64) -> Result<(&Arc<DmaBuffer>, usize)> {
        let offset = page.checked_mul(PAGE_SIZE as u64).ok_or(ERANGE)?;
        let piece = self.geometry.pieces(offset, 1)?.next().ok_or(ERANGE)?;
        Ok((self.buffer(piece.chunk)?, piece.start as usize))
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> Result {
        if let Bytes::Lent(pinned) = &self.bytes {
            let pinned = pinned.lock();
            return pinned.as_ref().ok_or(ESTALE)?.read(offset as usize, into);
        }
        for piece in self.geometry.pieces(offset, into.len() as u64)? {
            let at = piece.at as usize;
            let part = &mut into[at..at + piece.len as usize];
            self.buffer(piece.chunk)?.read(piece.start as usize, part)?;
        }
        Ok(())
    }

    /// Copies bytes in.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result {
        if let Bytes::Lent(pinned) = &self.bytes {
            let pinned = pinned.lock();
            return pinned.as_ref().ok_or(ESTALE)?.write(offset as usize, bytes);
        }
        for piece in self.geometry.pieces(offset, bytes.len() as u64)? {
            let at = piece.at as usize;
            let part = &bytes[at..at + piece.len as usize];
            self.buffer(piece.chunk)?
                .write(piece.start as usize, part)?;
        }
        Ok(())
    }

    /// Fills bytes with a value.
    pub(crate) fn set(&self, offset: u64, len: u64, value: u8) -> Result {
        self.geometry.check(offset, len)?;
        let block = KVec::from_elem(value, STEP.min(len as usize), GFP_KERNEL)?;
        let mut done = 0;
        while done < len {
            let part = (block.len() as u64).min(len - done);
            self.write(offset + done, &block[..part as usize])?;
            done += part;
        }
        Ok(())
    }

    /// Copies bytes from `src`, which may be `self`; the ranges may overlap.
    pub(crate) fn copy_from(&self, to: u64, src: &Self, from: u64, len: u64) -> Result {
        let same = ::core::ptr::eq(self, src);
        let (here, there) = ((self.geometry, to), (src.geometry, from));
        let steps = Steps::new(there, here, len, same, STEP as u64)?;
        let mut block = KVec::from_elem(0u8, STEP.min(len as usize), GFP_KERNEL)?;
        for Step { from, to, len } in steps {
            let part = &mut block[..len as usize];
            src.read(from, part)?;
            self.write(to, part)?;
        }
        Ok(())
    }

    /// Does something to an aligned word.
    fn word<T>(&self, offset: u64, f: impl FnOnce(&Atomic<u64>) -> T) -> Result<T> {
        self.geometry.check_word(offset)?;
        if let Bytes::Lent(pinned) = &self.bytes {
            let pinned = pinned.lock();
            return Ok(f(pinned.as_ref().ok_or(ESTALE)?.word(offset as usize)?));
        }
        let mut pieces = self.geometry.pieces(offset, 8)?;
        let piece = pieces.next().ok_or(EINVAL)?;
        // It is aligned, and chunks are aligned to pages: it lies in this chunk.
        Ok(f(self.buffer(piece.chunk)?.word(piece.start as usize)?))
    }

    /// Adds to an aligned word; what it was.
    pub(crate) fn fetch_add(&self, offset: u64, add: u64) -> Result<u64> {
        self.word(offset, |word| word.fetch_add(add, Full))
    }

    /// Replaces an aligned word that is `expected`; what it was.
    pub(crate) fn compare_swap(&self, offset: u64, expected: u64, new: u64) -> Result<u64> {
        self.word(offset, |word| match word.cmpxchg(expected, new, Full) {
            Ok(old) | Err(old) => old,
        })
    }
}
