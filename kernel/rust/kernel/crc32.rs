// SPDX-License-Identifier: GPL-2.0

//! Cyclic redundancy checks.
//!
//! C header: [`include/linux/crc32.h`](srctree/include/linux/crc32.h)

use crate::bindings;

/// Computes the CRC-32C (Castagnoli) of `data`, continuing from `seed`.
///
/// Nothing is inverted, neither at the beginning nor at the end, as in C: start with `!0` and
/// invert the result for the usual form.
///
/// # Examples
///
/// ```
/// use kernel::crc32::crc32c;
///
/// let whole = !crc32c(!0, b"123456789");
/// assert_eq!(whole, 0xe306_9283);
///
/// // A checksum may be computed piece by piece.
/// assert_eq!(!crc32c(crc32c(!0, b"1234"), b"56789"), whole);
/// ```
#[inline]
pub fn crc32c(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is valid for reads of `data.len()` bytes.
    unsafe { bindings::crc32c(seed, data.as_ptr().cast(), data.len()) }
}
