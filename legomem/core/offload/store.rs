// SPDX-License-Identifier: GPL-2.0

//! A key-value store, which lives in an allocation of its caller: a hash table
//! whose chains and items are plain memory of the address space.
//!
//! A write is atomic: the item is written as a whole before one word makes it
//! visible. A read sees what was committed, never part of a write, since calls of
//! offloads that write run one at a time.
//!
//! # Layout
//!
//! ```text
//! base +   0  u64  magic
//! base +   8  u64  bytes of the whole
//! base +  16  u64  buckets
//! base +  24  u64  items
//! base +  32  u64  first byte that was never used, from base
//! base +  40  u64  [u64; 2] key of the hash
//! base +  56  u64  [u64; 11] free items of each size class, as offsets
//! base + 256  u64  first item of each bucket, as an offset; 0 is none
//! item +   0  u64  next item of the bucket, or free item of the class
//! item +   8  u32  bytes of the key
//! item +  12  u32  bytes of the value
//! item +  16       key, then value
//! ```

use super::super::wire::Status;
use super::{Call, Done, Kind, Memory, Offload};
use kernel::siphash::Key;

/// The offload. The request's address is the base of a store.
pub struct Store;

impl Store {
    /// Makes an empty store. Input: u64 bytes, u64 buckets, [u64; 2] key of the hash.
    pub const FORMAT: u16 = 1;
    /// Adds an item; `Exists` if there is one of its key. Input: see [`Input`].
    pub const CREATE: u16 = 2;
    /// The output is the value of a key, the result its length. Input: the key.
    pub const READ: u16 = 3;
    /// Changes the value of a key; `NotFound` if there is none. Input: see [`Input`].
    pub const UPDATE: u16 = 4;
    /// Takes an item out; `NotFound` if there is none. Input: the key.
    pub const DELETE: u16 = 5;
    /// The result is the number of items.
    pub const COUNT: u16 = 6;

    /// Largest key.
    pub const MAX_KEY: usize = 256;
    /// Largest item, with its header.
    pub const MAX_ITEM: u64 = MIN_CLASS << (CLASSES - 1);
    /// Bytes that a store takes for its header and its buckets.
    pub const fn overhead(buckets: u64) -> u64 {
        TABLE + buckets * 8
    }
}

const MAGIC: u64 = u64::from_le_bytes(*b"cliostor");
const LEN: u64 = 8;
const BUCKETS: u64 = 16;
const ITEMS: u64 = 24;
const UNUSED: u64 = 32;
const HASH: u64 = 40;
const FREE: u64 = 56;
const TABLE: u64 = 256;

const NEXT: u64 = 0;
const KEY_LEN: u64 = 8;
const KEY: u64 = 16;

/// Items come in sizes of 64 bytes to 64 KiB, each twice the one before.
const MIN_CLASS: u64 = 64;
const CLASSES: u32 = 11;

/// Key and value, as the input of a call: u32 bytes of the key, the key, the value.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Input<'a> {
    fn decode(input: &'a [u8]) -> Result<Self, Status> {
        let (len, rest) = input.split_first_chunk().ok_or(Status::Invalid)?;
        let len = u32::from_le_bytes(*len) as usize;
        let (key, value) = rest.split_at_checked(len).ok_or(Status::Invalid)?;
        check_key(key)?;
        Ok(Self { key, value })
    }
}

fn check_key(key: &[u8]) -> Result<(), Status> {
    match key.len() {
        0 => Err(Status::Invalid),
        len if len > Store::MAX_KEY => Err(Status::TooLarge),
        _ => Ok(()),
    }
}

/// The word at `at` of the input.
fn word(input: &[u8], at: usize) -> Result<u64, Status> {
    let bytes = input.get(at * 8..).and_then(<[u8]>::first_chunk);
    bytes
        .map(|bytes| u64::from_le_bytes(*bytes))
        .ok_or(Status::Invalid)
}

/// A store that was found to be one.
struct Opened<'a, M> {
    memory: &'a M,
    base: u64,
    len: u64,
    buckets: u64,
}

/// An item, and the word that leads to it.
struct Found {
    /// Offset of that word.
    link: u64,
    /// Offset of the item.
    item: u64,
    key_len: u64,
    value_len: u64,
}

fn class_of(size: u64) -> Result<u32, Status> {
    (0..CLASSES)
        .find(|class| MIN_CLASS << class >= size)
        .ok_or(Status::TooLarge)
}

