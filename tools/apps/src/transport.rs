// SPDX-License-Identifier: GPL-2.0

//! What the applications need of a network.

mod lite;
mod tcp;

pub use self::{lite::Lite, tcp::Tcp};

use std::{
    io,
    sync::{atomic::AtomicU64, Arc}, //
};

/// Answers a call; runs on any of the threads that serve.
pub type Handler = Arc<dyn Fn(&[u8]) -> Vec<u8> + Send + Sync>;

/// Several processes, one on each node, with ranks from 0 on.
///
/// Names are those of the run's own: what is shared and waited for ends with the process.
pub trait Transport: Send + Sync {
    /// Our rank.
    fn rank(&self) -> usize;

    /// How many we are.
    fn size(&self) -> usize;

    /// Words of ours, all zero, that the others read and write under this name.
    fn share(&self, name: &str, words: usize) -> io::Result<Box<dyn Shared>>;

    /// What a rank, maybe ours, shares under this name; it must be there already.
    fn window(&self, rank: usize, name: &str) -> io::Result<Box<dyn Window>>;

    /// Answers calls with so many threads at most, until the process ends. Once in a process.
    fn serve(&self, threads: usize, handler: Handler) -> io::Result<()>;

    /// Calls a rank, maybe ours; the length of the reply.
    fn call(&self, rank: usize, request: &[u8], reply: &mut [u8]) -> io::Result<usize>;

    /// Waits until every rank has come to the barrier of this name.
    fn barrier(&self, name: &str) -> io::Result<()>;
}

/// Memory of ours, until it is dropped.
pub trait Shared: Send + Sync {
    /// Others use them at any time.
    fn words(&self) -> &[AtomicU64];
}

/// Memory of a rank. Words that are written meanwhile may be old or new, each for itself.
pub trait Window: Send + Sync {
    /// Reads all of `words`, from word `at` on.
    fn read(&self, at: usize, words: &mut [u64]) -> io::Result<()>;

    /// Writes all of `words`, from word `at` on.
    fn write(&self, at: usize, words: &[u64]) -> io::Result<()>;
}

/// The bytes of words, as they lie in memory.
fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Fills words from their bytes.
fn words_from(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut eight = [0; 8];
        eight.copy_from_slice(bytes);
        *word = u64::from_ne_bytes(eight);
    }
}
