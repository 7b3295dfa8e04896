// SPDX-License-Identifier: GPL-2.0

//! What nodes say to each other about regions, as payload of calls of one port. Integers are
//! little-endian; Documentation/region-wire-format.md has the byte tables. Decoding is total.
//!
//! A request is a head of [`REQUEST_LEN`] bytes and, for those that write, bytes. The holder is the
//! calling node in its present life, with the tag in the request; requests under a mapping say which
//! life of the owner they are for.

use super::{
    super::holder::{Holder, Life, Name, NAME_MAX},
    shares::Payer,
    Rights,
};
use kernel::prelude::*;

/// Bytes of the head of a request.
pub const REQUEST_LEN: usize = 144;
/// Bytes of the head of a reply.
pub const REPLY_LEN: usize = 40;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make a region of `len` bytes and map it under the tag.
    Alloc {
        /// Bytes.
        len: u64,
        /// Rights of nodes without a grant of their own.
        others: Rights,
        /// It lives until it is freed.
        keep: bool,
        /// Who it is charged to.
        payer: Payer,
        /// Its name, if any.
        name: Name,
    },
    /// Map the region of this name under the tag.
    Map {
        /// With these rights.
        want: Rights,
        /// Its name.
        name: Name,
    },
    /// The tag is given up.
    Unmap,
    /// Free the region.
    Free,
    /// Set the rights of a node; of all when it is 0.
    Grant {
        /// Whose.
        node: u16,
        /// Which; none revokes.
        rights: Rights,
    },
    /// Open a chunk for RDMA.
    Open {
        /// Which.
        chunk: u32,
        /// What the holder takes its rights to be.
        rights: Rights,
    },
    /// Read bytes.
    Read {
        /// From there.
        offset: u64,
        /// So many.
        len: u32,
    },
    /// Write the bytes that follow.
    Write {
        /// To there.
        offset: u64,
    },
    /// Fill with a byte.
    Set {
        /// From there.
        offset: u64,
        /// So many.
        len: u64,
        /// With this.
        value: u8,
    },
    /// Copy to another region of the same holder.
    Copy {
        /// From there.
        offset: u64,
        /// So many.
        len: u64,
        /// Owner of the other.
        node: u16,
        /// Life of its owner.
        life: u64,
        /// Tag of the other.
        tag: u64,
        /// Secret of the other.
        secret: u64,
        /// To there.
        to: u64,
    },
    /// Write the bytes that follow, for another holder.
    Deliver {
        /// Whose mapping.
        holder: Holder,
        /// What its holder was told.
        secret: u64,
        /// To there.
        offset: u64,
    },
    /// Add to a word; answers what it was.
    FetchAdd {
        /// Where.
        offset: u64,
        /// What.
        add: u64,
    },
    /// Replace a word if it is `expected`; answers what it was.
    CompareSwap {
        /// Where.
        offset: u64,
        /// What should be there.
        expected: u64,
        /// What comes there then.
        new: u64,
    },
    /// What is known about the region.
    Info,
    /// From the owner: the mapping has only these rights.
    Recall {
        /// Which.
        rights: Rights,
        /// The region is no more.
        freed: bool,
    },
}

/// What stands in front of each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The holder's tag.
    pub tag: u64,
    /// Life of the owner for which the tag is; 0 for whichever.
    pub life: u64,
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(there) = bytes.get(at..at + 8) {
        word.copy_from_slice(there);
    }
    u64::from_le_bytes(word)
}

/// Where things are in a request.
const OP: usize = 0;
const TAG: usize = 8;
const LIFE: usize = 16;
const ARGS: usize = 24;
const NAME: usize = 80;
const NR_ARGS: usize = 7;

const VERSION: u8 = 2;

