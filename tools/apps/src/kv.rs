// SPDX-License-Identifier: GPL-2.0

//! A hash table over all ranks. The rank that a key hashes to keeps it in buckets of shared memory: it alone changes
//! them, as callers ask it to, and whoever looks for a key reads its bucket out of the memory. A checksum in each
//! bucket tells a reader that it saw half a change (Pilaf, ATC'13); a full bucket has another one behind it.

mod bucket;
mod check;
mod client;
mod history;
mod run;
mod table;
mod wire;

pub use self::{
    bucket::{Bucket, VALUE},
    check::Model,
    client::Client,
    history::{History, Operation, ABSENT},
    run::{run, Settings},
    table::Table,
};

/// Where a key is: the rank, and the first bucket there.
fn place(key: u64, ranks: usize, buckets: usize) -> (usize, usize) {
    let hash = mix(key);
    let rank = hash % ranks as u64;
    let bucket = hash / ranks as u64 % buckets as u64;
    (rank as usize, bucket as usize)
}

/// splitmix64: every bit of the result depends on all of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
