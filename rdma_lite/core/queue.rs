// SPDX-License-Identifier: GPL-2.0

//! A first-in-first-out queue through the entries of a table: no memory of its
//! own, and an entry leaves from anywhere in constant time.

/// End of a queue.
const NONE: u32 = u32::MAX;

/// An entry's place in a queue.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    prev: u32,
    next: u32,
    queued: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self::new()
    }
}

impl Link {
    /// In no queue.
    pub const fn new() -> Self {
        Self {
            prev: NONE,
            next: NONE,
            queued: false,
        }
    }

    /// Whether the entry is in a queue.
    pub fn is_queued(&self) -> bool {
        self.queued
    }
}

/// An entry of a table through which a [`Queue`] runs.
pub trait Linked {
    /// Its place.
    fn link(&mut self) -> &mut Link;
}

/// The queue; all operations take the table it runs through.
#[derive(Debug)]
pub struct Queue {
    head: u32,
    tail: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            head: NONE,
            tail: NONE,
        }
    }

    /// The first entry.
    pub fn first(&self) -> Option<usize> {
        (self.head != NONE).then_some(self.head as usize)
    }

    /// Puts an entry last, unless it is queued already.
    pub fn push<T: Linked>(&mut self, table: &mut [T], at: usize) {
        let tail = self.tail;
        let link = table[at].link();
        if link.queued {
            return;
        }
        *link = Link {
            prev: tail,
            next: NONE,
            queued: true,
        };
        if tail == NONE {
            self.head = at as u32;
        } else {
            table[tail as usize].link().next = at as u32;
        }
        self.tail = at as u32;
    }

    /// Puts an entry first, unless it is queued already.
    pub fn push_first<T: Linked>(&mut self, table: &mut [T], at: usize) {
        let head = self.head;
        let link = table[at].link();
        if link.queued {
            return;
        }
        *link = Link {
            prev: NONE,
            next: head,
            queued: true,
        };
        if head == NONE {
            self.tail = at as u32;
        } else {
            table[head as usize].link().prev = at as u32;
        }
        self.head = at as u32;
    }

    /// Takes an entry out, if it is queued.
    pub fn remove<T: Linked>(&mut self, table: &mut [T], at: usize) {
        let link = *table[at].link();
        if !link.queued {
            return;
        }
        *table[at].link() = Link::new();
        if link.prev == NONE {
            self.head = link.next;
        } else {
            table[link.prev as usize].link().next = link.next;
        }
        if link.next == NONE {
            self.tail = link.prev;
        } else {
            table[link.next as usize].link().prev = link.prev;
        }
    }

    /// Takes the first entry out.
    pub fn pop<T: Linked>(&mut self, table: &mut [T]) -> Option<usize> {
        let at = self.first()?;
        self.remove(table, at);
        Some(at)
    }
}
