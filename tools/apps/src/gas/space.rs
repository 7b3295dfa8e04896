// SPDX-License-Identifier: GPL-2.0

//! What the engine needs of shared persistent memory.

use std::{io, ops::Range, sync::atomic::AtomicU64};

/// A dataset (MRSW) as one rank sees it. Ranges are of words.
///
/// Nobody else sees what is stored until it is committed, and nobody does ever when it is not.
pub trait Space {
    /// Our place among the ranks, from 0.
    fn rank(&self) -> usize;
    /// How many there are.
    fn size(&self) -> usize;
    /// All of it.
    fn words(&self) -> &[AtomicU64];
    /// Makes us the writer of the pages of these, all or none.
    fn acquire(&self, ranges: &[Range<usize>]) -> io::Result<()>;
    /// Publishes these durably, all or nothing, and gives up their pages.
    fn commit(&self, ranges: &[Range<usize>]) -> io::Result<()>;
    /// Waits until all ranks are here.
    fn barrier(&self, name: &str) -> io::Result<()>;
}
