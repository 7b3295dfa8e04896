// SPDX-License-Identifier: GPL-2.0

//! The packets between compute nodes and memory nodes: a fixed header of 80
//! bytes, then the payload, in one UDP datagram. Both ends compile this file.
//! Documentation/clio-protocol.md has the byte diagram.
//!
//! All integers are little-endian. Parsing is total: any bytes give a header or
//! a [`WireError`]. What parses is not yet authentic: see [`Header::verify`].

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

/// What a packet asks for. What the fields mean to each stands at [`Header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Op {
    /// Reads `len` bytes at `addr`.
    Read = 1,
    /// Writes the payload at `addr + offset`.
    Write = 2,
    /// Test and set: the word at `addr` becomes 1. The result is what it was.
    Tas = 3,
    /// Compare and swap: the word at `addr` becomes the payload's if it is
    /// `operand`. The result is what it was.
    Cas = 4,
    /// Fetch and add: `operand` is added to the word at `addr`, modulo 2^64. The
    /// result is what it was.
    Faa = 5,
    /// Takes the lock word at `addr`; [`Status::Held`] while somebody has it.
    Lock = 6,
    /// Gives the lock word at `addr` back.
    Unlock = 7,
    /// Answered when all that arrived before it was executed.
    Fence = 8,
    /// Writes the payload at `operand + offset`, then reads as many bytes at
    /// `addr + offset`. The two ranges of the whole request must not overlap.
    FlushFetch = 9,
    /// Allocates `operand` bytes in the region at `addr`. The result is the
    /// address. Slow path.
    Alloc = 16,
    /// Frees `operand` bytes of allocations at `addr`, whole allocations only.
    /// Slow path.
    Free = 17,
    /// Makes `operand` bytes at `addr` read as zeroes; whole pages go back to
    /// the pool, and their promise stays. Slow path.
    Zero = 18,
    /// Gives the allocations that `operand` bytes at `addr` are in other rights.
    /// Slow path.
    Protect = 19,
    /// Calls an offload. Extend path.
    Offload = 32,
}

impl Op {
    /// All there are.
    pub const ALL: [Self; 14] = [
        Self::Read,
        Self::Write,
        Self::Tas,
        Self::Cas,
        Self::Faa,
        Self::Lock,
        Self::Unlock,
        Self::Fence,
        Self::FlushFetch,
        Self::Alloc,
        Self::Free,
        Self::Zero,
        Self::Protect,
        Self::Offload,
    ];

    fn from_code(code: u8) -> Result<Self, WireError> {
        Self::ALL
            .into_iter()
            .find(|op| *op as u8 == code)
            .ok_or(WireError::Op(code))
    }

    /// Which path of the memory node takes it.
    pub fn path(self) -> Path {
        match self {
            Self::Alloc | Self::Free | Self::Zero | Self::Protect => Path::Slow,
            Self::Offload => Path::Extend,
            _ => Path::Fast,
        }
    }

    /// Whether it works on one word.
    pub fn is_word(self) -> bool {
        matches!(
            self,
            Self::Tas | Self::Cas | Self::Faa | Self::Lock | Self::Unlock
        )
    }

    /// Whether executing it twice could differ from executing it once, so that
    /// the memory node remembers it (T4 of section 4.4.5).
    pub fn is_remembered(self) -> bool {
        !matches!(self, Self::Read | Self::Fence)
    }

    /// Whether its request carries bytes that belong to `len`.
    fn carries(self) -> bool {
        matches!(self, Self::Write | Self::FlushFetch | Self::Offload)
    }
}

/// The three paths of section 4.3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Where the packet arrives.
    Fast,
    /// By a worker, the requests in their order.
    Slow,
    /// By a worker of offloads.
    Extend,
}

/// Bits of [`Header::flags`].
pub mod flags {
    /// An answer.
    pub const RESPONSE: u8 = 1;
    /// A request that was sent before: `first` is the id it had then.
    pub const RETRY: u8 = 2;
    /// A request whose access began below `addr`: `addr` may not be the first
    /// byte of an allocation. Compute nodes set it on the parts of an access that
    /// they split at the border of a region.
    pub const CONTINUED: u8 = 4;
    /// An answer without a tag, whose receiver can only take it for a hint.
    pub const UNSIGNED: u8 = 8;

    /// All of them.
    pub const ALL: u8 = RESPONSE | RETRY | CONTINUED | UNSIGNED;
}

/// Bits of [`Header::argument`] of [`Op::Alloc`] and [`Op::Protect`].
pub mod rights {
    /// The bytes may be read.
    pub const READ: u32 = 1;
    /// The bytes may be written, atomics included.
    pub const WRITE: u32 = 2;
    /// Both.
    pub const ALL: u32 = READ | WRITE;

    /// Allocate at `addr` itself or not at all, else anywhere in the region.
    pub const FIXED: u32 = 0x100;
    /// The allocation goes on from that which ends at `addr`, in another region:
    /// accesses may cross from the one to the other. Only with `FIXED`.
    pub const CONTINUES: u32 = 0x200;
}

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

/// What a lock word holds while somebody has the lock: 0 is nobody's.
///
/// It says whose it is: the requester's node, its incarnation (folded), and who,
/// of that node. So a lock needs no memory beside its word, and its word says
/// when the map dropped its holder.
pub fn lock_word(node: u32, incarnation: u64, who: u32) -> u64 {
    u64::from(node & 0xffff)
        | (u64::from(fold(incarnation)) << 16)
        | (u64::from(who & 0xff_ffff) << 40)
}

/// Node, folded incarnation and who, of a lock word.
pub fn lock_holder(word: u64) -> (u32, u32, u32) {
    (
        (word & 0xffff) as u32,
        ((word >> 16) & 0xff_ffff) as u32,
        (word >> 40) as u32,
    )
}

/// 24 bits that tell incarnations of a node apart.
pub fn fold(incarnation: u64) -> u32 {
    ((incarnation ^ (incarnation >> 24) ^ (incarnation >> 48)) & 0xff_ffff) as u32
}
