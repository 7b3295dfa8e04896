// SPDX-License-Identifier: GPL-2.0

//! Who uses the table, from any rank.

use super::{
    bucket::{Bucket, WORDS},
    place,
    table::MEMORY,
    wire::{Answer, Request, ANSWER},
};
use crate::transport::{Transport, Window};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// How often a bucket may be seen half changed, one time after the other.
const PATIENCE: u32 = 100_000;

/// May be used by many threads.
pub struct Client<'a> {
    transport: &'a dyn Transport,
    /// Buckets by rank.
    windows: Vec<Box<dyn Window>>,
    buckets: usize,
    torn: AtomicU64,
}

impl<'a> Client<'a> {
    /// `buckets`: as all ranks have them. Their tables must be there.
    pub fn open(transport: &'a dyn Transport, buckets: usize) -> io::Result<Self> {
        let windows = (0..transport.size()).map(|rank| transport.window(rank, MEMORY));
        Ok(Self {
            transport,
            windows: windows.collect::<io::Result<_>>()?,
            buckets,
            torn: AtomicU64::new(0),
        })
    }

    /// The value of a key.
    pub fn get(&self, key: u64) -> io::Result<Option<Vec<u8>>> {
        let (rank, first) = place(key, self.windows.len(), self.buckets);
        let mut next = Some(first);
        while let Some(number) = next {
            let bucket = self.bucket(rank, number)?;
            if let Some(at) = bucket.find(key) {
                return Ok(Some(bucket.value(at)));
            }
            next = bucket.next();
        }
        Ok(None)
    }

    fn bucket(&self, rank: usize, number: usize) -> io::Result<Bucket> {
        let mut bucket = Bucket::empty();
        for _ in 0..PATIENCE {
            self.windows[rank].read(number * WORDS, &mut bucket.0)?;
            if bucket.is_whole(number) {
                return Ok(bucket);
            }
            self.torn.fetch_add(1, Relaxed);
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("bucket {number} of rank {rank} is never whole"),
        ))
    }

    /// Sets the value of a key, of at most [`super::VALUE`] bytes; whether it had one.
    pub fn put(&self, key: u64, value: &[u8]) -> io::Result<bool> {
        self.change(key, Request::Put { key, value })
    }

    /// Removes a key; whether it was there.
    pub fn delete(&self, key: u64) -> io::Result<bool> {
        self.change(key, Request::Delete { key })
    }

    fn change(&self, key: u64, request: Request<'_>) -> io::Result<bool> {
        let (rank, _) = place(key, self.windows.len(), self.buckets);
        match self.ask(rank, request)? {
            Answer::WasThere => Ok(true),
            Answer::WasAbsent => Ok(false),
            Answer::Full => Err(io::ErrorKind::StorageFull.into()),
            Answer::TooLarge => Err(io::ErrorKind::InvalidInput.into()),
            Answer::Count(_) | Answer::Strange => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// How many keys a rank has.
    pub fn count(&self, rank: usize) -> io::Result<u64> {
        match self.ask(rank, Request::Count)? {
            Answer::Count(count) => Ok(count),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn ask(&self, rank: usize, request: Request<'_>) -> io::Result<Answer> {
        let mut answer = [0; ANSWER];
        let len = self
            .transport
            .call(rank, &request.to_bytes(), &mut answer)?;
        Answer::from_bytes(&answer[..len])
    }

    /// How many buckets were seen half changed, and read again.
    pub fn torn(&self) -> u64 {
        self.torn.load(Relaxed)
    }
}
