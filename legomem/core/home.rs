// SPDX-License-Identifier: GPL-2.0

//! What a home knows: the address spaces that were made here, their keys, quotas
//! and users, and which node has which of their regions (the home half of
//! LegoOS's split, section 3.4.2; the paper's global controller, split by address
//! space).

use super::{
    control::{
        home_of, proof, Attach, Create, Descriptor, Destroy, Name, RasInfo, Region, Remove, Resize,
        Secret, Swing, TableReply, MAX_LIST, MAX_REGIONS, REGION_SHIFT,
    },
    placement::{place, Candidate},
};
use kernel::{prelude::*, rbtree::RBTree};

/// A node in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Its id.
    pub node: u16,
    /// Which life.
    pub incarnation: u64,
}

/// Quotas are kept in units of the largest page: what a page takes counts, not
/// what was asked for.
const QUOTA_UNIT: u64 = 4 << 20;

/// A quota in whole units; none is not one, and `u64::MAX` is no limit.
fn units(quota: u64) -> Result<u64> {
    const MOST: u64 = u64::MAX - u64::MAX % QUOTA_UNIT;
    match quota {
        0 => Err(EINVAL),
        quota => Ok(quota.checked_next_multiple_of(QUOTA_UNIT).unwrap_or(MOST)),
    }
}

struct HomeSpace {
    name: Name,
    key: Secret,
    region_shift: u8,
    pin: u16,
    owner: u32,
    quota: u64,
    granted: u64,
    next_index: u32,
    version: u64,
    regions: RBTree<u32, Region>,
    attached: KVec<Life>,
    /// Being destroyed: nobody gets at it any more.
    ending: bool,
}

impl HomeSpace {
    fn info(&self, id: u64) -> RasInfo {
        RasInfo {
            id,
            name: self.name,
            region_shift: self.region_shift,
            pin: self.pin,
            owner: self.owner,
            quota: self.quota,
            granted: self.granted,
            regions: self.regions.values().count() as u32,
            attached: self.attached.len() as u32,
            version: self.version,
        }
    }

    fn check(&self, nonce: u64, node: u16, given: u64) -> Result {
        if proof(&self.key, nonce, node, self.name.as_bytes()) == given {
            Ok(())
        } else {
            Err(EACCES)
        }
    }

    /// Nobody gets at it any more. Returns who has regions of it.
    fn end(&mut self) -> Result<KVec<u16>> {
        let mut nodes = KVec::new();
        for region in self.regions.values() {
            if !nodes.contains(&region.node) {
                nodes.push(region.node, GFP_KERNEL)?;
            }
        }
        self.ending = true;
        Ok(nodes)
    }
}

/// See the file's beginning.
#[derive(Default)]
pub struct Home {
    spaces: RBTree<u64, HomeSpace>,
}

/// Regions that are to be granted, for an allocation. [`Home::commit`] or
/// [`Home::cancel`] it.
#[derive(Debug)]
pub struct Growth {
    /// What their nodes are told.
    pub descriptor: Descriptor,
    /// In the order of their indices.
    pub regions: KVec<Region>,
}

impl Home {
    fn get(&self, ras: u64) -> Result<&HomeSpace> {
        self.spaces
            .get(&ras)
            .filter(|space| !space.ending)
            .ok_or(ENOENT)
    }

    fn get_mut(&mut self, ras: u64) -> Result<&mut HomeSpace> {
        self.spaces
            .get_mut(&ras)
            .filter(|space| !space.ending)
            .ok_or(ENOENT)
    }

    fn by_name(&self, name: &Name) -> Option<(u64, &HomeSpace)> {
        self.spaces
            .iter()
            .find(|(_, space)| space.name == *name)
            .map(|(id, space)| (*id, space))
    }

    /// Makes an address space. `random` makes its id one that no other ever had.
    pub fn create(&mut self, me: u16, create: &Create, random: u64) -> Result<RasInfo> {
        if !REGION_SHIFT.contains(&create.region_shift) {
            return Err(EINVAL);
        }
        if self.by_name(&create.name).is_some() {
            return Err(EEXIST);
        }
        let id = (u64::from(me) << 48) | (random >> 16);
        if home_of(id) != me || self.spaces.get(&id).is_some() {
            return Err(EAGAIN);
        }
        let space = HomeSpace {
            name: create.name,
            key: create.key,
            region_shift: create.region_shift,
            pin: create.pin,
            owner: create.owner,
            quota: units(create.quota)?,
            granted: 0,
            next_index: 0,
            version: 1,
            regions: RBTree::new(),
            attached: KVec::new(),
            ending: false,
        };
        let info = space.info(id);
        self.spaces.try_create_and_insert(id, space, GFP_KERNEL)?;
        Ok(info)
    }

