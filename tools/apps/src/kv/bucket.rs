// SPDX-License-Identifier: GPL-2.0

//! A bucket, as it lies in memory: words in its owner's byte order.
//!
//! | word | what |
//! | --- | --- |
//! | 0 | checksum of the number of the bucket and the other words |
//! | 1 | number of the bucket behind it, 0: none |
//! | 2 + 10 i | key of slot i |
//! | 3 + 10 i | 1 + bytes of its value, 0: the slot is empty |
//! | 4 + 10 i … | its value |

use super::mix;

/// Most bytes of a value.
pub const VALUE: usize = 64;
const SLOTS: usize = 4;
const NEXT: usize = 1;
const FIRST: usize = 2;
const SLOT: usize = 2 + VALUE / 8;
/// Words of a bucket.
pub(super) const WORDS: usize = FIRST + SLOTS * SLOT;

/// A copy of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket(pub(super) [u64; WORDS]);

impl Bucket {
    /// Nothing in it; not sealed.
    pub(super) fn empty() -> Self {
        Self([0; WORDS])
    }

    fn checksum(&self, number: usize) -> u64 {
        let words = self.0[NEXT..].iter();
        words.fold(mix(number as u64), |sum, &word| mix(sum ^ word))
    }

    /// Makes it valid as the bucket of this number.
    pub(super) fn seal(&mut self, number: usize) {
        self.0[0] = self.checksum(number);
    }

    /// Whether it is bucket `number`, and whole.
    pub fn is_whole(&self, number: usize) -> bool {
        self.0[0] == self.checksum(number)
    }

    /// The bucket behind it.
    pub(super) fn next(&self) -> Option<usize> {
        match self.0[NEXT] {
            0 => None,
            next => Some(next as usize),
        }
    }

    pub(super) fn set_next(&mut self, next: usize) {
        self.0[NEXT] = next as u64;
    }

    fn slot(&self, at: usize) -> &[u64] {
        &self.0[FIRST + at * SLOT..][..SLOT]
    }

    /// The slot of a key.
    pub(super) fn find(&self, key: u64) -> Option<usize> {
        (0..SLOTS).find(|&at| self.slot(at)[0] == key && self.slot(at)[1] != 0)
    }

    pub(super) fn vacant(&self) -> Option<usize> {
        (0..SLOTS).find(|&at| self.slot(at)[1] == 0)
    }

    /// Keys in it.
    pub(super) fn len(&self) -> usize {
        (0..SLOTS).filter(|&at| self.slot(at)[1] != 0).count()
    }

    /// The value in a slot that is not empty.
    pub(super) fn value(&self, at: usize) -> Vec<u8> {
        let slot = self.slot(at);
        let bytes = slot[2..].iter().flat_map(|word| word.to_ne_bytes());
        bytes.take((slot[1] as usize).saturating_sub(1)).collect()
    }

    /// `value`: at most [`VALUE`] bytes.
    pub(super) fn set(&mut self, at: usize, key: u64, value: &[u8]) {
        let slot = &mut self.0[FIRST + at * SLOT..][..SLOT];
        slot.fill(0);
        slot[0] = key;
        slot[1] = value.len() as u64 + 1;
        for (word, bytes) in slot[2..].iter_mut().zip(value.chunks(8)) {
            let mut eight = [0; 8];
            eight[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(eight);
        }
    }

    pub(super) fn clear(&mut self, at: usize) {
        self.0[FIRST + at * SLOT..][..SLOT].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_whatever_its_length() {
        for len in [0, 1, 7, 8, 63, VALUE] {
            let mut bucket = Bucket::empty();
            let value: Vec<u8> = (0..len as u8).collect();
            bucket.set(3, 9, &value);
            assert_eq!(bucket.find(9), Some(3));
            assert_eq!(bucket.value(3), value);
            bucket.clear(3);
            assert_eq!(bucket.find(9), None);
        }
    }

    #[test]
    fn a_bucket_of_which_a_word_is_old_is_not_whole() {
        let mut old = Bucket::empty();
        old.set(0, 1, b"before and");
        old.seal(5);
        let mut new = old.clone();
        new.set(0, 1, b"afterwards");
        new.seal(5);
        for words in 1..WORDS {
            let mut torn = new.clone();
            torn.0[..words].copy_from_slice(&old.0[..words]);
            assert_eq!(
                torn.is_whole(5),
                torn == new || torn == old,
                "{words} words are old"
            );
        }
        assert!(new.is_whole(5) && !new.is_whole(6));
    }
}
