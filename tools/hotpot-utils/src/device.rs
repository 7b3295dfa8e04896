// SPDX-License-Identifier: GPL-2.0

//! What is formatted and checked: a block device, an image file, or bytes in memory.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Seek, SeekFrom},
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::Path,
};

/// Bytes that can be read and written anywhere.
pub trait Device {
    /// Bytes of the device.
    fn size(&self) -> u64;
    /// Reads exactly `to.len()` bytes.
    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()>;
    /// Writes all of `from`.
    fn write(&mut self, offset: u64, from: &[u8]) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Bytes in memory, for tests.
impl Device for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..)?.get(..to.len()))
            .ok_or(ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        let to = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get_mut(offset..)?.get_mut(..from.len()))
            .ok_or(ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(from);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An open block device or image file.
#[derive(Debug)]
pub struct DeviceFile {
    file: File,
    size: u64,
}

/// How to open a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only look; also while it is mounted.
    Read,
    /// Read and write; nobody else may use it.
    Exclusive,
}

/// From asm-generic/fcntl.h; on a block device: refuse when it is in use.
const O_EXCL: i32 = 0o200;

impl DeviceFile {
    /// Opens `path`. The error says what to do about it.
    pub fn open(path: &Path, access: Access) -> Result<Self, String> {
        let kind = std::fs::metadata(path)
            .map_err(|error| format!("cannot open: {error}"))?
            .file_type();
        if !kind.is_block_device() && !kind.is_file() {
            return Err("neither a block device nor a file".into());
        }
        let mut options = OpenOptions::new();
        options.read(true);
        if access == Access::Exclusive {
            options.write(true);
            if kind.is_block_device() {
                options.custom_flags(O_EXCL);
            }
        }
        let mut file = options.open(path).map_err(|error| match error.kind() {
            ErrorKind::ResourceBusy => format!("in use, perhaps mounted: {error}"),
            ErrorKind::ReadOnlyFilesystem => format!("read-only: {error}"),
            _ => format!("cannot open: {error}"),
        })?;
        let size = file
            .seek(SeekFrom::End(0))
            .map_err(|error| format!("cannot find its size: {error}"))?;
        Ok(Self { file, size })
    }
}

impl Device for DeviceFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, to: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(to, offset)
    }

    fn write(&mut self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.file.write_all_at(from, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Makes `len` bytes at `offset` zeros; what is zero already is left alone, so
/// that the image of a sparse file stays sparse.
pub fn zero(device: &mut dyn Device, offset: u64, len: u64) -> io::Result<()> {
    const PIECE: u64 = 1 << 20;
    let zeros = vec![0; PIECE as usize];
    let mut found = vec![0; PIECE as usize];
    let mut at = offset;
    let end = offset + len;
    while at < end {
        let piece = (end - at).min(PIECE) as usize;
        device.read(at, &mut found[..piece])?;
        if found[..piece] != zeros[..piece] {
            device.write(at, &zeros[..piece])?;
        }
        at += piece as u64;
    }
    Ok(())
}