    /// Attaches a node, once, however often it asks.
    pub fn attach(&mut self, from: Life, attach: &Attach) -> Result<RasInfo> {
        let (id, _) = self.by_name(&attach.name).ok_or(ENOENT)?;
        let space = self.get_mut(id)?;
        space.check(attach.nonce, from.node, attach.proof)?;
        // An older life of the node has no users any more.
        space.attached.retain(|life| life.node != from.node);
        space.attached.push(from, GFP_KERNEL)?;
        Ok(space.info(id))
    }

    /// A node has no user of it any more.
    pub fn detach(&mut self, from: Life, ras: u64) -> Result {
        self.get_mut(ras)?.attached.retain(|life| *life != from);
        Ok(())
    }

    /// Ends an address space: returns who has regions of it. When they were told,
    /// or are gone, [`Self::ended`].
    pub fn destroy(&mut self, from: Life, destroy: &Destroy) -> Result<KVec<u16>> {
        // One that is ending may be asked for again, when an answer was lost.
        let space = self.spaces.get_mut(&destroy.ras).ok_or(ENOENT)?;
        space.check(destroy.nonce, from.node, destroy.proof)?;
        if space.attached.iter().any(|life| life.node != from.node) {
            return Err(EBUSY);
        }
        space.end()
    }

    /// As [`Self::destroy`], for an operator, who needs no key.
    pub fn remove(&mut self, remove: &Remove) -> Result<KVec<u16>> {
        let space = self.spaces.get_mut(&remove.ras).ok_or(ENOENT)?;
        if !remove.force && !space.attached.is_empty() {
            return Err(EBUSY);
        }
        space.end()
    }

    /// Changes a quota.
    pub fn resize(&mut self, resize: &Resize) -> Result {
        let space = self.get_mut(resize.ras)?;
        let quota = units(resize.quota)?;
        if quota < space.granted {
            return Err(EBUSY);
        }
        space.quota = quota;
        Ok(())
    }

    /// It is gone everywhere.
    pub fn ended(&mut self, ras: u64) {
        self.spaces.remove(&ras);
    }

    /// Its id, key and sizes, as its memory nodes need them.
    pub fn descriptor(&self, me: Life, ras: u64) -> Result<Descriptor> {
        let space = self.get(ras)?;
        Ok(Descriptor {
            ras,
            key: space.key,
            region_shift: space.region_shift,
            home: me.incarnation,
        })
    }

    /// A part of the table.
    pub fn table(&self, ras: u64, from: u32) -> Result<TableReply> {
        let space = self.get(ras)?;
        let mut regions = KVec::new();
        let mut more = false;
        for region in space.regions.values().filter(|region| region.index >= from) {
            if regions.len() == MAX_LIST {
                more = true;
                break;
            }
            regions.push(*region, GFP_KERNEL)?;
        }
        Ok(TableReply {
            version: space.version,
            regions,
            more,
        })
    }

    /// A row of it.
    pub fn region(&self, ras: u64, index: u32) -> Result<Region> {
        self.get(ras)?.regions.get(&index).copied().ok_or(ENOENT)
    }

    /// The node that it is pinned to, or 0.
    pub fn pin(&self, ras: u64) -> Result<u16> {
        Ok(self.get(ras)?.pin)
    }

    /// Address spaces with ids above `after`.
    pub fn list(&self, after: u64) -> Result<(KVec<RasInfo>, bool)> {
        let mut spaces = KVec::new();
        for (id, space) in self.spaces.iter().filter(|(id, _)| **id > after) {
            if spaces.len() == MAX_LIST / 4 {
                return Ok((spaces, true));
            }
            spaces.push(space.info(*id), GFP_KERNEL)?;
        }
        Ok((spaces, false))
    }