impl Request {
    fn parts(&self) -> (u8, [u64; NR_ARGS], Name) {
        let plain = |op, args| (op, args, Name::NONE);
        match *self {
            Self::Alloc {
                len,
                others,
                keep,
                payer,
                name,
            } => (
                1,
                [
                    len,
                    others.bits().into(),
                    keep.into(),
                    payer.0.into(),
                    0,
                    0,
                    0,
                ],
                name,
            ),
            Self::Map { want, name } => (2, [want.bits().into(), 0, 0, 0, 0, 0, 0], name),
            Self::Unmap => plain(3, [0; NR_ARGS]),
            Self::Free => plain(4, [0; NR_ARGS]),
            Self::Grant { node, rights } => {
                plain(5, [node.into(), rights.bits().into(), 0, 0, 0, 0, 0])
            }
            Self::Open { chunk, rights } => {
                plain(6, [chunk.into(), rights.bits().into(), 0, 0, 0, 0, 0])
            }
            Self::Read { offset, len } => plain(7, [offset, len.into(), 0, 0, 0, 0, 0]),
            Self::Write { offset } => plain(8, [offset, 0, 0, 0, 0, 0, 0]),
            Self::Set { offset, len, value } => plain(9, [offset, len, value.into(), 0, 0, 0, 0]),
            Self::Copy {
                offset,
                len,
                node,
                life,
                tag,
                secret,
                to,
            } => plain(10, [offset, len, node.into(), life, tag, secret, to]),
            Self::Deliver {
                holder,
                secret,
                offset,
            } => plain(
                11,
                [
                    holder.life.node.into(),
                    holder.life.incarnation,
                    holder.tag,
                    secret,
                    offset,
                    0,
                    0,
                ],
            ),
            Self::FetchAdd { offset, add } => plain(12, [offset, add, 0, 0, 0, 0, 0]),
            Self::CompareSwap {
                offset,
                expected,
                new,
            } => plain(13, [offset, expected, new, 0, 0, 0, 0]),
            Self::Info => plain(14, [0; NR_ARGS]),
            Self::Recall { rights, freed } => {
                plain(15, [rights.bits().into(), freed.into(), 0, 0, 0, 0, 0])
            }
        }
    }

    /// The head of a request.
    pub fn encode(&self, head: Head) -> [u8; REQUEST_LEN] {
        let (op, args, name) = self.parts();
        let mut bytes = [0; REQUEST_LEN];
        bytes[OP] = op;
        bytes[OP + 1] = VERSION;
        bytes[TAG..TAG + 8].copy_from_slice(&head.tag.to_le_bytes());
        bytes[LIFE..LIFE + 8].copy_from_slice(&head.life.to_le_bytes());
        for (at, arg) in args.iter().enumerate() {
            let at = ARGS + 8 * at;
            bytes[at..at + 8].copy_from_slice(&arg.to_le_bytes());
        }
        bytes[NAME..].copy_from_slice(&name.to_field());
        bytes
    }

