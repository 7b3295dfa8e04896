// SPDX-License-Identifier: GPL-2.0

//! A datagram that was received.

use crate::{bindings, error::to_result, prelude::*, types::NotThreadSafe};
use core::{
    marker::PhantomData,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    slice,
};

/// A datagram that was received, for as long as its receiver runs.
///
/// # Invariants
///
/// `skb` is a datagram that we own for `'a`: its data begin at the UDP header, of which all is in
/// the linear part, and end with the payload. `ipv6` says which header is before.
pub struct Packet<'a> {
    skb: *mut bindings::sk_buff,
    ipv6: bool,
    _owned: PhantomData<&'a mut bindings::sk_buff>,
    _here: NotThreadSafe,
}

const UDP_HEADER: usize = size_of::<bindings::udphdr>();

impl Packet<'_> {
    /// Shows a packet to `f`.
    ///
    /// # Safety
    ///
    /// `skb` must be a datagram received by `sk` as `encap_rcv` gets it, and not be accessed by
    /// anyone else while `f` runs.
    pub(super) unsafe fn with(
        sk: *const bindings::sock,
        skb: *mut bindings::sk_buff,
        f: impl FnOnce(&mut Packet<'_>),
    ) {
        // SAFETY: `sk` is a socket.
        let family = unsafe { (*sk).__sk_common.skc_family };
        // INVARIANT: By this function's requirements; sockets for IPv6 are for nothing else.
        let mut packet = Packet {
            skb,
            ipv6: u32::from(family) == bindings::AF_INET6,
            _owned: PhantomData,
            _here: NotThreadSafe,
        };
        f(&mut packet)
    }

    /// Bytes of the payload.
    pub fn len(&self) -> usize {
        // SAFETY: By the type invariant the packet is valid.
        let len = unsafe { (*self.skb).len } as usize;
        len.saturating_sub(UDP_HEADER)
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The payload, in one piece.
    ///
    /// [`ENOMEM`] when it came in several and there is no memory for it as one: the datagram is as
    /// good as lost.
    pub fn bytes(&mut self) -> Result<&[u8]> {
        // SAFETY: By the type invariant the packet is ours alone.
        to_result(unsafe { bindings::skb_linearize(self.skb) })?;
        // SAFETY: As above; all data are in the linear part now, and `len()` bytes follow the
        // UDP header that they begin with.
        Ok(unsafe { slice::from_raw_parts((*self.skb).data.add(UDP_HEADER), self.len()) })
    }

    /// Where it came from.
    pub fn source(&self) -> SocketAddr {
        // SAFETY: By the type invariant there is a UDP header.
        let port = u16::from_be(unsafe { (*self.udp()).source });
        if self.ipv6 {
            // SAFETY: By the type invariant there is an IPv6 header, the address being plain bytes.
            let ip = unsafe {
                (*bindings::ipv6_hdr(self.skb))
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .saddr
            };
            self.v6(ip, port)
        } else {
            // SAFETY: By the type invariant there is an IPv4 header.
            let ip = unsafe {
                (*bindings::ip_hdr(self.skb))
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .saddr
            };
            v4(ip, port)
        }
    }

    /// Which of our addresses it was sent to.
    pub fn destination(&self) -> SocketAddr {
        // SAFETY: By the type invariant there is a UDP header.
        let port = u16::from_be(unsafe { (*self.udp()).dest });
        if self.ipv6 {
            // SAFETY: By the type invariant there is an IPv6 header, the address being plain bytes.
            let ip = unsafe {
                (*bindings::ipv6_hdr(self.skb))
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .daddr
            };
            self.v6(ip, port)
        } else {
            // SAFETY: By the type invariant there is an IPv4 header.
            let ip = unsafe {
                (*bindings::ip_hdr(self.skb))
                    .__bindgen_anon_1
                    .__bindgen_anon_1
                    .daddr
            };
            v4(ip, port)
        }
    }

    fn udp(&self) -> *const bindings::udphdr {
        // SAFETY: By the type invariant there is a UDP header.
        unsafe { bindings::udp_hdr(self.skb) }
    }

    fn v6(&self, ip: bindings::in6_addr, port: u16) -> SocketAddr {
        // SAFETY: All variants of the union are 16 plain bytes.
        let ip = Ipv6Addr::from(unsafe { ip.in6_u.u6_addr8 });
        let scope = if ip.is_unicast_link_local() {
            // SAFETY: By the type invariant this came in by IPv6.
            unsafe { bindings::inet6_iif(self.skb) as u32 }
        } else {
            0
        };
        SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope))
    }
}

fn v4(ip: bindings::__be32, port: u16) -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from(ip.to_ne_bytes()), port))
}
