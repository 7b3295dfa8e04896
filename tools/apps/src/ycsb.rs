// SPDX-License-Identifier: GPL-2.0

//! The workloads A to F of YCSB (Cooper and others, SoCC 2010) on a small persistent key-value store: a B+-tree in a
//! mapped file, whose every operation that changes something is one commit.
//!
//! In a dataset of hotpot that commit is all or nothing, so the store has no log. On other file systems the same store
//! commits by msync of the pages that were touched: as fast as it gets there, but a crash may leave a part of a split.

mod file;
mod run;
mod store;
mod workload;

pub use self::{
    file::Mapped,
    run::{check, run, Settings},
    store::{Memory, Store, RECORD},
    workload::{Operation, Workload},
};