    /// Finds nodes for an allocation of `bytes` bytes, and takes indices and quota
    /// for it.
    pub fn plan(&mut self, me: Life, ras: u64, bytes: u64, nodes: &[Candidate]) -> Result<Growth> {
        let descriptor = self.descriptor(me, ras)?;
        let space = self.get_mut(ras)?;
        let size = 1 << space.region_shift;
        let count = bytes.div_ceil(size);
        let left = space.quota.saturating_sub(space.granted);
        if bytes == 0 {
            return Err(EINVAL);
        }
        // All of the last region where the quota allows it, so that it serves the next
        // allocations too.
        let allowance = left.min(count.checked_mul(size).ok_or(EDQUOT)?);
        if bytes > allowance {
            return Err(EDQUOT);
        }
        if count > u64::from(MAX_REGIONS - space.next_index) {
            return Err(ENOSPC);
        }
        let mut regions = KVec::new();
        let mut rest = allowance;
        let mut needed = bytes;
        let mut taken = KVec::new();
        taken.extend_from_slice(nodes, GFP_KERNEL)?;
        for step in 0..count as u32 {
            let part = rest.min(size);
            let node = place(&taken, needed.min(size), space.pin).ok_or(ENOSPC)?;
            let chosen = taken.get_mut(node).ok_or(ENOSPC)?;
            chosen.room = chosen.room.saturating_sub(needed.min(size));
            regions.push(
                Region {
                    index: space.next_index + step,
                    node: chosen.life.node,
                    port: chosen.port,
                    allowance: part,
                    incarnation: chosen.life.incarnation,
                },
                GFP_KERNEL,
            )?;
            rest -= part;
            needed = needed.saturating_sub(size);
        }
        space.next_index += count as u32;
        space.granted += allowance;
        Ok(Growth {
            descriptor,
            regions,
        })
    }

    /// The regions were granted: they are in the table. On an error none is.
    pub fn commit(&mut self, growth: &Growth) -> Result<u64> {
        let space = self.get_mut(growth.descriptor.ras)?;
        for region in &growth.regions {
            if let Err(error) =
                space
                    .regions
                    .try_create_and_insert(region.index, *region, GFP_KERNEL)
            {
                for region in &growth.regions {
                    space.regions.remove(&region.index);
                }
                return Err(error);
            }
        }
        space.version += 1;
        Ok(space.version)
    }

    /// They were not: their quota is free again. (Their indices are not used again:
    /// a node may have heard of them.)
    pub fn cancel(&mut self, growth: &Growth) {
        let given: u64 = growth.regions.iter().map(|region| region.allowance).sum();
        if let Ok(space) = self.get_mut(growth.descriptor.ras) {
            space.granted = space.granted.saturating_sub(given);
        }
    }

    /// A region's node reduced its allowance.
    pub fn trimmed(&mut self, ras: u64, index: u32, allowance: u64) -> Result {
        let space = self.get_mut(ras)?;
        let region = space.regions.get_mut(&index).ok_or(ENOENT)?;
        space.granted = (space.granted + allowance).saturating_sub(region.allowance);
        region.allowance = allowance;
        Ok(())
    }

    /// A region moved. Doing so again is legal; `ESTALE` when it was not `from`'s.
    pub fn swing(&mut self, from: Life, swing: &Swing) -> Result {
        let space = self.get_mut(swing.ras)?;
        let region = space.regions.get_mut(&swing.index).ok_or(ENOENT)?;
        let to = Life {
            node: swing.to,
            incarnation: swing.incarnation,
        };
        let now = Life {
            node: region.node,
            incarnation: region.incarnation,
        };
        if now == to {
            return Ok(());
        }
        if now != from {
            return Err(ESTALE);
        }
        region.node = to.node;
        region.incarnation = to.incarnation;
        region.port = swing.port;
        space.version += 1;
        Ok(())
    }

    /// A new map: nodes that it dropped are not attached any more, and what memory
    /// nodes lost with their lives is lost. `alive` says whether a node is (or may
    /// come back) in a life. Returns how many regions are lost by this.
    pub fn new_map(&mut self, alive: impl Fn(Life) -> bool) -> usize {
        let mut lost = 0;
        for space in self.spaces.values_mut() {
            space.attached.retain(|life| alive(*life));
            let before = lost;
            for region in space.regions.values_mut() {
                let life = Life {
                    node: region.node,
                    incarnation: region.incarnation,
                };
                if region.node != 0 && !alive(life) {
                    // No node has it: `EIO`, and never zeroes.
                    region.node = 0;
                    lost += 1;
                }
            }
            if lost != before {
                space.version += 1;
            }
        }
        lost
    }
}
