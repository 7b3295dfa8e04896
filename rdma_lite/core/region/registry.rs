// SPDX-License-Identifier: GPL-2.0

//! The regions of their owner, and who has mapped them.

use super::{
    super::holder::{Holder, Life, Name, Tombstones},
    shares::{Payer, Shares},
    Geometry, Rights,
};
use kernel::{
    prelude::*,
    rbtree::{RBTree, RBTreeNode},
};

/// A region to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewRegion {
    /// What it is found by; [`Name::NONE`] when only its maker shall have it.
    pub name: Name,
    /// Where its bytes lie.
    pub geometry: Geometry,
    /// What nodes may do that have no grant of their own.
    pub others: Rights,
    /// It lives until it is freed, else until its last mapping is gone.
    pub keep: bool,
    /// Whose own memory it is: it is freed when that one gives its mapping up.
    pub lender: Option<Holder>,
}

#[derive(Debug)]
struct Region<M> {
    new: NewRegion,
    memory: M,
    grants: KVec<(u16, Rights)>,
    /// Live mappings.
    mappings: usize,
}

impl<M> Region<M> {
    fn rights_of(&self, node: u16) -> Rights {
        let own = self.grants.iter().find(|grant| grant.0 == node);
        own.map_or(self.new.others, |grant| grant.1)
    }
}

#[derive(Debug)]
struct Mapping<W> {
    /// `None` once its region was freed, or all its rights were revoked.
    region: Option<u64>,
    rights: Rights,
    freed: bool,
    /// Whoever shows it may write under this mapping, for its holder.
    secret: u64,
    windows: KVec<(u32, W)>,
}

/// A mapping that lost rights. The edge tells its holder, then shuts the windows, then lets go of
/// the memory, in this order.
#[derive(Debug)]
pub struct Recall<W> {
    /// Whose it is.
    pub holder: Holder,
    /// What it may still do.
    pub rights: Rights,
    /// The region is no more.
    pub freed: bool,
    /// Through which the holder reached the memory.
    pub windows: KVec<(u32, W)>,
}

/// What has to be torn down.
#[derive(Debug)]
pub struct Teardown<M, W> {
    /// First these.
    pub recalls: KVec<Recall<W>>,
    /// Then these; tell [`Registry::released`] when they are gone.
    pub memories: KVec<M>,
}

impl<M, W> Default for Teardown<M, W> {
    fn default() -> Self {
        Self {
            recalls: KVec::new(),
            memories: KVec::new(),
        }
    }
}

/// A mapping whose holder does not use it any more. First the windows are shut.
#[derive(Debug)]
pub struct Detached<M, W> {
    /// Through which the holder reached the memory.
    pub windows: KVec<(u32, W)>,
    /// The region that went with its last mapping; tell [`Registry::released`] when it is gone.
    pub memory: Option<M>,
}

/// What became of a window that was opened.
#[derive(Debug, PartialEq, Eq)]
pub enum Placed<W> {
    /// It is the mapping's.
    First,
    /// It is the mapping's instead of this one, which is to be shut.
    Instead(W),
    /// The mapping has a good one; this one is to be shut.
    Known(W),
}

/// What a mapping gives access to.
#[derive(Debug)]
pub struct Access<'a, M> {
    /// Where the bytes lie.
    pub geometry: Geometry,
    /// The bytes.
    pub memory: &'a M,
    /// What the mapping may do.
    pub rights: Rights,
}

/// What who maps a region is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Where the bytes lie.
    pub geometry: Geometry,
    /// What the mapping may do.
    pub rights: Rights,
    /// See [`Registry::delegated`].
    pub secret: u64,
}

/// What is told about a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Where its bytes lie.
    pub geometry: Geometry,
    /// What the asking mapping may do.
    pub rights: Rights,
    /// What nodes may do that have no grant of their own.
    pub others: Rights,
    /// Live mappings, on all nodes.
    pub mappings: u64,
    /// Its name.
    pub name: Name,
    /// Whether it lives until it is freed.
    pub keep: bool,
}

/// All mappings that a node had, with their windows.
pub struct Mappings<W>(
    #[expect(dead_code, reason = "dropped, not used")] RBTree<Holder, Mapping<W>>,
);

/// All regions of a node. `M` is the memory of one, `W` a window to a chunk, which keeps the bytes that
/// it shows: a region may go while the recall of a mapping that was revoked earlier is under way.
pub struct Registry<M, W> {
    limit: u64,
    used: u64,
    shares: Shares,
    next: u64,
    regions: RBTree<u64, Region<M>>,
    names: RBTree<Name, u64>,
    mappings: RBTree<Holder, Mapping<W>>,
    tombstones: Tombstones,
    closed: bool,
}

