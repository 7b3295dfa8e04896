// SPDX-License-Identifier: GPL-2.0

//! Simulated persistent memory.
//!
//! What a processor with volatile caches and ADR promises, and not more:
//!
//! - A store is seen by all loads at once and is durable at no known time.
//! - `flush` (clwb) of a line followed by `fence` (sfence) makes the stores that
//!   the line had at the time of the flush durable; neither does it alone.
//! - Until then the line may reach the medium any time, with what it holds then.
//!   Lines do so in any order. So after a crash each line holds what was durable
//!   plus any *prefix* of its later stores, whatever the other lines hold.
//! - An aligned store of 8 bytes is never cut; anything longer is a sequence of
//!   such stores, in ascending order.
//!
//! ```
//! use sim::pm::Pm;
//!
//! let mut pm = Pm::new(4096);
//! pm.store(64, b"content");
//! pm.flush(64, 7);
//! pm.fence();
//! pm.store_u64(0, 1); // not fenced: durable or not
//! for n in 0..pm.nr_crash_states().unwrap() {
//!     let after = pm.crash_state(n);
//!     assert!(after.read_u64(0) <= 1);
//!     assert_eq!(after.read(64, 7), b"content");
//! }
//! ```

use rand::Rng;
use std::{collections::BTreeMap, fmt};

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// A store to aligned 8 bytes or a part of them.
#[derive(Clone, Copy)]
struct Store {
    at: u8,
    len: u8,
    bytes: [u8; 8],
}

/// Stores to a line that no fence has made durable, in order.
#[derive(Clone, Default)]
struct Pending {
    stores: Vec<Store>,
    /// How many of them the last flush saw.
    flushed: usize,
}

/// How much of what is not durable a crash keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Nothing: the caches are lost.
    Nothing,
    /// Everything: all lines were written back just before.
    Everything,
    /// For each line any prefix of its stores.
    Any,
}

/// A persistent memory. Offsets outside of it panic: a simulated node that does
/// that is wrong, and would be in a kernel.
#[derive(Clone)]
pub struct Pm {
    /// What loads see.
    current: Vec<u8>,
    /// What the medium holds for sure.
    durable: Vec<u8>,
    pending: BTreeMap<usize, Pending>,
    /// Lines with `flushed > 0`.
    flushing: Vec<usize>,
}

impl fmt::Debug for Pm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pm")
            .field("len", &self.current.len())
            .field("unfenced_lines", &self.pending.len())
            .finish()
    }
}

impl Pm {
    /// `len` bytes of durable zeros; a multiple of 64.
    pub fn new(len: usize) -> Self {
        Self::holding(vec![0; len], vec![0; len])
    }

    /// A device that holds `image`, all of it durable.
    pub fn from_image(image: Vec<u8>) -> Self {
        // Not a clone of `image`: zeroed memory that nobody touches costs nothing.
        let mut current = vec![0; image.len()];
        for (to, from) in current.chunks_mut(4096).zip(image.chunks(4096)) {
            if from != &[0; 4096][..from.len()] {
                to.copy_from_slice(from);
            }
        }
        Self::holding(current, image)
    }

    fn holding(current: Vec<u8>, durable: Vec<u8>) -> Self {
        assert!(
            durable.len() % LINE == 0,
            "a PM device is made of whole lines"
        );
        Self {
            current,
            durable,
            pending: BTreeMap::new(),
            flushing: Vec::new(),
        }
    }

    /// Bytes of the device.
    pub fn len(&self) -> usize {
        self.current.len()
    }

