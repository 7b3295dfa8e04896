// SPDX-License-Identifier: GPL-2.0

//! Values of attributes in configfs, as text. A module's `configfs.rs` includes this file by path.

#![allow(dead_code, reason = "each module uses another part of it")]

use ::core::ops::RangeInclusive;
use kernel::{
    fmt::{self, Write as _},
    page::PAGE_SIZE,
    prelude::*,
    str::Formatter,
};

/// Shows a value, on a line of its own; the bytes of it.
pub(super) fn show(page: &mut [u8; PAGE_SIZE], text: fmt::Arguments<'_>) -> Result<usize> {
    let mut writer = Formatter::new(page);
    writer.write_fmt(text)?;
    writer.write_str("\n")?;
    Ok(writer.bytes_written())
}

/// The value that was written, without white space around it.
pub(super) fn trimmed(page: &[u8]) -> Result<&str> {
    Ok(::core::str::from_utf8(page).map_err(|_| EINVAL)?.trim())
}

/// A number, without a sign.
pub(super) fn number(page: &[u8]) -> Result<u64> {
    let text = trimmed(page)?;
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(EINVAL);
    }
    text.parse().map_err(|_| EINVAL)
}

/// A number of this range.
pub(super) fn number_in(page: &[u8], range: RangeInclusive<u64>) -> Result<u64> {
    Some(number(page)?)
        .filter(|n| range.contains(n))
        .ok_or(EINVAL)
}

/// 0 or 1.
pub(super) fn switch(page: &[u8]) -> Result<bool> {
    Ok(number_in(page, 0..=1)? == 1)
}

/// A name or a path of up to `most` bytes, which may be empty.
pub(super) fn text(page: &[u8], most: usize) -> Result<KVec<u8>> {
    let value = trimmed(page)?.as_bytes();
    if value.len() > most {
        return Err(EINVAL);
    }
    let mut text = KVec::new();
    text.extend_from_slice(value, GFP_KERNEL)?;
    Ok(text)
}
