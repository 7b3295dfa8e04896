// SPDX-License-Identifier: GPL-2.0

//! A mapped file that a store lies in, on hotpot or any other file system.

use super::Memory;
use crate::{hotpot, mapping::Mapping};
use anyhow::{Context, Result};
use nix::{libc, sys::statfs};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    path::Path,
    slice,
    time::Duration,
};

const PAGE: usize = 4096;
/// Longest wait for a commit.
const DEADLINE: Duration = Duration::from_secs(60);

/// A file in our memory. Nobody else may store to it meanwhile.
#[derive(Debug)]
pub struct Mapped {
    file: File,
    mapping: Mapping,
    is_dataset: bool,
}

impl Mapped {
    /// Maps a file, which becomes `least` bytes long if it is shorter or not there.
    pub fn open(path: &Path, least: usize) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let there = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let len = there.max(least);
        if there < len {
            file.set_len(len as u64)?;
        }
        let is_dataset = statfs::fstatfs(&file)?.filesystem_type().0 == hotpot::SUPER_MAGIC;
        Ok(Self {
            mapping: Mapping::new(&file, len)?,
            file,
            is_dataset,
        })
    }

    fn sync(&self, pages: Range<usize>) -> io::Result<()> {
        let len = (pages.len() * PAGE).min(self.mapping.size() - pages.start * PAGE);
        // SAFETY: These pages are of the mapping.
        let synced = unsafe {
            let at = self.mapping.at().as_ptr().add(pages.start * PAGE);
            libc::msync(at.cast(), len, libc::MS_SYNC)
        };
        match synced {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Memory for Mapped {
    fn bytes(&self) -> &[u8] {
        // SAFETY: So many bytes are mapped as long as we are, and nobody else stores to them.
        unsafe { slice::from_raw_parts(self.mapping.at().as_ptr(), self.mapping.size()) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above; and nobody here has them while we do.
        unsafe { slice::from_raw_parts_mut(self.mapping.at().as_ptr(), self.mapping.size()) }
    }

    fn commit(&mut self, areas: &[Range<usize>]) -> Result<()> {
        if self.is_dataset {
            let base = self.mapping.at().as_ptr() as usize;
            return hotpot::commit(&self.file, base, areas, DEADLINE).context("commit");
        }
        let mut pages: Vec<Range<usize>> = Vec::new();
        for area in areas {
            let (first, end) = (area.start / PAGE, area.end.div_ceil(PAGE));
            match pages.last_mut() {
                Some(last) if first <= last.end => last.end = last.end.max(end),
                _ => pages.push(first..end),
            }
        }
        let mut synced = pages.into_iter().map(|pages| self.sync(pages));
        synced.try_for_each(|one| one).context("msync")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_in_the_file() {
        let path = std::env::temp_dir().join(format!("ycsb-file-{}", std::process::id()));
        let mut mapped = Mapped::open(&path, 3 * PAGE + 5).unwrap();
        mapped.bytes_mut()[PAGE] = 7;
        mapped.bytes_mut()[3 * PAGE + 4] = 9;
        mapped
            .commit(&[PAGE..PAGE + 1, 3 * PAGE + 4..3 * PAGE + 5])
            .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((bytes[PAGE], bytes[3 * PAGE + 4]), (7, 9));
        std::fs::remove_file(&path).unwrap();
    }
}
