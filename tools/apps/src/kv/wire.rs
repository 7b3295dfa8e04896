// SPDX-License-Identifier: GPL-2.0

//! What a rank is asked, and what it answers.

use std::io;

/// A change, or a question that no one-sided read answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Put {
        key: u64,
        value: &'a [u8],
    },
    Delete {
        key: u64,
    },
    /// How many keys the rank has.
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The change is done; there was such a key.
    WasThere,
    /// There was none.
    WasAbsent,
    Count(u64),
    /// No bucket is left.
    Full,
    TooLarge,
    /// No request is like this.
    Strange,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COUNT: u8 = 3;

/// Bytes of an answer.
pub(super) const ANSWER: usize = 9;

impl<'a> Request<'a> {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (what, key, value): (u8, u64, &[u8]) = match self {
            Self::Put { key, value } => (PUT, key, value),
            Self::Delete { key } => (DELETE, key, &[]),
            Self::Count => (COUNT, 0, &[]),
        };
        [&[what], &key.to_le_bytes()[..], value].concat()
    }

    pub(super) fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        let (&what, rest) = bytes.split_first()?;
        let (key, value) = rest.split_first_chunk()?;
        let key = u64::from_le_bytes(*key);
        match what {
            PUT => Some(Self::Put { key, value }),
            DELETE => Some(Self::Delete { key }),
            COUNT => Some(Self::Count),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn to_bytes(self) -> [u8; ANSWER] {
        let (what, count) = match self {
            Self::WasThere => (0, 0),
            Self::WasAbsent => (1, 0),
            Self::Count(count) => (2, count),
            Self::Full => (3, 0),
            Self::TooLarge => (4, 0),
            Self::Strange => (5, 0),
        };
        let mut bytes = [what; ANSWER];
        bytes[1..].copy_from_slice(&u64::to_le_bytes(count));
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        let (&what, count) = bytes.split_first().ok_or(io::ErrorKind::InvalidData)?;
        let count = count.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        match what {
            0 => Ok(Self::WasThere),
            1 => Ok(Self::WasAbsent),
            2 => Ok(Self::Count(u64::from_le_bytes(count))),
            3 => Ok(Self::Full),
            4 => Ok(Self::TooLarge),
            5 => Ok(Self::Strange),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_from_their_bytes() {
        let value: &[u8] = b"value";
        for request in [
            Request::Put { key: 7, value },
            Request::Delete { key: u64::MAX },
            Request::Count,
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()), Some(request));
        }
        assert_eq!(Request::from_bytes(b"x"), None);
        for answer in [
            Answer::WasThere,
            Answer::WasAbsent,
            Answer::Count(3),
            Answer::Full,
            Answer::TooLarge,
            Answer::Strange,
        ] {
            assert_eq!(Answer::from_bytes(&answer.to_bytes()).unwrap(), answer);
        }
    }
}
