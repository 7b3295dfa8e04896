// SPDX-License-Identifier: GPL-2.0

//! What a board counts.

use super::wire::{Op, Status, WireError};

macro_rules! counters {
    ($($(#[$meta:meta])* $name:ident,)*) => {
        /// Counters of a board since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$meta])* pub $name: u64,)*
            /// Requests executed or refused, in the order of [`Op::ALL`].
            pub ops: [u64; Op::ALL.len()],
            /// Answers, by their status' code.
            pub statuses: [u64; Status::TABLE.len()],
        }

        impl Stats {
            /// The counters that have a name, with their names.
            pub fn named(&self) -> [(&'static str, u64); [$(stringify!($name)),*].len()] {
                [$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counters! {
    /// Packets of fewer bytes than a header.
    dropped_truncated,
    /// Packets with more payload than one may have.
    dropped_oversized,
    /// Packets of another version.
    dropped_version,
    /// Packets with an operation or fields that no request has.
    dropped_malformed,
    /// Packets that are answers: nobody sends those to a memory node.
    dropped_answers,
    /// Packets with a wrong tag.
    dropped_tag,
    /// Packets for address spaces that are not here.
    unknown_space,
    /// Of these, ones that got a hint.
    hints,
    /// Requests that were executed before, and were answered again.
    duplicates,
    /// First touches.
    first_touches,
    /// First touches that found no prepared page.
    dry_touches,
    /// Locks taken from holders whom the map dropped.
    stolen_locks,
    /// Bytes read.
    bytes_read,
    /// Bytes written.
    bytes_written,
    /// Allocations.
    allocations,
    /// Addresses that allocations tried and gave up, since a bucket was full.
    allocation_retries,
    /// Most of them in one allocation.
    most_allocation_retries,
    /// Calls of offloads.
    offloads,
    /// Regions that were given to other nodes.
    regions_sent,
    /// Regions that came from other nodes.
    regions_received,
    /// Answers that could not be sent.
    unsent,
}

impl Stats {
    /// Counts a packet that is not one of ours.
    pub fn drop_packet(&mut self, why: WireError) {
        let counter = match why {
            WireError::Truncated => &mut self.dropped_truncated,
            WireError::Oversized => &mut self.dropped_oversized,
            WireError::Version(_) => &mut self.dropped_version,
            WireError::Op(_) | WireError::Field => &mut self.dropped_malformed,
            WireError::Tag => &mut self.dropped_tag,
        };
        *counter += 1;
    }

    /// Counts an answer.
    pub fn answer(&mut self, op: Op, status: Status) {
        let mut counted = Op::ALL.iter().zip(&mut self.ops);
        if let Some((_, count)) = counted.find(|(other, _)| **other == op) {
            *count += 1;
        }
        if let Some(count) = self.statuses.get_mut(status as usize) {
            *count += 1;
        }
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.ops.iter().sum()
    }
}
