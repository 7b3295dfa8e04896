// SPDX-License-Identifier: GPL-2.0

//! What a client knows about keys that only it changes, and values that tell who put them.

use super::{bucket::VALUE, mix};
use std::collections::HashMap;

/// The keys of a client, exactly.
#[derive(Clone, Debug, Default)]
pub struct Model(HashMap<u64, u64>);

impl Model {
    /// Keys that there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value was put; `was_there`: what the table said of the key.
    pub fn put(&mut self, key: u64, id: u64, was_there: bool) -> Result<(), String> {
        let before = self.0.insert(key, id);
        agree(key, before.is_some(), was_there)
    }

    /// The key was deleted.
    pub fn delete(&mut self, key: u64, was_there: bool) -> Result<(), String> {
        let before = self.0.remove(&key);
        agree(key, before.is_some(), was_there)
    }

    /// The key was read.
    pub fn saw(&self, key: u64, seen: Option<&[u8]>) -> Result<(), String> {
        match (self.0.get(&key), seen) {
            (None, None) => Ok(()),
            (Some(&id), Some(value)) if *value == value_of(id) => Ok(()),
            (Some(&id), None) => Err(format!("key {key} is gone, it had value {id}")),
            (None, Some(_)) => Err(format!("key {key} is there, nobody put it")),
            (Some(&id), Some(value)) => Err(format!(
                "key {key} has value {:?}, not {id}",
                id_of(value).ok_or(value)
            )),
        }
    }
}

fn agree(key: u64, expected: bool, was_there: bool) -> Result<(), String> {
    if expected == was_there {
        return Ok(());
    }
    let found = if was_there { "was there" } else { "was absent" };
    Err(format!("the table says that key {key} {found}"))
}

/// The value of this number: 8 to [`VALUE`] bytes, all of which the number decides.
pub(super) fn value_of(id: u64) -> Vec<u8> {
    let len = 8 + mix(id) as usize % (VALUE - 7);
    let more = (1..VALUE as u64 / 8).flat_map(|at| mix(id ^ mix(at)).to_le_bytes());
    Iterator::chain(id.to_le_bytes().into_iter(), more)
        .take(len)
        .collect()
}

/// The number of a value; none has it that was not made by [`value_of`].
pub(super) fn id_of(value: &[u8]) -> Option<u64> {
    let id = u64::from_le_bytes(*value.first_chunk()?);
    (value_of(id) == value).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_tells_its_number_and_no_damaged_one_does() {
        for id in 0..200 {
            let value = value_of(id);
            assert_eq!(id_of(&value), Some(id));
            for at in 0..value.len() {
                let mut damaged = value.clone();
                damaged[at] ^= 0x10;
                assert_eq!(id_of(&damaged), None);
            }
            assert_eq!(id_of(&value[..value.len() - 1]), None);
        }
    }

    #[test]
    fn a_model_finds_what_is_lost_old_or_invented() {
        let mut model = Model::default();
        model.put(1, 10, false).unwrap();
        model.saw(1, Some(&value_of(10))).unwrap();
        assert!(model.saw(1, None).is_err());
        assert!(model.saw(1, Some(&value_of(9))).is_err());
        assert!(model.saw(2, Some(&value_of(10))).is_err());
        assert!(model.put(1, 11, false).is_err());
        model.delete(1, true).unwrap();
        model.saw(1, None).unwrap();
        assert!(model.delete(1, true).is_err());
    }
}
