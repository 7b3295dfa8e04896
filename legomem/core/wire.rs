// SPDX-License-Identifier: GPL-2.0

//! The packets between compute nodes and memory nodes: a fixed header of 80
//! bytes, then the payload, in one UDP datagram. Both ends compile this file.
//! Documentation/clio-protocol.md has the byte diagram.
//!
//! All integers are little-endian. Parsing is total: any bytes give a header or
//! a [`WireError`]. What parses is not yet authentic: see [`Header::verify`].

// By path, as the compute node's core includes this file by path.
#[path = "wire/lock.rs"]
mod lock;
#[path = "wire/op.rs"]
mod op;
#[path = "wire/status.rs"]
mod status;

pub use self::{
    lock::{fold, lock_holder, lock_word},
    op::{flags, rights, Op, Path},
    status::{Remedy, Status},
};

use kernel::{prelude::*, siphash::Key};

/// Version of everything in this file.
pub const VERSION: u8 = 1;

/// Bytes of a [`Header`].
pub const HEADER_LEN: usize = 80;

/// Port that memory nodes receive at, unless they are told another.
pub const UDP_PORT: u16 = 5225;

/// Most payload of a packet. Larger than the path's MTU is legal, and then left
/// to IP's fragments: compute nodes split so that it does not happen.
pub const MAX_PAYLOAD: usize = 61_440;

/// Most bytes of a read or of an offload's output, which one packet asks for:
/// it bounds the time that the packet keeps a processor busy.
pub const MAX_READ: u32 = 65_536;

/// Most bytes of a write, or of flush and fetch, over all of its fragments.
pub const MAX_WRITE: u32 = 1 << 20;

/// Bytes of a word: what atomics and locks work on, at multiples of it.
pub const WORD: u64 = 8;

/// Why a packet is not one of ours. Such packets are counted and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer bytes than a header has.
    Truncated,
    /// More payload than a packet may have.
    Oversized,
    /// A version that we do not speak.
    Version(u8),
    /// An operation or a status that this version does not have.
    Op(u8),
    /// Fields that contradict each other, or reserved bits that are not zero.
    Field,
    /// The tag is not the one that the key gives.
    Tag,
}

impl From<WireError> for Error {
    fn from(e: WireError) -> Error {
        match e {
            WireError::Truncated => EBADMSG,
            WireError::Oversized => EMSGSIZE,
            WireError::Version(_) => EPROTONOSUPPORT,
            WireError::Op(_) | WireError::Field => EPROTO,
            WireError::Tag => EACCES,
        }
    }
}

/// What stands in front of each payload.
///
/// An answer repeats the request's header with [`flags::RESPONSE`], its status,
/// its own fragment (`offset`), its result in `operand`, and its own tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for.
    pub op: Op,
    /// Bits of [`flags`].
    pub flags: u8,
    /// Answer: how it went. Request: [`Status::Ok`].
    pub status: Status,
    /// Low 32 bits of the epoch of the sender's map.
    pub epoch: u32,
    /// The address space.
    pub ras: u64,
    /// The request: never used before in this life of the requester. Ids grow.
    pub id: u64,
    /// The id of the first try; `id` itself without [`flags::RETRY`].
    pub first: u64,
    /// Where, in the address space.
    pub addr: u64,
    /// Bytes of the whole request: what a read reads, a write writes over all
    /// its fragments, an offload is given. 8 for words, else 0.
    ///
    /// Answer of an offload: bytes of its whole output.
    pub len: u32,
    /// Where this packet's payload stands in those bytes. Requests other than
    /// write and flush-fetch have it 0.
    pub offset: u32,
    /// Node id of the requester.
    pub node: u32,
    /// - Read, offload: largest payload of an answer, which comes in as many
    ///   packets as it takes, at multiples of this; at least 1.
    /// - Lock, unlock: who, of that node, takes or has it; any number of 24 bits.
    /// - Alloc, protect: bits of [`rights`].
    /// - Else 0.
    pub argument: u32,
    /// The requester's incarnation.
    pub incarnation: u64,
    /// Request: what the operation says about it; offload: see
    /// [`offload_operand`]. Answer: the result of an atomic, of an allocation, of
    /// an offload.
    pub operand: u64,
}

/// The operand of [`Op::Offload`]: which offload, which of its functions, and the
/// most bytes of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Which.
    pub id: u16,
    /// Which of its functions.
    pub function: u16,
    /// Most bytes of output, up to [`MAX_READ`].
    pub output: u32,
}

/// The operand that names an offload.
pub fn offload_operand(offload: Offload) -> u64 {
    (u64::from(offload.id) << 48) | (u64::from(offload.function) << 32) | u64::from(offload.output)
}

const TAG_AT: usize = HEADER_LEN - 8;

struct Writer<'a> {
    rest: &'a mut [u8],
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        if let Some((head, rest)) = ::core::mem::take(&mut self.rest).split_first_chunk_mut() {
            *head = value;
            self.rest = rest;
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn get<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.get()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.get()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.get()?))
    }
}

impl Header {
    /// A request with all that is not said 0.
    pub fn request(op: Op, ras: u64, id: u64, addr: u64, len: u32) -> Self {
        Self {
            op,
            flags: 0,
            status: Status::Ok,
            epoch: 0,
            ras,
            id,
            first: id,
            addr,
            len,
            offset: 0,
            node: 0,
            argument: 0,
            incarnation: 0,
            operand: 0,
        }
    }

