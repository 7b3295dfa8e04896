// SPDX-License-Identifier: GPL-2.0

//! Tracepoints (trace.h says what they tell). They cost a call of an empty branch while nobody listens,
//! and nothing on a kernel without CONFIG_TRACEPOINTS.

use kernel::prelude::*;

/// The errno of a result, negative; 0 without an error.
pub(crate) fn errno<T>(result: &Result<T>) -> c_int {
    result.as_ref().err().map_or(0, |e| e.to_errno())
}

macro_rules! tracepoints {
    ($($(#[$doc:meta])* fn $name:ident = $shim:ident($($arg:ident: $type:ty),* $(,)?);)*) => {
        #[cfg(CONFIG_TRACEPOINTS)]
        extern "C" {
            $(fn $shim(node: *const kernel::ffi::c_char, $($arg: $type),*);)*
        }

        $(
            $(#[$doc])*
            #[inline]
            #[allow(clippy::too_many_arguments, reason = "a tracepoint has the fields that it has")]
            pub(crate) fn $name(node: &CStr, $($arg: $type),*) {
                #[cfg(CONFIG_TRACEPOINTS)]
                // SAFETY: trace.c has a function of this name and type, which may be called anywhere and
                // copies the name, a string that is there until it returns.
                unsafe {
                    $shim(node.as_char_ptr(), $($arg),*)
                };
                #[cfg(not(CONFIG_TRACEPOINTS))]
                let _ = (node, $($arg),*);
            }
        )*
    };
}

tracepoints! {
    /// A call to a peer begins.
    fn call_begin = lite_trace_call_begin(peer: u32, port: u32, bytes: u32, timeout_ms: u32);
    /// A call to a peer ended: `bytes` of reply and a status, or an error.
    fn call_end = lite_trace_call_end(peer: u32, port: u32, bytes: u32, status: c_int, error: c_int, ns: u64);
    /// A call of a peer was executed.
    fn executed = lite_trace_executed(peer: u32, port: u32, bytes: u32, status: c_int, error: c_int, ns: u64);
    /// A message was put into a peer's ring.
    fn message_sent = lite_trace_message_sent(peer: u32, kind: u32, port: u32, bytes: u32, call: u64);
    /// A message was taken out of our ring.
    fn message_received = lite_trace_message_received(peer: u32, kind: u32, port: u32, bytes: u32, call: u64);
    /// Messages flow.
    fn link_up = lite_trace_link_up(peer: u32, generation: u32, error: c_int);
    /// A connection or an attempt at one is over.
    fn link_down = lite_trace_link_down(peer: u32, generation: u32, error: c_int);
    /// A map is in force.
    fn map = lite_trace_map(epoch: u64, nodes: u32);
    /// An RDMA read or write of a peer's region ended.
    fn access = lite_trace_access(peer: u32, write: bool, bytes: u64, error: c_int, ns: u64);
    /// Somebody may do something with a region of ours from now on.
    fn region_grant = lite_trace_region_grant(peer: u32, tag: u64, rights: u32);
    /// A mapping of a region of ours lost rights; these are left.
    fn region_revoke = lite_trace_region_revoke(peer: u32, tag: u64, rights: u32);
    /// The wait for a lock or a barrier is over.
    fn lock = lite_trace_lock(peer: u32, barrier: bool, grant: u64, error: c_int, ns: u64);
    /// A lock is given back.
    fn unlock = lite_trace_unlock(peer: u32, grant: u64, error: c_int);
}
