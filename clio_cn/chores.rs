// SPDX-License-Identifier: GPL-2.0

//! What the engine asks of the homes of address spaces, by a work item that may wait for answers.

use crate::{
    control::{self, MAX_TABLE},
    core::{
        control::{home_of, Grow, Region, Table},
        engine::Engine,
        table::Key,
    },
    job::Half,
    station::{now, Station},
};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};

const MS: u64 = 1_000_000;

/// What a home is to be asked.
pub(crate) struct Question {
    space: Key,
    ras: u64,
    /// Regions for this allocation; else the table.
    grow: Option<Allocation>,
}

#[derive(Clone, Copy)]
struct Allocation {
    op: Key,
    len: u64,
    not: u32,
    until: u64,
}

impl Question {
    pub(crate) fn table(space: Key, ras: u64) -> Self {
        Self {
            space,
            ras,
            grow: None,
        }
    }

    pub(crate) fn grow(space: Key, ras: u64, op: Key, len: u64, not: u32, until: u64) -> Self {
        Self {
            space,
            ras,
            grow: Some(Allocation {
                op,
                len,
                not,
                until,
            }),
        }
    }

    /// The home did not answer.
    pub(crate) fn fail(&self, engine: &mut Engine<Half>, error: Error) {
        match self.grow {
            Some(allocation) => engine.grown(allocation.op, Err(error)),
            None => engine.no_regions(now(), self.space, error),
        }
    }

    /// Asks, and tells the engine.
    fn ask(&self, station: &Arc<Station>) {
        let told = match self.grow {
            Some(allocation) => self.ask_to_grow(station, allocation),
            None => table(station, self.ras, 0).and_then(|regions| {
                station.with(|inner| inner.engine.learn(now(), self.space, &regions, true))
            }),
        };
        if let Err(error) = told {
            station.with(|inner| self.fail(&mut inner.engine, error));
        }
    }

    fn ask_to_grow(&self, station: &Arc<Station>, allocation: Allocation) -> Result {
        let left = allocation.until.saturating_sub(now()) / MS;
        let request = Grow {
            ras: self.ras,
            bytes: allocation.len,
            not: allocation.not,
        };
        let left = left.clamp(1, u64::from(u32::MAX)) as u32;
        let mut reply = control::ask(&station.node, home_of(self.ras), &request, left)?;
        let first = reply.regions.first().ok_or(EPROTO)?.index;
        if reply.more {
            reply.regions = table(station, self.ras, 0)?;
        }
        station.with(|inner| {
            inner
                .engine
                .learn(now(), self.space, &reply.regions, false)?;
            inner.engine.grown(allocation.op, Ok(first));
            Ok(())
        })
    }
}

/// All rows of the table of a RAS.
pub(crate) fn table(station: &Station, ras: u64, timeout_ms: u32) -> Result<KVec<Region>> {
    let mut regions = KVec::new();
    let mut version = None;
    let mut from = 0;
    // Each part may find the table changed, and the beginning out of date.
    for _ in 0..MAX_TABLE {
        let request = Table { ras, from };
        let reply = control::ask(&station.node, home_of(ras), &request, timeout_ms)?;
        if version.is_some_and(|version| version != reply.version) {
            regions.clear();
            version = None;
            from = 0;
            continue;
        }
        version = Some(reply.version);
        regions.extend_from_slice(&reply.regions, GFP_KERNEL)?;
        match reply.regions.last() {
            Some(last) if reply.more => from = last.index.saturating_add(1),
            _ => return Ok(regions),
        }
    }
    Err(EBUSY)
}

impl WorkItem<1> for Station {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let question = this.with(|inner| inner.questions.pop());
            match question {
                Some(question) => question.ask(&this),
                None => return,
            }
        }
    }
}