    /// Takes a request apart: its head, and the bytes that follow. `EBADMSG` when it is none.
    pub fn decode(bytes: &[u8]) -> Result<(Head, Self, &[u8])> {
        let bad = |_| EBADMSG;
        let (fixed, data) = bytes.split_at_checked(REQUEST_LEN).ok_or(EBADMSG)?;
        let head = Head {
            tag: get_u64(fixed, TAG),
            life: get_u64(fixed, LIFE),
        };
        let mut args = [0; NR_ARGS];
        for (at, arg) in args.iter_mut().enumerate() {
            *arg = get_u64(fixed, ARGS + 8 * at);
        }
        let mut field = [0; NAME_MAX + 1];
        field.copy_from_slice(&fixed[NAME..]);
        let name = Name::from_field(&field).map_err(bad)?;
        let rights = |arg: u64| Rights::new(u32::try_from(arg)?);
        let node = |arg: u64| u16::try_from(arg).map_err(|_| EBADMSG);
        let flag = |arg: u64| match arg {
            0 | 1 => Ok(arg == 1),
            _ => Err(EBADMSG),
        };
        let request = match fixed[OP] {
            1 => Self::Alloc {
                len: args[0],
                others: rights(args[1]).map_err(bad)?,
                keep: flag(args[2])?,
                payer: Payer(u32::try_from(args[3]).map_err(|_| EBADMSG)?),
                name,
            },
            2 => Self::Map {
                want: rights(args[0]).map_err(bad)?,
                name,
            },
            3 => Self::Unmap,
            4 => Self::Free,
            5 => Self::Grant {
                node: node(args[0])?,
                rights: rights(args[1]).map_err(bad)?,
            },
            6 => Self::Open {
                chunk: u32::try_from(args[0]).map_err(|_| EBADMSG)?,
                rights: rights(args[1]).map_err(bad)?,
            },
            7 => Self::Read {
                offset: args[0],
                len: u32::try_from(args[1]).map_err(|_| EBADMSG)?,
            },
            8 => Self::Write { offset: args[0] },
            9 => Self::Set {
                offset: args[0],
                len: args[1],
                value: u8::try_from(args[2]).map_err(|_| EBADMSG)?,
            },
            10 => Self::Copy {
                offset: args[0],
                len: args[1],
                node: node(args[2])?,
                life: args[3],
                tag: args[4],
                secret: args[5],
                to: args[6],
            },
            11 => Self::Deliver {
                holder: Holder {
                    life: Life {
                        node: node(args[0])?,
                        incarnation: args[1],
                    },
                    tag: args[2],
                },
                secret: args[3],
                offset: args[4],
            },
            12 => Self::FetchAdd {
                offset: args[0],
                add: args[1],
            },
            13 => Self::CompareSwap {
                offset: args[0],
                expected: args[1],
                new: args[2],
            },
            14 => Self::Info,
            15 => Self::Recall {
                rights: rights(args[0]).map_err(bad)?,
                freed: flag(args[1])?,
            },
            _ => return Err(EBADMSG),
        };
        // What has no meaning is zero: the request is the one that these bytes are made from.
        if request.encode(head)[..] != *fixed {
            return Err(EBADMSG);
        }
        let has_data = matches!(request, Self::Write { .. } | Self::Deliver { .. });
        if has_data == data.is_empty() {
            return Err(EBADMSG);
        }
        Ok((head, request, data))
    }
}

/// What a region's owner answers; which of it means something depends on the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// `Alloc`, `Map`, `Info`: bytes of the region; atomics: what the word was; `Open`: where the
    /// chunk begins.
    pub value: u64,
    /// `Alloc`, `Map`: the owner's life.
    pub life: u64,
    /// `Alloc`, `Map`: the mapping's secret; `Open`: where the ring begins that the caller writes to
    /// on the connection that the key is for; `Info`: live mappings.
    pub other: u64,
    /// `Alloc`, `Map`, `Info`: log2 of the size of chunks; `Open`: the key.
    pub small: u32,
    /// `Alloc`, `Map`, `Info`: the mapping's rights; `Open`: the key of the ring that `other` names.
    pub rights: u32,
    /// `Info`: rights of nodes without a grant, in the lower 8 bits; bit 8: it is kept.
    pub flags: u64,
}

impl Reply {
    /// The head of a reply.
    pub fn encode(&self) -> [u8; REPLY_LEN] {
        let mut bytes = [0; REPLY_LEN];
        bytes[..8].copy_from_slice(&self.value.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.life.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.other.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.small.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.rights.to_le_bytes());
        bytes[32..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// `EBADMSG` when it is too short.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < REPLY_LEN {
            return Err(EBADMSG);
        }
        let pair = get_u64(bytes, 24);
        Ok(Self {
            value: get_u64(bytes, 0),
            life: get_u64(bytes, 8),
            other: get_u64(bytes, 16),
            small: pair as u32,
            rights: (pair >> 32) as u32,
            flags: get_u64(bytes, 32),
        })
    }
}
