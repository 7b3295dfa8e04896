// SPDX-License-Identifier: GPL-2.0

//! UDP sockets of the kernel's own.
//!
//! A [`Socket`] sends from any context but hard interrupts. With a [`Reception`] its datagrams go
//! to a [`Receiver`] as they come out of the network stack, in softirq context, without passing
//! through a queue: the way of tunnels.
//!
//! C headers: [`include/net/udp_tunnel.h`](srctree/include/net/udp_tunnel.h),
//! [`include/linux/net.h`](srctree/include/linux/net.h)

mod packet;
mod transmit;

pub use packet::Packet;

use super::{Net, SockAddr};
use crate::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{Atomic, Relaxed},
        Arc, //
    },
};
use core::{
    net::SocketAddr,
    ptr::{self, NonNull}, //
};

/// A UDP socket in a network namespace, bound to an address.
///
/// Must be dropped where it may sleep.
///
/// # Invariants
///
/// `sock` is a UDP socket of the namespace `net`, bound to `local`, that we own; its family is that
/// of `local`. As a socket of the kernel's own it holds no reference to the namespace, so `net`
/// does.
///
/// # Examples
///
/// ```
/// use core::net::SocketAddr;
/// use kernel::{
///     net::{
///         udp::{Packet, Receiver, Reception, Socket},
///         Net,
///     },
///     sync::Arc,
/// };
///
/// /// Sends back what it gets.
/// struct Echo {
///     socket: Arc<Socket>,
/// }
///
/// impl Receiver for Echo {
///     fn receive(&self, packet: &mut Packet<'_>) {
///         let source = packet.source();
///         if let Ok(bytes) = packet.bytes() {
///             // A datagram that is not sent is a datagram that is lost.
///             let _ = self.socket.send(&source, &[bytes]);
///         }
///     }
/// }
///
/// fn serve(local: SocketAddr) -> Result<Reception<Echo>> {
///     let socket = Arc::new(Socket::new(&Net::current(), local)?, GFP_KERNEL)?;
///     let echo = Arc::new(Echo { socket: socket.clone() }, GFP_KERNEL)?;
///     Reception::new(socket, echo)
/// }
/// ```
pub struct Socket {
    sock: NonNull<bindings::socket>,
    net: ARef<Net>,
    local: SocketAddr,
    /// Had or has a reception.
    receives: Atomic<bool>,
    /// May use the reserves of memory.
    memalloc: Atomic<bool>,
}

// SAFETY: A socket may be used and released by any task.
unsafe impl Send for Socket {}
// SAFETY: `&self` only sends, which takes no state of the socket's that is not atomic, and gives
// out what does not change.
unsafe impl Sync for Socket {}

impl Socket {
    /// Makes a socket in `net`, bound to `local`.
    ///
    /// An unspecified address receives what is sent to any address of the namespace; port 0 picks
    /// one that is free. [`EADDRINUSE`] and [`EADDRNOTAVAIL`] as for any socket. May sleep.
    pub fn new(net: &Net, local: SocketAddr) -> Result<Self> {
        let family = match local {
            SocketAddr::V4(_) => bindings::PF_INET,
            SocketAddr::V6(_) => bindings::PF_INET6,
        };
        let mut raw = ptr::null_mut();
        // SAFETY: `net` is a namespace, `raw` a place for the socket.
        to_result(unsafe {
            bindings::sock_create_kern(
                net.as_raw(),
                family as c_int,
                bindings::sock_type_SOCK_DGRAM as c_int,
                0,
                &mut raw,
            )
        })?;
        // INVARIANT: A UDP socket of this namespace that nobody else has; it is bound before it
        // is given out.
        let mut this = Self {
            sock: NonNull::new(raw).ok_or(ENOMEM)?,
            net: net.into(),
            local,
            receives: Atomic::new(false),
            memalloc: Atomic::new(false),
        };
        if local.is_ipv6() {
            // SAFETY: A socket of this family that is not bound yet.
            to_result(unsafe { bindings::ip6_sock_set_v6only(this.sk()) })?;
        }
        let addr = SockAddr::from(local);
        let len = match local {
            SocketAddr::V4(_) => size_of::<bindings::sockaddr_in>(),
            SocketAddr::V6(_) => size_of::<bindings::sockaddr_in6>(),
        };
        // SAFETY: `addr` is an address of the socket's family and of this length.
        to_result(unsafe {
            bindings::kernel_bind(this.sock.as_ptr(), addr.as_ptr().cast(), len as c_int)
        })?;
        this.local = this.bound_to()?;
        Ok(this)
    }

    /// Its own address, with the port that was picked for it.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The namespace that it is in.
    pub fn net(&self) -> &Net {
        &self.net
    }