    /// Whether the device has no bytes.
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }

    /// What loads see.
    pub fn read(&self, offset: usize, len: usize) -> &[u8] {
        &self.current[offset..offset + len]
    }

    /// An 8-byte load.
    pub fn read_u64(&self, offset: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(self.read(offset, 8));
        u64::from_le_bytes(bytes)
    }

    /// Stores `bytes`: visible, not durable.
    pub fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.current[offset..offset + bytes.len()].copy_from_slice(bytes);
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (in_line, behind) = rest.split_at(rest.len().min(LINE - at % LINE));
            let stores = &mut self.pending.entry(at / LINE).or_default().stores;
            stores.extend(cut(at % LINE, in_line));
            at += in_line.len();
            rest = behind;
        }
    }

    /// An atomic 8-byte store; `offset` is a multiple of 8.
    pub fn store_u64(&mut self, offset: usize, value: u64) {
        assert!(offset % 8 == 0, "an atomic store at {offset:#x}");
        self.store(offset, &value.to_le_bytes());
    }

    /// clwb of all lines that `len` bytes at `offset` touch.
    pub fn flush(&mut self, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        assert!(offset + len <= self.len(), "a flush beyond the device");
        for (line, pending) in self
            .pending
            .range_mut(offset / LINE..=(offset + len - 1) / LINE)
        {
            if pending.flushed == 0 {
                self.flushing.push(*line);
            }
            pending.flushed = pending.stores.len();
        }
    }

    /// sfence: what was flushed is durable.
    pub fn fence(&mut self) {
        for line in std::mem::take(&mut self.flushing) {
            if let Some(mut pending) = self.pending.remove(&line) {
                let later = pending.stores.split_off(pending.flushed);
                apply(&mut self.durable, line, &pending.stores);
                if !later.is_empty() {
                    let pending = Pending {
                        stores: later,
                        flushed: 0,
                    };
                    self.pending.insert(line, pending);
                }
            }
        }
    }

    /// Store, flush and fence.
    pub fn persist(&mut self, offset: usize, bytes: &[u8]) {
        self.store(offset, bytes);
        self.flush(offset, bytes.len());
        self.fence();
    }

    /// Whether nothing in `len` bytes at `offset` waits to become durable.
    pub fn is_durable(&self, offset: usize, len: usize) -> bool {
        len == 0
            || self
                .pending
                .range(offset / LINE..=(offset + len - 1) / LINE)
                .next()
                .is_none()
    }

    /// Numbers of the lines that wait to become durable, ascending.
    pub fn unfenced_lines(&self) -> impl Iterator<Item = usize> + '_ {
        self.pending.keys().copied()
    }

    /// Power fails. What loads see afterwards is what the medium then holds.
    pub fn crash(&mut self, rng: &mut impl Rng) {
        // Half of all crashes are of the simple kinds, which find most bugs.
        let keep = match rng.random_range(0..4u32) {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Any,
        };
        self.crash_keeping(keep, rng);
    }

    /// As [`Pm::crash`], of a chosen kind.
    pub fn crash_keeping(&mut self, keep: Keep, rng: &mut impl Rng) {
        self.crash_with(|_, stores| match keep {
            Keep::Nothing => 0,
            Keep::Everything => stores,
            // None and all are as likely as the prefixes between them together.
            Keep::Any => match rng.random_range(0..3u32) {
                0 => 0,
                1 => stores,
                _ => rng.random_range(0..=stores),
            },
        });
    }

    /// As [`Pm::crash`]; `keep(line, n)` says how many of the line's `n` stores arrived.
    pub fn crash_with(&mut self, mut keep: impl FnMut(usize, usize) -> usize) {
        self.flushing.clear();
        for (line, pending) in std::mem::take(&mut self.pending) {
            let kept = keep(line, pending.stores.len()).min(pending.stores.len());
            apply(&mut self.durable, line, &pending.stores[..kept]);
            let bytes = line * LINE..(line + 1) * LINE;
            self.current[bytes.clone()].copy_from_slice(&self.durable[bytes]);
        }
    }

    /// In how many ways a crash now can end; `None` when that is more than 2^64.
    /// Ways that differ only in stores of what was there already count too.
    pub fn nr_crash_states(&self) -> Option<u64> {
        self.pending.values().try_fold(1u64, |states, pending| {
            states.checked_mul(pending.stores.len() as u64 + 1)
        })
    }

    /// The device after the crash that ends in way `n`, below [`Pm::nr_crash_states`].
    pub fn crash_state(&self, mut n: u64) -> Pm {
        let mut pm = self.clone();
        pm.crash_with(|_, stores| {
            let ways = stores as u64 + 1;
            let kept = n % ways;
            n /= ways;
            kept as usize
        });
        pm
    }

    /// The medium lets bits flip: `mask` of the byte at `offset`.
    pub fn flip(&mut self, offset: usize, mask: u8) {
        self.current[offset] ^= mask;
        self.durable[offset] ^= mask;
    }

    /// What the medium holds for sure: the image of a crash that keeps nothing,
    /// and after a crash all there is.
    pub fn image(&self) -> &[u8] {
        &self.durable
    }
}

