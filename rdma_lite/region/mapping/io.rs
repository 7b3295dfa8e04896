// SPDX-License-Identifier: GPL-2.0

//! Reading and writing: our own regions by the processor, those of others by RDMA, or by calls where a
//! chunk cannot be opened.

use super::{left_ms, Mapping, MS};
use crate::{
    core::region::{
        keys::{Begun, Key},
        wire::{Reply, Request, REPLY_LEN, REQUEST_LEN},
        Piece, Rights,
    },
    events::now,
    region::bounce::{Bounce, LARGEST},
    trace,
    transport::access::Way,
};
use kernel::{
    prelude::*,
    rdma::RemoteAddr,
    sync::atomic::Relaxed,
    time::{delay::fsleep, Delta},
};

/// What came of one attempt.
enum Attempt {
    Done,
    /// There is no connection, or it broke: again.
    Again,
    /// The owner cannot open chunks: it has to be asked for the bytes.
    Unopened,
}

/// What the owner said to who wants a key.
enum Opening {
    Key(Key<RemoteAddr>),
    /// It took rights away meanwhile, and the key with them.
    Recalled,
    /// It cannot open chunks.
    Unable,
}

impl Mapping {
    /// Reads; `sink` gets the bytes in their order, part by part.
    pub(crate) fn read(
        &self,
        offset: u64,
        len: u64,
        deadline: u64,
        mut sink: impl FnMut(&[u8]) -> Result,
    ) -> Result {
        self.parts(offset, len, |piece, bounce| {
            let len = piece.len as usize;
            let at = offset + piece.at;
            if self.is_local() {
                self.during(Rights::READ, |_| {
                    let (_, memory) = self.host.memory(self.holder(), Rights::READ)?;
                    memory.read(at, &mut bounce.take_mut()?.bytes_mut()[..len])
                })?;
            } else {
                self.transfer(Way::Read, piece, at, bounce, deadline)?;
            }
            sink(&bounce.take_mut()?.bytes()[..len])
        })
    }

    /// Writes; `source` gives the bytes in their order, part by part.
    pub(crate) fn write(
        &self,
        offset: u64,
        len: u64,
        deadline: u64,
        mut source: impl FnMut(&mut [u8]) -> Result,
    ) -> Result {
        // What is not allowed should not need good bytes to be refused.
        self.during(Rights::WRITE, |_| Ok(()))?;
        self.parts(offset, len, |piece, bounce| {
            let len = piece.len as usize;
            let at = offset + piece.at;
            source(&mut bounce.take_mut()?.bytes_mut()[..len])?;
            if self.is_local() {
                self.during(Rights::WRITE, |_| {
                    let (_, memory) = self.host.memory(self.holder(), Rights::WRITE)?;
                    memory.write(at, &bounce.take_mut()?.bytes()[..len])
                })
            } else {
                self.transfer(Way::Write, piece, at, bounce, deadline)
            }
        })
    }

