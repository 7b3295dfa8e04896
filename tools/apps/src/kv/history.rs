// SPDX-License-Identifier: GPL-2.0

//! What many clients did to keys that they share, and whether some order of it explains all that they saw.
//!
//! All values differ, so it is known which put a get saw, and the test of Gibbons and Korach ("Testing shared
//! memories", SIAM J. Comput. 26(4), 1997, section 4.2) is exact: for the put of a value and all gets of it, the time
//! from the first end to the last begin (if that is later: a forward zone; the value was there all that time), or
//! from the last begin to the first end (a backward zone). There is an order if and only if no get ended before its
//! put began, no two forward zones overlap, and no backward zone lies within a forward zone.

use std::collections::{BTreeMap, HashMap};

/// The value of a key that nobody has put: as if put before all time.
pub const ABSENT: u64 = 0;

/// What a client did; times by a clock that all clients have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Of which key.
    pub key: u64,
    /// What was put, or seen.
    pub value: u64,
    /// It was put, not seen.
    pub put: bool,
    /// Nanoseconds.
    pub begin: u64,
    /// Nanoseconds.
    pub end: u64,
}

/// Words of an operation.
const WORDS: usize = 5;

/// All that was done, in no order.
#[derive(Clone, Debug, Default)]
pub struct History(Vec<Operation>);

#[derive(Clone, Copy, Debug)]
struct Zone {
    value: u64,
    /// When the put began; none yet.
    put: Option<u64>,
    first_end: u64,
    last_begin: u64,
}

impl History {
    /// One more.
    pub fn add(&mut self, operation: Operation) {
        self.0.push(operation);
    }

    /// Those of another as well.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As words, to be sent.
    pub fn to_words(&self) -> Vec<u64> {
        let words = |o: &Operation| [o.key, o.value, o.put.into(), o.begin, o.end];
        self.0.iter().flat_map(words).collect()
    }

    /// From words.
    pub fn from_words(words: &[u64]) -> Self {
        let operation = |w: &[u64]| Operation {
            key: w[0],
            value: w[1],
            put: w[2] != 0,
            begin: w[3],
            end: w[4],
        };
        Self(words.chunks_exact(WORDS).map(operation).collect())
    }

    /// Whether each key behaved as one register does; else what contradicts it.
    pub fn check(&self) -> Result<(), String> {
        let mut keys: BTreeMap<u64, Vec<&Operation>> = BTreeMap::new();
        for operation in &self.0 {
            keys.entry(operation.key).or_default().push(operation);
        }
        keys.into_iter()
            .try_for_each(|(key, all)| register(&all).map_err(|why| format!("key {key}: {why}")))
    }
}

fn register(operations: &[&Operation]) -> Result<(), String> {
    let mut zones: HashMap<u64, Zone> = HashMap::new();
    let zone = |value| Zone {
        value,
        put: None,
        first_end: u64::MAX,
        last_begin: 0,
    };
    let absent = Zone {
        put: Some(0),
        first_end: 0,
        ..zone(ABSENT)
    };
    zones.insert(ABSENT, absent);
    for o in operations {
        let zone = zones.entry(o.value).or_insert_with(|| zone(o.value));
        if o.put && zone.put.replace(o.begin).is_some() {
            return Err(format!("value {} was put twice", o.value));
        }
        zone.first_end = zone.first_end.min(o.end);
        zone.last_begin = zone.last_begin.max(o.begin);
    }
    for o in operations.iter().filter(|o| !o.put) {
        match zones[&o.value].put {
            None => return Err(format!("nobody put value {}, but it was seen", o.value)),
            Some(put) if o.end < put => {
                return Err(format!("value {} was seen before it was put", o.value))
            }
            Some(_) => {}
        }
    }
    let is_forward = |zone: &&Zone| zone.first_end < zone.last_begin;
    let mut forward: Vec<_> = zones.values().filter(is_forward).collect();
    forward.sort_by_key(|zone| zone.first_end);
    for pair in forward.windows(2) {
        if pair[1].first_end < pair[0].last_begin {
            return Err(format!(
                "values {} and {} were both there, one over the other and back",
                pair[0].value, pair[1].value
            ));
        }
    }
    for zone in zones.values().filter(|zone| !is_forward(zone)) {
        // The only one that could be around it: the last that begins before it.
        let before = forward.partition_point(|f| f.first_end < zone.last_begin);
        let around = before.checked_sub(1).map(|at| forward[at]);
        if let Some(around) = around.filter(|f| zone.first_end < f.last_begin) {
            return Err(format!(
                "value {} came and went while value {} was there",
                zone.value, around.value
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(operations: &[(bool, u64, u64, u64)]) -> History {
        let operation = |&(put, value, begin, end)| Operation {
            key: 1,
            value,
            put,
            begin,
            end,
        };
        History(operations.iter().map(operation).collect())
    }

    const PUT: bool = true;
    const GET: bool = false;

    #[test]
    fn what_one_client_does_in_turn_is_explained() {
        let all = [
            (GET, ABSENT, 1, 2),
            (PUT, 1, 3, 4),
            (GET, 1, 5, 6),
            (PUT, 2, 7, 8),
            (GET, 2, 9, 10),
        ];
        assert_eq!(history(&all).check(), Ok(()));
    }

    #[test]
    fn puts_at_the_same_time_may_be_in_any_order_but_in_one() {
        let both = [(PUT, 1, 10, 20), (PUT, 2, 10, 20)];
        let seen = |first, then| [&both[..], &[(GET, first, 11, 15), (GET, then, 16, 19)]].concat();
        assert_eq!(history(&seen(1, 2)).check(), Ok(()));
        assert_eq!(history(&seen(2, 1)).check(), Ok(()));
        let back = [&seen(1, 2)[..], &[(GET, 1, 21, 22)]].concat();
        assert!(history(&back).check().is_err());
    }

    #[test]
    fn a_value_that_was_overwritten_is_not_seen_again() {
        let all = [(PUT, 1, 1, 2), (PUT, 2, 3, 4), (GET, 1, 5, 6)];
        assert!(history(&all).check().unwrap_err().contains("came and went"));
    }

    #[test]
    fn a_key_is_not_absent_once_it_was_put() {
        assert!(history(&[(PUT, 1, 1, 2), (GET, ABSENT, 3, 4)])
            .check()
            .is_err());
        assert_eq!(
            history(&[(PUT, 1, 1, 5), (GET, ABSENT, 3, 4)]).check(),
            Ok(())
        );
    }

    #[test]
    fn nothing_is_seen_before_it_is_put_or_never() {
        assert!(history(&[(GET, 1, 1, 2), (PUT, 1, 3, 4)]).check().is_err());
        assert!(history(&[(GET, 7, 1, 2)])
            .check()
            .unwrap_err()
            .contains("nobody put"));
    }

    #[test]
    fn a_history_comes_back_from_its_words() {
        let all = history(&[(PUT, 1, 1, 2), (GET, ABSENT, 3, 4)]);
        assert_eq!(History::from_words(&all.to_words()).0, all.0);
    }
}
