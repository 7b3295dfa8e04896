// SPDX-License-Identifier: GPL-2.0

//! Checking and repairing.
//!
//! What a crash leaves behind is no error: the next mount clears it up, and the
//! check only says so. An error is what no order of stores explains.
//!
//! A repair is *safe* when nothing that could be good is lost by it: a damaged
//! copy is written anew from its intact twin, or a flipped bit of a state word is
//! set right. The other repairs drop what cannot be read.

mod records;
mod report;
mod slots;
mod superblocks;
mod transactions;

pub use report::{Finding, Part, Report, Severity, Summary};

use crate::{
    device::Device,
    format::{superblock::Chosen, word::StateWord, FormatError, LINE_SIZE},
};
use std::io;

/// Times that all is looked at anew: repairs can bring errors to light.
const MAX_PASSES: usize = 8;
/// Findings that are told one by one.
const MAX_FINDINGS: usize = 1000;

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// The device cannot be read or written.
    Io(io::Error),
    /// Not a device that this program can check.
    Format(FormatError),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

/// Which repairs to make: asked for each error that has a repair.
pub type Policy<'a> = dyn FnMut(&Finding) -> bool + 'a;

/// Makes no repair.
pub fn nothing(_: &Finding) -> bool {
    false
}

/// Makes the safe repairs.
pub fn safe(finding: &Finding) -> bool {
    finding.safe
}

/// Makes all repairs.
pub fn everything(_: &Finding) -> bool {
    true
}

/// Checks `device`; writes to it only what `policy` agrees to.
pub fn check(device: &mut dyn Device, policy: &mut Policy<'_>) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut repaired = false;
    for _ in 0..MAX_PASSES {
        let mut pass = Pass {
            device,
            policy,
            report: &mut report,
            repairs: 0,
            read_only: false,
        };
        pass.run()?;
        if pass.repairs == 0 {
            break;
        }
        repaired = true;
    }
    if repaired {
        device.sync()?;
    }
    Ok(report)
}

/// One look at everything.
struct Pass<'a, 'p> {
    device: &'a mut dyn Device,
    policy: &'a mut Policy<'p>,
    report: &'a mut Report,
    repairs: usize,
    /// The format has features that forbid to write.
    read_only: bool,
}

impl Pass<'_, '_> {
    fn run(&mut self) -> Result<(), Failure> {
        self.report.begin_pass();
        let Some(mut chosen) = self.superblocks()? else {
            return Ok(());
        };
        let superblock = &chosen.superblock;
        let summary = &mut self.report.summary;
        summary.clean_unmount = superblock.clean;
        summary.label = superblock.label().to_owned();
        summary.cluster = superblock.cluster.to_string();
        summary.device = superblock.device.to_string();
        summary.node = superblock.node;
        summary.mounts = superblock.incarnation;
        summary.size = superblock.geometry.size();
        summary.pages = superblock.geometry.nr_pages();
        let datasets = self.records(&chosen)?;
        let mut highest = self.slots(&chosen, &datasets)?;
        highest = highest.max(self.redo_log(&chosen)?);
        highest = highest.max(self.commit_records(&chosen)?);
        self.cid_reservation(&mut chosen, highest)?;
        if !chosen.superblock.clean {
            let summary = &self.report.summary;
            let to_do = summary.log_prepared + summary.log_committed + summary.commits_open;
            self.note(
                Part::Superblock,
                None,
                format!(
                    "not unmounted: mount recovers ({to_do} records of commits to replay or \
                     to ask about)"
                ),
            );
        }
        Ok(())
    }

    /// Something worth to know that is no error.
    fn note(&mut self, part: Part, index: Option<u64>, message: String) {
        self.report.add(Finding {
            severity: Severity::Note,
            part,
            index,
            message,
            repair: None,
            safe: false,
            repaired: false,
        });
    }

    /// An error that nothing here can repair.
    fn error(&mut self, part: Part, index: Option<u64>, message: String) {
        self.report.add(Finding {
            severity: Severity::Error,
            part,
            index,
            message,
            repair: None,
            safe: false,
            repaired: false,
        });
    }

    /// An error with a repair: whether to make it. Who gets `true` makes it.
    fn repairable(
        &mut self,
        part: Part,
        index: Option<u64>,
        message: String,
        repair: &'static str,
        safe: bool,
    ) -> bool {
        let mut finding = Finding {
            severity: Severity::Error,
            part,
            index,
            message,
            repair: Some(repair),
            safe,
            repaired: false,
        };
        if self.report.was_refused(&finding) {
            return false;
        }
        finding.repaired = !self.read_only && (self.policy)(&finding);
        let repaired = finding.repaired;
        self.repairs += usize::from(repaired);
        self.report.add(finding);
        repaired
    }

    fn line(&self, offset: u64) -> io::Result<[u8; LINE_SIZE]> {
        let mut line = [0; LINE_SIZE];
        self.device.read(offset, &mut line)?;
        Ok(line)
    }

    fn set_word(&mut self, offset: u64, word: StateWord) -> io::Result<()> {
        self.device.write(offset, &word.0.to_le_bytes())
    }

    /// Says what a damaged state word was, if only few of its bits are wrong.
    fn nearest(line: &[u8; LINE_SIZE], words: &[StateWord]) -> Option<StateWord> {
        let mut found = [0; 8];
        found.copy_from_slice(&line[..8]);
        let found = StateWord(u64::from_le_bytes(found));
        // Words of different states are at least eight bits apart.
        words
            .iter()
            .copied()
            .find(|word| (1..=3).contains(&word.distance(found)))
    }

    fn cid_reservation(&mut self, chosen: &mut Chosen, highest: u64) -> Result<(), Failure> {
        let limit = chosen.superblock.cid_limit;
        if highest < limit {
            return Ok(());
        }
        let message = format!(
            "commit counters below {limit} are reserved, yet {highest} is in use: \
             ids of commits could repeat"
        );
        if self.repairable(
            Part::Superblock,
            None,
            message,
            "reserve beyond the highest counter",
            true,
        ) {
            chosen.superblock.cid_limit = (highest + 1).min(crate::format::Cid::MAX_COUNTER);
            self.update_superblock(chosen)?;
        }
        Ok(())
    }
}
