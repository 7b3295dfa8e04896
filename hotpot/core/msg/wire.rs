// SPDX-License-Identifier: GPL-2.0

//! How fields stand in a message: little-endian, one behind the other. Decoding is total.

use super::super::{
    area::Span,
    format::{Cid, Timestamp, PAGE_SIZE},
    host::PageKey,
};
use kernel::prelude::*;

/// Writes fields one behind the other.
#[derive(Default)]
pub struct Writer {
    bytes: KVec<u8>,
}

impl Writer {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.bytes.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// Appends a number.
    pub fn u8(&mut self, value: u8) -> Result {
        self.bytes(&[value])
    }

    /// Appends a number.
    pub fn u16(&mut self, value: u16) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number.
    pub fn u32(&mut self, value: u32) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends a number.
    pub fn u64(&mut self, value: u64) -> Result {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends bytes with their count.
    pub fn text(&mut self, bytes: &[u8]) -> Result {
        self.u32(bytes.len() as u32)?;
        self.bytes(bytes)
    }

    /// What was written.
    pub fn finish(self) -> KVec<u8> {
        self.bytes
    }
}

/// Reads fields; EBADMSG when there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.bytes.split_at_checked(len).ok_or(EBADMSG)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(EBADMSG)?;
        self.bytes = rest;
        Ok(*head)
    }

    /// The next number.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// The next number.
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Bytes with their count.
    pub fn text(&mut self) -> Result<&'a [u8]> {
        let len = self.u32()?;
        self.bytes(len as usize)
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.bytes)
    }

    /// EBADMSG when something is left.
    pub fn end(self) -> Result {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(EBADMSG)
        }
    }
}

/// Something that stands in a message.
pub trait Wire<'a>: Sized {
    /// Appends it.
    fn put(&self, to: &mut Writer) -> Result;
    /// Reads it.
    fn get(from: &mut Reader<'a>) -> Result<Self>;
}

macro_rules! wire_number {
    ($($type:ident)*) => {$(
        impl Wire<'_> for $type {
            fn put(&self, to: &mut Writer) -> Result {
                to.$type(*self)
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                from.$type()
            }
        }
    )*};
}
wire_number!(u8 u16 u32 u64);

impl Wire<'_> for () {
    fn put(&self, _: &mut Writer) -> Result {
        Ok(())
    }
    fn get(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl Wire<'_> for bool {
    fn put(&self, to: &mut Writer) -> Result {
        to.u8(u8::from(*self))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match from.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EBADMSG),
        }
    }
}

impl Wire<'_> for Cid {
    fn put(&self, to: &mut Writer) -> Result {
        to.u64(self.0)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Cid(from.u64()?))
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for KVec<T> {
    fn put(&self, to: &mut Writer) -> Result {
        to.u32(self.len() as u32)?;
        self.iter().try_for_each(|item| item.put(to))
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        let mut items = KVec::new();
        for _ in 0..from.u32()? {
            items.push(T::get(from)?, GFP_KERNEL)?;
        }
        Ok(items)
    }
}

/// Bytes with their count.
impl<'a> Wire<'a> for &'a [u8] {
    fn put(&self, to: &mut Writer) -> Result {
        to.text(self)
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        from.text()
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn put(&self, to: &mut Writer) -> Result {
        self.is_some().put(to)?;
        self.as_ref().map_or(Ok(()), |value| value.put(to))
    }
    fn get(from: &mut Reader<'a>) -> Result<Self> {
        Ok(match bool::get(from)? {
            true => Some(T::get(from)?),
            false => None,
        })
    }
}

/// A struct whose fields stand one behind the other.
macro_rules! wire_struct {
    ($name:ident $(<$lt:lifetime>)? { $($field:ident),* $(,)? }) => {
        impl<'a> Wire<'a> for wire_struct!(@type $name $($lt)?) {
            fn put(&self, to: &mut Writer) -> Result {
                $( Wire::put(&self.$field, to)?; )*
                Ok(())
            }
            fn get(from: &mut Reader<'a>) -> Result<Self> {
                Ok(Self { $( $field: Wire::get(from)?, )* })
            }
        }
    };
    (@type $name:ident $lt:lifetime) => { $name<'a> };
    (@type $name:ident) => { $name };
}

pub(in super::super) use wire_struct;

/// An enum of numbers.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value,)* }

        impl Wire<'_> for $name {
            fn put(&self, to: &mut Writer) -> Result {
                to.u8(*self as u8)
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                match from.u8()? {
                    $($value => Ok(Self::$variant),)*
                    _ => Err(EBADMSG),
                }
            }
        }
    };
}

pub(in super::super) use wire_enum;

wire_struct!(PageKey { dataset, page });
wire_struct!(Timestamp { sec, nsec });

impl Wire<'_> for i64 {
    fn put(&self, to: &mut Writer) -> Result {
        to.u64(*self as u64)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(from.u64()? as i64)
    }
}

/// A span is checked to lie in its page.
impl Wire<'_> for Span {
    fn put(&self, to: &mut Writer) -> Result {
        self.key.put(to)?;
        to.u16(self.offset)?;
        to.u16(self.len)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let span = Span {
            key: Wire::get(from)?,
            offset: from.u16()?,
            len: from.u16()?,
        };
        if span.len == 0 || span.end() > PAGE_SIZE {
            return Err(EBADMSG);
        }
        Ok(span)
    }
}
