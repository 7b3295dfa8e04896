// SPDX-License-Identifier: GPL-2.0

//! Who holds something of ours: a mapping of a region, a lock, a place at a barrier.

use kernel::prelude::*;

/// Longest name of a region, lock or barrier, in bytes.
pub const NAME_MAX: usize = 63;

/// A name: 0 (none) to [`NAME_MAX`] bytes, none of them NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Name {
    /// No name.
    pub const NONE: Self = Self {
        bytes: [0; NAME_MAX],
        len: 0,
    };

    /// `EINVAL` when it is too long or has a NUL in it.
    pub fn new(name: &[u8]) -> Result<Self> {
        let mut bytes = [0; NAME_MAX];
        let room = bytes.get_mut(..name.len()).ok_or(EINVAL)?;
        if name.contains(&0) {
            return Err(EINVAL);
        }
        room.copy_from_slice(name);
        Ok(Self {
            bytes,
            len: name.len() as u8,
        })
    }

    /// From a field of 64 bytes that ends in NULs, as in the user ABI and on the wire.
    pub fn from_field(field: &[u8; NAME_MAX + 1]) -> Result<Self> {
        let len = field.iter().position(|byte| *byte == 0).ok_or(EINVAL)?;
        if field[len..].iter().any(|byte| *byte != 0) {
            return Err(EINVAL);
        }
        Self::new(&field[..len])
    }

    /// As a field of 64 bytes.
    pub fn to_field(self) -> [u8; NAME_MAX + 1] {
        let mut field = [0; NAME_MAX + 1];
        field[..NAME_MAX].copy_from_slice(&self.bytes);
        field
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it is no name.
    pub fn is_none(&self) -> bool {
        self.len == 0
    }
}

/// One life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// The node.
    pub node: u16,
    /// When that life began.
    pub incarnation: u64,
}

/// One thing that is held: by a life of a node, under a tag that this life uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Whose it is.
    pub life: Life,
    /// Chosen by the holder, never twice.
    pub tag: u64,
}

/// Tags that were given up before they were heard of. A request that took long on its way, and whose
/// sender has given up meanwhile, must not leave something behind that nobody knows of.
#[derive(Debug, Default)]
pub struct Tombstones {
    ring: KVec<Holder>,
    next: usize,
}

impl Tombstones {
    /// The oldest is forgotten beyond this many: a request does not stay on its way for as long as
    /// it takes to give up so many others.
    const MAX: usize = 4096;

    /// None.
    pub const fn new() -> Self {
        Self {
            ring: KVec::new(),
            next: 0,
        }
    }

    /// The holder gave a tag up that is not known here.
    pub fn add(&mut self, who: Holder) -> Result {
        if self.contains(who) {
            return Ok(());
        }
        if self.ring.len() < Self::MAX {
            self.ring.push(who, GFP_KERNEL)?;
        } else {
            self.ring[self.next] = who;
            self.next = (self.next + 1) % Self::MAX;
        }
        Ok(())
    }

    /// Whether the tag was given up.
    pub fn contains(&self, who: Holder) -> bool {
        self.ring.contains(&who)
    }

    /// Lives that are over send nothing any more.
    pub fn drop_lives(&mut self, gone: impl Fn(Life) -> bool) {
        self.ring.retain(|who| !gone(who.life));
        self.next = 0;
    }
}
