// SPDX-License-Identifier: GPL-2.0

//! Memory for the tests: plain, ending after so many stores (its writer is killed), or handed from thread
//! to thread, one operation at a time, in an order that a seed decides.

use kernel::error::{code::*, Result};
use rdma_lite_core::core::guests::Memory;
use std::{
    cell::Cell,
    sync::{Arc, Condvar, Mutex},
};

/// Bytes, shared by all clones.
#[derive(Clone)]
pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

impl Shared {
    pub fn new(size: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; size])))
    }

    /// Does something with `len` bytes at `at`.
    pub fn with<T>(&self, at: usize, len: usize, f: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        let mut bytes = self.0.lock().unwrap();
        let end = at.checked_add(len).ok_or(ERANGE)?;
        bytes.get_mut(at..end).map(f).ok_or(ERANGE)
    }

    fn word<T>(&self, at: usize, f: impl FnOnce(&mut [u8]) -> T) -> Result<T> {
        assert_eq!(at % 8, 0, "a word that is not aligned");
        self.with(at, 8, f)
    }
}

impl Memory for Shared {
    fn size(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn load(&self, at: usize) -> Result<u64> {
        self.word(at, |word| u64::from_le_bytes(word.try_into().unwrap()))
    }

    fn store(&self, at: usize, value: u64) -> Result {
        self.word(at, |word| word.copy_from_slice(&value.to_le_bytes()))
    }

    fn compare_exchange(&self, at: usize, old: u64, new: u64) -> Result<Result<(), u64>> {
        self.word(at, |word| {
            let there = u64::from_le_bytes((&*word).try_into().unwrap());
            if there != old {
                return Err(there);
            }
            word.copy_from_slice(&new.to_le_bytes());
            Ok(())
        })
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Result {
        self.with(at, into.len(), |bytes| into.copy_from_slice(bytes))
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result {
        self.with(at, bytes.len(), |there| there.copy_from_slice(bytes))
    }
}

/// What a guest sees of memory that does so many stores, of 8 bytes each, and is killed then: `EIO`.
pub struct Mortal {
    pub memory: Shared,
    pub stores: Cell<usize>,
}

impl Mortal {
    pub fn new(memory: &Shared, stores: usize) -> Self {
        Self {
            memory: memory.clone(),
            stores: Cell::new(stores),
        }
    }

    fn live(&self) -> Result {
        let left = self.stores.get().checked_sub(1).ok_or(EIO)?;
        self.stores.set(left);
        Ok(())
    }
}

impl Memory for Mortal {
    fn size(&self) -> usize {
        self.memory.size()
    }

    fn load(&self, at: usize) -> Result<u64> {
        self.memory.load(at)
    }

    fn store(&self, at: usize, value: u64) -> Result {
        self.live()?;
        self.memory.store(at, value)
    }

    fn compare_exchange(&self, at: usize, old: u64, new: u64) -> Result<Result<(), u64>> {
        self.live()?;
        self.memory.compare_exchange(at, old, new)
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Result {
        self.memory.read(at, into)
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result {
        for (nr, piece) in bytes.chunks(8).enumerate() {
            self.live()?;
            self.memory.write(at + nr * 8, piece)?;
        }
        Ok(())
    }
}

/// Whose turn it is.
pub struct Turns {
    state: Mutex<(u64, Vec<bool>, usize)>,
    changed: Condvar,
}

impl Turns {
    /// For `count` threads, in an order that the seed decides.
    pub fn new(seed: u64, count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((seed | 1, vec![true; count], 0)),
            changed: Condvar::new(),
        })
    }

    fn pass(state: &mut (u64, Vec<bool>, usize)) {
        let (random, alive, turn) = state;
        if !alive.contains(&true) {
            return;
        }
        loop {
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            *turn = (*random >> 33) as usize % alive.len();
            if alive[*turn] {
                return;
            }
        }
    }

    fn wait(&self, me: usize) {
        let state = self.state.lock().unwrap();
        let mut state = self.changed.wait_while(state, |s| s.2 != me).unwrap();
        Self::pass(&mut state);
        self.changed.notify_all();
    }

    /// This thread has ended.
    pub fn end(&self, me: usize) {
        let mut state = self.state.lock().unwrap();
        state.1[me] = false;
        if state.2 == me {
            Self::pass(&mut state);
        }
        self.changed.notify_all();
    }
}

/// Memory of which each operation waits for the turn of its thread. Copies are of 8 bytes at a time.
pub struct InTurns {
    pub memory: Shared,
    pub turns: Arc<Turns>,
    pub me: usize,
}

impl Drop for InTurns {
    fn drop(&mut self) {
        self.turns.end(self.me);
    }
}

impl Memory for InTurns {
    fn size(&self) -> usize {
        self.memory.size()
    }

    fn load(&self, at: usize) -> Result<u64> {
        self.turns.wait(self.me);
        self.memory.load(at)
    }

    fn store(&self, at: usize, value: u64) -> Result {
        self.turns.wait(self.me);
        self.memory.store(at, value)
    }

    fn compare_exchange(&self, at: usize, old: u64, new: u64) -> Result<Result<(), u64>> {
        self.turns.wait(self.me);
        self.memory.compare_exchange(at, old, new)
    }

    fn read(&self, at: usize, into: &mut [u8]) -> Result {
        for (nr, piece) in into.chunks_mut(8).enumerate() {
            self.turns.wait(self.me);
            self.memory.read(at + nr * 8, piece)?;
        }
        Ok(())
    }

    fn write(&self, at: usize, bytes: &[u8]) -> Result {
        for (nr, piece) in bytes.chunks(8).enumerate() {
            self.turns.wait(self.me);
            self.memory.write(at + nr * 8, piece)?;
        }
        Ok(())
    }
}

/// Runs both on threads of their own, whose operations on the memory fall together as the seed says.
pub fn together<A: Send, B: Send>(
    memory: &Shared,
    seed: u64,
    one: impl FnOnce(InTurns) -> A + Send,
    other: impl FnOnce(InTurns) -> B + Send,
) -> (A, B) {
    let turns = Turns::new(seed, 2);
    let [first, second] = [0, 1].map(|me| InTurns {
        memory: memory.clone(),
        turns: turns.clone(),
        me,
    });
    std::thread::scope(|threads| {
        let one = threads.spawn(move || one(first));
        let other = threads.spawn(move || other(second));
        (one.join().unwrap(), other.join().unwrap())
    })
}
