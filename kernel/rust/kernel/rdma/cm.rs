// SPDX-License-Identifier: GPL-2.0

//! Connections.

use super::{Device, Pd};
use crate::{
    bindings,
    error::{from_err_ptr, to_result},
    net::{Net, SockAddr},
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        ArcBorrow, //
    },
    types::ForeignOwnable,
};
use core::{
    cell::Cell,
    ptr::{self, NonNull}, //
};

/// Most bytes of private data that fit a connection request over IP.
pub const MAX_REQUEST_DATA: usize = 56;
/// Most bytes of private data that fit the answer to one.
pub const MAX_REPLY_DATA: usize = 196;
/// Most bytes of private data that fit a refusal.
pub const MAX_REJECT_DATA: usize = 148;

/// Gets the events of a [`CmId`].
pub trait EventHandler: Send + Sync + 'static {
    /// Something happened at the id that was made with `self`, or at a listening id.
    ///
    /// Runs in process context and may sleep; events of one id come one at a time. It must neither
    /// drop the id that the event is about nor call [`CmId::connect`] or [`CmId::accept`] on it:
    /// all three wait for the handler. Leave them to a work item.
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>);
}

/// What happened.
pub enum Event<'a> {
    /// [`CmId::resolve_addr`] is done; the id is bound to a device.
    AddrResolved,
    /// [`CmId::resolve_route`] is done.
    RouteResolved,
    /// Address, route or connection could not be had.
    Failed(Error),
    /// The peer said no.
    Rejected {
        /// Why, in terms of the transport.
        reason: i32,
        /// What the peer sent along.
        data: &'a [u8],
    },
    /// A peer wants to connect to this listening id.
    ConnectRequest(ConnectRequest<'a>),
    /// Connected.
    Established {
        /// What the peer sent along with [`CmId::accept`]; empty at the accepting side.
        data: &'a [u8],
    },
    /// The connection is over.
    Disconnected,
    /// The device goes away: all that was made on it must be dropped.
    DeviceRemoval,
    /// The address of the device changed.
    AddrChange,
    /// Anything else.
    Other(u32),
}

/// A request to connect. Dropping it refuses, without saying why.
pub struct ConnectRequest<'a> {
    raw: NonNull<bindings::rdma_cm_id>,
    conn: &'a bindings::rdma_conn_param,
    taken: &'a Cell<bool>,
}

impl ConnectRequest<'_> {
    /// What the peer sent along with [`CmId::connect`].
    pub fn data(&self) -> &[u8] {
        // SAFETY: The event says so, and is valid as long as the request is.
        unsafe { private_data(self.conn) }
    }

    /// Where the request came from.
    pub fn peer(&self) -> Result<SockAddr> {
        // SAFETY: The id is valid during the event, and its route set before.
        SockAddr::from_storage(unsafe { &self.raw.as_ref().route.addr.dst_addr })
    }

    /// Refuses, with up to [`MAX_REJECT_DATA`] bytes for the peer to read.
    pub fn reject(self, data: &[u8]) -> Result {
        // SAFETY: The id is valid during the event.
        unsafe { reject(self.raw, data) }
    }

    /// Takes the new id, to be [accepted](CmId::accept) or dropped, with a handler of its own.
    ///
    /// The id must not be dropped before the event handler has returned.
    pub fn into_id<T: EventHandler>(self, handler: Arc<T>) -> CmId {
        self.taken.set(true);
        let context = handler.into_foreign();
        // SAFETY: The handler lock of the new id is held during the event, so nobody reads these.
        unsafe {
            (*self.raw.as_ptr()).context = context.cast();
            (*self.raw.as_ptr()).event_handler = Some(event_callback::<T>);
        }
        // INVARIANT: `taken` makes the callback leave the id alone, so it is ours now.
        CmId {
            raw: self.raw,
            drop_handler: drop_handler::<T>,
        }
    }
}

