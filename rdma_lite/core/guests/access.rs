// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of memory that the other node of a session has opened: the one asks, the owner
//! copies, into or out of a part of the lane that the access has until it is over.
//!
//! A request names the key and the address of a window as verbs do; whether it is let in is the owner's
//! to say. The answer repeats the request's number, so that one that comes late is of no use.

use super::{
    field,
    layout::{ACCESSES, ACCESS_LEN},
    put, Memory,
};
use kernel::{crc32::crc32c, prelude::*};

const REQUEST_LEN: usize = 48;
const RESPONSE_LEN: usize = 24;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Number of it in its session.
    pub id: u64,
    /// Into the window, else out of it.
    pub write: bool,
    /// Key of the window.
    pub key: u32,
    /// Where, as the window counts.
    pub addr: u64,
    /// How many bytes: 1 to [`ACCESS_LEN`].
    pub len: u32,
}

fn seal<const N: usize>(mut record: [u8; N]) -> [u8; N] {
    let crc = !crc32c(!0, &record[4..]);
    put(&mut record, 0, crc.to_le_bytes());
    record
}

fn unsealed<const N: usize>(memory: &impl Memory, at: usize) -> Result<[u8; N]> {
    let mut record = [0; N];
    memory.read(at, &mut record)?;
    if u32::from_le_bytes(field(&record, 0)) != !crc32c(!0, &record[4..]) {
        return Err(EBADMSG);
    }
    Ok(record)
}

impl Request {
    /// Puts it where the owner looks.
    pub fn put(&self, memory: &impl Memory, at: usize) -> Result {
        let mut record = [0; REQUEST_LEN];
        put(&mut record, 4, [u8::from(self.write)]);
        put(&mut record, 8, self.id.to_le_bytes());
        put(&mut record, 16, self.addr.to_le_bytes());
        put(&mut record, 24, self.key.to_le_bytes());
        put(&mut record, 28, self.len.to_le_bytes());
        memory.write(at, &seal(record))
    }

    /// Copies it out. `EBADMSG`: it is not one; `EPROTO`: it asks for what cannot be.
    pub fn get(memory: &impl Memory, at: usize) -> Result<Self> {
        let record: [u8; REQUEST_LEN] = unsealed(memory, at)?;
        let request = Self {
            id: u64::from_le_bytes(field(&record, 8)),
            write: record[4] == 1,
            addr: u64::from_le_bytes(field(&record, 16)),
            key: u32::from_le_bytes(field(&record, 24)),
            len: u32::from_le_bytes(field(&record, 28)),
        };
        let sound = record[4] <= 1 && (1..=ACCESS_LEN).contains(&(request.len as usize));
        sound.then_some(request).ok_or(EPROTO)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Number of the request.
    pub id: u64,
    /// 0, or a negative errno.
    pub status: i32,
}

impl Response {
    /// Puts it where who asked looks.
    pub fn put(&self, memory: &impl Memory, at: usize) -> Result {
        let mut record = [0; RESPONSE_LEN];
        put(&mut record, 4, self.status.to_le_bytes());
        put(&mut record, 8, self.id.to_le_bytes());
        memory.write(at, &seal(record))
    }

    /// Copies it out. `EBADMSG`: it is not one; `EPROTO`: it says what cannot be.
    pub fn get(memory: &impl Memory, at: usize) -> Result<Self> {
        let record: [u8; RESPONSE_LEN] = unsealed(memory, at)?;
        let response = Self {
            id: u64::from_le_bytes(field(&record, 8)),
            status: i32::from_le_bytes(field(&record, 4)),
        };
        let sound = (-4095..=0).contains(&response.status);
        sound.then_some(response).ok_or(EPROTO)
    }
}

#[derive(Debug)]
enum Place<W> {
    Free,
    /// The owner may be at it, and somebody waits for its answer.
    UnderWay(u64, W),
    /// The owner may be at it, and nobody waits any more.
    Abandoned(u64),
    /// The answer has come; who waited for it has the place still, for the bytes.
    Answered(u64),
}

/// The accesses of one side; `W` is who waits for one.
#[derive(Debug)]
pub struct Accesses<W> {
    places: [Place<W>; ACCESSES],
    next: u64,
    over: bool,
}

impl<W: Clone> Accesses<W> {
    /// None yet.
    pub fn new() -> Self {
        Self {
            places: [const { Place::Free }; ACCESSES],
            next: 1,
            over: false,
        }
    }

    /// Begins one: its place, which it has until [`Self::end`], and its number. `EAGAIN`: all places are
    /// taken; `ECONNRESET`: the session is over.
    pub fn begin(&mut self, who: &W) -> Result<(usize, u64)> {
        if self.over {
            return Err(ECONNRESET);
        }
        let is_free = |place: &Place<W>| matches!(place, Place::Free);
        let nr = self.places.iter().position(is_free).ok_or(EAGAIN)?;
        let id = self.next;
        self.next += 1;
        self.places[nr] = Place::UnderWay(id, who.clone());
        Ok((nr, id))
    }

    /// Who began it is done with it. If there was no answer yet, the place is taken until that comes.
    pub fn end(&mut self, nr: usize, id: u64) {
        let Some(place) = self.places.get_mut(nr) else {
            return;
        };
        match *place {
            Place::UnderWay(begun, _) if begun == id => *place = Place::Abandoned(id),
            Place::Answered(begun) if begun == id => *place = Place::Free,
            _ => {}
        }
    }

    /// It was begun, and the owner was never told.
    pub fn take_back(&mut self, nr: usize, id: u64) {
        if let Some(place @ Place::UnderWay(..)) = self.places.get_mut(nr) {
            if matches!(*place, Place::UnderWay(begun, _) if begun == id) {
                *place = Place::Free;
            }
        }
    }

    /// The other says that it has carried out the access at this place; the number that its answer must
    /// have. `EPROTO`: there is none.
    pub fn number(&self, nr: usize) -> Result<u64> {
        match self.places.get(nr) {
            Some(Place::UnderWay(id, _) | Place::Abandoned(id)) => Ok(*id),
            _ => Err(EPROTO),
        }
    }

    /// The answer was read: who waits for it, if anybody does.
    pub fn answered(&mut self, nr: usize) -> Option<W> {
        let place = self.places.get_mut(nr)?;
        match ::core::mem::replace(place, Place::Free) {
            Place::UnderWay(id, who) => {
                *place = Place::Answered(id);
                Some(who)
            }
            Place::Abandoned(_) => None,
            other => {
                *place = other;
                None
            }
        }
    }

    /// The session is over: somebody who waited. Call it until it gives nobody.
    pub fn give_up(&mut self) -> Option<W> {
        self.over = true;
        (0..ACCESSES).find_map(|nr| self.answered(nr))
    }
}

impl<W: Clone> Default for Accesses<W> {
    fn default() -> Self {
        Self::new()
    }
}
