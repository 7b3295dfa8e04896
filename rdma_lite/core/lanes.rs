// SPDX-License-Identifier: GPL-2.0

//! Which queue pair of a connection carries what.
//!
//! A connection has K queue pairs (*lanes*), whatever the number of users. Lane 0 carries the messages.
//! A queue pair works on what it is given in order, so a message would wait for all megabytes of
//! accesses before it: those of the normal class have lanes of their own, and those of the high class
//! too, where there are three lanes or more.

use super::class::Class;

/// Most lanes of a connection.
pub const MOST: usize = 8;

/// The lane for an access; there are `lanes` (at least 1), and `turn` counts the accesses.
pub const fn for_access(class: Class, lanes: usize, turn: usize) -> usize {
    match (class, lanes) {
        (_, 0 | 1) => 0,
        (Class::High, 2) => 0,
        (Class::Normal, 2) => 1,
        (Class::High, _) => 1,
        (Class::Normal, lanes) => 2 + turn % (lanes - 2),
    }
}
