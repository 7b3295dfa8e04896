// SPDX-License-Identifier: GPL-2.0

//! The checksum of everything on the device, data pages included: crc32c as
//! iSCSI and ext4 use it, inverted before and after.

/// crc32c of `bytes`; 0 for none.
pub fn crc32c(bytes: &[u8]) -> u32 {
    of(&[bytes])
}

/// crc32c of `parts`, one behind the other.
pub fn of(parts: &[&[u8]]) -> u32 {
    !parts
        .iter()
        .fold(!0, |crc, part| kernel::crc32::crc32c(crc, part))
}
