// SPDX-License-Identifier: GPL-2.0

//! The wire format: what stands in front of each message in a ring, what the
//! 32 bits of immediate data mean, and what a connection says at its start.
//!
//! All integers are little-endian (the immediate data are a number; verbs
//! carry it in network order). Documentation/rpc-wire-format.md has the byte
//! tables. Decoding is total: whatever the bytes, it returns a message or a
//! [`WireError`].

use super::class::Class;
use kernel::crc32::crc32c;
use kernel::prelude::*;

/// Version of everything in this file.
pub const VERSION: u8 = 2;

/// Bytes of a [`Header`].
pub const HEADER_LEN: usize = 80;

/// A ring is handed out in units of this many bytes.
pub const UNIT: u32 = 64;

/// Bytes of a [`Hello`]: all the private data that an rdma_cm REQ can carry.
pub const HELLO_LEN: usize = 56;

/// Bytes of a [`Reject`].
pub const REJECT_LEN: usize = 16;

const MAGIC: u16 = u16::from_le_bytes(*b"LT");

const HELLO_KIND: u8 = 0x81;
const REJECT_KIND: u8 = 0x82;

/// Why bytes are not a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireError {
    /// Fewer bytes than the layout has.
    Truncated,
    /// The magic number is another one: not our protocol.
    Magic,
    /// A version that we do not speak.
    Version(u8),
    /// A kind, tag or code that this version does not have.
    Kind(u8),
    /// The checksum of the header is wrong.
    Checksum,
    /// The payload is larger than a message may be here.
    Oversized,
    /// A field has a value that it cannot have.
    Field,
}

impl From<WireError> for Error {
    fn from(e: WireError) -> Error {
        match e {
            WireError::Truncated | WireError::Magic | WireError::Checksum => EBADMSG,
            WireError::Version(_) => EPROTONOSUPPORT,
            WireError::Kind(_) | WireError::Field => EPROTO,
            WireError::Oversized => EMSGSIZE,
        }
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A request to execute.
    Call = 1,
    /// What the handler returned.
    Reply = 2,
    /// Why there is no reply; the code is a [`Refusal`].
    Refuse = 3,
    /// Only says that the sender lives, and in which epoch.
    Heartbeat = 4,
}

/// Why a call got no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Refusal {
    /// The call was made under an older map than the callee's. Not executed.
    StaleEpoch = 1,
    /// The callee does not have the caller's map yet. Not executed; worth
    /// another try.
    BehindEpoch = 2,
    /// The call was for another life of the callee. Not executed by this one.
    WrongIncarnation = 3,
    /// Nobody registered the port. Not executed.
    NoPort = 4,
    /// The call was seen before and its reply is gone: it may have been executed.
    Forgotten = 5,
    /// No memory, or no room in the port's queue, for now. Not executed; worth another try.
    Busy = 6,
    /// The reply fits neither the ring nor the caller's buffer (executed), or the request is larger
    /// than the whole queue of the port (not executed).
    TooLarge = 7,
}

impl Refusal {
    fn from_code(code: u32) -> Result<Self, WireError> {
        Ok(match code {
            1 => Self::StaleEpoch,
            2 => Self::BehindEpoch,
            3 => Self::WrongIncarnation,
            4 => Self::NoPort,
            5 => Self::Forgotten,
            6 => Self::Busy,
            7 => Self::TooLarge,
            _ => return Err(WireError::Field),
        })
    }
}

/// A call, unique for a pair of incarnations: a slot of the caller's table, and
/// how often it was used. A higher sequence number in a slot says that the
/// caller is done with all lower ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(u64);

impl CallId {
    const SEQ_BITS: u32 = 48;
    /// The largest sequence number of a slot.
    pub const MAX_SEQ: u64 = (1 << Self::SEQ_BITS) - 1;

    /// The call `seq` of `slot`.
    pub fn new(slot: u16, seq: u64) -> Self {
        Self((u64::from(slot) << Self::SEQ_BITS) | (seq & Self::MAX_SEQ))
    }

    /// Slot of the caller's table.
    pub fn slot(self) -> u16 {
        (self.0 >> Self::SEQ_BITS) as u16
    }

    /// From 1 in each slot.
    pub fn seq(self) -> u64 {
        self.0 & Self::MAX_SEQ
    }
}

impl ::core::fmt::Debug for CallId {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(f, "{}.{}", self.slot(), self.seq())
    }
}

