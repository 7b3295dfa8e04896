// SPDX-License-Identifier: GPL-2.0

//! As `kernel::siphash` (a file of ours, `kernel/rust/kernel/siphash.rs`).

use siphasher::sip::SipHasher24;
use std::hash::Hasher as _;

/// A 128-bit key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u64; 2]);

impl Key {
    /// The key of these two words, which are its bytes in little-endian order.
    pub const fn new(key: [u64; 2]) -> Self {
        Self(key)
    }

    /// The hash of the concatenation of `pieces`.
    pub fn hash(&self, pieces: &[&[u8]]) -> u64 {
        let mut hasher = Hasher::new(self);
        for piece in pieces {
            hasher.write(piece);
        }
        hasher.finish()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A hash that is being computed, piece by piece.
pub struct Hasher(SipHasher24);

impl Hasher {
    /// Begins an empty message.
    pub fn new(key: &Key) -> Self {
        Self(SipHasher24::new_with_keys(key.0[0], key.0[1]))
    }

    /// Appends `bytes` to the message.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The hash of the message.
    pub fn finish(self) -> u64 {
        self.0.finish()
    }
}

/// The kernel's own implementation: it is plain Rust.
#[cfg(test)]
#[path = "../../../kernel/rust/kernel/siphash.rs"]
#[allow(dead_code, reason = "the kernel's file, whole")]
mod kernel_file;

#[cfg(test)]
mod tests {
    use super::{kernel_file::Key as KernelKey, *};

    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    #[test]
    fn siphash_gives_the_published_value() {
        let message: [u8; 15] = std::array::from_fn(|i| i as u8);
        assert_eq!(Key::new(KEY).hash(&[&message]), 0xa129_ca61_49be_45e5);
        assert_eq!(KernelKey::new(KEY).hash(&[&message]), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn the_kernels_siphash_is_this_one_however_the_message_is_cut() {
        let message: [u8; 41] = std::array::from_fn(|i| i as u8 ^ 0xa5);
        for len in 0..=message.len() {
            let whole = Key::new(KEY).hash(&[&message[..len]]);
            for cut in 0..=len {
                for again in cut..=len {
                    let pieces = [
                        &message[..cut],
                        &message[cut..again],
                        &[],
                        &message[again..len],
                    ];
                    assert_eq!(Key::new(KEY).hash(&pieces), whole);
                    assert_eq!(KernelKey::new(KEY).hash(&pieces), whole);
                }
            }
        }
    }
}
