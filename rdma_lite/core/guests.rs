// SPDX-License-Identifier: GPL-2.0

//! What lies in memory that several kernels share (a pmem device that several guests map), and how it is
//! read and written.
//!
//! Documentation/guests-format.md has the tables. [`layout`] says where things are and what the header
//! of such a memory says; [`slots`] who takes part, each node in a slot of its own; [`control`] how two of
//! them agree to a session, in a lane each way; [`bells`] what tells a receiver of messages and accesses;
//! [`access`] how one reads and writes what the other has opened; [`pace`] how often a node looks.
//!
//! Nothing that is read from there is believed: the other side is another kernel, which may be wrong,
//! hostile, or killed between any two stores. Everything is copied out once and checked then. Whatever
//! the bytes, the answer is a value, "not there yet", or an error.

pub mod access;
pub mod bells;
pub mod control;
pub mod layout;
pub mod pace;
pub mod slots;

use kernel::prelude::*;

/// Memory that several kernels have, by offsets from its start. [`ERANGE`] beyond its end, `EINVAL` for
/// a word that is not aligned.
pub trait Memory {
    /// Bytes of it.
    fn size(&self) -> usize;
    /// Reads the word at `at`, before all that follows.
    fn load(&self, at: usize) -> Result<u64>;
    /// Stores the word at `at`, after all that was done before.
    fn store(&self, at: usize, value: u64) -> Result;
    /// Stores `new` at `at` if `old` is there; else what is there instead. In one order with all others.
    fn compare_exchange(&self, at: usize, old: u64, new: u64) -> Result<Result<(), u64>>;
    /// Copies out bytes, which others may be writing.
    fn read(&self, at: usize, into: &mut [u8]) -> Result;
    /// Copies bytes in, which others may be reading.
    fn write(&self, at: usize, bytes: &[u8]) -> Result;
}

/// The `N` bytes at `at` of a record; zeroes where it has not so many.
fn field<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    record
        .get(at..)
        .and_then(|bytes| bytes.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Puts a field of a record.
fn put<const N: usize>(record: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = record.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}
