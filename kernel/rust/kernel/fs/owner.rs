// SPDX-License-Identifier: GPL-2.0

//! Owners of files, as file systems store them.
//!
//! C header: [`include/linux/uidgid.h`](srctree/include/linux/uidgid.h)

use crate::{bindings, prelude::*};
use core::ptr::addr_of_mut;

/// The user and the group that own a file, as numbers of the initial user namespace.
///
/// This is what belongs on media. File systems that may be mounted in other user namespaces need
/// the mappings of those; the abstractions here do not offer this (`FS_USERNS_MOUNT`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Owner {
    /// Returns the owner of what the current task creates: its fsuid and fsgid.
    pub fn current() -> Self {
        // SAFETY: The credentials of the current task can always be read.
        let (kuid, kgid) = unsafe { (bindings::current_fsuid(), bindings::current_fsgid()) };
        Self::from_kernel(kuid, kgid)
    }

    pub(super) fn from_kernel(kuid: bindings::kuid_t, kgid: bindings::kgid_t) -> Self {
        // SAFETY: The initial user namespace exists always, and any id is allowed.
        unsafe {
            Self {
                uid: bindings::from_kuid(addr_of_mut!(bindings::init_user_ns), kuid),
                gid: bindings::from_kgid(addr_of_mut!(bindings::init_user_ns), kgid),
            }
        }
    }

    /// Returns `EINVAL` for the numbers that stand for no user and no group.
    pub(super) fn to_kernel(self) -> Result<(bindings::kuid_t, bindings::kgid_t)> {
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Err(EINVAL);
        }
        // SAFETY: The initial user namespace exists always, and any id is allowed.
        unsafe {
            Ok((
                bindings::make_kuid(addr_of_mut!(bindings::init_user_ns), self.uid),
                bindings::make_kgid(addr_of_mut!(bindings::init_user_ns), self.gid),
            ))
        }
    }
}
