// SPDX-License-Identifier: GPL-2.0

//! Virtual time, and many seeds.
//!
//! A world is a pure function of its seed: all its randomness comes from one
//! [`Rng`], all its time from one [`Schedule`]. [`for_each_seed`] runs a world
//! under many seeds; one that fails is printed with the command that replays
//! it alone.
//!
//! - `POTLUCK_SEEDS=n` runs n times as many seeds (`make test-all` does);
//! - `POTLUCK_SEED=s` runs this one only;
//! - `POTLUCK_TRACE=1` makes worlds print what happens (see [`tracing`]).

use rand::{Rng as _, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt::Write as _,
    ops::Range,
    panic::{catch_unwind, AssertUnwindSafe},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    sync::OnceLock,
    thread,
};

/// Nanoseconds of virtual time.
pub type Time = u64;

/// A microsecond.
pub const US: Time = 1_000;
/// A millisecond.
pub const MS: Time = 1_000_000;
/// A second.
pub const SEC: Time = 1_000_000_000;

/// The only source of randomness of a world.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// The same numbers for the same seed, on any machine.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any number.
    pub fn u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number of the range, which must not be empty.
    pub fn range(&mut self, range: Range<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// An index below `len`, which must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len)
    }

    /// True once in `n` times; never when `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.range(0..n) == 0
    }

    /// One of the items, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// Random bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

impl RngCore for Rng {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

struct Due<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<E> Eq for Due<E> {}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Due<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Events in the order of their times; those of the same time in the order in
/// which they were put in.
pub struct Schedule<E> {
    now: Time,
    order: u64,
    due: BinaryHeap<Reverse<Due<E>>>,
}

impl<E> Default for Schedule<E> {
    fn default() -> Self {
        Self {
            now: 0,
            order: 0,
            due: BinaryHeap::new(),
        }
    }
}

impl<E> Schedule<E> {
    /// Nothing to come, at time 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Puts an event in; one of the past happens now.
    pub fn at(&mut self, at: Time, event: E) {
        self.order += 1;
        self.due.push(Reverse(Due {
            at: at.max(self.now),
            order: self.order,
            event,
        }));
    }

    /// Puts an event in that happens after a while.
    pub fn after(&mut self, delay: Time, event: E) {
        self.at(self.now.saturating_add(delay), event);
    }

    /// Moves to the next event that is not later than `end`.
    pub fn next_until(&mut self, end: Time) -> Option<E> {
        if self.due.peek()?.0.at > end {
            return None;
        }
        self.next()
    }

    /// Lets time go by in which nothing happens: up to `time`, or the next event.
    pub fn idle_until(&mut self, time: Time) {
        let next = self.due.peek().map_or(time, |due| due.0.at.min(time));
        self.now = self.now.max(next);
    }

    /// Events to come.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing is to come.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

impl<E> Iterator for Schedule<E> {
    type Item = E;

    /// Moves to the next event.
    fn next(&mut self) -> Option<E> {
        let Reverse(due) = self.due.pop()?;
        self.now = due.at;
        Some(due.event)
    }
}

/// Whether worlds should print what happens.
pub fn tracing() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| env("POTLUCK_TRACE").is_some_and(|value| value != 0))
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs `world` under `count` seeds (times what the environment says) on all
/// processors. Panics with the first seed that fails.
///
/// `test` is the test's path as `cargo test` takes it.
pub fn for_each_seed(test: &str, count: u64, world: impl Fn(u64) + Sync) {
    if let Some(seed) = env("POTLUCK_SEED") {
        return world(seed);
    }
    let count = count * env("POTLUCK_SEEDS").unwrap_or(1);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let report = std::sync::Mutex::new(String::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= count {
                        break;
                    }
                    if catch_unwind(AssertUnwindSafe(|| world(seed))).is_err() {
                        failed.store(true, Ordering::Relaxed);
                        let _ = write!(
                            report.lock().unwrap(),
                            "\nseed {seed} failed; replay it alone with\n  \
                             cd tools && POTLUCK_SEED={seed} POTLUCK_TRACE=1 \
                             cargo test -p sim {test} -- --exact --nocapture\n"
                        );
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    assert!(report.is_empty(), "{report}");
    println!(
        "{test}: {} seeds passed",
        next.load(Ordering::Relaxed).min(count)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times() {
        let mut schedule = Schedule::new();
        schedule.at(30, 'c');
        schedule.at(10, 'a');
        schedule.at(10, 'b');
        assert_eq!(schedule.next_until(20), Some('a'));
        assert_eq!(schedule.next_until(20), Some('b'));
        assert_eq!(schedule.next_until(20), None);
        assert_eq!((schedule.next(), schedule.now()), (Some('c'), 30));
    }

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            [rng.u64(), rng.u64(), rng.range(0..1000)]
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