/// Where a reply may be written by RDMA, in the caller's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplyBuffer {
    /// Address under `rkey`.
    pub addr: u64,
    /// Remote key; 0 when there is no such memory.
    pub rkey: u32,
    /// Bytes of reply that the caller takes, by RDMA or through the ring.
    pub cap: u32,
}

/// What stands in front of each message in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// Reply: its bytes were written to the caller's buffer, not to the ring.
    pub direct: bool,
    /// Call: its caller wants to know that it was taken in, and no reply.
    pub notify: bool,
    /// Call: its class of service.
    pub class: Class,
    /// Call: the port called.
    pub port: u16,
    /// Bytes of payload.
    pub len: u32,
    /// [`digest`] of the sender's cluster.
    pub cluster: u64,
    /// Call: epoch it was made in. Else: the sender's present one.
    pub epoch: u64,
    /// The sender's incarnation.
    pub src_incarnation: u64,
    /// The incarnation that it is for.
    pub dst_incarnation: u64,
    /// Call, reply, refusal: which call.
    pub call: CallId,
    /// Call: milliseconds that the caller still waits. Reply: the handler's
    /// status (0 or a negative errno). Refusal: its code.
    pub arg: u32,
    /// Units that the sender consumed of the ring it receives in, modulo 2^24.
    pub credit: u32,
    /// Call: where the reply may go.
    pub reply: ReplyBuffer,
}

const FLAG_DIRECT: u16 = 1;
const FLAG_NOTIFY: u16 = 2;
const FLAG_HIGH: u16 = 4;
const CREDIT_MASK: u32 = (1 << 24) - 1;

struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, value: [u8; N]) {
        self.bytes[self.at..self.at + N].copy_from_slice(&value);
        self.at += N;
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn get<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (value, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or(WireError::Truncated)?;
        self.bytes = rest;
        Ok(*value)
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.get::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.get()?))
    }

    fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.get()?))
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.get()?))
    }

    fn start(&mut self) -> Result<u8, WireError> {
        if self.u16()? != MAGIC {
            return Err(WireError::Magic);
        }
        match self.u8()? {
            VERSION => self.u8(),
            version => Err(WireError::Version(version)),
        }
    }
}

impl Header {
    const CRC_AT: usize = 12;

    fn crc(bytes: &[u8; HEADER_LEN]) -> u32 {
        let crc = crc32c(!0, &bytes[..Self::CRC_AT]);
        !crc32c(crc, &bytes[Self::CRC_AT + 4..])
    }

