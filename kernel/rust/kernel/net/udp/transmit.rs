// SPDX-License-Identifier: GPL-2.0

//! Sending.

use super::Socket;
use crate::{
    alloc::flags::{__GFP_MEMALLOC, __GFP_NOWARN},
    bindings,
    error::{from_err_ptr, to_result},
    prelude::*,
    sync::atomic::Relaxed,
    types::ScopeGuard,
};
use core::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr::{self, NonNull},
};

const UDP_HEADER: usize = size_of::<bindings::udphdr>();
const IPV4_HEADER: usize = size_of::<bindings::iphdr>();
const IPV6_HEADER: usize = size_of::<bindings::ipv6hdr>();
/// Room for the headers of all layers; a device that wants more has the packet copied.
const HEADROOM: usize = bindings::MAX_HEADER as usize + IPV6_HEADER + UDP_HEADER;
/// What the length field of UDP can say.
const MAX_PAYLOAD: usize = u16::MAX as usize - UDP_HEADER;

impl Socket {
    /// Sends the concatenation of `pieces` as one datagram.
    ///
    /// It is sent off or, as always with datagrams, lost; an error says that it certainly was not
    /// sent: [`EMSGSIZE`] for more than 65507 bytes (65527 for IPv6), [`EAFNOSUPPORT`] for an
    /// address of another family, [`ENOMEM`], or what the routing says, as [`ENETUNREACH`]. What
    /// is larger than [`Self::max_payload`] leaves in fragments.
    ///
    /// Does not sleep; not for hard interrupt context. Softirqs may run before it returns unless
    /// they are disabled, so whoever holds a lock that the [`Receiver`](super::Receiver) takes
    /// holds it as a [`SpinLockBh`](crate::sync::SpinLockBh).
    pub fn send(&self, to: &SocketAddr, pieces: &[&[u8]]) -> Result {
        match (self.local, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => {
                let (route, source) = self.route4(&from, to)?;
                let skb = self.buffer(pieces, MAX_PAYLOAD - IPV4_HEADER)?;
                self.transmit4(route, skb, source, from.port(), to);
            }
            (SocketAddr::V6(from), SocketAddr::V6(to)) => {
                let (route, source) = self.route6(&from, to)?;
                let skb = self.buffer(pieces, MAX_PAYLOAD)?;
                self.transmit6(route, skb, source, from.port(), to);
            }
            _ => return Err(EAFNOSUPPORT),
        }
        Ok(())
    }

    /// The largest payload that goes to `to` as one packet, by what is known of the way there.
    pub fn max_payload(&self, to: &SocketAddr) -> Result<usize> {
        let (route, ip_header) = match (self.local, to) {
            (SocketAddr::V4(from), SocketAddr::V4(to)) => (self.route4(&from, to)?.0, IPV4_HEADER),
            (SocketAddr::V6(from), SocketAddr::V6(to)) => (self.route6(&from, to)?.0, IPV6_HEADER),
            _ => return Err(EAFNOSUPPORT),
        };
        // SAFETY: A `Route` is one.
        let mtu = unsafe { bindings::dst_mtu(route.as_ptr()) } as usize;
        Ok(mtu
            .saturating_sub(ip_header + UDP_HEADER)
            .min(MAX_PAYLOAD - IPV4_HEADER))
    }

    /// The route to `to`, and the source address that goes with it.
    fn route4(&self, from: &SocketAddrV4, to: &SocketAddrV4) -> Result<(Route, bindings::__be32)> {
        let mut flow: bindings::flowi4 = pin_init::zeroed();
        flow.__fl_common.flowic_proto = bindings::IPPROTO_UDP as u8;
        flow.saddr = u32::from_ne_bytes(from.ip().octets());
        flow.daddr = u32::from_ne_bytes(to.ip().octets());
        flow.uli.ports.sport = from.port().to_be();
        flow.uli.ports.dport = to.port().to_be();
        // SAFETY: The namespace lives, the flow is whole.
        let route = from_err_ptr(unsafe {
            bindings::ip_route_output_flow(self.net.as_raw(), &mut flow, ptr::null())
        })?;
        // SAFETY: A `struct rtable` begins with its `dst_entry`, with a reference for us.
        let route = unsafe { Route::from_raw(route.cast()) }?;
        Ok((route, flow.saddr))
    }

    /// As [`Self::route4`].
    fn route6(
        &self,
        from: &SocketAddrV6,
        to: &SocketAddrV6,
    ) -> Result<(Route, bindings::in6_addr)> {
        let mut flow: bindings::flowi6 = pin_init::zeroed();
        flow.__fl_common.flowic_proto = bindings::IPPROTO_UDP as u8;
        flow.__fl_common.flowic_oif = to.scope_id() as c_int;
        flow.saddr = in6_addr(from.ip());
        flow.daddr = in6_addr(to.ip());
        flow.uli.ports.sport = from.port().to_be();
        flow.uli.ports.dport = to.port().to_be();
        // SAFETY: The namespace and the socket live, the flow is whole.
        let route = from_err_ptr(unsafe {
            bindings::ip6_dst_lookup_flow(self.net.as_raw(), self.sk(), &mut flow, ptr::null())
        })?;
        // SAFETY: A `dst_entry` with a reference for us.
        Ok((unsafe { Route::from_raw(route) }?, flow.saddr))
    }

