// SPDX-License-Identifier: GPL-2.0

//! Word of new maps.

use super::{abi, Node};
use ::core::ptr;
use kernel::{error::to_result, prelude::*, sync::Arc};

/// Hears of new maps.
pub(crate) trait MapNotify: Send + Sync + 'static {
    /// A map is in force, or more is known of it (then it is told of with the same epoch): which
    /// life a node of it lives. May sleep, not for long.
    fn new_map(&self, epoch: u64);
}

/// Word of each new map, until this is dropped.
pub(crate) struct MapNotifyRegistration<N: MapNotify> {
    node: Arc<Node>,
    cookie: u64,
    _notify: Arc<N>,
}

impl<N: MapNotify> MapNotifyRegistration<N> {
    /// From the next map on.
    pub(crate) fn new(node: Arc<Node>, notify: Arc<N>) -> Result<Self> {
        let ctx = ptr::from_ref::<N>(&notify).cast_mut();
        let mut cookie = 0;
        // SAFETY: `ctx` lives as long as `notify`, which we keep until the registration ends;
        // `trampoline` expects an `N` there.
        to_result(unsafe {
            abi::lite_map_notify_register(
                node.ptr.as_ptr(),
                Self::trampoline,
                ctx.cast(),
                &mut cookie,
            )
        })?;
        Ok(Self {
            node,
            cookie,
            _notify: notify,
        })
    }

    /// # Safety
    ///
    /// `ctx` must point to an `N` for the time of the call.
    unsafe extern "C" fn trampoline(ctx: *mut c_void, epoch: u64) {
        // SAFETY: As the caller guarantees.
        unsafe { &*ctx.cast::<N>() }.new_map(epoch);
    }
}

impl<N: MapNotify> Drop for MapNotifyRegistration<N> {
    fn drop(&mut self) {
        // SAFETY: `new` made the registration on this node, which we hold. When this returns
        // nobody is being notified, so `_notify` may go.
        unsafe { abi::lite_map_notify_unregister(self.node.ptr.as_ptr(), self.cookie) };
    }
}