impl<M, W> Registry<M, W> {
    /// No regions; up to `limit` bytes of them.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            shares: Shares::new(),
            next: 1,
            regions: RBTree::new(),
            names: RBTree::new(),
            mappings: RBTree::new(),
            tombstones: Tombstones::new(),
            closed: false,
        }
    }

    /// Bytes that regions take.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Regions that there are.
    pub fn len(&self) -> usize {
        self.regions.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.regions.is_empty()
    }

    /// What users have of them.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// Takes `bytes` of the limit, before they are allocated. `ENOSPC` when there are not so many;
    /// `EDQUOT` when `payer` may not have so many: all in all up to `most`, if that is not 0.
    pub fn reserve(&mut self, bytes: u64, payer: Payer, most: u64) -> Result {
        let used = self.used.checked_add(bytes).ok_or(ENOSPC)?;
        if used > self.limit {
            return Err(ENOSPC);
        }
        self.shares.take(payer, bytes, most)?;
        self.used = used;
        Ok(())
    }

    /// So many bytes that `payer` had are free again.
    pub fn released(&mut self, bytes: u64, payer: Payer) {
        self.used = self.used.saturating_sub(bytes);
        self.shares.give(payer, bytes);
    }

    /// Makes a region, which `who` maps with all rights. On an error the memory comes back:
    /// `EEXIST` when there is one of that name, `ESTALE` when `who` gave it up or is gone.
    pub fn create(
        &mut self,
        who: Holder,
        alive: bool,
        new: NewRegion,
        secret: u64,
        memory: M,
    ) -> Result<Mapped, (Error, M)> {
        let prepared = self.admit(who, alive).and_then(|()| {
            if !new.name.is_none() && self.names.get(&new.name).is_some() {
                return Err(EEXIST);
            }
            let name = match new.name.is_none() {
                true => None,
                false => Some(RBTreeNode::new(new.name, self.next, GFP_KERNEL)?),
            };
            let mapping = Mapping {
                region: Some(self.next),
                rights: Rights::ALL,
                freed: false,
                secret,
                windows: KVec::new(),
            };
            let mapping = RBTreeNode::new(who, mapping, GFP_KERNEL)?;
            let place = kernel::rbtree::RBTreeNodeReservation::new(GFP_KERNEL)?;
            Ok((name, mapping, place))
        });
        let (name, mapping, place) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => return Err((e, memory)),
        };
        let region = Region {
            new,
            memory,
            grants: KVec::new(),
            mappings: 1,
        };
        self.regions.insert(place.into_node(self.next, region));
        if let Some(name) = name {
            self.names.insert(name);
        }
        self.mappings.insert(mapping);
        self.next += 1;
        Ok(Mapped {
            geometry: new.geometry,
            rights: Rights::ALL,
            secret,
        })
    }

    /// Maps a region by its name. `ENOENT`: there is none; `EACCES`: not with these rights;
    /// `ESTALE`: `who` gave it up or is gone.
    pub fn map(
        &mut self,
        who: Holder,
        alive: bool,
        name: &Name,
        want: Rights,
        secret: u64,
    ) -> Result<Mapped> {
        self.admit(who, alive)?;
        if want.is_none() {
            return Err(EINVAL);
        }
        let id = *self.names.get(name).ok_or(ENOENT)?;
        let region = self.regions.get_mut(&id).ok_or(ENOENT)?;
        if !region.rights_of(who.life.node).includes(want) {
            return Err(EACCES);
        }
        let mapping = Mapping {
            region: Some(id),
            rights: want,
            freed: false,
            secret,
            windows: KVec::new(),
        };
        self.mappings
            .try_create_and_insert(who, mapping, GFP_KERNEL)?;
        region.mappings += 1;
        Ok(Mapped {
            geometry: region.new.geometry,
            rights: want,
            secret,
        })
    }

    /// A request is executed after it was taken from the wire: meanwhile its sender may have given it
    /// up, or been dropped by the map.
    fn admit(&self, who: Holder, alive: bool) -> Result {
        if self.closed {
            return Err(ESHUTDOWN);
        }
        if !alive || self.tombstones.contains(who) {
            return Err(ESTALE);
        }
        if self.mappings.get(&who).is_some() {
            return Err(EEXIST);
        }
        Ok(())
    }

    /// `who` gives its mapping up. The last of a region that is not kept frees it. `None`: it is not
    /// known, and will not be.
    pub fn unmap(&mut self, who: Holder) -> Result<Option<Detached<M, W>>> {
        let detached = self.detach(who);
        if detached.is_none() {
            self.tombstones.add(who)?;
        }
        Ok(detached)
    }

    fn detach(&mut self, who: Holder) -> Option<Detached<M, W>> {
        let mapping = self.mappings.remove(&who)?;
        Some(Detached {
            windows: mapping.windows,
            memory: mapping.region.and_then(|id| self.let_go(id)),
        })
    }

    /// A region has one live mapping less.
    fn let_go(&mut self, id: u64) -> Option<M> {
        let region = self.regions.get_mut(&id)?;
        region.mappings -= 1;
        if region.mappings != 0 || region.new.keep {
            return None;
        }
        self.destroy(id)
    }

    fn destroy(&mut self, id: u64) -> Option<M> {
        let region = self.regions.remove(&id)?;
        if !region.new.name.is_none() {
            self.names.remove(&region.new.name);
        }
        Some(region.memory)
    }

    /// Before `who` gives its mapping up: frees the region that `who` lent, if it did, whatever became
    /// of the rights of its mapping. After that nobody uses the memory.
    pub fn withdraw(&mut self, who: Holder) -> Result<Option<Teardown<M, W>>> {
        let is_lent = |region: &Region<M>| region.new.lender == Some(who);
        let lent = match self.mappings.get(&who).and_then(|mapping| mapping.region) {
            Some(id) => self.regions.get(&id).is_some_and(is_lent).then_some(id),
            // It lost its rights, or the map dropped it meanwhile.
            None => { self.regions.iter() }
                .find(|(_, region)| is_lent(region))
                .map(|(id, _)| *id),
        };
        lent.map(|id| self.free_region(id)).transpose()
    }

    /// Frees a region, whoever has mapped it. `EACCES` without [`Rights::ADMIN`].
    pub fn free(&mut self, who: Holder) -> Result<Teardown<M, W>> {
        let (id, _) = self.find(who, Rights::ADMIN)?;
        self.free_region(id)
    }

    fn free_region(&mut self, id: u64) -> Result<Teardown<M, W>> {
        let count = self.regions.get(&id).map_or(0, |region| region.mappings);
        let mut down = Teardown::default();
        down.recalls.reserve(count, GFP_KERNEL)?;
        down.memories.reserve(1, GFP_KERNEL)?;
        for (holder, mapping) in self.mappings.iter_mut() {
            if mapping.region != Some(id) {
                continue;
            }
            mapping.region = None;
            mapping.rights = Rights::NONE;
            mapping.freed = true;
            down.recalls.push_within_capacity(Recall {
                holder: *holder,
                rights: Rights::NONE,
                freed: true,
                windows: ::core::mem::take(&mut mapping.windows),
            })?;
        }
        if let Some(memory) = self.destroy(id) {
            down.memories.push_within_capacity(memory)?;
        }
        Ok(down)
    }

    /// Sets what a node may do; node 0: all nodes, whose own grants are forgotten. Mappings that have
    /// more lose it, except that of `who`. `EACCES` without [`Rights::ADMIN`].
    pub fn grant(&mut self, who: Holder, node: u16, rights: Rights) -> Result<Teardown<M, W>> {
        let (id, _) = self.find(who, Rights::ADMIN)?;
        let region = self.regions.get_mut(&id).ok_or(ESTALE)?;
        let mut down = Teardown::default();
        down.recalls.reserve(region.mappings, GFP_KERNEL)?;
        if node == 0 {
            region.grants = KVec::new();
            region.new.others = rights;
        } else if let Some(grant) = region.grants.iter_mut().find(|grant| grant.0 == node) {
            grant.1 = rights;
        } else {
            region.grants.push((node, rights), GFP_KERNEL)?;
        }
        let mut lost = 0;
        for (holder, mapping) in self.mappings.iter_mut() {
            let concerned = node == 0 || holder.life.node == node;
            if mapping.region != Some(id) || *holder == who || !concerned {
                continue;
            }
            let left = mapping.rights.and(rights);
            if left == mapping.rights {
                continue;
            }
            mapping.rights = left;
            if left.is_none() {
                mapping.region = None;
                lost += 1;
            }
            down.recalls.push_within_capacity(Recall {
                holder: *holder,
                rights: left,
                freed: false,
                windows: ::core::mem::take(&mut mapping.windows),
            })?;
        }
        for _ in 0..lost {
            // Not the last: that of `who` is there.
            self.let_go(id);
        }
        Ok(down)
    }

    fn find(&self, who: Holder, need: Rights) -> Result<(u64, Rights)> {
        let mapping = self.mappings.get(&who).ok_or(ESTALE)?;
        if mapping.freed {
            return Err(ESTALE);
        }
        if !mapping.rights.includes(need) {
            return Err(EACCES);
        }
        // All rights were revoked, and nothing is needed.
        let id = mapping.region.ok_or(EACCES)?;
        Ok((id, mapping.rights))
    }

    /// What a mapping gives access to. `EACCES`: it has not these rights, or lost them; `ESTALE`: it
    /// is none, or the region was freed.
    pub fn access(&self, who: Holder, need: Rights) -> Result<Access<'_, M>> {
        let (id, rights) = self.find(who, need)?;
        let region = self.regions.get(&id).ok_or(ESTALE)?;
        Ok(Access {
            geometry: region.new.geometry,
            memory: &region.memory,
            rights,
        })
    }

    /// As [`Self::access`], for another node that acts for the holder and shows what the holder was
    /// told when it mapped. `EACCES` when it shows something else.
    pub fn delegated(&self, who: Holder, secret: u64, need: Rights) -> Result<Access<'_, M>> {
        let mapping = self.mappings.get(&who).ok_or(ESTALE)?;
        if mapping.secret != secret {
            return Err(EACCES);
        }
        self.access(who, need)
    }

    /// The window that a mapping has to a chunk.
    pub fn window(&self, who: Holder, chunk: u32) -> Option<&W> {
        let windows = &self.mappings.get(&who)?.windows;
        { windows.iter() }
            .find(|window| window.0 == chunk)
            .map(|window| &window.1)
    }

    /// A window to a chunk was opened for a mapping that had `rights`. If the mapping has one that is
    /// of use still (`good`: its connection is there), that one stays: its holder may be using it, and
    /// this request be a late one. On an error (the mapping lost rights meanwhile, or no memory) the
    /// window comes back, to be shut.
    pub fn opened(
        &mut self,
        who: Holder,
        rights: Rights,
        chunk: u32,
        window: W,
        good: impl FnOnce(&W) -> bool,
    ) -> Result<Placed<W>, (Error, W)> {
        let fit = self.find(who, rights);
        let Some(mapping) = self.mappings.get_mut(&who) else {
            return Err((ESTALE, window));
        };
        if let Err(e) = fit {
            return Err((e, window));
        }
        if let Some(old) = mapping.windows.iter_mut().find(|old| old.0 == chunk) {
            if good(&old.1) {
                return Ok(Placed::Known(window));
            }
            return Ok(Placed::Instead(::core::mem::replace(&mut old.1, window)));
        }
        if let Err(e) = mapping.windows.reserve(1, GFP_KERNEL) {
            return Err((e.into(), window));
        }
        match mapping.windows.push_within_capacity((chunk, window)) {
            Ok(()) => Ok(Placed::First),
            Err(e) => Err((ENOMEM, e.0 .1)),
        }
    }

    /// What is known about the region of a mapping.
    pub fn info(&self, who: Holder) -> Result<Info> {
        let (id, rights) = self.find(who, Rights::NONE)?;
        let region = self.regions.get(&id).ok_or(ESTALE)?;
        Ok(Info {
            geometry: region.new.geometry,
            rights,
            others: region.new.others,
            mappings: region.mappings as u64,
            name: region.new.name,
            keep: region.new.keep,
        })
    }

    /// The map dropped these lives: what they mapped is unmapped, one by one, until `None`.
    pub fn drop_life(&mut self, gone: impl Fn(Life) -> bool) -> Option<Detached<M, W>> {
        let lost = self.mappings.keys().find(|who| gone(who.life)).copied();
        match lost {
            Some(who) => self.detach(who),
            None => {
                self.tombstones.drop_lives(gone);
                None
            }
        }
    }

    /// The node goes off: no mapping is left, and none is made. What they had is returned, to be dropped
    /// where nobody waits for it; then [`Self::drop_region`].
    #[must_use]
    pub fn close(&mut self) -> Mappings<W> {
        self.closed = true;
        Mappings(::core::mem::replace(&mut self.mappings, RBTree::new()))
    }

    /// The node goes off: everything goes, region by region; no mapping is left then, and none is made.
    pub fn drop_region(&mut self) -> Option<M> {
        self.closed = true;
        self.mappings = RBTree::new();
        let id = *self.regions.keys().next()?;
        self.destroy(id)
    }
}
