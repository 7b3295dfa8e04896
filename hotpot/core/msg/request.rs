// SPDX-License-Identifier: GPL-2.0

//! What all requests have in common, and what stands before each.

use super::wire::{Reader, Wire, Writer};
use kernel::prelude::*;

/// Version of the messages.
pub const VERSION: u16 = 8;

/// A request: it goes with its data, if it has any, behind it.
pub trait Request<'a>: Wire<'a> {
    /// Which request.
    const OPCODE: u16;
    /// What is answered when all went well.
    type Reply: for<'b> Wire<'b>;

    /// The bytes before the data.
    fn encode(&self, epoch: u64) -> Result<KVec<u8>> {
        let mut to = Writer::default();
        to.u16(Self::OPCODE)?;
        to.u16(VERSION)?;
        to.u32(0)?;
        to.u64(epoch)?;
        self.put(&mut to)?;
        Ok(to.finish())
    }
}

/// What stands before every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Which request.
    pub opcode: u16,
    /// Epoch of the sender's map.
    pub epoch: u64,
}

impl Head {
    /// Reads it; EBADMSG when it is cut short, EPROTONOSUPPORT for another version.
    pub fn get(from: &mut Reader<'_>) -> Result<Self> {
        let opcode = from.u16()?;
        if from.u16()? != VERSION {
            return Err(EPROTONOSUPPORT);
        }
        if from.u32()? != 0 {
            return Err(EBADMSG);
        }
        Ok(Self {
            opcode,
            epoch: from.u64()?,
        })
    }
}

/// Makes a struct a request: its opcode, and what is answered.
macro_rules! request {
    ($name:ident $(<$lt:lifetime>)? = $opcode:literal => $reply:ty) => {
        impl<'a> Request<'a> for wire_struct!(@type $name $($lt)?) {
            const OPCODE: u16 = $opcode;
            type Reply = $reply;
        }
    };
}

pub(super) use request;
