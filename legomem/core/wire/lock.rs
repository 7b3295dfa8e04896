// SPDX-License-Identifier: GPL-2.0

//! Lock words: who has a lock.

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