    /// A packet with this payload, and room for headers before it.
    fn buffer(&self, pieces: &[&[u8]], max: usize) -> Result<Buffer> {
        let mut len = 0_usize;
        for piece in pieces {
            len = len.checked_add(piece.len()).ok_or(EMSGSIZE)?;
        }
        if len > max {
            return Err(EMSGSIZE);
        }
        let mut flags = GFP_ATOMIC | __GFP_NOWARN;
        if self.memalloc.load(Relaxed) {
            flags = flags | __GFP_MEMALLOC;
        }
        // SAFETY: `GFP_ATOMIC` is fit for any context that this may be called in.
        let skb = unsafe { bindings::alloc_skb((HEADROOM + len) as u32, flags.as_raw()) };
        let buffer = Buffer(NonNull::new(skb).ok_or(ENOMEM)?);
        // SAFETY: The packet is new, with that much room.
        unsafe { bindings::skb_reserve(skb, HEADROOM as c_int) };
        for piece in pieces {
            // SAFETY: All pieces together fit behind the headroom.
            unsafe {
                let at = bindings::skb_put(skb, piece.len() as u32);
                ptr::copy_nonoverlapping(piece.as_ptr(), at.cast(), piece.len());
            }
        }
        Ok(buffer)
    }

    fn transmit4(
        &self,
        route: Route,
        skb: Buffer,
        source: bindings::__be32,
        source_port: u16,
        to: &SocketAddrV4,
    ) {
        let _bh = disable_bh();
        // SAFETY: A route and a packet, which both go over to the callee; softirqs are disabled.
        unsafe {
            let hops = bindings::ip4_dst_hoplimit(route.as_ptr());
            bindings::udp_tunnel_xmit_skb(
                route.into_raw().cast(),
                self.sk(),
                skb.into_raw(),
                source,
                u32::from_ne_bytes(to.ip().octets()),
                0,
                hops as u8,
                0,
                source_port.to_be(),
                to.port().to_be(),
                false,
                false,
                0,
            )
        }
    }

    fn transmit6(
        &self,
        route: Route,
        skb: Buffer,
        source: bindings::in6_addr,
        source_port: u16,
        to: &SocketAddrV6,
    ) {
        let _bh = disable_bh();
        // SAFETY: As in `transmit4`.
        unsafe {
            let hops = bindings::ip6_dst_hoplimit(route.as_ptr());
            bindings::udp_tunnel6_xmit_skb(
                route.into_raw(),
                self.sk(),
                skb.into_raw(),
                ptr::null_mut(),
                &source,
                &in6_addr(to.ip()),
                0,
                hops as u8,
                0,
                source_port.to_be(),
                to.port().to_be(),
                false,
                0,
            )
        }
    }
}

fn in6_addr(ip: &Ipv6Addr) -> bindings::in6_addr {
    let mut addr: bindings::in6_addr = pin_init::zeroed();
    addr.in6_u.u6_addr8 = ip.octets();
    addr
}

/// No softirqs on this CPU until the guard goes.
fn disable_bh() -> ScopeGuard<(), impl FnOnce(())> {
    // SAFETY: No requirements outside of hard interrupts, and undone by the guard.
    unsafe { bindings::local_bh_disable() };
    // SAFETY: Undoes the call above, on the same CPU since that cannot be left meanwhile.
    ScopeGuard::new(|| unsafe { bindings::local_bh_enable() })
}

/// A route.
///
/// # Invariants
///
/// A valid `dst_entry`, with a reference of ours.
struct Route(NonNull<bindings::dst_entry>);

impl Route {
    /// # Safety
    ///
    /// `dst` must be null or a valid `dst_entry` with a reference that becomes ours.
    unsafe fn from_raw(dst: *mut bindings::dst_entry) -> Result<Self> {
        // INVARIANT: By this function's requirement.
        let this = Self(NonNull::new(dst).ok_or(ENETUNREACH)?);
        // SAFETY: Valid by the type invariant. Negative where the route only says that there is
        // none.
        to_result(unsafe { (*dst).error }.into())?;
        Ok(this)
    }

    fn as_ptr(&self) -> *mut bindings::dst_entry {
        self.0.as_ptr()
    }

    fn into_raw(self) -> *mut bindings::dst_entry {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the reference is ours.
        unsafe { bindings::dst_release(self.0.as_ptr()) };
    }
}

/// A packet that is not sent yet.
///
/// # Invariants
///
/// A valid packet of ours.
struct Buffer(NonNull<bindings::sk_buff>);

impl Buffer {
    fn into_raw(self) -> *mut bindings::sk_buff {
        core::mem::ManuallyDrop::new(self).0.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the packet is ours.
        unsafe { bindings::kfree_skb(self.0.as_ptr()) };
    }
}
