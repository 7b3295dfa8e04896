// SPDX-License-Identifier: GPL-2.0

//! How two nodes agree to a session: by one record in each lane, the newest thing that its writer said.
//!
//! The one that connects chooses the session, a random number, and asks; the other agrees or says why
//! not; the first confirms. Either may close. Each record names the lives of both, so what an earlier life
//! has said, or was told, is nothing to a later one. A record is written first and stamped then, and the
//! stamp has its checksum: one that is half written (or was left so by a guest that was killed) is not
//! there yet.

use super::{field, layout::Lane, put, Memory};
use kernel::{crc32::crc32c, prelude::*};

/// Bytes of a record.
const LEN: usize = 256;
/// Bytes that a record carries at most: a hello, or the reason of a refusal.
pub const MOST: usize = 192;

/// What is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Let us have this session; carries the hello.
    Request = 1,
    /// Agreed; carries the other hello.
    Accept = 2,
    /// Heard that.
    Confirm = 3,
    /// No; carries why.
    Reject = 4,
    /// The session is over.
    Close = 5,
}

/// What names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Chosen by who asked for it.
    pub id: u64,
    /// Life of who says so.
    pub from: u64,
    /// Life of who it is said to.
    pub to: u64,
}

/// A record, copied out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// What is said.
    pub kind: Kind,
    /// Of which session.
    pub session: Session,
    bytes: [u8; MOST],
    len: usize,
}

impl Record {
    /// What it carries.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Checksum of what follows the stamp, and of the stamp's own half.
fn crc(record: &[u8; LEN], count: u32) -> u32 {
    !crc32c(crc32c(!0, &count.to_le_bytes()), &record[8..])
}

/// The writer's end of a lane's record.
#[derive(Debug)]
pub struct Speaker {
    count: u32,
}

impl Speaker {
    /// Goes on after what the lane says.
    pub fn new(memory: &impl Memory, lane: Lane) -> Result<Self> {
        let count = memory.load(lane.control())? as u32;
        Ok(Self { count })
    }

    /// Says it. [`EMSGSIZE`]: it carries too much.
    pub fn say(
        &mut self,
        memory: &impl Memory,
        lane: Lane,
        kind: Kind,
        session: Session,
        bytes: &[u8],
    ) -> Result {
        if bytes.len() > MOST {
            return Err(EMSGSIZE);
        }
        self.count = self.count.wrapping_add(1);
        let mut record = [0; LEN];
        put(&mut record, 8, [kind as u8]);
        put(&mut record, 10, (bytes.len() as u16).to_le_bytes());
        put(&mut record, 16, session.id.to_le_bytes());
        put(&mut record, 24, session.from.to_le_bytes());
        put(&mut record, 32, session.to.to_le_bytes());
        record[64..64 + bytes.len()].copy_from_slice(bytes);
        let stamp = (u64::from(crc(&record, self.count)) << 32) | u64::from(self.count);
        memory.write(lane.control() + 8, &record[8..])?;
        memory.store(lane.control(), stamp)
    }
}

/// The reader's end of a lane's record.
#[derive(Debug, Default)]
pub struct Listener {
    heard: u64,
}

impl Listener {
    /// Has heard nothing yet.
    pub const fn new() -> Self {
        Self { heard: 0 }
    }

    /// What is new, if anything is: not what is half written.
    pub fn hear(&mut self, memory: &impl Memory, lane: Lane) -> Result<Option<Record>> {
        let stamp = memory.load(lane.control())?;
        if stamp == self.heard {
            return Ok(None);
        }
        let mut record = [0; LEN];
        memory.read(lane.control(), &mut record)?;
        if stamp >> 32 != u64::from(crc(&record, stamp as u32)) {
            return Ok(None);
        }
        self.heard = stamp;
        Ok(decode(&record))
    }
}

/// `None`: of no kind that there is.
fn decode(record: &[u8; LEN]) -> Option<Record> {
    let kind = match record[8] {
        1 => Kind::Request,
        2 => Kind::Accept,
        3 => Kind::Confirm,
        4 => Kind::Reject,
        5 => Kind::Close,
        _ => return None,
    };
    let len = usize::from(u16::from_le_bytes(field(record, 10)));
    let word = |at| u64::from_le_bytes(field(record, at));
    let session = Session {
        id: word(16),
        from: word(24),
        to: word(32),
    };
    (len <= MOST).then(|| Record {
        kind,
        session,
        bytes: field(record, 64),
        len,
    })
}
