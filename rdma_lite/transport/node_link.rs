// SPDX-License-Identifier: GPL-2.0

//! A link over whichever transport it was made.

use super::{
    access::Way, chunk::Chunk, guests::GuestLink, handshake::End, shm, shm::ShmLink,
    verbs::VerbsLink, window::Window, Link, LinkUser, Piece,
};
use crate::core::{wire::ReplyBuffer, Allowed, Class, Hello, Transport};
use kernel::{
    prelude::*,
    rdma::{cm::ConnectRequest, Access, DmaBuffer, RemoteAddr},
    sync::Arc,
};

/// A link. Its clones are the same one.
pub(crate) enum NodeLink<U: LinkUser> {
    /// Over a queue pair.
    Verbs(Arc<VerbsLink<U>>),
    /// Over memory of the kernel of both nodes.
    Shm(Arc<ShmLink<U>>),
    /// Over memory that the kernels of both nodes share.
    Guests(Arc<GuestLink<U>>),
}

/// Memory of ours that a peer is let into.
pub(crate) enum NodeWindow {
    Verbs(Window),
    /// By the key over all memory: it cannot be shut.
    Global(RemoteAddr),
    Shm(shm::Window),
}

impl NodeWindow {
    /// Where the peer finds it.
    pub(crate) fn addr(&self) -> u64 {
        match self {
            Self::Verbs(window) => window.addr(),
            Self::Global(remote) => remote.addr,
            Self::Shm(window) => window.addr(),
        }
    }

    /// The key that opens it.
    pub(crate) fn rkey(&self) -> u32 {
        match self {
            Self::Verbs(window) => window.rkey(),
            Self::Global(remote) => remote.rkey,
            Self::Shm(window) => window.rkey(),
        }
    }
}

impl<U: LinkUser> Clone for NodeLink<U> {
    fn clone(&self) -> Self {
        match self {
            Self::Verbs(link) => Self::Verbs(link.clone()),
            Self::Shm(link) => Self::Shm(link.clone()),
            Self::Guests(link) => Self::Guests(link.clone()),
        }
    }
}

impl<U: LinkUser> From<Arc<VerbsLink<U>>> for NodeLink<U> {
    fn from(link: Arc<VerbsLink<U>>) -> Self {
        Self::Verbs(link)
    }
}

impl<U: LinkUser> From<Arc<ShmLink<U>>> for NodeLink<U> {
    fn from(link: Arc<ShmLink<U>>) -> Self {
        Self::Shm(link)
    }
}

/// Does the same on a link of any transport.
macro_rules! on_any {
    ($self:expr, $link:ident => $do:expr) => {
        match $self {
            NodeLink::Verbs($link) => $do,
            NodeLink::Shm($link) => $do,
            NodeLink::Guests($link) => $do,
        }
    };
}

impl<U: LinkUser> NodeLink<U> {
    /// What carries it.
    pub(crate) fn transport(&self) -> Transport {
        match self {
            Self::Verbs(_) => Transport::Verbs,
            Self::Shm(_) => Transport::Shm,
            Self::Guests(_) => Transport::Guests,
        }
    }