    /// Does something to each part of a range, with a buffer for its bytes.
    fn parts(
        &self,
        offset: u64,
        len: u64,
        mut f: impl FnMut(Piece, &mut Slot) -> Result,
    ) -> Result {
        let pieces = self.facts()?.geometry.pieces(offset, len)?;
        let size = usize::try_from(len).unwrap_or(LARGEST).min(LARGEST);
        let bounces = &self.host.regions.bounces;
        let mut slot = Slot(Some(bounces.take(size, || self.host.device())?));
        let mut result = Ok(());
        'pieces: for whole in pieces {
            let mut done = 0;
            while done < whole.len {
                let piece = Piece {
                    chunk: whole.chunk,
                    start: whole.start + done,
                    len: (whole.len - done).min(LARGEST as u32),
                    at: whole.at + u64::from(done),
                };
                result = f(piece, &mut slot);
                if result.is_err() {
                    break 'pieces;
                }
                done += piece.len;
            }
        }
        if let Some(bounce) = slot.0 {
            bounces.give_back(bounce);
        }
        result
    }

    /// Moves a part of another node's region.
    fn transfer(
        &self,
        way: Way,
        piece: Piece,
        at: u64,
        bounce: &mut Slot,
        deadline: u64,
    ) -> Result {
        let need = match way {
            Way::Read => Rights::READ,
            Way::Write => Rights::WRITE,
        };
        let had = deadline.saturating_sub(now());
        loop {
            let attempt = self
                .during(need, |begun| {
                    self.attempt(begun, way, piece, bounce, deadline)
                })
                .inspect_err(|&e| {
                    if e == ETIMEDOUT {
                        self.report(way, piece, had, e);
                    }
                })?;
            match attempt {
                Attempt::Done => return Ok(()),
                Attempt::Unopened => {
                    return self.during(need, |_| self.by_calls(way, piece, at, bounce, deadline));
                }
                Attempt::Again if now() >= deadline => {
                    self.report(way, piece, had, ETIMEDOUT);
                    return Err(ETIMEDOUT);
                }
                Attempt::Again => fsleep(Delta::from_millis(1)),
            }
        }
    }

    /// Says which access of whose memory failed, and how long it had (ns).
    fn report(&self, way: Way, piece: Piece, had: u64, error: Error) {
        if let Some(peer) = self.host.peer(self.owner) {
            let what = match way {
                Way::Read => "a read",
                Way::Write => "a write",
            };
            peer.access_failed(what, piece.len, had / MS, error);
        }
    }

    fn attempt(
        &self,
        begun: &Begun,
        way: Way,
        piece: Piece,
        bounce: &mut Slot,
        deadline: u64,
    ) -> Result<Attempt> {
        if self.state.lock().closed {
            return Ok(Attempt::Unopened);
        }
        let peer = self.host.peer(self.owner).ok_or(EHOSTDOWN)?;
        let link = peer.link();
        let ring = link.as_ref().and_then(|link| link.peer_ring());
        let known = ring.and_then(|ring| self.state.lock().keys.key(begun, piece.chunk, ring));
        let key = match known {
            Some(key) => key,
            None => match self.open(begun, piece.chunk, deadline)? {
                Opening::Key(key) => key,
                // The next attempt says what is left.
                Opening::Recalled => return Ok(Attempt::Again),
                Opening::Unable => return Ok(Attempt::Unopened),
            },
        };
        let (Some(link), true) = (link, ring == Some(key.connection)) else {
            // The key is for a connection that we do not have yet, or not any more.
            return Ok(Attempt::Again);
        };
        let remote = RemoteAddr {
            addr: key.addr + u64::from(piece.start),
            rkey: key.rkey,
        };
        let begun = now();
        let ended = bounce.lend(|buffer| {
            let len = piece.len as usize;
            link.access(self.class(), way, buffer, len, remote, left_ms(deadline))
        });
        let result = ended.unwrap_or_else(Err);
        trace::access(
            self.host.node.name(),
            self.owner.into(),
            way == Way::Write,
            piece.len.into(),
            trace::errno(&result),
            now().saturating_sub(begun),
        );
        match ended? {
            Ok(()) => {
                peer.accessed.one_sided.fetch_add(1, Relaxed);
                Ok(Attempt::Done)
            }
            Err(_) => {
                // The connection is broken, for whatever reason; the next one has other keys.
                self.state.lock().keys.forget(piece.chunk);
                Ok(Attempt::Again)
            }
        }
    }

    /// Asks the owner for a key.
    fn open(&self, begun: &Begun, chunk: u32, deadline: u64) -> Result<Opening> {
        let mut reply = KVec::from_elem(0u8, REPLY_LEN, GFP_KERNEL)?;
        let request = Request::Open {
            chunk,
            rights: self.rights().and(Rights::READ.or(Rights::WRITE)),
        };
        let len = match self.ask(request, &[], deadline, &mut reply)? {
            Ok(len) => len,
            // They have the last word.
            Err(e) if e == EACCES || e == ESTALE => return Err(e),
            Err(e) if e == EOPNOTSUPP => {
                self.state.lock().closed = true;
                return Ok(Opening::Unable);
            }
            Err(_) => return Ok(Opening::Unable),
        };
        let reply = Reply::decode(&reply[..len])?;
        let key = Key {
            addr: reply.value,
            rkey: reply.small,
            connection: RemoteAddr {
                addr: reply.other,
                rkey: reply.rights,
            },
        };
        match self.state.lock().keys.learned(begun, chunk, key) {
            true => Ok(Opening::Key(key)),
            false => Ok(Opening::Recalled),
        }
    }

    /// Moves a part by calls.
    fn by_calls(
        &self,
        way: Way,
        piece: Piece,
        at: u64,
        bounce: &mut Slot,
        deadline: u64,
    ) -> Result {
        let most = self.host.config.max_payload() as usize - REQUEST_LEN;
        let len = piece.len as usize;
        let mut done = 0;
        while done < len {
            let part = most.min(len - done);
            let offset = at + done as u64;
            let bytes = &mut bounce.take_mut()?.bytes_mut()[done..done + part];
            match way {
                Way::Read => {
                    let mut reply = KVec::from_elem(0u8, part, GFP_KERNEL)?;
                    let request = Request::Read {
                        offset,
                        len: part as u32,
                    };
                    let got = self.ask(request, &[], deadline, &mut reply)??;
                    if got != part {
                        return Err(EBADMSG);
                    }
                    bytes.copy_from_slice(&reply);
                }
                Way::Write => {
                    let request = Request::Write { offset };
                    self.ask(request, bytes, deadline, &mut KVec::new())??;
                }
            }
            done += part;
        }
        if let Some(peer) = self.host.peer(self.owner) {
            peer.accessed.by_calls.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

/// A buffer, while the device does not have it.
struct Slot(Option<Bounce>);

impl Slot {
    fn take_mut(&mut self) -> Result<&mut Bounce> {
        self.0.as_mut().ok_or(EIO)
    }

    fn lend(
        &mut self,
        access: impl FnOnce(&kernel::sync::Arc<kernel::rdma::DmaBuffer>) -> Result<Result>,
    ) -> Result<Result> {
        let (bounce, ended) = self.0.take().ok_or(EIO)?.lend(access)?;
        self.0 = Some(bounce);
        Ok(ended)
    }
}
