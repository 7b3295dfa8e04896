// SPDX-License-Identifier: GPL-2.0

//! A change of names, as it goes to the CD.

use super::{
    format::Timestamp,
    msg::{wire_struct, Reader, Wire, Writer},
};
use kernel::prelude::*;

/// Default bytes of a chunk.
pub const DEFAULT_CHUNK: u64 = 4 << 20;
/// Default bytes of addresses.
pub const DEFAULT_RESERVE: u64 = 16 << 30;

/// A dataset to make; 0 takes the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewDataset {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub permissions: u32,
    /// Degree of replication.
    pub replicas: u32,
    /// `enum hotpot_mode`.
    pub mode: u32,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Bytes of addresses.
    pub reserve: u64,
    /// Now.
    pub time: Timestamp,
}

/// What to change of a dataset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Now.
    pub time: Timestamp,
    /// Bytes.
    pub size: Option<u64>,
    /// `size` is a lower bound: a larger dataset stays as it is.
    pub grow_only: bool,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Permission bits.
    pub permissions: Option<u32>,
    /// Time of the last change of data.
    pub modified: Option<Timestamp>,
    /// Degree of replication; like what follows only while the size is 0 (EBUSY).
    pub replicas: Option<u32>,
    /// `enum hotpot_mode`.
    pub mode: Option<u32>,
    /// Bytes of a chunk.
    pub chunk_size: Option<u64>,
    /// Bytes of addresses.
    pub reserve: Option<u64>,
}

/// A change of names, as it goes to the CD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameChange<'a> {
    /// Make a dataset. EEXIST.
    Create {
        /// Its name.
        name: &'a [u8],
        /// Its properties.
        new: NewDataset,
    },
    /// Remove it. ENOENT.
    Unlink {
        /// Its name.
        name: &'a [u8],
        /// Now.
        time: Timestamp,
    },
    /// Give it another name. ENOENT; EEXIST unless `replace`.
    Rename {
        /// Its name.
        from: &'a [u8],
        /// The other.
        to: &'a [u8],
        /// Remove what has the other name.
        replace: bool,
        /// Now.
        time: Timestamp,
    },
    /// Change its properties. ENOENT.
    Change {
        /// Its id.
        dataset: u64,
        /// How.
        change: Change,
    },
    /// Give a chunk another owner, which takes its pages over then (section 2.5.5). ESTALE unless it
    /// is at `from`; EHOSTDOWN: `to` is not up; ENOSPC: so many have moved that no more fit into
    /// the record.
    Move {
        /// The dataset's id.
        dataset: u64,
        /// The chunk.
        chunk: u32,
        /// Its owner.
        from: u16,
        /// The next one.
        to: u16,
    },
    /// Give a chunk an owner that has none, as all that could be are out. EHOSTDOWN: `node` is not up;
    /// ENOSPC as above.
    Appoint {
        /// The dataset's id.
        dataset: u64,
        /// The chunk.
        chunk: u32,
        /// Its next owner.
        node: u16,
    },
    /// The new owner of a chunk has all its pages.
    Arrived {
        /// The dataset's id.
        dataset: u64,
        /// The chunk.
        chunk: u32,
        /// Its owner.
        node: u16,
    },
}

impl<'a> Wire<'a> for NameChange<'a> {
    fn put(&self, to: &mut Writer) -> Result {
        match self {
            NameChange::Create { name, new } => {
                to.u8(0)?;
                name.put(to)?;
                new.put(to)
            }
            NameChange::Unlink { name, time } => {
                to.u8(1)?;
                name.put(to)?;
                time.put(to)
            }
            NameChange::Rename {
                from,
                to: name,
                replace,
                time,
            } => {
                to.u8(2)?;
                from.put(to)?;
                name.put(to)?;
                replace.put(to)?;
                time.put(to)
            }
            NameChange::Change { dataset, change } => {
                to.u8(3)?;
                dataset.put(to)?;
                change.put(to)
            }
            NameChange::Move {
                dataset,
                chunk,
                from,
                to: node,
            } => {
                to.u8(4)?;
                dataset.put(to)?;
                chunk.put(to)?;
                from.put(to)?;
                node.put(to)
            }
            NameChange::Arrived {
                dataset,
                chunk,
                node,
            } => {
                to.u8(5)?;
                dataset.put(to)?;
                chunk.put(to)?;
                node.put(to)
            }
            NameChange::Appoint {
                dataset,
                chunk,
                node,
            } => {
                to.u8(6)?;
                dataset.put(to)?;
                chunk.put(to)?;
                node.put(to)
            }
        }
    }

    fn get(from: &mut Reader<'a>) -> Result<Self> {
        Ok(match from.u8()? {
            0 => NameChange::Create {
                name: Wire::get(from)?,
                new: Wire::get(from)?,
            },
            1 => NameChange::Unlink {
                name: Wire::get(from)?,
                time: Wire::get(from)?,
            },
            2 => NameChange::Rename {
                from: Wire::get(from)?,
                to: Wire::get(from)?,
                replace: Wire::get(from)?,
                time: Wire::get(from)?,
            },
            3 => NameChange::Change {
                dataset: Wire::get(from)?,
                change: Wire::get(from)?,
            },
            4 => NameChange::Move {
                dataset: Wire::get(from)?,
                chunk: Wire::get(from)?,
                from: Wire::get(from)?,
                to: Wire::get(from)?,
            },
            5 => NameChange::Arrived {
                dataset: Wire::get(from)?,
                chunk: Wire::get(from)?,
                node: Wire::get(from)?,
            },
            6 => NameChange::Appoint {
                dataset: Wire::get(from)?,
                chunk: Wire::get(from)?,
                node: Wire::get(from)?,
            },
            _ => return Err(EBADMSG),
        })
    }
}

wire_struct!(NewDataset {
    uid,
    gid,
    permissions,
    replicas,
    mode,
    chunk_size,
    reserve,
    time
});
wire_struct!(Change {
    time,
    size,
    grow_only,
    uid,
    gid,
    permissions,
    modified,
    replicas,
    mode,
    chunk_size,
    reserve
});
