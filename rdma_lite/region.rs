// SPDX-License-Identifier: GPL-2.0

//! Memory regions: drives their [protocol](crate::core::region) at the owner ([`owner`]) and at their
//! holders ([`mapping`]).
//!
//! Locks, in this order: [`Regions::mappings`], [`areas`], `Mapping::keys`; [`Regions::registry`], `Host::map`.
//! None is held during a call or an access.

pub(crate) mod areas;
pub(crate) mod bounce;
pub(crate) mod mapping;
pub(crate) mod memory;
pub(crate) mod owner;

use self::{bounce::Bounces, mapping::Mapping, memory::Memory};
use crate::{
    core::{
        holder::Life,
        region::{
            registry::{Detached, Registry},
            shares::Payer,
            wire::Reply,
        },
    },
    host::Host,
    peer::PeerLink,
    transport::NodeWindow,
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
        Mutex, //
    },
};

/// The port of regions.
pub(crate) const PORT: u16 = 8;

/// A chunk that is open for a holder.
pub(crate) struct Opened {
    link: PeerLink,
    window: NodeWindow,
}

impl Opened {
    /// How its holder reaches the chunk; `None` when the connection for that is gone.
    fn key(&self) -> Option<Reply> {
        let ring = self.link.own_ring()?;
        Some(Reply {
            value: self.window.addr(),
            small: self.window.rkey(),
            other: ring.addr,
            rights: ring.rkey,
            ..Reply::default()
        })
    }

    /// Afterwards the holder cannot reach the memory, come what may.
    fn shut(self) {
        self.link.hide(self.window);
    }
}

pub(crate) type Owned = Registry<Arc<Memory>, Opened>;

/// The regions of a node, and those of others that it has mapped.
#[pin_data]
pub(crate) struct Regions {
    #[pin]
    registry: Mutex<Owned>,
    /// By tag.
    #[pin]
    mappings: Mutex<RBTree<u64, Arc<Mapping>>>,
    next_tag: Atomic<u64>,
    #[pin]
    pub(crate) bounces: Bounces,
}

impl Regions {
    /// Offers up to `limit` bytes to all nodes.
    pub(crate) fn new(limit: u64) -> impl PinInit<Self> {
        pin_init!(Self {
            registry <- new_mutex!(Registry::new(limit), "lite_regions"),
            mappings <- new_mutex!(RBTree::new(), "lite_mappings"),
            next_tag: Atomic::new(0),
            bounces <- Bounces::new(),
        })
    }

    /// A tag of this life of ours, for anything that is held at other nodes.
    pub(crate) fn new_tag(&self) -> u64 {
        self.next_tag.fetch_add(1, Relaxed) + 1
    }

    /// Bytes that regions of a user take.
    pub(crate) fn used_by(&self, payer: Payer) -> u64 {
        self.registry.lock().shares().of(payer)
    }

    /// Who has the next bytes after `last`, in the order of ids, and how many.
    pub(crate) fn next_payer(&self, last: Option<Payer>) -> Option<(Payer, u64)> {
        let registry = self.registry.lock();
        let mut shares = registry.shares().iter();
        shares.find(|(payer, _)| last.is_none_or(|last| *payer > last))
    }

    /// Bytes that our regions take.
    pub(crate) fn used(&self) -> u64 {
        self.registry.lock().used()
    }
}

impl Host {
    /// Lets go of what a mapping that is not used any more had.
    pub(crate) fn drop_detached(&self, detached: Detached<Arc<Memory>, Opened>) {
        for (_, opened) in detached.windows {
            opened.shut();
        }
        if let Some(memory) = detached.memory {
            self.drop_memory(memory);
        }
    }

    fn drop_memory(&self, memory: Arc<Memory>) {
        memory.take_back();
        let bytes = memory.footprint();
        let payer = memory.payer();
        drop(memory);
        self.regions.registry.lock().released(bytes, payer);
    }

    /// A map is in force: who was dropped has mapped nothing any more.
    pub(crate) fn drop_mappings(&self) {
        loop {
            let detached = {
                let mut registry = self.regions.registry.lock();
                registry.drop_life(|life: Life| !self.is_alive(life))
            };
            match detached {
                Some(detached) => self.drop_detached(detached),
                None => break,
            }
        }
        if self.is_alive(self.life()) {
            return;
        }
        // Ours are among them, which nobody recalls.
        for (_, mapping) in self.regions.mappings.lock().iter() {
            mapping.lose_areas();
        }
    }

    /// The node goes off, and its links are gone: so are its regions.
    pub(crate) fn drop_regions(&self) {
        // Windows may keep pages of processes: those go when no lock is held.
        let mapped = self.regions.registry.lock().close();
        drop(mapped);
        loop {
            let memory = self.regions.registry.lock().drop_region();
            match memory {
                Some(memory) => self.drop_memory(memory),
                None => break,
            }
        }
        let mappings = ::core::mem::take(&mut *self.regions.mappings.lock());
        for (_, mapping) in mappings.iter() {
            mapping.end();
        }
        drop(mappings);
        self.regions.bounces.close();
    }
}
