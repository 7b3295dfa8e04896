// SPDX-License-Identifier: GPL-2.0

//! What happened to one word, and whether that can have been one thing after the
//! other (linearizability, by Wing and Gong's search).

use crate::schedule::Time;
use std::collections::HashSet;

/// What is done to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads it.
    Read,
    /// Writes a value.
    Write(u64),
    /// Sets it to 1.
    TestAndSet,
    /// Compares it with the first, sets it to the second.
    CompareAndSwap(u64, u64),
    /// Adds to it.
    FetchAndAdd(u64),
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what it returned: what the word was; 0 for a write.
    Done(u64),
    /// Nobody knows: it may have happened, or will happen, or not.
    Unknown,
    /// It has not happened and will not.
    Failed,
}

/// One operation on the word.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Whose order it stands in: its stream.
    pub stream: u32,
    /// What.
    pub call: Call,
    /// When it was submitted.
    pub from: Time,
    /// When it was over.
    pub to: Time,
    /// How.
    pub outcome: Outcome,
}

impl Event {
    /// Whether this was over before `other` began: in time, or by the order of
    /// their stream, in which an operation waits for those before it that it
    /// depends on.
    fn precedes(&self, at: usize, other: &Self, other_at: usize) -> bool {
        let ordered = self.stream == other.stream
            && at < other_at
            && (self.call, other.call) != (Call::Read, Call::Read);
        self.outcome != Outcome::Unknown && (self.to < other.from || ordered)
    }

    /// The value after it, if it can have happened when the word was `value`.
    fn apply(&self, value: u64) -> Option<u64> {
        let after = match self.call {
            Call::Read => value,
            Call::Write(new) => new,
            Call::TestAndSet => 1,
            Call::CompareAndSwap(expected, desired) if value == expected => desired,
            Call::CompareAndSwap(..) => value,
            Call::FetchAndAdd(add) => value.wrapping_add(add),
        };
        match (self.call, self.outcome) {
            (Call::Write(_), _) | (_, Outcome::Unknown) => Some(after),
            (_, Outcome::Done(was)) => (was == value).then_some(after),
            (_, Outcome::Failed) => None,
        }
    }
}

/// Beyond this the search is given up: too many operations of which nobody knows.
const MOST_STATES: usize = 100_000;

/// Whether the operations, given in the order of their submission, can have
/// happened one after the other on a word that was 0.
pub fn check(events: &[Event]) -> Result<(), String> {
    let events: Vec<_> = events
        .iter()
        .filter(|event| event.outcome != Outcome::Failed)
        .filter(|event| (event.call, event.outcome) != (Call::Read, Outcome::Unknown))
        .copied()
        .collect();
    assert!(events.len() <= 128, "{} operations on a word", events.len());
    let mut before = vec![0u128; events.len()];
    for (at, event) in events.iter().enumerate() {
        for (other_at, other) in events.iter().enumerate() {
            if at != other_at && event.precedes(at, other, other_at) {
                before[other_at] |= 1 << at;
            }
        }
    }
    let known = events
        .iter()
        .enumerate()
        .filter(|(_, event)| event.outcome != Outcome::Unknown)
        .fold(0u128, |set, (at, _)| set | (1 << at));
    let mut seen = HashSet::new();
    let mut stack = vec![(0u128, 0u64)];
    let mut furthest = 0u128;
    while let Some((done, value)) = stack.pop() {
        if known & !done == 0 {
            return Ok(());
        }
        if !seen.insert((done, value)) {
            continue;
        }
        if seen.len() > MOST_STATES {
            return Ok(());
        }
        if done.count_ones() > furthest.count_ones() {
            furthest = done;
        }
        // What is known to have happened is tried first: the last to be pushed.
        for certain in [false, true] {
            for (at, event) in events.iter().enumerate().rev() {
                if (event.outcome != Outcome::Unknown) != certain
                    || done & (1 << at) != 0
                    || before[at] & !done != 0
                {
                    continue;
                }
                if let Some(value) = event.apply(value) {
                    stack.push((done | (1 << at), value));
                }
            }
        }
    }
    let stuck: Vec<_> = events
        .iter()
        .enumerate()
        .filter(|(at, _)| furthest & (1 << at) == 0)
        .map(|(_, event)| event)
        .take(4)
        .collect();
    Err(format!(
        "{} operations have no order; at best it ends before {stuck:#?}",
        events.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(call: Call, from: Time, to: Time, outcome: Outcome) -> Event {
        Event {
            stream: from as u32,
            call,
            from,
            to,
            outcome,
        }
    }

    #[test]
    fn a_read_of_an_older_value_has_no_order() {
        let write = event(Call::Write(7), 0, 10, Outcome::Done(0));
        let read = |value| event(Call::Read, 20, 30, Outcome::Done(value));
        assert!(check(&[write, read(7)]).is_ok());
        assert!(check(&[write, read(0)]).is_err());
    }

    #[test]
    fn an_addition_that_happened_twice_shows() {
        let add = |from, was| event(Call::FetchAndAdd(1), from, from + 5, Outcome::Done(was));
        assert!(check(&[add(0, 0), add(10, 1)]).is_ok());
        assert!(check(&[add(0, 0), add(10, 2)]).is_err());
    }

    #[test]
    fn what_nobody_knows_may_happen_late_or_never() {
        let lost = event(Call::Write(9), 0, 5, Outcome::Unknown);
        let read = |from, value| event(Call::Read, from, from + 5, Outcome::Done(value));
        assert!(check(&[lost, read(10, 0), read(20, 9)]).is_ok());
        assert!(check(&[lost, read(10, 0), read(20, 0)]).is_ok());
        assert!(check(&[lost, read(10, 9), read(20, 0)]).is_err());
    }

    #[test]
    fn a_stream_reads_what_it_wrote_before() {
        let mut write = event(Call::Write(3), 0, 50, Outcome::Done(0));
        let mut read = event(Call::Read, 1, 40, Outcome::Done(0));
        assert!(check(&[write, read]).is_ok());
        (write.stream, read.stream) = (1, 1);
        assert!(check(&[write, read]).is_err());
    }
}
