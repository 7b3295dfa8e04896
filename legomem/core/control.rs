// SPDX-License-Identifier: GPL-2.0

//! The control plane: what goes over rdma_lite's calls (port `LITE_PORT_LEGOMEM`)
//! between compute nodes, the homes of address spaces, and memory nodes. Each
//! request is a type with its reply type, so none can be answered by the wrong one.
//!
//! A request begins with
//!
//! ```text
//!  0  u16  opcode
//!  2  u16  version, 1
//!  4  u32  zero
//! ```
//!
//! and goes on as the types below say, field by field, little-endian, unaligned; a
//! list is a `u32` count and its elements. Decoding is total: any bytes give a
//! value or `EBADMSG`. Errors of a call are errnos, as its handler returned them.

// By path, as the compute node's core includes this file by path.
#[path = "control/codec.rs"]
mod codec;
#[path = "control/identity.rs"]
mod identity;
#[path = "control/messages.rs"]
mod messages;

pub use self::{codec::*, identity::*, messages::*};

use kernel::prelude::*;

/// Version of the messages.
pub const VERSION: u16 = 1;

/// First address of every address space. Nothing below it is ever valid.
pub const VA_BASE: u64 = 1 << 40;

/// Regions an address space can have.
pub const MAX_REGIONS: u32 = 1 << 16;

/// Sizes of regions: 16 MiB to 1 GiB.
pub const REGION_SHIFT: ::core::ops::RangeInclusive<u8> = 24..=30;

/// Most elements of a list in a reply; the rest is asked for again.
pub const MAX_LIST: usize = 64;

/// Most bytes of a page in one message.
pub const MAX_CHUNK: usize = 16 << 10;
/// A request and the reply that belongs to it.
pub trait Request: Wire {
    /// Number of the request.
    const OPCODE: u16;
    /// What the callee answers.
    type Reply: Wire;
}

macro_rules! requests {
    ($($opcode:literal $name:ident -> $reply:ty,)*) => {
        $(impl Request for $name {
            const OPCODE: u16 = $opcode;
            type Reply = $reply;
        })*

        /// Any request, as its handler gets it.
        #[derive(Debug, PartialEq, Eq)]
        pub enum Any {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name),)*
        }

        impl Any {
            /// From a message. `EBADMSG`: malformed; `EPROTONOSUPPORT`: of another
            /// version; `EOPNOTSUPP`: no request that this version has.
            pub fn decode(bytes: &[u8]) -> Result<Self> {
                let mut from = Reader::new(bytes);
                let opcode = u16::get(&mut from)?;
                if u16::get(&mut from)? != VERSION {
                    return Err(EPROTONOSUPPORT);
                }
                if u32::get(&mut from)? != 0 {
                    return Err(EBADMSG);
                }
                let request = match opcode {
                    $($opcode => Self::$name($name::get(&mut from)?),)*
                    _ => return Err(EOPNOTSUPP),
                };
                from.end()?;
                Ok(request)
            }
        }
    };
}

requests! {
    1 Create -> RasInfo,
    2 Attach -> RasInfo,
    3 Detach -> (),
    4 Destroy -> (),
    5 Table -> TableReply,
    6 Grow -> TableReply,
    7 Stat -> NodeStat,
    8 List -> ListReply,
    9 Drain -> (),
    10 Migrate -> (),
    11 Remove -> (),
    12 Resize -> (),
    16 Grant -> Granted,
    17 Revoke -> (),
    18 Drop -> (),
    19 Place -> PlaceReply,
    20 Import -> (),
    21 ImportRange -> (),
    22 ImportBytes -> (),
    23 ImportEnd -> (),
    24 Swing -> (),
    25 ImportEffects -> (),
}

/// A request as a message.
pub fn encode<R: Request>(request: &R) -> Result<KVec<u8>> {
    let mut to = Writer::default();
    R::OPCODE.put(&mut to)?;
    VERSION.put(&mut to)?;
    0u32.put(&mut to)?;
    request.put(&mut to)?;
    Ok(to.finish())
}

/// A reply as a message.
pub fn encode_reply<T: Wire>(reply: &T) -> Result<KVec<u8>> {
    let mut to = Writer::default();
    reply.put(&mut to)?;
    Ok(to.finish())
}

/// The reply to a request of this type.
pub fn decode_reply<T: Wire>(bytes: &[u8]) -> Result<T> {
    let mut from = Reader::new(bytes);
    let reply = T::get(&mut from)?;
    from.end()?;
    Ok(reply)
}
