// SPDX-License-Identifier: GPL-2.0

//! Does a device hold something that formatting would destroy?

use crate::{device::Device, format::superblock};
use std::io;

/// Name, offset and bytes of what others write on their devices.
const SIGNATURES: &[(&str, u64, &[u8])] = &[
    ("hotpot", 0, &superblock::MAGIC),
    ("hotpot", 4096, &superblock::MAGIC),
    ("ext2/3/4", 0x438, &[0x53, 0xef]),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x10040, b"_BHRfS_M"),
    ("f2fs", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("erofs", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("squashfs", 0, b"hsqs"),
    (
        "bcachefs",
        0x1018,
        &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca],
    ),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("iso9660", 0x8001, b"CD001"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM2 physical volume", 0x200, b"LABELONE"),
    ("LVM2 physical volume", 0x000, b"LABELONE"),
    ("md RAID member", 0x1000, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("md RAID member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("GPT partition table", 0x200, b"EFI PART"),
    ("boot sector or partition table", 0x1fe, &[0x55, 0xaa]),
];

/// The name of what is on the device, if anything is known to us.
pub fn find(device: &dyn Device) -> io::Result<Option<&'static str>> {
    for (name, offset, bytes) in SIGNATURES {
        let mut found = vec![0; bytes.len()];
        if offset + bytes.len() as u64 <= device.size() {
            device.read(*offset, &mut found)?;
            if found == *bytes {
                return Ok(Some(name));
            }
        }
    }
    Ok(None)
}
