// SPDX-License-Identifier: GPL-2.0

//! Capabilities.
//!
//! C header: [`include/linux/capability.h`](srctree/include/linux/capability.h)

use crate::{bindings, ffi::c_int};

/// A capability: a part of what a superuser may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capability(c_int);

impl Capability {
    /// Administration of the system: mounts, devices and the like.
    pub const SYS_ADMIN: Self = Self(bindings::CAP_SYS_ADMIN as c_int);

    /// Loading and unloading of kernel modules.
    pub const SYS_MODULE: Self = Self(bindings::CAP_SYS_MODULE as c_int);

    /// Raising priorities, of the caller's own processes and of others.
    pub const SYS_NICE: Self = Self(bindings::CAP_SYS_NICE as c_int);
}

/// Returns whether the current task has `capability` in the initial user namespace.
///
/// An answer of `true` is noted as a use of superuser privileges: ask only when about to act.
#[inline]
pub fn capable(capability: Capability) -> bool {
    // SAFETY: `Capability` holds valid capabilities only.
    unsafe { bindings::capable(capability.0) }
}