    /// Lets the socket use the reserves of memory: for one that pages are written out through, so
    /// that memory can be had again. Sending does not wait for memory either way.
    ///
    /// May sleep.
    pub fn use_reserves(&self) {
        if !self.memalloc.xchg(true, Relaxed) {
            // SAFETY: By the type invariant this is a socket. Undone when it goes.
            unsafe { bindings::sk_set_memalloc(self.sk()) };
        }
    }

    fn bound_to(&self) -> Result<SocketAddr> {
        let mut storage: bindings::__kernel_sockaddr_storage = pin_init::zeroed();
        // SAFETY: The socket is ours, `storage` has room for an address of any family.
        let len =
            unsafe { bindings::kernel_getsockname(self.sock.as_ptr(), (&raw mut storage).cast()) };
        if len < 0 {
            return Err(Error::from_errno(len));
        }
        Ok(SockAddr::from_storage(&storage)?.into())
    }

    fn sk(&self) -> *mut bindings::sock {
        // SAFETY: By the type invariant `sock` is a socket, whose `sk` does not change.
        unsafe { (*self.sock.as_ptr()).sk }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.memalloc.load(Relaxed) {
            // SAFETY: Undoes `sk_set_memalloc()` once.
            unsafe { bindings::sk_clear_memalloc(self.sk()) };
        }
        // SAFETY: By the type invariant the socket is ours to release.
        unsafe {
            bindings::kernel_sock_shutdown(
                self.sock.as_ptr(),
                bindings::sock_shutdown_cmd_SHUT_RDWR,
            );
            bindings::sock_release(self.sock.as_ptr());
        }
    }
}

/// Takes the datagrams of a [`Socket`].
pub trait Receiver: Send + Sync + 'static {
    /// Takes one. Runs in softirq context, on many CPUs at once: it must not sleep, and shares
    /// locks with tasks only as a [`SpinLockBh`](crate::sync::SpinLockBh).
    fn receive(&self, packet: &mut Packet<'_>);
}

/// The datagrams of a socket go to a receiver, until this is dropped (which waits for those that
/// are being received, and so must happen where it may sleep).
///
/// Datagrams that come before the first reception wait in the socket's queue and are never seen;
/// those that come after it are dropped.
///
/// # Invariants
///
/// The socket's user data points to `receiver`, and its `encap_rcv` is [`Self::encap_rcv`].
pub struct Reception<R: Receiver> {
    socket: Arc<Socket>,
    receiver: Arc<R>,
}

impl<R: Receiver> Reception<R> {
    /// From now on. [`EBUSY`] when the socket had a reception before.
    pub fn new(socket: Arc<Socket>, receiver: Arc<R>) -> Result<Self> {
        if socket.receives.xchg(true, Relaxed) {
            return Err(EBUSY);
        }
        let mut config = bindings::udp_tunnel_sock_cfg {
            sk_user_data: ptr::from_ref::<R>(&receiver).cast_mut().cast(),
            encap_type: 1,
            encap_rcv: Some(Self::encap_rcv),
            ..pin_init::zeroed()
        };
        // SAFETY: A UDP socket of this namespace, set up only once. `encap_rcv` finds an `R` in the
        // user data: `receiver` lives until the user data were taken back and no one looks at them.
        unsafe { bindings::setup_udp_tunnel_sock(socket.net.as_raw(), socket.sk(), &mut config) };
        // INVARIANT: Just set up.
        Ok(Self { socket, receiver })
    }

    /// The socket.
    pub fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// What takes the datagrams.
    pub fn receiver(&self) -> &Arc<R> {
        &self.receiver
    }

    /// # Safety
    ///
    /// To be called by the network stack only, for a socket whose user data point to an `R` or are
    /// null, and with a datagram that the callee owns.
    unsafe extern "C" fn encap_rcv(sk: *mut bindings::sock, skb: *mut bindings::sk_buff) -> c_int {
        // SAFETY: Packets are received in a read-side critical section of RCU.
        let receiver = unsafe { bindings::rcu_dereference_sk_user_data(sk) }.cast::<R>();
        // SAFETY: As `Self::new` set them up; they stay for as long as the critical section does.
        match unsafe { receiver.as_ref() } {
            Some(receiver) => {
                // SAFETY: The packet is ours, and a UDP datagram of the socket's family.
                unsafe { Packet::with(sk, skb, |packet| receiver.receive(packet)) };
                // SAFETY: The packet is ours.
                unsafe { bindings::consume_skb(skb) };
            }
            // SAFETY: The packet is ours.
            None => unsafe { bindings::kfree_skb(skb) },
        }
        0
    }
}

impl<R: Receiver> Drop for Reception<R> {
    fn drop(&mut self) {
        // SAFETY: The socket lives; packets that come now find no receiver.
        unsafe { bindings::rcu_assign_sk_user_data(self.socket.sk(), ptr::null_mut()) };
        // Those that found it are through when this returns, and so `receiver` may go.
        //
        // SAFETY: We may sleep, by what this type asks of its owner.
        unsafe { bindings::synchronize_net() };
    }
}