/// An end of a connection, or a listener.
///
/// Dropping it disconnects, waits for an event handler that is running, and guarantees that none
/// runs afterwards.
///
/// # Invariants
///
/// `raw` is an id that nobody else destroys; its context is a foreign-owned `Arc` of the handler,
/// for the type that `drop_handler` was instantiated with.
pub struct CmId {
    raw: NonNull<bindings::rdma_cm_id>,
    drop_handler: unsafe fn(*mut c_void),
}

// SAFETY: Any thread may use and destroy an id; handlers are `Send + Sync`.
unsafe impl Send for CmId {}
// SAFETY: The connection manager does its own locking.
unsafe impl Sync for CmId {}

impl CmId {
    /// Makes an id in a network namespace; `owner` names its user in `rdma resource show`.
    pub fn new<T: EventHandler>(net: &Net, handler: Arc<T>, owner: &'static CStr) -> Result<Self> {
        let context = handler.into_foreign();
        // SAFETY: The namespace is valid, and the context fits the callback.
        let raw = from_err_ptr(unsafe {
            bindings::__rdma_create_kernel_id(
                net.as_raw(),
                Some(event_callback::<T>),
                context.cast(),
                bindings::rdma_ucm_port_space_RDMA_PS_TCP,
                bindings::ib_qp_type_IB_QPT_RC,
                owner.as_char_ptr(),
            )
        });
        match raw.and_then(|raw| NonNull::new(raw).ok_or(ENOMEM)) {
            // INVARIANT: A new id, with the context given above.
            Ok(raw) => Ok(Self {
                raw,
                drop_handler: drop_handler::<T>,
            }),
            Err(e) => {
                // SAFETY: No id took the context.
                unsafe { drop_handler::<T>(context.cast()) };
                Err(e)
            }
        }
    }

    /// Binds to a local address, which may be a wildcard.
    pub fn bind(&self, addr: &SockAddr) -> Result {
        // SAFETY: Both are valid; C only reads the address.
        to_result(unsafe { bindings::rdma_bind_addr(self.as_raw(), addr.as_ptr()) })
    }

    /// Lets the id share its local address with others.
    pub fn set_reuse_addr(&self) -> Result {
        // SAFETY: The id is valid.
        to_result(unsafe { bindings::rdma_set_reuseaddr(self.as_raw(), 1) })
    }

    /// Has the queue pair wait `4096 ns << exponent` (below 32) for an acknowledgement, at each of
    /// its tries. To be set before the connection is made; by default it depends on the path.
    pub fn set_ack_timeout(&self, exponent: u8) -> Result {
        // SAFETY: The id is valid.
        to_result(unsafe { bindings::rdma_set_ack_timeout(self.as_raw(), exponent & 31) })
    }

    /// Waits for peers: each is an [`Event::ConnectRequest`].
    pub fn listen(&self, backlog: u16) -> Result {
        // SAFETY: The id is valid.
        to_result(unsafe { bindings::rdma_listen(self.as_raw(), c_int::from(backlog)) })
    }

    /// Starts to look for the device that leads to `dst`; ends in [`Event::AddrResolved`].
    pub fn resolve_addr(&self, src: Option<&SockAddr>, dst: &SockAddr, timeout_ms: u32) -> Result {
        // SAFETY: All are valid; C only reads the addresses.
        to_result(unsafe {
            bindings::rdma_resolve_addr(
                self.as_raw(),
                src.map_or(ptr::null_mut(), SockAddr::as_ptr),
                dst.as_ptr(),
                timeout_ms as c_ulong,
            )
        })
    }

    /// Starts to look for the path to the peer; ends in [`Event::RouteResolved`].
    pub fn resolve_route(&self, timeout_ms: u32) -> Result {
        // SAFETY: The id is valid.
        to_result(unsafe { bindings::rdma_resolve_route(self.as_raw(), timeout_ms as c_ulong) })
    }

