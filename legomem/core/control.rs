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

use kernel::{prelude::*, siphash::Key};

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

/// Puts fields one behind the other.
#[derive(Default)]
pub struct Writer {
    bytes: KVec<u8>,
}

impl Writer {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result {
        Ok(self.bytes.extend_from_slice(bytes, GFP_KERNEL)?)
    }

    /// What was written.
    pub fn finish(self) -> KVec<u8> {
        self.bytes
    }
}

/// Takes fields; `EBADMSG` when there are not enough bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(EBADMSG)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(EBADMSG)?;
        self.rest = rest;
        Ok(*head)
    }

    fn end(self) -> Result {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(EBADMSG)
        }
    }
}

/// Something that stands in a message.
pub trait Wire: Sized {
    /// Appends it.
    fn put(&self, to: &mut Writer) -> Result;
    /// Takes it.
    fn get(from: &mut Reader<'_>) -> Result<Self>;
}

macro_rules! wire_number {
    ($($type:ident)*) => {$(
        impl Wire for $type {
            fn put(&self, to: &mut Writer) -> Result {
                to.bytes(&self.to_le_bytes())
            }
            fn get(from: &mut Reader<'_>) -> Result<Self> {
                Ok($type::from_le_bytes(from.array()?))
            }
        }
    )*};
}
wire_number!(u8 u16 u32 u64);

impl Wire for () {
    fn put(&self, _: &mut Writer) -> Result {
        Ok(())
    }
    fn get(_: &mut Reader<'_>) -> Result<Self> {
        Ok(())
    }
}

impl Wire for bool {
    fn put(&self, to: &mut Writer) -> Result {
        u8::from(*self).put(to)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        match u8::get(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(EBADMSG),
        }
    }
}

impl<T: Wire> Wire for KVec<T> {
    fn put(&self, to: &mut Writer) -> Result {
        (self.len() as u32).put(to)?;
        self.iter().try_for_each(|item| item.put(to))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let mut items = KVec::new();
        // Grows with what is there, not with what the count says.
        for _ in 0..u32::get(from)? {
            items.push(T::get(from)?, GFP_KERNEL)?;
        }
        Ok(items)
    }
}

/// A page's bytes, or part of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bytes(pub KVec<u8>);

impl Wire for Bytes {
    fn put(&self, to: &mut Writer) -> Result {
        (self.0.len() as u32).put(to)?;
        to.bytes(&self.0)
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let len = u32::get(from)? as usize;
        let mut bytes = KVec::new();
        bytes.extend_from_slice(from.bytes(len)?, GFP_KERNEL)?;
        Ok(Self(bytes))
    }
}

/// The key of an address space, where it has to be told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u64; 2]);

impl Secret {
    /// To hash with.
    pub fn key(&self) -> Key {
        Key::new(self.0)
    }
}

impl ::core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Wire for Secret {
    fn put(&self, to: &mut Writer) -> Result {
        self.0.iter().try_for_each(|word| word.put(to))
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        Ok(Self([u64::get(from)?, u64::get(from)?]))
    }
}

/// Name of an address space: 1 to 63 bytes, neither `/` nor control characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Name {
    /// Most bytes.
    pub const MAX: usize = 63;

