// SPDX-License-Identifier: GPL-2.0

//! The end that waits for peers to connect.

use kernel::{
    net::{Net, SockAddr},
    prelude::*,
    rdma::{
        cm::{CmId, ConnectRequest, Event, EventHandler},
        Device,
    },
    sync::{aref::ARef, Arc, ArcBorrow},
};

/// Who decides about connections that peers ask for.
pub(crate) trait Acceptor: Send + Sync + 'static {
    /// A peer asks: take the request's id, reject or drop it. Process context.
    fn request(this: &Arc<Self>, request: ConnectRequest<'_>);

    /// The device that the listener is bound to is going away.
    fn device_gone(this: &Arc<Self>);
}

struct Handler<A: Acceptor>(Arc<A>);

impl<A: Acceptor> EventHandler for Handler<A> {
    fn event(this: ArcBorrow<'_, Self>, event: Event<'_>) {
        match event {
            Event::ConnectRequest(request) => A::request(&this.0, request),
            Event::DeviceRemoval => A::device_gone(&this.0),
            _ => {}
        }
    }
}

/// Listens until it is dropped. No request reaches the acceptor after that.
pub(crate) struct Listener(CmId);

impl Listener {
    /// Listens at `addr` in `net`.
    pub(crate) fn new<A: Acceptor>(net: &Net, addr: &SockAddr, acceptor: Arc<A>) -> Result<Self> {
        let id = CmId::new(net, Arc::new(Handler(acceptor), GFP_KERNEL)?, crate::OWNER)?;
        id.set_reuse_addr()?;
        id.bind(addr)?;
        id.listen(64)?;
        Ok(Self(id))
    }

    /// The verbs device that has the address.
    pub(crate) fn device(&self) -> Result<ARef<Device>> {
        self.0.device()
    }

    /// Whether the address belongs to the verbs device of this name.
    pub(crate) fn is_at(&self, device: &[u8]) -> bool {
        self.0.device().is_ok_and(|d| d.is_named(device))
    }
}
