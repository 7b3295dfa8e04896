// SPDX-License-Identifier: GPL-2.0

//! A kernel spinlock that softirq context may take too.

use super::spinlock::SpinLockBackend;

/// Creates a [`SpinLockBh`] initialiser with the given name and a newly-created lock class.
///
/// It uses the name if one is given, otherwise it generates one based on the file name and line
/// number.
#[macro_export]
macro_rules! new_spinlock_bh {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::sync::SpinLockBh::new(
            $inner, $crate::optional_name!($($name)?), $crate::static_lock_class!())
    };
}
pub use new_spinlock_bh;

/// A spinlock that is taken with bottom halves disabled.
///
/// As [`SpinLock`], but its owner cannot be interrupted by a softirq on the same CPU: for data that
/// both tasks and softirqs (packet reception, timers, block completion) lock. It must not be taken
/// in hard interrupt context, nor released with interrupts disabled.
///
/// # Examples
///
/// ```
/// use kernel::sync::{new_spinlock_bh, SpinLockBh};
///
/// #[pin_data]
/// struct Counters {
///     #[pin]
///     packets: SpinLockBh<u64>,
/// }
///
/// let counters = KBox::pin_init(
///     pin_init!(Counters { packets <- new_spinlock_bh!(0) }),
///     GFP_KERNEL,
/// )?;
/// *counters.packets.lock() += 1;
/// assert_eq!(*counters.packets.lock(), 1);
/// # Ok::<(), Error>(())
/// ```
///
/// [`SpinLock`]: super::spinlock::SpinLock
pub type SpinLockBh<T> = super::Lock<T, SpinLockBhBackend>;

/// A [`Guard`] acquired from locking a [`SpinLockBh`].
///
/// [`Guard`]: super::Guard
pub type SpinLockBhGuard<'a, T> = super::Guard<'a, T, SpinLockBhBackend>;

/// A kernel `spinlock_t` lock backend that disables bottom halves.
pub struct SpinLockBhBackend;

// SAFETY: The underlying kernel `spinlock_t` object ensures mutual exclusion. `relock` uses the
// default implementation that always calls the same locking method.
unsafe impl super::Backend for SpinLockBhBackend {
    type State = bindings::spinlock_t;
    type GuardState = ();

    #[inline]
    unsafe fn init(
        ptr: *mut Self::State,
        name: *const crate::ffi::c_char,
        key: *mut bindings::lock_class_key,
    ) {
        // SAFETY: Our caller guarantees what this one wants.
        unsafe { SpinLockBackend::init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: The safety requirements of this function ensure that `ptr` points to valid
        // memory, and that it has been initialised before.
        unsafe { bindings::spin_lock_bh(ptr) }
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, _guard_state: &Self::GuardState) {
        // SAFETY: The safety requirements of this function ensure that `ptr` is valid and that the
        // caller is the owner of the spinlock.
        unsafe { bindings::spin_unlock_bh(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        // SAFETY: The `ptr` pointer is guaranteed to be valid and initialized before use.
        let locked = unsafe { bindings::spin_trylock_bh(ptr) };
        (locked != 0).then_some(())
    }

    #[inline]
    unsafe fn assert_is_held(ptr: *mut Self::State) {
        // SAFETY: Our caller guarantees what this one wants.
        unsafe { SpinLockBackend::assert_is_held(ptr) }
    }
}
