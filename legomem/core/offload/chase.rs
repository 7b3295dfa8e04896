// SPDX-License-Identifier: GPL-2.0

//! Follows pointers: one request instead of one for each node of a list or of a
//! path in a tree.

use super::super::wire::Status;
use super::{Call, Done, Kind, Memory, Offload};

/// The offload. Function [`Chase::FIND`]; its input is a [`Walk`].
pub struct Chase;

impl Chase {
    /// Walks a list.
    pub const FIND: u16 = 1;
    /// Most nodes that one call looks at.
    pub const MAX_DEPTH: u32 = 256;
}

/// Where to go. The request's address is that of the first node; offsets are from
/// the beginning of a node, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The key that ends the walk.
    pub key: u64,
    /// Where a node has its key; [`Self::NO_KEY`]: no node's key is looked at.
    pub key_at: u32,
    /// Where a node has the address of the next; 0 ends the list.
    pub next_at: u32,
    /// Most steps.
    pub depth: u32,
    /// What of the last node is the output.
    pub data_at: u32,
    /// Bytes of it.
    pub data_len: u32,
}

impl Walk {
    /// See [`Walk::key_at`].
    pub const NO_KEY: u32 = u32::MAX;
    /// Bytes of an encoded one.
    pub const LEN: usize = 28;

    /// As the input of a call.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let (key, rest) = bytes.split_at_mut(8);
        key.copy_from_slice(&self.key.to_le_bytes());
        let fields = [
            self.key_at,
            self.next_at,
            self.depth,
            self.data_at,
            self.data_len,
        ];
        for (to, field) in rest.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// From the input of a call.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<8>()?;
        if rest.len() != Self::LEN - 8 {
            return None;
        }
        let mut fields = rest.chunks_exact(4).map(|field| {
            field
                .first_chunk()
                .map_or(0, |bytes| u32::from_le_bytes(*bytes))
        });
        Some(Self {
            key: u64::from_le_bytes(*key),
            key_at: fields.next()?,
            next_at: fields.next()?,
            depth: fields.next()?,
            data_at: fields.next()?,
            data_len: fields.next()?,
        })
    }
}

impl Offload for Chase {
    const ID: u16 = 1;

    fn kind(_: u16) -> Kind {
        Kind::Short
    }

    /// The output is the data of the node with the key, or of the node that `depth`
    /// steps lead to; the result is its address. `NotFound` when the list ends before.
    fn call(memory: &impl Memory, call: Call<'_>, output: &mut [u8]) -> Result<Done, Status> {
        if call.function != Self::FIND {
            return Err(Status::NotSupported);
        }
        let walk = Walk::decode(call.input).ok_or(Status::Invalid)?;
        if walk.depth > Self::MAX_DEPTH {
            return Err(Status::TooLarge);
        }
        let field = |node: u64, at: u32| node.checked_add(at.into()).ok_or(Status::Fault);
        let mut node = call.addr;
        let mut steps = 0;
        loop {
            if walk.key_at != Walk::NO_KEY && memory.load(field(node, walk.key_at)?)? == walk.key {
                break;
            }
            if steps == walk.depth {
                if walk.key_at == Walk::NO_KEY {
                    break;
                }
                return Err(Status::NotFound);
            }
            node = memory.load(field(node, walk.next_at)?)?;
            if node == 0 {
                return Err(Status::NotFound);
            }
            steps += 1;
        }
        let data = output
            .get_mut(..walk.data_len as usize)
            .ok_or(Status::TooLarge)?;
        memory.read(field(node, walk.data_at)?, data)?;
        Ok(Done {
            len: data.len(),
            result: node,
        })
    }
}
