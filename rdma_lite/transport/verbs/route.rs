// SPDX-License-Identifier: GPL-2.0

//! Between which addresses a link and its lanes connect, and how long each step of that may take.

use ::core::net::SocketAddr;
use kernel::{
    net::{Net, SockAddr},
    prelude::*,
    rdma::cm::CmId,
    sync::aref::ARef,
};

/// How long the address of a peer may take to be found, by the first attempt. The kernel may miss that it
/// was, and looks again only when this is over; the next attempt has more time.
const ADDRESS_MS: u32 = 200;
/// How long the path to it may take to be found.
const PATH_MS: u32 = 2000;

/// Where a link is connected to: its lanes go there too.
pub(crate) struct Route {
    net: ARef<Net>,
    from: SocketAddr,
    to: SocketAddr,
    /// How many times those times.
    patience: u32,
}

impl Route {
    /// From an address of a namespace to one of the peer's.
    pub(crate) fn new(net: &Net, from: &SockAddr, to: &SockAddr, patience: u32) -> Self {
        Self {
            net: net.into(),
            from: (*from).into(),
            to: (*to).into(),
            patience,
        }
    }

    /// Where it begins.
    pub(super) fn net(&self) -> &Net {
        &self.net
    }

    /// Starts to look for the device that leads there.
    pub(super) fn resolve(&self, id: &CmId) -> Result {
        let ms = ADDRESS_MS.saturating_mul(self.patience);
        id.resolve_addr(Some(&self.from.into()), &self.to.into(), ms)
    }
}

/// Starts to look for the path, once the device was found.
pub(super) fn resolve_path(id: &CmId) -> Result {
    id.resolve_route(PATH_MS)
}
