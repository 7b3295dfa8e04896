// SPDX-License-Identifier: GPL-2.0

//! Operations of kernel users: what they hand in and hear back.

use crate::core::op::Data;
use kernel::{prelude::*, sync::Arc};

/// One operation, as its user sees it. It is made by the user before, so that beginning one
/// allocates nothing.
pub(crate) trait Job: Send + Sync {
    /// What is sent: does not change while the operation runs. Any context.
    fn bytes(&self) -> &[u8];

    /// A part of what was read; never two at a time. Called in softirq context, with the
    /// station's lock held.
    fn store(&self, offset: usize, bytes: &[u8]);

    /// The output of an offload has so many bytes. As [`Self::store`].
    fn output(&self, _len: usize) {}

    /// It is over. Called once, in any context that does not sleep, without locks; further
    /// operations are begun with [`Station::submit_more`](crate::station::Station::submit_more).
    fn done(&self, result: Result<u64>);
}

/// The edge's half of an operation.
pub(crate) struct Half(pub(crate) Arc<dyn Job>);

impl Data for Half {
    type Bytes = Arc<dyn Job>;

    fn bytes(&self) -> Arc<dyn Job> {
        self.0.clone()
    }

    fn store(&mut self, offset: usize, bytes: &[u8]) {
        self.0.store(offset, bytes);
    }

    fn output(&mut self, len: usize) {
        self.0.output(len);
    }
}
