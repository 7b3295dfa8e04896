// SPDX-License-Identifier: GPL-2.0

//! Fields of messages: put one behind the other, and taken again.

use kernel::prelude::*;

/// Puts fields one behind the other.
#[derive(Default)]
pub struct Writer {
    bytes: KVec<u8>,
}

impl Writer {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.bytes.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// What was written.
    pub fn finish(self) -> KVec<u8> {
        self.bytes
    }
}

/// Takes fields; `EBADMSG` when there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// So many of them.
    pub(super) fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(EBADMSG)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(EBADMSG)?;
        self.rest = rest;
        Ok(*head)
    }

    /// `EBADMSG`: there are more.
    pub(super) fn end(self) -> Result {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(EBADMSG)
        }
    }
}

/// Something that stands in a message.
pub trait Wire: Sized {
    /// Appends it.
    fn put(&self, to: &mut Writer) -> Result;
    /// Takes it.
    fn get(from: &mut Reader<'_>) -> Result<Self>;
}

macro_rules! wire_number {
    ($($type:ident)*) => {$(
        impl Wire for $type {
            fn put(&self, to: &mut Writer) -> Result {
                to.bytes(&self.to_le_bytes())
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                Ok($type::from_le_bytes(from.array()?))
            }
        }
    )*};
}
wire_number!(u8 u16 u32 u64);

impl Wire for () {
    fn put(&self, _: &mut Writer) -> Result {
        Ok(())
    }
    fn get(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl Wire for bool {
    fn put(&self, to: &mut Writer) -> Result {
        u8::from(*self).put(to)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EBADMSG),
        }
    }
}

impl<T: Wire> Wire for KVec<T> {
    fn put(&self, to: &mut Writer) -> Result {
        (self.len() as u32).put(to)?;
        self.iter().try_for_each(|item| item.put(to))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let mut items = KVec::new();
        // Grows with what is there, not with what the count says.
        for _ in 0..u32::get(from)? {
            items.push(T::get(from)?, GFP_KERNEL)?;
        }
        Ok(items)
    }
}

/// A page's bytes, or part of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub KVec<u8>);

impl Wire for Bytes {
    fn put(&self, to: &mut Writer) -> Result {
        (self.0.len() as u32).put(to)?;
        to.bytes(&self.0)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let len = u32::get(from)? as usize;
        let mut bytes = KVec::new();
        bytes.extend_from_slice(from.bytes(len)?, GFP_KERNEL)?;
        Ok(Self(bytes))
    }
}
