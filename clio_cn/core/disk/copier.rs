// SPDX-License-Identifier: GPL-2.0

//! Copying in the background: regions in which copies may differ, and new copies.

use super::{data_at, Action, Disk, Phase, Purpose, What};
use kernel::prelude::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Writes that are under way in the range have to end first.
    Waiting,
    /// It is to be read; it is being read.
    Fetch,
    Fetching,
    /// It is being written, and is still to be written, by the sets of copies.
    Storing {
        todo: u32,
        out: u32,
    },
}

#[derive(Clone, Copy, Debug)]
struct Job {
    number: u64,
    /// The region that is made equal; none when new copies are filled.
    region: Option<usize>,
    offset: u64,
    len: u64,
    source: usize,
    targets: u32,
    step: Step,
}

/// What is copied at present.
#[derive(Debug, Default)]
pub(super) struct Copier {
    job: Option<Job>,
    /// Operations that use the buffer.
    users: u32,
    number: u64,
    /// A region that somebody waits for.
    wanted: Option<usize>,
    /// The region that is made equal, and how far it is.
    region: Option<(usize, u64)>,
    rest_until: u64,
}

impl Copier {
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Whether a request has to wait for what is being copied.
    pub(super) fn excludes(&self, writes: bool, offset: u64, len: u64) -> bool {
        self.job
            .is_some_and(|job| writes && job.offset < offset + len && offset < job.offset + job.len)
    }

    /// Somebody waits for a region to be made equal.
    pub(super) fn want(&mut self, region: usize) {
        self.wanted.get_or_insert(region);
    }

    /// A copy was left out.
    pub(super) fn forget(&mut self, slot: usize) {
        let Some(job) = &mut self.job else {
            return;
        };
        job.targets &= !(1 << slot);
        if let Step::Storing { todo, out } = &mut job.step {
            *todo &= !(1 << slot);
            *out &= !(1 << slot);
        } else if job.source == slot || job.targets == 0 {
            // Begun again, from another one.
            self.job = None;
        }
    }
}

impl<T: ::core::marker::Copy> Disk<T> {
    /// What is to be done for copying.
    pub(super) fn next_copy(&mut self, now: u64) -> Option<Action<T>> {
        loop {
            let Some(job) = self.copier.job else {
                self.choose_job(now)?;
                continue;
            };
            match job.step {
                Step::Waiting => {
                    let busy =
                        |request: &super::Request<T>| request.is_writing(job.offset, job.len);
                    if self.requests.iter().any(busy) {
                        return None;
                    }
                    self.set_step(Step::Fetch);
                }
                Step::Fetch => {
                    let purpose = Purpose::Copy(job.number);
                    let at = data_at(job.offset);
                    let action = self.start(job.source, purpose, What::Fetch, at, job.len)?;
                    self.copier.users += 1;
                    self.set_step(Step::Fetching);
                    return Some(action);
                }
                Step::Fetching => return None,
                Step::Storing { todo: 0, out: 0 } => self.finish_job(&job),
                Step::Storing { todo: 0, .. } => return None,
                Step::Storing { todo, out } => {
                    let slot = todo.trailing_zeros() as usize;
                    let purpose = Purpose::Copy(job.number);
                    let at = data_at(job.offset);
                    let action = self.start(slot, purpose, What::Store, at, job.len)?;
                    self.copier.users += 1;
                    self.set_step(Step::Storing {
                        todo: todo & !(1 << slot),
                        out: out | (1 << slot),
                    });
                    return Some(action);
                }
            }
        }
    }

    fn set_step(&mut self, step: Step) {
        if let Some(job) = &mut self.copier.job {
            job.step = step;
        }
    }

    /// Begins to copy the next chunk, if there is something to copy.
    fn choose_job(&mut self, now: u64) -> Option<()> {
        // Requests may wait for a region; else what is being switched off does not begin more.
        let wanted = self.phase == Phase::On || !self.requests.is_empty();
        // Not before the records say that a new copy is one, and that this use is not clean.
        let may = wanted && self.copier.users == 0 && self.ledger.is_told();
        if !may || now < self.copier.rest_until {
            return None;
        }
        let (region, offset, source, targets) = match self.next_region() {
            Some((region, offset)) => {
                // Always the same one: a region is equal to what one copy has.
                let source = self.copies.in_sync().trailing_zeros() as usize;
                let targets = self.copies.in_sync() & !(1 << source);
                // New copies get these bytes again when they are filled.
                (Some(region), offset, source, targets)
            }
            None => {
                let (_, offset) = self.copies.least_filled()?;
                let targets = self.copies.filled_to(offset);
                (None, offset, self.copies.reader(0)?, targets)
            }
        };
        let chunk = u64::from(self.config.chunk);
        let len = (self.head.size.checked_sub(offset)?).min(chunk - offset % chunk);
        self.copier.number += 1;
        self.copier.job = Some(Job {
            number: self.copier.number,
            region,
            offset,
            len,
            source,
            targets,
            step: Step::Waiting,
        });
        Some(())
    }

    /// The next region in which copies may differ, and where to go on in it.
    fn next_region(&mut self) -> Option<(usize, u64)> {
        let unsynced = &self.unsynced;
        if let Some(current) = self
            .copier
            .region
            .filter(|(region, _)| unsynced.has(*region))
        {
            return Some(current);
        }
        let wanted = self
            .copier
            .wanted
            .take()
            .filter(|region| unsynced.has(*region));
        let region = wanted.or_else(|| unsynced.first())?;
        let at = (region as u64) << self.head.region_shift;
        self.copier.region = Some((region, at));
        Some((region, at))
    }

    /// A copy was read or written for copying, or could not be; none when it was left out.
    pub(super) fn copy_done(&mut self, now: u64, number: u64, slot: usize, result: Option<Result>) {
        self.copier.users -= 1;
        let Some(result) = result else {
            return;
        };
        let Some(job) = self.copier.job.as_mut().filter(|job| job.number == number) else {
            return;
        };
        match (&mut job.step, result) {
            (Step::Fetching, Ok(())) => {
                job.step = Step::Storing {
                    todo: job.targets,
                    out: 0,
                }
            }
            (Step::Storing { out, .. }, Ok(())) => *out &= !(1 << slot),
            (Step::Fetching, Err(EAGAIN)) => job.step = Step::Fetch,
            (Step::Storing { todo, out }, Err(EAGAIN)) => {
                *out &= !(1 << slot);
                *todo |= 1 << slot;
            }
            // It was the last copy in sync, else it would have been left out.
            (_, Err(_)) => {
                self.copier.job = None;
                self.copier.rest_until = now.saturating_add(self.config.again);
            }
            _ => {}
        }
    }

    fn finish_job(&mut self, job: &Job) {
        self.copier.job = None;
        self.stirred = true;
        let end = job.offset + job.len;
        match job.region {
            Some(region) => {
                let region_end =
                    ((region as u64 + 1) << self.head.region_shift).min(self.head.size);
                if end >= region_end {
                    self.unsynced.remove(region);
                    self.copier.region = None;
                } else {
                    self.copier.region = Some((region, end));
                }
            }
            None => {
                if self
                    .copies
                    .fill(job.targets, job.offset..end, self.head.size)
                {
                    self.ledger.change();
                }
            }
        }
    }
}
