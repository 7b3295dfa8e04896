// SPDX-License-Identifier: GPL-2.0

//! Who waits for an access to begin, and is let in when another one ends.
//!
//! The [`Gate`] says whether one may begin. Who may not waits in a queue of its class, in the order in
//! which they came, and whoever ends an access lets in those that may begin then: nobody asks twice.

use super::{class::Class, gate::Gate};
use kernel::prelude::*;

/// One that waits.
#[derive(Debug)]
struct Waiting<W> {
    bytes: usize,
    who: W,
}

/// The gate, and who waits before it. `W` is who waits.
#[derive(Debug)]
pub struct Admission<W> {
    gate: Gate,
    queues: [KVec<Waiting<W>>; Class::COUNT],
}

impl<W> Admission<W> {
    /// Nobody waits.
    pub const fn new(gate: Gate) -> Self {
        Self {
            gate,
            queues: [const { KVec::new() }; Class::COUNT],
        }
    }

    /// Somebody wants to begin an access of so many bytes. True: it may. Else it waits, until
    /// [`Self::admit`] names it or it is [withdrawn](Self::withdraw). `ENOMEM`: there is no memory to
    /// wait with.
    pub fn enter(&mut self, class: Class, bytes: usize, who: impl FnOnce() -> W) -> Result<bool> {
        let queue = &mut self.queues[class.index()];
        if queue.is_empty() && self.gate.take(class, bytes) {
            return Ok(true);
        }
        // Under a spinlock.
        queue.reserve(1, GFP_ATOMIC)?;
        queue.push(Waiting { bytes, who: who() }, GFP_ATOMIC)?;
        self.gate.wait(class);
        Ok(false)
    }

    /// An access of so many bytes has ended. [`Self::admit`] says who begins.
    pub fn leave(&mut self, class: Class, bytes: usize) {
        self.gate.give_back(class, bytes);
    }

    /// Who may begin now, its class, and how many bytes. To be called until it names nobody, after each
    /// [`Self::leave`] and [`Self::withdraw`].
    pub fn admit(&mut self) -> Option<(Class, usize, W)> {
        for class in Class::ALL {
            let queue = &mut self.queues[class.index()];
            let Some(bytes) = queue.first().map(|first| first.bytes) else {
                continue;
            };
            if !self.gate.take(class, bytes) {
                continue;
            }
            self.gate.gone(class);
            if let Ok(first) = queue.remove(0) {
                return Some((class, bytes, first.who));
            }
        }
        None
    }

    /// Somebody of this class does not want to wait any longer; false when it does not wait.
    pub fn withdraw(&mut self, class: Class, is: impl Fn(&W) -> bool) -> bool {
        let queue = &mut self.queues[class.index()];
        let Some(at) = queue.iter().position(|waiting| is(&waiting.who)) else {
            return false;
        };
        self.gate.gone(class);
        queue.remove(at).is_ok()
    }

    /// Somebody who waits, and will never be let in. To be called until it names nobody.
    pub fn turn_away(&mut self) -> Option<W> {
        Class::ALL.into_iter().find_map(|class| {
            let turned_away = self.queues[class.index()].pop()?;
            self.gate.gone(class);
            Some(turned_away.who)
        })
    }

    /// Bytes of a class that are under way.
    pub fn under_way(&self, class: Class) -> usize {
        self.gate.under_way(class)
    }
}
