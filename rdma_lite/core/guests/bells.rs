// SPDX-License-Identifier: GPL-2.0

//! What tells a receiver that there is something for it: a queue of words, one a bell.
//!
//! Each has a place of its own in the order of its session, and says so: the receiver looks at the place
//! where the next one belongs, and finds it, or what was there a lap before. So the sender's head is not
//! shared, one store hands a bell over, and what is not the next bell of this session is an error. The
//! receiver clears the queue before a session begins.

use super::{
    layout::{Lane, BELLS},
    Memory,
};
use kernel::prelude::*;

/// What a bell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bell {
    /// A message, with what verbs carry as immediate data.
    Message(u32),
    /// The sender asks for this access of the lane.
    Request(u32),
    /// The sender has carried out this access of the other lane.
    Response(u32),
}

impl Bell {
    /// As a word: tag of the session, place, kind, value.
    fn encode(self, tag: u16, nr: u64) -> u64 {
        let (kind, value) = match self {
            Self::Message(value) => (1, value),
            Self::Request(value) => (2, value),
            Self::Response(value) => (3, value),
        };
        (u64::from(tag) << 48) | (place(nr) << 34) | (kind << 32) | u64::from(value)
    }
}

/// What a word says of its place.
fn place(nr: u64) -> u64 {
    nr & 0x3fff
}

/// A tag for a session: what is not of it does not look like it.
fn tag(session: u64) -> u16 {
    (session ^ (session >> 16) ^ (session >> 32) ^ (session >> 48)) as u16
}

/// The sender's end.
#[derive(Debug)]
pub struct Sender {
    tag: u16,
    next: u64,
    tail: u64,
}

impl Sender {
    /// The session begins.
    pub fn new(session: u64) -> Self {
        Self {
            tag: tag(session),
            next: 0,
            tail: 0,
        }
    }

    /// Rings. `ENOSPC`: the receiver has not heard those before. `EPROTO`: it says that it has heard what
    /// was not rung.
    pub fn ring(&mut self, memory: &impl Memory, lane: Lane, bell: Bell) -> Result {
        if self.next - self.tail >= BELLS as u64 {
            let tail = memory.load(lane.tail())?;
            if tail < self.tail || tail > self.next {
                return Err(EPROTO);
            }
            self.tail = tail;
            if self.next - tail >= BELLS as u64 {
                return Err(ENOSPC);
            }
        }
        memory.store(lane.bell(self.next), bell.encode(self.tag, self.next))?;
        self.next += 1;
        Ok(())
    }
}

/// The receiver's end.
#[derive(Debug)]
pub struct Receiver {
    tag: u16,
    next: u64,
}

impl Receiver {
    /// The session is about to begin: clears the queue.
    pub fn new(memory: &impl Memory, lane: Lane, session: u64) -> Result<Self> {
        memory.store(lane.tail(), 0)?;
        for nr in 0..BELLS as u64 {
            memory.store(lane.bell(nr), 0)?;
        }
        Ok(Self {
            tag: tag(session),
            next: 0,
        })
    }

    /// The next bell, if it was rung. `EPROTO`: something else is where it belongs.
    pub fn next(&mut self, memory: &impl Memory, lane: Lane) -> Result<Option<Bell>> {
        let word = memory.load(lane.bell(self.next))?;
        if word == 0 {
            return Ok(None);
        }
        let is_ours = word >> 48 == u64::from(self.tag);
        let at = (word >> 34) & 0x3fff;
        if is_ours && self.next >= BELLS as u64 && at == place(self.next - BELLS as u64) {
            // Of the lap before.
            return Ok(None);
        }
        if !is_ours || at != place(self.next) {
            return Err(EPROTO);
        }
        let value = word as u32;
        let bell = match (word >> 32) & 3 {
            1 => Bell::Message(value),
            2 => Bell::Request(value),
            3 => Bell::Response(value),
            _ => return Err(EPROTO),
        };
        self.next += 1;
        Ok(Some(bell))
    }

    /// Tells the sender how far it is.
    pub fn tell(&self, memory: &impl Memory, lane: Lane) -> Result {
        memory.store(lane.tail(), self.next)
    }
}