    /// `EINVAL` if these bytes are no name.
    pub fn new(name: &[u8]) -> Result<Self> {
        let mut bytes = [0; Self::MAX];
        let fits = bytes.get_mut(..name.len()).ok_or(EINVAL)?;
        if name.is_empty()
            || name
                .iter()
                .any(|byte| *byte < b' ' || *byte == 0x7f || *byte == b'/')
        {
            return Err(EINVAL);
        }
        fits.copy_from_slice(name);
        Ok(Self {
            bytes,
            len: name.len() as u8,
        })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl ::core::fmt::Debug for Name {
    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
        write!(
            f,
            "{:?}",
            ::core::str::from_utf8(self.as_bytes()).unwrap_or("?")
        )
    }
}

impl Wire for Name {
    fn put(&self, to: &mut Writer) -> Result {
        self.len.put(to)?;
        to.bytes(self.as_bytes())
    }
    fn get(from: &mut Reader<'_>) -> Result<Self> {
        let len = u8::get(from)?;
        Self::new(from.bytes(len.into())?).map_err(|_| EBADMSG)
    }
}

macro_rules! wire_struct {
    ($(
        $(#[$meta:meta])*
        $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl Wire for $name {
            fn put(&self, _to: &mut Writer) -> Result {
                $(self.$field.put(_to)?;)*
                Ok(())
            }
            fn get(_from: &mut Reader<'_>) -> Result<Self> {
                Ok(Self { $($field: <$type>::get(_from)?,)* })
            }
        }
    )*};
}

wire_struct! {
    /// What a home knows of an address space, but for its regions.
    #[derive(Clone)]
    RasInfo {
        /// Its id: [`home_of`] says where its home is.
        id: u64,
        /// Its name.
        name: Name,
        /// `1 << region_shift` bytes to a region.
        region_shift: u8,
        /// Node that all its regions are to be on; 0: wherever there is room.
        pin: u16,
        /// User id of its creator.
        owner: u32,
        /// Bytes that may be allocated in it.
        quota: u64,
        /// Bytes of quota that its regions were given.
        granted: u64,
        /// Regions it has.
        regions: u32,
        /// Nodes that are attached to it.
        attached: u32,
        /// Grows with each change of the table of regions.
        version: u64,
    }

    /// A row of the table of regions: who has a region.
    #[derive(Clone, Copy)]
    Region {
        /// It begins at `VA_BASE + (index << region_shift)`.
        index: u32,
        /// Node id of its memory node; 0 when the region is lost: `EIO`.
        node: u16,
        /// UDP port of that node's legomem.
        port: u16,
        /// Bytes that may be allocated in it.
        allowance: u64,
        /// The life of the node that it was granted to. When the map has the node in
        /// another life, the region is lost.
        incarnation: u64,
    }

    /// What a memory node needs to serve an address space.
    #[derive(Clone, Copy)]
    Descriptor {
        /// Its id.
        ras: u64,
        /// Its key.
        key: Secret,
        /// `1 << region_shift` bytes to a region.
        region_shift: u8,
        /// The life of its home: when that ends, the address space is gone.
        home: u64,
    }

    /// What a grant came to.
    #[derive(Clone, Copy)]
    Granted {
        /// The allowance in force: at least what is used.
        allowance: u64,
        /// Bytes that are allocated in the region.
        used: u64,
    }

    /// An effect that a memory node remembers (T4), so that a retry that comes to
    /// another node after a migration is not executed twice.
    #[derive(Clone, Copy)]
    Effect {
        /// Who asked.
        node: u16,
        /// In which life.
        incarnation: u64,
        /// The id of the first try.
        first: u64,
        /// The fragment.
        offset: u32,
        /// Code of the answer's status.
        status: u8,
        /// Its result.
        operand: u64,
    }

    /// Up to where effects of a node were forgotten.
    #[derive(Clone, Copy)]
    Horizon {
        /// Whose.
        node: u16,
        /// In which life.
        incarnation: u64,
        /// The largest first id.
        first: u64,
    }

    /// State of a memory node, for placement and for people.
    #[derive(Clone, Copy)]
    NodeStat {
        /// Its id.
        node: u16,
        /// UDP port of its legomem.
        port: u16,
        /// `1 << page_shift` bytes to a page.
        page_shift: u8,
        /// It gets no new regions, and gives those that it has away.
        draining: bool,
        /// Its life.
        incarnation: u64,
        /// Pages of its pool.
        pages: u64,
        /// Of these, pages that hold nothing.
        free: u64,
        /// Pages that allocations were promised.
        promised: u64,
        /// Pages that it may promise: more than it has, where it over-commits.
        limit: u64,
        /// Bytes of allowance that its regions have.
        allowance: u64,
        /// Regions it has.
        regions: u32,
        /// Address spaces it serves.
        spaces: u32,
        /// Requests of the last second.
        load: u64,
    }

    /// Makes an address space whose home is the callee. `EEXIST`: there is one of
    /// this name here. (Names of a cluster: the caller asks all nodes first.)
    Create {
        /// Its name.
        name: Name,
        /// Its key.
        key: Secret,
        /// 24 to 30.
        region_shift: u8,
        /// As [`RasInfo::pin`].
        pin: u16,
        /// As [`RasInfo::owner`].
        owner: u32,
        /// Bytes.
        quota: u64,
    }

    /// Attaches the calling node. `ENOENT`: its home is not here; `EACCES`: not its
    /// key. Attaching again is legal.
    Attach {
        /// Its name.
        name: Name,
        /// Any number.
        nonce: u64,
        /// [`proof`] of the key.
        proof: u64,
    }

    /// The calling node has no user of it any more.
    Detach {
        /// The address space.
        ras: u64,
    }

    /// Ends an address space and frees its memory. `EBUSY` while another node than
    /// the caller is attached; `EACCES`: not its key.
    Destroy {
        /// The address space.
        ras: u64,
        /// Any number.
        nonce: u64,
        /// [`proof`] of the key.
        proof: u64,
    }

    /// Asks a home for the table of regions.
    Table {
        /// The address space.
        ras: u64,
        /// The first index of interest: 0, then one more than the last that was told.
        from: u32,
    }

    /// The table, or a part of it.
    TableReply {
        /// Version of the table: when it changes between parts, begin again.
        version: u64,
        /// In the order of their indices.
        regions: KVec<Region>,
        /// There are more behind these.
        more: bool,
    }

    /// Asks a home for regions: room for an allocation of so many bytes. One region
    /// when it fits in one, else as many consecutive new ones as it takes.
    /// `ENOSPC`: no node has room; `EDQUOT`: the quota is used up.
    Grow {
        /// The address space.
        ras: u64,
        /// Bytes.
        bytes: u64,
        /// A region that had no room though it seemed so, plus 1; or 0. Not this one.
        not: u32,
    }

    /// Asks a node for its state.
    Stat {
    }

    /// Asks a node for the address spaces whose home it is.
    List {
        /// Only ids above this.
        after: u64,
    }

    /// Some of them.
    ListReply {
        /// In the order of their ids.
        spaces: KVec<RasInfo>,
        /// There are more behind these.
        more: bool,
    }

    /// Has a node give its regions away and take no new ones, or stops that.
    Drain {
        /// On or off.
        on: bool,
    }

    /// Has a node give a region to another. It answers when that is under way.
    Migrate {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// To this node; 0: to the one with most room.
        to: u16,
    }

    /// Ends an address space whose home is the callee, without its key: an operator
    /// has it done. `EBUSY` while a node is attached, unless it is forced.
    Remove {
        /// The address space.
        ras: u64,
        /// Whoever is attached.
        force: bool,
    }

    /// Changes the quota of an address space whose home is the callee. `EBUSY` when
    /// its regions were given more.
    Resize {
        /// The address space.
        ras: u64,
        /// Bytes.
        quota: u64,
    }

    /// Home to memory node: you have this region now, or its allowance changed.
    Grant {
        /// Of this address space.
        space: Descriptor,
        /// The region.
        index: u32,
        /// Bytes that may be allocated in it; less than what is used trims it to that.
        allowance: u64,
        /// For this life of the node only, else `ESTALE`.
        incarnation: u64,
    }

    /// Home to memory node: you do not have this region any more; its memory goes.
    Revoke {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
    }

    /// Home to memory node: the address space is gone.
    Drop {
        /// The address space.
        ras: u64,
    }

    /// Memory node to home: who else could have this region? `ENOSPC`: nobody.
    Place {
        /// The address space.
        ras: u64,
        /// The region, which the caller has.
        index: u32,
        /// Pages of it that hold something, in bytes.
        bytes: u64,
        /// This one if it has room; 0: any.
        wish: u16,
    }

    /// Who.
    PlaceReply {
        /// The node.
        node: u16,
        /// Its life.
        incarnation: u64,
        /// UDP port of its legomem.
        port: u16,
    }

    /// Source to destination: a region is coming.
    Import {
        /// Of this address space.
        space: Descriptor,
        /// The region.
        index: u32,
        /// Bytes that may be allocated in it.
        allowance: u64,
        /// For this life of the node only, else `ESTALE`.
        incarnation: u64,
        /// Which migration: messages of another are refused.
        token: u64,
    }

    /// Source to destination: an allocation of it.
    ImportRange {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// Which migration.
        token: u64,
        /// Where it begins.
        addr: u64,
        /// Its bytes.
        len: u64,
        /// Its rights, and `CONTINUES`.
        rights: u32,
    }

    /// Source to destination: bytes of it.
    ImportBytes {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// Which migration.
        token: u64,
        /// Where they stand.
        addr: u64,
        /// Their crc32c; `EBADMSG` when they arrive otherwise.
        crc: u32,
        /// Up to [`MAX_CHUNK`].
        bytes: Bytes,
    }

    /// Source to destination: what was executed there lately.
    ImportEffects {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// Which migration.
        token: u64,
        /// Up to [`MAX_LIST`].
        effects: KVec<Effect>,
        /// Up to [`MAX_LIST`].
        horizons: KVec<Horizon>,
    }

    /// Source to destination: that was all; serve it. Or: it does not come.
    ImportEnd {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// Which migration.
        token: u64,
        /// Whether it is complete.
        complete: bool,
    }

    /// Source to home: the region is there now. The home swings its table; doing so
    /// again is legal. `ESTALE`: the region was not the caller's any more.
    Swing {
        /// The address space.
        ras: u64,
        /// The region.
        index: u32,
        /// Whose it is now.
        to: u16,
        /// The life of that node.
        incarnation: u64,
        /// UDP port of that node's legomem.
        port: u16,
    }
}

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

/// Shows that node `node` knows the key, without telling it.
pub fn proof(key: &Secret, nonce: u64, node: u16, what: &[u8]) -> u64 {
    key.key()
        .hash(&[b"attach", &nonce.to_le_bytes(), &node.to_le_bytes(), what])
}

/// Node id of the home of an address space.
pub fn home_of(ras: u64) -> u16 {
    (ras >> 48) as u16
}