    /// Whether both are one link.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Verbs(one), Self::Verbs(other)) => Arc::ptr_eq(one, other),
            (Self::Shm(one), Self::Shm(other)) => Arc::ptr_eq(one, other),
            (Self::Guests(one), Self::Guests(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// What the user knows the link by.
    pub(crate) fn tag(&self) -> u32 {
        on_any!(self, link => link.tag())
    }

    /// Sets what the user knows the link by.
    pub(crate) fn set_tag(&self, tag: u32) {
        on_any!(self, link => link.set_tag(tag))
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        on_any!(self, link => link.is_over())
    }

    /// The peer asks for another queue pair of this link, and is refused if it cannot have it.
    pub(crate) fn accept_lane(&self, request: ConnectRequest<'_>, hello: &Hello) {
        // What shares memory has none: dropped, and so refused.
        if let Self::Verbs(link) = self {
            link.accept_lane(request, hello);
        }
    }

    /// Ends the link: `down` follows.
    pub(crate) fn fail(&self, why: Error) {
        on_any!(self, link => link.fail(why))
    }

    /// Ends the link without telling the user, and waits until nothing of it is left.
    ///
    /// Not to be called by the user's callbacks.
    pub(crate) fn shutdown(&self) {
        on_any!(self, link => link.shutdown())
    }

    /// See [`Link::send`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn send(
        &self,
        offset: u32,
        header: &[u8],
        payload: impl Iterator<Item = Piece>,
        imm: u32,
    ) -> Result {
        // SAFETY: The caller promises what each wants.
        on_any!(self, link => unsafe { link.send(offset, header, payload, imm) })
    }

    /// See [`Link::ring_bell`].
    pub(crate) fn ring_bell(&self, imm: u32) -> Result {
        on_any!(self, link => link.ring_bell(imm))
    }

    /// See [`Link::read`].
    pub(crate) fn read(&self, offset: u32, into: &mut [u8]) -> Result {
        on_any!(self, link => link.read(offset, into))
    }

    /// See [`Link::expose`].
    ///
    /// # Safety
    ///
    /// As there.
    pub(crate) unsafe fn expose(&self, ptr: *mut u8, len: usize) -> Result<NodeWindow> {
        match self {
            // SAFETY: As the caller promises.
            Self::Verbs(link) => unsafe { link.expose(ptr, len) }.map(NodeWindow::Verbs),
            // SAFETY: As above.
            Self::Shm(link) => unsafe { link.expose(ptr, len) }.map(NodeWindow::Shm),
            // SAFETY: As above.
            Self::Guests(link) => unsafe { link.expose(ptr, len) }.map(NodeWindow::Shm),
        }
    }

    /// See [`Link::hide`]. The window must be of this link.
    pub(crate) fn hide(&self, window: NodeWindow) {
        match (self, window) {
            (Self::Verbs(link), NodeWindow::Verbs(window)) => link.hide(window),
            (Self::Shm(link), NodeWindow::Shm(window)) => link.hide(window),
            (Self::Verbs(_), NodeWindow::Global(_)) => {}
            (Self::Guests(link), NodeWindow::Shm(window)) => link.hide(window),
            _ => pr_err!("a window of one link was given to another\n"),
        }
    }

    /// See [`Link::buffer`].
    pub(crate) fn buffer(&self, len: usize) -> Result<Arc<DmaBuffer>> {
        on_any!(self, link => link.buffer(len))
    }

    /// See [`Link::put`].
    pub(crate) fn put(&self, buffer: &Arc<DmaBuffer>, len: usize, to: &ReplyBuffer) -> Result {
        on_any!(self, link => link.put(buffer, len, to))
    }

    /// Lets the peer into a chunk, until the window is given to [`Self::hide`]. The chunk lives
    /// until then, whatever becomes of the link. With one key over all memory the peer is told where
    /// the chunk is, and that is all.
    pub(crate) fn open(&self, chunk: &Chunk, allowed: Allowed) -> Result<NodeWindow> {
        match self {
            Self::Verbs(link) => {
                if let (true, Chunk::Buffer(buffer)) = (link.has_global_rkey(), chunk) {
                    return link.global_addr(buffer).map(NodeWindow::Global);
                }
                let access = match (allowed.read, allowed.write) {
                    (true, true) => Access::REMOTE_READ | Access::REMOTE_WRITE,
                    (true, false) => Access::REMOTE_READ,
                    (false, true) => Access::REMOTE_WRITE,
                    (false, false) => return Err(EACCES),
                };
                link.open(chunk, access).map(NodeWindow::Verbs)
            }
            Self::Shm(link) => link.open(chunk, allowed).map(NodeWindow::Shm),
            Self::Guests(link) => link.open(chunk, allowed).map(NodeWindow::Shm),
        }
    }

    /// The ring that the peer writes to: names this connection, on both sides.
    pub(crate) fn own_ring(&self) -> Option<RemoteAddr> {
        on_any!(self, link => link.own_ring())
    }

    /// The ring of the peer that we write to.
    pub(crate) fn peer_ring(&self) -> Option<RemoteAddr> {
        on_any!(self, link => link.peer_ring())
    }

    /// Reads `len` bytes at `remote` into the beginning of `buffer`, or writes them there, and waits
    /// for the end of it, and says how it ended. Until then the device may use the buffer; it may do so
    /// still when the wait failed.
    pub(crate) fn access(
        &self,
        class: Class,
        way: Way,
        buffer: &Arc<DmaBuffer>,
        len: usize,
        remote: RemoteAddr,
        timeout_ms: u32,
    ) -> Result<Result> {
        match self {
            Self::Verbs(link) => link.access(class, way, buffer, len, remote, timeout_ms),
            // A copy by whoever asks: nothing that classes would have to share.
            Self::Shm(link) => Ok(link.access(way, buffer, len, remote)),
            // The owner's work item is the only one that copies.
            Self::Guests(link) => link.access(class, way, buffer, len, remote, timeout_ms),
        }
    }
}