    /// The header as bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut w = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        w.put(MAGIC.to_le_bytes());
        w.put([VERSION, self.kind as u8]);
        let direct = if self.direct { FLAG_DIRECT } else { 0 };
        let notify = if self.notify { FLAG_NOTIFY } else { 0 };
        let high = match self.class {
            Class::Normal => 0,
            Class::High => FLAG_HIGH,
        };
        let flags = direct | notify | high;
        w.put(flags.to_le_bytes());
        w.put(self.port.to_le_bytes());
        w.put(self.len.to_le_bytes());
        w.put([0; 4]);
        w.put(self.cluster.to_le_bytes());
        w.put(self.epoch.to_le_bytes());
        w.put(self.src_incarnation.to_le_bytes());
        w.put(self.dst_incarnation.to_le_bytes());
        w.put(self.call.0.to_le_bytes());
        w.put(self.arg.to_le_bytes());
        w.put(self.credit.to_le_bytes());
        w.put(self.reply.addr.to_le_bytes());
        w.put(self.reply.rkey.to_le_bytes());
        w.put(self.reply.cap.to_le_bytes());
        let crc = Self::crc(&bytes);
        bytes[Self::CRC_AT..Self::CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header at the start of `bytes`, whose payload in the ring may have
    /// up to `max_payload` bytes.
    pub fn decode(bytes: &[u8], max_payload: u32) -> Result<Self, WireError> {
        let bytes: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or(WireError::Truncated)?;
        let mut r = Reader { bytes };
        let kind = match r.start()? {
            1 => Kind::Call,
            2 => Kind::Reply,
            3 => Kind::Refuse,
            4 => Kind::Heartbeat,
            kind => return Err(WireError::Kind(kind)),
        };
        let flags = r.u16()?;
        let port = r.u16()?;
        let len = r.u32()?;
        if r.u32()? != Self::crc(bytes) {
            return Err(WireError::Checksum);
        }
        let header = Self {
            kind,
            direct: flags & FLAG_DIRECT != 0,
            notify: flags & FLAG_NOTIFY != 0,
            class: match flags & FLAG_HIGH {
                0 => Class::Normal,
                _ => Class::High,
            },
            port,
            len,
            cluster: r.u64()?,
            epoch: r.u64()?,
            src_incarnation: r.u64()?,
            dst_incarnation: r.u64()?,
            call: CallId(r.u64()?),
            arg: r.u32()?,
            credit: r.u32()?,
            reply: ReplyBuffer {
                addr: r.u64()?,
                rkey: r.u32()?,
                cap: r.u32()?,
            },
        };
        let known = FLAG_DIRECT | FLAG_NOTIFY | FLAG_HIGH;
        let of_calls = flags & (FLAG_NOTIFY | FLAG_HIGH) != 0;
        let misplaced = of_calls && kind != Kind::Call;
        if flags & !known != 0 || misplaced || header.credit & !CREDIT_MASK != 0 {
            return Err(WireError::Field);
        }
        let sound = match kind {
            Kind::Call => !header.direct && header.call.seq() != 0,
            Kind::Reply => (-4095..=0).contains(&(header.arg as i32)),
            Kind::Refuse => {
                Refusal::from_code(header.arg)?;
                !header.direct && len == 0
            }
            Kind::Heartbeat => !header.direct && len == 0,
        };
        if !sound {
            return Err(WireError::Field);
        }
        if header.ring_payload() > max_payload {
            return Err(WireError::Oversized);
        }
        Ok(header)
    }

    /// Bytes of payload that stand behind the header in the ring.
    pub fn ring_payload(&self) -> u32 {
        if self.direct {
            0
        } else {
            self.len
        }
    }

    /// The code of a refusal.
    pub fn refusal(&self) -> Option<Refusal> {
        match self.kind {
            Kind::Refuse => Refusal::from_code(self.arg).ok(),
            _ => None,
        }
    }
}

/// What the 32 bits of immediate data say: 4 bits of tag, 28 of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imm {
    /// A message was written at this offset (bytes, a multiple of [`UNIT`]).
    Message {
        /// Bytes from the start of the ring.
        offset: u32,
    },
    /// Nothing was written; the sender consumed so many units, modulo 2^24.
    Credit {
        /// As [`Header::credit`].
        consumed: u32,
    },
}

impl Imm {
    const MESSAGE: u32 = 1;
    const CREDIT: u32 = 2;

    /// As immediate data, in host order.
    pub fn encode(self) -> u32 {
        match self {
            Self::Message { offset } => (Self::MESSAGE << 28) | (offset / UNIT),
            Self::Credit { consumed } => (Self::CREDIT << 28) | (consumed & CREDIT_MASK),
        }
    }

    /// From immediate data, in host order.
    pub fn decode(imm: u32) -> Result<Self, WireError> {
        let value = imm & ((1 << 28) - 1);
        if value > CREDIT_MASK {
            return Err(WireError::Field);
        }
        match imm >> 28 {
            Self::MESSAGE => Ok(Self::Message {
                offset: value * UNIT,
            }),
            Self::CREDIT => Ok(Self::Credit { consumed: value }),
            tag => Err(WireError::Kind(tag as u8)),
        }
    }
}

/// What each side of a connection says first (rdma_cm private data of the
/// request and of the reply).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Who speaks.
    pub src: u16,
    /// To whom.
    pub dst: u16,
    /// The speaker's cluster.
    pub cluster: [u8; 16],
    /// The speaker's incarnation.
    pub incarnation: u64,
    /// The speaker's epoch.
    pub epoch: u64,
    /// The ring that the speaker receives in.
    pub ring: RingAddress,
    /// Which queue pair of the connection that has this ring: 0 is the one that carries messages and
    /// begins the connection, the others carry accesses to regions.
    pub lane: u8,
}

/// A ring in its owner's memory, and how much its owner takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingAddress {
    /// Address under `rkey`.
    pub addr: u64,
    /// Remote key.
    pub rkey: u32,
    /// Its size is `1 << size_log2` bytes.
    pub size_log2: u8,
    /// It holds up to `1 << depth_log2` messages.
    pub depth_log2: u8,
    /// Its owner remembers `1 << slots_log2` calls.
    pub slots_log2: u8,
}