    /// The answer to it, without payload.
    pub fn answer(&self, status: Status, epoch: u32) -> Self {
        Self {
            flags: flags::RESPONSE,
            status,
            epoch,
            operand: 0,
            ..*self
        }
    }

    /// Whether it is an answer.
    pub fn is_response(&self) -> bool {
        self.flags & flags::RESPONSE != 0
    }

    /// The offload that is called.
    pub fn offload(&self) -> Offload {
        Offload {
            id: (self.operand >> 48) as u16,
            function: (self.operand >> 32) as u16,
            output: self.operand as u32,
        }
    }

    fn unsigned_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut w = Writer { rest: &mut bytes };
        w.put([VERSION, self.op as u8, self.flags, self.status as u8]);
        w.put(self.epoch.to_le_bytes());
        w.put(self.ras.to_le_bytes());
        w.put(self.id.to_le_bytes());
        w.put(self.first.to_le_bytes());
        w.put(self.addr.to_le_bytes());
        w.put(self.len.to_le_bytes());
        w.put(self.offset.to_le_bytes());
        w.put(self.node.to_le_bytes());
        w.put(self.argument.to_le_bytes());
        w.put(self.incarnation.to_le_bytes());
        w.put(self.operand.to_le_bytes());
        bytes
    }

    /// The header as bytes, with the tag of it and of the payload. Answers that are
    /// [`flags::UNSIGNED`] get none.
    pub fn seal(&self, key: &Key, payload: &[u8]) -> [u8; HEADER_LEN] {
        let mut bytes = self.unsigned_bytes();
        if self.flags & flags::UNSIGNED == 0 {
            let tag = key.hash(&[&bytes, payload]);
            bytes[TAG_AT..].copy_from_slice(&tag.to_le_bytes());
        }
        bytes
    }

    /// The header of an answer that has no key to be signed with: a hint.
    pub fn hint(&self) -> [u8; HEADER_LEN] {
        Self {
            flags: self.flags | flags::UNSIGNED,
            ..*self
        }
        .unsigned_bytes()
    }

    /// Splits a packet into header and payload, and says what is wrong with it.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (head, payload) = packet
            .split_at_checked(HEADER_LEN)
            .ok_or(WireError::Truncated)?;
        let mut r = Reader { rest: head };
        match r.u8()? {
            VERSION => {}
            version => return Err(WireError::Version(version)),
        }
        let header = Self {
            op: Op::from_code(r.u8()?)?,
            flags: r.u8()?,
            status: Status::from_code(r.u8()?)?,
            epoch: r.u32()?,
            ras: r.u64()?,
            id: r.u64()?,
            first: r.u64()?,
            addr: r.u64()?,
            len: r.u32()?,
            offset: r.u32()?,
            node: r.u32()?,
            argument: r.u32()?,
            incarnation: r.u64()?,
            operand: r.u64()?,
        };
        if payload.len() > MAX_PAYLOAD {
            return Err(WireError::Oversized);
        }
        if !header.is_sound(payload.len() as u32) {
            return Err(WireError::Field);
        }
        Ok((header, payload))
    }

    /// Whether the packet that [`Self::parse`] split was made by one who has the key.
    pub fn verify(packet: &[u8], key: &Key) -> Result<(), WireError> {
        let (head, payload) = packet
            .split_at_checked(HEADER_LEN)
            .ok_or(WireError::Truncated)?;
        let (fields, tag) = head.split_last_chunk::<8>().ok_or(WireError::Truncated)?;
        // Every bit counts at once: how many are right does not show in the time.
        let difference = key.hash(&[fields, &[0; 8], payload]) ^ u64::from_le_bytes(*tag);
        if difference == 0 {
            Ok(())
        } else {
            Err(WireError::Tag)
        }
    }

    fn is_sound(&self, payload: u32) -> bool {
        let retry = self.flags & flags::RETRY != 0;
        if self.flags & !flags::ALL != 0
            || self.node == 0
            || self.node > u32::from(u16::MAX)
            || self.incarnation == 0
            || self.id == 0
        {
            return false;
        }
        if self.is_response() {
            return true;
        }
        if self.status != Status::Ok
            || self.flags & flags::UNSIGNED != 0
            || self.first > self.id
            || (self.first == self.id) == retry
            || self.first == 0
        {
            return false;
        }
        // Each payload stands where it says, in a request of bounded length.
        let end = u64::from(self.offset) + u64::from(payload);
        let (limit, sound) = match self.op {
            Op::Read => (
                MAX_READ,
                payload == 0 && self.offset == 0 && self.argument != 0,
            ),
            Op::Write => (MAX_WRITE, payload != 0 && end <= self.len.into()),
            Op::FlushFetch => (
                MAX_WRITE,
                payload != 0 && end <= self.len.into() && self.argument == 0,
            ),
            Op::Offload => (
                MAX_PAYLOAD as u32,
                payload == self.len
                    && self.offset == 0
                    && self.argument != 0
                    && self.operand as u32 <= MAX_READ,
            ),
            Op::Cas => (8, payload == 8 && self.len == 8 && self.offset == 0),
            op if op.is_word() => (8, payload == 0 && self.len == 8 && self.offset == 0),
            _ => (0, payload == 0 && self.offset == 0),
        };
        sound
            && self.len <= limit
            && (self.len != 0 || !self.op.carries() || self.op == Op::Offload)
            && (self.len != 0 || self.op != Op::Read)
    }
}
