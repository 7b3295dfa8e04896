// SPDX-License-Identifier: GPL-2.0

//! Which copies may be used, when a disk is found again.
//!
//! Why the newest record can be trusted: before anything is acknowledged that a
//! copy missed, a record that leaves this copy out was written to all others that
//! are in sync. So whoever holds an older record finds a newer one at some copy that
//! its own record says is in sync. Hence a disk is used only when all copies that the
//! newest record found calls in sync were looked at, and are there.

use super::{
    bits::Bits,
    record::{region_shift_for, regions, Head, Member, Record, Trust, MAX_COPIES},
};
use kernel::prelude::*;

/// A copy that was looked for.
#[derive(Debug)]
pub struct Found {
    /// At this memory node.
    pub node: u32,
    /// The record of the copy that is there, and in which place it is ([`Record::newer`]).
    pub record: Record,
    /// See above.
    pub place: u8,
}

/// What to begin with.
#[derive(Debug)]
pub struct Assembly {
    /// What the newest record says. Its members are those that can be used, all of them in sync.
    pub head: Head,
    /// Regions that may differ between the copies.
    pub dirty: Bits,
    /// In which place the record of each copy is.
    pub places: [u8; MAX_COPIES],
    /// Of those found, those that are no part of the disk any more, by their place among them.
    pub stale: u64,
}

impl Assembly {
    /// A new disk, whose copies are all zeroes. `EINVAL` for a size that is 0 or not a multiple of
    /// 4096, or without copies; `E2BIG` for more than there can be.
    pub fn create(uuid: [u8; 16], size: u64, copies: &[(u64, u32)]) -> Result<Self> {
        if size == 0 || size % 4096 != 0 || copies.is_empty() {
            return Err(EINVAL);
        }
        let region_shift = region_shift_for(size);
        let count = u8::try_from(copies.len())?;
        let mut members = [Member::default(); MAX_COPIES];
        if copies.len() > MAX_COPIES || region_shift > 40 {
            return Err(E2BIG);
        }
        for (member, (id, node)) in members.iter_mut().zip(copies) {
            *member = Member {
                id: *id,
                node: *node,
                trust: Trust::InSync,
            };
        }
        Ok(Self {
            head: Head {
                seq: 0,
                uuid,
                size,
                region_shift,
                replicas: count,
                clean: true,
                members,
            },
            dirty: Bits::new(regions(size, region_shift))?,
            // The first record goes to place 0.
            places: [1; MAX_COPIES],
            stale: 0,
        })
    }
}

/// Finds out what can be used.
///
/// `ENODEV`: nothing was found. `EHOSTDOWN`: a copy that may have newer data was not found; with
/// `force` that does not matter. `EUCLEAN`: the copies are of different disks. `E2BIG`: more than
/// 64 were found.
pub fn assemble(found: &[Found], force: bool) -> Result<Assembly> {
    let newest = found
        .iter()
        .max_by_key(|found| found.record.head.seq)
        .ok_or(ENODEV)?;
    if found.len() > 64 {
        return Err(E2BIG);
    }
    let head = &newest.record.head;
    if found
        .iter()
        .any(|found| found.record.head.uuid != head.uuid)
    {
        return Err(EUCLEAN);
    }
    let mut members = [Member::default(); MAX_COPIES];
    let mut places = [1; MAX_COPIES];
    let mut stale = 0;
    let mut used = 0;
    for (at, found) in found.iter().enumerate() {
        let slot = usize::from(found.record.own);
        // Which copy it is, it said itself; what it is worth, the newest record says.
        let itself = found.record.head.members.get(slot);
        let known = head.members.get(slot);
        match (itself, known, members.get_mut(slot)) {
            (Some(itself), Some(known), Some(member))
                if itself.id == known.id && known.trust == Trust::InSync =>
            {
                *member = Member {
                    node: found.node,
                    ..*known
                };
                if let Some(place) = places.get_mut(slot) {
                    *place = found.place;
                }
                used += 1;
            }
            _ => stale |= 1 << at,
        }
    }
    let wanted = head
        .members
        .iter()
        .filter(|member| member.trust == Trust::InSync)
        .count();
    if used == 0 || used < wanted && !force {
        return Err(EHOSTDOWN);
    }
    let mut dirty = Bits::new(newest.record.dirty.len())?;
    dirty.copy_from(&newest.record.dirty);
    Ok(Assembly {
        head: Head { members, ..*head },
        dirty,
        places,
        stale,
    })
}
