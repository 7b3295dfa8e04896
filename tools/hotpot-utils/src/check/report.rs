// SPDX-License-Identifier: GPL-2.0

//! What a check has found.

use super::MAX_FINDINGS;
use serde::Serialize;
use std::{collections::HashSet, fmt};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Normal, worth to know.
    Note,
    /// Damage.
    Error,
}

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Superblocks; index: the copy.
    Superblock,
    /// Dataset records; index: the pair.
    DatasetRecord,
    /// Slots and data pages; index: the PM page.
    Page,
    /// Redo log; index: the first block of the record.
    RedoLog,
    /// Commit records; index: the first block of the record.
    CommitRecord,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Superblock => "superblock",
            Part::DatasetRecord => "dataset record",
            Part::Page => "page",
            Part::RedoLog => "redo log block",
            Part::CommitRecord => "commit record block",
        })
    }
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub part: Part,
    /// Which one.
    pub index: Option<u64>,
    /// What is wrong.
    pub message: String,
    /// What would repair it.
    pub repair: Option<&'static str>,
    /// Whether nothing can be lost by the repair.
    pub safe: bool,
    /// Whether it was repaired.
    pub repaired: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.part)?;
        match (self.part, self.index) {
            (Part::Superblock, Some(0)) => f.write_str(" A")?,
            (Part::Superblock, Some(_)) => f.write_str(" B")?,
            (_, Some(index)) => write!(f, " {index}")?,
            (_, None) => {}
        }
        write!(f, ": {}", self.message)
    }
}

/// Counts over the device.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Label of the device.
    pub label: String,
    /// Its cluster.
    pub cluster: String,
    /// Its uuid.
    pub device: String,
    /// Its node; 0 when none was set yet.
    pub node: u16,
    /// Mounts so far.
    pub mounts: u64,
    /// Bytes.
    pub size: u64,
    /// Whether it was unmounted.
    pub clean_unmount: bool,
    /// Datasets.
    pub datasets: u64,
    /// Records of removed datasets.
    pub tombstones: u64,
    /// Data pages.
    pub pages: u64,
    /// Data pages with a committed copy.
    pub committed: u64,
    /// Data pages of commits in doubt.
    pub staged: u64,
    /// Redo log records to ask about.
    pub log_prepared: u64,
    /// Redo log records to replay.
    pub log_committed: u64,
    /// Commit records that are not done.
    pub commits_open: u64,
}

/// Result of a check.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// What was found, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Findings that were left out, there being so many.
    pub more: u64,
    /// Errors that were repaired.
    pub repaired: u64,
    /// Errors that were not.
    pub unrepaired: u64,
    /// Counts, after the repairs.
    pub summary: Summary,
    /// Errors that were found and left.
    #[serde(skip)]
    left: HashSet<(Part, Option<u64>, String)>,
}

impl Report {
    /// Exit status as in fsck(8): 0 no errors, 1 all repaired, 4 some were not.
    pub fn exit_status(&self) -> u8 {
        match (self.repaired, self.unrepaired) {
            (_, 1..) => 4,
            (1.., 0) => 1,
            (0, 0) => 0,
        }
    }

    /// Notes and counts are those of the last pass; errors stay.
    pub(super) fn begin_pass(&mut self) {
        self.summary = Summary::default();
        self.findings
            .retain(|finding| finding.severity == Severity::Error);
    }

    /// Whether an earlier pass found the same and left it.
    pub(super) fn was_refused(&self, finding: &Finding) -> bool {
        self.left.contains(&Self::key(finding))
    }

    fn key(finding: &Finding) -> (Part, Option<u64>, String) {
        (finding.part, finding.index, finding.message.clone())
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if finding.severity == Severity::Error {
            if finding.repaired {
                self.repaired += 1;
            } else if self.left.insert(Self::key(&finding)) {
                self.unrepaired += 1;
            } else {
                return;
            }
        }
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}
