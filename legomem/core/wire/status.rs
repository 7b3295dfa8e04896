// SPDX-License-Identifier: GPL-2.0

//! How requests go, and what is done about it.

use super::WireError;
use kernel::prelude::*;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Status {
    /// Executed.
    Ok = 0,
    /// Nothing is allocated there, or not all of it, or it is two allocations.
    Fault = 1,
    /// The allocation's rights do not include this.
    Denied = 2,
    /// Fields that no request can have: a word that is not aligned, a size of 0.
    Invalid = 3,
    /// No room for the allocation, in this region, pool or page table: another
    /// region may have it.
    NoSpace = 4,
    /// The address space has no quota left.
    Quota = 5,
    /// Not executed for now: an earlier try of it is being executed, a queue is
    /// full, or the pool has no prepared page. Try again soon.
    Busy = 6,
    /// Somebody has the lock. Try again, as a new request.
    Held = 7,
    /// The lock is not the requester's to give back.
    NotHolder = 8,
    /// The region moved: ask the home where to, and send it there.
    Moved = 9,
    /// The region is moving. Try again soon.
    Paused = 10,
    /// The map of the memory node does not have this requester (any more), or the
    /// request was made under an older map. Not executed: try again with a new map.
    Stale = 11,
    /// The memory node does not know this address space. Only ever a hint,
    /// without tag, as there is no key.
    NoSpaceId = 12,
    /// The region was lost when the memory node lost its memory.
    Lost = 13,
    /// Too many requests came in between to know whether this retry was executed
    /// before. Do not try again. (A requester whose every try was answered as not
    /// executed goes on with a new first id, and so keeps clear of this.)
    Forgotten = 14,
    /// No such offload here.
    NotSupported = 15,
    /// More bytes than the operation or its output may have.
    TooLarge = 16,
    /// Offload: no such key.
    NotFound = 17,
    /// Offload: there is such a key.
    Exists = 18,
    /// Offload: what it read is not a structure that it knows.
    Corrupt = 19,
}

/// What the requester does about a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is done, or failed for good.
    None,
    /// Not executed: the same request again, after a while.
    Again,
    /// Not executed: ask the home for the regions, then again.
    Route,
    /// Not executed: wait for a newer map, then again.
    Map,
}

impl Status {
    /// All there are, each with what the user of the operation sees, if it comes
    /// to that, and what the compute node tries before.
    pub const TABLE: [(Self, Option<Error>, Remedy); 20] = [
        (Self::Ok, None, Remedy::None),
        (Self::Fault, Some(EFAULT), Remedy::None),
        (Self::Denied, Some(EACCES), Remedy::None),
        (Self::Invalid, Some(EINVAL), Remedy::None),
        (Self::NoSpace, Some(ENOSPC), Remedy::None),
        (Self::Quota, Some(EDQUOT), Remedy::None),
        (Self::Busy, Some(EAGAIN), Remedy::Again),
        (Self::Held, Some(EBUSY), Remedy::None),
        (Self::NotHolder, Some(EPERM), Remedy::None),
        (Self::Moved, Some(ESTALE), Remedy::Route),
        (Self::Paused, Some(EAGAIN), Remedy::Again),
        (Self::Stale, Some(ESTALE), Remedy::Map),
        (Self::NoSpaceId, Some(ENOENT), Remedy::Route),
        (Self::Lost, Some(EIO), Remedy::None),
        (Self::Forgotten, Some(ETIMEDOUT), Remedy::None),
        (Self::NotSupported, Some(EOPNOTSUPP), Remedy::None),
        (Self::TooLarge, Some(EMSGSIZE), Remedy::None),
        (Self::NotFound, Some(ENOENT), Remedy::None),
        (Self::Exists, Some(EEXIST), Remedy::None),
        (Self::Corrupt, Some(EUCLEAN), Remedy::None),
    ];

    fn row(self) -> (Self, Option<Error>, Remedy) {
        // The table has a row for each status, at its code: a test holds it to that.
        Self::TABLE
            .get(self as usize)
            .copied()
            .unwrap_or((self, Some(EPROTO), Remedy::None))
    }

    /// The status of a code.
    pub fn from_code(code: u8) -> Result<Self, WireError> {
        Self::TABLE
            .get(usize::from(code))
            .map(|row| row.0)
            .ok_or(WireError::Op(code))
    }

    /// As what the user sees.
    pub fn to_result(self) -> Result {
        self.row().1.map_or(Ok(()), Err)
    }

    /// What the compute node does about it.
    pub fn remedy(self) -> Remedy {
        self.row().2
    }
}