    fn conn_param(&self, data: &[u8]) -> Result<bindings::rdma_conn_param> {
        let mut param: bindings::rdma_conn_param = pin_init::zeroed();
        let device = self.device()?;
        param.private_data = data.as_ptr().cast();
        param.private_data_len = data.len() as u8;
        param.responder_resources = device.max_responder_resources().min(16);
        param.initiator_depth = device.max_initiator_depth().min(16);
        // Not 7, which rxe takes for ever: a queue pair whose peer has gone would never tell.
        param.retry_count = 6;
        // For ever: a peer that is slow to post receives is not a broken one.
        param.rnr_retry_count = 7;
        Ok(param)
    }

    /// Asks the peer to connect, with up to [`MAX_REQUEST_DATA`] bytes for it to read.
    ///
    /// The id needs a resolved route and a queue pair. Ends in [`Event::Established`].
    pub fn connect(&self, data: &[u8]) -> Result {
        if data.len() > MAX_REQUEST_DATA {
            return Err(EMSGSIZE);
        }
        let mut param = self.conn_param(data)?;
        // SAFETY: The id is valid; C copies the private data.
        to_result(unsafe { bindings::rdma_connect(self.as_raw(), &mut param) })
    }

    /// Agrees to a [`ConnectRequest`], with up to [`MAX_REPLY_DATA`] bytes for the peer to read.
    ///
    /// The id needs a queue pair. Ends in [`Event::Established`].
    pub fn accept(&self, data: &[u8]) -> Result {
        if data.len() > MAX_REPLY_DATA {
            return Err(EMSGSIZE);
        }
        let mut param = self.conn_param(data)?;
        // SAFETY: The id is valid; C copies the private data. Accepting needs the handler lock.
        unsafe {
            bindings::rdma_lock_handler(self.as_raw());
            let ret = bindings::rdma_accept(self.as_raw(), &mut param);
            bindings::rdma_unlock_handler(self.as_raw());
            to_result(ret)
        }
    }

    /// Refuses a [`ConnectRequest`], with up to [`MAX_REJECT_DATA`] bytes for the peer to read.
    pub fn reject(&self, data: &[u8]) -> Result {
        // SAFETY: The id is valid.
        unsafe { reject(self.raw, data) }
    }

    /// Ends the connection: the queue pair stops, and both sides see [`Event::Disconnected`].
    pub fn disconnect(&self) -> Result {
        // SAFETY: The id is valid.
        to_result(unsafe { bindings::rdma_disconnect(self.as_raw()) })
    }

    /// The device that the id is bound to; [`ENODEV`] when it is not, or the device is going away.
    ///
    /// To be called once an event or a successful [`bind`](Self::bind) says that it is bound.
    pub fn device(&self) -> Result<ARef<Device>> {
        // SAFETY: The id is valid; once bound to a device it stays so and keeps it from being freed.
        unsafe { Device::get((*self.as_raw()).device) }
    }

    #[inline]
    fn as_raw(&self) -> *mut bindings::rdma_cm_id {
        self.raw.as_ptr()
    }

    pub(super) fn create_qp(
        &self,
        pd: &Pd,
        attr: &mut bindings::ib_qp_init_attr,
    ) -> Result<NonNull<bindings::ib_qp>> {
        // SAFETY: All are valid. The handler lock keeps two callers, and the end of the device,
        // apart; `rdma_create_qp()` checks that the devices are the same.
        unsafe {
            bindings::rdma_lock_handler(self.as_raw());
            let ret = if (*self.as_raw()).qp.is_null() {
                to_result(bindings::rdma_create_qp(self.as_raw(), pd.as_raw(), attr))
            } else {
                Err(EBUSY)
            };
            let qp = (*self.as_raw()).qp;
            bindings::rdma_unlock_handler(self.as_raw());
            ret.and_then(|()| NonNull::new(qp).ok_or(EIO))
        }
    }

