// SPDX-License-Identifier: GPL-2.0

//! As `kernel::crc32` (a file of ours, `kernel/rust/kernel/crc32.rs`).

const fn table(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 != 0 {
                (crc >> 1) ^ polynomial
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

static CASTAGNOLI: [u32; 256] = table(0x82f6_3b78);

/// Castagnoli's CRC-32 of `data`, continued from `crc`; without inversion
/// before or after, as the kernel's `crc32c()`.
pub fn crc32c(crc: u32, data: &[u8]) -> u32 {
    data.iter().fold(crc, |crc, byte| {
        CASTAGNOLI[((crc ^ u32::from(*byte)) & 0xff) as usize] ^ (crc >> 8)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn crc32c_gives_the_published_check_value() {
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
