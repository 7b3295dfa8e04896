// SPDX-License-Identifier: GPL-2.0

//! Messages that have come but may have to sleep, and those behind them.

use super::{token_message, VerbsLink};
use crate::transport::{Link, LinkUser};
use kernel::{prelude::*, sync::Arc, workqueue::WorkItem};

impl<U: LinkUser> VerbsLink<U> {
    /// Hands a message to the user, unless it has to wait for an earlier one or for memory.
    pub(super) fn deliver(self: &Arc<Self>, imm: u32) -> Result {
        let waits = !self.state.lock().backlog.is_empty();
        if !waits && self.user.message(&self.clone().into(), imm, false) {
            return self.repost();
        }
        // The work item that empties it runs until it sees it empty.
        self.state.lock().backlog.push(imm)?;
        let _ = self.queues.links.enqueue::<_, 1>(self.clone());
        Ok(())
    }

    /// Posts a receive for the one that was taken. Only once what was read may be overwritten.
    pub(super) fn repost(&self) -> Result {
        match &self.state.lock().endpoint {
            Some(endpoint) => endpoint.qp.post_recv(token_message(), None),
            None => Ok(()),
        }
    }
}

impl<U: LinkUser> WorkItem<1> for VerbsLink<U> {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        loop {
            let Some(imm) = this.state.lock().backlog.front() else {
                return;
            };
            this.user.message(&this.clone().into(), imm, true);
            // Only now, so that later ones queue up behind it until it was handled.
            this.state.lock().backlog.pop();
            if let Err(e) = this.repost() {
                this.fail(e);
            }
        }
    }
}
