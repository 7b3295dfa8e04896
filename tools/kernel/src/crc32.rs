// SPDX-License-Identifier: GPL-2.0

//! As `kernel::crc32` (a file of ours, `kernel/rust/kernel/crc32.rs`).

/// Castagnoli's CRC-32 of `data`, continued from `crc`; without inversion
/// before or after, as the kernel's `crc32c()`.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!crc, data)
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_gives_the_published_check_value() {
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
    }

    #[test]
    fn crc32c_of_two_pieces_is_that_of_the_whole() {
        assert_eq!(
            super::crc32c(super::crc32c(!0, b"1234"), b"56789"),
            super::crc32c(!0, b"123456789")
        );
    }
}
