// SPDX-License-Identifier: GPL-2.0

//! Sets of small numbers.

use kernel::prelude::*;

/// A set of numbers below a bound, of a fixed size in memory.
#[derive(Debug)]
pub struct Bits {
    words: KVec<u64>,
    len: usize,
}

impl Bits {
    /// The empty set of numbers below `len`.
    pub fn new(len: usize) -> Result<Self> {
        Ok(Self {
            words: KVec::from_elem(0, len.div_ceil(64), GFP_KERNEL)?,
            len,
        })
    }

    /// The bound.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no number.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        self.words
            .iter()
            .map(|word| word.count_ones() as usize)
            .sum()
    }

    /// Whether it has `at`.
    pub fn has(&self, at: usize) -> bool {
        let word = self.words.get(at / 64).copied().unwrap_or(0);
        at < self.len && (word >> (at % 64)) & 1 != 0
    }

    /// Adds `at`.
    pub fn insert(&mut self, at: usize) {
        if at >= self.len {
            return;
        }
        if let Some(word) = self.words.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    /// Takes `at` out.
    pub fn remove(&mut self, at: usize) {
        if let Some(word) = self.words.get_mut(at / 64) {
            *word &= !(1 << (at % 64));
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.words.iter_mut().for_each(|word| *word = 0);
    }

    /// Becomes the same as another of the same bound.
    pub fn copy_from(&mut self, other: &Self) {
        for (word, from) in self.words.iter_mut().zip(&other.words) {
            *word = *from;
        }
    }

    /// Adds those of another of the same bound.
    pub fn add_all(&mut self, other: &Self) {
        for (word, from) in self.words.iter_mut().zip(&other.words) {
            *word |= *from;
        }
    }

    /// The least number that it has.
    pub fn first(&self) -> Option<usize> {
        self.first_from(0)
    }

    /// The least number that it has of those from `from` on.
    pub fn first_from(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.words.iter().enumerate().skip(from / 64) {
            let word = word & mask;
            if word != 0 {
                return Some(at * 64 + word.trailing_zeros() as usize);
            }
            mask = u64::MAX;
        }
        None
    }

    /// Its 64-bit words.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(super) fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }
}
