// SPDX-License-Identifier: GPL-2.0

//! The receive queue of a port whose calls processes execute: requests that wait, and requests that
//! were received and have no reply yet.
//!
//! It is bounded in requests and bytes, both counted until the reply, so a receiver that falls behind
//! is not overrun: what does not fit is refused, was not executed, and is tried again by its caller's
//! kernel until the caller's deadline. A request whose caller has given up makes room.

use super::{
    class::{Class, FairTurns, Places, Share},
    queue::{Link, Linked, Queue},
};
use kernel::prelude::*;

/// How much a receive queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Requests, waiting or received.
    pub requests: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// Why a request was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no room, or no memory, for now.
    Full,
    /// It is larger than the whole queue.
    TooLarge,
    /// Nobody receives any more.
    Closed,
}

/// Names a request that was received, until its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token(pub u64);

impl Token {
    fn new(at: usize, uses: u32) -> Self {
        Self((u64::from(uses) << 32) | at as u64)
    }

    fn at(self) -> usize {
        self.0 as u32 as usize
    }

    fn uses(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

#[derive(Debug)]
enum State<M> {
    Free,
    Waiting(M),
    Received(M),
    /// Its caller has given up; who drives the queue has not heard of that yet.
    Expired(M),
}

#[derive(Debug)]
struct Entry<M> {
    link: Link,
    state: State<M>,
    /// How often the entry was used; part of its token.
    uses: u32,
    class: Class,
    len: usize,
    expires: u64,
}

impl<M> Linked for Entry<M> {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// The receive queue of one port; `M` is what the edge knows of a request.
#[derive(Debug)]
pub struct ReceiveQueue<M> {
    bounds: Bounds,
    entries: KVec<Entry<M>>,
    free: Queue,
    /// By class.
    waiting: [Queue; Class::COUNT],
    turns: FairTurns,
    expired: Queue,
    used: Places,
    bytes: Places,
    closed: bool,
}

impl<M: Clone> ReceiveQueue<M> {
    /// An empty queue, whose room and whose receivers the classes share.
    pub fn new(bounds: Bounds, share: Share) -> Self {
        Self {
            bounds,
            entries: KVec::new(),
            free: Queue::new(),
            waiting: [const { Queue::new() }; Class::COUNT],
            turns: FairTurns::new(share),
            expired: Queue::new(),
            used: Places::new(bounds.requests, share),
            bytes: Places::new(bounds.bytes, share),
            closed: false,
        }
    }

    /// A request of `len` bytes, of no use after `expires`. Gives it back when it is refused.
    pub fn offer(
        &mut self,
        now: u64,
        class: Class,
        request: M,
        len: usize,
        expires: u64,
    ) -> Result<(), (Refused, M)> {
        if self.closed {
            return Err((Refused::Closed, request));
        }
        if len > self.bounds.bytes {
            return Err((Refused::TooLarge, request));
        }
        if !self.take(class, len) {
            for at in 0..self.entries.len() {
                if self.entries[at].expires <= now {
                    self.expire(at);
                }
            }
            if !self.take(class, len) {
                return Err((Refused::Full, request));
            }
        }
        let Some(at) = self.free_entry() else {
            self.give_back(class, len);
            return Err((Refused::Full, request));
        };
        let entry = &mut self.entries[at];
        entry.uses = entry.uses.wrapping_add(1);
        entry.class = class;
        entry.len = len;
        entry.expires = expires;
        entry.state = State::Waiting(request);
        self.waiting[class.index()].push(&mut self.entries, at);
        Ok(())
    }

    fn take(&mut self, class: Class, len: usize) -> bool {
        if !self.used.take(class, 1) {
            return false;
        }
        let taken = self.bytes.take(class, len);
        if !taken {
            self.used.give_back(class, 1);
        }
        taken
    }

    fn give_back(&mut self, class: Class, len: usize) {
        self.used.give_back(class, 1);
        self.bytes.give_back(class, len);
    }

    fn unqueue(&mut self, at: usize) {
        let class = self.entries[at].class;
        self.waiting[class.index()].remove(&mut self.entries, at);
    }

    /// The request to receive next.
    fn first(&self) -> Option<usize> {
        let waits = |class: Class| self.waiting[class.index()].first();
        let class = self.turns.next(|class| waits(class).is_some())?;
        waits(class)
    }

    fn free_entry(&mut self) -> Option<usize> {
        if let Some(at) = self.free.pop(&mut self.entries) {
            return Some(at);
        }
        let entry = Entry {
            link: Link::new(),
            state: State::Free,
            uses: 0,
            class: Class::Normal,
            len: 0,
            expires: 0,
        };
        self.entries.push(entry, GFP_ATOMIC).ok()?;
        Some(self.entries.len() - 1)
    }

    fn release(&mut self, at: usize) -> Option<M> {
        let entry = &mut self.entries[at];
        let (class, len) = (entry.class, entry.len);
        let (request, counts) = match ::core::mem::replace(&mut entry.state, State::Free) {
            State::Free => return None,
            State::Waiting(request) => {
                self.unqueue(at);
                (request, true)
            }
            State::Received(request) => (request, true),
            State::Expired(request) => {
                self.expired.remove(&mut self.entries, at);
                (request, false)
            }
        };
        if counts {
            self.give_back(class, len);
        }
        self.free.push(&mut self.entries, at);
        Some(request)
    }

    /// The caller of a request has given up: it makes room.
    fn expire(&mut self, at: usize) {
        let entry = &mut self.entries[at];
        let request = match ::core::mem::replace(&mut entry.state, State::Free) {
            State::Waiting(request) => {
                self.unqueue(at);
                request
            }
            State::Received(request) => request,
            other => {
                entry.state = other;
                return;
            }
        };
        let entry = &mut self.entries[at];
        entry.state = State::Expired(request);
        let (class, len) = (entry.class, entry.len);
        self.give_back(class, len);
        self.expired.push(&mut self.entries, at);
    }

    /// A request that was dropped because its caller has given up. Ask after each of the other
    /// operations, until there is none.
    pub fn pop_expired(&mut self) -> Option<M> {
        let at = self.expired.first()?;
        self.release(at)
    }

    /// The request that waited longest, of the class whose turn it is, and is still of use. It is
    /// received by this: its reply is awaited under the token.
    pub fn receive(&mut self, now: u64) -> Option<(Token, M)> {
        loop {
            let at = self.first()?;
            let entry = &mut self.entries[at];
            if entry.expires <= now {
                self.expire(at);
                continue;
            }
            let State::Waiting(request) = &entry.state else {
                // No such entry is in that queue.
                self.unqueue(at);
                continue;
            };
            let request = request.clone();
            entry.state = State::Received(request.clone());
            let token = Token::new(at, entry.uses);
            let class = entry.class;
            self.unqueue(at);
            self.turns.sent(class, 1);
            return Some((token, request));
        }
    }

    /// Length of the request that [`Self::receive`] would give.
    pub fn next_len(&mut self, now: u64) -> Option<usize> {
        loop {
            let at = self.first()?;
            if self.entries[at].expires > now {
                return Some(self.entries[at].len);
            }
            self.expire(at);
        }
    }

    fn received(&self, token: Token) -> Option<usize> {
        let at = token.at();
        let entry = self.entries.get(at)?;
        let there = entry.uses == token.uses() && matches!(entry.state, State::Received(_));
        there.then_some(at)
    }

    /// The request was not received after all: it waits again, before all others.
    pub fn put_back(&mut self, token: Token) {
        let Some(at) = self.received(token) else {
            return;
        };
        let entry = &mut self.entries[at];
        // What it was given under is void.
        entry.uses = entry.uses.wrapping_add(1);
        if let State::Received(request) = &entry.state {
            entry.state = State::Waiting(request.clone());
        }
        let class = self.entries[at].class;
        self.waiting[class.index()].push_first(&mut self.entries, at);
    }

    /// The request that was received under this token, if it has no reply yet.
    pub fn get(&self, token: Token) -> Option<M> {
        match &self.entries[self.received(token)?].state {
            State::Received(request) => Some(request.clone()),
            _ => None,
        }
    }

    /// The request has its reply; gives it back, or `None` when there is none of this token (any
    /// more).
    pub fn reply(&mut self, token: Token) -> Option<M> {
        let at = self.received(token)?;
        self.release(at)
    }

    /// Whether a request waits.
    pub fn is_ready(&self) -> bool {
        self.first().is_some()
    }

    /// Requests, waiting or received and of use.
    pub fn len(&self) -> usize {
        Class::ALL.iter().map(|class| self.used.taken(*class)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Nobody receives any more. Call [`Self::drain`] until it gives nothing.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// After [`Self::close`]: a request that is left, and whether it was received, so that it may
    /// have been executed.
    pub fn drain(&mut self) -> Option<(M, bool)> {
        let used = |entry: &Entry<M>| !matches!(entry.state, State::Free);
        let at = self.entries.iter().position(used)?;
        let received = matches!(self.entries[at].state, State::Received(_));
        Some((self.release(at)?, received))
    }
}