impl RingAddress {
    /// Smallest and largest ring: 16 KiB, 512 MiB.
    pub const SIZE_LOG2: ::core::ops::RangeInclusive<u8> = 14..=29;
    /// Fewest and most messages in a ring.
    pub const DEPTH_LOG2: ::core::ops::RangeInclusive<u8> = 3..=15;
    /// Fewest and most calls at a time.
    pub const SLOTS_LOG2: ::core::ops::RangeInclusive<u8> = 0..=15;

    /// Bytes of the ring.
    pub fn size(&self) -> u32 {
        1 << self.size_log2
    }

    /// Whether the sizes are ones that a ring can have.
    pub fn is_sound(&self) -> bool {
        Self::SIZE_LOG2.contains(&self.size_log2)
            && Self::DEPTH_LOG2.contains(&self.depth_log2)
            && Self::SLOTS_LOG2.contains(&self.slots_log2)
    }
}

impl Hello {
    /// The hello as private data.
    pub fn encode(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        let mut w = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        w.put(MAGIC.to_le_bytes());
        w.put([VERSION, HELLO_KIND]);
        w.put(self.src.to_le_bytes());
        w.put(self.dst.to_le_bytes());
        w.put(self.cluster);
        w.put(self.incarnation.to_le_bytes());
        w.put(self.epoch.to_le_bytes());
        w.put(self.ring.addr.to_le_bytes());
        w.put(self.ring.rkey.to_le_bytes());
        w.put([
            self.ring.size_log2,
            self.ring.depth_log2,
            self.ring.slots_log2,
            self.lane,
        ]);
        bytes
    }

    /// The hello at the start of `bytes` (rdma_cm pads with zeroes).
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader { bytes };
        match r.start()? {
            HELLO_KIND => {}
            kind => return Err(WireError::Kind(kind)),
        }
        let hello = Self {
            src: r.u16()?,
            dst: r.u16()?,
            cluster: r.get()?,
            incarnation: r.u64()?,
            epoch: r.u64()?,
            ring: RingAddress {
                addr: r.u64()?,
                rkey: r.u32()?,
                size_log2: r.u8()?,
                depth_log2: r.u8()?,
                slots_log2: r.u8()?,
            },
            lane: r.u8()?,
        };
        if hello.src == 0 || hello.incarnation == 0 || !hello.ring.is_sound() {
            return Err(WireError::Field);
        }
        Ok(hello)
    }
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RejectReason {
    /// The hello was not understood, or has another version.
    Protocol = 1,
    /// The caller is of another cluster.
    Cluster = 2,
    /// The map does not know the caller, or says that it is down or out.
    NotMember = 3,
    /// The map has another incarnation of the caller.
    Incarnation = 4,
    /// The hello is for another node id.
    WrongNode = 5,
    /// The caller has to wait to be connected to (higher ids connect to lower ones).
    Direction = 6,
    /// Out of memory, or shutting down.
    Busy = 7,
}

/// Private data of a refused connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Epoch of the one who refuses.
    pub epoch: u64,
}

impl Reject {
    /// The refusal as private data.
    pub fn encode(&self) -> [u8; REJECT_LEN] {
        let mut bytes = [0; REJECT_LEN];
        let mut w = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        w.put(MAGIC.to_le_bytes());
        w.put([VERSION, REJECT_KIND]);
        w.put((self.reason as u32).to_le_bytes());
        w.put(self.epoch.to_le_bytes());
        bytes
    }

    /// The refusal at the start of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader { bytes };
        match r.start()? {
            REJECT_KIND => {}
            kind => return Err(WireError::Kind(kind)),
        }
        let reason = match r.u32()? {
            1 => RejectReason::Protocol,
            2 => RejectReason::Cluster,
            3 => RejectReason::NotMember,
            4 => RejectReason::Incarnation,
            5 => RejectReason::WrongNode,
            6 => RejectReason::Direction,
            7 => RejectReason::Busy,
            _ => return Err(WireError::Field),
        };
        Ok(Self {
            reason,
            epoch: r.u64()?,
        })
    }
}

/// Short form of a cluster's uuid, for each message; the hello has all of it.
pub fn digest(cluster: &[u8; 16]) -> u64 {
    let n = u128::from_le_bytes(*cluster);
    (n as u64) ^ ((n >> 64) as u64).rotate_left(32)
}