/// The stores to aligned 8 bytes that `bytes` at `at` of a line are, ascending.
fn cut(at: usize, bytes: &[u8]) -> impl Iterator<Item = Store> + '_ {
    let first = bytes.len().min(8 - at % 8);
    let (head, tail) = bytes.split_at(first);
    let later = (at + first..).step_by(8).zip(tail.chunks(8));
    std::iter::once((at, head)).chain(later).map(|(at, piece)| {
        let mut store = Store {
            at: at as u8,
            len: piece.len() as u8,
            bytes: [0; 8],
        };
        store.bytes[..piece.len()].copy_from_slice(piece);
        store
    })
}

fn apply(medium: &mut [u8], line: usize, stores: &[Store]) {
    for store in stores {
        let at = line * LINE + usize::from(store.at);
        let len = usize::from(store.len);
        medium[at..at + len].copy_from_slice(&store.bytes[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use std::collections::BTreeSet;

    fn outcomes(pm: &Pm, offset: usize, len: usize) -> BTreeSet<Vec<u8>> {
        (0..pm.nr_crash_states().unwrap())
            .map(|n| pm.crash_state(n).read(offset, len).to_vec())
            .collect()
    }

    #[test]
    fn a_store_is_seen_at_once_and_may_be_lost() {
        let mut pm = Pm::new(128);
        pm.store_u64(8, 7);
        assert_eq!(pm.read_u64(8), 7);
        assert!(!pm.is_durable(8, 8));
        let mut lost = pm.clone();
        lost.crash_keeping(Keep::Nothing, &mut ChaCha8Rng::seed_from_u64(0));
        assert_eq!(lost.read_u64(8), 0);
        let mut kept = pm;
        kept.crash_keeping(Keep::Everything, &mut ChaCha8Rng::seed_from_u64(0));
        assert_eq!(kept.read_u64(8), 7);
    }

    #[test]
    fn a_flushed_and_fenced_store_survives_every_crash() {
        let mut pm = Pm::new(4096);
        pm.persist(
            100,
            b"a longer text over two lines of the cache, at least sixty-four bytes",
        );
        assert!(pm.is_durable(0, 4096));
        assert_eq!(pm.nr_crash_states(), Some(1));
        assert!(pm.crash_state(0).read(100, 8) == b"a longer");
    }

    #[test]
    fn neither_a_flush_nor_a_fence_alone_makes_durable() {
        let mut pm = Pm::new(128);
        pm.store_u64(0, 1);
        pm.flush(0, 8);
        assert!(!pm.is_durable(0, 8));
        let mut pm = Pm::new(128);
        pm.store_u64(0, 1);
        pm.fence();
        assert!(!pm.is_durable(0, 8));
    }

    #[test]
    fn a_fence_covers_what_the_line_held_at_the_flush() {
        let mut pm = Pm::new(128);
        pm.store_u64(0, 1);
        pm.flush(0, 8);
        pm.store_u64(8, 2);
        pm.fence();
        assert_eq!(
            outcomes(&pm, 0, 16),
            BTreeSet::from([
                [1u64.to_le_bytes(), 0u64.to_le_bytes()].concat(),
                [1u64.to_le_bytes(), 2u64.to_le_bytes()].concat(),
            ])
        );
        pm.fence();
        assert!(!pm.is_durable(8, 8), "the flush was used up");
    }

    #[test]
    fn stores_to_one_line_arrive_in_order() {
        let mut pm = Pm::new(64);
        pm.store_u64(0, 1);
        pm.store_u64(8, 1);
        pm.store_u64(0, 2);
        let seen: BTreeSet<(u64, u64)> = (0..pm.nr_crash_states().unwrap())
            .map(|n| pm.crash_state(n))
            .map(|pm| (pm.read_u64(0), pm.read_u64(8)))
            .collect();
        assert_eq!(seen, BTreeSet::from([(0, 0), (1, 0), (1, 1), (2, 1)]));
    }

    #[test]
    fn stores_to_different_lines_arrive_in_any_order() {
        let mut pm = Pm::new(128);
        pm.store_u64(0, 1);
        pm.store_u64(64, 1);
        let seen: BTreeSet<(u64, u64)> = (0..4)
            .map(|n| pm.crash_state(n))
            .map(|pm| (pm.read_u64(0), pm.read_u64(64)))
            .collect();
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn eight_aligned_bytes_are_never_torn_and_longer_stores_are() {
        let mut pm = Pm::new(64);
        pm.store(0, &[0xff; 16]);
        assert_eq!(
            outcomes(&pm, 0, 16),
            BTreeSet::from([vec![0; 16], [[0xff; 8], [0; 8]].concat(), vec![0xff; 16]])
        );
        let mut pm = Pm::new(64);
        pm.store(4, &[0xff; 8]);
        assert_eq!(pm.nr_crash_states(), Some(3), "an unaligned store is two");
    }

    #[test]
    fn an_update_that_is_persisted_before_its_word_is_never_seen_torn() {
        let mut pm = Pm::new(256);
        let content = [0x5a; 128];
        pm.store(64, &content);
        pm.flush(64, 128);
        pm.fence();
        pm.store_u64(0, 1);
        for n in 0..pm.nr_crash_states().unwrap() {
            let after = pm.crash_state(n);
            assert!(after.read_u64(0) == 0 || after.read(64, 128) == content);
        }
    }

    #[test]
    fn a_forgotten_fence_is_found() {
        let mut pm = Pm::new(256);
        pm.store(64, &[0x5a; 128]);
        pm.flush(64, 128);
        pm.store_u64(0, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let torn = (0..200).any(|_| {
            let mut after = pm.clone();
            after.crash(&mut rng);
            after.read_u64(0) == 1 && after.read(64, 128) != [0x5a; 128]
        });
        assert!(torn);
    }

    #[test]
    fn a_crash_is_the_same_for_the_same_seed() {
        let mut pm = Pm::new(1 << 16);
        for line in 0..512 {
            pm.store(line * 128 + 4, &[line as u8 | 1; 60]);
        }
        let crash = |seed| {
            let mut pm = pm.clone();
            pm.crash_keeping(Keep::Any, &mut ChaCha8Rng::seed_from_u64(seed));
            pm.image().to_vec()
        };
        assert_eq!(crash(3), crash(3));
        assert_ne!(crash(3), crash(4));
    }

    #[test]
    fn after_a_crash_everything_that_is_seen_is_durable() {
        let mut pm = Pm::new(4096);
        pm.store(10, &[1; 1000]);
        pm.flush(500, 100);
        pm.crash(&mut ChaCha8Rng::seed_from_u64(5));
        assert_eq!(pm.nr_crash_states(), Some(1));
        assert_eq!(pm.read(0, 4096), pm.image());
        pm.fence();
        assert_eq!(pm.read(0, 4096), pm.image());
    }
}
