// SPDX-License-Identifier: GPL-2.0

//! Stand-in for the kernel crate of Linux 7.2, for the host.
//!
//! Pure cores (`rdma_lite/core`, `hotpot/core`) compile twice: in the kernel
//! module against the real `kernel` crate, and here. This crate gives the names
//! that cores use, with the kernel's own signatures, so that what compiles here
//! compiles there. It adds one thing that the kernel has not: [`alloc::inject`]
//! makes a chosen allocation of the current thread fail.

#![forbid(unsafe_code)]

pub mod alloc;
pub mod crc32;
pub mod error;
pub mod prelude;
pub mod print;
pub mod rbtree;
pub mod siphash;

pub use std::fmt;

/// As `format_args!`, with the kernel's `Display` where that is another one.
#[macro_export]
macro_rules! fmt {
    ($($t:tt)*) => { ::core::format_args!($($t)*) };
}

/// C integer types, as the kernel's `ffi` crate defines them.
pub mod ffi {
    pub use std::ffi::{c_char, c_int, c_long, c_uint, c_ulong, c_void, CStr};
}

/// Fails to compile when the condition does not hold.
#[macro_export]
macro_rules! static_assert {
    ($condition:expr $(,$arg:literal)?) => {
        const _: () = ::core::assert!($condition $(,$arg)?);
    };
}
