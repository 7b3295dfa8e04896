// SPDX-License-Identifier: GPL-2.0

//! The memory, calls, locks and barriers of a cluster, over /dev/rdma_lite: LITE's interface (SOSP'17) for
//! programs in Rust. `include/rdma_lite.h` is the same for C; Documentation/uapi.md has all errors.
//!
//! ```no_run
//! # fn main() -> std::io::Result<()> {
//! use lite::{Allocation, Lite, Rights};
//!
//! let lite = Lite::open()?;
//! let table = lite.malloc(2, 1 << 20, &Allocation { name: "table", others: Rights::READ, ..Allocation::default() })?;
//! table.write(4096, b"hello")?;
//! let mut bytes = [0; 5];
//! table.read(4096, &mut bytes)?;
//! # Ok(())
//! # }
//! ```
//!
//! Errors are those of the kernel, as [`std::io::Error`]. What is made by an open [`Lite`] keeps it open, may
//! be used by many threads, and ends when it is dropped. Deadlines are the node's default.

mod lend;
mod mapped;
mod operations;
mod region;
mod rpc;
mod sync;
pub mod uapi;

pub use self::{
    lend::Lent,
    mapped::Mapped,
    operations::{Ended, Operations},
    region::{Allocation, Region, Rights},
    rpc::{Port, Request},
    sync::Lock,
};

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

/// An open of the device, for the node of our network namespace.
#[derive(Clone, Debug)]
pub struct Lite(Arc<File>);

impl Lite {
    /// Opens the device; `ENXIO` when our network namespace has no node.
    pub fn open() -> io::Result<Self> {
        Self::at(Path::new("/dev/rdma_lite"))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    /// Id of our node.
    pub fn node(&self) -> io::Result<u32> {
        let mut info = uapi::Info::default();
        // SAFETY: The request fills the struct and names no other memory.
        unsafe { self.ioctl(uapi::INFO, &mut info)? };
        Ok(info.id)
    }

    /// Whether both are the same open.
    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Does a request.
    ///
    /// # Safety
    ///
    /// `arg` must be the struct of the request, and what it names valid for the use that the request makes
    /// of it.
    unsafe fn ioctl<T>(&self, request: u64, arg: &mut T) -> io::Result<()> {
        // SAFETY: As the caller promises.
        let ret = unsafe { nix::libc::ioctl(self.0.as_raw_fd(), request as _, arg) };
        match ret {
            0.. => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl AsFd for Lite {
    /// For poll(2): POLLPRI: a [`Port`] has a request; POLLRDBAND: [`Operations`] have ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A name as the kernel takes it.
fn name_field(name: &str) -> io::Result<[u8; 64]> {
    let bytes = name.as_bytes();
    if bytes.len() > 63 || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut field = [0; 64];
    field[..bytes.len()].copy_from_slice(bytes);
    Ok(field)
}

/// The error of a status that the kernel, or a receiver, gave.
fn check(status: i32) -> io::Result<()> {
    match status {
        0 => Ok(()),
        status => Err(io::Error::from_raw_os_error(status.saturating_neg())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fill_a_field_with_a_nul_at_its_end() {
        assert_eq!(name_field("ab").unwrap()[..3], *b"ab\0");
        assert_eq!(name_field(&"x".repeat(63)).unwrap()[63], 0);
        assert!(name_field(&"x".repeat(64)).is_err());
        assert!(name_field("a\0b").is_err());
    }

    #[test]
    fn a_device_that_is_none_says_so() {
        let lite = Lite::at(Path::new("/dev/null")).unwrap();
        assert_eq!(
            lite.node().unwrap_err().raw_os_error(),
            Some(nix::libc::ENOTTY)
        );
    }

    #[test]
    fn a_status_is_the_error_that_it_names() {
        assert!(check(0).is_ok());
        assert_eq!(check(-13).unwrap_err().raw_os_error(), Some(13));
    }
}
