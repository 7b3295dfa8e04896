// SPDX-License-Identifier: GPL-2.0

//! Ids of clusters and devices.

use kernel::fmt;

/// 16 bytes, in the order in which they are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// All zeros: not set.
    pub const NIL: Uuid = Uuid([0; 16]);

    /// From 32 hexadecimal digits, with or without the dashes of the usual form.
    pub fn parse(text: &str) -> Option<Uuid> {
        let dashed = text.len() == 36;
        if !dashed && text.len() != 32 {
            return None;
        }
        let mut uuid = [0u8; 16];
        let mut digits = 0usize;
        for (at, letter) in text.bytes().enumerate() {
            if dashed && matches!(at, 8 | 13 | 18 | 23) {
                if letter != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match letter {
                b'0'..=b'9' => letter - b'0',
                b'a'..=b'f' => letter - b'a' + 10,
                b'A'..=b'F' => letter - b'A' + 10,
                _ => return None,
            };
            let byte = uuid.get_mut(digits / 2)?;
            *byte = (*byte << 4) | digit;
            digits += 1;
        }
        Some(Uuid(uuid))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}
