// SPDX-License-Identifier: GPL-2.0

//! Locks and barriers of the cluster.

use crate::{name_field, uapi, Lite};
use std::io;

/// A lock that we have; it is given back when this is dropped.
#[derive(Debug)]
pub struct Lock {
    lite: Lite,
    handle: u64,
    grant: u64,
}

impl Lite {
    /// Takes the lock of this name, which is kept at a node. Waits until a signal comes.
    pub fn lock(&self, node: u32, name: &str) -> io::Result<Lock> {
        self.lock_by(node, name, 0)
    }

    /// Takes a lock if nobody has it; `EBUSY` otherwise.
    pub fn try_lock(&self, node: u32, name: &str) -> io::Result<Lock> {
        self.lock_by(node, name, uapi::TRY)
    }

    fn lock_by(&self, node: u32, name: &str, flags: u32) -> io::Result<Lock> {
        let mut lock = uapi::Lock {
            node,
            flags,
            timeout_ms: uapi::FOREVER,
            name: name_field(name)?,
            ..uapi::Lock::default()
        };
        // SAFETY: The request reads and writes the struct and names no other memory.
        unsafe { self.ioctl(uapi::LOCK, &mut lock)? };
        Ok(Lock {
            lite: self.clone(),
            handle: lock.handle,
            grant: lock.grant,
        })
    }

    /// Waits until `count` have come to the barrier of this name, which is kept at a node; `timeout_ms` 0
    /// is the node's default.
    pub fn barrier(&self, node: u32, name: &str, count: u32, timeout_ms: u32) -> io::Result<()> {
        let mut barrier = uapi::Barrier {
            node,
            count,
            timeout_ms,
            name: name_field(name)?,
            ..uapi::Barrier::default()
        };
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.ioctl(uapi::BARRIER, &mut barrier) }
    }
}

impl Lock {
    /// Grows with each grant of a lock in the life of the node that keeps it: shows who is late.
    pub fn grant(&self) -> u64 {
        self.grant
    }

    fn end(&mut self) -> io::Result<()> {
        let mut handle = uapi::Handle {
            handle: std::mem::take(&mut self.handle),
            ..uapi::Handle::default()
        };
        if handle.handle == 0 {
            return Ok(());
        }
        // SAFETY: The request reads the struct and names no other memory.
        unsafe { self.lite.ioctl(uapi::UNLOCK, &mut handle) }
    }

    /// Gives it back; `ESTALE` when the map had dropped us, so that another may have it already.
    pub fn unlock(mut self) -> io::Result<()> {
        self.end()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
