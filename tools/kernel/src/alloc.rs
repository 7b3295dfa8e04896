// SPDX-License-Identifier: GPL-2.0

//! As `kernel::alloc`: allocations that can fail and say so.

mod kbox;
mod kvec;

pub use kbox::{Box, KBox, KVBox, VBox};
pub use kvec::{DrainAll, IntoIter, KVVec, KVec, PushError, RemoveError, VVec, Vec};

/// An allocation failed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AllocError;

/// How to allocate; without effect here.
#[derive(Clone, Copy, PartialEq)]
pub struct Flags(u32);

impl std::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self {
        Self(self.0 | rhs.0)
    }
}

/// As `kernel::alloc::flags`.
pub mod flags {
    use super::Flags;

    /// Zeroes the memory.
    pub const __GFP_ZERO: Flags = Flags(1 << 0);
    /// For callers that must not sleep.
    pub const GFP_ATOMIC: Flags = Flags(1 << 1);
    /// For callers that may sleep.
    pub const GFP_KERNEL: Flags = Flags(1 << 2);
    /// As `GFP_KERNEL`, accounted to the task's memory cgroup.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags(1 << 3);
    /// For callers that rather fail than wait.
    pub const GFP_NOWAIT: Flags = Flags(1 << 4);
    /// No report on failure.
    pub const __GFP_NOWARN: Flags = Flags(1 << 5);
}

/// The allocators; only their names matter here.
pub mod allocator {
    /// `kmalloc`.
    #[derive(Debug)]
    pub struct Kmalloc;
    /// `vmalloc`.
    #[derive(Debug)]
    pub struct Vmalloc;
    /// `kvmalloc`.
    #[derive(Debug)]
    pub struct KVmalloc;
}

/// Allocation failure on demand, for each thread on its own.
///
/// ```
/// use kernel::{alloc::inject, prelude::*};
///
/// let failing = inject::fail_nth(1);
/// let mut v = KVec::new();
/// assert!(v.push(1, GFP_KERNEL).is_ok());
/// assert!(KBox::new(2, GFP_KERNEL).is_err());
/// drop(failing);
/// assert!(KBox::new(2, GFP_KERNEL).is_ok());
/// ```
pub mod inject {
    use std::cell::Cell;

    thread_local! {
        static COUNTDOWN: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Stops the injection when dropped.
    #[derive(Debug)]
    pub struct Injection(());

    impl Injection {
        /// Whether the chosen allocation was reached, and failed.
        pub fn fired(&self) -> bool {
            COUNTDOWN.get().is_none()
        }
    }

    impl Drop for Injection {
        fn drop(&mut self) {
            COUNTDOWN.set(None);
        }
    }

    /// From now on `n` allocations of this thread succeed; the next one fails;
    /// those after it succeed.
    #[must_use = "the injection ends when this is dropped"]
    pub fn fail_nth(n: u64) -> Injection {
        COUNTDOWN.set(Some(n));
        Injection(())
    }

    /// Runs what is no part of the code under test: nothing of it fails, or counts.
    pub fn spare<R>(other: impl FnOnce() -> R) -> R {
        let countdown = COUNTDOWN.take();
        let result = other();
        COUNTDOWN.set(countdown);
        result
    }

    pub(crate) fn check() -> Result<(), super::AllocError> {
        match COUNTDOWN.get() {
            Some(0) => {
                COUNTDOWN.set(None);
                Err(super::AllocError)
            }
            Some(n) => {
                COUNTDOWN.set(Some(n - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
