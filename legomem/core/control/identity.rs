// SPDX-License-Identifier: GPL-2.0

//! What address spaces are known by: names and keys.

use super::codec::{Reader, Wire, Writer};
use kernel::{prelude::*, siphash::Key};

/// The key of an address space, where it has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u64; 2]);

impl Secret {
    /// To hash with.
    pub fn key(&self) -> Key {
        Key::new(self.0)
    }
}

impl ::core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Wire for Secret {
    fn put(&self, to: &mut Writer) -> Result {
        self.0.iter().try_for_each(|word| word.put(to))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self([u64::get(from)?, u64::get(from)?]))
    }
}

/// Name of an address space: 1 to 63 bytes, neither `/` nor control characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Name {
    /// Most bytes.
    pub const MAX: usize = 63;

    /// `EINVAL` if these bytes are no name.
    pub fn new(name: &[u8]) -> Result<Self> {
        let mut bytes = [0; Self::MAX];
        let fits = bytes.get_mut(..name.len()).ok_or(EINVAL)?;
        if name.is_empty()
            || name
                .iter()
                .any(|byte| *byte < b' ' || *byte == 0x7f || *byte == b'/')
        {
            return Err(EINVAL);
        }
        fits.copy_from_slice(name);
        Ok(Self {
            bytes,
            len: name.len() as u8,
        })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl ::core::fmt::Debug for Name {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(
            f,
            "{:?}",
            ::core::str::from_utf8(self.as_bytes()).unwrap_or("?")
        )
    }
}

impl Wire for Name {
    fn put(&self, to: &mut Writer) -> Result {
        self.len.put(to)?;
        to.bytes(self.as_bytes())
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let len = u8::get(from)?;
        Self::new(from.bytes(len.into())?).map_err(|_| EBADMSG)
    }
}

/// Shows that node `node` knows the key, without telling it.
pub fn proof(key: &Secret, nonce: u64, node: u16, what: &[u8]) -> u64 {
    key.key()
        .hash(&[b"attach", &nonce.to_le_bytes(), &node.to_le_bytes(), what])
}

/// Node id of the home of an address space.
pub fn home_of(ras: u64) -> u16 {
    (ras >> 48) as u16
}
