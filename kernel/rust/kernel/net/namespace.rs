// SPDX-License-Identifier: GPL-2.0

//! Network namespaces.
//!
//! C header: [`include/net/net_namespace.h`](srctree/include/net/net_namespace.h)

use crate::{
    bindings,
    sync::aref::{ARef, AlwaysRefCounted},
    types::Opaque, //
};
use core::ptr::{self, NonNull};

/// A network namespace: its own devices, addresses, routes and sockets.
///
/// Wraps the kernel's `struct net`. A [`Net`] lives as long as something holds a reference to it;
/// an [`ARef<Net>`] keeps the namespace alive even when the last task has left it.
///
/// # Examples
///
/// ```
/// use kernel::net::Net;
///
/// let here = Net::current();
/// let again = Net::current();
/// assert!(*here == *again);
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
pub struct Net(Opaque<bindings::net>);

// SAFETY: The reference count is atomic, and `put_net()` may be called by any thread.
unsafe impl Send for Net {}
// SAFETY: A shared reference gives out only the address of the namespace.
unsafe impl Sync for Net {}

impl Net {
    /// The namespace of the current task.
    ///
    /// Must not be called by a task that is exiting and has already left its namespaces, which
    /// no system call, open or release of a file does.
    pub fn current() -> ARef<Net> {
        // SAFETY: `current->nsproxy` is only changed by the task itself, and is there until the
        // task exits.
        let raw = unsafe { bindings::current_net() };
        // SAFETY: The current task holds a reference to its namespace for the whole call.
        unsafe { Self::from_raw(raw) }.into()
    }

    /// The namespace that the kernel boots with.
    pub fn init() -> &'static Net {
        // SAFETY: `init_net` is a static that is never freed.
        unsafe { Self::from_raw(&raw mut bindings::init_net) }
    }

    /// Creates a reference from a raw pointer.
    ///
    /// # Safety
    ///
    /// `ptr` must point to a `struct net` with a non-zero reference count for the whole of `'a`.
    pub unsafe fn from_raw<'a>(ptr: *mut bindings::net) -> &'a Net {
        // SAFETY: The caller promises validity; `Net` is transparent over `struct net`.
        unsafe { &*ptr.cast() }
    }

    /// The raw pointer, valid as long as `self` is.
    #[inline]
    pub fn as_raw(&self) -> *mut bindings::net {
        self.0.get()
    }
}

/// Namespaces are equal when they are the same one.
impl PartialEq for Net {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self, other)
    }
}

impl Eq for Net {}

// SAFETY: `get_net()` and `put_net()` keep a `struct net` alive between them.
unsafe impl AlwaysRefCounted for Net {
    fn inc_ref(&self) {
        // SAFETY: A shared reference means that the count is not zero.
        unsafe { bindings::get_net(self.as_raw()) };
    }

    unsafe fn dec_ref(obj: NonNull<Self>) {
        // SAFETY: The caller gives up a reference that it owns.
        unsafe { bindings::put_net(obj.cast().as_ptr()) };
    }
}
