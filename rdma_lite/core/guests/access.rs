// SPDX-License-Identifier: GPL-2.0

//! Reads and writes of memory that the other node of a session has opened: the one asks, the owner
//! copies, into or out of a part of the lane that the access has until it is over.
//!
//! A request names the key and the address of a window as verbs do; whether it is let in is the owner's
//! to say. The answer repeats the request's number, so that one that comes late is of no use.

use super::{
    super::{Admission, Class, Gate, Share},
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
    /// Who has which place, and for how many bytes.
    held: [Option<(Class, usize)>; ACCESSES],
    admission: Admission<W>,
    next: u64,
    over: bool,
}

impl<W: Clone> Accesses<W> {
    /// None yet; the classes share the places.
    pub fn new(share: Share) -> Self {
        Self {
            places: [const { Place::Free }; ACCESSES],
            held: [None; ACCESSES],
            admission: Admission::new(Gate::new(ACCESSES, share)),
            next: 1,
            over: false,
        }
    }

    /// Begins one of so many bytes: its place, which it has until [`Self::end`]. `None`: all places are
    /// taken, and [`Self::admit`] says when it has one. `ECONNRESET`: the session is over; `ENOMEM`.
    pub fn begin(&mut self, class: Class, bytes: usize, who: &W) -> Result<Option<usize>> {
        if self.over {
            return Err(ECONNRESET);
        }
        match self.admission.enter(class, bytes, || who.clone())? {
            true => Ok(self.seat(class, bytes, who.clone())),
            false => Ok(None),
        }
    }

    /// There is a free one for whoever was let in: as many are let in as there are places.
    fn seat(&mut self, class: Class, bytes: usize, who: W) -> Option<usize> {
        let is_free = |place: &Place<W>| matches!(place, Place::Free);
        let nr = self.places.iter().position(is_free)?;
        self.places[nr] = Place::UnderWay(self.next, who);
        self.held[nr] = Some((class, bytes));
        self.next += 1;
        Some(nr)
    }

    fn vacate(&mut self, nr: usize) {
        self.places[nr] = Place::Free;
        if let Some((class, bytes)) = self.held[nr].take() {
            self.admission.leave(class, bytes);
        }
    }

    /// Who waited and has a place now. To be called until it names nobody, after all that may end an
    /// access: [`Self::end`], [`Self::take_back`], [`Self::answered`], [`Self::withdraw`].
    pub fn admit(&mut self) -> Option<(W, usize)> {
        let (class, bytes, who) = self.admission.admit()?;
        let nr = self.seat(class, bytes, who.clone())?;
        Some((who, nr))
    }

    /// Somebody of this class does not want to wait for a place any longer; false when it does not wait.
    pub fn withdraw(&mut self, class: Class, is: impl Fn(&W) -> bool) -> bool {
        self.admission.withdraw(class, is)
    }

    /// Who began it is done with it. If there was no answer yet, the place is taken until that comes.
    pub fn end(&mut self, nr: usize, id: u64) {
        match self.places.get(nr) {
            Some(Place::UnderWay(begun, _)) if *begun == id => {
                self.places[nr] = Place::Abandoned(id)
            }
            Some(Place::Answered(begun)) if *begun == id => self.vacate(nr),
            _ => {}
        }
    }

    /// It was begun, and the owner was never told.
    pub fn take_back(&mut self, nr: usize, id: u64) {
        if matches!(self.places.get(nr), Some(Place::UnderWay(begun, _)) if *begun == id) {
            self.vacate(nr);
        }
    }

    /// As [`Self::take_back`], for who has a place and does not know which.
    pub fn forget(&mut self, is: impl Fn(&W) -> bool) {
        let has = |place: &Place<W>| matches!(place, Place::UnderWay(_, who) if is(who));
        if let Some(nr) = self.places.iter().position(has) {
            self.vacate(nr);
        }
    }

    /// The number of the access at this place, which its answer must have. `EPROTO`: there is none.
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
            Place::Abandoned(_) => {
                self.vacate(nr);
                None
            }
            other => {
                *place = other;
                None
            }
        }
    }

    /// The session is over: somebody who waited for an answer. Call it until it gives nobody, then
    /// [`Self::turn_away`].
    pub fn give_up(&mut self) -> Option<W> {
        self.over = true;
        (0..ACCESSES).find_map(|nr| self.answered(nr))
    }

    /// The session is over: somebody who waited for a place. Call it until it gives nobody.
    pub fn turn_away(&mut self) -> Option<W> {
        self.over = true;
        self.admission.turn_away()
    }
}