impl<'a, M: Memory> Opened<'a, M> {
    fn open(memory: &'a M, base: u64) -> Result<Self, Status> {
        if base % 8 != 0 {
            return Err(Status::Invalid);
        }
        let this = Self {
            memory,
            base,
            len: TABLE,
            buckets: 0,
        };
        if this.load(0)? != MAGIC {
            return Err(Status::Corrupt);
        }
        let (len, buckets) = (this.load(LEN)?, this.load(BUCKETS)?);
        let fits = buckets
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(TABLE));
        if buckets == 0 || fits.is_none_or(|bytes| bytes > len) || base.checked_add(len).is_none() {
            return Err(Status::Corrupt);
        }
        Ok(Self {
            len,
            buckets,
            ..this
        })
    }

    /// The address of an offset: whatever the memory says, none outside of the store.
    fn at(&self, offset: u64, len: u64) -> Result<u64, Status> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len.max(TABLE) => Ok(self.base + offset),
            _ => Err(Status::Corrupt),
        }
    }

    fn load(&self, offset: u64) -> Result<u64, Status> {
        self.memory.load(self.at(offset, 8)?)
    }

    fn store(&self, offset: u64, word: u64) -> Result<(), Status> {
        self.memory.store(self.at(offset, 8)?, word)
    }

    fn bucket(&self, key: &[u8]) -> Result<u64, Status> {
        let hash = Key::new([self.load(HASH)?, self.load(HASH + 8)?]);
        Ok(TABLE + hash.hash(&[key]) % self.buckets * 8)
    }

    fn lens(&self, item: u64) -> Result<(u64, u64), Status> {
        let word = self.load(item + KEY_LEN)?;
        let (key, value) = (word & 0xffff_ffff, word >> 32);
        if key == 0 || key > Store::MAX_KEY as u64 || KEY + key + value > Store::MAX_ITEM {
            return Err(Status::Corrupt);
        }
        Ok((key, value))
    }

    fn find(&self, key: &[u8]) -> Result<Option<Found>, Status> {
        let mut link = self.bucket(key)?;
        // A chain that comes back to itself is damage, not a reason to stay here forever.
        let mut left = self.load(ITEMS)?.saturating_add(1);
        loop {
            let item = self.load(link)?;
            if item == 0 {
                return Ok(None);
            }
            left = left.checked_sub(1).ok_or(Status::Corrupt)?;
            let (key_len, value_len) = self.lens(item)?;
            if key_len == key.len() as u64 && self.holds(item + KEY, key)? {
                return Ok(Some(Found {
                    link,
                    item,
                    key_len,
                    value_len,
                }));
            }
            link = item + NEXT;
        }
    }

    fn holds(&self, offset: u64, key: &[u8]) -> Result<bool, Status> {
        let mut buffer = [0; Store::MAX_KEY];
        let there = buffer.get_mut(..key.len()).ok_or(Status::TooLarge)?;
        self.memory
            .read(self.at(offset, key.len() as u64)?, there)?;
        Ok(there == key)
    }

    /// A free item of a class.
    fn take(&self, class: u32) -> Result<u64, Status> {
        let head = FREE + u64::from(class) * 8;
        let size = MIN_CLASS << class;
        match self.load(head)? {
            0 => {
                let item = self.load(UNUSED)?;
                let end = item.checked_add(size).ok_or(Status::Corrupt)?;
                if end > self.len {
                    return Err(Status::NoSpace);
                }
                self.store(UNUSED, end)?;
                Ok(item)
            }
            item => {
                self.store(head, self.load(item + NEXT)?)?;
                Ok(item)
            }
        }
    }

    fn give_back(&self, found: &Found) -> Result<(), Status> {
        let class = class_of(KEY + found.key_len + found.value_len)?;
        self.release(found.item, class)
    }

    fn release(&self, item: u64, class: u32) -> Result<(), Status> {
        let head = FREE + u64::from(class) * 8;
        self.store(item + NEXT, self.load(head)?)?;
        self.store(head, item)
    }

    /// Writes an item that nobody sees yet.
    fn prepare(&self, input: &Input<'_>, next: u64) -> Result<u64, Status> {
        let size = KEY + (input.key.len() + input.value.len()) as u64;
        let class = class_of(size)?;
        let item = self.take(class)?;
        // A page that is not prepared yet stops this: the call is tried again as a whole.
        self.fill(item, size, input, next).inspect_err(|_| {
            let _ = self.release(item, class);
        })?;
        Ok(item)
    }

    fn fill(&self, item: u64, size: u64, input: &Input<'_>, next: u64) -> Result<(), Status> {
        let at = self.at(item, size)?;
        self.memory.store(at + NEXT, next)?;
        let lens = input.key.len() as u64 | ((input.value.len() as u64) << 32);
        self.memory.store(at + KEY_LEN, lens)?;
        self.memory.write(at + KEY, input.key)?;
        self.memory
            .write(at + KEY + input.key.len() as u64, input.value)
    }

    fn create(&self, input: &Input<'_>) -> Result<Done, Status> {
        if self.find(input.key)?.is_some() {
            return Err(Status::Exists);
        }
        let bucket = self.bucket(input.key)?;
        let item = self.prepare(input, self.load(bucket)?)?;
        self.store(bucket, item)?;
        self.store(ITEMS, self.load(ITEMS)?.wrapping_add(1))?;
        Ok(Done::default())
    }

    fn update(&self, input: &Input<'_>) -> Result<Done, Status> {
        let found = self.find(input.key)?.ok_or(Status::NotFound)?;
        let item = self.prepare(input, self.load(found.item + NEXT)?)?;
        self.store(found.link, item)?;
        self.give_back(&found)?;
        Ok(Done::default())
    }

    fn delete(&self, key: &[u8]) -> Result<Done, Status> {
        let found = self.find(key)?.ok_or(Status::NotFound)?;
        self.store(found.link, self.load(found.item + NEXT)?)?;
        self.give_back(&found)?;
        self.store(ITEMS, self.load(ITEMS)?.saturating_sub(1))?;
        Ok(Done::default())
    }

    fn read(&self, key: &[u8], output: &mut [u8]) -> Result<Done, Status> {
        let found = self.find(key)?.ok_or(Status::NotFound)?;
        let value = self.at(found.item + KEY + found.key_len, found.value_len)?;
        let to = output
            .get_mut(..found.value_len as usize)
            .ok_or(Status::TooLarge)?;
        self.memory.read(value, to)?;
        Ok(Done {
            len: to.len(),
            result: found.value_len,
        })
    }
}

