// SPDX-License-Identifier: GPL-2.0

//! The buckets of a rank, and how it alone changes them.

use super::{
    bucket::{Bucket, VALUE, WORDS},
    place,
    wire::{Answer, Request},
};
use crate::transport::{Shared, Transport};
use std::{
    io,
    sync::{
        atomic::{fence, Ordering},
        Mutex, PoisonError,
    },
};

/// The name of the memory that buckets are in.
pub(super) const MEMORY: &str = "buckets";

/// Buckets of ours. Others read them while we change them.
pub struct Table {
    memory: Box<dyn Shared>,
    ranks: usize,
    /// Buckets that keys hash to; as many are behind them for when these are full.
    buckets: usize,
    /// The next bucket that nothing points to; who has the lock may change buckets.
    spare: Mutex<usize>,
}

impl Table {
    /// Empty buckets: `buckets` that keys hash to, and as many behind them.
    pub fn share(transport: &dyn Transport, buckets: usize) -> io::Result<Self> {
        let table = Self {
            memory: transport.share(MEMORY, 2 * buckets * WORDS)?,
            ranks: transport.size(),
            buckets,
            spare: Mutex::new(buckets),
        };
        for number in 0..2 * buckets {
            table.store(number, &mut Bucket::empty());
        }
        Ok(table)
    }

    fn load(&self, number: usize) -> Bucket {
        let mut bucket = Bucket::empty();
        let words = &self.memory.words()[number * WORDS..][..WORDS];
        for (to, from) in bucket.0.iter_mut().zip(words) {
            *to = from.load(Ordering::Relaxed);
        }
        bucket
    }

    /// Readers see the bucket as it was, as it will be, or not whole.
    fn store(&self, number: usize, bucket: &mut Bucket) {
        bucket.seal(number);
        let words = &self.memory.words()[number * WORDS..][..WORDS];
        words[0].store(!bucket.0[0], Ordering::Relaxed);
        fence(Ordering::Release);
        for (to, from) in words.iter().zip(bucket.0).skip(1) {
            to.store(from, Ordering::Relaxed);
        }
        words[0].store(bucket.0[0], Ordering::Release);
    }

    /// Does what a request asks for.
    pub(super) fn answer(&self, request: &Request<'_>) -> Answer {
        // One change at a time; a panic leaves every bucket as whole as it was.
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        match *request {
            Request::Put { value, .. } if value.len() > VALUE => Answer::TooLarge,
            Request::Put { key, value } => self.put(key, value, &mut spare),
            Request::Delete { key } => self.delete(key),
            Request::Count => Answer::Count(self.keys() as u64),
        }
    }

    /// The buckets that a key may be in.
    fn chain(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let (_, first) = place(key, self.ranks, self.buckets);
        std::iter::successors(Some(first), |&number| self.load(number).next())
    }

    fn put(&self, key: u64, value: &[u8], spare: &mut usize) -> Answer {
        let mut vacant = None;
        let mut last = 0;
        for number in self.chain(key) {
            let mut bucket = self.load(number);
            if let Some(at) = bucket.find(key) {
                bucket.set(at, key, value);
                self.store(number, &mut bucket);
                return Answer::WasThere;
            }
            vacant = vacant.or_else(|| bucket.vacant().map(|at| (number, at)));
            last = number;
        }
        if let Some((number, at)) = vacant {
            let mut bucket = self.load(number);
            bucket.set(at, key, value);
            self.store(number, &mut bucket);
            return Answer::WasAbsent;
        }
        if *spare == 2 * self.buckets {
            return Answer::Full;
        }
        // It is whole before anything points to it.
        let mut behind = Bucket::empty();
        behind.set(0, key, value);
        self.store(*spare, &mut behind);
        let mut bucket = self.load(last);
        bucket.set_next(*spare);
        self.store(last, &mut bucket);
        *spare += 1;
        Answer::WasAbsent
    }

    fn delete(&self, key: u64) -> Answer {
        for number in self.chain(key) {
            let mut bucket = self.load(number);
            if let Some(at) = bucket.find(key) {
                bucket.clear(at);
                self.store(number, &mut bucket);
                return Answer::WasThere;
            }
        }
        Answer::WasAbsent
    }

    /// Keys that there are.
    fn keys(&self) -> usize {
        (0..2 * self.buckets)
            .map(|number| self.load(number).len())
            .sum()
    }
}
