// SPDX-License-Identifier: GPL-2.0

//! Random numbers.
//!
//! C header: [`include/linux/random.h`](srctree/include/linux/random.h)

use crate::bindings;

/// Fills `buf` with random bytes, good enough for keys.
#[inline]
pub fn get_random_bytes(buf: &mut [u8]) {
    // SAFETY: `buf` is valid for writes of `buf.len()` bytes.
    unsafe { bindings::get_random_bytes(buf.as_mut_ptr().cast(), buf.len()) }
}

/// Returns a random number.
#[inline]
pub fn get_random_u64() -> u64 {
    let mut bytes = [0; 8];
    get_random_bytes(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// Returns the bytes of a random UUID: version 4, variant 1 (RFC 9562).
///
/// # Examples
///
/// ```
/// let uuid = kernel::random::uuid();
///
/// assert_eq!(uuid[6] >> 4, 4);
/// assert_eq!(uuid[8] >> 6, 0b10);
/// ```
pub fn uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    get_random_bytes(&mut uuid);
    uuid[6] = (uuid[6] & 0x0f) | 0x40;
    uuid[8] = (uuid[8] & 0x3f) | 0x80;
    uuid
}
