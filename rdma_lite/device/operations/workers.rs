// SPDX-License-Identifier: GPL-2.0

//! The workers of operations, and the [turns](crate::core::turns) that open files take at them.

use super::{operation::Operation, Operations};
use crate::{core::turns::Turns, host::Queues};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// Whose operation runs next, of all files of all nodes.
#[pin_data]
pub(crate) struct AccessTurns {
    #[pin]
    turns: Mutex<Turns<Arc<Operation>>>,
}

impl AccessTurns {
    /// For so many workers.
    pub(crate) fn new(workers: u16) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                turns <- new_mutex!(Turns::new(workers.into()), "lite_turns"),
            }),
            GFP_KERNEL,
        )
    }
}

impl Queues {
    /// An operation waits for its turn from now on.
    pub(super) fn submit(&self, operation: Arc<Operation>) -> Result {
        let (file, user) = (operation.operations.id(), operation.user);
        let waits = { self.turns.turns.lock() }.wait(file, user, operation);
        waits.map_err(|(e, _)| e)?;
        self.run_more();
        Ok(())
    }

    /// One of a file is over.
    pub(super) fn ended(&self, operations: &Arc<Operations>) {
        self.turns.turns.lock().ended(operations.id());
        self.run_more();
    }

    /// What waits for a file is not done any more.
    pub(super) fn give_up(&self, operations: &Arc<Operations>) {
        loop {
            let operation = self.turns.turns.lock().give_up(operations.id());
            if operation.is_none() {
                return;
            }
        }
    }

    fn run_more(&self) {
        loop {
            let next = self.turns.turns.lock().begin();
            match next {
                // It is in no queue.
                Some(operation) => drop(self.accesses.enqueue(operation)),
                None => return,
            }
        }
    }
}
