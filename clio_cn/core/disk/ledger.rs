// SPDX-License-Identifier: GPL-2.0

//! The records: what all copies are told before it may be relied on.

use super::{
    bits::Bits,
    record::{record_at, RECORD_LEN},
    Action, Disk, Phase, Purpose, What,
};
use kernel::prelude::*;

/// A record that is being written.
#[derive(Debug)]
struct Writing {
    seq: u64,
    /// What was to be told of the copies.
    version: u64,
    /// It is the last one of the disk's use.
    closing: bool,
    /// Copies that are still to be told; that are being told.
    todo: u32,
    out: u32,
    /// Copies that were filled when it was begun.
    joining: u32,
    /// A copy that counts could not be told.
    error: Option<Error>,
}

/// What the copies were told, and what they are to be told.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Grows with each change of the copies that count; and what of that they were told.
    version: u64,
    told: u64,
    /// Regions that are to be dirty; that all copies were told are; that they are being told.
    dirty: Bits,
    persisted: Bits,
    writing_bits: Bits,
    /// Written since the last [`Disk::settle`].
    touched: Bits,
    /// `dirty` is not what the copies were told.
    changed: bool,
    writing: Option<Writing>,
    /// After a failure: not before this.
    rest_until: u64,
    settled: u64,
    /// How the last record of all went.
    closed: Option<Result>,
    /// Grows with each failure.
    failures: u64,
}

impl Ledger {
    pub(super) fn new(dirty: &Bits) -> Result<Self> {
        let mut this = Self {
            // Nothing may be relied on before the first record.
            version: 1,
            told: 0,
            dirty: Bits::new(dirty.len())?,
            persisted: Bits::new(dirty.len())?,
            writing_bits: Bits::new(dirty.len())?,
            touched: Bits::new(dirty.len())?,
            changed: false,
            writing: None,
            rest_until: 0,
            settled: 0,
            closed: None,
            failures: 0,
        };
        this.dirty.copy_from(dirty);
        Ok(this)
    }

    /// The copies that count are not the same any more.
    pub(super) fn change(&mut self) {
        self.version += 1;
    }

    /// Whether all copies know which of them count.
    pub(super) fn is_told(&self) -> bool {
        self.told == self.version
    }

    /// A copy was left out.
    pub(super) fn forget(&mut self, slot: usize) {
        if let Some(writing) = &mut self.writing {
            writing.todo &= !(1 << slot);
            writing.out &= !(1 << slot);
        }
    }

    /// A region is going to be written; true when all copies know.
    pub(super) fn mark(&mut self, region: usize) -> bool {
        self.touched.insert(region);
        if !self.dirty.has(region) {
            self.dirty.insert(region);
            self.changed = true;
        }
        let stays = self.writing.is_none() || self.writing_bits.has(region);
        self.persisted.has(region) && stays
    }

    pub(super) fn dirty(&self) -> &Bits {
        &self.dirty
    }

    pub(super) fn closed(&self) -> Option<Result> {
        self.closed
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }
}

impl<T: ::core::marker::Copy> Disk<T> {
    /// The record for the copy `slot`, as it is to be written now. `EINVAL` unless `to` is
    /// [`RECORD_LEN`] bytes.
    pub fn encode(&self, slot: usize, to: &mut [u8]) -> Result {
        self.head.encode(slot as u8, &self.ledger.writing_bits, to)
    }

    /// The next copy to be told.
    pub(super) fn next_record(&mut self, now: u64) -> Option<Action<T>> {
        self.finish_record(now);
        if self.ledger.writing.is_none() {
            self.begin_record(now)?;
        }
        let writing = self.ledger.writing.as_ref()?;
        let (seq, slot) = (writing.seq, writing.todo.trailing_zeros() as usize);
        if writing.todo == 0 {
            return None;
        }
        let at = record_at(self.copies.next_place(slot)?);
        let action = self.start(
            slot,
            Purpose::Record(seq),
            What::Record,
            at,
            RECORD_LEN as u64,
        )?;
        if let Some(writing) = &mut self.ledger.writing {
            writing.todo &= !(1 << slot);
            writing.out |= 1 << slot;
        }
        Some(action)
    }

    fn begin_record(&mut self, now: u64) -> Option<()> {
        let quiet = self.requests.is_empty() && !self.copier.is_busy();
        let closing = self.phase == Phase::Stopping && quiet && self.ledger.closed.is_none();
        let ledger = &mut self.ledger;
        let due = closing || ledger.changed || !ledger.is_told();
        if !due || self.phase == Phase::Stopped || now < ledger.rest_until {
            return None;
        }
        if closing {
            // All requests are over, so only what was never made equal is dirty.
            ledger.dirty.copy_from(&self.unsynced);
        }
        self.head.seq += 1;
        self.head.clean = closing;
        self.head.members = self.copies.members();
        ledger.changed = false;
        ledger.writing_bits.copy_from(&ledger.dirty);
        ledger.writing = Some(Writing {
            seq: self.head.seq,
            version: ledger.version,
            closing,
            todo: self.copies.all(),
            out: 0,
            joining: self.copies.joining(),
            error: None,
        });
        Some(())
    }

    /// A copy was told, or could not be.
    pub(super) fn record_done(&mut self, seq: u64, slot: usize, result: Result) {
        let Some(writing) = self
            .ledger
            .writing
            .as_mut()
            .filter(|writing| writing.seq == seq)
        else {
            return;
        };
        writing.out &= !(1 << slot);
        if result.is_ok() {
            self.copies.recorded(slot);
        }
        if result == Err(EAGAIN) {
            writing.todo |= 1 << slot;
        } else if let Err(error) = result {
            // It was the last, else it would have been left out.
            writing.error = Some(error);
        }
    }

    /// All were told.
    fn finish_record(&mut self, now: u64) {
        let ledger = &mut self.ledger;
        let Some(writing) = ledger
            .writing
            .take_if(|writing| writing.todo | writing.out == 0)
        else {
            return;
        };
        self.stirred = true;
        match writing.error {
            None => {
                ledger.persisted.copy_from(&ledger.writing_bits);
                ledger.told = writing.version;
                self.copies.join(writing.joining);
            }
            Some(_) => {
                // What the copies have now is the one or the other: only what both say holds.
                ledger.changed = true;
                ledger.failures += 1;
                ledger.rest_until = now.saturating_add(self.config.again);
                ledger.persisted.clear();
            }
        }
        if writing.closing {
            ledger.closed = Some(writing.error.map_or(Ok(()), Err));
        }
    }

    /// Regions that were not written for a while are not dirty any more.
    pub(super) fn settle(&mut self, now: u64) {
        let ledger = &mut self.ledger;
        if now < ledger.settled.saturating_add(self.config.settle) {
            return;
        }
        ledger.settled = now;
        let shift = self.head.region_shift;
        for request in self.requests.iter() {
            for region in request.regions(shift) {
                ledger.touched.insert(region);
            }
        }
        ledger.touched.add_all(&self.unsynced);
        for region in 0..ledger.dirty.len() {
            if ledger.dirty.has(region) && !ledger.touched.has(region) {
                ledger.dirty.remove(region);
                ledger.changed = true;
            }
        }
        ledger.touched.clear();
    }
}
