// SPDX-License-Identifier: GPL-2.0

//! Socket addresses as the C side wants them.
//!
//! C headers: [`include/linux/socket.h`](srctree/include/linux/socket.h),
//! [`include/uapi/linux/in.h`](srctree/include/uapi/linux/in.h),
//! [`include/uapi/linux/in6.h`](srctree/include/uapi/linux/in6.h)

use crate::{bindings, prelude::*};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An IPv4 or IPv6 socket address in the layout of `struct sockaddr_storage`.
///
/// # Invariants
///
/// `ss_family` is `AF_INET` or `AF_INET6`, and the rest is laid out accordingly.
///
/// # Examples
///
/// ```
/// use core::net::SocketAddr;
/// use kernel::net::SockAddr;
///
/// let addr: SocketAddr = "192.0.2.1:7471".parse().map_err(|_| EINVAL)?;
/// assert_eq!(SocketAddr::from(SockAddr::from(addr)), addr);
/// # Ok::<(), Error>(())
/// ```
#[repr(transparent)]
#[derive(Copy, Clone)]
pub struct SockAddr(bindings::__kernel_sockaddr_storage);

impl SockAddr {
    /// Reads an address out of C's storage; [`EAFNOSUPPORT`] for other families.
    pub fn from_storage(storage: &bindings::__kernel_sockaddr_storage) -> Result<Self> {
        let family = storage_family(storage);
        if family == bindings::AF_INET as u16 || family == bindings::AF_INET6 as u16 {
            // INVARIANT: Just checked; C keeps the layout that the family announces.
            Ok(Self(*storage))
        } else {
            Err(EAFNOSUPPORT)
        }
    }

    /// The address as C's generic pointer, for as long as `self` is borrowed.
    pub fn as_ptr(&self) -> *mut bindings::sockaddr {
        (&raw const self.0).cast_mut().cast()
    }
}

fn storage_family(storage: &bindings::__kernel_sockaddr_storage) -> u16 {
    // SAFETY: All variants of the union begin with the family.
    unsafe { storage.__bindgen_anon_1.__bindgen_anon_1.ss_family }
}

impl From<SocketAddr> for SockAddr {
    fn from(addr: SocketAddr) -> Self {
        let mut storage: bindings::__kernel_sockaddr_storage = pin_init::zeroed();
        let raw = &raw mut storage;
        match addr {
            SocketAddr::V4(v4) => {
                let mut sin: bindings::sockaddr_in = pin_init::zeroed();
                sin.sin_family = bindings::AF_INET as u16;
                sin.sin_port = v4.port().to_be();
                sin.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                // SAFETY: A `sockaddr_storage` is larger and better aligned than a `sockaddr_in`.
                unsafe { raw.cast::<bindings::sockaddr_in>().write(sin) };
            }
            SocketAddr::V6(v6) => {
                let mut sin6: bindings::sockaddr_in6 = pin_init::zeroed();
                sin6.sin6_family = bindings::AF_INET6 as u16;
                sin6.sin6_port = v6.port().to_be();
                sin6.sin6_flowinfo = v6.flowinfo().to_be();
                sin6.sin6_scope_id = v6.scope_id();
                sin6.sin6_addr.in6_u.u6_addr8 = v6.ip().octets();
                // SAFETY: A `sockaddr_storage` is larger and better aligned than a `sockaddr_in6`.
                unsafe { raw.cast::<bindings::sockaddr_in6>().write(sin6) };
            }
        }
        // INVARIANT: Both arms set the family and fill in its layout.
        Self(storage)
    }
}

impl From<SockAddr> for SocketAddr {
    fn from(addr: SockAddr) -> Self {
        if storage_family(&addr.0) == bindings::AF_INET as u16 {
            // SAFETY: By the type invariant this is a `sockaddr_in`.
            let sin = unsafe { &*addr.as_ptr().cast::<bindings::sockaddr_in>() };
            let ip = Ipv4Addr::from(sin.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(sin.sin_port)))
        } else {
            // SAFETY: By the type invariant this is a `sockaddr_in6`.
            let sin6 = unsafe { &*addr.as_ptr().cast::<bindings::sockaddr_in6>() };
            // SAFETY: All variants of the union are 16 plain bytes.
            let ip = Ipv6Addr::from(unsafe { sin6.sin6_addr.in6_u.u6_addr8 });
            SocketAddr::V6(SocketAddrV6::new(
                ip,
                u16::from_be(sin6.sin6_port),
                u32::from_be(sin6.sin6_flowinfo),
                sin6.sin6_scope_id,
            ))
        }
    }
}