    /// Destroys the queue pair, which the caller must own and have drained.
    pub(super) fn destroy_qp(&self) {
        // SAFETY: Only the owner of the queue pair that `create_qp()` made calls this, once.
        unsafe { bindings::rdma_destroy_qp(self.as_raw()) };
    }
}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: Ours by the type invariant, without a queue pair, as that would hold an `Arc`
        // of us. After this no handler runs, so the context can go.
        unsafe {
            let context = (*self.as_raw()).context;
            bindings::rdma_destroy_id(self.as_raw());
            (self.drop_handler)(context);
        }
    }
}

/// # Safety
///
/// `id` must be valid.
unsafe fn reject(id: NonNull<bindings::rdma_cm_id>, data: &[u8]) -> Result {
    if data.len() > MAX_REJECT_DATA {
        return Err(EMSGSIZE);
    }
    // SAFETY: The id is valid; C copies the data.
    to_result(unsafe {
        bindings::rdma_reject(
            id.as_ptr(),
            data.as_ptr().cast(),
            data.len() as u8,
            bindings::ib_cm_rej_reason_IB_CM_REJ_CONSUMER_DEFINED as u8,
        )
    })
}

/// # Safety
///
/// `context` must be from `Arc::<T>::into_foreign()` and not be used again.
unsafe fn drop_handler<T: EventHandler>(context: *mut c_void) {
    // SAFETY: By this function's requirement.
    drop(unsafe { <Arc<T> as ForeignOwnable>::from_foreign(context.cast()) });
}

/// # Safety
///
/// `conn` must be the `conn` member of a live event that has one.
unsafe fn private_data(conn: &bindings::rdma_conn_param) -> &[u8] {
    if conn.private_data.is_null() {
        return &[];
    }
    // SAFETY: The event gives the data and their length.
    unsafe { core::slice::from_raw_parts(conn.private_data.cast(), conn.private_data_len.into()) }
}

/// # Safety
///
/// Called by the connection manager for an id whose context is a foreign-owned `Arc<T>`, or for a
/// new child of one.
unsafe extern "C" fn event_callback<T: EventHandler>(
    id: *mut bindings::rdma_cm_id,
    event: *mut bindings::rdma_cm_event,
) -> c_int {
    // SAFETY: Valid during the call.
    let (raw, event) = unsafe { (NonNull::new_unchecked(id), &*event) };
    // SAFETY: The context is owned by a `CmId`, whose drop waits for this call.
    let handler = unsafe { <Arc<T> as ForeignOwnable>::borrow((*id).context.cast()) };
    // SAFETY: Only read for events of a reliable connection that have it.
    let conn = unsafe { &event.param.conn };
    // SAFETY: Likewise.
    let data = || unsafe { private_data(conn) };
    let taken = Cell::new(true);
    let event = match event.event {
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_RESOLVED => Event::AddrResolved,
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_RESOLVED => Event::RouteResolved,
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_ERROR
        | bindings::rdma_cm_event_type_RDMA_CM_EVENT_ROUTE_ERROR
        | bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_ERROR
        | bindings::rdma_cm_event_type_RDMA_CM_EVENT_UNREACHABLE => {
            Event::Failed(match event.status {
                0.. => EHOSTUNREACH,
                errno => Error::from_errno(errno),
            })
        }
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_REJECTED => Event::Rejected {
            reason: event.status,
            data: data(),
        },
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_CONNECT_REQUEST => {
            taken.set(false);
            Event::ConnectRequest(ConnectRequest {
                raw,
                conn,
                taken: &taken,
            })
        }
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_ESTABLISHED => {
            Event::Established { data: data() }
        }
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_DISCONNECTED => Event::Disconnected,
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_DEVICE_REMOVAL => Event::DeviceRemoval,
        bindings::rdma_cm_event_type_RDMA_CM_EVENT_ADDR_CHANGE => Event::AddrChange,
        other => Event::Other(other),
    };
    T::event(handler, event);
    // Non-zero makes the connection manager destroy the id: a child that nobody took. The ids
    // that a `CmId` owns are left to it.
    if taken.get() {
        0
    } else {
        ECONNREFUSED.to_errno()
    }
}
