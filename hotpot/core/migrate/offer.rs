// SPDX-License-Identifier: GPL-2.0

//! Whether a chunk may come: its pages take room for good, since an owner never drops its own copies. So a
//! node takes no chunk for its benefit by which more than half of its device would be pages of its own; what is
//! left is for what its users store, for the chunks that it owns by the dataset's row, and for copies.
//! When the owner is in need of room it says itself how full the other one may be ([`relieve`](super::relieve)).

use super::{
    super::{
        handler,
        host::Host,
        msg::{wire_struct, Reader, Request, Wire, Writer},
        node::Node,
    },
    relieve::WHOLE,
};
use kernel::prelude::*;

/// Owner to the node that a chunk is to go to: may it come?
#[derive(Debug)]
pub struct Offer {
    /// Pages of the chunk that were committed.
    pub pages: u64,
    /// Most of the device that may be pages of the node's own then, in parts of 1024.
    pub limit: u64,
}
wire_struct!(Offer { pages, limit });
impl Request<'_> for Offer {
    const OPCODE: u16 = 36;
    /// Whether it may.
    type Reply = bool;
}

/// Where chunks that move for their benefit stop.
pub(super) const HALF: u64 = WHOLE / 2;

/// Pages of our own: what the repair counted in its last round over all pages, and what was let in since.
#[derive(Default)]
pub(in super::super) struct OwnPages {
    /// Nothing before the first round in this epoch of the map.
    counted: Option<u64>,
    counting: u64,
    /// Let in since the round began that counts now, and since the one before began.
    let_in: u64,
    let_in_before: u64,
}

impl OwnPages {
    /// The map has changed: other pages may be ours.
    pub(in super::super) fn forget(&mut self) {
        self.counted = None;
    }

    /// A round begins.
    pub(in super::super) fn begin(&mut self) {
        self.counting = 0;
        self.let_in_before = core::mem::take(&mut self.let_in);
    }

    /// The round has come by a page of ours.
    pub(in super::super) fn count(&mut self) {
        self.counting += 1;
    }

    /// The round is over.
    pub(in super::super) fn end(&mut self) {
        self.counted = Some(self.counting);
    }

    /// So many are ours, as far as was counted.
    pub(super) fn known(&self) -> u64 {
        self.counted.unwrap_or(0)
    }

    /// At most so many are ours, of `used` pages of the device.
    fn at_most(&self, used: u64) -> u64 {
        let let_in = self.let_in.saturating_add(self.let_in_before);
        let counted = self.counted.map(|of| of.saturating_add(let_in));
        counted.map_or(used, |of| of.min(used))
    }
}

impl Node {
    fn lets_in(&mut self, offer: &Offer) -> bool {
        let len = self.space.len();
        let own = self.migration.own.at_most(len - self.space.free());
        let then = own.saturating_add(offer.pages);
        let fits = then.saturating_mul(WHOLE) <= len.saturating_mul(offer.limit.min(WHOLE));
        if fits {
            let let_in = &mut self.migration.own.let_in;
            *let_in = let_in.saturating_add(offer.pages);
        }
        fits
    }
}

/// Answers an owner.
pub(in super::super) fn on_offer<H: Host>(host: &H, offer: &Offer) -> bool {
    host.with(|node| node.lets_in(offer))
}

/// Asks the next owner of a chunk. ENOSPC when it may not come.
pub(super) async fn offer<H: Host>(host: &H, to: u32, offer: &Offer) -> Result {
    let until = handler::call_until(host, u64::MAX);
    let asked = handler::ask(host, to, offer, until).await;
    match asked.map_err(handler::errno)? {
        true => Ok(()),
        false => Err(ENOSPC),
    }
}
