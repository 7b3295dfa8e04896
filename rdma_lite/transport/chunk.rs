// SPDX-License-Identifier: GPL-2.0

//! A chunk of a region, as peers are let into it.

use kernel::{
    mm::pinned::PinnedPages,
    prelude::*,
    rdma::{DmaBuffer, FastRegMr},
    sync::Arc,
};

/// See the module. Its clones are the same memory, which lives as long as any of them.
#[derive(Clone)]
pub(crate) enum Chunk {
    /// Memory of ours.
    Buffer(Arc<DmaBuffer>),
    /// `len` bytes, from the one at `start` on, of memory that a process lent.
    Pinned {
        pages: Arc<PinnedPages>,
        start: usize,
        len: usize,
    },
}

impl Chunk {
    /// Bytes that it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Buffer(buffer) => buffer.len(),
            Self::Pinned { len, .. } => *len,
        }
    }

    /// Puts it behind a memory region.
    pub(super) fn map(&self, mr: &FastRegMr) -> Result {
        match self {
            Self::Buffer(buffer) => mr.map(buffer),
            Self::Pinned { pages, start, len } => mr.map_pinned(pages, *start, *len),
        }
    }

    /// Copies `len` bytes at `start` to the beginning of `buffer`.
    pub(super) fn copy_out(&self, start: usize, buffer: &DmaBuffer, len: usize) -> Result {
        self.check(start, len)?;
        match self {
            Self::Buffer(chunk) => buffer.copy_from(0, chunk, start, len),
            Self::Pinned {
                pages, start: base, ..
            } => buffer.copy_from_pinned(0, pages, base + start, len),
        }
    }

    /// Copies the first `len` bytes of `buffer` in, at `start`.
    pub(super) fn copy_in(&self, start: usize, buffer: &DmaBuffer, len: usize) -> Result {
        self.check(start, len)?;
        match self {
            Self::Buffer(chunk) => chunk.copy_from(start, buffer, 0, len),
            Self::Pinned {
                pages, start: base, ..
            } => buffer.copy_to_pinned(0, pages, base + start, len),
        }
    }

    fn check(&self, start: usize, len: usize) -> Result {
        match start.checked_add(len) {
            Some(end) if end <= self.len() => Ok(()),
            _ => Err(ERANGE),
        }
    }
}
