// SPDX-License-Identifier: GPL-2.0

//! The workers of operations, and the [turns](crate::core::turns) that open files take at them.

use super::{operation::Operation, Operations};
use crate::{
    core::{turns::Turns, Class},
    host::Queues,
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

/// Whose operation of a class runs next, of all files of all nodes.
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
        let (file, user, class) = (operation.operations.id(), operation.user, operation.class);
        let waits = { self.turns_of(class).turns.lock() }.wait(file, user, operation);
        waits.map_err(|(e, _)| e)?;
        self.run_more(class);
        Ok(())
    }

    /// One of a file and a class is over.
    pub(super) fn ended(&self, operations: &Arc<Operations>, class: Class) {
        self.turns_of(class).turns.lock().ended(operations.id());
        self.run_more(class);
    }

    /// What waits for a file is not done any more.
    pub(super) fn give_up(&self, operations: &Arc<Operations>) {
        for class in Class::ALL {
            loop {
                let operation = self.turns_of(class).turns.lock().give_up(operations.id());
                if operation.is_none() {
                    break;
                }
            }
        }
    }

    fn run_more(&self, class: Class) {
        loop {
            let next = self.turns_of(class).turns.lock().begin();
            match next {
                // It is in no queue.
                Some(operation) => drop(self.accesses_of(class).enqueue(operation)),
                None => return,
            }
        }
    }
}
