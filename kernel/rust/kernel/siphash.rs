// SPDX-License-Identifier: GPL-2.0

//! SipHash-2-4: a fast keyed hash, which tells apart whoever has the key from whoever has not.
//!
//! [`lib/siphash.c`](srctree/lib/siphash.c) hashes one contiguous buffer. A packet's header and
//! its payload rarely are one, so this takes the message in pieces.
//!
//! Reference: <https://www.aumasson.jp/siphash/siphash.pdf>

/// A 128-bit key.
///
/// # Examples
///
/// ```
/// use kernel::siphash::Key;
///
/// // The first of the published test vectors.
/// let key = Key::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
/// assert_eq!(key.hash(&[]), 0x726f_db47_dd0e_0e31);
///
/// // What counts is the concatenation of the pieces.
/// assert_eq!(key.hash(&[b"head", b"", b"er"]), key.hash(&[b"header"]));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u64; 2]);

impl Key {
    /// The key of these two words, which are its bytes in little-endian order.
    #[inline]
    pub const fn new(key: [u64; 2]) -> Self {
        Self(key)
    }

    /// The hash of the concatenation of `pieces`.
    #[inline]
    pub fn hash(&self, pieces: &[&[u8]]) -> u64 {
        let mut hasher = Hasher::new(self);
        for piece in pieces {
            hasher.write(piece);
        }
        hasher.finish()
    }
}

/// A key stays out of logs.
impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A hash that is being computed, piece by piece.
pub struct Hasher {
    v: [u64; 4],
    /// Bytes that do not make a word yet, the first in the lowest bits.
    tail: u64,
    /// Bytes so far; `len % 8` of them are in `tail`.
    len: usize,
}

impl Hasher {
    /// Begins an empty message.
    #[inline]
    pub fn new(key: &Key) -> Self {
        let [k0, k1] = key.0;
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
            tail: 0,
            len: 0,
        }
    }

    /// Appends `bytes` to the message.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        // Fill up a word that was begun.
        while self.len % 8 != 0 {
            let Some((&byte, behind)) = rest.split_first() else {
                return;
            };
            self.push(byte);
            rest = behind;
        }
        let mut words = rest.chunks_exact(8);
        for word in &mut words {
            let mut le = [0; 8];
            le.copy_from_slice(word);
            self.absorb(u64::from_le_bytes(le));
            self.len = self.len.wrapping_add(8);
        }
        for &byte in words.remainder() {
            self.push(byte);
        }
    }

    /// The hash of the message.
    #[inline]
    pub fn finish(mut self) -> u64 {
        self.absorb(((self.len as u64) << 56) | self.tail);
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        let [v0, v1, v2, v3] = self.v;
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.tail |= u64::from(byte) << (self.len % 8 * 8);
        self.len = self.len.wrapping_add(1);
        if self.len % 8 == 0 {
            let word = core::mem::take(&mut self.tail);
            self.absorb(word);
        }
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        self.round();
        self.round();
        self.v[0] ^= word;
    }

    #[inline(always)]
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        self.v = [v0, v1, v2, v3];
    }
}
