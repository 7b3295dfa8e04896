// SPDX-License-Identifier: GPL-2.0

//! The messages: what is asked, and what is answered.

use super::{
    codec::{Bytes, Reader, Wire, Writer},
    identity::{Name, Secret},
};
use kernel::prelude::*;

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
        /// Its id: [`home_of`](super::home_of) says where its home is.
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
        /// [`proof`](super::proof) of the key.
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
        /// [`proof`](super::proof) of the key.
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
        /// Up to [`MAX_CHUNK`](super::MAX_CHUNK).
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
        /// Up to [`MAX_LIST`](super::MAX_LIST).
        effects: KVec<Effect>,
        /// Up to [`MAX_LIST`](super::MAX_LIST).
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