fn format(memory: &impl Memory, base: u64, input: &[u8]) -> Result<Done, Status> {
    let (len, buckets) = (word(input, 0)?, word(input, 1)?);
    if input.len() != 32 || base % 8 != 0 || buckets == 0 || buckets > 1 << 24 {
        return Err(Status::Invalid);
    }
    let items = Store::overhead(buckets).next_multiple_of(MIN_CLASS);
    if len < items + MIN_CLASS {
        return Err(Status::Invalid);
    }
    // All of it must be there; and while it is being made it is no store.
    memory.read(base.checked_add(len - 1).ok_or(Status::Fault)?, &mut [0])?;
    memory.store(base, 0)?;
    let zeroes = [0; 512];
    let mut at = 0;
    while at < items {
        let part = zeroes
            .get(..(items - at).min(512) as usize)
            .unwrap_or_default();
        memory.write(base + at, part)?;
        at += part.len() as u64;
    }
    memory.store(base + LEN, len)?;
    memory.store(base + BUCKETS, buckets)?;
    memory.store(base + UNUSED, items)?;
    memory.store(base + HASH, word(input, 2)?)?;
    memory.store(base + HASH + 8, word(input, 3)?)?;
    memory.store(base, MAGIC)?;
    Ok(Done::default())
}

impl Offload for Store {
    const ID: u16 = 2;

    fn kind(function: u16) -> Kind {
        match function {
            // They too wait for the one who writes, and for chains of any length.
            Self::READ | Self::COUNT => Kind::Reads,
            _ => Kind::Writes,
        }
    }

    fn call(memory: &impl Memory, call: Call<'_>, output: &mut [u8]) -> Result<Done, Status> {
        if call.function == Self::FORMAT {
            return format(memory, call.addr, call.input);
        }
        let store = Opened::open(memory, call.addr)?;
        match call.function {
            Self::CREATE => store.create(&Input::decode(call.input)?),
            Self::UPDATE => store.update(&Input::decode(call.input)?),
            Self::READ => {
                check_key(call.input)?;
                store.read(call.input, output)
            }
            Self::DELETE => {
                check_key(call.input)?;
                store.delete(call.input)
            }
            Self::COUNT => Ok(Done {
                len: 0,
                result: store.load(ITEMS)?,
            }),
            _ => Err(Status::NotSupported),
        }
    }
}
